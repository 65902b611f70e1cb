"""Read reports of inference-perf (`summary_lifecycle_metrics.json`, `stage_N_lifecycle_metrics.json`).

An object with `load_summary` (`requested_rate` of a stage) and `successes`: `latency` with an object per figure in
seconds, `throughput` per second, and the lengths of prompts and outputs (kubernetes-sigs/inference-perf, reportgen).
`prompt_len` and `output_len` were renamed `prompt_tokens` and `output_tokens`; both are read.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from perfmodel.unit_factors import MS_PER_S
from perfmodel.user_calibration.readers.reader import ResultReader, failed_remarks, inner, metrics, number, text_of
from perfmodel.user_calibration.run import MeasuredRun
from perfmodel.workload.traces import Content

LATENCIES = {
    "ttft_ms": "time_to_first_token",
    "tpot_ms": "time_per_output_token",
    "itl_ms": "inter_token_latency",
    "e2e_ms": "request_latency",
}
STATISTICS = {"": "mean", "_p50": "median", "_p90": "p90", "_p99": "p99"}
RATES = {"req_s": "requests_per_sec", "output_tok_s": "output_tokens_per_sec", "total_tok_s": "total_tokens_per_sec"}
#: Statistics that `predict` answers, where it does not answer all.
ANSWERED = {"itl_ms": ("_p50", "_p99"), "e2e_ms": ("", "_p99")}
#: Names of the lengths of prompts and of outputs, today and before.
LENGTHS = (("prompt_tokens", "prompt_len"), ("output_tokens", "output_len"))


def read_inference_perf(content: Content) -> Sequence[MeasuredRun]:
    """Read the run of a file."""
    return [_run(record, f"{content.path}, {content.word} {n}") for n, record in content.records()]


def _run(record: Mapping[str, Any], place: str) -> MeasuredRun:
    """Read one run."""
    served = inner(record, "successes", place)
    latency = inner(served, "latency", place)
    found: dict[str, float] = {}
    for metric, key in LATENCIES.items():
        names = {f"{metric}{end}": s for end, s in STATISTICS.items() if end in ANSWERED.get(metric, STATISTICS)}
        found |= metrics(inner(latency, key, place), names, f"{place}, {key}", unit=MS_PER_S)
    found |= metrics(inner(served, "throughput", place), RATES, f"{place}, throughput")
    lengths = [_length(served, names, place) for names in LENGTHS]
    rate = number(inner(record, "load_summary", place), "requested_rate", place)
    load = {"mode": "open", "request_rate_rps": text_of(rate)} if rate > 0 else {}
    lost = number(inner(record, "failures", place), "count", place)
    given = {"isl": text_of(lengths[0]), "osl": text_of(lengths[1]), **load}
    return MeasuredRun(place=place, given=given, measured=found, remarks=failed_remarks(lost))


def _length(served: Mapping[str, Any], names: Sequence[str], place: str) -> float:
    """Return the mean tokens of prompts or outputs, by either name; NaN where it is not stated."""
    part = next((p for name in names if (p := inner(served, name, place))), {})
    return number(part, "mean", place)


READER = ResultReader(
    name="inference-perf",
    recognises=lambda c: c.kind != "table" and c.has("load_summary", "successes"),
    read=read_inference_perf,
)
