"""Weight matrices of a layer: their sizes, how tensor parallelism shards them, and which format they are stored in."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Shard = Literal["column", "row", "kv", "replicated"]
Part = Literal["attention", "mlp", "experts", "shared", "router", "embedding", "lm_head"]


@dataclass(frozen=True)
class Projection:
    """One weight matrix of `k` inputs by `n` outputs.

    Attributes:
        gemm: name of the GEMM that it runs in. Projections of one name are fused (Q, K and V read their input once).
        shard: how tensor parallelism splits it: `column` n/TP, `row` k/TP, `kv` n/min(TP, KV heads), `replicated` not.
        part: part of the model whose storage format applies.
        bias: whether a vector of `n` is added to the product.
    """

    gemm: str
    k: int
    n: int
    shard: Shard
    part: Part = "attention"
    bias: bool = False

    @property
    def parameters(self) -> int:
        """Weights and bias of the matrix."""
        return self.k * self.n + (self.n if self.bias else 0)
