"""Time one operator: warm-up calls, then the median of repeated calls, with caches flushed before each repeat."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from dataclasses import dataclass
from time import perf_counter

from perfmodel.profiler.power import Meter

#: Calls between two looks at the clock during a power measurement. Chosen: keeps the device busy.
CALLS_PER_CHECK = 8


@dataclass(frozen=True)
class Effort:
    """Set how often and how long each point is measured.

    warmup: untimed calls. repeats: most timed calls. least: fewest timed calls. seconds: limit of the time of the timed
    calls together. watts: seconds of continuous calls for the power measurement, 0 for none. Defaults: chosen.
    """

    warmup: int = 2
    repeats: int = 30
    least: int = 3
    seconds: float = 0.5
    watts: float = 0.0


#: Function that makes one call and returns its seconds.
Stopwatch = Callable[[Callable[[], object]], float]


def wall(call: Callable[[], object]) -> float:
    """Measure the seconds of one call by the host's clock."""
    start = perf_counter()
    call()
    return perf_counter() - start


@dataclass(frozen=True)
class Timed:
    """Hold the result of timing. median: seconds. scatter: interquartile range of the repeats, as a share of the
    median."""

    median: float
    scatter: float


def timed(
    call: Callable[[], object], effort: Effort, flush: Callable[[], object], stopwatch: Stopwatch = wall
) -> Timed:
    """Time `call` with cold caches. `flush` empties the caches; `stopwatch` returns the seconds of one call."""
    for _ in range(effort.warmup):
        call()
    times: list[float] = []
    start = perf_counter()
    while len(times) < effort.repeats and (len(times) < effort.least or perf_counter() - start < effort.seconds):
        flush()
        times.append(stopwatch(call))
    low, median, high = statistics.quantiles(times, n=4, method="inclusive") if len(times) > 1 else 3 * times
    return Timed(median, (high - low) / median if median > 0.0 else 0.0)


def watts(call: Callable[[], object], effort: Effort, meter: Meter | None, wait: Callable[[], object]) -> float:
    """Measure the mean power, in W, while `call` runs continuously; NaN without a meter or if `effort.watts` is 0.

    `wait` returns when the device is idle.
    """
    if meter is None or effort.watts <= 0.0:
        return float("nan")
    start, before = perf_counter(), meter.joules()
    while perf_counter() - start < effort.watts:
        for _ in range(CALLS_PER_CHECK):
            call()
        wait()
    return (meter.joules() - before) / (perf_counter() - start)
