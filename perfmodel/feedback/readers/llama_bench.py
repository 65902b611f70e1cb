"""Read results of llama.cpp's `llama-bench -o json|jsonl|csv`: prefill and decode rates of a model on a machine.

A record per test: `n_prompt`, `n_gen`, `n_depth` (tokens in the cache before the test, since 2025), `avg_ts` in
tokens/s (ggml-org/llama.cpp, tools/llama-bench/README.md; until 2025 examples/llama-bench). `pp` tests have prompts
alone, `tg` tests output alone; a test with both mixes two rates and is refused.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from hwdb import InputError
from perfmodel.feedback.readers.reader import ResultReader, number, text_of
from perfmodel.feedback.run import MeasuredRun
from perfmodel.workload.traces import Content


def read_llama_bench(content: Content) -> Sequence[MeasuredRun]:
    """Read one run per test."""
    return [_run(record, place) for place, record in _records(content)]


def _records(content: Content) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield (place, record) of each test of a table, of lines or of a list."""
    if content.kind == "table":
        rows = csv.DictReader(io.StringIO(content.text), skipinitialspace=True)
        yield from ((f"{content.path}, line {n}", row) for n, row in enumerate(rows, 2))
    else:
        yield from ((f"{content.path}, {content.word} {n}", record) for n, record in content.records())


def _run(record: Mapping[str, Any], place: str) -> MeasuredRun:
    """Read one test."""
    prompt, output, rate = (number(record, key, place) for key in ("n_prompt", "n_gen", "avg_ts"))
    depth = number(record, "n_depth", place) if record.get("n_depth") not in (None, "") else 0.0
    if not rate > 0:
        raise InputError(f"{place}: avg_ts is missing or 0; give the result as llama-bench wrote it")
    if prompt > 0 and output > 0:
        raise InputError(f"{place}: a test of prompt and output together mixes two rates; run -p and -n apart")
    if prompt > 0:
        isl, osl, metric = depth + prompt, 1.0, "prefill_tok_s"
    elif output > 0:
        isl, osl, metric = max(depth, 1.0), output, "decode_tok_s"
    else:
        raise InputError(f"{place}: n_prompt and n_gen are both 0; give a test of one of them")
    given = {
        "model": str(record.get("model_filename") or ""),
        "engine": "llamacpp",
        "mode": "single",
        "isl": text_of(isl),
        "osl": text_of(osl),
        "prefix_hit": text_of(depth / isl) if prompt > 0 and depth > 0 else "",
    }
    return MeasuredRun(place=place, given=given, measured={metric: rate})


READER = ResultReader(
    name="llama-bench", recognises=lambda c: c.has("avg_ts", "n_prompt", "n_gen"), read=read_llama_bench
)
