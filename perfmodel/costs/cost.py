"""Defines the cost of an operator, and the protocol that every cost model implements."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple, Protocol

import numpy as np

from perfmodel.arrays import Array, Codes, Index, different_codes

if TYPE_CHECKING:
    from hwdb import Device
    from perfmodel.hardware import Hardware
from perfmodel.operators import Demand


@dataclass(frozen=True)
class Cost:
    """Holds the time of one call of a demand (work of one operator), as arrays that broadcast to the demand's shape.

    time: seconds per call; NaN where the model has none. basis: kind of source, codes of `BASES`. spread: log
    half-width of the 80 % interval (a factor exp(+-spread) holds 80 % of held-out measurements of this family and
    basis). bound: what limits the call, codes of `BOUNDS` (0 compute, 1 memory, 2 link, 3 launch).
    """

    time: Array
    basis: Codes
    spread: Array
    bound: Codes


class CostModel(Protocol):
    """Gives the time of operators. A time of NaN means that this model cannot price the row: ask the next model."""

    def cost(self, demand: Demand, hardware: Hardware) -> Cost:
        """Return the time of one call of `demand` on each row of `hardware` (one row per candidate deployment)."""
        ...


class Served(NamedTuple):
    """Say which architecture the model of each row has: the names, and the number of that of each row, (N,)."""

    architectures: tuple[str, ...]
    which: Index

    def on(self, hardware: Hardware) -> tuple[list[tuple[str, Device]], Index]:
        """Return the different pairs of an architecture and a device, and the number of the pair of each row, (N,)."""
        count = len(hardware.devices)
        pairs, which = different_codes(self.which * count + hardware.index)
        numbers = (divmod(pair, count) for pair in pairs.tolist())
        return [(self.architectures[name], hardware.devices[place]) for name, place in numbers], which


def all_of(architecture: str, hardware: Hardware) -> Served:
    """Return that the models of all rows of `hardware` have one architecture."""
    return Served((architecture,), np.zeros_like(hardware.index))


@dataclass(frozen=True)
class Adjusted:
    """Base of cost models that change the prices of `model`, of each row by itself."""

    model: CostModel

    def over(self, inner: Cost, demand: Demand, hardware: Hardware, served: Served | None = None) -> Cost:
        """Return the cost of `demand` on each row of `hardware`; inner: the same by `model`.

        served: the architecture of each row; None: of all rows that of this cost model (`for_architecture`).
        """
        raise NotImplementedError

    @property
    def has_levels(self) -> bool:
        """Whether prices depend on the architecture of the model."""
        return isinstance(self.model, Adjusted) and self.model.has_levels

    def for_architecture(self, name: str) -> Adjusted:
        """Return the same for a model of an architecture."""
        inner = self.model
        return replace(self, model=inner.for_architecture(name)) if isinstance(inner, Adjusted) else self

    def cost(self, demand: Demand, hardware: Hardware) -> Cost:
        """Return the time of one call on each row of `hardware`."""
        return self.over(self.model.cost(demand, hardware), demand, hardware)
