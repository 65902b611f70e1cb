"""What low-rank adapters hold and cost: sites, bytes, and the demands of a pass.

An adapter adds x A B to the product x W of each matrix it targets; A is (k, rank), B is (rank, n). Engines compute the
additions of a whole batch, adapters mixed, in two grouped kernels a site: shrink and expand (Punica, arXiv:2310.18547,
sec. 4; vLLM's lora_shrink and lora_expand). Tensor parallelism cuts B of column-parallel matrices and A of row-parallel
ones and copies the other of the two, as vLLM does by default.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from perfmodel.arrays import Array
from perfmodel.deployment.sharding import Sharding
from perfmodel.models import Adapters, adaptable, slices

#: Bytes of a value of A and B, and of the intermediate between the two kernels (16 and 32 bit).
VALUE_BYTES, INTERMEDIATE_BYTES = 2.0, 4.0


class Site(NamedTuple):
    """A GEMM that carries adapters: calls a pass, inputs of A, outputs of all its B together (one device's share),
    matrices side by side."""

    name: str
    layers: int
    inputs: Array
    outputs: Array
    slices: int


def sites(sharding: Sharding, adapters: Adapters) -> Iterator[Site]:
    """Every GEMM of the model that carries adapters, by layer kind."""
    for block in sharding.model.blocks:
        projections = adaptable(sharding.model, block)
        for name in dict.fromkeys(p.gemm for p, _ in projections):
            parts = [
                (p, heads, n) for p, heads in projections if p.gemm == name for n in slices(p, block.mlp, adapters)
            ]
            if parts:
                outputs = sum((n / _cut(sharding, p.shard, heads) for p, heads, n in parts), np.zeros_like(sharding.tp))
                first = parts[0][0]
                inputs = first.k / (sharding.tp if first.shard == "row" else np.ones_like(sharding.tp))
                yield Site(name, block.count, inputs, outputs, len(parts))


def _cut(sharding: Sharding, shard: str, kv_heads: int) -> Array:
    """Devices that split the outputs of a matrix."""
    ones = np.ones_like(sharding.tp)
    return {"column": sharding.tp, "kv": np.minimum(sharding.tp, kv_heads)}.get(shard, ones)


def adapter_bytes(sharding: Sharding) -> Array:
    """Bytes of one adapter on the fullest device. (N,)"""
    if sharding.adapters is None:
        return np.zeros_like(sharding.tp)
    rank = sharding.adapters.rank
    total = sum(
        (s.layers * rank * (s.slices * s.inputs + s.outputs) * VALUE_BYTES for s in sites(sharding, sharding.adapters)),
        np.zeros_like(sharding.tp),
    )
    return total * np.ceil(sharding.model.layers / sharding.pp) / sharding.model.layers
