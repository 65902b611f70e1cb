"""Read results of MLPerf inference for language models: `mlperf_log_summary.txt` and `mlperf_log_detail.txt`.

LoadGen writes them (mlcommons/inference, loadgen/results.cc @05a9cec3): lines `name : value`, and lines `:::MLLOG`
with a JSON object. Times are in nanoseconds. Tokens are counted since round 4.0 (`Tokens per second`); where a harness
states tokens per sample as a constant, the line ends with `(inferred)`. Neither names model, device or lengths:
--model, --device, and --column trace=... or isl=... give them.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence

from hwdb import InputError
from perfmodel.user_calibration.readers.reader import ResultReader, metrics, number, text_of
from perfmodel.user_calibration.run import MeasuredRun
from perfmodel.workload.traces import Content

MS_PER_NS = 1e-6
#: Line of the summary -> key of the detailed log. Percentiles are added by `_names`.
SUMMARY = {
    "Scenario": "effective_scenario",
    "Mode": "effective_test_mode",
    "Result is": "result_validity",
    "Samples per second": "result_samples_per_second",
    "Completed samples per second": "result_completed_samples_per_sec",
    "Scheduled samples per second": "result_scheduled_samples_per_sec",
    "Tokens per second": "result_tokens_per_second",
    "Tokens per second (inferred)": "result_tokens_per_second",
    "Completed tokens per second": "result_completed_tokens_per_second",
    "Completed tokens per second (inferred)": "result_completed_tokens_per_second",
    "Mean latency (ns)": "result_mean_latency_ns",
    "Mean First Token latency (ns)": "result_first_token_mean_latency_ns",
    "Mean Time to Output Token (ns)": "result_time_to_output_token_mean",
    "Mean Time per Output Token (ns)": "result_time_to_output_token_mean",
    "samples_per_query": "effective_samples_per_query",
    "target_qps": "effective_target_qps",
}
#: Line of a percentile in the summary, and what it is of in the detailed log.
PERCENTILE = re.compile(r"(\d+\.\d\d) percentile (latency|first token latency|time to output token) \(ns\)")
OF = {
    "latency": "result_{}_percentile_latency_ns",
    "first token latency": "result_first_token_{}_percentile_latency_ns",
    "time to output token": "result_time_per_output_token_{}_percentile_ns",
}
#: Metric -> key, in ns; of the Server and Interactive scenarios alone, as Offline sends everything at once.
LATENCIES = {
    "ttft_ms": "result_first_token_mean_latency_ns",
    "tpot_ms": "result_time_to_output_token_mean",
    "e2e_ms": "result_mean_latency_ns",
    "e2e_ms_p99": "result_99.00_percentile_latency_ns",
    **{f"ttft_ms_p{p}": OF["first token latency"].format(f"{p}.00") for p in (50, 90, 99)},
    **{f"tpot_ms_p{p}": OF["time to output token"].format(f"{p}.00") for p in (50, 90, 99)},
}
MARK = ":::MLLOG"


def read_mlperf(content: Content) -> Sequence[MeasuredRun]:
    """Read the run of a log."""
    place = content.path
    found = _detail(content) if content.head.startswith(MARK) else _summary(content)
    scenario = found.get("effective_scenario", "")
    if scenario not in ("Offline", "Server", "Interactive"):
        raise InputError(f"{place}: Scenario is {scenario!r}; Offline, Server and Interactive are read")
    if found.get("effective_test_mode", "PerformanceOnly") != "PerformanceOnly":
        raise InputError(f"{place}: Mode is {found['effective_test_mode']!r}; give the log of a performance run")
    offline = scenario == "Offline"
    samples_key, tokens_key = (
        ("result_samples_per_second", "result_tokens_per_second")
        if offline
        else ("result_completed_samples_per_sec", "result_completed_tokens_per_second")
    )
    samples, tokens = (number(found, key, place) for key in (samples_key, tokens_key))
    if not samples > 0:
        raise InputError(
            f"{place}: {'S' if offline else 'Completed s'}amples per second is missing; give the whole log"
        )
    values = {"req_s": samples, "output_tok_s": tokens}
    if not offline:
        values |= metrics(found, LATENCIES, place, unit=MS_PER_NS)
    given = {"osl": text_of(tokens / samples), **_load(found, place, offline=offline)}
    invalid = found.get("result_validity", "VALID") != "VALID"
    remarks = ("MLPerf calls the run INVALID: a limit of its rules was missed",) if invalid else ()
    return [MeasuredRun(place, given, {m: v for m, v in values.items() if v > 0}, remarks)]


def _load(found: Mapping[str, str], place: str, *, offline: bool) -> dict[str, str]:
    """Return the columns of the load: all samples at once, or the rate at which they were scheduled."""
    if offline:
        return {"mode": "offline", "n_requests": text_of(number(found, "effective_samples_per_query", place))}
    rate = number(found, "result_scheduled_samples_per_sec", place)
    rate = rate if rate > 0 else number(found, "effective_target_qps", place)
    return {"mode": "open", "request_rate_rps": text_of(rate)}


def _summary(content: Content) -> dict[str, str]:
    """Return key of the detailed log -> value, of a summary. A line that comes twice states the same."""
    found: dict[str, str] = {}
    for line in content.text.splitlines():
        name, sign, value = (part.strip() for part in line.partition(":"))
        percentile = PERCENTILE.fullmatch(name)
        key = OF[percentile[2]].format(percentile[1]) if percentile else SUMMARY.get(name)
        if sign and key:
            found.setdefault(key, value)
    return found


def _detail(content: Content) -> dict[str, str]:
    """Return key -> value of a detailed log; `InputError` for a line that cannot be read."""
    found: dict[str, str] = {}
    for n, line in enumerate(content.text.splitlines(), 1):
        if not line.startswith(MARK):
            continue
        try:
            entry = json.loads(line.removeprefix(MARK))
            found[str(entry["key"])] = str(entry["value"])
        except (ValueError, KeyError, TypeError):
            raise InputError(f"{content.path}, line {n}: no object with key and value; give the log as it is") from None
    return found


READER = ResultReader(
    name="MLPerf inference",
    recognises=lambda c: c.head.startswith(MARK) or "MLPerf Results Summary" in c.text[:400],
    read=read_mlperf,
)
