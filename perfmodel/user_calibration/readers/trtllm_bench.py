"""Read reports of TensorRT-LLM: `trtllm-bench throughput|latency --report_json FILE`.

One JSON object with the tables `engine`, `world_info`, `request_info`, `performance` and, with --streaming,
`streaming_metrics` (NVIDIA/TensorRT-LLM, tensorrt_llm/bench/dataclasses/reporting.py). It does not say how requests
were sent, but how many were in flight on average.
"""

from __future__ import annotations

from collections.abc import Sequence

from hwdb import InputError, UnknownName
from perfmodel.dtypes import storage
from perfmodel.user_calibration.readers.reader import ResultReader, inner, metrics, number, text_of
from perfmodel.user_calibration.run import MeasuredRun
from perfmodel.workload.traces import Content

RATES = {
    "req_s": "request_throughput_req_s",
    "output_tok_s": "system_output_throughput_tok_s",
    "total_tok_s": "system_total_throughput_tok_s",
    "e2e_ms": "avg_request_latency_ms",
}
TIMES = {"ttft_ms": "avg_ttft_ms", "tpot_ms": "avg_tpot_ms"}
#: Share of all requests from which on the mean number in flight means that all were sent at once. A queue that only
#: drains holds between half and all of them on average; a closed loop of as many clients would be answered three times.
AT_ONCE = 1 / 3


def read_trtllm_bench(content: Content) -> Sequence[MeasuredRun]:
    """Read one run per report."""
    found = []
    for n, report in content.records():
        place = f"{content.path}, {content.word} {n}"
        tables = ("engine", "world_info", "request_info", "performance", "streaming_metrics")
        engine, world, asked, performance, streaming = (inner(report, name, place) for name in tables)
        count, flight = (number(asked, key, place) for key in ("num_requests", "avg_num_concurrent_requests"))
        if not (count >= 1 and flight > 0):
            raise InputError(f"{place}: request_info has no num_requests and avg_num_concurrent_requests above 0")
        at_once = flight > AT_ONCE * count
        load = {"mode": "offline"} if at_once else {"mode": "closed", "concurrency": text_of(round(max(flight, 1.0)))}
        told = "all requests sent at once" if at_once else f"a closed loop of {load['concurrency']} clients"
        given = {
            "model": str(engine.get("model") or ""),
            "engine": "trtllm",
            "weight_dtype": _format(engine.get("quantization")),
            "kv_dtype": _format(engine.get("kv_cache_dtype")),
            "isl": text_of(number(asked, "avg_input_length", place)),
            "osl": text_of(number(asked, "avg_output_length", place)),
            "n_requests": text_of(count),
            "tp": text_of(number(world, "tp_size", place)),
            "pp": text_of(number(world, "pp_size", place)),
            "n_devices": text_of(number(world, "world_size", place)),
            **load,
        }
        measured = metrics(performance, RATES, place) | metrics(streaming, TIMES, place)
        remark = f"{flight:.3g} requests were in flight on average: read as {told}"
        found.append(MeasuredRun(place, given, measured, (remark,)))
    return found


def _format(value: object) -> str:
    """Return our name of a format; "" where the report has none, or one that is not known ("auto")."""
    try:
        return storage(str(value)).name if value else ""
    except UnknownName:
        return ""


READER = ResultReader(
    name="trtllm-bench",
    recognises=lambda c: c.kind != "table" and c.has("request_info", "performance", "world_info"),
    read=read_trtllm_bench,
)
