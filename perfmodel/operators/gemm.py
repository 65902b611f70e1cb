"""Demands of GEMMs."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

import numpy as np

from perfmodel import equations as eq
from perfmodel.arrays import Array
from perfmodel.deployment import Sharding
from perfmodel.dtypes import COMPUTE_BYTES, FORMAT_BYTES
from perfmodel.models import Mixer, Mlp, Projection
from perfmodel.operators.demand import Demand
from perfmodel.operators.step import Step, on, prompt_tokens


def projections(
    sharding: Sharding, mixers: dict[Mixer, int], mlps: dict[Mlp, int], local: Array, step: Step
) -> Iterator[Demand]:
    """GEMMs of all layers, fused where they read the same input, equal ones merged across kinds of layer."""
    merged: dict[tuple[str, str, tuple[tuple[Projection, int], ...]], int] = defaultdict(int)
    for mixer, count in mixers.items():
        for name, parts in _by_gemm(mixer.projections(sharding.model.hidden)).items():
            if name != "kv_up":
                merged[(name, parts[0].part, tuple((p, mixer.kv_heads) for p in parts))] += count
    for mlp, count in mlps.items():
        for name, parts in _by_gemm(mlp.projections(sharding.model.hidden)).items():
            merged[(name, parts[0].part, tuple((p, 1) for p in parts))] += count
    for (name, part, members), count in merged.items():
        m = np.maximum(local, 0.0)
        n, k = _sharded(sharding, members)
        yield gemm(sharding, name, part, m, n, k, on(local > 0, count))
    for mixer, count in mixers.items():
        if mixer.kind == "mla":
            yield from _latent(sharding, mixer, count, step)


def _by_gemm(projections: tuple[Projection, ...]) -> dict[str, list[Projection]]:
    groups: dict[str, list[Projection]] = defaultdict(list)
    for p in projections:
        groups[p.gemm].append(p)
    return groups


def _sharded(sharding: Sharding, members: tuple[tuple[Projection, int], ...]) -> tuple[Array, Array]:
    """(n, k) of a fused GEMM on one device."""
    n: Array = np.zeros_like(sharding.tp)
    for p, kv_heads in members:
        cut = {"column": sharding.tp, "kv": np.minimum(sharding.tp, kv_heads)}.get(p.shard)
        n = n + (p.n if cut is None else np.ceil(p.n / cut))
    first = members[0][0]
    k = np.ceil(first.k / sharding.tp) if first.shard == "row" else np.full_like(sharding.tp, first.k)
    return n, k


def gemm(sharding: Sharding, name: str, part: str, m: Array, n: Array, k: Array, count: Array) -> Demand:
    """Demand of one dense GEMM in the precision of `part`; a rank that takes part has a row at least."""
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
    """MLA's up-projections: prefill expands keys and values; decode absorbs them into per-head products
    (DeepSeek-V2, arXiv:2405.04434, sec. 2.1)."""
    prompt = prompt_tokens(sharding, step)
    answers = np.multiply(step.decode_seqs, step.decode_tokens) / sharding.dp
    heads = np.ceil(mixer.heads / sharding.tp)
    width = heads * (mixer.head_dim - mixer.rope_dim + mixer.value_dim)
    expand = gemm(
        sharding, "kv_up", "attention", prompt, width, np.full_like(sharding.tp, mixer.kv_rank), on(prompt > 0, count)
    )
    yield expand
    # two kernels, one for queries and one for values; each takes half of the matrix in the mean
    weights = width / 2.0 * mixer.kv_rank * sharding.weight_bytes("attention", "kv_up")
    yield Demand(
        name="absorb",
        family="elementwise",
        flop=eq.gemm_flop(answers, width / 2.0, mixer.kv_rank),
        moved=weights + answers * (width / 2.0 + heads * mixer.kv_rank) * 2.0,
        count=on(answers > 0, 2.0 * count),
        compute=sharding.compute("attention"),
        hosted=sharding.hosted("weights"),
        host_bytes=weights,
    )
