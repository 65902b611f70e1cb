"""Price steps once and then rescale their times: fits change host constants and kernel factors, not kernels."""

from __future__ import annotations

from dataclasses import dataclass, field, fields, replace

import numpy as np

from perfmodel.arrays import Array
from perfmodel.costs import BOUNDS, KERNELS, StepCost, kernel, priced, summed
from perfmodel.engines import Engine
from perfmodel.operators import Step, step_shape
from perfmodel.serving import StepModel


@dataclass(frozen=True)
class StepTimes:
    """Holds the cost of one step, and its seconds by limit and kind of kernel: `parts` (BOUNDS, KERNELS, ...)."""

    cost: StepCost
    parts: Array


@dataclass(frozen=True, kw_only=True)
class MemoisedSteps(StepModel):
    """Prices each distinct step once and multiplies the times of its kernels by `factors`.

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
        return replace(known.cost, time=np.tensordot(self.factors, known.parts, axes=((0, 1), (0, 1))))

    def _times(self, step: Step) -> StepTimes:
        """Price a step kernel by kernel; return its cost, and its seconds by limit and kind of kernel."""
        terms = list(priced(self.sharding, self.hardware, self.costs, step))
        whole = summed(terms, step_shape(step, self.sharding.tp), self.engine.kernel_launches)
        parts = np.zeros((len(BOUNDS), len(KERNELS), *whole.time.shape))
        for demand, cost in terms:
            time = np.where(demand.count > 0, demand.count * cost.time, 0.0)
            limit, kind = np.broadcast_arrays(cost.bound, kernel(demand), whole.time)[:2]
            for b, k in {(int(x), int(y)) for x, y in zip(limit.ravel(), kind.ravel(), strict=True)}:
                parts[b, k] += np.where((limit == b) & (kind == k), time, 0.0)
        return StepTimes(cost=whole, parts=parts)


def memoised(steps: StepModel, engine: Engine, factors: Array, memo: dict[int, StepTimes]) -> MemoisedSteps:
    """Return `steps` with other constants of the engine and other kernel factors, on the step times in `memo`.

    factors: (BOUNDS, KERNELS). memo: filled with steps that are not in it yet.
    """
    kept = {f.name: getattr(steps, f.name) for f in fields(steps)}
    return MemoisedSteps(**{**kept, "engine": engine}, factors=factors, memo=memo)
