"""Try several cost models in order; each row is priced by the first that has a price for it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from perfmodel.arrays import Mask
from perfmodel.costs.cost import Cost, CostModel
from perfmodel.costs.profiled import demand_shape, empty
from perfmodel.hardware import Hardware
from perfmodel.operators import Demand

Column = TypeVar("Column")


@dataclass(frozen=True)
class Fallback:
    """Cost model that tries others, best first. Basis, spread and bound are those of the model that priced the row."""

    models: tuple[CostModel, ...]

    def cost(self, demand: Demand, hardware: Hardware) -> Cost:
        """Return the time of one call on each row of `hardware`; NaN only where no model has a price."""
        total = empty(demand_shape(demand, hardware))
        missing = np.isnan(total.time)
        for model in self.models:
            rows = np.asarray(missing.reshape(-1, len(hardware.index)).any(axis=0))
            if not rows.any():
                break
            part = model.cost(narrowed(demand, rows), hardware if rows.all() else hardware.take(np.flatnonzero(rows)))
            merge(total, part, rows)
            missing = np.isnan(total.time)
        return total


def narrowed(demand: Demand, rows: Mask) -> Demand:
    """Return the demand of the candidates in `rows` (mask over the N candidates of `demand`)."""
    if rows.all():
        return demand
    count = len(rows)

    def part(value: Column) -> Column:
        """Return the candidates in `rows` of a value; a value that does not differ by candidate as it is."""
        array = np.asarray(value)
        return value if array.ndim == 0 or array.shape[-1] != count else array[..., rows]  # type: ignore[return-value]

    return Demand(
        name=demand.name,
        family=demand.family,
        flop=part(demand.flop),
        moved=part(demand.moved),
        count=part(demand.count),
        compute=part(demand.compute),
        message=part(demand.message),
        shape={key: part(value) for key, value in demand.shape.items()},
    )


def merge(total: Cost, part: Cost, rows: Mask) -> None:
    """Copy the prices in `part`, which holds the candidates in `rows` (mask, (N,)), into `total` where it has none."""
    whole = total.time.shape
    narrow = (*whole[:-1], int(rows.sum()))
    time = np.broadcast_to(part.time, narrow)
    fresh = np.isnan(total.time[..., rows]) & ~np.isnan(time)
    for name in ("time", "basis", "spread", "bound"):
        old = getattr(total, name)
        held = old[..., rows]
        held[fresh] = np.broadcast_to(getattr(part, name), narrow)[fresh]
        old[..., rows] = held
