"""List the work of attention kernels: full, windowed, chunked, compressed, latent (MLA), over picked entries.

Recurrent mixers are in `perfmodel.operators.recurrent`, what picks entries in `perfmodel.operators.sparse_selection`.
Sizes are those of one device: query heads are split by TP; KV heads by at most their number (copies beyond it); the
latent of MLA is held whole by every device; context parallelism (cp) splits the positions.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from perfmodel import equations as eq
from perfmodel.arrays import Array, Mask
from perfmodel.deployment import Sharding
from perfmodel.models import Mixer
from perfmodel.operators.demand import Demand
from perfmodel.operators.recurrent import recurrence
from perfmodel.operators.sparse_selection import index_kernels
from perfmodel.operators.step import Step, decode_seqs, on, prefill_shape
from perfmodel.vocabulary import PICKED_PREFILL

#: Query heads that a kernel of attention over picked entries works on at least; fewer are padded. Source: FlashMLA
#: (deepseek-ai/FlashMLA README, sparse kernels: 64 or 128 heads), and vLLM and SGLang, which pad for it (2026).
HEAD_TILE = 64.0
#: Share of the picked entries that a prefill reads from memory; other tokens of the tile have just read the rest.
#: Measured: aiconfigurator-core 0.12.0 (glm5_dsa_attn_module): 8,192 tokens over 2,048 entries of 1,152 bytes take
#: 4.0 ms on B200 and on H200, 4.8 TB/s, which is all that an H200 has.
GATHERED = 0.8


def mixing(sharding: Sharding, mixer: Mixer, count: int, step: Step) -> Iterator[Demand]:
    """List the demands of `count` layers of a token mixer; its projections are GEMMs (`perfmodel.operators.gemm`)."""
    if mixer.recurrent:
        yield from recurrence(sharding, mixer, count, step)
        return
    yield from index_kernels(sharding, mixer, count, step)
    if mixer.kind == "mla":
        yield _mla_prefill(sharding, mixer, count, step)
        if np.isfinite(mixer.index_topk):
            yield _picked_prefill(sharding, mixer, count, step)
        yield _mla_decode(sharding, mixer, count, step)
    elif mixer.kind == "compressed":
        yield _picked_prefill(sharding, mixer, count, step)
        yield _decode(sharding, mixer, count, step)
    else:
        yield _prefill(sharding, mixer, count, step)
        yield _decode(sharding, mixer, count, step)


def _kernels(mixer: Mixer) -> str:
    """Return the kernel family of a mixer.

    In compressed attention one entry serves all heads, as key and as value, so its kernels are those of latent
    attention.
    """
    return "mla" if mixer.kind == "compressed" else "attention"


def heads_of(mixer: Mixer, ways: Array) -> tuple[Array, Array]:
    """Return (query heads, KV heads) of one of the `ways` devices that split them, (N,) each."""
    return np.ceil(mixer.heads / ways), np.ceil(mixer.kv_heads / np.minimum(ways, mixer.kv_heads))


def _shape(sharding: Sharding, mixer: Mixer, ways: Array) -> dict[str, Any]:
    """Return the table coordinates that prefill and decode attention have in common; ways: devices that split heads."""
    heads, kv_heads = heads_of(mixer, ways)
    sizes = {"heads": heads, "kv_heads": kv_heads, "head_dim": float(mixer.head_dim)}
    return {"window": mixer.window, **sizes, "kv_bytes": sharding.kv_bytes}


def _prefill(sharding: Sharding, mixer: Mixer, count: int, step: Step) -> Demand:
    """Describe the prefill kernel of `count` attention layers (not MLA)."""
    (heads, kv_heads), width = heads_of(mixer, sharding.tp), mixer.head_dim + mixer.value_dim
    batch, query, context, active = prefill_shape(sharding, step)
    pairs = _visible_pairs(mixer, query, context)
    seen = eq.keys_read(query, context, mixer.window)
    return Demand(
        name=f"attention_prefill_{mixer.kind}",
        family="attention_prefill",
        flop=batch * eq.attention_flop(pairs, heads, mixer.head_dim, mixer.value_dim),
        moved=eq.attention_bytes(batch, query, seen, heads, kv_heads, width, sharding.kv_bytes),
        count=on(active, count),
        compute=sharding.sixteen,
        shape={"batch": batch, "query": query, "context": context, **_shape(sharding, mixer, sharding.tp)},
        hosted=sharding.hosted("kv"),
        host_bytes=batch * _crossing(query, seen) * kv_heads * width * sharding.kv_bytes,
        tag=mixer,
    )


def _decode(sharding: Sharding, mixer: Mixer, count: int, step: Step) -> Demand:
    """Describe the decode kernel of `count` attention layers (not MLA)."""
    (heads, kv_heads), width = heads_of(mixer, sharding.attention_tp), mixer.head_dim + mixer.value_dim
    seqs, visible = decode_seqs(sharding, step), _attended(sharding, mixer, step)
    return Demand(
        name=f"attention_decode_{mixer.kind}",
        family=f"{_kernels(mixer)}_decode",
        flop=seqs * eq.attention_flop(visible * step.decode_tokens, heads, mixer.head_dim, mixer.value_dim),
        moved=eq.attention_bytes(seqs, step.decode_tokens, visible, heads, kv_heads, width, sharding.kv_bytes),
        count=on(seqs > 0, count),
        compute=sharding.sixteen,
        shape={"batch": seqs, "context": visible, **_shape(sharding, mixer, sharding.attention_tp)},
        hosted=sharding.hosted("kv"),
        host_bytes=seqs * visible * kv_heads * width * sharding.kv_bytes,
    )


def _sizes(mixer: Mixer) -> eq.MlaSizes:
    """Return the sizes of the latent attention of `mixer`."""
    return eq.MlaSizes(mixer.head_dim, mixer.value_dim, mixer.kv_rank, mixer.rope_dim)


def _mla_prefill(sharding: Sharding, mixer: Mixer, count: int, step: Step) -> Demand:
    """Describe the prefill kernel of `count` layers of latent attention (MLA), on expanded heads."""
    heads, sizes = heads_of(mixer, sharding.tp)[0], _sizes(mixer)
    batch, query, context, active = prefill_shape(sharding, step)
    pairs, seen = _visible_pairs(mixer, query, context), context + query
    active &= ~_picks(mixer, seen)
    return Demand(
        name="mla_prefill",
        family="mla_prefill",
        flop=batch * eq.attention_flop(pairs, heads, mixer.head_dim, mixer.value_dim),
        moved=eq.mla_prefill_bytes(batch, query, seen, heads, sizes, sharding.kv_bytes),
        count=on(active, count),
        compute=sharding.sixteen,
        shape={"batch": batch, "query": query, "context": context, "heads": heads, "kv_bytes": sharding.kv_bytes},
        hosted=sharding.hosted("kv"),
        host_bytes=batch * _crossing(query, seen) * sizes.latent * sharding.kv_bytes,
        tag=mixer,
    )


def _picks(mixer: Mixer, seen: Array) -> Mask:
    """Return whether prompts of `seen` tokens run over picked entries: where an indexer leaves some out.

    Shorter prompts run as if there were no indexer (vLLM, SGLang and TensorRT-LLM of 2026).
    """
    return seen > mixer.index_topk


def _picked_prefill(sharding: Sharding, mixer: Mixer, count: int, step: Step) -> Demand:
    """Describe the prefill kernel of layers whose tokens see entries of their own: picked ones, or compressed ones.

    Each token reads its entries, which serve all heads as keys and values, so a latent cache is used in absorbed form.
    """
    heads = np.ceil(heads_of(mixer, sharding.tp)[0] / HEAD_TILE) * HEAD_TILE
    batch, query, context, active = prefill_shape(sharding, step)
    latent, rank = (mixer.kv_rank + mixer.rope_dim, mixer.kv_rank) if mixer.kind == "mla" else (mixer.head_dim,) * 2
    pairs = _visible_pairs(mixer, query, context)
    rows = query * heads * (latent + rank) * eq.SIXTEEN_BIT
    if mixer.kind == "mla":
        active &= _picks(mixer, context + query)
    return Demand(
        name=f"{mixer.kind}_picked_prefill",
        family=PICKED_PREFILL,
        flop=batch * eq.attention_flop(pairs, heads, latent, rank),
        moved=batch * (GATHERED * pairs * latent * sharding.kv_bytes + rows),
        count=on(active, count),
        compute=sharding.sixteen,
        hosted=sharding.hosted("kv"),
        host_bytes=batch * _crossing(query, context + query) * latent * sharding.kv_bytes,
        tag=mixer,
    )


def _mla_decode(sharding: Sharding, mixer: Mixer, count: int, step: Step) -> Demand:
    """Describe the decode kernel of `count` layers of latent attention (MLA), in its absorbed form."""
    heads, sizes = heads_of(mixer, sharding.attention_tp)[0], _sizes(mixer)
    seqs, visible = decode_seqs(sharding, step), _attended(sharding, mixer, step)
    return Demand(
        name="mla_decode",
        family="mla_decode",
        flop=seqs * eq.mla_flop(visible * step.decode_tokens, heads, sizes),
        moved=eq.mla_bytes(seqs, step.decode_tokens, visible, heads, sizes, sharding.kv_bytes),
        count=on(seqs > 0, count),
        compute=sharding.sixteen,
        shape={"batch": seqs, "context": visible, "heads": heads, "kv_bytes": sharding.kv_bytes},
        hosted=sharding.hosted("kv"),
        host_bytes=seqs * visible * sizes.latent * sharding.kv_bytes,
    )


def _attended(sharding: Sharding, mixer: Mixer, step: Step) -> Array:
    """Return the cache entries that one device reads per decoding sequence, (N,) or (C, N)."""
    return mixer.attended(np.maximum(step.decode_context, 1.0)) / (sharding.cp * sharding.kvp)


def _crossing(query: Array, seen: Array) -> Array:
    """Return the positions per sequence whose cache crosses the host link in the busier direction.

    query: new tokens per sequence. seen: positions read per sequence. The link is full duplex: it reads the cached
    positions and writes the new ones at once.
    """
    return np.maximum(seen - query, query)


def _visible_pairs(mixer: Mixer, query: Array, context: Array) -> Array:
    """Count the query-key pairs per head of a prefill: `query` new tokens per sequence after `context` cached ones.

    A token sees all before it, its window, its chunk, or what an indexer picks. Compressed attention sees its window
    and one entry per `compress` tokens (DeepSeek-V4).
    """
    if mixer.kind == "chunked":
        return eq.chunked_pairs(query, context, mixer.window)
    if mixer.kind == "compressed":
        near = eq.causal_pairs(query, context, mixer.window)
        if not mixer.compress:
            return near
        return near + eq.causal_pairs(query, context, mixer.index_topk * mixer.compress) / mixer.compress
    return eq.causal_pairs(query, context, min(mixer.window, mixer.index_topk))
