"""Choose the trials that deserve a full replay, by their short ones (successive halving, arXiv:1603.06560).

The short replays of a batch are compared with all short replays before, so that the choice depends on the trials alone
and not on which worker was first.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

import numpy as np

from search.searchers import pareto
from search.studies.objectives import Aims

#: Share of the requests that a short replay has at least, and share of the trials that get a full one. Chosen: as in
#: successive halving with a factor of 3 to 4.
SHORT_SHARE, KEPT_SHARE = 0.125, 1 / 3
#: A short replay has so many requests at least, and so many times those that are in flight: one that ends before its
#: first requests do says nothing of a queue. Chosen: p99 needs a hundred; with fewer than 4 times the requests in
#: flight, most studies of 288 settings in docs/studies.md dropped the best ones.
LEAST_REQUESTS, LEAST_TURNS = 100, 4.0
#: Largest share of the requests that is still worth a replay of its own. Chosen: beyond, little is saved.
MOST_SHARE = 0.5


def short_of(requests: int, in_flight: float) -> int:
    """Return the requests of a short replay, 0 where the load is too short for one.

    requests: of a full replay. in_flight: mean number of requests that are in the system; NaN where it is not known.
    """
    turns = LEAST_TURNS * in_flight if in_flight == in_flight else 0.0
    short = int(max(SHORT_SHARE * requests, LEAST_REQUESTS, turns))
    return short if short <= MOST_SHARE * requests else 0


def survivors(short: Mapping[int, Mapping[str, float]], batch: Collection[int], aims: Aims) -> set[int]:
    """Return the numbers of `batch` whose short replay is among the best `KEPT_SHARE` of all; at least one.

    short: figures of the short replay by number of the trial, those of the batch among them.
    """
    places = standing(short, aims)
    numbers = sorted(short, key=lambda n: (places[n], n))
    last = places[numbers[max(int(np.ceil(KEPT_SHARE * len(numbers))), 1) - 1]]
    kept = {n for n in batch if places[n] <= last}
    return kept or {min(batch, key=lambda n: (places[n], n))}


def standing(figures: Mapping[int, Mapping[str, float]], aims: Aims) -> dict[int, int]:
    """Return the place of each trial, from 0: by layers of the Pareto front of those that keep all constraints.

    Those that miss one follow, by the sum of what they miss. Equal trials share a place.
    """
    miss = {n: aims.miss(f) for n, f in figures.items()}
    left, place = [n for n in figures if miss[n] <= 0], 0
    out: dict[int, int] = {}
    while left:
        losses = np.array([aims.losses(figures[n]) for n in left]).T
        front = pareto(list(losses))
        out |= {n: place for n, first in zip(left, front, strict=True) if first}
        left, place = [n for n, first in zip(left, front, strict=True) if not first], place + 1
    for value in sorted({miss[n] for n in figures if n not in out}):
        out |= {n: place for n in figures if n not in out and miss[n] == value}
        place += 1
    return out
