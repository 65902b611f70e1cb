"""Demands of token mixers: attention in its forms, latent and sparse attention, recurrent layers."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from perfmodel import equations as eq
from perfmodel.arrays import Array
from perfmodel.deployment import Sharding
from perfmodel.models import Mixer
from perfmodel.operators.demand import Demand
from perfmodel.operators.recurrent import recurrence
from perfmodel.operators.step import Step, on, prefill_shape


def mixing(sharding: Sharding, mixer: Mixer, count: int, step: Step) -> Iterator[Demand]:
    """Demands of `count` layers of a mixer, projections apart."""
    if mixer.recurrent:
        yield from recurrence(sharding, mixer, count, step)
        return
    if mixer.index_heads:
        yield from _indexer(sharding, mixer, count, step)
    if mixer.kind == "mla":
        yield from _mla(sharding, mixer, count, step)
    else:
        yield from _attention(sharding, mixer, count, step)


def _attention(sharding: Sharding, mixer: Mixer, count: int, step: Step) -> Iterator[Demand]:
    heads, kv_heads = (
        np.ceil(mixer.heads / sharding.tp),
        np.ceil(mixer.kv_heads / np.minimum(sharding.tp, mixer.kv_heads)),
    )
    sixteen = sharding.sixteen
    dims = mixer.head_dim + mixer.value_dim
    shape: dict[str, Any] = {
        "heads": heads,
        "kv_heads": kv_heads,
        "head_dim": float(mixer.head_dim),
        "kv_bytes": sharding.kv_bytes,
    }
    # one compressed entry serves all heads, as key and as value: kernels are those of latent attention
    kernels = "mla" if mixer.kind == "compressed" else "attention"
    batch, query, context, active = prefill_shape(sharding, step)
    pairs = _visible_pairs(mixer, query, context)
    seen = np.minimum(context + query, mixer.window + query)
    yield Demand(
        name=f"attention_prefill_{mixer.kind}",
        family=f"{kernels}_prefill",
        flop=batch * eq.attention_flop(pairs, heads, mixer.head_dim, mixer.value_dim),
        moved=batch * (query * heads * dims * 2.0 + seen * kv_heads * dims * sharding.kv_bytes),
        count=on(active, count),
        compute=sixteen,
        shape={"batch": batch, "query": query, "context": context, "window": mixer.window, **shape},
        hosted=sharding.hosted("kv"),
        host_bytes=batch * _crossing(query, seen) * kv_heads * dims * sharding.kv_bytes,
    )
    decoding = np.asarray(step.decode_seqs, float) / sharding.dp
    visible = mixer.attended(np.maximum(step.decode_context, 1.0)) / sharding.cp
    yield Demand(
        name=f"attention_decode_{mixer.kind}",
        family=f"{kernels}_decode",
        flop=decoding * eq.attention_flop(visible * step.decode_tokens, heads, mixer.head_dim, mixer.value_dim),
        moved=decoding * (visible * kv_heads * dims * sharding.kv_bytes + step.decode_tokens * heads * dims * 2.0),
        count=on(decoding > 0, count),
        compute=sixteen,
        shape={"batch": decoding, "context": visible, "window": mixer.window, **shape},
        hosted=sharding.hosted("kv"),
        host_bytes=decoding * visible * kv_heads * dims * sharding.kv_bytes,
    )


def _mla(sharding: Sharding, mixer: Mixer, count: int, step: Step) -> Iterator[Demand]:
    heads = np.ceil(mixer.heads / sharding.tp)
    latent = mixer.kv_rank + mixer.rope_dim
    sixteen = sharding.sixteen
    shape: dict[str, Any] = {"heads": heads, "kv_bytes": sharding.kv_bytes}
    batch, query, context, active = prefill_shape(sharding, step)
    pairs = _visible_pairs(mixer, query, context)
    yield Demand(
        name="mla_prefill",
        family="mla_prefill",
        flop=batch * eq.attention_flop(pairs, heads, mixer.head_dim, mixer.value_dim),
        moved=batch
        * (query * heads * (mixer.head_dim + mixer.value_dim) * 2.0 + (context + query) * latent * sharding.kv_bytes),
        count=on(active, count),
        compute=sixteen,
        shape={"batch": batch, "query": query, "context": context, **shape},
        hosted=sharding.hosted("kv"),
        host_bytes=batch * _crossing(query, context + query) * latent * sharding.kv_bytes,
    )
    decoding = np.asarray(step.decode_seqs, float) / sharding.dp
    visible = mixer.attended(np.maximum(step.decode_context, 1.0)) / sharding.cp
    yield Demand(
        name="mla_decode",
        family="mla_decode",
        flop=decoding * eq.attention_flop(visible * step.decode_tokens, heads, latent, mixer.kv_rank),
        moved=decoding
        * (visible * latent * sharding.kv_bytes + step.decode_tokens * heads * (latent + mixer.kv_rank) * 2.0),
        count=on(decoding > 0, count),
        compute=sixteen,
        shape={"batch": decoding, "context": visible, **shape},
        hosted=sharding.hosted("kv"),
        host_bytes=decoding * visible * latent * sharding.kv_bytes,
    )


def _crossing(query: Array, seen: Array) -> Array:
    """Cached tokens of a sequence that cross the link to the host one way or the other while it is full duplex: those
    read, before the new ones, or the new ones, written."""
    return np.maximum(seen - query, query)


def _visible_pairs(mixer: Mixer, query: Array, context: Array) -> Array:
    """Query-key pairs a prefill evaluates: all before it, a window, a chunk, or what an indexer picks.

    Compressed attention sees its window and one entry for each `compress` tokens (DeepSeek-V4).
    """
    if mixer.kind == "chunked":
        return eq.chunked_pairs(query, context, mixer.window)
    if mixer.kind == "compressed":
        near = eq.causal_pairs(query, context, mixer.window)
        if not mixer.compress:
            return near
        return near + eq.causal_pairs(query, context, mixer.index_topk * mixer.compress) / mixer.compress
    return eq.causal_pairs(query, context, min(mixer.window, mixer.index_topk))


def _indexer(sharding: Sharding, mixer: Mixer, count: int, step: Step) -> Iterator[Demand]:
    """Scores of a sparse-attention indexer: every head against every cached key, in fp8 (DeepSeek-V3.2-Exp report)."""
    batch, query, context, active = prefill_shape(sharding, step)
    decoding = np.asarray(step.decode_seqs, float) / sharding.dp
    ratio = max(mixer.compress, 1)
    length = np.asarray(step.decode_context, float) / sharding.cp / ratio
    pairs = batch * eq.causal_pairs(query, context) / ratio
    for name, pair_count, keys, present in (
        ("indexer_prefill", pairs, batch * (context + query) / ratio, active),
        ("indexer_decode", decoding * length, decoding * length, decoding > 0),
    ):
        yield Demand(
            name=name,
            family="elementwise",
            flop=2.0 * pair_count * mixer.index_heads * mixer.index_dim,
            moved=keys * mixer.index_dim + 4.0 * pair_count,
            count=on(present, count),
            compute=sharding.compute("attention"),
        )
