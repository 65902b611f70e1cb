"""Read a table as times that never fall as work is added: more work never takes less time.

Measured cells fall here and there, by noise and where an engine changes kernels. A model that follows them calls a
larger batch or a slower device the faster one.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass

import numpy as np

from perfmodel.arrays import Array, Mask, widened
from perfmodel.profiles import compiled

#: Weight of a cell that was filled rather than measured. Chosen: small, so that measured cells decide.
FILLED_WEIGHT = 0.05
#: Passes over both axes of a grid. Chosen: further ones move no cell by 1 %.
ROUNDS = 3


@dataclass(frozen=True)
class Bounds:
    """Give the bound that utilisation is relative to, so that a table can be read as times.

    at: (ln sites (..., d), ln axes (..., a)) -> ln(seconds) of the bound there, which broadcasts to (...). The bound
    grows in proportion to the first of two axes. formats: what `at` depends on besides its arguments.
    """

    at: Callable[[Array, Array], Array]
    formats: Hashable

    def at_nodes(self, queries: Array, axes: tuple[Array, ...]) -> Array:
        """Return ln(seconds) of the bound on the grid of each of U sites, (U, A1[, A2]); queries: (U, d) logarithms."""
        points = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1)
        found = self.at(queries.reshape(len(queries), *(1 for _ in axes), -1), points)
        return widened(found, (len(queries), *points.shape[:-1]))


def rising(log_time: Array, known: Mask) -> Array:
    """Return ln(time) on the grids of U sites made so that it never falls along an axis, (U, A1[, A2]).

    It is the isotonic regression (Barlow et al., Statistical Inference under Order Restrictions, 1972) along each axis
    in turn: cells that fall become the mean of their neighbours, cells that rise stay as they are.

    known: same shape, True where a cell was measured; the others hardly count.
    """
    falls = _falls(log_time)
    out = np.array(log_time)
    if falls.any():  # a grid that rises stays as it is to the last digit, whatever other grids are asked for
        out[falls] = _made_rising(log_time[falls], np.where(known[falls], 1.0, FILLED_WEIGHT))
    return out


def _made_rising(log_time: Array, weight: Array) -> Array:
    """Return what `rising` does for grids that fall somewhere; weight: of each cell, same shape."""
    out = log_time
    for _ in range(ROUNDS if log_time.ndim > 2 else 1):
        if not _falls(out).any():
            return out
        for axis in range(1, log_time.ndim):
            out = _isotonic(out.swapaxes(axis, -1), weight.swapaxes(axis, -1)).swapaxes(axis, -1)
    above, below = out, out  # what is left: the middle of the grids that never fall above and below it
    for axis in range(1, log_time.ndim):
        above = np.maximum.accumulate(above, axis=axis)
        below = np.flip(np.minimum.accumulate(np.flip(below, axis), axis=axis), axis)
    return np.asarray((above + below) / 2.0)


def _falls(grids: Array) -> Mask:
    """Return where a grid of (U, A1[, A2]) falls along an axis, (U,)."""
    falls = _next_is_less(grids).reshape(len(grids), -1).any(axis=1)
    if grids.ndim > 2:
        falls = falls | _next_is_less(grids.swapaxes(1, -1)).reshape(len(grids), -1).any(axis=1)
    return np.asarray(falls)


def _next_is_less(values: Array) -> Mask:
    """Return where the next value along the last axis is less, (..., A - 1)."""
    return np.asarray(values[..., 1:] < values[..., :-1])


def _isotonic(values: Array, weight: Array) -> Array:
    """Return the weighted isotonic regression of `values` along the last axis, both (..., A).

    It is the max-min formula: the value at i is the largest over j <= i of the least over k >= i of the mean of j to k.
    """
    falls = _next_is_less(values).any(axis=-1)
    if not falls.any():
        return values
    out = np.array(values)
    rows, by = values[falls], weight[falls]
    total, mass = (np.concatenate([np.zeros((len(rows), 1)), np.cumsum(a, axis=-1)], axis=-1) for a in (rows * by, by))
    loop = compiled.regression(*rows.shape)
    if loop is None:
        out[falls] = _by_arrays(total, mass)
    else:
        found = np.empty(rows.shape)
        loop(total, mass, found)
        out[falls] = found
    return out


def _by_arrays(total: Array, mass: Array) -> Array:
    """Return the isotonic regression of R rows of A values, (R, A); arguments as of `isotonic.isotonic_rows`."""
    sums, weights = np.ascontiguousarray(total.T), np.ascontiguousarray(mass.T)
    out = np.full((len(sums) - 1, len(total)), -np.inf)
    for start in range(len(out)):
        mean = (sums[start + 1 :] - sums[start]) / (weights[start + 1 :] - weights[start])
        least = np.minimum.accumulate(mean[::-1])[::-1]
        np.maximum(out[start:], least, out=out[start:])
    return out.T
