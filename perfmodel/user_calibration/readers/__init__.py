"""Read results of benchmarks, each format by a reader of its own, recognised by content."""

from __future__ import annotations

import json
from pathlib import Path

from hwdb import InputError, infile
from hwdb.csvfile import check_separator
from perfmodel.user_calibration.readers import (
    aiconfigurator,
    aiperf,
    bench_batches,
    bench_serving,
    guidellm,
    inference_benchmarker,
    inference_perf,
    inferencex,
    llama_bench,
    llama_timings,
    llmperf,
    mlperf,
    plain_csv,
    printed_result,
    prometheus,
    trtllm_bench,
)
from perfmodel.user_calibration.readers.reader import ResultReader
from perfmodel.user_calibration.run import MeasuredRun
from perfmodel.workload.traces import Content, content_of

#: Metrics that are named to those who write a table of their own.
_STATED = ("ttft_ms", "tpot_ms", "e2e_ms", "output_tok_s")
#: Formats, in the order in which a file is tried.
READERS: tuple[ResultReader, ...] = (
    bench_serving.READER,
    printed_result.READER,
    bench_batches.READER,
    trtllm_bench.READER,
    aiperf.READER,
    guidellm.READER,
    inference_perf.READER,
    inference_benchmarker.READER,
    llmperf.READER,
    llama_bench.READER,
    llama_timings.READER,
    inferencex.READER,
    mlperf.READER,
    aiconfigurator.READER,
    prometheus.READER,
    plain_csv.READER,
)


def read_results(path: str | Path) -> list[MeasuredRun]:
    """Read the runs of a result file, plain or gzipped, in any of the formats of `READERS`.

    Raises `InputError` with file, record, field, value and remedy.
    """
    return runs_of(result_content(path))


def result_content(path: str | Path) -> Content:
    """Return the content of a result file, plain or gzipped; `InputError` where it cannot be read."""
    return content_of(infile.read_table_text(path, "result", "give the path of a benchmark's result file"), str(path))


def runs_of(content: Content) -> list[MeasuredRun]:
    """Return the runs of a result in any of the formats of `READERS`; `InputError` as `read_results` raises it."""
    reader = next((r for r in READERS if r.recognises(content)), None)
    if reader is None:
        if content.kind == "table":
            check_separator(content.head, content.path)
        if content.head[0] in "{[" and not content.fields and content.kind == "lines":
            _refuse_broken(content)
        names = ", ".join(r.name for r in READERS)
        raise InputError(
            f"{content.path}: a result of no known benchmark (fields: {content.listed()}); read are: {names}; state a "
            f"run of any other tool in a CSV table with the columns model, device, isl, osl, concurrency, and measured "
            f"{', '.join(_STATED)}, as far as known"
        )
    return list(reader.read(content))


def _refuse_broken(content: Content) -> None:
    """Raise `InputError` for a file that begins like JSON and is none: where it stops being JSON."""
    try:
        json.loads(content.text)
    except json.JSONDecodeError as error:
        raise InputError(
            f"{content.path}, line {error.lineno}, column {error.colno}: not JSON ({error.msg}); give the whole file "
            "as the benchmark wrote it"
        ) from None
    except (ValueError, RecursionError):  # a number of more digits than Python converts, or too deep
        return
