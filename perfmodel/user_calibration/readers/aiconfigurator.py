"""Read rows that AIConfigurator writes (`aiconfigurator cli ... --save-dir`: best_config_topn.csv, pareto.csv).

A row per configuration: lengths, `concurrency`, `ttft`, `tpot`, `request_latency` in ms, `seq/s`, `tokens/s` (output
tokens), parallelism, formats, `backend`, `version`, `system`; of two pools, columns begin with (p) and (d)
(ai-dynamo/aiconfigurator, ColumnsAgg and ColumnsDisagg of sdk/common.py @74bb4b18; earlier versions lack `power_w`, the
newest have `cp` and `encoder_latency`). They are estimates of that tool, not measurements: each run says so.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from hwdb import InputError
from perfmodel.user_calibration.readers.reader import ResultReader, metrics, number, table_rows, text_of
from perfmodel.user_calibration.run import MeasuredRun
from perfmodel.workload.traces import Content

FIGURES = {"ttft_ms": "ttft", "tpot_ms": "tpot", "e2e_ms": "request_latency", "req_s": "seq/s"}
FIGURES |= {"output_tok_s": "tokens/s"}
#: Formats by the name of the kernel mode -> format.
FORMATS = {"bfloat16": "bf16", "float16": "bf16", "half": "bf16", "fp8": "fp8", "fp8_block": "fp8", "fp8_static": "fp8"}
FORMATS |= {"fp8_ootb": "fp8", "nvfp4": "nvfp4", "int8_wo": "int8", "sq": "int8", "int8": "int8", "int4_wo": "w4a16"}
#: Start of the columns of a pool -> start of ours.
POOLS = {"(p)": "prefill_", "(d)": "decode_"}
ESTIMATED = "estimates of AIConfigurator, not measurements: they teach its model, not your system"


def read_aiconfigurator(content: Content) -> Sequence[MeasuredRun]:
    """Read one run per row of a table."""
    return [_run(row, place) for place, row in table_rows(content)]


def _run(row: Mapping[str, str], place: str) -> MeasuredRun:
    """Read one row."""
    found = metrics(row, FIGURES, place)
    clients = number(row, "concurrency", place)
    if not found or not clients > 0:
        name = "concurrency" if found else "ttft"
        raise InputError(f"{place}: {name} is missing; give the table as AIConfigurator wrote it")
    start = "(d)" if row.get("(d)workers") else ""
    isl, prefix = number(row, "isl", place), number(row, "prefix", place)
    given = {
        "model": str(row.get("model") or ""),
        "device": str(row.get(f"{start}system") or ""),
        "engine": str(row.get(f"{start}backend") or ""),
        "engine_version": str(row.get(f"{start}version") or ""),
        "weight_dtype": _format(row, f"{start}gemm", place),
        "kv_dtype": _format(row, f"{start}kvcache", place),
        "isl": text_of(isl),
        "osl": text_of(number(row, "osl", place)),
        "prefix_hit": text_of(prefix / isl) if prefix > 0 else "",
        "mode": "closed",
        "concurrency": text_of(clients),
        **(_pools(row, place) if start else _degrees(row, place)),
    }
    return MeasuredRun(place, given, found, (ESTIMATED,))


def _format(row: Mapping[str, str], key: str, place: str) -> str:
    """Return the number format of a kernel mode; `InputError` for one that is not known."""
    mode = row.get(key) or ""
    if mode and mode not in FORMATS:
        raise InputError(f"{place}: {key} is {mode!r}; known are {', '.join(FORMATS)}")
    return FORMATS.get(mode, "")


def _degrees(row: Mapping[str, str], place: str) -> dict[str, str]:
    """Return the columns of parallelism of one pool; attention runs in `dp` ranks."""
    tp, pp, dp, ep = (number(row, key, place) for key in ("tp", "pp", "dp", "moe_ep"))
    count = number(row, "num_total_gpus", place)
    return {
        "tp": text_of(tp),
        "pp": text_of(pp),
        "dp_attention": text_of(dp) if dp > 1 else "",
        "ep": text_of(ep) if ep > 1 else "",
        "n_devices": text_of(count if count > 0 else tp * pp * (dp if dp > 0 else 1.0)),
    }


def _pools(row: Mapping[str, str], place: str) -> dict[str, str]:
    """Return the columns of two pools."""
    columns: dict[str, str] = {}
    total = 0.0
    for start, name in POOLS.items():
        workers, tp, pp, dp, ep = (number(row, start + key, place) for key in ("workers", "tp", "pp", "dp", "moe_ep"))
        total += workers * tp * pp * (dp if dp > 0 else 1.0)
        columns |= {f"{name}workers": text_of(workers), f"{name}tp": text_of(tp), f"{name}pp": text_of(pp)}
        columns |= {f"{name}dp": text_of(dp) if dp > 1 else "", f"{name}ep": text_of(ep) if ep > 1 else ""}
    return {**columns, "n_devices": text_of(total)}


READER = ResultReader(
    name="AIConfigurator",
    recognises=lambda c: c.kind == "table" and c.has("tokens/s/gpu", "concurrency", "ttft", "tpot"),
    read=read_aiconfigurator,
)
