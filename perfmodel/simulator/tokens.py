"""Token by token: when each request's tokens came, rebuilt from the log of runs, and what a reader makes of it."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from perfmodel.arrays import Array

if TYPE_CHECKING:
    from perfmodel.simulator.simulation import Simulation


class Timeline(NamedTuple):
    """Stints sorted by request and decoding runs by replica, as the walk over tokens reads them.

    begin: (R+1,) first stint of each request. made, time, tokens: tokens before a stint, end of its prefill (NaN:
    none), tokens it makes by decoding. run: its first run. start, step, slope, steps: of decoding runs. previous: end
    of the decode step before a run on its replica.
    """

    begin: NDArray[np.int64]
    request: NDArray[np.int64]
    made: NDArray[np.int64]
    time: Array
    last: Array
    tokens: NDArray[np.int64]
    run: NDArray[np.int64]
    start: Array
    step: Array
    slope: Array
    steps: NDArray[np.int64]
    active: NDArray[np.int64]
    previous: Array


def timeline(simulation: Simulation) -> Timeline:
    """The log of `simulation`, indexed."""
    runs = simulation.runs[simulation.runs["count"] >= 0]
    runs = runs[np.lexsort((runs["count"], runs["replica"]))]
    stints = simulation.stints[np.argsort(simulation.stints["request"], kind="stable")]
    request, made = stints["request"].astype(np.int64), stints["made"]
    begin = np.searchsorted(request, np.arange(len(simulation.traffic) + 1))
    follows = np.append(request[1:] == request[:-1], False) if len(request) else np.zeros(0, bool)
    resumed = np.append(made[1:] - np.isfinite(stints["time"][1:]), 0) if len(request) else made
    tokens = np.where(follows, resumed, simulation.emitted[request]) - made
    # a decode count belongs to one run of a replica: both are found through one rising key
    span = int(max(runs["count"].max(initial=0), stints["count"].max(initial=0))) + 1
    key = runs["replica"].astype(np.int64) * span + runs["count"]
    first_run = np.searchsorted(key, stints["replica"].astype(np.int64) * span + stints["count"])
    steps = runs["steps"].astype(np.int64)
    end = runs["start"] + runs["step"] * steps + runs["slope"] * (0.5 * steps * (steps - 1))
    previous = np.concatenate([[np.nan], end[:-1]])
    previous[np.searchsorted(runs["replica"], np.unique(runs["replica"]))] = np.nan
    return Timeline(
        begin=begin.astype(np.int64),
        request=request,
        made=made,
        time=stints["time"],
        last=stints["last"],
        tokens=tokens.astype(np.int64),
        run=first_run.astype(np.int64),
        start=runs["start"].copy(),
        step=runs["step"].copy(),
        slope=runs["slope"].copy(),
        steps=steps,
        active=runs["active"].astype(np.int64),
        previous=previous,
    )


def gaps(simulation: Simulation) -> tuple[Array, Array]:
    """Times between tokens of a request (s) and how many such gaps there were, over all requests."""
    line = timeline(simulation)
    if not len(line.start):
        return np.zeros(0), np.zeros(0)
    decodes = line.tokens > 0
    run = line.run[decodes]
    joiners = np.bincount(run, minlength=len(line.start))
    before = np.where(np.isfinite(line.time), line.time, line.last)[decodes]
    own = line.start[run] + line.step[run] - before
    first = np.where(joiners < line.active, line.start + line.step - line.previous, 0.0)
    later = line.step + line.slope * (0.5 * line.steps)
    resumed = np.isfinite(line.time) & np.isfinite(line.last)
    values = np.concatenate([own, first, later, (line.time - line.last)[resumed]])
    counts = [np.ones(len(own)), line.active - joiners, line.active * (line.steps - 1), np.ones(resumed.sum())]
    weights = np.concatenate(counts).astype(float)
    return values[weights > 0], weights[weights > 0]


def token_times(simulation: Simulation, request: int) -> Array:
    """When each token of one request was made, s."""
    line = timeline(simulation)
    times = [float(simulation.first[request])]
    for k in range(line.begin[request], line.begin[request + 1]):
        if line.made[k] > len(times):
            times.append(float(line.time[k]))
        run, left = int(line.run[k]), int(line.tokens[k])
        while left > 0:
            j = np.arange(1, min(left, line.steps[run]) + 1)
            times.extend(line.start[run] + line.step[run] * j + line.slope[run] * (0.5 * j * (j - 1)))
            left -= len(j)
            run += 1
    return np.array(times)


class Experience(NamedTuple):
    """Each request as its reader saw it, (R,): share of token deadlines met, quality of experience, longest gap (s)."""

    fluidity: Array
    quality: Array
    longest: Array


def experience(simulation: Simulation, *, ttft: float, tpot: float) -> Experience:
    """Every request against a reader who expects the first token after `ttft` s and then one every `tpot` s.

    fluidity: fluidity-index of Metron (arXiv:2407.07000, algorithm 1): tokens before their deadline leave slack for
    later ones, a late token counts as all the deadlines that passed and later deadlines start anew from it.
    quality: QoE of Andes (arXiv:2404.16283): the reader digests at most one token every `tpot` s; tokens digested,
    integrated over time until the last one, over the same integral of the expected curve, at most 1.
    """
    line = timeline(simulation)
    fluidity, quality, longest = (np.full(len(simulation.traffic), np.nan) for _ in range(3))
    _walk()(
        simulation.issued,
        simulation.first,
        line.begin,
        line.made,
        line.time,
        line.tokens,
        line.run,
        line.start,
        line.step,
        line.slope,
        line.steps,
        ttft,
        tpot,
        fluidity,
        quality,
        longest,
    )
    return Experience(fluidity, quality, longest)


@lru_cache(maxsize=1)
def _walk() -> Any:
    """The walk over all tokens, compiled; it fills the last three arrays."""
    from perfmodel.simulator.kernel.jit import outer

    return outer(_walk_tokens)


def _walk_tokens(
    issued: Any,
    first: Any,
    begin: Any,
    made: Any,
    time: Any,
    tokens: Any,
    run: Any,
    start: Any,
    step: Any,
    slope: Any,
    steps: Any,
    ttft: float,
    tpot: float,
    fluidity: Any,
    quality: Any,
    longest: Any,
) -> None:
    for r in range(len(issued)):
        if first[r] != first[r]:
            continue
        t = first[r] - issued[r]
        slack, met, missed = ttft - t, 1.0, 0.0
        if slack < 0:
            missed, slack, met = np.floor(-slack / tpot) + 1.0, 0.0, 0.0
        digested, total, count, last, widest = t, t, 1, t, 0.0
        for k in range(begin[r], begin[r + 1]):
            # -1: the token that a resumed prefill made, before those of decode steps
            j, left, at = (-1 if made[k] > count else 0), tokens[k], run[k]
            while left > 0 or j < 0:
                if j < 0:
                    t = time[k] - issued[r]
                    j = 0
                else:
                    if j == steps[at]:
                        at += 1
                        j = 0
                    j += 1
                    left -= 1
                    t = start[at] + step[at] * j + slope[at] * (0.5 * j * (j - 1)) - issued[r]
                gap = t - last
                if gap <= tpot + slack:
                    slack += tpot - gap
                    met += 1.0
                else:
                    missed += np.floor((gap - slack - tpot) / tpot) + 1.0
                    slack = 0.0
                widest, last = max(widest, gap), t
                digested = max(t, digested + tpot)
                total += digested
                count += 1
        end = digested + tpot
        due = min(float(count), max(np.ceil((end - ttft) / tpot), 0.0))
        expected = due * (end - ttft) - tpot * due * (due - 1.0) / 2.0
        fluidity[r] = met / (met + missed)
        quality[r] = min(1.0, (count * end - total) / expected) if expected > 0 else 1.0
        longest[r] = widest
