"""Describe a step whose time is to be computed, and cut prompts into steps under a token budget."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import reduce
from typing import NamedTuple

import numpy as np

from perfmodel.arrays import Array, Mask, stack
from perfmodel.costs import StepCost, mean_cost
from perfmodel.operators import Step

#: Share of the token budget that prefill keeps at least, however many sequences decode in the same step. Chosen:
#: engines schedule decodes first, so that prompts starve where decodes fill the budget; an equilibrium needs a positive
#: rate, and batches that large stand at the edge of what engines allow (max_num_seqs is a fraction of the budget).
MIN_PREFILL_SHARE = 1.0 / 8.0

#: Steps with prompts are not replayed from a captured graph: their shapes differ from step to step.
NOT_CAPTURED = np.zeros(1, bool)

#: Share of a token budget that is rounding of sums of floats, not another step.
_ROUNDING = 1e-9


class PlannedStep(NamedTuple):
    """Describe a step whose time is to be computed.

    step: the tokens that it carries. seqs: sequences that the host schedules, (N,). captured: whether it is replayed
    from a captured graph, (N,). n_steps: how many such steps the work takes. whole: how many whole prompts its tokens
    make, (N,) or (C, N), so that the steps of a prompt in pieces have one in all; 0 for a decode step.
    """

    step: Step
    seqs: Array
    captured: Mask
    n_steps: Array
    whole: Array | float = 0.0


class PricedStep(NamedTuple):
    """Hold the device cost and the wall time (seconds) of one step."""

    cost: StepCost
    wall: Array


class PlannedPrompts(NamedTuple):
    """Describe the steps that compute some prompts, as one or two kinds of step: full ones, and the last with the rest.

    parts: the kinds, full steps first where there are any; `n_steps` of each may be 0. abreast: prompts that
    micro-batches of a pipeline take side by side, (N,); 1 where all steps follow one another.
    """

    parts: tuple[PlannedStep, ...]
    abreast: Array | float = 1.0

    @property
    def n_steps(self) -> Array:
        """Return the number of steps of all kinds together, (C, N)."""
        return np.asarray(sum(p.n_steps for p in self.parts))


class PricedPrompts(NamedTuple):
    """Hold what the steps of a `PlannedPrompts` take; arrays are (C, N) or (N,).

    planned: the steps. costs: device cost of a step of each kind. wall: mean seconds of a step. n_steps: number of
    steps. walls: seconds of a step of each kind.
    """

    planned: PlannedPrompts
    costs: tuple[StepCost, ...]
    wall: Array
    n_steps: Array
    walls: tuple[Array, ...]

    @property
    def cost(self) -> StepCost:
        """Return the mean device cost of a step."""
        if len(self.costs) == 1:
            return self.costs[0]
        return mean_cost(list(self.costs), [np.asarray(n, float) / self.n_steps for n in self.counts])

    @property
    def counts(self) -> tuple[Array, ...]:
        """Return the number of steps of each kind."""
        return tuple(p.n_steps for p in self.planned.parts)

    @property
    def longest(self) -> Array:
        """Return the seconds of the longest step."""
        taken = [np.where(n > 0, w, 0.0) for w, n in zip(self.walls, self.counts, strict=True)]
        return reduce(np.maximum, taken)

    def pipelined(self, stages: Array) -> Array:
        """Return the seconds until all steps have passed a pipeline of `stages` (N,) equal stages.

        Derived: a stage takes wall / stages of a step. The stages work on successive steps at once, so the last stage
        ends after the times of all steps, and after those of a full step for each stage before it. Prompts side by side
        are in different stages already: each waits for its own steps only, but all of them for every step's turn.
        """
        pace = np.where(self.counts[0] > 0, self.walls[0], self.walls[-1])
        own = np.maximum(self.n_steps / np.maximum(self.planned.abreast, 1.0), 1.0)
        behind = np.maximum(own + stages - 1.0 - self.n_steps, 0.0)
        return np.asarray((self.wall * self.n_steps + behind * pace) / stages)

    def busy(self, stages: Array) -> Array:
        """Return the seconds that all steps keep each of the stages of a pipeline, `stages` (N,), at work."""
        return np.asarray(self.wall * self.n_steps / stages)

    def longer_than(self, seconds: Array) -> Array:
        """Return by how many seconds all steps together exceed as many steps of `seconds` (N,), none by less than 0."""
        extra = (n * np.maximum(w - seconds, 0.0) for w, n in zip(self.walls, self.counts, strict=True))
        return np.asarray(sum(extra))

    def delaying(self, seconds: Array, stages: Array) -> Array:
        """Return by how many seconds all steps together delay sequences whose decode steps take `seconds`, (N,).

        Derived: a pipeline of `stages` (N,) advances as many micro-batches per round. Each passes all stages before its
        next step begins, in turn, so that a round takes as long as its longest micro-batch, however many are longer.
        """
        longest = np.maximum(self.longest - seconds, 0.0)
        return np.asarray(np.maximum(self.longer_than(seconds) / stages, longest))


class Chunk(NamedTuple):
    """Tell how one kind of step cuts prompts. n_steps: how many steps. tokens, prompts: per step.

    context: mean tokens that precede those of a chunk.
    """

    n_steps: Array
    tokens: Array
    prompts: Array
    context: Array


def prefill_budget(budget: Array, decodes: Array | float) -> Array:
    """Return the tokens per step that prefill can use while `decodes` sequences decode.

    It is what they leave of `budget` (tokens per step), but at least a fixed share of it.
    """
    return np.maximum(budget - decodes, budget * MIN_PREFILL_SHARE)


def chunks(new: Array, cached: Array, seqs: Array | float, budget: Array, ranks: Array | float = 1.0) -> list[Chunk]:
    """Cut `seqs` prompts into steps under a token budget (chunked prefill): full steps, then one with what is left.

    Engines fill each step before they begin another (Sarathi-Serve, arXiv:2403.02310, algorithm 3; vLLM's scheduler
    takes min(tokens left, budget left) of each prompt in turn).

    Args:
        new: tokens to compute per prompt, (C, N).
        cached: tokens before them, found in the prefix cache, (C, N).
        seqs: prompts, (N,) or one number.
        budget: tokens per step, (N,).
        ranks: ranks of attention data parallelism that compute prompts side by side, (N,) or one number.

    Returns:
        The full steps that others follow, if any candidate has such, and the last steps if any has such: the one with
        what is left, or all where nothing is left, so that fewer kinds of step are priced.
    """
    total: Array = np.asarray(new * seqs, np.float64)
    filled: Array = np.minimum(budget, total)
    full = np.asarray(np.floor(total / budget + _ROUNDING), np.float64)
    rest = np.maximum(total - full * filled, 0.0)
    last = (rest > _ROUNDING * filled) | ~(full >= 1.0)  # an unknown number of prompts takes an unknown time
    prompts: Array = np.maximum(np.minimum(filled / new, seqs), np.minimum(ranks, filled))
    before = cached + np.maximum(new - rest / seqs - filled / prompts, 0.0) / 2.0
    out = []
    if np.any(last & (full > 0)):
        out.append(Chunk(n_steps=np.where(last, full, 0.0), tokens=filled, prompts=prompts, context=before))
    tokens: Array = np.where(last, np.maximum(rest, 1.0), filled)
    left = np.where(last, np.maximum(tokens / new, np.minimum(ranks, tokens)), prompts)
    after = np.where(last, cached + np.maximum(new - tokens / left, 0.0), before)
    out.append(Chunk(np.where(last, 1.0, full), tokens, left, after))
    return out


def row_slices(shapes: Sequence[tuple[int, ...]]) -> list[slice]:
    """Return the rows of each of several arrays that lie below each other in one table; shapes: (..., N) of each."""
    out, start = [], 0
    for shape in shapes:
        stop = start + math.prod(shape[:-1])
        out.append(slice(start, stop))
        start = stop
    return out


def below_each_other(steps: Sequence[Step], shapes: Sequence[tuple[int, ...]], rows: Sequence[slice]) -> Step:
    """Merge several steps into one whose arrays are the rows of all of them, (R, N).

    shapes: (..., N) that the arrays of each step are broadcast to. rows: as `row_slices` gives them.
    """
    table = np.empty((len(steps[0].columns()), rows[-1].stop, shapes[0][-1]))
    for step, shape, some in zip(steps, shapes, rows, strict=True):
        for column, value in zip(table[:, some], step.columns(), strict=True):
            column.reshape(shape)[...] = value
    return Step(*table)


def stacked(steps: list[Step], common: tuple[int, ...]) -> Step:
    """Merge several steps into one whose arrays have a new first axis, one entry per step.

    `common` is the shape that the arrays of each step are broadcast to.
    """
    by_step = [[_trimmed(value, common) for value in step.columns()] for step in steps]
    return Step(*(stack(values, common) for values in zip(*by_step, strict=True)))


def _trimmed(values: Array | float, common: tuple[int, ...]) -> Array | float:
    """Return `values` without the leading axes of length one that the shape `common` does not have."""
    if not isinstance(values, np.ndarray) or values.ndim <= len(common):
        return values
    return values.reshape(values.shape[values.ndim - len(common) :])
