"""Compute what the shortest calls of a measured table take: launches, whatever the size of the work."""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import numpy as np

from perfmodel.arrays import Array
from perfmodel.profiles import FAMILY, Measured, bound, shape_of

#: Quantile of a table's times that stands for the shortest (chosen over the minimum, which one outlier decides).
SHORTEST_QUANTILE = 0.01
#: Calls of up to this multiple of the shortest time count as short (chosen: time there hardly depends on size).
SHORT_CALL = 1.2
#: Seconds that any kernel takes. Measured: empty kernels of captured graphs take 1.1 to 2.6 us on accelerators.
SHORTEST_LAUNCH = 2e-6
#: Cells of a table that are read for its overhead (chosen: enough for a quantile of 1 %).
MAX_CELLS = 20_000


class Shortest(NamedTuple):
    """Hold what the shortest calls of a table take, in seconds.

    least: the shortest time of a call. overhead: what the shortest calls take beyond their physical bound, which would
    be left of them on a device without limits, also where the table holds large shapes only.
    """

    least: float
    overhead: float

    @property
    def launch(self) -> float:
        """Return the seconds that a call takes which has nothing to do: at most those of the shortest calls.

        Tables of large shapes only do not show it; nothing takes less than `SHORTEST_LAUNCH`.
        """
        return min(self.least, max(self.overhead, SHORTEST_LAUNCH))


@lru_cache(maxsize=1024)
def shortest(measured: Measured, family: str) -> Shortest:
    """Return what the shortest calls of a table take, from one reading of its cells; family: of its operator."""
    time, limit = _cells(measured, family)
    place = SHORTEST_QUANTILE * (len(time) - 1)
    left, right, part = int(place), min(int(place) + 1, len(time) - 1), place % 1.0
    below, above = np.partition(time, (left, right))[[left, right]]  # np.quantile does the same, and loads numpy.ma
    least = float(below + (above - below) * part if part < 0.5 else above - (above - below) * (1.0 - part))
    short = time <= SHORT_CALL * least
    beyond = np.sort(np.maximum(time[short] - limit[short], 0.0))
    middle = beyond[(len(beyond) - 1) // 2 : len(beyond) // 2 + 1]  # np.median does the same, and loads numpy.ma
    return Shortest(least, float(middle.sum() / len(middle)))


def _cells(measured: Measured, family: str) -> tuple[Array, Array]:
    """Return (seconds, seconds by the physical bound) of C measured cells of a table, (C,) each.

    C is about `MAX_CELLS` at most.
    """
    table = measured.table
    known = np.flatnonzero(table.known)
    if len(known) > MAX_CELLS:
        known = known[:: len(known) // MAX_CELLS]
    site, *places = np.unravel_index(known, table.known.shape)
    axis = np.stack([np.exp(a)[place] for a, place in zip(table.axes, places, strict=True)], axis=1)
    shape = shape_of(FAMILY[family], np.exp(table.sites)[site], axis)
    least, _ = bound(FAMILY[family], shape, measured.variant, measured.reference)
    return least * np.exp(-table.values.reshape(-1)[known]), np.asarray(least)
