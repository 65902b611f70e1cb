"""Whether a service keeps its objectives over a mix of request classes, and how likely that is.

A mean over the mix is the share-weighted mean of the classes' means. A percentile is that of all requests together:
a class whose every request is late spoils a p90 as soon as it makes up a tenth of the requests, however early others
are; a mean of the classes' percentiles would hide it.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from perfmodel import Estimates, Objective, Slo

Array = NDArray[np.float64]
Mask = NDArray[np.bool_]

#: Ranks at which a class's distribution is known.
RANKS = {"p50": 0.50, "p90": 0.90, "p95": 0.95, "p99": 0.99}
#: Deviate of the normal distribution that bounds its middle 80 %.
DEVIATE_80 = 1.2815515655446004


def _survival(rank: float) -> float:
    """-ln(1 - rank): in it, exponential tails are straight lines."""
    return float(-np.log1p(-rank))


_KNOTS = np.array([0.0, *(_survival(r) for r in RANKS.values())])
#: Where a class's distribution starts below its median, in units of p90 - p50: exact for a constant plus an
#: exponential wait, half a standard deviation below the median for a normal one.
_BELOW = _survival(0.5) / (_survival(0.9) - _survival(0.5))


def _quantiles(estimates: Estimates, metric: str) -> Array:
    """(K, C, N) values at `_KNOTS`, rising."""
    known = [estimates.quantile(metric, statistic) for statistic in RANKS]
    lowest = np.maximum(known[0] - _BELOW * (known[1] - known[0]), 0.0)
    return np.maximum.accumulate(np.stack([np.minimum(lowest, known[0]), *known]), axis=0)


def _within(values: Array, share: Array, limit: Array) -> Array:
    """(N,) share of requests at or below `limit` (N,), from (K, C, N) quantile values; tails go on as they end."""
    deep = np.zeros(values.shape[1:])
    for k in range(len(_KNOTS) - 1):
        width = values[k + 1] - values[k]
        with np.errstate(divide="ignore", invalid="ignore"):
            part = (limit - values[k]) / width
        most = np.inf if k == len(_KNOTS) - 2 else 1.0
        part = np.where(width > 0, np.clip(part, 0.0, most), np.where(limit >= values[k + 1], most, 0.0))
        deep = deep + (_KNOTS[k + 1] - _KNOTS[k]) * part
    return np.sum(share * -np.expm1(-deep), axis=0)


def overall(estimates: Estimates, metric: str, statistic: str) -> Array:
    """`metric` (ttft, tpot, itl, e2e) at `statistic` over all requests, seconds, (N,).

    A mixture's percentile lies between the least and the greatest of its classes', and is found there by bisection.
    Infinite where the queue grows without end. Raises `InputError` for an unknown metric or statistic.
    """
    own = estimates.quantile(metric, statistic)
    if statistic not in RANKS:
        return estimates.mean(own)
    with np.errstate(invalid="ignore"):
        values = _quantiles(estimates, metric)
        if values.shape[1] == 1:
            return np.where(np.isnan(own[0]), np.inf, own[0])
        asked = estimates.share > 0
        low = np.where(asked, own, np.inf).min(axis=0)
        high = np.where(asked, own, -np.inf).max(axis=0)
        for _ in range(40):
            middle = 0.5 * (low + high)
            enough = _within(values, estimates.share, middle) >= RANKS[statistic]
            low, high = np.where(enough, low, middle), np.where(enough, middle, high)
    return np.where(np.isfinite(high), high, np.inf)


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
            with np.errstate(invalid="ignore"):
                values = _quantiles(estimates, objective.metric)
                share = _within(values, estimates.share, limit)
            out &= share >= RANKS[objective.statistic] * (1 - 1e-12)
        else:
            out &= overall(estimates, objective.metric, objective.statistic) <= limit
    return out


def strain(estimates: Estimates, slo: Slo, confidence: float = 0.5) -> tuple[Array, NDArray[np.intp]]:
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


def label(objective: Objective) -> str:
    """An objective's column name: `ttft_ms_p90`, `tpot_ms`."""
    return f"{objective.metric}_ms" + ("" if objective.statistic == "mean" else f"_{objective.statistic}")
