"""Read summaries of LLMPerf (`..._summary.json`): a closed loop of `num_concurrent_requests`.

Nested figures are flattened (`results_ttft_s_quantiles_p50`), in seconds. Its `inter_token_latency_s` has the first
token among its gaps, so that it is the end-to-end latency over the tokens of an answer; the time per token after the
first is taken from the means instead (ray-project/llmperf, token_benchmark_ray.py).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from perfmodel.unit_factors import MS_PER_S, SECONDS_PER_MINUTE
from perfmodel.user_calibration.readers.reader import ResultReader, failed_remarks, metrics, number, text_of
from perfmodel.user_calibration.run import MeasuredRun
from perfmodel.workload.traces import Content

_TTFT, _E2E = "results_ttft_s", "results_end_to_end_latency_s"
TIMES = {
    "ttft_ms": f"{_TTFT}_mean",
    "ttft_ms_p50": f"{_TTFT}_quantiles_p50",
    "ttft_ms_p90": f"{_TTFT}_quantiles_p90",
    "ttft_ms_p99": f"{_TTFT}_quantiles_p99",
    "e2e_ms": f"{_E2E}_mean",
    "e2e_ms_p99": f"{_E2E}_quantiles_p99",
}
RATES = {"output_tok_s": "results_mean_output_throughput_token_per_s"}


def read_llmperf(content: Content) -> Sequence[MeasuredRun]:
    """Read the run of a file."""
    return [_run(record, f"{content.path}, {content.word} {n}") for n, record in content.records()]


def _run(record: Mapping[str, Any], place: str) -> MeasuredRun:
    """Read one summary."""
    found = metrics(record, TIMES, place, unit=MS_PER_S) | metrics(record, RATES, place)
    per_minute = number(record, "results_num_completed_requests_per_min", place)
    found |= {"req_s": per_minute / SECONDS_PER_MINUTE} if per_minute > 0 else {}
    isl, osl = (number(record, f"results_number_{part}_tokens_mean", place) for part in ("input", "output"))
    if osl > 1 and found.get("e2e_ms", 0.0) > found.get("ttft_ms", 0.0) > 0:
        found["tpot_ms"] = (found["e2e_ms"] - found["ttft_ms"]) / (osl - 1.0)
    lost = number(record, "results_number_errors", place)
    given = {
        "model": str(record.get("model") or ""),
        "isl": text_of(isl),
        "osl": text_of(osl),
        "n_requests": text_of(number(record, "results_num_completed_requests", place)),
        "mode": "closed",
        "concurrency": text_of(number(record, "num_concurrent_requests", place)),
    }
    return MeasuredRun(place, given, found, failed_remarks(lost))


READER = ResultReader(
    name="LLMPerf",
    recognises=lambda c: c.kind != "table" and c.has("num_concurrent_requests", TIMES["ttft_ms"], TIMES["e2e_ms"]),
    read=read_llmperf,
)
