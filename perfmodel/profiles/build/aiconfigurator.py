"""Reads the measured operator tables of the Python package aiconfigurator-core (Apache-2.0, NVIDIA) as canonical rows.

Layout: systems/data/<system>/<topic>/<framework>/<version>/<table>_perf.parquet, one table per operator. Conventions,
found in the package's collectors and checked against physical bounds:

- latency is in ms (that of moe_a2a in us);
- message_size of a collective counts elements of the whole buffer (nccl-tests convention);
- a decode step reads isl + step KV-cache entries;
- one key may have several kernels; an engine would select the fastest;
- expert tables with expert parallelism (EP) time the rank with the most work; tokens count the whole EP group;
- wide-EP expert tables with a uniform load time a rank whose share of the work is equal to that of the others. Those of
  TensorRT-LLM (wideep_moe_perf) are left out: they time CUTLASS kernels, which take up to 1.5 times as long as the ones
  of moe_perf that engines choose.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hwdb import InputError
from perfmodel.profiles.build.cleaning import host_bound
from perfmodel.profiles.build.tables import MASKED_KERNEL
from perfmodel.profiles.importers import Rows, concat, rows_of

PACKAGE, LICENCE = "aiconfigurator-core", "Apache-2.0"
#: Folder of a system -> hwdb name of its device.
SYSTEMS = {
    "a100_sxm": "a100-sxm-80gb",
    "h100_sxm": "h100-sxm",
    "h200_sxm": "h200-sxm",
    "b200_sxm": "b200-sxm",
    "b300_sxm": "b300-sxm",
    "gb200": "gb200",
    "gb300": "gb300",
    "l40s": "l40s",
    "rtx_pro_6000_server": "rtx-pro-6000-server",
    "b60": "arc-pro-b60",
}
#: Type name in the package -> (storage format, compute type).
FORMATS = {
    "bfloat16": ("bf16", "bf16"),
    "float16": ("fp16", "fp16"),
    "half": ("fp16", "fp16"),
    "fp8": ("fp8", "fp8"),
    "fp8_block": ("fp8_block", "fp8"),
    "nvfp4": ("fp4", "fp4"),
    "int8_wo": ("w8a16", "bf16"),
    "int4_wo": ("int4", "bf16"),
    "sq": ("int8", "int8"),
    "w4a16_mxfp4": ("mxfp4", "bf16"),
    "w4a8_mxfp4_mxfp8": ("mxfp4", "fp8"),
    "w4afp8": ("int4", "fp8"),
}
#: Bytes per element of a collective's type.
_BYTES = {"half": 2.0, "bfloat16": 2.0, "float16": 2.0, "int8": 1.0, "float": 4.0}
#: Operation name in the package -> operator family.
_COLLECTIVES = {
    "all_reduce": "all_reduce",
    "all_gather": "all_gather",
    "reduce_scatter": "reduce_scatter",
    "alltoall": "all_to_all",
    "all_to_all": "all_to_all",
}
#: Table -> operator family; "recurrent" and "collective" tables hold several families.
TABLES = {
    "gemm_perf": "gemm",
    "context_attention_perf": "attention_prefill",
    "generation_attention_perf": "attention_decode",
    "context_mla_perf": "mla_prefill",
    "generation_mla_perf": "mla_decode",
    "moe_perf": "grouped_gemm",
    "wideep_context_moe_perf": "grouped_gemm",
    "wideep_generation_moe_perf": "grouped_gemm",
    "gdn_perf": "recurrent",
    "mamba2_perf": "recurrent",
    "nccl_perf": "collective",
    "oneccl_perf": "collective",
    "custom_allreduce_perf": "collective",
    "scale_matrix_perf": "elementwise",
}

#: Start of the names of expert tables of wide EP, and the table whose experts each get a fixed number of rows, of which
#: a mask says how many hold tokens (DeepGEMM's masked layout, for the low-latency kernels of DeepEP).
WIDE, MASKED_TABLE = "wideep_", "wideep_generation_moe_perf"
#: Share of a pair's all-reduce bandwidth below which a larger group was limited by its host. Chosen: the least share
#: found where links were timed is 0.6 (RTX PRO 6000 on PCIe).
HOST_LIMITED = 0.35
#: Bytes moved per value when a 16-bit matrix is scaled to 8 bit: reads 2, writes 1.
SCALING_BYTES = 3.0
MILLI = 1e-3

Columns = dict[str, NDArray[Any]]


def installed() -> tuple[Path, str]:
    """Return the folder of the installed package's data, and the package's version; `InputError` if it is not
    installed."""
    from importlib import metadata, util

    spec = util.find_spec("aiconfigurator_core")
    if spec is None or spec.origin is None:
        raise InputError("aiconfigurator-core is not installed; pip install aiconfigurator-core==0.12.0")
    return Path(spec.origin).parent / "systems" / "data", metadata.version(PACKAGE)


def release(version: str) -> tuple[tuple[int, object], ...]:
    """Return the sort key of a version: numbers by value; pre-releases (rc) before their release.

    >>> sorted(["1.3.0rc10", "1.3.0rc9", "1.2.0"], key=release)
    ['1.2.0', '1.3.0rc9', '1.3.0rc10']
    """
    return tuple((1, int(p)) if p.isdigit() else (0, p) for p in re.findall(r"\d+|[a-z]+", version.lower()))


def tables(root: Path, system: str) -> Iterator[tuple[str, str, str, Path]]:
    """Yield (entry of `TABLES`, framework, version, file) of every table of `system` that this module can read."""
    for path in sorted((root / system).glob("*/*/*/*.parquet")):
        # the scaling kernels of vLLM and SGLang are erratic or slow, so they do not represent norms and activations
        if path.stem in TABLES and (path.stem != "scale_matrix_perf" or path.parts[-3] == "trtllm"):
            yield TABLES[path.stem], path.parts[-3], path.parts[-2], path


def _columns(path: Path) -> Columns:
    """Read the columns of a parquet file, by name."""
    import pyarrow.parquet as parquet

    try:
        loaded = parquet.read_table(path)
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: not a readable parquet file ({error}); reinstall {PACKAGE}") from error
    return {name: loaded.column(name).to_numpy(zero_copy_only=False) for name in loaded.column_names}


def _number(c: Columns, name: str) -> NDArray[np.float64]:
    return c[name].astype(float)


def _formats(names: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return the storage format and the compute type (R,) of each type name of the package; "" where unknown."""
    spelled, code = np.unique(names.astype(str), return_inverse=True)
    known = [FORMATS.get(s, ("", "")) for s in spelled]
    stored, act = (np.array([k[i] for k in known], dtype=object)[code] for i in (0, 1))
    return stored, act


def _window(c: Columns) -> NDArray[np.float64]:
    """Return the attention window of each row, in tokens; 0 means none."""
    return _number(c, "window_size") if "window_size" in c else np.zeros(len(c["latency"]))


def _gemm(c: Columns) -> dict[str, Any]:
    weight, act = _formats(c["gemm_dtype"])
    return {"m": _number(c, "m"), "n": _number(c, "n"), "k": _number(c, "k"), "weight": weight, "act": act}


def _attention(c: Columns) -> dict[str, Any]:
    return {
        "batch": _number(c, "batch_size"),
        "heads": _number(c, "num_heads"),
        "kv_heads": _number(c, "num_key_value_heads"),
        "head_dim": _number(c, "head_dim"),
        "window": _window(c),
        "kv": _formats(c["kv_cache_dtype"])[0],
        "act": _formats(c["attn_dtype"])[1],
    }


def _prefill(c: Columns) -> dict[str, Any]:
    return {**_attention(c), "query": _number(c, "isl"), "context": _number(c, "step")}


def _decode(c: Columns) -> dict[str, Any]:
    return {**_attention(c), "context": _number(c, "isl") + _number(c, "step")}


def _mla(c: Columns) -> dict[str, Any]:
    return {
        "batch": _number(c, "batch_size"),
        "heads": _number(c, "num_heads"),
        "kv": _formats(c["kv_cache_dtype"])[0],
        "act": _formats(c["mla_dtype"])[1],
    }


def _mla_prefill(c: Columns) -> dict[str, Any]:
    return {**_mla(c), "query": _number(c, "isl"), "context": _number(c, "step")}


def _mla_decode(c: Columns) -> dict[str, Any]:
    return {**_mla(c), "context": _number(c, "isl") + _number(c, "step")}


def _grouped(c: Columns) -> dict[str, Any]:
    weight, act = _formats(c["moe_dtype"])
    skew = np.array([float(d.rsplit("_", 1)[1]) if "_" in d else 0.0 for d in c["distribution"].astype(str)])
    return {
        "tokens": _number(c, "num_tokens"),
        "hidden": _number(c, "hidden_size"),
        "inter": _number(c, "inter_size"),
        "experts": _number(c, "num_experts"),
        "top_k": _number(c, "topk"),
        "ep": _number(c, "moe_ep_size"),
        "tp": _number(c, "moe_tp_size"),
        "skew": skew,
        "weight": weight,
        "act": act,
    }


def _elementwise(c: Columns) -> dict[str, Any]:
    """Return the bytes that scaling a 16-bit matrix to 8 bit moves, as shape columns."""
    return {"moved_bytes": SCALING_BYTES * _number(c, "m") * _number(c, "k")}


_READERS = {
    "gemm": _gemm,
    "attention_prefill": _prefill,
    "attention_decode": _decode,
    "mla_prefill": _mla_prefill,
    "mla_decode": _mla_decode,
    "grouped_gemm": _grouped,
    "elementwise": _elementwise,
}


def read_table(path: Path, *, device: str, family: str, framework: str, version: str, source: str = "") -> Rows:
    """Read one parquet file as canonical rows. `family` is an entry of `TABLES`. GEMMs that timed the host are left
    out."""
    c = _columns(path)
    common = {
        "device": device,
        "software": f"{framework} {version}",
        "licence": LICENCE,
        "source": source or str(path.name),
    }
    if family == "collective":
        return _collective(c, common)
    if family == "recurrent":
        return _recurrent(c, common)
    kernel = c["kernel_source"].astype(object)
    if path.stem == MASKED_TABLE:
        kernel = kernel + f" {MASKED_KERNEL}"
    seconds = _number(c, "latency") * MILLI
    table = rows_of(len(seconds), family=family, time=seconds, kernel=kernel, **common, **_READERS[family](c))
    if path.stem.startswith(WIDE):
        return table.take((table["skew"] == 0.0) & (table["ep"] > 1))
    return table.take(~host_bound(table)) if family == "gemm" else table


def _collective(c: Columns, common: dict[str, str]) -> Rows:
    """Read the rows of a collective table, without eager kernels, int8, and groups that were limited by their host.

    c: columns of the file. common: columns with one value for all rows.
    """
    types = c["nccl_dtype" if "nccl_dtype" in c else "allreduce_dtype"].astype(str)
    width = np.array([_BYTES.get(t, np.nan) for t in types])
    family = np.array([_COLLECTIVES.get(name, "") for name in c["op_name"].astype(str)], dtype=object)
    table = rows_of(
        len(types),
        family=family,
        group=_number(c, "num_gpus"),
        message_bytes=_number(c, "message_size") * width,
        time=_number(c, "latency") * MILLI,
        kernel=c["kernel_source"].astype(object),
        **common,
    )
    eager = np.char.endswith(table["kernel"].astype(str), "_eager")
    table = table.take((table["family"] != "") & ~eager & (types != "int8"))
    return table.take(~strangled(table))


def strangled(table: Rows) -> NDArray[np.bool_]:
    """Mark the groups whose all-reduce was limited by the host instead of by the links, as a mask (R,).

    These reach less than `HOST_LIMITED` of the bandwidth of a pair. Example: pairs of L40S move 19 to 20 GB/s. Groups
    of four and of eight move 21 GB/s under SGLang 0.5.12, but 4 to 5 and 2 GB/s in every other table of the package,
    which were measured on another host.
    """
    reached: dict[float, float] = {}
    sums = table["family"] == "all_reduce"
    for group in np.unique(table["group"][sums]):
        there = sums & (table["group"] == group)
        largest = np.flatnonzero(there)[np.argmax(table["message_bytes"][there])]
        reached[float(group)] = table["message_bytes"][largest] * (1.0 - 1.0 / group) / table["time"][largest]
    slow = [group for group, rate in reached.items() if rate < HOST_LIMITED * reached.get(2.0, 0.0)]
    return np.asarray(np.isin(table["group"], slow))


def _recurrent(c: Columns, common: dict[str, str]) -> Rows:
    """Read the rows of a Mamba-2 or gated-delta-rule table. Convolution and scan are timed separately; a row is their
    sum."""
    mamba = "d_state" in c
    heads = _number(c, "nheads" if mamba else "num_v_heads")
    key, value = _number(c, "d_state" if mamba else "head_k_dim"), _number(c, "head_dim" if mamba else "head_v_dim")
    decode = c["phase"].astype(str) == "generation"
    query = np.where(decode, 1.0, _number(c, "seq_len"))
    place = np.stack([decode, _number(c, "batch_size"), query, heads, key, value], axis=1)
    kernels = c["kernel_source"].astype(str)
    spelled, code = np.unique(np.char.find(kernels, "conv") >= 0, return_inverse=True)
    keys, which = np.unique(place, axis=0, return_inverse=True)
    total, parts = np.zeros(len(keys)), np.zeros(len(keys))
    for part in range(len(spelled)):
        best = np.full(len(keys), np.inf)
        np.minimum.at(best, which.reshape(-1)[code == part], _number(c, "latency")[code == part] * MILLI)
        total += np.where(np.isfinite(best), best, 0.0)
        parts += np.isfinite(best)
    whole = parts == len(spelled)
    family = np.where(keys[:, 0] > 0, "recurrent_decode", "recurrent_prefill").astype(object)
    kernel = "mamba2" if mamba else "gated delta rule"
    table = rows_of(
        len(keys),
        family=family,
        batch=keys[:, 1],
        query=keys[:, 2],
        heads=keys[:, 3],
        key_dim=keys[:, 4],
        value_dim=keys[:, 5],
        time=total,
        kernel=kernel,
        **common,
    )
    return table.take(whole)


def first_of(table: Rows, keys: tuple[str, ...], rank: NDArray[np.float64]) -> Rows:
    """Keep one row for each different value of the columns `keys`: the one of least `rank` (R,)."""
    codes = np.stack([np.unique(table[k], return_inverse=True)[1].reshape(-1) for k in keys], axis=1)
    order = np.lexsort((rank, *codes.T[::-1]))
    head = np.ones(len(order), bool)
    head[1:] = np.any(codes[order][1:] != codes[order][:-1], axis=1)
    return table.take(np.sort(order[head]))


def merged(versions: list[tuple[str, Rows]], keys: tuple[str, ...], group: tuple[str, ...]) -> Rows:
    """Merge several versions of a framework into one table; newer measurements replace older ones.

    versions: (version, rows). keys: columns that identify a measurement. group: columns (number formats) that are
    merged separately. For each group, the base is the newest version with at least half as many rows as the largest
    one. Newer versions replace its rows; older ones are left out.
    """
    newest = sorted(versions, key=lambda v: release(v[0]), reverse=True)
    labels = [_labels(t, group) for _, t in newest]
    kept: list[Rows] = []
    for label in sorted({str(x) for found in labels for x in np.unique(found)}):
        parts = [t.take(found == label) for (_, t), found in zip(newest, labels, strict=True)]
        most = max(len(p) for p in parts)
        base = next(i for i, p in enumerate(parts) if 2 * len(p) >= most)
        used = [first_of(p, keys, p["time"]) for p in parts[: base + 1] if len(p)]
        table = concat(used)
        age = np.repeat(np.arange(len(used)), [len(p) for p in used]).astype(float)
        kept.append(first_of(table, keys, age))
    return concat(kept)


def _labels(table: Rows, group: tuple[str, ...]) -> NDArray[Any]:
    """Label each row with text (R,) that is equal where all columns `group` are equal."""
    out = np.full(len(table), "", dtype=object)
    for name in group:
        out = out + table[name].astype(str) + "|"
    return out.astype(str)
