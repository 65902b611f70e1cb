"""Read what `vllm bench serve` and `sglang.bench_serving` print when they end: a block of labels and numbers.

The block says what the JSON says (vllm-project/vllm, vllm/benchmarks/serve.py; sgl-project/sglang,
python/sglang/bench_serving.py), so each becomes the record of `bench_serving`. A log may hold several blocks, and
around them other lines: the load that is printed before a block counts for it, and so does the model of a command.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from hwdb import InputError
from perfmodel.user_calibration.readers.bench_serving import run_of
from perfmodel.user_calibration.readers.reader import ResultReader
from perfmodel.user_calibration.run import MeasuredRun
from perfmodel.workload.traces import Content

TITLE = "Serving Benchmark Result"
#: A line of a label and a value. Patterns stay within a line: across lines, a log of rules alone would take minutes.
_LINE = re.compile(r"^[^\w\n]*([A-Za-z][^:\n]*):[ \t]+(\S.*)$", re.MULTILINE)
#: Label in lower case -> key of the JSON.
LABELS = {
    "backend": "backend",
    "successful requests": "completed",
    "failed requests": "failed",
    "maximum request concurrency": "max_concurrency",
    "max request concurrency": "max_concurrency",
    "request rate configured (rps)": "request_rate",
    "traffic request rate": "request_rate",
    "benchmark duration (s)": "duration",
    "total input tokens": "total_input_tokens",
    "total generated tokens": "total_output_tokens",
    "request throughput (req/s)": "request_throughput",
    "output token throughput (tok/s)": "output_throughput",
    "total token throughput (tok/s)": "total_token_throughput",
}
_END = re.compile(r"\n[^\w\n=]*={20,}")
_LATENCY = re.compile(r"(mean|median|p\d+) (ttft|tpot|itl|e2el|e2e latency) \(ms\)")
_MODEL = re.compile(r"--model[= ]['\"]?([^\s'\"\\]+)")
#: Labels of releases that print a rate where there is one: without it all requests were sent at once.
_TELLING = ("failed requests", "peak concurrent requests")
_LOAD = ("max_concurrency", "request_rate")


def read_printed(content: Content) -> Sequence[MeasuredRun]:
    """Read one run per block; raises `InputError` for a block that does not say its load or lacks a figure."""
    before, *blocks = content.text.split(TITLE)
    line, runs, model = before.count("\n") + 1, [], ""
    load: dict[str, str] = {}
    for block in blocks:
        model, load = _model(before) or model, {k: v for k, v in _record(before).items() if k in _LOAD} or load
        place = f"{content.path}, block at line {line}"
        own = _END.split(block, maxsplit=1)[0]
        runs.append(run_of(_complete(own, load, place) | ({"model_id": model} if model else {}), place))
        line, before = line + block.count("\n"), block.removeprefix(own)
    return runs


def _model(text: str) -> str:
    """Return the last model that a command in the text names; "" without one."""
    found = _MODEL.findall(text)
    return found[-1] if found else ""


def _record(text: str) -> dict[str, str]:
    """Return key of the JSON -> what is printed for it."""
    found: dict[str, str] = {}
    for label, text_behind in _LINE.findall(text):
        name, value = label.strip().lower(), text_behind.rstrip()
        key, latency = LABELS.get(name, ""), _LATENCY.fullmatch(name)
        key = "_".join([*latency.groups(), "ms"]).replace(" ", "_") if latency else key
        if key:
            found[key] = value.partition(" ")[0] if value != "not set" else "inf"
    return found


def _complete(block: str, load: dict[str, str], place: str) -> dict[str, str]:
    """Return the record of a block, with the load that was printed before it."""
    record = _record(block)
    record = {**load, **record}
    told = any(label in block.lower() for label in _TELLING)
    if not told and not any(key in record for key in _LOAD):
        raise InputError(
            f"{place}: the load is not printed; put 'Traffic request rate: inf' or the lines of the benchmark before "
            "the block, or give the JSON of --save-result"
        )
    if "failed" in record and record.get("completed", "").isdigit() and record["failed"].isdigit():
        record["num_prompts"] = str(int(record["completed"]) + int(record["failed"]))
    return record


READER = ResultReader(
    name="the printed result of vllm bench serve or sglang.bench_serving",
    recognises=lambda c: c.kind == "table" and TITLE in c.text,
    read=read_printed,
)
