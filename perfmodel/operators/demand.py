"""Define `Demand`: the work of one operator, which a cost model turns into a time."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field
from typing import Any

from perfmodel.arrays import Array, Index
from perfmodel.dtypes import COMPUTE_CODE


@dataclass(frozen=True)
class Demand:
    """Describe one operator of one step, as the busiest device of a replica executes it.

    Arrays are float64 and broadcast against (N,), the candidates; request classes, where present, lead: (C, N).

    name: the operator, as `explain` lists it. family: kernel family (`perfmodel.vocabulary.FAMILIES`).
    flop: floating-point operations per call. moved: bytes to and from device memory per call.
    count: calls per step. compute: compute-type codes (`perfmodel.dtypes.COMPUTE`).
    message: bytes that a collective is called with on each device (counted as in
    `perfmodel.costs.rooflines.collectives`); 0 for local operators.
    shape: the family's coordinates, as listed at `FAMILIES`, by which cost models look up tables.
    tag: what demands have in common whose costs depend on each other (an attention layer and the exchange of its keys
    between devices); None for the others.
    hosted: share of the operands (weights or KV cache) that lies in host memory. host_bytes: bytes of these operands
    that a call would read over the host link if all of them lay there (see `perfmodel.deployment.offload`).
    """

    name: str
    family: str
    flop: Array
    moved: Array
    count: Array
    compute: Index | int = COMPUTE_CODE["bf16"]
    message: Array | float = 0.0
    shape: Mapping[str, Any] = field(default_factory=dict)
    hosted: Array | float = 0.0
    host_bytes: Array | float = 0.0
    tag: Hashable = None
