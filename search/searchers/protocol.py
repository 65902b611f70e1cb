"""Define the interface of searchers: legal candidates and a score go in, the candidates tried come out with scores."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from perfmodel import Deployments
from perfmodel.arrays import Array, Index
from search.space import Legal

#: Name of the column that searchers minimise: lower is better, `inf` where a candidate does not qualify.
SCORE = "score"

#: Computes columns (N,) for N deployments. `SCORE` is one of them; the caller chooses the others. All of them become
#: `Found.scores`.
Score = Callable[[Deployments], Mapping[str, Array]]
#: Called with (done, total) after every batch.
Progress = Callable[[float, float], None]


@dataclass(frozen=True)
class Found:
    """The N candidates that a searcher tried, each once.

    rows: (N,) their rows among the legal candidates, ascending. scores: name -> column (N,). complete: True where every
    legal candidate was tried.
    """

    rows: Index
    scores: Mapping[str, Array]
    complete: bool

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def best(self) -> int:
        """Return the row of the legal candidate with the lowest score, the first of equals; -1 where none qualifies."""
        values = self.scores[SCORE]
        if not len(values) or not np.isfinite(values).any():
            return -1
        return int(self.rows[int(np.nanargmin(values))])


class Searcher(Protocol):
    """Interface of what looks for good candidates. It is deterministic: the same call returns the same result."""

    @property
    def name(self) -> str:
        """Return name, settings and seed, as the manifest records them."""
        ...

    def search(self, legal: Legal, score: Score, progress: Progress | None = None) -> Found:
        """Try candidates of `legal`, and return them with their scores. progress: called with (done, total)."""
        ...


def joined(parts: list[Mapping[str, Array]]) -> dict[str, Array]:
    """Concatenate the columns of several batches, which all have the same names."""
    return {name: np.concatenate([np.asarray(p[name]) for p in parts]) for name in parts[0]}
