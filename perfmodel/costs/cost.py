"""What an operator costs, and the protocol that every cost model keeps."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from perfmodel.arrays import Array, Codes

if TYPE_CHECKING:
    from perfmodel.hardware import Hardware
from perfmodel.operators import Demand


@dataclass(frozen=True)
class Cost:
    """Price of one call of a demand: arrays that broadcast to the demand's shape.

    time: seconds per call; NaN where the model has none. basis: codes of `BASES`. spread: log half-width of the 80 %
    interval (a factor exp(+-spread) holds 80 % of held-out measurements of this family and basis). bound: what limits
    the call, codes of `BOUNDS` (0 compute, 1 memory, 2 link, 3 launch).
    """

    time: Array
    basis: Codes
    spread: Array
    bound: Codes


class CostModel(Protocol):
    """Anything that prices operators. A time of NaN means: this model has no price, ask the next one."""

    def cost(self, demand: Demand, hardware: Hardware) -> Cost:
        """Time of one call of `demand` on each row of `hardware`."""
        ...
