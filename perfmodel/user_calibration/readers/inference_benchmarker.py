"""Read reports of Hugging Face's inference-benchmarker (formerly text-generation-inference-benchmark).

A JSON object with `config` and a list of `results`, of which the first is the warm-up. Executor `ConstantVUs` keeps
`max_vus` requests in flight, `ConstantArrivalRate` sends at `rate` (huggingface/inference-benchmarker, src/writers.rs).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from hwdb import InputError
from perfmodel.user_calibration.readers.reader import (
    ResultReader,
    failed_remarks,
    inner,
    metrics,
    number,
    served_requests,
    text_of,
)
from perfmodel.user_calibration.run import MeasuredRun
from perfmodel.workload.traces import Content

#: Metric -> (key of the figure, statistic).
TIMES = {
    "ttft_ms": ("time_to_first_token_ms", {"": "avg", "_p50": "p50", "_p90": "p90", "_p99": "p99"}),
    "tpot_ms": ("inter_token_latency_ms", {"": "avg", "_p50": "p50", "_p90": "p90", "_p99": "p99"}),
    "e2e_ms": ("e2e_latency_ms", {"": "avg", "_p99": "p99"}),
}
RATES = {"req_s": "request_rate", "output_tok_s": "token_throughput_secs"}


def read_inference_benchmarker(content: Content) -> Sequence[MeasuredRun]:
    """Read one run per result of the report, without the warm-up."""
    report = content.document
    model = str(inner(report, "config", content.path).get("model_name") or "")
    listed = report["results"]
    if not isinstance(listed, list) or not all(isinstance(result, dict) for result in listed):
        raise InputError(f"{content.path}: results is no list of objects; give the report as its tool wrote it")
    counted = [(n, result) for n, result in enumerate(listed, 1) if result.get("id") != "warmup"]
    return [_run(result, model, f"{content.path}, result {n}") for n, result in counted]


def _run(result: Mapping[str, Any], model: str, place: str) -> MeasuredRun:
    """Read one result."""
    served = served_requests(result, "successful_requests", place)
    found: dict[str, float] = {}
    for metric, (key, statistics) in TIMES.items():
        names = {f"{metric}{end}": statistic for end, statistic in statistics.items()}
        found |= metrics(inner(result, key, place), names, f"{place}, {key}")
    config = inner(result, "config", place)
    rate, clients = number(config, "rate", place), number(config, "max_vus", place)
    load = {"mode": "closed", "concurrency": text_of(clients)}
    if result.get("executor_type") == "ConstantArrivalRate":
        load = {"mode": "open", "request_rate_rps": text_of(rate)}
    given = {
        "model": model,
        "isl": text_of(number(result, "total_tokens_sent", place) / served),
        "osl": text_of(number(result, "total_tokens", place) / served),
        "n_requests": text_of(served),
    }
    lost = number(result, "failed_requests", place)
    return MeasuredRun(place, given | load, found | metrics(result, RATES, place), failed_remarks(lost))


READER = ResultReader(
    name="inference-benchmarker of Hugging Face",
    recognises=lambda c: (
        isinstance(c.document, dict) and c.has("config", "results") and "benchmark_kind" in str(c.document["config"])
    ),
    read=read_inference_benchmarker,
)
