"""Define `Step`, the tokens of one forward pass of an engine, and compute the share of them that one device handles."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from operator import attrgetter
from typing import NamedTuple

import numpy as np

from perfmodel.arrays import Array, Mask, clipped, common_shape
from perfmodel.deployment import Sharding

#: Least sequences that prompt tokens are divided among, so that an absent prompt divides by no zero.
LEAST_SEQUENCES = 1e-9


@dataclass(frozen=True)
class Step:
    """Describe one forward pass of one replica's batch (or micro-batch); arrays broadcast to (C, N).

    prefill_tokens: new prompt tokens of all sequences. prefill_seqs: sequences that they belong to.
    prefill_context: tokens cached before them, per sequence. prefill_hit: those of prefill_context that the prefix
    cache supplied, per sequence.
    decode_seqs: sequences that generate. decode_context: their mean length, tokens. decode_tokens: tokens verified per
    sequence and step (1, or 1 + draft tokens).
    All counts are of the whole replica. Attention data parallelism divides sequences evenly among its ranks; each
    prompt stays on one rank.
    """

    prefill_tokens: Array | float = 0.0
    prefill_context: Array | float = 0.0
    prefill_seqs: Array | float = 1.0
    decode_seqs: Array | float = 0.0
    decode_context: Array | float = 0.0
    decode_tokens: Array | float = 1.0
    prefill_hit: Array | float = 0.0

    def columns(self) -> tuple[Array | float, ...]:
        """Return the value of every field, in their order."""
        values: tuple[Array | float, ...] = _VALUES(self)
        return values

    @property
    def tokens(self) -> Array:
        """Return the tokens of the step, prompts and decodes together. (C, N)"""
        return np.asarray(self.prefill_tokens + np.multiply(self.decode_seqs, self.decode_tokens), float)

    def part(self, pieces: int | Array) -> Step:
        """Return one of `pieces` equal micro-batches: sequences are divided, their lengths stay."""
        shared = ("prefill_tokens", "prefill_seqs", "decode_seqs")
        return replace(self, **{name: np.asarray(getattr(self, name), float) / pieces for name in shared})


_VALUES = attrgetter(*(f.name for f in fields(Step)))


class Prompts(NamedTuple):
    """Describe the prompts of a step on one device.

    batch: sequences. query: new tokens per sequence. context: cached tokens per sequence. active: whether the step has
    prompts; where it has none, the other fields are a valid dummy shape.
    """

    batch: Array
    query: Array
    context: Array
    active: Mask


def step_shape(step: Step, column: Array) -> tuple[int, ...]:
    """Return the shape of the cost of a step, where `column` is any column of the candidates, (N,)."""
    return common_shape(column.shape, *(getattr(c, "shape", ()) for c in step.columns()))


def prompt_ranks(sharding: Sharding, step: Step) -> Array:
    """Return the ranks of attention data parallelism that have prompts in a step: at most one per prompt."""
    ranks: Array = clipped(np.asarray(step.prefill_seqs, float), 1.0, sharding.dp)
    return ranks


def prompt_seqs(step: Step) -> Array:
    """Return the number of sequences with prompt tokens in a step; 0 where it has none."""
    return np.where(np.asarray(step.prefill_tokens) > 0, np.asarray(step.prefill_seqs, float), 0.0)


def prompt_tokens(sharding: Sharding, step: Step) -> Array:
    """Return the prompt tokens of the busiest device; context parallelism (cp) splits them within a rank."""
    return np.asarray(step.prefill_tokens, float) / sharding.cp / prompt_ranks(sharding, step)


def decode_seqs(sharding: Sharding, step: Step) -> Array:
    """Return the decoding sequences of one rank of attention data parallelism."""
    return np.asarray(step.decode_seqs, float) / sharding.dp


def decode_tokens(sharding: Sharding, step: Step) -> Array:
    """Return the decode tokens, drafts included, of one rank of attention data parallelism."""
    return np.asarray(np.multiply(step.decode_seqs, step.decode_tokens) / sharding.dp, float)


def local_tokens(sharding: Sharding, step: Step) -> Array:
    """Return the tokens that the dense layers of the busiest device handle."""
    return prompt_tokens(sharding, step) + decode_tokens(sharding, step)


def all_tokens(sharding: Sharding, step: Step) -> Array:
    """Return the tokens of all ranks of attention data parallelism together, on which routed experts work."""
    return np.asarray(step.prefill_tokens, float) / sharding.cp + np.multiply(step.decode_seqs, step.decode_tokens)


def on(condition: Mask, count: float | Array) -> Array:
    """Return `count` where `condition` holds, else 0: absent operators stay in the list with no calls."""
    return np.where(condition, count, 0.0)


def prefill_shape(sharding: Sharding, step: Step) -> Prompts:
    """Return the prompts of a step on one device, equal in length."""
    tokens = np.asarray(step.prefill_tokens, float)
    seqs = np.maximum(np.asarray(step.prefill_seqs, float), LEAST_SEQUENCES)
    return Prompts(
        batch=seqs / prompt_ranks(sharding, step) / sharding.cp,
        query=np.where(tokens > 0, tokens / seqs, 1.0),
        context=np.asarray(step.prefill_context, float),
        active=tokens > 0,
    )
