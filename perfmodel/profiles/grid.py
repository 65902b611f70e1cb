"""Read grids of ln(utilisation): interpolate between grid points, extrapolate past the ends of the axes.

A grid lies over one or two axes; all coordinates are natural logarithms. Several grids have the same axes.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, reduce
from typing import Any

import numpy as np
from numpy.typing import NDArray

from perfmodel.arrays import Array, Index, Mask, clipped, common_shape
from perfmodel.profiles import compiled
from perfmodel.profiles.reader import BEYOND_FIRST, BEYOND_LAST, INSIDE, ON_POINT

Cells = NDArray[np.float32]

#: A factor of two.
OCTAVE = float(np.log(2.0))
#: A coordinate this far outside the measured range, in logarithm (3 %), still counts as inside. Chosen.
EDGE_TOLERANCE = 0.03
#: Fraction of a cell within which a coordinate counts as on a grid point; weight above which a corner counts. Chosen.
_ON_POINT, _CORNER_WEIGHT = 1e-3, 0.01
#: Least length, in octaves, over which a slope is measured: a divisor above 0.
LEAST_OCTAVES = 1e-6
#: Share of the growth of a coordinate that counts as growth of the bound between two grid points. Chosen: small, so
#: that time follows the bound where that grows.
_BY_COORDINATE = 0.1
#: Least divisor.
_TINY = 1e-12
#: Largest extrapolation, in logarithm of the bound: keeps exp() finite. Chosen.
_LONGEST_REACH = 20.0
#: What `perfmodel.profiles.reader.read_rows` needs of these.
_FOR_ROWS = (EDGE_TOLERANCE, _ON_POINT, _CORNER_WEIGHT, _BY_COORDINATE, _TINY, OCTAVE, LEAST_OCTAVES)


@dataclass(frozen=True)
class _AxisPlace:
    """Hold where coordinates lie on an axis of a grid.

    left: number of the grid point to the left. fraction: of the way to the next grid point. beyond: signed logarithmic
    distance past the ends of the axis, 0 inside.
    """

    left: Index
    fraction: Array
    beyond: Array

    @cached_property
    def inside(self) -> Mask:
        """True where the coordinate lies on the axis, or at most `EDGE_TOLERANCE` past its end."""
        return np.abs(self.beyond) <= EDGE_TOLERANCE

    @property
    def on_point(self) -> Mask:
        """True where the coordinate lies on a grid point of the axis."""
        return (np.minimum(self.fraction, 1.0 - self.fraction) < _ON_POINT) & self.inside


def _place(axis: Array, x: Array) -> _AxisPlace:
    """Locate the coordinates `x` (logarithms, any shape) on the ascending grid points `axis`."""
    held = clipped(x, axis[0], axis[-1])
    if len(axis) == 1:
        return _AxisPlace(np.zeros(x.shape, np.intp), np.zeros(x.shape), x - held)
    left = np.minimum(np.maximum(np.searchsorted(axis, held, side="right") - 1, 0), len(axis) - 2)
    return _AxisPlace(left, (held - axis[left]) / (axis[left + 1] - axis[left]), x - held)


def on_grid(
    grids: Cells | Array,
    known: Mask,
    axes: tuple[Array, ...],
    which: Index,
    x: list[Array],
    least: tuple[Array, Array, Array] | None = None,
) -> tuple[Array, Mask, Mask]:
    """Interpolate each row linearly in its grid, and extrapolate it beyond the ends of the axes.

    Returns, for each row: ln(utilisation), whether it lies inside the measured part of the grid, and whether it lies on
    a measured grid point. A row is "inside" only where at least one corner of its cell was measured.

    Args:
        grids: (U, A1[, A2]) one grid of ln(utilisation) per site.
        known: same shape, True where the cell was measured.
        axes: ascending coordinates of the grids, logarithms.
        which: number of the grid of each row.
        x: coordinates of each row, one array of logarithms per axis.
        least: ln(seconds) of the bound and ln(time) at the grid points, (U, A1[, A2]) each, and ln(seconds) of the
            bound at each row. With them ln(time) is interpolated, without them ln(utilisation).
    """
    if least is not None:
        shape = common_shape(which.shape, least[2].shape, *(v.shape for v in x))
        if (read_rows := compiled.wanted(math.prod(shape))) is not None:
            return _by_rows(read_rows, (grids, *least[:2], known), axes, (which, *x, least[2]), shape)
    places = [_place(a, v) for a, v in zip(axes, x, strict=True)]
    inside: Mask = reduce(np.logical_and, (p.inside for p in places))
    on_point: Mask = reduce(np.logical_and, (p.on_point for p in places))
    cells, weights, growths = _cells(grids.shape, which, places), _weights(places), [p.beyond for p in places]
    corner = _seen(known, cells, weights)
    if least is None:
        base = _mean(grids, cells, weights)
    else:
        places, base, growths[-1] = _by_time(axes, cells, x, places, least)
    value = base
    for number, place in enumerate(places):
        if len(axes[number]) > 1 and not place.inside.all():
            value = value + _beyond_axis(grids, axes, which, number, places, base, growths[number])
    return value, inside & corner, on_point & corner


def _by_rows(
    read_rows: Callable[..., None],
    tables: tuple[NDArray[Any], ...],
    axes: tuple[Array, ...],
    rows: tuple[Index | Array, ...],
    shape: tuple[int, ...],
) -> tuple[Array, Mask, Mask]:
    """Do what `on_grid` does with the compiled reader.

    tables: (grids, ln(bound), ln(time), known) of `on_grid`. rows: (number of the grid, one coordinate per axis,
    ln(bound)) of each row, which broadcast to `shape`.
    """
    if len(axes) == 1:  # as the last of two axes, of which the first has one point
        tables = tuple(t.reshape(len(t), 1, -1) for t in tables)
        axes, rows = (np.zeros(1), *axes), (rows[0], np.zeros(()), *rows[1:])
    *read, known = (_plain(t, kind) for t, kind in zip(tables, (float, float, float, bool), strict=True))
    ends = (_plain(axes[0], float), _plain(axes[1], float))
    kinds = (np.intp, *(float,) * (len(rows) - 1))
    count = math.prod(shape)
    flat = tuple(_flat(row, shape, kind) for row, kind in zip(rows, kinds, strict=True))
    value, flags = np.empty(count), np.empty(count, np.int8)
    change, growth = np.empty((2, count)), np.empty((2, count))  # written where flags say so
    read_rows(tuple(read), known, ends, flat, (value, flags, change, growth), _FOR_ROWS)
    beyond = [BEYOND_FIRST, BEYOND_LAST] if (flags >= min(BEYOND_FIRST, BEYOND_LAST)).any() else []
    for number, bit in enumerate(beyond):
        past = np.flatnonzero(flags & bit)
        if len(past):
            value[past] += line_in_bound(growth[number, past], change[number, past], np.ones(()))
    return value.reshape(shape), ((flags & INSIDE) > 0).reshape(shape), ((flags & ON_POINT) > 0).reshape(shape)


def _flat(row: Index | Array, shape: tuple[int, ...], kind: type) -> NDArray[Any]:
    """Return a coordinate of all rows, of one type and flat, from one that broadcasts to their shape."""
    if row.shape == shape:
        return _plain(row.reshape(-1), kind)
    out: NDArray[Any] = np.empty(shape, kind)
    out[...] = row
    return out.reshape(-1)


def _plain(array: NDArray[Any], kind: type) -> NDArray[Any]:
    """Return an array as compiled code takes it: of one type, contiguous, writable; itself where it is so."""
    out: NDArray[Any] = np.ascontiguousarray(array, kind)
    return out if out.flags.writeable else out.copy()


def _by_time(
    axes: tuple[Array, ...],
    cells: list[Index],
    x: list[Array],
    places: list[_AxisPlace],
    least: tuple[Array, Array, Array],
) -> tuple[list[_AxisPlace], Array, Array]:
    """Interpolate ln(time) between the grid points, held within the ends of the axes.

    Returns (places with the fractions that were used, ln(utilisation), signed growth of ln(bound) past the ends of the
    last axis). Along the last axis time goes from one grid point to the next as the bound does, and a little as the
    coordinate does, for cells in which the bound stays the same. Along the first of two axes the bound grows in
    proportion. cells: of each corner of each row. Other arguments: see `on_grid`.
    """
    nodes, times, here = least
    *first, last = places
    left, right = nodes.reshape(-1)[cells[0]], nodes.reshape(-1)[cells[len(cells) // 2]]
    along = here - sum(((v - a[p.left]) for v, a, p in zip(x, axes, first, strict=False)), np.zeros(()))
    held = clipped(along, left, right)
    step = _widths(axes[-1])[last.left]
    part = (held - left + _BY_COORDINATE * last.fraction * step) / np.maximum(
        right - left + _BY_COORDINATE * step, _TINY
    )
    used = [*first, _AxisPlace(last.left, np.where(last.inside, part, last.fraction), last.beyond)]
    log_time = _mean(times, cells, _weights(used))
    across = sum((p.fraction * _widths(a)[p.left] for a, p in zip(axes, first, strict=False)), np.zeros(()))
    return used, held + across - log_time, np.where(last.beyond != 0.0, along - held, 0.0)


def _widths(axis: Array) -> Array:
    """Return the distance from each point of an axis to the next one; 0 from the last."""
    out = np.zeros(len(axis))
    np.subtract(axis[1:], axis[:-1], out=out[:-1])
    return out


def _cells(shape: tuple[int, ...], which: Index, places: list[_AxisPlace]) -> list[Index]:
    """Return the number of the cell at each of the 2^A corners around each row, in grids laid out flat.

    Corner c lies to the right on axis a where bit a of c is set. shape: of the grids, (U, A1[, A2]).
    """
    cells = [which * math.prod(shape[1:])]
    for number, place in enumerate(places):
        stride = math.prod(shape[number + 2 :])
        left, right = place.left * stride, np.minimum(place.left + 1, shape[number + 1] - 1) * stride
        cells = [*(c + left for c in cells), *(c + right for c in cells)]
    return cells


def _weights(places: list[_AxisPlace]) -> list[Array]:
    """Return the weight of each corner of `_cells` at the fractions of `places`."""
    weights: list[Array] = [np.ones(())]
    for place in places:
        before = 1.0 - place.fraction
        weights = [*(w * before for w in weights), *(w * place.fraction for w in weights)]
    return weights


def _mean(grids: Cells | Array, cells: list[Index], weights: list[Array]) -> Array:
    """Return the weighted sum over the corners of each row's grid cell."""
    flat = grids.reshape(-1)
    value: Array = np.zeros(())
    for cell, weight in zip(cells, weights, strict=True):
        value = value + weight * flat[cell]
    return value


def _seen(known: Mask, cells: list[Index], weights: list[Array]) -> Mask:
    """Return True where a corner with a weight above `_CORNER_WEIGHT` was measured."""
    flat = known.reshape(-1)
    corner: Mask = np.zeros((), bool)
    for cell, weight in zip(cells, weights, strict=True):
        corner = corner | (flat[cell] & (weight > _CORNER_WEIGHT))
    return corner


def _beyond_axis(
    grids: Cells | Array,
    axes: tuple[Array, ...],
    which: Index,
    number: int,
    places: list[_AxisPlace],
    value: Array,
    growth: Array,
) -> Array:
    """Return the change of `value`, read at the end of axis `number`, when going on past it.

    Past the upper end utilisation stays what it is at the end: nothing measured says that it rises further. Derived for
    the lower end: time is taken as t = c + s b, with c and s from the last octave of the axis and the bound b growing
    like exp(x). Then ln(b/t) changes by d - ln(1 + share (e^d - 1)) at distance d past the end, where share = s b / t
    at the end. Share 1 keeps utilisation; share 0 keeps time (launch overhead).

    places: of each row on each axis. growth: signed growth d of ln(bound) past the end. Other arguments: see
    `on_grid`.
    """
    axis, beyond = axes[number], places[number].beyond
    held = np.where(beyond > 0, axis[-1], axis[0])
    back = np.clip(held - np.sign(beyond) * OCTAVE, axis[0], axis[-1])
    moved = [*places[:number], _place(axis, back), *places[number + 1 :]]
    earlier = _mean(grids, _cells(grids.shape, which, moved), _weights(moved))
    octaves = np.maximum(np.abs(held - back) / OCTAVE, LEAST_OCTAVES)
    change = line_in_bound(growth, value - earlier, np.asarray(octaves, float))
    return np.where(np.abs(beyond) > EDGE_TOLERANCE, change, 0.0)


def line_in_bound(beyond: Array, change: Array, octaves: Array) -> Array:
    """Return the change of ln(bound / time) past a border: none above it, and below it time as a straight line in the
    bound (see `_beyond_axis`).

    beyond: signed growth of ln(bound) past the border. change: change of ln(bound / time) over the last `octaves`
    (factors of 2) before the border.
    """
    change = clipped(change / octaves, -OCTAVE, OCTAVE)
    # a share above 1 would make the time negative
    share = clipped(2.0 * np.exp(change) - 1.0, 0.0, 1.0)
    reach = clipped(beyond, -_LONGEST_REACH, 0.0)
    return np.asarray(reach - np.log1p(share * np.expm1(reach)))
