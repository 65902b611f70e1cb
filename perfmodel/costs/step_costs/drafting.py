"""Add to a step the passes of the model that drafts its tokens (speculative decoding)."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from perfmodel.arrays import Array
from perfmodel.costs.cost import CostModel
from perfmodel.costs.step_costs.step_cache import StepCache
from perfmodel.costs.step_costs.steps import Launches, StepCost, step_cost
from perfmodel.deployment import Sharding
from perfmodel.hardware import Hardware
from perfmodel.operators import Step, step_shape
from perfmodel.vocabulary import LAUNCH_BOUND


class DraftPass(NamedTuple):
    """Describe a forward pass of a drafter: its tokens, and how many such passes follow a step, (N,) or (C, N)."""

    drafter: Sharding
    step: Step
    times: Array


def draft_passes(sharding: Sharding, step: Step) -> list[DraftPass]:
    """Return the passes that draft the next tokens of the sequences in a step; [] where no model drafts.

    The first takes all tokens of the step, prompts included, because the drafter keeps a cache of its own; each further
    draft is a pass of one token per sequence (vllm-project/vllm vllm/v1/spec_decode/eagle.py, `propose`, 2025).
    """
    if sharding.drafter is None or sharding.drafts is None:
        return []
    first = DraftPass(sharding.drafter, step, np.where(sharding.drafts > 0, 1.0, 0.0))
    more = np.where(np.asarray(step.decode_seqs) > 0, np.maximum(sharding.drafts - 1.0, 0.0), 0.0)
    if not more.any():
        return [first]
    further = Step(decode_seqs=step.decode_seqs, decode_context=step.decode_context)
    return [first, DraftPass(sharding.drafter, further, more)]


def with_drafting(
    cost: StepCost,
    sharding: Sharding,
    hardware: Hardware,
    costs: CostModel,
    step: Step,
    launches: Launches | None = None,
    *,
    known: StepCache | None = None,
    pass_host_time: float = 0.0,
) -> StepCost:
    """Return the cost of a step with that of its `draft_passes`; candidates without drafts keep theirs.

    pass_host_time: seconds that the host takes per pass, which the device waits for where its own work takes less.
    known: costs of steps that were priced before, of which those of the drafter are kept apart; None: none are.
    """
    price = step_cost if known is None else known.drafter.cost
    shape = step_shape(step, sharding.tp)
    for each in draft_passes(sharding, step):
        other = price(each.drafter, hardware, costs, each.step, launches)
        cost = _added(cost, other, np.broadcast_to(each.times, shape), pass_host_time)
    return cost


def _added(cost: StepCost, other: StepCost, times: Array, host_time: float) -> StepCost:
    """Return the cost of a step followed by `times` (...,) of another; errors of both count as correlated.

    host_time: least seconds of each of the others; the device waits for what it does not work.
    """
    waits = np.where(times > 0, times * np.maximum(host_time - other.time, 0.0), 0.0)

    def plus(name: str) -> Array:
        more: Array = np.where(times > 0, times * getattr(other, name), 0.0)
        return np.asarray(getattr(cost, name) + more)

    time = plus("time") + waits
    with np.errstate(invalid="ignore", divide="ignore"):
        spread = (cost.time * cost.spread + np.where(times > 0, times * other.time * other.spread, 0.0)) / time
    summed = {name: plus(name) for name in ("bound", "calls", "links", "hidden", "work", "operators")}
    summed["bound"][LAUNCH_BOUND] += waits
    return StepCost(time=time, spread=spread, basis=cost.basis, batches=cost.batches, **summed)
