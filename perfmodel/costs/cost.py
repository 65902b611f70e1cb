"""What an operator costs, and the protocol that every cost model keeps."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

from perfmodel.arrays import Array

if TYPE_CHECKING:
    from perfmodel.hardware import Hardware
from perfmodel.operators import Demand


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
