"""Price each distinct step once and copy the price to all candidates that run it.

Many candidates of a search differ only in limits (sequences, tokens) or loads that most of their steps do not depend
on. A million candidates of one model run a few thousand different steps.
"""

from __future__ import annotations

import numpy as np

from perfmodel.arrays import Array, Index, Mask, widened
from perfmodel.costs.cost import CostModel
from perfmodel.costs.step_costs.steps import Launches, StepCost, step_cost
from perfmodel.costs.step_costs.unique_rows import FEW, find_unique_rows, ordered
from perfmodel.deployment import Sharding
from perfmodel.hardware import Hardware
from perfmodel.operators import Step, step_shape

#: Shares in host memory that decide what a step costs, besides the columns of the sharding.
_HOSTED = ("weights", "experts", "kv")
#: Share of distinct steps above which all are priced. Chosen: pricing a step takes some thirty times as long as
#: gathering its cost.
_MOSTLY_DISTINCT = 0.97


def layout_columns(sharding: Sharding) -> list[Array | Mask | Index | float]:
    """Return the columns of the layout, (N,) or () each, that determine a step's cost with its device and tokens."""
    return [*sharding.columns.values(), *map(sharding.hosted, _HOSTED)]


def layouts(sharding: Sharding, hardware: Hardware) -> Index:
    """Return a number for the device and layout of each candidate, (N,): equal ones have equal numbers."""
    columns = [hardware.index, *layout_columns(sharding)]
    count = len(hardware.index)
    found = find_unique_rows([widened(np.asarray(c, float), (count,)) for c in columns])
    return np.arange(count) if found is None else found[1]


def distinct_cost(
    number: Index,
    sharding: Sharding,
    hardware: Hardware,
    costs: CostModel,
    step: Step,
    launches: Launches | None = None,
) -> StepCost:
    """Return the cost of a step as `step_cost` does; steps that are equal are priced once.

    number: (N,) of each candidate's device and layout, as `layouts` gives it.
    """
    shape = step_shape(step, sharding.tp)
    if np.prod(shape) < FEW:
        return step_cost(sharding, hardware, costs, step, launches)
    given = [np.asarray(c, float) for c in step.columns()]
    columns = [_flat(c, shape) for c in (number.astype(float), *given)]
    found = find_unique_rows(columns)
    if found is None or len(found[0]) > _MOSTLY_DISTINCT * len(found[1]):
        return step_cost(sharding, hardware, costs, step, launches)
    asked: list[Array | Index] = [sharding.asked, sharding.act, sharding.kv_bytes, hardware.index]
    first, which = ordered(*found, [column[found[0] % len(number)] for column in asked])
    candidate = first % len(number)
    fresh = Step(*(c[first] if v.ndim else v for v, c in zip(given, columns[1:], strict=True)))
    priced = step_cost(sharding.take(candidate), hardware.take(candidate), costs, fresh, launches)
    return priced.gathered(which, shape)


def _flat(column: Array, shape: tuple[int, ...]) -> Array:
    """Return a column broadcast to `shape` and flattened; one number stays a view of it."""
    if column.ndim == 0:
        return np.broadcast_to(column, (int(np.prod(shape)),))
    return widened(column, shape).reshape(-1)
