"""A batch of requests that are all there at the start: how a replica fills with them and empties again.

Fluid limit of the engine's loop on the clock of decode passes, cut into cells. A sequence that entered `a` passes ago
still runs with the chance that its answer is longer than `a`; the room that ends leave is taken from the queue as fast
as prompts are computed. Its end is a tail: fewer and fewer sequences run, until the longest answer is done.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from perfmodel.answers import LEAST_SPREAD, longest, survival
from perfmodel.curves import interpolate
from perfmodel.demand import Array

#: Cells of the clock; more of them change the makespan by less than 1 %.
_CELLS = 40
#: A batch of more than so many times what runs at once goes on as it does in its middle.
_FILLS = 3.0


@dataclass(frozen=True)
class Batch:
    """Requests that are all there at the start, on each of N candidates: (N,), or (C, N) by class.

    count: requests. room: sequences that run at once. answers: decode passes of an answer, (C, N); spread: their
    coefficient of variation within a class; limit: the longest; share: of requests, (C, N). knots, steps: (K, N)
    running sequences up to `room` and the wall time of a decode pass with so many. fixed, each: seconds of prompts, a
    pass that carries any and a prompt, on top of the decode pass they share or, where `apart`, alone. prompt: tokens of
    one; budget: a pass. gap, pace: seconds a request and a token (pass) in the middle of a long batch.
    """

    count: Array
    room: Array
    answers: Array
    spread: Array
    limit: Array
    share: Array
    knots: Array
    steps: Array
    fixed: Array
    each: Array
    prompt: Array
    budget: Array
    gap: Array
    pace: Array
    apart: bool


@dataclass(frozen=True)
class Emptied:
    """How a batch went, (N,). first: mean seconds until a prompt is computed. makespan: seconds until the last answer
    ends. tpot: mean seconds between the tokens of a request. running, step: mean sequences of a decode pass, and
    its mean seconds."""

    first: Array
    makespan: Array
    tpot: Array
    running: Array
    step: Array


def empty(batch: Batch) -> Emptied:
    """Play `batch` out in the fluid limit."""
    played = np.minimum(batch.count, _FILLS * batch.room)
    width = _passes(batch, played) / _CELLS
    whole, half, weight = _tables(batch, width)
    shortest, most = np.min(batch.answers, axis=0), np.max(batch.answers, axis=0)
    alike = (batch.spread < LEAST_SPREAD) & (most - shortest < LEAST_SPREAD * most)
    early, even = np.zeros((_CELLS, len(width))), np.zeros((_CELLS, len(width)))
    clock, entered, first, tpot, made, active, spent = (np.zeros_like(width) for _ in range(7))
    clocks, counts = [clock], [entered]
    for cell in range(_CELLS):
        ages = slice(cell, 0, -1)
        older = _dot(early[:cell], whole[ages]) + _dot(even[:cell], half[ages])
        a_pass = np.maximum(batch.budget - (0.0 if batch.apart else older), batch.budget / 8.0) / batch.prompt
        left, free = played - entered, np.maximum(batch.room - older, 0.0)
        came = np.minimum(left, free)
        came = came if batch.apart else np.minimum(came, a_pass * width)
        # share of the cell over which they come: at once where room is there, else as others end
        over = np.zeros_like(came) if batch.apart else np.minimum(came / (a_pass * width), 1.0)
        over = over if cell == 0 else np.where(left <= free, over, 1.0)
        early[cell], even[cell] = came * (1.0 - over), came * over
        running = older + early[cell] * whole[0] + even[cell] * half[0]
        entered = entered + came
        grouped = np.maximum(came / np.maximum(a_pass, 1.0), np.minimum(came, 1.0))
        carrying = np.where((over < 1.0) | alike, grouped, np.clip(width, grouped, np.maximum(came, grouped)))
        prompts = carrying * batch.fixed + came * batch.each
        step = interpolate(batch.knots, batch.steps, running)
        going = _any(running, np.maximum(entered, 1.0))
        decoding = width * step * going
        first = first + came * (clock + (prompts + over * decoding) / 2.0 * (1.0 + 1.0 / np.maximum(grouped, 1.0)))
        mine = (1.0 - over / 2.0) * decoding + prompts / 2.0
        others = _dot(early[:cell] + even[:cell], weight[ages])
        tpot = tpot + (came * weight[0] * mine + others * (decoding + prompts)) / width
        clock = clock + decoding + prompts
        made, active, spent = made + running, active + going, spent + going * step
        clocks.append(clock)
        counts.append(entered)
    done = Emptied(first / played, clock, tpot / played, made / active, spent / active)
    return _longer(done, batch, width * active, np.stack(counts), np.stack(clocks))


def _longer(done: Emptied, batch: Batch, passes: Array, counts: Array, clocks: Array) -> Emptied:
    """The batch with the requests that were not played, which go on as in the middle of those that were."""
    rest = np.maximum(batch.count - counts[-1], 0.0)
    last = _when(counts[-1] * (1.0 - 1e-6), counts, clocks)
    part = rest / batch.count
    more = rest * np.sum(batch.answers * batch.share, axis=0) / batch.room
    full = more / (passes + more)
    return replace(
        done,
        first=(1.0 - part) * done.first + part * (last + rest * batch.gap / 2.0),
        makespan=done.makespan + rest * batch.gap,
        tpot=(1.0 - part) * done.tpot + part * batch.pace,
        running=(1.0 - full) * done.running + full * batch.room,
        step=(1.0 - full) * done.step + full * batch.steps[-1],
    )


def _passes(batch: Batch, played: Array) -> Array:
    """Decode passes that `played` requests take at most, from the first prompt to the last token. (N,)"""
    mean = np.sum(batch.answers * batch.share, axis=0)
    at_once = np.minimum(played, batch.room)
    tail = np.max(longest(batch.answers, batch.spread, np.maximum(at_once, 1.0)), axis=0)
    tail = np.minimum(tail * 1.02, np.maximum(batch.limit, mean)) + 1.0
    free = np.maximum(batch.budget - at_once, batch.budget / 8.0)
    filling = 0.0 if batch.apart else played * batch.prompt / free
    return filling + (np.ceil(played / batch.room - 1e-6) - 1.0) * mean + tail


def _tables(batch: Batch, width: Array) -> tuple[Array, Array, Array]:
    """By age in cells (G, N): share of sequences still running that began at the start of a cell, in the middle of one,
    and the share of its life that a sequence spends at that age."""

    def running(cells: Array) -> Array:
        ages = cells[:, None, None] * width
        longer = survival(batch.answers, batch.spread, ages) * (ages < np.maximum(batch.limit, batch.answers) * 1.02)
        return np.sum(longer * batch.share, axis=1)

    ages = np.arange(_CELLS + 1.0)
    edges = running(ages)
    ended = edges[:-1] - np.concatenate([edges[1:-1], np.zeros_like(edges[:1])])
    weight = np.cumsum((ended / (ages[:-1, None] + 1.0))[::-1], axis=0)[::-1]
    half = edges[:-1].copy()
    half[0] = 0.5 * (1.0 + edges[1]) / 2.0
    return running(ages[:-1] + 0.5), half, weight


def _any(running: Array, entered: Array) -> Array:
    """Chance that a sequence still runs where `running` of `entered` do on average, each by itself."""
    return -np.expm1(entered * np.log1p(-np.minimum(running / entered, 1.0 - 1e-12)))


def _dot(came: Array, shares: Array) -> Array:
    """Sum over cells. (G, N), (G, N) -> (N,)"""
    return np.einsum("gn,gn->n", came, shares)


def _when(count: Array, counts: Array, clocks: Array) -> Array:
    """Time at which `count` requests had entered; counts and clocks rise along their first axis. (N,)"""
    return interpolate(counts, clocks, count)
