"""FirstKnown: asks cost models in order; each row is priced by the first that knows it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from perfmodel.costs.cost import Cost, CostModel
from perfmodel.costs.profiled import demand_shape, empty
from perfmodel.hardware import Hardware
from perfmodel.operators import Demand


@dataclass(frozen=True)
class Fallback:
    """Cost model made of others, best first. Basis, spread and bound are those of the model that answered."""

    models: tuple[CostModel, ...]

    def cost(self, demand: Demand, hardware: Hardware) -> Cost:
        """Time of one call on each row; NaN only where no model has an answer."""
        answer = empty(demand_shape(demand, hardware))
        missing = np.isnan(answer.time)
        for model in self.models:
            rows = np.asarray(missing.reshape(-1, len(hardware.index)).any(axis=0))
            if not rows.any():
                break
            part = model.cost(_narrow(demand, rows), hardware if rows.all() else hardware.take(np.flatnonzero(rows)))
            _merge(answer, part, rows)
            missing = np.isnan(answer.time)
        return answer


def _narrow(demand: Demand, rows: np.ndarray) -> Demand:
    """The demand of the candidates in `rows` (N,)."""
    if rows.all():
        return demand
    count = len(rows)

    def part(value: Any) -> Any:
        array = np.asarray(value)
        return value if array.ndim == 0 or array.shape[-1] != count else array[..., rows]

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


def _merge(answer: Cost, part: Cost, rows: np.ndarray) -> None:
    whole = answer.time.shape
    narrow = (*whole[:-1], int(rows.sum()))
    time = np.broadcast_to(part.time, narrow)
    fresh = np.isnan(answer.time[..., rows]) & ~np.isnan(time)
    for name in ("time", "basis", "spread", "bound"):
        old = getattr(answer, name)
        held = old[..., rows]
        held[fresh] = np.broadcast_to(getattr(part, name), narrow)[fresh]
        old[..., rows] = held
