"""Statistics of a stationary run: where its warm-up ends, whether its queue grows, how well its figures are known."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from perfmodel.arrays import NAN, Array
from perfmodel.simulator.request_traffic.requests import Whole

#: Observations per mean of the warm-up rule MSER-5 (White, Simulation 69(6), 1997).
_MSER_GROUP = 5
#: Time slices of a measurement window, by which its figures vary. Schmeiser (Operations Research 30(3), 1982): more
#: than 30 batches gain little, and fewer than 10 make wide intervals.
SLICES = 20
#: 97.5th percentile of Student's t with `SLICES` - 1 degrees of freedom: 95 % intervals.
_T_975 = 2.093
#: 97.5th percentile of the normal distribution: 95 % intervals.
_Z_975 = 1.96
#: Least difference between the halves of a run that counts as drift. Chosen: below the precision that is aimed at.
_DRIFT = 0.02
#: Most correlation of neighbouring slices that widens an interval; more says that the run is too short. Chosen, after
#: the correction for correlated batch means in Skart (Tafazzoli and others, INFORMS J. Computing 23(2), 2011).
_MOST_CORRELATION = 0.8
#: Variance of the least-squares slope of a Brownian motion over a time T: 6/5 of its variance per second, over T.
#: Derived from slope = 12 / T^3 integral (t - T/2) W(t) dt.
_SLOPE_VARIANCE = 1.2


def warm_up(series: Array) -> int:
    """Return how many leading values of `series` (R,) belong to the warm-up, by MSER-5; at most half.

    MSER-5 (White 1997; White, Cobb and Spratt, Winter Simulation Conference 2000) cuts where the standard error of the
    mean of what remains is least.
    """
    groups = series[: len(series) // _MSER_GROUP * _MSER_GROUP].reshape(-1, _MSER_GROUP).mean(axis=1)
    count = len(groups)
    if count < 2 * _MSER_GROUP:
        return len(series) // 2
    left = np.arange(count, 0, -1)
    total = np.cumsum(groups[::-1])[::-1]
    squares = np.cumsum(np.square(groups[::-1]))[::-1]
    error = np.maximum(squares - np.square(total) / left, 0.0) / np.square(left)
    cut = int(np.argmin(error[: count - _MSER_GROUP]))
    return min(cut * _MSER_GROUP, len(series) // 2)


def drifts(series: Array) -> bool:
    """Return whether the two halves of `series` (R,) differ with 95 % confidence, and by more than `_DRIFT`.

    MSER-5 sees the end of a ramp, but not a decline that lasts as long as the run. The confidence is that of batch
    means, as of `margin`.
    """
    if len(series) < 2 * SLICES:
        return True
    parts = np.array([part.mean() for part in np.array_split(series, SLICES)])
    first, second = np.split(parts, 2)
    apart = abs(float(first.mean() - second.mean()))
    error = math.sqrt(float(first.var(ddof=1) + second.var(ddof=1)) / len(first))
    return apart > _T_975 * error and apart > _DRIFT * abs(float(series.mean()))


def in_system(entered: Array, left: Array, times: Array) -> Whole:
    """Return how many have entered and not left at each of `times`; entered, left: (R,) s, NaN: never."""
    before: Whole = np.searchsorted(np.sort(entered[np.isfinite(entered)]), times, side="right")
    gone: Whole = np.searchsorted(np.sort(left[np.isfinite(left)]), times, side="right")
    return before - gone


class Growth(NamedTuple):
    """How fast a number of requests grows: requests per second, and the half width of its 95 % interval."""

    rate: float
    margin: float

    @property
    def certain(self) -> bool:
        """Return whether the number grows, with 97.5 % confidence."""
        return self.rate > self.margin


def growth(times: Array, number: Array, arrivals: float, gap_cv: float) -> Growth:
    """Return the least-squares slope of a number of requests over time.

    The margin is that of a queue exactly at its capacity, which wanders like a Brownian motion whose variance per
    second is that of arrivals and departures together. The number in a stable queue wanders less, so that it is seldom
    taken for a growing one.

    Args:
        times, number: (T,) s, and the requests counted then.
        arrivals: Requests per second that arrive.
        gap_cv: Coefficient of variation of the gaps between arrivals; departures are taken as Poisson where it is less.
    """
    span = float(times[-1] - times[0])
    if not span > 0:
        return Growth(NAN, NAN)
    offset = times - times.mean()
    slope = float(offset @ number / (offset @ offset))
    variance = arrivals * (gap_cv**2 + max(gap_cv, 1.0) ** 2)
    return Growth(slope, _Z_975 * math.sqrt(_SLOPE_VARIANCE * variance / span))


def margin(estimate: float, slices: Array) -> float:
    """Return the half width of the 95 % interval of `estimate`, from its values in successive time slices, (SLICES,).

    Sectioning (Asmussen and Glynn, Stochastic Simulation, 2007, III.5): batch means around the estimate of the whole
    window, which holds for percentiles too. Slices that resemble their neighbours widen it. NaN where a slice is empty.
    """
    if not (math.isfinite(estimate) and np.isfinite(slices).all()):
        return NAN
    variance = float(np.sum(np.square(slices - estimate))) / (len(slices) - 1)
    around = slices - slices.mean()
    own = float(around @ around)
    alike = float(around[1:] @ around[:-1]) / own if own > 0 else 0.0
    alike = min(max(alike, 0.0), _MOST_CORRELATION)
    return _T_975 * math.sqrt(variance / len(slices) * (1 + alike) / (1 - alike))
