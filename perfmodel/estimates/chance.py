"""How likely an estimate keeps its SLOs, given the interval of the estimate."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from perfmodel.arrays import Array, Mask
from perfmodel.estimates import percentiles
from perfmodel.estimates.estimates import Estimates
from perfmodel.workload import RANKS, Objective, Slo

#: Deviate of the normal distribution that bounds its middle 80 %.
DEVIATE_80 = 1.2815515655446004


def overall(estimates: Estimates, metric: str, statistic: str) -> Array:
    """`percentiles.overall`, with unknown values counted as infinite: they keep no bound. Seconds, (N,)."""
    found = percentiles.overall(estimates, metric, statistic)
    return np.where(np.isnan(found), np.inf, found) if statistic in RANKS else found


def chance(value: Array, limit: float, spread: Array) -> Array:
    """Probability that a log-normal quantity with median `value` stays at or below `limit`; `spread` bounds 80 % of it.

    >>> float(chance(np.ones(1), np.exp(0.2), np.full(1, 0.2))[0].round(3))
    0.9
    """
    from scipy.special import ndtr

    with np.errstate(divide="ignore"):
        deviate = np.log(limit / value) / np.maximum(spread, 1e-12) * DEVIATE_80
    return np.asarray(ndtr(deviate))


def allowed(objective: Objective, estimates: Estimates, confidence: float) -> Array:
    """(N,) the value an estimate may have so that `objective` holds with probability `confidence`."""
    from scipy.special import ndtri

    return objective.limit * np.exp(-ndtri(confidence) * estimates.spread[objective.metric] / DEVIATE_80)


def keeps(estimates: Estimates, slo: Slo, confidence: float = 0.5) -> Mask:
    """(N,) True where every objective holds with at least `confidence` and demand does not outrun supply."""
    out = ~estimates.saturated
    for objective in slo.objectives:
        limit = allowed(objective, estimates, confidence)
        if objective.statistic in RANKS:
            share = percentiles.share_within(estimates, objective.metric, limit)
            out &= share >= RANKS[objective.statistic] * (1 - 1e-12)
        else:
            out &= overall(estimates, objective.metric, objective.statistic) <= limit
    return out


def slo_ratio(estimates: Estimates, slo: Slo, confidence: float = 0.5) -> tuple[Array, NDArray[np.intp]]:
    """(N,) the worst ratio of a value to what is allowed, and which objective it is; 1 is just kept, inf saturated."""
    if not slo.objectives:
        return np.where(estimates.saturated, np.inf, 0.0), np.zeros(len(estimates), dtype=np.intp)
    ratios = np.stack(
        [overall(estimates, o.metric, o.statistic) / allowed(o, estimates, confidence) for o in slo.objectives]
    )
    ratios = np.where(estimates.saturated | np.isnan(ratios), np.inf, ratios)
    return ratios.max(axis=0), ratios.argmax(axis=0)


def chances(estimates: Estimates, slo: Slo) -> Array:
    """(K, N) probability that each objective holds, from the spread of the estimate."""
    return np.array(
        [chance(overall(estimates, o.metric, o.statistic), o.limit, estimates.spread[o.metric]) for o in slo.objectives]
    ).reshape(len(slo.objectives), len(estimates))
