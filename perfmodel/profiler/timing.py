"""Timing one operator: warm up, empty the caches before every repeat, take the median."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from dataclasses import dataclass
from time import perf_counter

from perfmodel.profiler.power import Meter


@dataclass(frozen=True)
class Effort:
    """How hard to try at one point. repeats: most timed calls; least: fewest; seconds: time for them, warm-up aside.

    warmup: untimed calls. watts: seconds of continuous calls under the power meter, 0 for none.
    """

    warmup: int = 2
    repeats: int = 30
    least: int = 3
    seconds: float = 0.5
    watts: float = 0.0


Stopwatch = Callable[[Callable[[], object]], float]


def wall(call: Callable[[], object]) -> float:
    """Seconds of one call on the host's clock."""
    start = perf_counter()
    call()
    return perf_counter() - start


@dataclass(frozen=True)
class Timed:
    """median: seconds. scatter: how far apart the quartiles of the repeats lie, as a share of the median."""

    median: float
    scatter: float


def timed(
    call: Callable[[], object], effort: Effort, flush: Callable[[], object], stopwatch: Stopwatch = wall
) -> Timed:
    """Time `call` with cold caches; `stopwatch` times one call, `flush` empties the caches."""
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
    """Mean W while `call` runs again and again; NaN without a meter. `wait` returns when the device is done."""
    if meter is None or effort.watts <= 0.0:
        return float("nan")
    start, before = perf_counter(), meter.joules()
    while perf_counter() - start < effort.watts:
        for _ in range(8):
            call()
        wait()
    return (meter.joules() - before) / (perf_counter() - start)
