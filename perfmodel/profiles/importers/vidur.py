"""Imports Vidur profiles: mlp.csv, attention.csv, all_reduce.csv, send_recv.csv (microsoft/vidur vidur/profiling).

Times are milliseconds in `time_stats.<layer>.{min,max,mean,median,std}`. The median is used; a layer that was not run
(0 or empty) gives no row. Sizes of collectives are bytes. With tensor parallelism, QKV and up projections are sharded
by columns, output and down projections by rows.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from hwdb import InputError
from perfmodel.arrays import Array, Mask
from perfmodel.profiles.importers.plain import numbers, read_table
from perfmodel.profiles.importers.rows import Rows, concat, rows_of

MILLI = 1e-3
#: Number formats: Vidur always profiles in fp16 (vidur/profiling/common/model_config.py).
FORMAT = {"weight": "fp16", "act": "fp16"}
#: Bytes per value that an fp16 element-wise layer moves: two for each value that it reads or writes. A norm reads and
#: writes one; an addition, and the gate of an activation, reads two and writes one.
ONE_OPERAND, TWO_OPERANDS = 4.0, 6.0


def read(path: Path, device: str = "", licence: str = "") -> Rows:
    """Read one Vidur CSV as canonical rows. Its columns tell which of the four files it is; `InputError` if it is none
    of them.

    device, licence: values of these columns, which Vidur files do not have.
    """
    header, body = read_table(path)
    table = {name: [line[place] for line in body] for place, name in enumerate(header)}
    parts = path.parts[path.parts.index("profiling") :] if "profiling" in path.parts else path.parts[-1:]
    source = "/".join(parts)
    common = {"device": device, "software": "vidur", "source": source, "licence": licence}
    if "time_stats.mlp_up_proj.median" in table:
        return _mlp(path, table, common)
    if "time_stats.attn_prefill.median" in table:
        return _attention(path, table, common)
    for family, name in (("all_reduce", "all_reduce"), ("p2p", "send_recv")):
        if f"time_stats.{name}.median" in table:
            return _network(path, table, common, family, name)
    raise InputError(f"{path}, line 1: no time_stats of mlp_up_proj, attn_prefill, all_reduce or send_recv medians")


def _column(path: Path, table: Mapping[str, list[str]], name: str) -> Array:
    """Return a column as numbers (R,). Raises `InputError` if the file does not have it.

    table: column name -> fields as text.
    """
    if name not in table:
        raise InputError(f"{path}, line 1: no column {name!r}, which this kind of Vidur file has")
    return numbers(path, name, table[name])


def _ran(time: Array) -> Mask:
    """True for each row (R,) whose layer was run, by its time. NaN counts as run, so that validation reports it."""
    return np.asarray(np.isnan(time) | (time != 0.0))


def _mlp(path: Path, table: Mapping[str, list[str]], common: dict[str, str]) -> Rows:
    """Read the GEMM and element-wise rows of mlp.csv.

    table: column name -> fields as text. common: columns with one value for all rows (device, software, source,
    licence).
    """
    heads, kv_heads, width, inner, m, tp = (
        _column(path, table, name)
        for name in ("n_head", "n_kv_head", "n_embd", "n_expanded_embd", "num_tokens", "num_tensor_parallel_workers")
    )
    gated = np.array([value.strip().lower() == "true" for value in table.get("use_gated_mlp", ["True"] * len(m))])
    qkv = (heads + 2.0 * kv_heads) * (width / heads)
    sites = {
        "attn_pre_proj": (qkv / tp, width),
        "attn_post_proj": (width, width / tp),
        "mlp_up_proj": (np.where(gated, 2.0, 1.0) * inner / tp, width),
        "mlp_down_proj": (width, inner / tp),
    }
    parts = []
    for layer, (n, k) in sites.items():
        time = _column(path, table, f"time_stats.{layer}.median") * MILLI
        gemm = rows_of(len(m), family="gemm", kernel="", m=m, n=n, k=k, time=time, **FORMAT, **common)
        parts.append(gemm.take(_ran(time)))
    for layer, moved in _elementwise(m, width, inner / tp, gated).items():
        if f"time_stats.{layer}.median" in table:
            time = _column(path, table, f"time_stats.{layer}.median") * MILLI
            part = rows_of(
                len(m), family="elementwise", kernel=layer, moved_bytes=moved, time=time, act="fp16", **common
            )
            parts.append(part.take(_ran(time)))
    return concat(parts)


def _elementwise(m: Array, width: Array, inner: Array, gated: Mask) -> dict[str, Array]:
    """Return the bytes (R,) that each element-wise layer moves, by name of the layer.

    m: (R,) tokens. width: (R,) hidden size. inner: (R,) inner size of the MLP on one device. gated: (R,) True for a
    gated MLP.
    """
    return {
        "input_layernorm": ONE_OPERAND * m * width,
        "post_attention_layernorm": ONE_OPERAND * m * width,
        "mlp_act": np.where(gated, TWO_OPERANDS, ONE_OPERAND) * m * inner,
        "add": TWO_OPERANDS * m * width,
    }


def _attention(path: Path, table: Mapping[str, list[str]], common: dict[str, str]) -> Rows:
    """Read the prefill and decode attention rows of attention.csv; `table` and `common` as in `_mlp`."""
    width, heads, kv_heads, tp, batch, chunk, cached = (
        _column(path, table, name)
        for name in (
            "n_embd",
            "n_q_head",
            "n_kv_head",
            "num_tensor_parallel_workers",
            "batch_size",
            "prefill_chunk_size",
            "kv_cache_size",
        )
    )
    if "is_prefill" not in table:
        raise InputError(f"{path}, line 1: no column 'is_prefill', which this kind of Vidur file has")
    prefill = np.array([value.strip().lower() == "true" for value in table["is_prefill"]])
    backend = table.get("attention_backend", [""] * len(batch))
    kernel = np.array([value.removeprefix("AttentionBackend.").lower() for value in backend], dtype=object)
    shape = {
        "batch": batch,
        "heads": heads / tp,
        "kv_heads": np.maximum(1.0, kv_heads / tp),
        "head_dim": width / heads,
        "window": 0.0,
        "kernel": kernel,
        "act": "fp16",
        "kv": "fp16",
        **common,
    }
    parts = []
    # decode also attends to the new token
    for phase, mine, query, context in (
        ("prefill", prefill, chunk, cached),
        ("decode", ~prefill, np.nan, cached + 1.0),
    ):
        time = _column(path, table, f"time_stats.attn_{phase}.median") * MILLI
        part = rows_of(len(batch), family=f"attention_{phase}", query=query, context=context, time=time, **shape)
        parts.append(part.take(mine & _ran(time)))
    return concat(parts)


def _network(path: Path, table: Mapping[str, list[str]], common: dict[str, str], family: str, name: str) -> Rows:
    """Read all_reduce.csv (as family all_reduce) or send_recv.csv (as family p2p); `table` and `common` as in `_mlp`.

    name: of the operation in the column names, "all_reduce" or "send_recv".
    """
    size, workers, per_node = (_column(path, table, key) for key in ("size", "num_workers", "devices_per_node"))
    nodes = np.maximum(1.0, workers / per_node)
    kernel = np.array([f"{n:.0f} node{'s' if n > 1 else ''}" for n in nodes], dtype=object)
    time = _column(path, table, f"time_stats.{name}.median") * MILLI
    shape = {"message_bytes": size, "group": workers, "act": "fp16"}
    return rows_of(len(size), family=family, kernel=kernel, time=time, **shape, **common)
