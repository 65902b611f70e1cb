"""Find the GEMMs that carry low-rank adapters (LoRA), and count the adapters' bytes on a device.

An adapter adds x A B to the product x W of each matrix that it targets; A is (k, rank), B is (rank, n). Engines compute
the additions of a whole batch, adapters mixed, in two grouped kernels per GEMM: shrink and expand (Punica,
arXiv:2310.18547, sec. 4; vLLM's lora_shrink and lora_expand). Tensor parallelism splits B of column-parallel matrices
and A of row-parallel ones and copies the other of the two, as vLLM does by default.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from perfmodel.arrays import Array
from perfmodel.deployment.sharding import Sharding
from perfmodel.equations import SIXTEEN_BIT
from perfmodel.models import Adapters, adaptable, slices

#: Bytes per value of A and B (16 bit), and of the intermediate between the two kernels (32 bit): vLLM's LoRA kernels.
VALUE_BYTES, INTERMEDIATE_BYTES = SIXTEEN_BIT, 4.0


class Site(NamedTuple):
    """Describe a GEMM that carries adapters.

    layers: calls per step. inputs: width of the input of A. outputs: width of the outputs of all its B together; both
    are one device's share, (N,). slices: target matrices that are fused in the GEMM.
    """

    name: str
    layers: int
    inputs: Array
    outputs: Array
    slices: int


def sites(sharding: Sharding, adapters: Adapters) -> Iterator[Site]:
    """List every GEMM of the model that carries adapters, one per kind of layer."""
    for block in sharding.model.blocks:
        projections = adaptable(sharding.model, block)
        for name in dict.fromkeys(p.gemm for p, _ in projections):
            parts = [
                (p, heads, n) for p, heads in projections if p.gemm == name for n in slices(p, block.mlp, adapters)
            ]
            if parts:
                split = (n / sharding.output_split(p.shard, heads) for p, heads, n in parts)
                outputs = sum(split, np.zeros_like(sharding.tp))
                first = parts[0][0]
                inputs = first.k / (sharding.tp if first.shard == "row" else np.ones_like(sharding.tp))
                yield Site(name=name, layers=block.count, inputs=inputs, outputs=outputs, slices=len(parts))


def adapter_bytes(sharding: Sharding) -> Array:
    """Return the bytes of one adapter on the fullest device. (N,)"""
    if sharding.adapters is None:
        return np.zeros_like(sharding.tp)
    rank = sharding.adapters.rank
    total = sum(
        (s.layers * rank * (s.slices * s.inputs + s.outputs) * VALUE_BYTES for s in sites(sharding, sharding.adapters)),
        np.zeros_like(sharding.tp),
    )
    return total * np.ceil(sharding.model.layers / sharding.pp) / sharding.model.layers
