"""Compute SLO attainment: the probability that an estimate meets its latency targets, given its uncertainty."""

from __future__ import annotations

import numpy as np

from perfmodel import equations as eq
from perfmodel.arrays import Array, Index, Mask
from perfmodel.estimates.estimates import Estimates
from perfmodel.estimates.latency_percentiles import percentiles
from perfmodel.estimates.ranges.intervals import DEVIATE_80
from perfmodel.serving import TINY
from perfmodel.workload import RANKS, Objective, Slo

#: Relative tolerance of a share of requests within a limit: percentiles found by bisection end just below their rank.
_TOLERANCE = 1e-12


def overall(estimates: Estimates, metric: str, statistic: str) -> Array:
    """Return `percentiles.overall` in seconds, (N,), with infinity for unknown values, so that they meet no limit."""
    found = percentiles.overall(estimates, metric, statistic)
    return np.where(np.isnan(found), np.inf, found) if statistic in RANKS else found


def chance(value: Array, limit: float, spread: Array) -> Array:
    """Return the probability that a log-normal quantity stays at or below `limit`. (N,)

    Args:
        value: its median, (N,).
        limit: the limit, in the unit of `value`.
        spread: log half-width of its middle 80 %, (N,).

    >>> float(chance(np.ones(1), np.exp(0.2), np.full(1, 0.2))[0].round(3))
    0.9
    """
    with np.errstate(divide="ignore"):
        deviate = np.log(limit / value) / np.maximum(spread, TINY) * DEVIATE_80
    return np.asarray(eq.normal_chance(deviate))


def allowed(objective: Objective, estimates: Estimates, confidence: Array | float) -> Array:
    """Return the highest estimate with which `objective` holds with probability `confidence`, in its unit, (N,).

    confidence: for all, or (N,).
    """
    if np.all(np.asarray(confidence) == 0.5):  # the median itself, whatever the width
        return np.full(len(estimates), objective.limit)
    shift = -eq.normal_deviate(confidence) * estimates.half_width(objective.metric, objective.statistic) / DEVIATE_80
    return np.asarray(objective.limit * np.exp(shift))


def keeps(estimates: Estimates, slo: Slo, confidence: float = 0.5) -> Mask:
    """Return True where every objective of `slo` holds with at least `confidence`, and demand is within capacity.

    (N,)
    """
    return np.asarray(excess(estimates, slo, confidence) <= 0.0)


def excess(estimates: Estimates, slo: Slo, confidence: Array | float = 0.5) -> Array:
    """Return by how much the worst objective is missed, (N,): above 0 where `slo` is not kept, NaN where unknown.

    It is the logarithm of an estimate over what is allowed. For a percentile it is that of the share of requests beyond
    the limit over the share that may be. Saturated deployments have infinity; -infinity without objectives.
    confidence: probability that each has to hold with, for all or (N,).
    """
    out = np.where(estimates.saturated, np.inf, -np.inf)
    for objective in slo.objectives:
        limit = allowed(objective, estimates, confidence)
        with np.errstate(divide="ignore", invalid="ignore"):
            if objective.statistic in RANKS:
                share = percentiles.share_within(estimates, objective.metric, limit)
                rank = RANKS[objective.statistic] * (1 - _TOLERANCE)
                kept, over = share >= rank, np.log(np.maximum(1.0 - share, 0.0) / (1.0 - rank))
            else:
                value = overall(estimates, objective.metric, objective.statistic)
                kept, over = value <= limit, np.log(value / limit)
        out = np.maximum(out, np.where(kept, np.minimum(over, 0.0), np.maximum(over, TINY)))
    return np.asarray(out)


def slo_ratio(estimates: Estimates, slo: Slo, confidence: float = 0.5) -> tuple[Array, Index]:
    """Return (worst ratio of an estimate to the highest value allowed, index of that objective), (N,) each.

    A ratio of 1 is just met; saturated deployments have infinity. `confidence` is the probability to hold, 0 to 1.
    """
    if not slo.objectives:
        return np.where(estimates.saturated, np.inf, 0.0), np.zeros(len(estimates), dtype=np.intp)
    ratios = np.stack(
        [overall(estimates, o.metric, o.statistic) / allowed(o, estimates, confidence) for o in slo.objectives]
    )
    ratios = np.where(estimates.saturated | np.isnan(ratios), np.inf, ratios)
    return ratios.max(axis=0), ratios.argmax(axis=0)


def chances(estimates: Estimates, slo: Slo) -> Array:
    """Return the probability that each of the K objectives of `slo` holds, from the uncertainty of the estimate.

    0 for a limit that no system keeps (`Estimates.least`). (K, N)
    """
    return np.array([_chance_of(o, estimates) for o in slo.objectives]).reshape(len(slo.objectives), len(estimates))


def _chance_of(objective: Objective, estimates: Estimates) -> Array:
    """Return the probability that an objective holds, (N,)."""
    metric, statistic, limit = objective.metric, objective.statistic, objective.limit
    likely = chance(overall(estimates, metric, statistic), limit, estimates.half_width(metric, statistic))
    return np.where(limit < estimates.least(metric, statistic), 0.0, likely)
