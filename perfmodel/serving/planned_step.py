"""Describe a step whose time is to be computed, and cut prompts into steps under a token budget."""

from __future__ import annotations

from dataclasses import fields
from typing import NamedTuple

import numpy as np

from perfmodel.arrays import Array, Mask
from perfmodel.costs import StepCost
from perfmodel.operators import Step

#: Share of the token budget that prefill keeps at least, however many sequences decode in the same step. Chosen:
#: engines schedule decodes first, so that prompts starve where decodes fill the budget; an equilibrium needs a positive
#: rate, and batches that large stand at the edge of what engines allow (max_num_seqs is a fraction of the budget).
MIN_PREFILL_SHARE = 1.0 / 8.0

#: Steps with prompts are not replayed from a captured graph: their shapes differ from step to step.
NOT_CAPTURED = np.zeros(1, bool)


class PlannedStep(NamedTuple):
    """Describe a step whose time is to be computed.

    step: the tokens that it carries. seqs: sequences that the host schedules, (N,). captured: whether it is replayed
    from a captured graph, (N,). factor: device time relative to that of `step` (more than 1 with draft layers of
    speculative decoding). n_steps: how many such steps the work takes.
    """

    step: Step
    seqs: Array
    captured: Mask
    factor: Array | float
    n_steps: Array


class PricedStep(NamedTuple):
    """Hold the device cost and the wall time (seconds) of one step."""

    cost: StepCost
    wall: Array


class Chunks(NamedTuple):
    """Tell how prompts are cut into steps. tokens, prompts: per step.

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


def chunks(new: Array, cached: Array, seqs: Array | float, budget: Array) -> Chunks:
    """Cut `seqs` prompts into steps of equal size under a token budget (chunked prefill).

    Args:
        new: tokens to compute per prompt, (C, N).
        cached: tokens before them, found in the prefix cache, (C, N).
        seqs: prompts, (N,) or one number.
        budget: tokens per step, (N,).
    """
    total = new * seqs
    n_steps = np.maximum(np.ceil(total / budget), 1.0)
    tokens = total / n_steps
    prompts = np.maximum(seqs / n_steps, np.minimum(1.0, tokens))
    return Chunks(n_steps, tokens, prompts, cached + np.maximum(new - tokens / prompts, 0.0) / 2.0)


def stacked(steps: list[Step], common: tuple[int, ...]) -> Step:
    """Merge several steps into one whose arrays have a new first axis, one entry per step.

    `common` is the shape that the arrays of each step are broadcast to.
    """

    def column(name: str) -> Array:
        values = (np.asarray(getattr(s, name), float) for s in steps)
        return np.stack([np.broadcast_to(v.reshape(_trimmed(v, common)), common) for v in values])

    return Step(**{f.name: column(f.name) for f in fields(Step)})


def _trimmed(values: Array, common: tuple[int, ...]) -> tuple[int, ...]:
    """Return the shape of `values` without the leading axes of length one that the shape `common` does not have."""
    return values.shape[max(values.ndim - len(common), 0) :]
