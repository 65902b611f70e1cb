"""Lengthen the run of a stationary load until its figures are known well enough."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from perfmodel.simulator.measurement.metrics import latency, margins, rates
from perfmodel.simulator.measurement.window import window
from perfmodel.simulator.simulation import Simulation
from perfmodel.workload import Objective, Slo

#: Half width of the 95 % intervals that is aimed at, as a share of the figure. Chosen: less than the spread of the step
#: times themselves.
PRECISION = 0.05
#: Most events of all runs together, and most requests of a run. Chosen: some seconds, and 1 GB of memory.
MOST_EVENTS, MOST_REQUESTS = 2_000_000, 500_000
#: What is made known where no SLO names it: (metric, statistic).
USUAL = (("ttft", "mean"), ("ttft", "p90"), ("tpot", "mean"), ("e2e", "mean"))


def lengthened(run: Callable[[int], Simulation], count: int, slo: Slo, precision: float) -> Simulation:
    """Run with `count` requests, then twice as many and so on, until the figures are known to `precision`.

    The figures are the request rate and those that `slo` limits, else `USUAL`; where the queue grows without end, its
    growth. The run ends earlier at `MOST_EVENTS` or `MOST_REQUESTS`. run: simulates a number of requests.
    """
    found = run(count)
    events = found.events
    while imprecise(found, slo, precision) and 2 * count <= MOST_REQUESTS:
        events += 2 * found.events  # what the next run will take
        if events > MOST_EVENTS:
            break
        count *= 2
        found = run(count)
    return found


def imprecise(simulation: Simulation, slo: Slo, precision: float) -> list[str]:
    """Name the figures of a stationary load that are not known to `precision`, with what they are known to.

    Empty for finite loads, which have no such intervals.
    """
    warm_up = simulation.warm_up
    if warm_up is None:
        return ["all figures: the run is too short"] if simulation.traffic.stationary else []
    if warm_up.unstable:
        return _wide([("the growth of the queue", warm_up.growth.rate, warm_up.growth.margin)], precision)
    seen = window(simulation)
    if not (warm_up.settled and seen.steady):
        return ["all figures: the run is too short"]
    found = rates(simulation, seen)
    figures = [("request rate", found["request_rate_rps"], found["request_rate_rps_ci95"])]
    for metric, statistic in _wanted(slo.objectives):
        value, known = (f(simulation, metric, seen).at(statistic) for f in (latency, margins))
        if not math.isnan(value):  # outputs of one token have no TPOT
            figures.append((f"{metric.upper()} {statistic}", value, known))
    return _wide(figures, precision)


def _wanted(objectives: Sequence[Objective]) -> Sequence[tuple[str, str]]:
    """Return (metric, statistic) of the figures that matter."""
    return tuple((o.metric, o.statistic) for o in objectives) or USUAL


def _wide(figures: Sequence[tuple[str, float, float]], precision: float) -> list[str]:
    """Name the figures (name, value, half width) whose half width is more than the share `precision` of the value."""
    wide = [(n, k / abs(v) if v else math.nan) for n, v, k in figures if not k <= precision * abs(v)]
    return [f"{n} ±{100 * share:.0f} %" if share == share else n for n, share in wide]
