"""The load of a trace over time: the rate that each hour asks for, and the peak where the load is not steady.

A count of requests is noisy, so the busiest five minutes of a steady load look busier than its mean. A rate counts as
higher than another only where the count is higher beyond its noise: with `z` standard deviations of `cv sqrt(N)` for N
requests whose gaps have the coefficient of variation `cv` (the asymptotic variance of a renewal count, Cox 1962), where
`z` allows for the number of windows looked at (Bonferroni).
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from perfmodel.arrays import NAN, Array
from perfmodel.unit_factors import HOURS_PER_DAY, SECONDS_PER_HOUR
from perfmodel.workload.traces.trace import Trace

#: Lengths of a period, seconds: the longest that fits into the trace twice. Chosen: the hours in which people plan, and
#: less for traces of an hour and less.
PERIODS_S = (SECONDS_PER_HOUR, 900.0, 300.0)
#: Lengths of the windows inside a period, seconds. Chosen: long against the time of a request, so that a queue settles
#: in them, and short enough for a rush within an hour; shorter bursts are in the variation of the gaps.
WINDOWS_S = (900.0, 300.0)
#: Share of a period by which the last one may be shorter or longer. Chosen: a recording rarely ends on the hour.
ODD_END = 0.5
#: Chance that noise alone passes for a peak. Chosen: as in a test at the 5 % level.
FALSE_PEAK = 0.05
#: Excess of the peak over the mean from which a load counts as unsteady. Chosen: less changes few plans.
LEAST_EXCESS = 0.1


@dataclass(frozen=True)
class Period:
    """A stretch of a trace. start, length: seconds since the first request, and seconds.

    mean: requests/s over the whole stretch. rate: requests/s of its busiest window, as long as `window` seconds: what
    a deployment must serve. sure: the rate without what may be noise. cv: coefficient of variation of the gaps between
    arrivals in the window, NaN where it has too few.
    """

    start: float
    length: float
    mean: float
    rate: float
    window: float
    sure: float
    cv: float


@dataclass(frozen=True)
class Peak:
    """The busiest time of a trace whose load is not steady.

    rate: requests/s to serve. mean: that of the whole trace. window: seconds over which `rate` is a mean. start: of
    that period, seconds since the first request. cv: coefficient of variation of the gaps between arrivals there.
    """

    rate: float
    mean: float
    window: float
    start: float
    cv: float

    @property
    def ratio(self) -> float:
        """Return the peak over the mean."""
        return self.rate / self.mean

    @property
    def words(self) -> str:
        """Return the length of the window in words, such as "hour" or "15 minutes"."""
        minutes = round(self.window / 60.0)
        return "hour" if minutes == 60 else f"{minutes} minutes"


def periods_of(trace: Trace, edges: Array | None = None) -> tuple[Period, ...]:
    """Cut a trace into periods and measure each; () where it has no arrivals or is shorter than two periods.

    edges: (P + 1,) seconds since the first request that bound the periods; by default hours, or parts of them where the
    trace is short.
    """
    from statistics import NormalDist

    if not np.isfinite(trace.rate):
        return ()
    arrival = trace.arrival - trace.arrival[0]
    bounds = _edges(trace.duration) if edges is None else np.minimum(edges, trace.duration)
    windows = sum(2.0 * trace.duration / w for w in (*WINDOWS_S, PERIODS_S[0]))
    z = NormalDist().inv_cdf(1.0 - FALSE_PEAK / max(windows, 1.0))
    return tuple(_period(arrival, (float(a), float(b)), z) for a, b in pairwise(bounds) if b > a)


def peak_of(trace: Trace) -> Peak | None:
    """Return the busiest time of a trace; None where its load is steady within noise, or too short to tell."""
    periods = periods_of(trace)
    if not periods or max(p.sure for p in periods) <= (1.0 + LEAST_EXCESS) * trace.rate:
        return None
    top = max(periods, key=lambda p: p.rate)
    cv = top.cv if np.isfinite(top.cv) else trace.cv
    return Peak(rate=top.rate, mean=trace.rate, window=top.window, start=top.start, cv=cv)


def hours_of_day(periods: tuple[Period, ...]) -> tuple[Period, ...]:
    """Fold periods of an hour that span more than a day into the 24 hours of a day, each at its busiest.

    Shorter traces stay as they are.
    """
    if len(periods) <= HOURS_PER_DAY or round(periods[0].length) != round(SECONDS_PER_HOUR):
        return periods
    return tuple(max(periods[hour::HOURS_PER_DAY], key=lambda p: p.rate) for hour in range(HOURS_PER_DAY))


def _edges(duration: float) -> Array:
    """Return the bounds of the periods of a trace of `duration` seconds, (P + 1,); the last may be odd."""
    fitting = [p for p in PERIODS_S if duration >= (2.0 - ODD_END) * p]
    if not fitting:
        return np.zeros(0)
    count = max(round(duration / fitting[0]), 1)
    return np.append(np.arange(count) * fitting[0], duration)


def _period(arrival: Array, bounds: tuple[float, float], z: float) -> Period:
    """Measure the period between two times.

    arrival: (R,) seconds since the first request. z: standard deviations that noise may reach.
    """
    start, end = bounds
    inside = arrival[np.searchsorted(arrival, start) : np.searchsorted(arrival, end, side="right")]
    length = end - start
    mean = len(inside) / length
    found = Period(start, length, mean, mean, length, _sure(inside, length, z), _cv(inside))
    surest = (1.0 + LEAST_EXCESS) * mean
    for window in (w for w in WINDOWS_S if w < length):
        busiest = _busiest(inside, window)
        sure = _sure(busiest, window, z)
        if sure > surest:
            surest = sure
            found = Period(start, length, mean, len(busiest) / window, window, sure, _cv(busiest))
    return found


def _busiest(arrival: Array, window: float) -> Array:
    """Return the arrivals of the `window` seconds that have most of them."""
    if not len(arrival):
        return arrival
    last = np.searchsorted(arrival, arrival + window, side="left")
    first = int(np.argmax(last - np.arange(len(arrival))))
    return arrival[first : last[first]]


def _sure(arrival: Array, length: float, z: float) -> float:
    """Return requests/s of the arrivals within `length` seconds, less what may be noise; arrivals as even as clockwork
    count as random, because a count is whole."""
    spread = np.fmax(_cv(arrival), 1.0)
    return float((len(arrival) - z * spread * np.sqrt(len(arrival))) / length)


def _cv(arrival: Array) -> float:
    """Return the coefficient of variation of the gaps between arrivals; NaN where there are too few."""
    gaps = np.diff(arrival)
    return float(gaps.std() / gaps.mean()) if len(gaps) and gaps.mean() > 0 else NAN
