"""Say how a plan relates to the peak of its load, and what the peak needs where the plan is for the mean."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from perfmodel.arrays import NAN
from search.planning.operating_point.sizing import least_replicas

if TYPE_CHECKING:
    from search.planning.plan_making.ranked_plan import Plan


def replicas_at_peak(plan: Plan) -> float:
    """Return the replicas of the winner that the peak of the load needs, spare ones included.

    NaN for pairs of pools, and where no number of replicas keeps the SLO there.
    """
    request, best = plan.scenario.request, plan.best
    if request is None or request.peak is None or plan.disaggregated(best):
        return NAN
    target, layout = plan.scorer.target, plan.layouts.take(np.array([best]))
    rate = request.peak.rate / plan.scenario.limits.utilisation
    work = target.workload.at(rate=rate, cv=request.peak.cv)
    needed, _ = least_replicas(replace(target, workload=work), layout, np.array([np.inf]))
    return float((needed + plan.scorer.spare_replicas(layout))[0])
