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
    which the first axis shrinks with the coordinate; beyond: whether the wholes lie beyond what was measured."""

    share: Index
    whole: Index
    power: float
    beyond: bool


class Range(NamedTuple):
    """Hold up to where sites were measured: a limit of each coordinate that devices share, and of their sum."""

    low: dict[int, float]
    high: dict[int, float]
    together: float

    @classmethod
    def of(cls, measured: Array, split: Splits) -> Range:
        """Return the range of measured sites, (S, d) logarithms."""
        shared = [n for n, _ in split]
        low, high = (
            dict(zip(shared, ends.tolist(), strict=True))
            for ends in (measured[:, shared].min(axis=0), measured[:, shared].max(axis=0) + EDGE_TOLERANCE)
        )
        return cls(low, high, float(measured[:, shared].sum(axis=1).max()) + EDGE_TOLERANCE)

    def holds(self, row: Sequence[float]) -> bool:
        """Return whether a site lies below all limits."""
        return sum([row[n] for n in self.high]) <= self.together and all(row[n] <= h for n, h in self.high.items())


def with_relatives(queries: Array, split: Splits, measured: Array) -> tuple[Array, list[Halves]]:
    """Return sites, followed by what they are compared with, and which is half of which, in the order of comparison.

    A site within the range of the measured ones is compared with the wholes within it that it is a share of, and a site
    beyond it with its shares, down to those within. No table has as many query heads of as many KV heads as it has of
    each, so the range has a limit of all that is shared together.

    queries: (U, d) and measured: (S, d), logarithms.
    """
    sites, limit = [tuple(row) for row in queries.tolist()], Range.of(measured, split)
    place: dict[tuple[float, ...], int] = {}
    pairs: dict[tuple[bool, float, float, int], list[tuple[int, int]]] = defaultdict(list)
    for number, row in enumerate(sites):  # which grows
        beyond = not limit.holds(row)
        for coordinate, power in split:
            by = -OCTAVE if beyond else OCTAVE
            other = tuple([round(v + by * (n == coordinate), _DECIMALS) for n, v in enumerate(row)])
            if other[coordinate] < limit.low[coordinate] - EDGE_TOLERANCE if beyond else not limit.holds(other):
                continue
            if other not in place:
                place[other] = len(sites)
                sites.append(other)
            size = round(sum([row[n] for n, _ in split]) / OCTAVE, 1)
            pair = (place[other], number) if beyond else (number, place[other])
            # by coordinate, so that no site is held twice in one step
            pairs[beyond, size if beyond else -size, power, coordinate].append(pair)
    found = []
    for (beyond, _, power, _), some in sorted(pairs.items()):
        share, whole = np.array(some, np.intp).T
        found.append(Halves(share, whole, power, beyond))
    return np.array(sites), found


def hold(log_time: Array, halves: Sequence[Halves], axis: Array) -> None:
    """Hold ln(time) of shares to that of their wholes, and of wholes beyond what was measured to that of their shares.

    log_time: (U, A1[, A2]), changed in place. halves: in the order of comparison. axis: the first of the grids.
    """
    for share, whole, power, beyond in halves:
        if beyond:
            log_time[whole] = np.maximum(log_time[whole], moved_along(log_time[share], axis, -power * OCTAVE))
        else:
            log_time[share] = np.minimum(log_time[share], moved_along(log_time[whole], axis, power * OCTAVE))


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
