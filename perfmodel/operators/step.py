"""One forward pass, as what it carries; and the small helpers that turn it into a device's share."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

import numpy as np

from perfmodel.arrays import Array, Mask
from perfmodel.deployment import Sharding


@dataclass(frozen=True)
class Step:
    """One forward pass of one replica's micro-batch; arrays broadcast to (C, N).

    prefill_tokens: new prompt tokens, prefill_context: tokens cached before them in each sequence, prefill_hit: those
    of them that the prefix cache serves, prefill_seqs: the sequences they belong to. decode_seqs: sequences that
    generate, decode_context: their mean length; decode_tokens: tokens verified a sequence and pass (1, or 1 + drafts).
    All counts are of the whole replica: attention data parallelism divides sequences among its ranks, evenly, each
    prompt on one of them.
    """

    prefill_tokens: Array | float = 0.0
    prefill_context: Array | float = 0.0
    prefill_seqs: Array | float = 1.0
    decode_seqs: Array | float = 0.0
    decode_context: Array | float = 0.0
    decode_tokens: Array | float = 1.0
    prefill_hit: Array | float = 0.0

    @property
    def tokens(self) -> Array:
        """Tokens the pass carries."""
        return np.asarray(self.prefill_tokens + np.multiply(self.decode_seqs, self.decode_tokens), float)

    def part(self, pieces: int) -> Step:
        """One of so many equal micro-batches: sequences are shared out, their lengths stay."""
        shared = ("prefill_tokens", "prefill_seqs", "decode_seqs")
        return replace(self, **{name: np.asarray(getattr(self, name), float) / pieces for name in shared})


def step_shape(step: Step, column: Array) -> tuple[int, ...]:
    """Shape of what a pass costs on the candidates of `column` (N,)."""
    return np.broadcast_shapes(column.shape, *(np.shape(getattr(step, f.name)) for f in fields(Step)))


def prompt_ranks(sharding: Sharding, step: Step) -> Array:
    """Ranks of attention data parallelism among which a pass spreads its prompts: no more than there are of them."""
    return np.clip(np.asarray(step.prefill_seqs, float), 1.0, sharding.dp)


def prompt_tokens(sharding: Sharding, step: Step) -> Array:
    """Prompt tokens on the busiest device; sequence parallelism splits them within a rank."""
    return np.asarray(step.prefill_tokens, float) / sharding.cp / prompt_ranks(sharding, step)


def local_tokens(sharding: Sharding, step: Step) -> Array:
    """Tokens the dense layers of the busiest device see."""
    return prompt_tokens(sharding, step) + np.multiply(step.decode_seqs, step.decode_tokens) / sharding.dp


def all_tokens(sharding: Sharding, step: Step) -> Array:
    """Tokens of all ranks, as one of the devices of each sees them: what routed experts share."""
    return np.asarray(step.prefill_tokens, float) / sharding.cp + np.multiply(step.decode_seqs, step.decode_tokens)


def on(condition: Mask, count: float | Array) -> Array:
    """`count` where the condition holds, else 0: absent operators stay in the list with no calls."""
    return np.where(condition, count, 0.0)


def prefill_shape(sharding: Sharding, step: Step) -> tuple[Array, Array, Array, Mask]:
    """(sequences a device, new tokens a sequence, cached tokens, whether any)."""
    tokens = np.asarray(step.prefill_tokens, float)
    seqs = np.maximum(np.asarray(step.prefill_seqs, float), 1e-9)
    query = np.where(tokens > 0, tokens / seqs, 1.0)  # an absent prompt has a shape all the same
    return seqs / prompt_ranks(sharding, step) / sharding.cp, query, np.asarray(step.prefill_context, float), tokens > 0
