"""Reads a folder of operator files: CSVs of published kernel measurements, one per device and publication.

A file `ops_<name>.csv[.gz]` has the columns device, op, dtype, framework, latency_us, note, source, license and, where
they apply, m, n, k, batch, q_len, kv_len, heads, kv_heads, head_dim, bytes, n_devices, model. `FILES` and `CLOSED` list
the known files, with device, timing method and rows to leave out; other files are not read. Rows become tables only
under a licence that allows redistribution (Apache, MIT, BSD). Of the rows of `CLOSED`, only the coefficients of a
fitted polynomial are kept (`perfmodel.profiles.build.smooth`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from perfmodel.arrays import Array
from perfmodel.profiles.importers import Rows, concat, rows_of

#: Licences, by first word, that allow redistribution as tables.
OPEN = ("apache", "mit", "bsd")
#: `dtype` -> (storage format, compute type).
FORMATS = {
    "fp16": ("fp16", "fp16"),
    "half": ("fp16", "fp16"),
    "bf16": ("bf16", "bf16"),
    "bfloat16": ("bf16", "bf16"),
    "fp16/bf16": ("bf16", "bf16"),
    "fp8": ("fp8", "fp8"),
    "fp8_block(deepgemm)": ("fp8_block", "fp8"),
    "w8a8_dynamic": ("int8", "int8"),
    "bf16/kv_bf16": ("bf16", "bf16"),
    "bf16/kv_fp8": ("fp8", "bf16"),
}
#: `op` -> operator family.
_FAMILY = {
    "gemm": "gemm",
    "attention_prefill": "attention_prefill",
    "attention_decode": "attention_decode",
    "mla_decode": "mla_decode",
    "mla_prefill": "mla_prefill",
    "moe_grouped_gemm": "grouped_gemm",
    "allreduce": "all_reduce",
    "all_gather": "all_gather",
    "reduce_scatter": "reduce_scatter",
    "alltoall": "all_to_all",
    "p2p": "p2p",
}
#: Values per token that the element-wise kernels of a layer move, in multiples of the model's sizes `_MODELS`.
_POINTWISE = {
    "layernorm": (4, 0, 0),
    "input_layernorm": (4, 0, 0),
    "post_layernorm": (4, 0, 0),
    "final_layernorm": (4, 0, 0),
    "act_fn": (0, 3, 0),
    "embedding": (2, 0, 0),
    "rotary_emb": (0, 0, 2),
}
#: (hidden size, intermediate size, heads * head size + KV values) of the models in those files; from config.json.
_MODELS = {
    "meta-llama/Llama-3.1-8B": (4096, 14336, 6144),
    "Qwen/Qwen3-32B": (5120, 25600, 10240),
    "Qwen/Qwen3-30B-A3B-Instruct-2507": (2048, 768, 5120),
}


@dataclass(frozen=True)
class File:
    """Describe how to read one operator file.

    devices: name in the file -> hwdb name. software: name in the rows. total: kv_len includes the new tokens. least:
    seconds; shorter times are host overhead or rounding and are left out. pick, drop: regular expressions on the note
    of rows to keep, and of rows to leave out. ops: regular expression of the operators to read. any_op: devices whose
    operators are all read, whatever `ops`.
    """

    devices: Mapping[str, str]
    software: str
    total: bool = False
    least: float = 0.0
    pick: str = ""
    drop: str = ""
    ops: str = ".*"
    any_op: tuple[str, ...] = ()


FILES = {
    "rtx4090_llmservingsim": File({"RTX 4090": "rtx-4090"}, "vllm 0.19.0", total=True),
    "rtxpro6000_llmservingsim": File(
        {"RTX Pro 6000 Blackwell": "rtx-pro-6000-server"}, "llmservingsim (vllm 0.19.0)", ops="elementwise.*"
    ),
    "rtx5090_aiconfigurator-history": File({"RTX 5090": "rtx-5090"}, "vllm 0.22.0", ops="gemm"),
    "rtx3090_llmservingsim-v0": File({"RTX 3090": "rtx-3090"}, "transformers", least=5e-6, ops="gemm"),
    "a6000_llmservingsim-v0": File(
        {"RTX A6000": "rtx-a6000"}, "transformers", total=True, ops="gemm|attention_prefill"
    ),
    "tpuv6e1_llmservingsim-v0": File({"TPU v6e": "tpu-v6e"}, "vllm (TPU)", total=True, ops="gemm|attention.*"),
    "a800_frontier": File(
        {"A800 SXM": "a800-sxm-80gb"}, "flashinfer", least=5e-6, drop="CUDA_EVENT|mixed=True", ops="attention.*"
    ),
    "a30_vidur-fork": File({"A30": "a30"}, "flashinfer", least=12e-6),
    "h800_frontier": File(
        {"H800": "h800-sxm"},
        "flashinfer",
        pick="KERNEL_ONLY",
        drop="mixed=True|true_mixed",
        ops="gemm|attention_prefill",
    ),
    "h20_infersim": File({"H20": "h20"}, "sglang (InferSim)"),
    "h800_infersim": File({"H800": "h800-sxm"}, "sglang (InferSim)"),
    "a40_vidur-mlp": File({"A40": "a40"}, "vidur", least=20e-6),
    "v100pcie_apexplus": File({"V100 16GB PCIe": "v100-pcie-32gb"}, "torch", least=25e-6),
    "a100-mi210_llmcompass": File({"MI210": "mi210"}, "torch (ROCm)", ops="gemm"),
    "multi_apexplus-comm": File(
        {"H100 SXM": "h100-sxm", "H200 SXM": "h200-sxm", "V100 16GB PCIe": "v100-pcie-32gb"},
        "nccl-tests",
        pick="nodes=1 ",
        least=3e-6,
        ops="p2p",
        any_op=("V100 16GB PCIe",),
    ),
}
#: Files whose licence does not allow redistribution: only coefficients are kept.
CLOSED = {
    "ascend910b_hudingyi-aicnpu": File({"Ascend 910B": "ascend-910b2"}, "vllm-ascend 0.18.0", total=True),
    "ascend910b_hccl_xiaowan-aicnpu": File({"Ascend 910B": "ascend-910b2"}, "hccl", ops="allreduce"),
}
#: A pandas DataFrame, imported only where a file is read.
Frame = Any
MICRO = 1e-6
#: Least time, s, of a measurement: excludes zeros.
LEAST_TIME = 1e-9
#: Bytes per value of the element-wise kernels, which ran in fp16 or bf16.
BYTES_PER_VALUE = 2.0


def _load(folder: Path, name: str) -> Frame | None:
    """Load the operator file `name`; None if the folder does not have it."""
    import pandas as pd

    for suffix in (".csv.gz", ".csv"):
        path = folder / f"ops_{name}{suffix}"
        if path.is_file():
            return pd.read_csv(path, low_memory=False)
    return None


def read(folder: Path, name: str, file: File) -> Rows:
    """Read one operator file as canonical rows; an empty table if the folder does not have it."""
    frame = _load(folder, name)
    if frame is None:
        return rows_of(0)
    note = frame["note"].fillna("").astype(str)
    keep = frame["device"].isin(list(file.devices))
    keep &= frame["op"].str.fullmatch(file.ops) | frame["device"].isin(list(file.any_op))
    if file.pick:
        keep &= note.str.contains(file.pick)
    if file.drop:
        keep &= ~note.str.contains(file.drop)
    frame = frame[keep & (frame["latency_us"] * MICRO >= max(file.least, LEAST_TIME))]
    parts = [_operator(part, str(op), file) for op, part in frame.groupby("op", sort=True)]
    return concat(parts)


def _operator(frame: Frame, op: str, file: File) -> Rows:
    """Convert the lines of one operator to canonical rows; an empty table for an operator that no family covers.

    frame: the lines of operator `op`. file: how to read them.
    """
    if op.startswith("elementwise:"):
        return _pointwise(frame, op.split(":", 1)[1], file)
    if op not in _FAMILY:
        return rows_of(0)
    family = _FAMILY[op]
    types = frame["dtype"].fillna("bf16").astype(str).str.lower()
    stored = np.array([FORMATS.get(t, ("", ""))[0] for t in types], dtype=object)
    act = np.array([FORMATS.get(t, ("", ""))[1] for t in types], dtype=object)
    columns = _shape(frame, family, file)
    if family in ("gemm", "grouped_gemm"):
        columns |= {"weight": stored, "act": act}
    elif "batch" in columns:
        columns |= {"kv": stored, "act": act}
    table = rows_of(
        len(frame), family=family, time=frame["latency_us"].to_numpy(float) * MICRO, **columns, **_facts(frame, file)
    )
    needed = [k for k in columns if k not in ("weight", "act", "kv")]
    return table.take(np.all([np.isfinite(table[k]) for k in needed], axis=0))


def _facts(frame: Frame, file: File) -> dict[str, Any]:
    """Return the columns that every family has: device, software, kernel, source, licence."""
    return {
        "device": np.array([file.devices[d] for d in frame["device"]], dtype=object),
        "software": file.software,
        "kernel": frame["framework"].fillna("").astype(str).to_numpy(object),
        "source": frame["source"].astype(str).str.split(" ").str[0].to_numpy(object),
        "licence": frame["license"].astype(str).to_numpy(object),
    }


def _number(frame: Frame, name: str) -> Array:
    """Return the column `name` as numbers (R,); NaN where it is empty or not a number."""
    import pandas as pd

    return np.asarray(pd.to_numeric(frame[name], errors="coerce"), float)


def _noted(frame: Frame, name: str) -> Array:
    """Return the number after `name=` in each line's note (R,); NaN where the note does not have it."""
    found = frame["note"].fillna("").astype(str).str.extract(rf"(?<![a-z_]){name}=(\d+)")[0]
    return np.asarray(found.astype(float), float)


def _shape(frame: Frame, family: str, file: File) -> dict[str, Any]:
    """Return the shape columns (R,) of a family."""
    if family == "gemm":
        return {k: _number(frame, k) for k in ("m", "n", "k")}
    if family == "grouped_gemm":
        return _experts(frame)
    if "bytes" in frame and family not in ("attention_prefill", "attention_decode", "mla_prefill", "mla_decode"):
        return {"message_bytes": _number(frame, "bytes"), "group": _number(frame, "n_devices")}
    shape = {k: _number(frame, k) for k in ("batch", "heads")}
    seen, new = _number(frame, "kv_len"), _number(frame, "q_len")
    if not family.startswith("mla"):
        shape |= {"kv_heads": _number(frame, "kv_heads"), "head_dim": _number(frame, "head_dim")}
        shape["kv_heads"] = np.where(shape["kv_heads"] > 0, shape["kv_heads"], shape["heads"])
        shape["window"] = np.zeros(len(frame))
    if family.endswith("decode"):
        return shape | {"context": np.where(seen > 0, seen, np.nan)}
    whole = file.total | (family == "mla_prefill") | bool((seen == new).all())
    cached = np.maximum(seen - new, 0.0) if whole else seen
    return shape | {"query": np.where(new > 0, new, np.nan), "context": cached}


def _experts(frame: Frame) -> dict[str, Any]:
    """Return the shape columns (R,) of an expert layer.

    The expert counts and the sizes of the expert-parallel (EP) group are read from the note.
    """

    def first(one: str, other: str) -> Array:
        found = _noted(frame, one)
        return np.where(np.isnan(found), _noted(frame, other), found)

    experts, ep = first("num_experts", "experts"), first("num_gpus", "ep")
    each = first("batch_size_per_gpu", "seq_len_per_gpu")
    tokens = np.where(np.isnan(each), _number(frame, "m"), each * ep)
    tp = _noted(frame, "tp")
    return {
        "tokens": tokens,
        "hidden": _number(frame, "k"),
        "inter": _number(frame, "n"),
        "experts": experts,
        "top_k": _noted(frame, "topk"),
        "ep": ep,
        "tp": np.ones(len(tp)),
        "skew": np.zeros(len(tp)),
    }


def _pointwise(frame: Frame, layer: str, file: File) -> Rows:
    """Convert the lines of one element-wise kernel (`layer`) to canonical rows.

    The bytes moved follow from the model's sizes and the tensor parallelism in the note. Activation kernels (act_fn) of
    the expert model (A3B) are left out.
    """
    if layer not in _POINTWISE:
        return rows_of(0)
    frame = frame[frame["model"].isin(list(_MODELS)) & ~((layer == "act_fn") & frame["model"].str.contains("A3B"))]
    values = np.array([np.dot(_POINTWISE[layer], _MODELS[m]) for m in frame["model"]], dtype=float)
    tp = np.nan_to_num(frame["note"].astype(str).str.extract(r"tp(\d+)")[0].astype(float).to_numpy(), nan=1.0)
    split = tp if layer in ("act_fn", "rotary_emb") else np.ones(len(tp))
    moved = BYTES_PER_VALUE * values / split * _number(frame, "m")
    time = frame["latency_us"].to_numpy(float) * MICRO
    return rows_of(len(frame), family="elementwise", moved_bytes=moved, time=time, **_facts(frame, file))


def is_open(licence: str) -> bool:
    """True if a licence allows redistribution as tables.

    >>> is_open("MIT (Microsoft)"), is_open("no LICENSE file")
    (True, False)
    """
    return re.split(r"[\s\-]", licence.lower(), maxsplit=1)[0] in OPEN


def open_rows(folder: Path) -> Rows:
    """Read the rows of all files in `FILES` whose licence allows redistribution as tables."""
    table = concat([read(folder, name, file) for name, file in sorted(FILES.items())])
    return table.take(np.array([is_open(str(x)) for x in table["licence"]], dtype=bool))


def closed_rows(folder: Path) -> Rows:
    """Read the rows of all files in `CLOSED`, of which only the coefficients of a fitted polynomial may be kept."""
    return concat([read(folder, name, file) for name, file in sorted(CLOSED.items())])
