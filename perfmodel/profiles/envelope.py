"""Hold the times of sites that nobody measured between those of measured ones, and these in order: no site takes longer
than one that is as large in every coordinate.

It is for operators of which devices share every coordinate, such as the columns and rows of a GEMM. Between measured
sites, times are blended from neighbours by a plane, which may fall; a table of a few dozen sites falls far.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from perfmodel.arrays import Array
from perfmodel.profiles.grid import Cells

#: Decimals of a coordinate by which sites are told apart. Chosen: far below the distance of two sites.
_DECIMALS = 6


class Envelope(NamedTuple):
    """Hold bounds of ln(time) on the lattice of the coordinates of measured sites.

    knots: coordinates along each of d directions, ascending. above: least ln(time) of the measured sites that are no
    smaller in any coordinate than a knot, inf where there is none, (K1 + 1, ..., Kd + 1, A1[, A2]); the last knots lie
    beyond all sites. below: greatest ln(time) of those that are no larger than a knot, -inf where there is none, same
    shape; the first knots lie below all sites.
    """

    knots: tuple[Array, ...]
    above: Cells
    below: Cells

    @classmethod
    def of(cls, sites: Array, log_time: Array) -> Envelope:
        """Return the envelope of measured sites, (S, d), with ln(time) on their grids, (S, A1[, A2]).

        A site that takes longer than a larger one counts with the time of that one.
        """
        places = np.round(sites, _DECIMALS)
        knots = tuple(np.unique(column) for column in places.T)
        at = tuple(np.searchsorted(k, column) for k, column in zip(knots, places.T, strict=True))
        above = np.full((*(len(k) + 1 for k in knots), *log_time.shape[1:]), np.inf)
        above[at] = log_time
        ways = range(len(knots))
        for way in ways:
            above = _passed_on(above, way, np.minimum, reverse=True)
        below = np.full(above.shape, -np.inf)
        below[tuple(a + 1 for a in at)] = above[at]
        for way in ways:
            below = _passed_on(below, way, np.maximum)
        # rounded outwards, so that times within the bounds stay as they are
        up, down = (
            np.nextafter(v.astype(np.float32), np.float32(end)) for v, end in ((above, np.inf), (below, -np.inf))
        )
        return cls(knots, up, down)

    def hold(self, queries: Array, log_time: Array) -> Array:
        """Return ln(time) of U sites within the bounds, (U, A1[, A2]); queries: (U, d)."""
        columns = np.round(queries, _DECIMALS).T
        up = tuple(np.searchsorted(k, c, side="left") for k, c in zip(self.knots, columns, strict=True))
        down = tuple(np.searchsorted(k, c, side="right") for k, c in zip(self.knots, columns, strict=True))
        held: Array = np.minimum(np.maximum(log_time, self.below[down]), self.above[up])
        return held


def _passed_on(values: Array, way: int, choose: np.ufunc, *, reverse: bool = False) -> Array:
    """Return the least or greatest value so far along an axis, in reverse from its end."""
    turned = np.flip(values, way) if reverse else values
    found: Array = choose.accumulate(turned, axis=way)
    out: Array = np.flip(found, way) if reverse else found
    return out
