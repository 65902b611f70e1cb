"""Rebuild when each token was made from the log of a simulation, and measure how readers experience that."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from perfmodel.arrays import Array, Index
from perfmodel.simulator.request_traffic.requests import Whole
from perfmodel.simulator.simulation import Simulation, run_ends, time_after


class Timeline(NamedTuple):
    """Holds the log of a simulation with indices: S stints sorted by request, and D runs with decodes sorted by
    replica.

    A run is a row of consecutive steps of one replica, logged together. A stint is a time in which a request makes one
    token per decode step without a break: from the end of a prefill, or from when its KV was brought in, until it is
    preempted or ends.

    Attributes:
        begin: (R + 1,) first stint of each of R requests.
        request: (S,) request of each stint.
        made: (S,) tokens that the request had when the stint began; with speculative decoding the steps that made them.
        time: (S,) s, end of the prefill before the stint; NaN: none.
        last: (S,) s, last token of the request before that prefill.
        tokens: (S,) decode steps that make its tokens in the stint.
        run: (S,) first run of the stint.
        start, step, slope: (D,) s, as in the log.
        steps: (D,) number of steps.
        active: (D,) sequences that make tokens.
        previous: (D,) s, end of the decode step before the run on the same replica; NaN: none.
    """

    begin: Whole
    request: Whole
    made: Whole
    time: Array
    last: Array
    tokens: Whole
    run: Whole
    start: Array
    step: Array
    slope: Array
    steps: Whole
    active: Whole
    previous: Array


def timeline(simulation: Simulation) -> Timeline:
    """Sort and index the log of `simulation`, so that the tokens of each request can be found."""
    runs = simulation.runs[simulation.runs["count"] >= 0]
    runs = runs[np.lexsort((runs["count"], runs["replica"]))]
    stints = simulation.stints[np.argsort(simulation.stints["request"], kind="stable")]
    request = stints["request"].astype(np.int64)
    return Timeline(
        begin=np.searchsorted(request, np.arange(len(simulation.traffic) + 1)).astype(np.int64),
        request=request,
        made=stints["made"],
        time=stints["time"],
        last=stints["last"],
        tokens=_tokens(simulation, stints, request),
        run=_first_runs(runs, stints),
        start=runs["start"].copy(),
        step=runs["step"].copy(),
        slope=runs["slope"].copy(),
        steps=runs["steps"].astype(np.int64),
        active=runs["active"].astype(np.int64),
        previous=_previous_ends(runs),
    )


def _tokens(simulation: Simulation, stints: NDArray[np.void], request: Whole) -> Whole:
    """Return the tokens that decode steps make in each stint: up to the request's next stint, or to its last token.
    (S,)
    """
    made: Whole = stints["made"]
    if not len(request):
        return made
    follows = np.append(request[1:] == request[:-1], False)
    # where a prefill comes before the next stint, it made the last of the tokens that the stint begins with
    resumed = np.append(made[1:] - np.isfinite(stints["time"][1:]), 0)
    tokens: Whole = (np.where(follows, resumed, simulation.emitted[request]) - made).astype(np.int64)
    return tokens


def _first_runs(runs: NDArray[np.void], stints: NDArray[np.void]) -> Whole:
    """Return the first run of each stint, (S,).

    A decode count belongs to one run of a replica, so one rising key of replica and count finds it.
    """
    span = int(max(runs["count"].max(initial=0), stints["count"].max(initial=0))) + 1
    run_key, stint_key = (log["replica"].astype(np.int64) * span + log["count"] for log in (runs, stints))
    first: Whole = np.searchsorted(run_key, stint_key).astype(np.int64)
    return first


def _previous_ends(runs: NDArray[np.void]) -> Array:
    """Return the end (s) of the run before each run on the same replica; NaN where there is none."""
    previous = np.concatenate([[np.nan], run_ends(runs)[:-1]])
    previous[np.searchsorted(runs["replica"], np.unique(runs["replica"]))] = np.nan
    return previous


def gaps(simulation: Simulation) -> tuple[Array, Array, Array]:
    """Return (times between successive tokens of a request in s, how often each occurred, when in s), of all requests.

    Gaps between steps of one run count once per sequence, at the mean of the run and at its end, so that the log is
    read once.
    """
    line = timeline(simulation)
    if not len(line.start):
        return np.zeros(0), np.zeros(0), np.zeros(0)
    decodes = line.tokens > 0
    run: Index = line.run[decodes]
    joiners = np.bincount(run, minlength=len(line.start))  # stints that begin with a run
    before = np.where(np.isfinite(line.time), line.time, line.last)[decodes]
    begun, ended = line.start + line.step, time_after(line.start, line.step, line.slope, line.steps)
    own = begun[run] - before
    first = np.where(joiners < line.active, begun - line.previous, 0.0)
    later = line.step + line.slope * (0.5 * line.steps)
    resumed = np.isfinite(line.time) & np.isfinite(line.last)
    values = np.concatenate([own, first, later, (line.time - line.last)[resumed]])
    counts = [np.ones(len(own)), line.active - joiners, line.active * (line.steps - 1), np.ones(resumed.sum())]
    weights = np.concatenate(counts).astype(float)
    times = np.concatenate([begun[run], begun, ended, line.time[resumed]])
    return values[weights > 0], weights[weights > 0], times[weights > 0]


def token_times(simulation: Simulation, request: int) -> Array:
    """Return when each token of one request was made, s. (output tokens,)

    That of a lone token is when it was handed on.
    """
    line = timeline(simulation)
    times = [float(_first_made(simulation, line)[request])]
    for k in range(line.begin[request], line.begin[request + 1]):
        if line.made[k] > len(times):
            times.append(float(line.time[k]))
        run, left = int(line.run[k]), int(line.tokens[k])
        while left > 0:
            steps = np.arange(1, min(left, line.steps[run]) + 1)
            times.extend(time_after(line.start[run], line.step[run], line.slope[run], steps))
            left -= len(steps)
            run += 1
    return np.array(times)


def _first_made(simulation: Simulation, line: Timeline) -> Array:
    """Return when the first token of each request was made, s, (R,); where no other follows, when it was handed on."""
    follows = np.flatnonzero(line.begin[1:] > line.begin[:-1])
    time, made = line.time[line.begin[follows]], simulation.first.copy()
    made[follows] = np.where(np.isfinite(time), time, made[follows])
    return made


class Experience(NamedTuple):
    """Holds how the reader of each of R requests experienced the pace of its tokens.

    Attributes:
        fluidity: (R,) share of token deadlines met.
        quality: (R,) quality of experience, at most 1.
        longest: (R,) s, longest gap between two tokens.
    """

    fluidity: Array
    quality: Array
    longest: Array


def experience(simulation: Simulation, *, ttft: float, tpot: float) -> Experience:
    """Compare every request with a reader who expects the first token after `ttft` s and then one every `tpot` s.

    fluidity: fluidity index of Metron (arXiv:2407.07000, algorithm 1). Tokens before their deadline leave slack for
    later ones. A late token counts as all the deadlines that have passed, and later deadlines start anew from it.
    quality: QoE of Andes (arXiv:2404.16283). The reader digests at most one token every `tpot` s; tokens digested,
    integrated over time until the last one, divided by the same integral of the expected curve, at most 1. Where tokens
    are handed on late, all of a request are taken to be as late as its first.
    """
    from perfmodel.simulator.kernel import compiled, interpreted

    scores = np.full((3, len(simulation.traffic)), np.nan)
    reader = (float(ttft), float(tpot))
    short = int(simulation.emitted.sum()) <= interpreted.MOST_TOKENS and not compiled.ready("walk")
    walk = interpreted.walk if short else compiled.token_walk()
    line = timeline(simulation)
    made = _first_made(simulation, line)
    walk(simulation.issued - (simulation.first - made), made, line, reader, scores)
    return Experience(fluidity=scores[0], quality=scores[1], longest=scores[2])
