"""Exhaustive search: score every legal candidate, one chunk of columns at a time."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from perfmodel.arrays import Array
from search.searchers.protocol import Found, Progress, Score, joined
from search.space import Legal

#: Candidates per batch. measured: columns of this length stay in cache, and few batches price few steps twice.
CHUNK = 2**14


@dataclass(frozen=True)
class Exhaustive:
    """Searcher that scores every legal candidate, `chunk` candidates per batch."""

    chunk: int = CHUNK

    @property
    def name(self) -> str:
        """Return the name that the manifest records."""
        return "exhaustive"

    def search(self, legal: Legal, score: Score, progress: Progress | None = None) -> Found:
        """Score all candidates of `legal`. progress: called with (done, total) after every batch.

        Batches follow the order of the space, whatever that of the candidates: neighbours there share device and layout
        and most of their steps, which are priced once.
        """
        parts: list[Mapping[str, Array]] = []
        order = None if np.all(legal.index[1:] >= legal.index[:-1]) else np.argsort(legal.index, kind="stable")
        for start in range(0, len(legal), self.chunk):
            rows = slice(start, min(start + self.chunk, len(legal)))
            parts.append(score(legal.deployments(rows if order is None else order[rows])))
            if progress:
                progress(rows.stop, len(legal))
        scores = joined(parts)
        if order is not None:
            place = np.argsort(order)
            scores = {name: column[place] for name, column in scores.items()}
        return Found(rows=np.arange(len(legal)), scores=scores, complete=True)
