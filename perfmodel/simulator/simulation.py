"""The result of a simulation: what became of every request, and what every replica did when."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from perfmodel.arrays import Array, Mask
from perfmodel.simulator.replica_pools.policy import Pool
from perfmodel.simulator.request_traffic.requests import Traffic, Whole
from perfmodel.simulator.stationarity.warming import WarmUp

#: First words of the note that the load exceeds the capacity: of a stationary load, and of a trace or another finite
#: load.
UNSTABLE, OVERLOAD = "unstable", "beyond capacity"
#: A queue counts as growing where, at the last arrival, it holds at least this share of all requests, at least this
#: many, and this many times what it held halfway. Chosen: less may be a swing of a stable queue.
GROWING_SHARE, GROWING_LEAST, GROWING_FACTOR = 0.02, 8, 1.5


@dataclass(frozen=True)
class Simulation:
    """Holds what became of R requests, in the order of the traffic; NaN or -1 where a request never got that far.

    Attributes:
        traffic, pools, router, seed: What was simulated.
        issued: (R,) s, arrival.
        admitted: (R,) s, first admission.
        first: (R,) s, first token. With a prefill pool: when its KV reached the decode replica, which streams the
            output.
        finish: (R,) s, last token.
        replica: (R,) replica that made its last token; replicas are numbered through all pools.
        prefiller: (R,) replica that made its first token.
        emitted: (R,) steps that made its tokens, the prefill and decode steps: as many as tokens, fewer with
            speculative decoding.
        cached: (R,) prompt tokens found in the prefix cache, summed over admissions.
        preempted: (R,) number of preemptions.
        rejected: (R,) whether the request could never fit, and was not served.
        runs: Log of what every replica did when, records `RUN` of `perfmodel.simulator.kernel.records`.
        stints: Log of which request decoded when, records `STINT` of the same module.
        notes: Warnings for whoever reads the results, such as rejected requests or a growing queue.
        events: Number of events that the loop processed.
        warm_up: Where the warm-up of a stationary load ends, and whether its queue grows; None for other loads.
    """

    traffic: Traffic
    pools: tuple[Pool, ...]
    router: str
    seed: int
    issued: Array
    admitted: Array
    first: Array
    finish: Array
    replica: Whole
    prefiller: Whole
    emitted: Whole
    cached: Whole
    preempted: Whole
    rejected: Mask
    runs: NDArray[np.void]
    stints: NDArray[np.void]
    notes: tuple[str, ...]
    events: int
    warm_up: WarmUp | None = None

    @property
    def duration(self) -> float:
        """Return the seconds from the first arrival to the last token."""
        return float(np.nanmax(self.finish) - np.nanmin(self.issued))

    @property
    def served(self) -> Mask:
        """True for requests that got all their tokens. (R,)"""
        return ~self.rejected


def time_after(start: Array, step: Array, slope: Array, steps: Array | Whole) -> Array:
    """Return the time (s) at which the first `steps` steps of a run have ended.

    A run is a row of consecutive steps of one replica, logged together. start: when it began. Its step j, counted from
    0, takes step + j * slope seconds.
    """
    return start + step * steps + slope * (0.5 * steps * (steps - 1))


def run_ends(runs: NDArray[np.void]) -> Array:
    """Return when every logged run ended, s."""
    return time_after(runs["start"], runs["step"], runs["slope"], runs["steps"].astype(float))


def run_durations(runs: NDArray[np.void]) -> Array:
    """Return how long every logged run took, s."""
    steps = runs["steps"].astype(float)
    duration: Array = runs["step"] * steps + runs["slope"] * 0.5 * steps * (steps - 1)
    return duration


def notes_of(
    traffic: Traffic,
    reasons: NDArray[np.object_],
    issued: Array,
    admitted: Array,
    finish: Array,
    warm_up: WarmUp | None,
) -> tuple[str, ...]:
    """Return warnings for whoever reads the results: that requests were rejected, that the load exceeded the capacity.

    Last come what equal lengths do to a closed loop, and that lengths of recorded traffic are not drawn.

    Args:
        reasons: (R,) why requests were rejected, empty where they were served.
        issued, admitted, finish: (R,) s, as in `Simulation`.
        warm_up: as in `Simulation`.
    """
    overload = _overload(traffic, issued, admitted, finish) if warm_up is None else _unstable(warm_up)
    return (*_rejections(traffic, reasons), *overload, *_in_step(traffic), *_not_drawn(traffic))


def _in_step(traffic: Traffic) -> list[str]:
    """Return a warning where clients stay in step because lengths are equal, and nobody said that they are.

    The closed form takes the clients of such a load to drift apart.
    """
    said = traffic.source is None or traffic.source.isl_dist in ("fixed", "trace")  # `_not_drawn` tells of the latter
    alike = all(np.ptp(tokens) == 0 for tokens in (traffic.input_tokens, traffic.output_tokens))
    if said or traffic.concurrency < 2 or not alike:
        return []
    return [
        "clients in step: all requests have equal lengths, so that requests that start together always end together; "
        "with lengths that vary, clients drift apart and wait less, which is what estimate assumes; "
        "give several classes, a trace, or isl_dist (fixed, uniform:LOW-HIGH)"
    ]


def _not_drawn(traffic: Traffic) -> list[str]:
    """Return a warning where the closed form spreads lengths within a class and the requests do not."""
    if traffic.source is None or traffic.source.isl_dist != "trace":
        return []
    return [
        "equal lengths: isl_dist is trace, but every request has the mean lengths of its class; estimate takes lengths "
        "to spread around them as in recorded traffic, so that its percentiles lie wider; give a trace, or a histogram "
        "of lengths"
    ]


def _unstable(warm_up: WarmUp) -> list[str]:
    """Return a warning where the queue of a stationary load grows without end, or the run is too short to tell."""
    if warm_up.unstable:
        return [
            f"{UNSTABLE}: the queue grows by {warm_up.growth.rate:.3g} requests per second, so that TTFT and E2E grow "
            "as long as the load lasts; lower the rate or add replicas"
        ]
    if not warm_up.settled:
        return ["too short: the warm-up may last longer than half of the run; simulate more requests"]
    return []


def _rejections(traffic: Traffic, reasons: NDArray[np.object_]) -> list[str]:
    """Return a sentence with the number of rejected requests and the first reason, as a list; [] without rejections.

    reasons: (R,) texts, "" where a request was served.
    """
    rows = np.flatnonzero(reasons != "")
    if not len(rows):
        return []
    return [
        f"{len(rows)} of {len(traffic)} requests rejected, as an engine would; the first, row {rows[0] + 1}: "
        f"{reasons[rows[0]]}"
    ]


def _overload(traffic: Traffic, issued: Array, admitted: Array, finish: Array) -> list[str]:
    """Return a warning where the queue of a finite open load kept growing while requests arrived; times (R,) in s."""
    rate = traffic.rate
    if not np.isfinite(rate):
        return []
    begin, end = traffic.arrival[0], traffic.arrival[-1]
    halfway, last = (int(np.sum((issued <= t) & (admitted > t))) for t in (0.5 * (begin + end), end))
    if last < max(GROWING_SHARE * len(traffic), GROWING_LEAST) or last < GROWING_FACTOR * halfway:
        return []
    served = float(np.sum(finish <= end)) / (end - begin)
    return [
        f"{OVERLOAD}: {rate:.3g} requests/s offered, {served:.3g}/s served while they arrived; {last:,} "
        "still queued at the last arrival and the queue was growing, so latencies depend on the length of the "
        "trace; lower the rate or add replicas"
    ]
