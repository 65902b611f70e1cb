"""Read results of `vllm bench serve`, of vLLM's former benchmark_serving.py, and of `sglang.bench_serving`.

vLLM writes a JSON object with `--save-result` (vllm-project/vllm, vllm/benchmarks/serve.py; until 2025
benchmarks/benchmark_serving.py), SGLang one object per line (sgl-project/sglang, python/sglang/bench_serving.py). Both
state the load (`request_rate`, "inf" for all at once; `max_concurrency`), the tokens of all requests that were served,
and means and percentiles in milliseconds. `vllm bench sweep serve` writes the same figures as a CSV (`summary.csv`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from hwdb import InputError
from perfmodel.user_calibration.readers.reader import (
    ResultReader,
    failed_remarks,
    metrics,
    number,
    served_requests,
    table_rows,
    text_of,
)
from perfmodel.user_calibration.run import MeasuredRun
from perfmodel.workload.traces import Content

#: Metric -> key, the same in both tools; vLLM calls the end-to-end latency e2el, SGLang e2e_latency.
TIMES = {
    "ttft_ms": "mean_ttft_ms",
    "ttft_ms_p50": "median_ttft_ms",
    "ttft_ms_p90": "p90_ttft_ms",
    "ttft_ms_p99": "p99_ttft_ms",
    "tpot_ms": "mean_tpot_ms",
    "tpot_ms_p50": "median_tpot_ms",
    "tpot_ms_p90": "p90_tpot_ms",
    "tpot_ms_p99": "p99_tpot_ms",
    "itl_ms_p50": "median_itl_ms",
    "itl_ms_p99": "p99_itl_ms",
    "e2e_ms": "mean_e2el_ms",
    "e2e_ms_p99": "p99_e2el_ms",
}
SGLANG_TIMES = {"e2e_ms": "mean_e2e_latency_ms", "e2e_ms_p99": "p99_e2e_latency_ms"}
RATES = {"req_s": "request_throughput", "output_tok_s": "output_throughput"}
#: Total tokens/s: vLLM's name, its former one, SGLang's.
TOTALS = ("total_token_throughput", "total_throughput")
#: Backends by the name that the benchmark gives -> engine.
ENGINES = {"vllm": "vllm", "openai": "", "openai-chat": "", "sglang": "sglang", "sglang-native": "sglang"}
ENGINES |= {"sglang-oai": "sglang", "tensorrt-llm": "trtllm", "trt": "trtllm", "trtllm": "trtllm"}
_SUMMARY = ("total_input_tokens", "total_output_tokens", "request_throughput", "completed")


def read_bench_serving(content: Content) -> Sequence[MeasuredRun]:
    """Read one run per object, or row, of the file."""
    if content.kind == "table":
        return [run_of(row, place) for place, row in table_rows(content)]
    return [run_of(record, f"{content.path}, {content.word} {n}") for n, record in content.records()]


def run_of(record: Mapping[str, Any], place: str) -> MeasuredRun:
    """Return the run of one result; raises `InputError` where a key is missing or no number. place: of messages."""
    missing = [key for key in _SUMMARY if key not in record]
    if missing:
        raise InputError(f"{place}: {missing[0]} is missing; give the whole result that the benchmark wrote")
    served = served_requests(record, "completed", place)
    isl = number(record, "total_input_tokens", place) / served
    osl = number(record, "total_output_tokens", place) / served
    load, remarks = _load(record, place, served)
    total = next((key for key in TOTALS if key in record), TOTALS[0])
    other_names = {metric: key for metric, key in SGLANG_TIMES.items() if TIMES[metric] not in record}
    found = metrics(record, TIMES | other_names | RATES | {"total_tok_s": total}, place)
    backend = str(record.get("backend") or record.get("endpoint_type") or "")
    server = record.get("server_info")  # what SGLang's server says of itself, since 0.4.7
    server = server if isinstance(server, Mapping) else {}
    model = str(record.get("model_id") or record.get("model") or server.get("model_path") or "")
    given = {
        "model": model,
        **_degrees(server, place),
        "engine": ENGINES.get(backend, ""),
        "isl": text_of(isl),
        "osl": text_of(osl),
        "n_requests": text_of(served),
        **load,
    }
    lost = number(record, "num_prompts", place) - served
    remarks += failed_remarks(lost, lost + served)
    return MeasuredRun(place, given, found, remarks, _span(record, place))


def _degrees(server: Mapping[str, Any], place: str) -> dict[str, str]:
    """Return the columns of parallelism that SGLang's server says; {} where it says none.

    `tp_size` are the devices of a stage. With attention data parallelism (`enable_dp_attention`), `dp_size` copies of
    the attention share them; without, `dp_size` are replicas (sgl-project/sglang, python/sglang/srt/server_args.py).
    """
    size = {key: number(server, key, place) for key in ("tp_size", "pp_size", "dp_size", "ep_size") if server.get(key)}
    if not size:
        return {}
    tp, pp, dp = (size.get(key, 1.0) for key in ("tp_size", "pp_size", "dp_size"))
    copies = dp if server.get("enable_dp_attention") else 1.0
    if tp % copies:
        raise InputError(f"{place}: dp_size {copies:g} does not divide tp_size {tp:g}, whose devices it shares")
    replicas = dp if copies == 1.0 else 1.0
    degrees = {"tp": tp / copies, "dp_attention": copies, "pp": pp, "ep": size.get("ep_size", 1.0)}
    told = {name: text_of(degree) for name, degree in degrees.items() if degree != 1.0 or name == "tp"}
    return told | ({"n_devices": text_of(tp * pp * replicas)} if replicas > 1.0 else {})


def _span(record: Mapping[str, Any], place: str) -> tuple[float, float] | None:
    """Return when the run was: vLLM writes `date` when it ends, and its `duration` in seconds; None without them."""
    try:
        end = datetime.strptime(str(record.get("date")), "%Y%m%d-%H%M%S").replace(tzinfo=UTC).timestamp()
    except ValueError:
        return None
    seconds = number(record, "duration", place)
    return (end - seconds, end) if seconds > 0 else None


def _load(record: Mapping[str, Any], place: str, served: float) -> tuple[dict[str, str], tuple[str, ...]]:
    """Return the columns of the load that a run states, and what was assumed.

    A cap on requests in flight makes a run at an unlimited rate a closed loop. With both, the rate holds where the cap
    is never reached, which the result does not show: the smaller of the two is taken by Little's law.
    """
    rate, clients = _stated(record, "request_rate", place), _stated(record, "max_concurrency", place)
    if math.isfinite(rate) and math.isfinite(clients):
        seconds = number(record, "mean_e2el_ms", place) if "mean_e2el_ms" in record else math.nan
        seconds = seconds if seconds == seconds else number(record, "mean_e2e_latency_ms", place)
        flight = rate * seconds / 1e3
        if flight >= clients:
            return _closed(clients), (f"the cap of {clients:g} requests in flight was reached: read as a closed loop",)
        return _open(record, rate, place), ()
    if math.isfinite(clients):
        return _closed(clients), ()
    if math.isfinite(rate):
        return _open(record, rate, place), ()
    return {"mode": "offline", "n_requests": text_of(served)}, ("all requests were sent at once",)


def _closed(clients: float) -> dict[str, str]:
    return {"mode": "closed", "concurrency": text_of(clients)}


def _open(record: Mapping[str, Any], rate: float, place: str) -> dict[str, str]:
    """Return the columns of an open loop; gaps have a coefficient of variation of burstiness^-0.5 (gamma)."""
    burstiness = number(record, "burstiness", place)
    spread = text_of(burstiness**-0.5) if burstiness > 0 else ""
    return {"mode": "open", "request_rate_rps": text_of(rate), "cv": spread}


def _stated(record: Mapping[str, Any], key: str, place: str) -> float:
    """Return a number that the run states; infinite where it states none or "inf"."""
    value = record.get(key)
    if value is None or str(value).lower() in ("inf", "infinity", "none", ""):
        return math.inf
    return number(record, key, place)


READER = ResultReader(
    name="vllm bench serve or sglang.bench_serving",
    recognises=lambda c: (
        c.has("total_input_tokens", "total_output_tokens", "request_throughput") and not c.has("successful_requests")
    ),
    read=read_bench_serving,
)
