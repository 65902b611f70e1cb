"""Where the warm-up of a run ends, and whether its queue grows without end."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from perfmodel.arrays import Array
from perfmodel.simulator.request_traffic.requests import Traffic
from perfmodel.simulator.stationarity.steady import SLICES, Growth, drifts, growth, in_system, margin, warm_up

#: Fewest requests of a stationary load that have a steady part. Chosen.
_LEAST_REQUESTS = 100
#: A run is filled once its arrivals last this many mean times in the system. Chosen: the second half, in which growth
#: is measured, then begins after two of them.
_LEAST_RESIDENCES = 4.0
#: Fewest requests from which a growing queue is believed. Chosen: a swing of fewer may look like growth.
_LEAST_GROWING = 1000
#: Times at which numbers of requests are read to find their slope. Chosen.
_READINGS = 400


@dataclass(frozen=True)
class WarmUp:
    """Holds where a run of a stationary load becomes steady, and how its queue behaves.

    Attributes:
        end: s, when the warm-up ends.
        last_arrival: s, when the drain begins.
        settled: False where the run is too short: the number in the system still rises in its second half.
        growth: Growth of the queue over the second half of the arrivals: the slope of the number of waiting requests
            or, where it grows without end, the rate of arrivals less that of completions.
        unstable: True where the queue grows without end.
    """

    end: float
    last_arrival: float
    settled: bool
    growth: Growth
    unstable: bool


def warm_up_of(traffic: Traffic, issued: Array, first: Array, finish: Array, runs: NDArray[np.void]) -> WarmUp | None:
    """Return the warm-up of a run of `traffic`; None where it is not stationary, or has too few requests to tell.

    The series that MSER-5 cuts is the number in the system that each arrival finds; of a closed loop, where that number
    is fixed, TTFT and the time per token after it. The queue grows without end where
    the number of waiting requests does: sequences that run are limited, and their number rises at first in any case.

    issued, first, finish: (R,) s; runs: what replicas did; all as in `Simulation`.
    """
    served = np.isfinite(finish)
    if not traffic.stationary or served.sum() < _LEAST_REQUESTS:
        return None
    if traffic.concurrency:
        return _of_clients(traffic, issued[served], first[served], finish[served])
    issued, finish = issued[served], finish[served]
    begin, last = float(issued[0]), float(issued[-1])
    found = in_system(issued, finish, issued).astype(float)
    cut = float(issued[warm_up(found)])
    times = np.linspace(0.5 * (begin + last), last, _READINGS)
    rate = (len(issued) - 1) / (last - begin)
    total = growth(times, in_system(issued, finish, times).astype(float), rate, traffic.gap_cv)
    waits = growth(times, waiting(runs, times), rate, traffic.gap_cv)
    unstable = waits.certain and len(issued) >= _LEAST_GROWING
    left = finish <= last
    filled = bool(left.any()) and last - begin >= _LEAST_RESIDENCES * float(np.mean((finish - issued)[left]))
    return WarmUp(
        end=max(cut, float(finish.min())),
        last_arrival=last,
        settled=filled and not total.certain,
        growth=_excess(traffic, finish, times) if unstable else waits,
        unstable=unstable,
    )


def _of_clients(traffic: Traffic, issued: Array, first: Array, finish: Array) -> WarmUp:
    """Return the warm-up of a closed loop, whose queue cannot grow; times (R,) in s, of the requests served.

    It lasts at least until the first request of every client has ended: these all start together. The drain begins when
    the last request is sent, and fewer than all clients have one in flight from then on.
    """
    order = np.argsort(issued, kind="stable")
    issued, first, finish = issued[order], first[order], finish[order]
    opening, last = float(finish[: traffic.concurrency].max()), float(issued[-1])
    later = np.flatnonzero(issued >= opening)
    series = (first - issued, (finish - first) / np.maximum(traffic.output_tokens[: len(order)][order] - 1.0, 1.0))
    cut = max((warm_up(values[later]) for values in series), default=0) if len(later) else 0
    end = float(issued[later[cut]]) if len(later) else opening
    spans = (last - issued[0]) / float(np.mean(finish - issued))
    steady = 2 * cut < len(later) and not any(drifts(values[later][cut:]) for values in series)
    return WarmUp(
        end=min(max(end, opening), last),
        last_arrival=last,
        settled=bool(spans >= _LEAST_RESIDENCES and steady),
        growth=Growth(0.0, 0.0),
        unstable=False,
    )


def _excess(traffic: Traffic, finish: Array, times: Array) -> Growth:
    """Return by how much the rate of a load exceeds what is served between the first and the last of `times` (s).

    A deployment beyond its capacity serves at a nearly even rate, so that this is known better than the slope of the
    queue, which holds the randomness of the arrivals as well.
    """
    parts = np.histogram(finish, SLICES, (times[0], times[-1]))[0] * (SLICES / (times[-1] - times[0]))
    served = float(parts.mean())
    return Growth((traffic.source.rate if traffic.source else traffic.rate) - served, margin(served, parts))


def waiting(runs: NDArray[np.void], times: Array) -> Array:
    """Return how many requests wait at each of `times` (T,), over all replicas; of the run of steps under way."""
    total = np.zeros(len(times))
    order = np.argsort(runs["replica"], kind="stable")
    bounds = np.searchsorted(runs["replica"][order], np.unique(runs["replica"]))
    for mine in np.split(order, bounds[1:]):
        at = np.searchsorted(runs["start"][mine], times, side="right") - 1
        total += np.where(at >= 0, runs["waiting"][mine][np.maximum(at, 0)], 0)
    return total
