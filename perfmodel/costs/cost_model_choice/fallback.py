"""Try several cost models in order; each row is priced by the first that has a price for it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from perfmodel.arrays import Index, Mask, as_slice
from perfmodel.costs.cost import Cost, CostModel
from perfmodel.costs.measured_tables.profiled import demand_shape, empty
from perfmodel.hardware import Hardware
from perfmodel.operators import Demand
from perfmodel.vocabulary import BASIS_CODE

Column = TypeVar("Column")


@dataclass(frozen=True)
class Fallback:
    """Cost model that tries others, best first. Basis, spread and bound are those of the model that priced the row."""

    models: tuple[CostModel, ...]

    def cost(self, demand: Demand, hardware: Hardware) -> Cost:
        """Return the time of one call on each row of `hardware`; NaN only where no model has a price."""
        shape, total = demand_shape(demand, hardware), None
        for model in self.models:
            if total is None:
                total = _whole(model.cost(demand, hardware), shape)
                continue
            missing = np.isnan(total.time)
            if not missing.any():
                break
            rows = np.asarray(missing.reshape(-1, len(hardware.index)).any(axis=0))
            part = model.cost(narrowed(demand, rows), hardware if rows.all() else hardware.take(as_slice(rows)))
            merge(total, part, rows)
        return empty(shape) if total is None else total


@dataclass(frozen=True)
class OnProcessors:
    """Cost model that tries the kernels that engines of `family` have of their own on CPUs, and takes `model` else."""

    family: str
    model: CostModel

    def cost(self, demand: Demand, hardware: Hardware) -> Cost:
        """Return the time of one call on each row of `hardware`; NaN only where neither has a price."""
        if all(device.kind != "cpu" for device in hardware.devices):
            return self.model.cost(demand, hardware)
        from perfmodel.costs.engine_effects.engine_kernels import EngineKernels, kinds_with_kernels

        own = (EngineKernels(self.family),) if "cpu" in kinds_with_kernels(self.family) else ()
        return Fallback((*own, self.model)).cost(demand, hardware)


def _whole(cost: Cost, shape: tuple[int, ...]) -> Cost | None:
    """Return the prices of a model in arrays of `shape`; None where it has no price at all.

    They are the model's own where no row is left to fill in: a model may keep what it returns for its next call.
    """
    missing = np.isnan(cost.time)
    if missing.all():
        return None
    parts = (cost.time, cost.basis, cost.spread, cost.bound)
    if not missing.any() and all(part.shape == shape for part in parts):
        return cost
    total = empty(shape)
    for name in ("time", "basis", "spread", "bound"):
        getattr(total, name)[...] = getattr(cost, name)
    if missing.any():
        unpriced = np.broadcast_to(missing, shape)
        total.basis[unpriced], total.spread[unpriced], total.bound[unpriced] = BASIS_CODE["unknown"], np.nan, 0
    return total


def narrowed(demand: Demand, rows: Mask) -> Demand:
    """Return the demand of the candidates in `rows` (mask over the N candidates of `demand`)."""
    return demand if rows.all() else taken(demand, as_slice(rows), len(rows))


def taken(demand: Demand, some: Mask | Index | slice, count: int) -> Demand:
    """Return the demand of some of its `count` candidates, without what no cost model reads."""

    def part(value: Column) -> Column:
        """Return the candidates in `rows` of a value; a value that does not differ by candidate as it is."""
        array = np.asarray(value)
        return value if array.ndim == 0 or array.shape[-1] != count else array[..., some]  # type: ignore[return-value]

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
    target = (..., as_slice(rows))
    held = total.time[target]
    fresh = np.isnan(held) & ~np.isnan(part.time)
    every = bool(fresh.all())
    for name in ("time", "basis", "spread", "bound"):
        old, new = getattr(total, name), getattr(part, name)
        old[target] = new if every else np.where(fresh, new, old[target])
