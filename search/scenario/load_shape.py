"""Read how the load of a scenario changes over the day, and for which time of it the scenario is sized."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from hwdb.tomlfile import Table
from perfmodel.arrays import NAN
from perfmodel.unit_factors import SECONDS_PER_HOUR
from perfmodel.workload import Histogram, Peak, Period, Trace, hours_of_day, peak_of, periods_of

#: Key that lists the rate of each hour.
BY_HOUR = "rate_by_hour"
#: Values of `size_for`.
SIZES = ("peak", "mean")
#: Most hours that `rate_by_hour` lists. Chosen: a week.
MOST_HOURS = 168
#: Relative distance of a mean from the stated one that is rounding.
ROUNDING = 1e-12
#: Coefficient of variation of the gaps between arrivals of a Poisson process.
POISSON_CV = 1.0


@dataclass(frozen=True)
class Timing:
    """When requests arrive, as a trace, a histogram or a list of hours shows it.

    rate: mean requests/s, NaN unknown. cv: coefficient of variation of the gaps between arrivals. periods: the load
    over time, () where it is steady or not known. peak: the busiest of them, None likewise. known: False where lengths
    alone are given.
    """

    rate: float = NAN
    cv: float = POISSON_CV
    periods: tuple[Period, ...] = ()
    peak: Peak | None = None
    known: bool = True

    def at_mean(self, rate: float) -> Timing:
        """Return the same load over time with the mean `rate`, in requests/s."""
        factor = rate / self.rate
        if self.peak is None or not np.isfinite(factor) or abs(factor - 1.0) < ROUNDING:
            return self
        scaled = tuple(
            replace(p, mean=p.mean * factor, rate=p.rate * factor, sure=p.sure * factor) for p in self.periods
        )
        peak = replace(self.peak, rate=self.peak.rate * factor, mean=self.peak.mean * factor)
        return replace(self, rate=rate, periods=scaled, peak=peak)


#: Nothing is known of when requests arrive.
UNKNOWN = Timing(known=False)


def timing_of_trace(trace: Trace) -> Timing:
    """Return when the requests of a trace arrive."""
    peak = peak_of(trace)
    periods = hours_of_day(periods_of(trace)) if peak is not None else ()
    return Timing(rate=trace.rate, cv=trace.cv, periods=periods, peak=peak)


def timing_of_histogram(histogram: Histogram) -> Timing:
    """Return what a histogram tells of when its requests arrive: rate and peak."""
    return Timing(rate=histogram.rate, peak=histogram.peak)


def stated_by_hour(table: Table) -> Timing:
    """Read `rate_by_hour`, the requests/s of each hour; an hour may have none, but not all of them."""
    rates = table.numbers(BY_HOUR, least=0)
    if len(rates) > MOST_HOURS or not max(rates) > 0:
        text = f"{len(rates)} hours, the busiest with {max(rates):g} requests/s"
        raise table.error(BY_HOUR, f"{text}; list the requests/s of each hour, up to {MOST_HOURS} hours")
    return timing_by_hour(rates)


def timing_by_hour(rates: Sequence[float]) -> Timing:
    """Return the load of so many requests/s in each hour; steady where they are all equal."""
    periods = tuple(
        Period(hour * SECONDS_PER_HOUR, SECONDS_PER_HOUR, rate, rate, SECONDS_PER_HOUR, rate, POISSON_CV)
        for hour, rate in enumerate(rates)
    )
    mean, top = float(np.mean(rates)), max(periods, key=lambda p: p.rate)
    if not top.rate > mean:
        return Timing(rate=mean)
    peak = Peak(rate=top.rate, mean=mean, window=top.window, start=top.start, cv=POISSON_CV)
    return Timing(rate=mean, periods=periods, peak=peak)


def sized_for_peak(table: Table, timing: Timing, *, stated: bool) -> bool:
    """Read `size_for`; return True where the scenario is sized for the peak of its load.

    Without the key it is, unless the table states a rate, concurrency or number of requests, which then counts as it
    is. stated: True where it does.
    """
    asked = table.text("size_for", "", choices=SIZES)
    if asked and not timing.known:
        text = "the load has no known shape; give a trace or rate_by_hour, or leave size_for out"
        raise table.error("size_for", text)
    return timing.peak is not None and (asked == "peak" or (not asked and not stated))
