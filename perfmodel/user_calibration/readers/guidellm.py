"""Read reports of guidellm (`guidellm benchmark --output-path report.json`): one run per benchmark.

Each benchmark has `metrics` with an object per figure, and in it the successful requests' mean, median and percentiles;
latencies are in ms, but for `request_latency` in seconds (vllm-project/guidellm, src/guidellm/schemas). Its inter-token
latency is (last token - first) / (tokens - 1) of a request: what others call TPOT. Its strategy says the load.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from hwdb import InputError
from perfmodel.user_calibration.readers.reader import ResultReader, inner, metrics, number, text_of
from perfmodel.user_calibration.run import MeasuredRun
from perfmodel.workload.traces import Content

#: Latency -> (key, factor to ms).
LATENCIES = {
    "ttft_ms": ("time_to_first_token_ms", 1.0),
    "tpot_ms": ("inter_token_latency_ms", 1.0),
    "e2e_ms": ("request_latency", 1e3),
}
RATES = {"req_s": "requests_per_second", "output_tok_s": "output_tokens_per_second", "total_tok_s": "tokens_per_second"}


def read_guidellm_report(content: Content) -> Sequence[MeasuredRun]:
    """Read one run per benchmark of a report."""
    listed = content.document.get("benchmarks") if isinstance(content.document, dict) else None
    if not isinstance(listed, list) or not listed:
        raise InputError(f"{content.path}: 'benchmarks' lists none; give a report of guidellm with at least one")
    return [_run(one, f"{content.path}, benchmark {n}", content.document) for n, one in enumerate(listed, 1)]


def _run(benchmark: Any, place: str, report: Mapping[str, Any]) -> MeasuredRun:
    """Read one benchmark."""
    if not isinstance(benchmark, dict) or not isinstance(benchmark.get("metrics"), dict):
        raise InputError(f"{place}: 'metrics' is missing; give the report as guidellm wrote it")
    figures = {key: inner(inner(benchmark["metrics"], key, place), "successful", place) for key in benchmark["metrics"]}
    found: dict[str, float] = {}
    for metric, (key, unit) in LATENCIES.items():
        figure = figures.get(key, {})
        where = f"{place}, {key}"
        found |= metrics(figure, {metric: "mean"}, where, unit=unit)
        tails = {f"{metric}_p99": "p99"} if metric == "e2e_ms" else {f"{metric}_{p}": p for p in ("p50", "p90", "p99")}
        found |= metrics(inner(figure, "percentiles", place), tails, where, unit=unit)
    for metric, key in RATES.items():
        found |= metrics(figures.get(key, {}), {metric: "mean"}, f"{place}, {key}")
    isl, osl = (number(figures.get(f"{s}_token_count", {}), "mean", place) for s in ("prompt", "output"))
    given = {
        "model": _model(benchmark, report, place),
        "isl": text_of(isl),
        "osl": text_of(osl),
        **_load(benchmark, place),
    }
    times = [number(benchmark, key, place) for key in ("start_time", "end_time")]
    span = (times[0], times[1]) if times[0] < times[1] else None
    return MeasuredRun(place, given, found, span=span)


def _model(benchmark: Mapping[str, Any], report: Mapping[str, Any], place: str) -> str:
    """Return the model that the benchmark, or the report, states; "" where neither does."""
    for holder in (inner(benchmark, "worker", place), inner(benchmark, "args", place), inner(report, "args", place)):
        for key in ("backend_model", "model"):
            if isinstance(holder.get(key), str):
                return str(holder[key])
    return ""


def _load(benchmark: Mapping[str, Any], place: str) -> dict[str, str]:
    """Return the columns of the load, by the strategy with which requests were sent."""
    holders = (inner(benchmark, "config", place), inner(benchmark, "args", place))
    strategy = next((s for h in holders if (s := inner(h, "strategy", place))), {})
    kind, rate = str(strategy.get("type_", "")), number(strategy, "rate", place)
    streams = number(strategy, "streams", place)
    if kind == "synchronous":
        return {"mode": "closed", "concurrency": "1"}
    if streams > 0:
        return {"mode": "closed", "concurrency": text_of(streams)}
    if rate > 0:
        return {"mode": "open", "request_rate_rps": text_of(rate), "cv": "0" if kind == "constant" else ""}
    return {}


READER = ResultReader(
    name="guidellm", recognises=lambda c: c.kind == "document" and c.has("benchmarks"), read=read_guidellm_report
)
