"""Make the prompts of conversations: each turn sends all that was said before, which a prefix cache may hold."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from hwdb import InputError
from perfmodel.workload.traces.trace import Whole

#: Tokens per block of a conversation whose file has no hashes: those of vLLM's cache (vllm/config/cache.py,
#: block_size 16 on GPUs).
BLOCK_TOKENS = 16
#: Most blocks of all prompts. Chosen: 0.8 GB of hashes, three times those of the largest ShareGPT file.
MOST_BLOCKS = 100_000_000


@dataclass(frozen=True)
class Turns:
    """R turns of conversations, those of a conversation in order.

    session: (R,) number of the conversation. new: (R,) tokens that the turn adds to the prompt. output: (R,) tokens of
    its answer.
    """

    session: Whole
    new: Whole
    output: Whole

    def before(self) -> Whole:
        """Return the row of the turn before each turn of its conversation, (R,); -1 for a first turn."""
        last: dict[int, int] = {}
        found = np.full(len(self.session), -1, dtype=np.int64)
        for row, one in enumerate(self.session.tolist()):
            found[row] = last.get(one, -1)
            last[one] = row
        return found

    def prompts(self) -> Whole:
        """Return the tokens of each prompt, (R,): prompt and answer of the turn before, and what is new."""
        prompt = self.new.copy()
        for row, previous in enumerate(self.before().tolist()):
            if previous >= 0:
                prompt[row] += prompt[previous] + self.output[previous]
        return prompt


def blocks_of(turns: Turns, prompts: Whole, own: Sequence[Whole] = (), size: int = BLOCK_TOKENS) -> tuple[Whole, Whole]:
    """Return (hashes of the blocks of every prompt, one after the other; (R + 1,) their offsets).

    A prompt starts with the whole blocks of the prompt before it. own: hashes of the prompts of first turns, where the
    file has them; all others are new. size: tokens per block. Raises `InputError` for more than `MOST_BLOCKS`.
    """
    counts = -(-prompts // size)
    if not 0 <= counts.sum(dtype=float) <= MOST_BLOCKS or counts.min() < 0:
        text = f"its prompts have {counts.sum(dtype=float):.3g} blocks of {size} tokens, more than {MOST_BLOCKS:g}"
        raise InputError(f"the trace is too long: {text}; give a part of it")
    made: list[Whole] = []
    fresh = max((int(h.max()) for h in own if len(h)), default=-1) + 1
    for row, previous in enumerate(turns.before().tolist()):
        first = own[row] if own else np.zeros(0, dtype=np.int64)
        start = made[previous][: int(prompts[previous]) // size] if previous >= 0 else first
        more = max(int(counts[row]) - len(start), 0)
        made.append(np.concatenate([start, np.arange(fresh, fresh + more)]))
        fresh += more
    offsets = np.concatenate([[0], np.cumsum([len(m) for m in made])]).astype(np.int64)
    return np.concatenate(made).astype(np.int64), offsets
