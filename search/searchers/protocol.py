"""What a searcher is: it is given legal candidates and a score, and says which it tried and what they scored."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from perfmodel import Deployments
from search.space import Index, Legal

Array = NDArray[np.float64]

#: Column every score has: lower is better, `inf` where a candidate does not qualify.
OBJECTIVE = "objective"

#: Columns (N,) for N deployments; `objective` among them, others as the caller likes (all become `Found.scores`).
Score = Callable[[Deployments], Mapping[str, Array]]
#: Called with (done, total) after every batch.
Progress = Callable[[float, float], None]


@dataclass(frozen=True)
class Found:
    """What was tried, each candidate once.

    rows: (N,) rows of the legal candidates, ascending. scores: (N,) columns. complete: nothing was left out.
    """

    rows: Index
    scores: Mapping[str, Array]
    complete: bool

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def best(self) -> int:
        """The row of the legal candidates with the least objective (the first of equals), or -1."""
        values = self.scores[OBJECTIVE]
        if not len(values) or not np.isfinite(values).any():
            return -1
        return int(self.rows[int(np.nanargmin(values))])


class Searcher(Protocol):
    """Anything that looks for good candidates. Deterministic: the same call gives the same answer."""

    @property
    def name(self) -> str:
        """As a manifest records it, seed and settings included."""
        ...

    def search(self, legal: Legal, score: Score, progress: Progress | None = None) -> Found:
        """Try candidates of `legal` by `score`."""
        ...


def joined(parts: list[Mapping[str, Array]]) -> dict[str, Array]:
    """Columns of batches, end to end."""
    return {name: np.concatenate([np.asarray(p[name]) for p in parts]) for name in parts[0]}
