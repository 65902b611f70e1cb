"""Tables of aiconfigurator-core (Apache-2.0) and of AISimulate, which keeps its layout.

A tree is `systems/data/<system>/<family>/<framework>/<version>/<table>_perf.parquet`. What its columns mean, and where
they mislead (aiconfigurator-core 0.12.0):
latency is milliseconds; a collective's `message_size` is elements, not bytes; a decode row's KV length is
`isl + step`; quantisation names are the engines'; tables hold exact duplicates and isolated stuck samples.
Tables of other operators (quantisation, sparse attention, DeepEP, whole modules of one model) are left out by name.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from hwdb import InputError, UnknownName
from perfmodel.profiles.importers.rows import Rows, concat, rows

MILLI = 1e-3
PACKAGE = "aiconfigurator-core"

#: System folder -> device in hwdb.
SYSTEMS = {
    "a100_sxm": "a100-sxm-80gb", "a100_pcie": "a100-pcie-80gb", "a30": "a30", "h100_sxm": "h100-sxm",
    "h100_pcie": "h100-pcie", "h200_sxm": "h200-sxm", "b200_sxm": "b200-sxm", "b300_sxm": "b300-sxm",
    "gb200": "gb200", "gb300": "gb300", "l4": "l4", "l40s": "l40s", "b60": "arc-pro-b60",
    "rtx_pro_6000_server": "rtx-pro-6000-server", "rtx_5090": "rtx-5090",
}  # fmt: skip
#: The engines' names of a quantisation -> (storage format of weights, compute type).
FORMATS = {
    "bfloat16": ("bf16", "bf16"), "float16": ("fp16", "fp16"), "half": ("fp16", "fp16"), "fp8": ("fp8", "fp8"),
    "fp8_e4m3": ("fp8", "fp8"), "fp8_block": ("fp8_block", "fp8"), "nvfp4": ("fp4", "fp4"), "int8": ("int8", "int8"),
    "int8_wo": ("w8a16", "bf16"), "int4_wo": ("int4", "bf16"), "sq": ("int8", "int8"), "w4afp8": ("int4", "fp8"),
    "w4a16_mxfp4": ("mxfp4", "bf16"), "w4a8_mxfp4_mxfp8": ("mxfp4", "fp8"),
}  # fmt: skip
ELEMENT_BYTES = {"half": 2.0, "bfloat16": 2.0, "float16": 2.0, "float": 4.0, "int8": 1.0, "fp8": 1.0}
COLLECTIVE = {
    "all_reduce": "all_reduce", "all_gather": "all_gather", "reduce_scatter": "reduce_scatter",
    "alltoall": "all_to_all",
}  # fmt: skip

Frame = Any


def _names(values: Any, part: int) -> np.ndarray:
    """Column of quantisation names to formats (part 0) or compute types (1); `UnknownName` for a new name."""
    known = {}
    for name in set(values):
        if name not in FORMATS:
            raise UnknownName("quantisation", str(name), FORMATS)
        known[name] = FORMATS[name][part]
    return np.array([known[v] for v in values], dtype=object)


def _gemm(f: Frame) -> dict[str, Any]:
    kinds = f["gemm_dtype"]
    formats = {"weight": _names(kinds, 0), "act": _names(kinds, 1)}
    return {"family": "gemm", "m": f["m"], "n": f["n"], "k": f["k"], **formats}


def _heads(f: Frame) -> dict[str, Any]:
    window = f.get("window_size", 0.0)  # early tables have no windows
    return {
        "batch": f["batch_size"], "heads": f["num_heads"], "kv_heads": f["num_key_value_heads"],
        "head_dim": f["head_dim"], "window": window, "kv": _names(f["kv_cache_dtype"], 0),
        "act": _names(f["attn_dtype"], 1),
    }  # fmt: skip


def _context_attention(f: Frame) -> dict[str, Any]:
    return {"family": "attention_prefill", "query": f["isl"], "context": f["step"], **_heads(f)}


def _generation_attention(f: Frame) -> dict[str, Any]:
    return {"family": "attention_decode", "context": f["isl"] + f["step"], **_heads(f)}


def _latent(f: Frame) -> dict[str, Any]:
    formats = {"kv": _names(f["kv_cache_dtype"], 0), "act": _names(f["mla_dtype"], 1)}
    return {"batch": f["batch_size"], "heads": f["num_heads"], **formats}


def _context_mla(f: Frame) -> dict[str, Any]:
    return {"family": "mla_prefill", "query": f["isl"], "context": f["step"], **_latent(f)}


def _generation_mla(f: Frame) -> dict[str, Any]:
    return {"family": "mla_decode", "context": f["isl"] + f["step"], **_latent(f)}


def _experts(f: Frame) -> dict[str, Any]:
    skew = f["distribution"].map(lambda name: float(name.rpartition("_")[2]) if name.startswith("power_law") else 0.0)
    return {
        "family": "grouped_gemm", "tokens": f["num_tokens"], "hidden": f["hidden_size"], "inter": f["inter_size"],
        "experts": f["num_experts"], "top_k": f["topk"], "ep": f["moe_ep_size"], "tp": f["moe_tp_size"], "skew": skew,
        "weight": _names(f["moe_dtype"], 0), "act": _names(f["moe_dtype"], 1),
    }  # fmt: skip


def _collective(f: Frame, kind: str) -> dict[str, Any]:
    size = f[kind].map(ELEMENT_BYTES)
    if size.isna().any():
        raise UnknownName("element type", str(f[kind][size.isna()].iloc[0]), ELEMENT_BYTES)
    return {
        "family": f["op_name"].map(COLLECTIVE), "message_bytes": f["message_size"] * size, "group": f["num_gpus"],
        "act": _names(f[kind], 0),
    }  # fmt: skip


def _nccl(f: Frame) -> dict[str, Any]:
    return _collective(f, "nccl_dtype")


def _custom_allreduce(f: Frame) -> dict[str, Any]:
    return _collective(f, "allreduce_dtype")


def _recurrent(f: Frame) -> dict[str, Any]:
    f["family"] = np.where(f["phase"] == "context", "recurrent_prefill", "recurrent_decode")
    return {
        "family": f["family"], "batch": f["batch_size"], "query": f["seq_len"], "heads": f["num_v_heads"],
        "key_dim": f["head_k_dim"], "value_dim": f["head_v_dim"], "act": "bf16",
    }  # fmt: skip


#: Table -> how its columns become canonical ones.
TABLES: dict[str, Callable[[Frame], dict[str, Any]]] = {
    "gemm": _gemm,
    "context_attention": _context_attention,
    "generation_attention": _generation_attention,
    "context_mla": _context_mla,
    "generation_mla": _generation_mla,
    "moe": _experts,
    "nccl": _nccl,
    "oneccl": _nccl,
    "custom_allreduce": _custom_allreduce,
    "gdn": _recurrent,
}


def table_name(path: Path) -> str:
    """Which table a file is, by its name; "" if it is none that is imported.

    >>> table_name(Path("gb200__gemm__vllm__0.22.0__gemm_perf.parquet")), table_name(Path("mhc_module_perf.parquet"))
    ('gemm', '')
    """
    stem = path.name.removesuffix(".parquet").removesuffix("_perf").rpartition("__")[2]
    return stem if stem in TABLES else ""


def system_of(path: Path) -> str:
    """The hwdb device of the system folder (or file-name prefix) that a table lies in; "" if none is known."""
    for part in (*path.parts[:-1], path.name.partition("__")[0]):
        if part in SYSTEMS:
            return SYSTEMS[part]
    return ""


def files(path: Path) -> list[Path]:
    """Every table under `path` that can be imported, or `path` itself."""
    found = [path] if path.is_file() else sorted(path.rglob("*_perf.parquet"))
    return [file for file in found if table_name(file)]


def systems(path: Path) -> list[str]:
    """Devices that a tree has tables of."""
    return sorted({system_of(file) for file in files(path)} - {""})


def read(path: Path, device: str = "", licence: str = "") -> Rows:
    """Rows of a table or of all tables of one system below `path`.

    Raises `InputError` if there are none, or if the tree holds several systems and `device` does not say which.
    """
    found = files(path)
    if not found:
        raise InputError(f"{path}: no *_perf.parquet table that can be imported ({', '.join(TABLES)})")
    known = systems(path)
    if len(known) > 1:
        if device not in known:
            names = ", ".join(known)
            raise InputError(f"{path}: holds {len(known)} systems ({names}); say which with --device NAME")
        found = [file for file in found if system_of(file) == device]
    return concat(read_table(file, device or system_of(file), licence) for file in found)


def read_table(path: Path, device: str, licence: str = "") -> Rows:
    """Rows of one parquet table, measured on `device`."""
    frame = _frame(path)
    try:
        columns = TABLES[table_name(path)](frame)
        time = frame["latency"].to_numpy(dtype=float) * MILLI
    except KeyError as error:
        raise InputError(f"{path}: no column {error}; the layout of this release is not known") from error
    if not device:
        raise InputError(f"{path}: not inside a system folder; say with --device NAME what it was measured on")
    folders = path.name.removesuffix(".parquet").replace("__", "/") if "__" in path.name else "/".join(path.parts[-5:])
    table = rows(
        len(frame),
        device=device,
        software=_software(frame),
        kernel=frame["kernel_source"].astype(str).to_numpy(dtype=object) if "kernel_source" in frame else "",
        time=time,
        power=frame["power"].to_numpy(dtype=float) if "power" in frame else float("nan"),
        source=f"{PACKAGE} systems/data/{folders}",
        licence=licence or "Apache-2.0",
        **{name: value if isinstance(value, str | float) else np.asarray(value) for name, value in columns.items()},
    )
    # the convolution before a gated delta rule is an element-wise kernel of its own
    return table.take(np.array(["conv1d" not in kernel for kernel in table["kernel"]], dtype=bool))


def _frame(path: Path) -> Frame:
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError as error:
        raise InputError(f"{path}: reading parquet needs pyarrow; pip install 'perfmodel[parquet]'") from error
    try:
        return pq.read_table(path).to_pandas()
    except (pa.ArrowException, OSError) as error:
        raise InputError(f"{path}: not a parquet table ({error})") from error


def _software(frame: Frame) -> Any:
    if "framework" not in frame or "version" not in frame:
        return ""
    return (frame["framework"].str.lower() + " " + frame["version"]).to_numpy(dtype=object)
