"""What an operator asks of the hardware, and what a cost model answers. The contract between the two.

Arrays are float64 and broadcast against (N,), the candidate axis; request classes, where present, lead: (C, N).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from perfmodel.hardware.columns import Hardware

Array = NDArray[np.float64]
Mask = NDArray[np.bool_]

#: Operator families. A cost model keeps its tables, efficiencies and residuals by family.
FAMILIES = (
    "gemm",  # shape: m, n, k, weight (format code), act (compute code)
    "grouped_gemm",  # shape: tokens, hidden, inter, experts, top_k, ep, tp, weight, act (one MoE layer on one device)
    "attention_prefill",  # shape: batch, query, context, heads, kv_heads, head_dim, window, kv_bytes
    "attention_decode",  # shape: batch, context, heads, kv_heads, head_dim, window, kv_bytes
    "mla_prefill",  # shape: batch, query, context, heads, kv_bytes
    "mla_decode",  # shape: batch, context, heads, kv_bytes
    "recurrent_prefill",  # shape: batch, query, heads, key_dim, value_dim
    "recurrent_decode",  # shape: batch, heads, key_dim, value_dim
    "elementwise",  # moved bytes only
    "all_reduce",  # shape: group
    "all_gather",
    "reduce_scatter",
    "all_to_all",
    "p2p",
)

#: What an estimate rests on, best first. A sum is as good as its worst significant term.
BASES = ("measured", "interpolated", "extrapolated", "calibrated", "roofline", "unknown")
BASIS_CODE = {name: code for code, name in enumerate(BASES)}


@dataclass(frozen=True)
class Demand:
    """One operator of one step, as asked of one device.

    flop: floating-point operations a call; moved: bytes to and from device memory a call; message: bytes the
    collective is called with on each device (0 for local operators; see `perfmodel.costs.collectives` for the convention);
    count: calls a step; compute: compute-type code (`perfmodel.dtypes.COMPUTE`) of each candidate.
    hosted: share of the work whose operands lie in host memory; host_bytes: bytes a call reads of those operands, were
    all of them there (see `perfmodel.deployment.offload`).
    shape: the family's own coordinates, as listed at `FAMILIES`, for cost models that look up tables.
    """

    name: str
    family: str
    flop: Array
    moved: Array
    count: Array
    compute: NDArray[np.intp] | int = 2
    message: Array | float = 0.0
    shape: Mapping[str, Any] = field(default_factory=dict)
    hosted: Array | float = 0.0
    host_bytes: Array | float = 0.0


@dataclass(frozen=True)
class Cost:
    """Answer to a demand, a call: arrays that broadcast to the demand's shape.

    time: seconds; NaN where this model has no answer. basis: codes of `BASES`. spread: relative half-width of the 80 %
    interval in log space (a factor exp(+-spread) holds 80 % of held-out measurements of this family and basis).
    bound: 0 compute, 1 memory, 2 link, 3 launch. peak_share: achieved share of the binding peak.
    """

    time: Array
    basis: NDArray[np.int8]
    spread: Array
    bound: NDArray[np.int8]


class CostModel(Protocol):
    """Anything that prices operators. NaN time means: not mine, ask the next model."""

    def cost(self, demand: Demand, hardware: Hardware) -> Cost:
        """Time of one call of `demand` on each row of `hardware`."""
        ...
