"""List the GEMMs of a step: projections, dense MLPs, and the up-projections of MLA."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from functools import lru_cache

import numpy as np

from perfmodel import equations as eq
from perfmodel.arrays import Array
from perfmodel.deployment import Sharding
from perfmodel.dtypes import COMPUTE_BYTES, FORMAT_BYTES
from perfmodel.models import Mixer, Mlp, Projection
from perfmodel.operators.demand import Demand
from perfmodel.operators.step import Step, decode_tokens, on, prompt_tokens

#: Kinds of layers whose GEMMs are kept. Chosen: a table of cases has some hundreds.
_LAYERS_KEPT = 1024


def projections(
    sharding: Sharding, mixers: dict[Mixer, int], mlps: dict[Mlp, int], local: Array, step: Step
) -> Iterator[Demand]:
    """List the GEMMs of all layers: fused where they read the same input, with equal ones of different layers merged.

    mixers, mlps: how many layers have each. local: tokens of the busiest device, (C, N) or (N,).
    """
    merged: dict[tuple[str, str, tuple[tuple[Projection, int], ...]], int] = defaultdict(int)
    for mixer, count in mixers.items():
        for name, parts in _by_gemm(mixer, sharding.model.hidden).items():
            if name != "kv_up":
                merged[(name, parts[0].part, tuple((p, mixer.kv_heads) for p in parts))] += count
    for mlp, count in mlps.items():
        for name, parts in _by_gemm(mlp, sharding.model.hidden).items():
            merged[(name, parts[0].part, tuple((p, 1) for p in parts))] += count
    for (name, part, members), count in merged.items():
        m = np.maximum(local, 0.0)
        n, k = _sharded(sharding, members)
        yield gemm(sharding, name, part, m, n, k, on(local > 0, count))
    for mixer, count in mixers.items():
        if mixer.kind == "mla":
            yield from _latent(sharding, mixer, count, step)


@lru_cache(maxsize=_LAYERS_KEPT)
def _by_gemm(layer: Mixer | Mlp, hidden: int) -> dict[str, list[Projection]]:
    """Group the projections of a layer of width `hidden` by the fused GEMM that they are parts of."""
    groups: dict[str, list[Projection]] = defaultdict(list)
    for p in layer.projections(hidden):
        groups[p.gemm].append(p)
    return groups


def _sharded(sharding: Sharding, members: tuple[tuple[Projection, int], ...]) -> tuple[Array, Array]:
    """Return (n, k), the output and the summed dimension of a fused GEMM on one device, (N,) each.

    members: the matrices of the GEMM, each with the KV heads of its layer.
    """
    n: Array = np.zeros_like(sharding.tp)
    for p, kv_heads in members:
        n = n + np.ceil(p.n / sharding.output_split(p.shard, kv_heads))
    first = members[0][0]
    k = np.ceil(first.k / sharding.tp) if first.shard == "row" else np.full_like(sharding.tp, first.k)
    return n, k


def gemm(sharding: Sharding, name: str, part: str, m: Array, n: Array, k: Array, count: Array) -> Demand:
    """Describe one dense GEMM (m, k) x (k, n) in the number formats of `part`.

    m: rows; a device with any row at all computes at least one. count: calls per step.
    """
    m = np.where(m > 0, np.maximum(m, 1.0), m)
    weight, compute = sharding.weight(part, name), sharding.compute(part, name)
    return Demand(
        name=name,
        family="gemm",
        flop=eq.gemm_flop(m, n, k),
        moved=eq.gemm_bytes(m, n, k, act_bytes=COMPUTE_BYTES[compute], weight_bytes=FORMAT_BYTES[weight]),
        count=count,
        compute=compute,
        shape={"m": m, "n": n, "k": k, "weight": weight, "act": compute},
        hosted=0.0 if part == "lm_head" else sharding.hosted("weights"),
        host_bytes=n * k * FORMAT_BYTES[weight],
    )


def _latent(sharding: Sharding, mixer: Mixer, count: int, step: Step) -> Iterator[Demand]:
    """List the up-projections of MLA (DeepSeek-V2, arXiv:2405.04434, sec. 2.1).

    Prefill expands keys and values; decode absorbs them into per-head products.
    """
    prompt, decoded = prompt_tokens(sharding, step), decode_tokens(sharding, step)
    heads = np.ceil(mixer.heads / sharding.tp)
    width = heads * (mixer.head_dim - mixer.rope_dim + mixer.value_dim)
    rank = np.full_like(sharding.tp, mixer.kv_rank)
    yield gemm(sharding, "kv_up", "attention", prompt, width, rank, on(prompt > 0, count))
    # two kernels, one for queries and one for values; on average each takes half of the matrix
    half = width / 2.0
    weights = half * mixer.kv_rank * sharding.weight_bytes("attention", "kv_up")
    yield Demand(
        name="absorb",
        family="elementwise",
        flop=eq.gemm_flop(decoded, half, mixer.kv_rank),
        moved=weights + eq.elementwise_bytes(decoded, half + heads * mixer.kv_rank),
        count=on(decoded > 0, 2.0 * count),
        compute=sharding.compute("attention"),
        hosted=sharding.hosted("weights"),
        host_bytes=weights,
    )
