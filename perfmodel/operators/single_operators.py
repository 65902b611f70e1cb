"""Describe single operators by their sizes, without a model: one GEMM, one attention kernel, one all-reduce."""

from __future__ import annotations

import numpy as np

from perfmodel import equations as eq
from perfmodel.arrays import Array
from perfmodel.dtypes import COMPUTE_BYTES, COMPUTE_CODE, FORMAT_BYTES, FORMAT_CODE, FORMAT_COMPUTE, storage
from perfmodel.equations import SIXTEEN_BIT
from perfmodel.operators.communication import collective
from perfmodel.operators.demand import Demand


def gemm_alone(m: Array, n: Array, k: Array, dtype: str) -> Demand:
    """Describe GEMMs (m, k) x (k, n), (N,), once each.

    dtype: storage format of the weights; operands have the type that it is multiplied in, 16 bits for weight-only
    formats. Raises `UnknownName`.
    """
    weight = FORMAT_CODE[storage(dtype).name]
    compute = int(FORMAT_COMPUTE[weight]) if FORMAT_COMPUTE[weight] >= 0 else COMPUTE_CODE["bf16"]
    wide = float(COMPUTE_BYTES[compute])
    moved = eq.gemm_bytes(
        m, n, k, act_bytes=wide, weight_bytes=float(FORMAT_BYTES[weight]), out_bytes=max(wide, SIXTEEN_BIT)
    )
    codes = (np.full(np.shape(m), weight, np.intp), np.full(np.shape(m), compute, np.intp))
    return Demand(
        name="gemm",
        family="gemm",
        flop=eq.gemm_flop(m, n, k),
        moved=moved,
        count=np.ones(np.shape(m)),
        compute=codes[1],
        shape={"m": m, "n": n, "k": k, "weight": codes[0], "act": codes[1]},
    )


def attention_alone(batch: Array, query: Array, context: Array, heads: tuple[int, int, int], kv: str) -> Demand:
    """Describe causal attention kernels of one device, (N,): decode where `query` is 1, prefill elsewhere.

    Args:
        batch: sequences. query: new tokens of each. context: tokens of each in the KV cache before them.
        heads: (query heads, KV heads, width of a head).
        kv: storage format of the KV cache. Raises `UnknownName`.
    """
    n_heads, kv_heads, width = heads
    decode, kv_bytes = bool(np.all(query == 1)), np.full(np.shape(batch), storage(kv).bytes)
    seen = context if decode else eq.keys_read(query, context)
    pairs = context * query if decode else eq.causal_pairs(query, context)
    sizes = {"heads": np.full(np.shape(batch), float(n_heads)), "kv_heads": np.full(np.shape(batch), float(kv_heads))}
    shape = {"batch": batch, "context": context, "window": np.inf, **sizes, "head_dim": float(width)}
    return Demand(
        name="attention_decode" if decode else "attention_prefill",
        family="attention_decode" if decode else "attention_prefill",
        flop=batch * eq.attention_flop(pairs, n_heads, width, width),
        moved=eq.attention_bytes(batch, query, seen, n_heads, kv_heads, 2 * width, kv_bytes),
        count=np.ones(np.shape(batch)),
        compute=np.full(np.shape(batch), COMPUTE_CODE["bf16"], np.intp),
        shape={**shape, "kv_bytes": kv_bytes, **({} if decode else {"query": query})},
    )


def all_reduce_alone(message: Array, group: Array) -> Demand:
    """Describe all-reduces of `message` bytes, held by each of `group` devices, (N,)."""
    return collective("all_reduce", "all_reduce", message, group, np.ones(np.shape(message)))
