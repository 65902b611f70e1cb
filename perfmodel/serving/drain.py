"""A batch of requests that are all there at the start: how a replica fills with them and empties again.

Fluid limit of the engine's loop on the clock of decode passes, cut into cells. A sequence that entered `a` passes ago
still runs with the chance that its answer is longer than `a`; the room that ends leave is taken from the queue as fast
as prompts are computed. Its end is a tail: fewer and fewer sequences run, until the longest answer is done.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from perfmodel.arrays import Array, interpolate
from perfmodel.workload import LEAST_LENGTH_CV, RANKS, longest, survival

#: Cells of the clock; more of them change the makespan by less than 1 %.
_CELLS = 40
#: The clock goes on until the longest of so many times the answers would be done: hardly any ends later.
_RARE = 20.0
#: A batch of more than so many times what runs at once goes on as it does in its middle.
_FILLS = 3.0


@dataclass(frozen=True)
class Batch:
    """Requests that are all there at the start, on each of N candidates: (N,), or (C, N) by class.

    count: requests. room: sequences that run at once. answers: decode passes of an answer, (C, N); length_cv: their
    coefficient of variation within a class; limit: the longest; share: of requests, (C, N). knots, steps: (K, N)
    running sequences up to `room` and the wall time of a decode pass with so many. fixed, each: seconds of prompts, a
    pass that carries any and a prompt, on top of the decode pass they share or, where `apart`, alone. prompt: tokens of
    one; budget: a pass. gap, pace: seconds a request and a token (pass) in the middle of a long batch.
    """

    count: Array
    room: Array
    answers: Array
    length_cv: Array
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
class Drained:
    """How a batch went, (N,) or (C, N). first: mean seconds until a prompt is computed. makespan: seconds until the
    last answer ends. tpot: mean seconds between the tokens of a request, by class. running, step: mean sequences of a
    decode pass and its mean seconds, by the tokens that it makes. entry: (Q, N) seconds until the share `RANKS` of all
    prompts is computed."""

    first: Array
    makespan: Array
    tpot: Array
    running: Array
    step: Array
    entry: Array


def empty(batch: Batch) -> Drained:
    """Play `batch` out in the fluid limit."""
    played = np.minimum(batch.count, _FILLS * batch.room)
    width = _passes(batch, played) / _CELLS
    whole, half = _running(batch, width)
    alike = _alike(batch)
    early, even, meets = (np.zeros((_CELLS, len(width))) for _ in range(3))
    clock, entered, first, made, squares, spent = (np.zeros_like(width) for _ in range(6))
    clocks: list[Array] = []
    counts: list[Array] = []
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
        # what those of each age meet in this cell: its own prompts on average half of all
        meets[0] += came * ((1.0 - over / 2.0) * decoding + prompts / 2.0)
        meets[1 : cell + 1] += (early + even)[:cell][::-1] * (decoding + prompts)
        clocks += [clock, clock + prompts + over * decoding]
        counts += [entered - came, entered]
        clock = clock + decoding + prompts
        made, squares, spent = made + running, squares + np.square(running), spent + running * step
    tpot = _tpot(batch, width, meets / (entered * width))
    done = Drained(first / played, clock, tpot, squares / made, spent / made, np.empty(0))
    return _longer(done, batch, width * made, np.stack(counts), np.stack(clocks))


def _longer(done: Drained, batch: Batch, tokens: Array, counts: Array, clocks: Array) -> Drained:
    """The batch with the requests that were not played, which go on as in the middle of those that were.

    tokens: that were made; counts, clocks: (2 G, N) requests entered and seconds gone by when those of a cell begin and
    end to enter.
    """
    rest = np.maximum(batch.count - counts[-1], 0.0)
    last = interpolate(counts, clocks, counts[-1] * (1.0 - 1e-6))
    part = rest / batch.count
    more = rest * np.sum(batch.answers * batch.share, axis=0)
    full = more / (tokens + more)
    ranked = np.array(list(RANKS.values()))[:, None] * batch.count
    late = np.maximum(ranked - counts[-1], 0.0) * batch.gap
    entry = np.stack([interpolate(counts, clocks, np.minimum(r, counts[-1])) for r in ranked]) + late
    return Drained(
        first=(1.0 - part) * done.first + part * (last + rest * batch.gap / 2.0),
        makespan=done.makespan + rest * batch.gap,
        tpot=(1.0 - part) * done.tpot + part * batch.pace,
        running=(1.0 - full) * done.running + full * batch.room,
        step=(1.0 - full) * done.step + full * batch.steps[-1],
        entry=entry,
    )


def _passes(batch: Batch, played: Array) -> Array:
    """Decode passes that `played` requests take at most, from the first prompt to the last token. (N,)"""
    mean = np.sum(batch.answers * batch.share, axis=0)
    at_once = np.minimum(played, batch.room)
    tail = np.max(longest(batch.answers, batch.length_cv, np.maximum(at_once, 1.0) * _RARE), axis=0)
    tail = np.minimum(tail * 1.02, np.maximum(batch.limit, mean)) + 1.0
    free = np.maximum(batch.budget - at_once, batch.budget / 8.0)
    filling = 0.0 if batch.apart else played * batch.prompt / free
    return filling + (np.ceil(played / batch.room - 1e-6) - 1.0) * mean + tail


def _alike(batch: Batch) -> np.ndarray:
    """Whether all answers are equal, so that what starts together ends together. (N,)"""
    shortest, most = np.min(batch.answers, axis=0), np.max(batch.answers, axis=0)
    return np.asarray((batch.length_cv < LEAST_LENGTH_CV) & (most - shortest < LEAST_LENGTH_CV * most))


def _longer_than(batch: Batch, kind: int, ages: Array) -> Array:
    """Share of answers of class `kind` that are longer than `ages` passes, none beyond the limit."""
    answers = batch.answers[kind]
    allowed = ages < np.maximum(batch.limit, answers) * (1.0 + LEAST_LENGTH_CV)
    return survival(answers, batch.length_cv, ages) * allowed


def _running(batch: Batch, width: Array) -> tuple[Array, Array]:
    """(G, N) share of sequences that still run so many cells on: of those that began at the start of a cell, and of
    those that came evenly over it; each in the middle of a cell."""
    whole, half = (np.zeros((_CELLS, len(width))) for _ in range(2))
    ages = np.arange(_CELLS)[:, None] * width
    for kind, share in enumerate(batch.share):
        whole += share * _longer_than(batch, kind, ages + width / 2.0)
        half += share * _longer_than(batch, kind, ages)
    half[0] = (1.0 + whole[0]) / 4.0
    return whole, half


def _tpot(batch: Batch, width: Array, meets: Array) -> Array:
    """Mean seconds a token by class, (C, N); meets: (G, N) seconds a pass that a request meets at each age in cells.

    A request of so many cells spends an equal part of its passes in each.
    """
    out = np.zeros_like(batch.answers * width)
    count = np.arange(1.0, _CELLS + 1.0)[:, None]
    for kind in range(len(out)):
        edges = _longer_than(batch, kind, np.arange(_CELLS)[:, None] * width)
        edges[0] = 1.0
        ended = edges - np.concatenate([edges[1:], np.zeros_like(edges[:1])])
        spends = np.cumsum((ended / count)[::-1], axis=0)[::-1]
        out[kind] = _dot(spends, meets)
    return out


def _any(running: Array, entered: Array) -> Array:
    """Chance that a sequence still runs where `running` of `entered` do on average, each by itself."""
    return -np.expm1(entered * np.log1p(-np.minimum(running / entered, 1.0 - 1e-12)))


def _dot(came: Array, shares: Array) -> Array:
    """Sum over cells. (G, N), (G, N) -> (N,)"""
    return np.einsum("gn,gn->n", came, shares)
