"""Price steps once and then factor their times again: fits change host constants and kernel factors, not kernels.

The times of kernels follow from the factors as in `perfmodel.costs.EngineFactors`, so a fit sees what predictions will
be.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, fields, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from perfmodel.arrays import Array, Index
from perfmodel.costs import Calls, Cost, CostModel, StepCost, all_of, calls_of, factored, kernel, priced, summed
from perfmodel.engines import Engine
from perfmodel.hardware import Hardware
from perfmodel.operators import Demand, Step, step_shape
from perfmodel.serving import StepModel


@dataclass(frozen=True)
class StepTimes:
    """Holds the cost of one step without factors, and its T kinds of call.

    calls: of each kind, (T, ...). kernels: their kinds of kernel, (T, ...). count: how often each runs, (T, ...).
    """

    cost: StepCost
    calls: Calls
    kernels: Index
    count: Array


@dataclass(frozen=True, kw_only=True)
class MemoisedSteps(StepModel):
    """Prices each distinct step once and applies `factors` to the times of its kernels.

    factors: (BOUNDS, KERNELS). memo: steps priced so far, used by all models made from one group. Overlap of
    communication with computation is left out.
    """

    factors: Array
    memo: dict[int, StepTimes] = field(default_factory=dict)

    def price(self, step: Step) -> StepCost:
        """Return the device time of one step with the factors applied."""
        key = hash(tuple(np.asarray(getattr(step, f.name), float).tobytes() for f in fields(step)))
        if key not in self.memo:
            self.memo[key] = self._times(step)
        known = self.memo[key]
        time = factored(known.calls, self.factors.T[known.kernels], own=self.engine.kernel_source == "own")
        floor = np.array([self.engine.host_launch(d.vendor) for d in self.hardware.devices])[self.hardware.index]
        time = np.where(known.count > 0, known.count * np.maximum(time, floor), 0.0)
        return replace(known.cost, time=time.sum(axis=0))

    def _times(self, step: Step) -> StepTimes:
        """Price a step kernel by kernel, without factors."""
        terms = list(priced(self.sharding, self.hardware, self.costs, step))
        whole = summed(terms, step_shape(step, self.sharding.tp), self.engine.kernel_launches)
        served = all_of(self.sharding.model.architecture, self.hardware)
        calls = [calls_of(demand, self.hardware, cost, self.engine, served) for demand, cost in terms]

        shape = whole.time.shape

        def stack(each: Iterable[Any]) -> NDArray[Any]:
            """Stack one quantity of all terms, each broadcast to the shape of the step."""
            return np.stack([np.broadcast_to(np.asarray(values), shape) for values in each])

        return StepTimes(
            cost=whole,
            calls=Calls(
                time=stack(c.time for c in calls),
                limit=stack(c.limit for c in calls),
                linked=stack(c.linked for c in calls),
                compute=stack(c.compute for c in calls),
                memory=stack(c.memory for c in calls),
                least=stack(c.least for c in calls),
                extra=stack(c.extra for c in calls),
            ),
            kernels=stack(kernel(demand) for demand, _ in terms),
            count=stack(demand.count for demand, _ in terms),
        )


def memoised(steps: StepModel, engine: Engine, factors: Array, memo: dict[int, StepTimes]) -> MemoisedSteps:
    """Return `steps` with other constants of the engine and other kernel factors, on the step times in `memo`.

    factors: (BOUNDS, KERNELS). memo: filled with steps that are not in it yet.
    """
    kept = {f.name: getattr(steps, f.name) for f in fields(steps)}
    return MemoisedSteps(**{**kept, "engine": engine}, factors=factors, memo=memo)


@dataclass(frozen=True)
class TrialCosts:
    """Cost model with kernel factors on trial: prices each distinct call once by `model`, the kernels as timed alone.

    engine: whose kernels they are. factors: (BOUNDS, KERNELS). memo: calls priced so far.
    """

    model: CostModel
    engine: Engine
    factors: Array
    memo: dict[int, tuple[Cost, Calls]] = field(default_factory=dict)

    def cost(self, demand: Demand, hardware: Hardware) -> Cost:
        """Return the time of one call on each row of `hardware`, with the factors applied."""
        values = (demand.flop, demand.moved, demand.message, demand.compute, *demand.shape.values(), hardware.index)
        whose = (demand.family, *demand.shape, *(device.name for device in hardware.devices))
        key = hash((whose, *(np.asarray(v).tobytes() for v in values)))
        if key not in self.memo:
            cost = self.model.cost(demand, hardware)
            self.memo[key] = (cost, calls_of(demand, hardware, cost, self.engine))
        cost, calls = self.memo[key]
        time = factored(calls, self.factors.T[kernel(demand)], own=self.engine.kernel_source == "own")
        return replace(cost, time=time)
