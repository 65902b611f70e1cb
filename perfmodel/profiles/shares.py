"""Hold what devices share to the whole: a share of an operator takes no longer than the whole that it is a part of.

Tables rise here and there as shapes shrink, by noise and where nobody measured. A model that follows them calls more
devices slower.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from perfmodel.arrays import Array, Index
from perfmodel.profiles.grid import EDGE_TOLERANCE, OCTAVE

#: Ways in which devices share an operator: (site coordinate, power by which the first axis shrinks with it) each.
Splits = tuple[tuple[int, float], ...]

#: Decimals of the logarithm of a whole, so that those of several shares are one site. Chosen: far below the distance of
#: two sites.
_DECIMALS = 9


class Halves(NamedTuple):
    """Hold some sites that are half of others along a coordinate: number of each share and of its whole; power: by
    which the first axis shrinks with the coordinate."""

    share: Index
    whole: Index
    power: float


def with_wholes(queries: Array, split: Splits, measured: Array) -> tuple[Array, list[Halves]]:
    """Return sites, followed by all wholes that they are a share of, and which is half of which, largest first.

    Wholes lie within the range of the measured sites, in each coordinate and in all that are shared together: no table
    has as many query heads of as many KV heads as it has of each.

    queries: (U, d) and measured: (S, d), logarithms.
    """
    sites = [tuple(row) for row in queries.tolist()]
    limits = [(n, power, float(measured[:, n].max()) + EDGE_TOLERANCE) for n, power in split]
    shared = [n for n, _ in split]
    together = float(measured[:, shared].sum(axis=1).max()) + EDGE_TOLERANCE - OCTAVE
    place: dict[tuple[float, ...], int] = {}
    pairs: dict[tuple[int, float], list[tuple[int, int]]] = defaultdict(list)
    for share, row in enumerate(sites):  # which grows
        if sum([row[n] for n in shared]) > together:
            continue
        doublings = [int((limit - row[n]) // OCTAVE) for n, _, limit in limits]
        for (coordinate, power, _), left in zip(limits, doublings, strict=True):
            if left > 0:
                whole = tuple([round(v + OCTAVE * (n == coordinate), _DECIMALS) for n, v in enumerate(row)])
                if whole not in place:
                    place[whole] = len(sites)
                    sites.append(whole)
                pairs[sum(doublings), power].append((share, place[whole]))
    return np.array(sites), [Halves(*np.array(pairs[key], np.intp).T, key[1]) for key in sorted(pairs)]


def capped(log_time: Array, halves: Sequence[Halves], axis: Array) -> None:
    """Cap ln(time) of sites at that of the wholes that they are a share of, in place, (U, A1[, A2]); axis: the first.
    """
    for share, whole, power in halves:
        moved = moved_along(log_time[whole], axis, power * OCTAVE)
        log_time[share] = np.minimum(log_time[share], moved)


def moved_along(log_time: Array, axis: Array, by: float) -> Array:
    """Return ln(time) of U grids at places further along their first axis, (U, A1[, A2]); by: how far, in logarithms.

    Past the end of the axis, time grows in proportion.

    >>> moved_along(np.array([[0.0, 1.0, 1.5]]), np.array([0.0, 1.0, 2.0]), 0.5).tolist()
    [[0.5, 1.25, 2.0]]
    """
    if by == 0.0 or len(axis) == 1:
        return log_time + (by if len(axis) == 1 else 0.0)
    place = axis + by
    right = np.clip(np.searchsorted(axis, place), 1, len(axis) - 1)
    share = np.clip((place - axis[right - 1]) / (axis[right] - axis[right - 1]), 0.0, 1.0)
    past = np.maximum(place - axis[-1], 0.0)
    share, past = (v.reshape(-1, *(1 for _ in log_time.shape[2:])) for v in (share, past))
    return log_time[:, right - 1] * (1.0 - share) + log_time[:, right] * share + past
