"""Find the greatest confidence with which a scenario still has a plan, so that the advised value has an answer."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING

from search.planning.plan_making.planner import plan as plan_of

if TYPE_CHECKING:
    from search.planning.plan_making.ranked_plan import Plan

#: Steps of the confidences that are tried. Chosen: what a user would type.
STEP = 0.05


def greatest_confidence(plan: Plan, least: float, most: float) -> float:
    """Return the greatest confidence from `least` to `most` with which some candidate qualifies, in steps of `STEP`.

    The plan is made again with each confidence that is tried, so that every limit of the scenario counts. The result is
    0 where even `least` leaves nothing.
    """

    def answered(steps: int) -> bool:
        """Return whether the plan with this confidence, in steps, has an answer."""
        limits = replace(plan.scenario.limits, confidence=steps * STEP)
        again = replace(plan.scenario, limits=limits, more_engines=())
        return plan_of(again, costs=plan.scorer.target.costs, before=plan.scorer.target).feasible

    first = math.ceil(least / STEP)
    low, high = first - 1, math.floor(most / STEP + STEP) + 1  # a plan exists; none does
    tried = high - 1
    while high - low > 1:
        low, high = (tried, high) if answered(tried) else (low, tried)
        tried = (low + high) // 2
    return round(low * STEP, 2) if low >= first else 0.0
