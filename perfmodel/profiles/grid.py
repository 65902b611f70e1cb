"""Read grids of ln(utilisation): interpolate between grid points, extrapolate past the ends of the axes.

A grid lies over one or two axes; all coordinates are natural logarithms. Grids of several tables, each over axes of its
own, are read in one call.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property, reduce
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from perfmodel.arrays import Array, Index, Mask, clipped, codes_in, common_shape
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
class Axes:
    """Hold different axes of grids, by number: `points` of each, ascending logarithms. Axis 0 has the one point 0.

    flat, first, count: the points of all axes end to end, (T,); the first of each axis, and how many it has, (A,).
    """

    points: tuple[Array, ...]
    flat: Array = field(init=False, repr=False)
    first: Index = field(init=False, repr=False)
    count: Index = field(init=False, repr=False)

    def __post_init__(self) -> None:
        """Lay the points end to end."""
        count = np.array([len(p) for p in self.points], np.intp)
        object.__setattr__(self, "flat", np.concatenate(self.points))
        object.__setattr__(self, "count", count)
        object.__setattr__(self, "first", np.cumsum(count) - count)


#: The axis of one point, which is the first of two where a table has only one.
ONE_POINT = np.zeros(1)


#: What stands for times that are not read.
_NO_TIMES = np.zeros(())


class Grids(NamedTuple):
    """Hold U grids end to end, each over one or two of some axes.

    cells: ln(utilisation) of each of C cells, (C,). known: whether each was measured, (C,). start: first cell of each
    grid, (U,). axes: the axes. axis: number of the first and the last axis of each grid, (2, U); the first is 0 where a
    grid has one. bound, time: ln(seconds) of the bound and ln(time) of each cell, (C,) each; () where time is not read.
    """

    cells: Cells | Array
    known: Mask
    start: Index
    axes: Axes
    axis: Index
    bound: Array = _NO_TIMES
    time: Array = _NO_TIMES

    @classmethod
    def over(cls, axes: Sequence[Array], cells: Cells | Array, known: Mask, *times: Array) -> Grids:
        """Return U grids (U, A1[, A2]) over the same axes; times: ln(seconds) of the bound and ln(time), same shape."""
        count, size = len(cells), cells[0].size
        axis = np.array([len(axes) - 1, len(axes)])[:, None]
        return cls(
            *(cells.reshape(-1), known.reshape(-1), np.arange(count) * size, Axes((ONE_POINT, *axes))),
            np.repeat(axis, count, axis=1),
            *(t.reshape(-1) for t in times),
        )


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


def on_grid(grids: Grids, which: Index, x: list[Array], here: Array | None = None) -> tuple[Array, Mask, Mask]:
    """Interpolate each row linearly in its grid, and extrapolate it beyond the ends of the axes.

    Returns, for each row: ln(utilisation), whether it lies inside the measured part of the grid, and whether it lies on
    a measured grid point. A row is "inside" only where at least one corner of its cell was measured.

    Args:
        grids: the grids that rows are read in, all over one axis, or all over two.
        which: number of the grid of each row.
        x: coordinates of each row, one array of logarithms per axis.
        here: ln(seconds) of the bound at each row. With it ln(time) is interpolated, without it ln(utilisation).
    """
    shape = common_shape(which.shape, *(v.shape for v in x), *(() if here is None else (here.shape,)))
    if here is not None and (read_rows := compiled.wanted(math.prod(shape))) is not None:
        return _by_rows(read_rows, grids, (which, *x, here), shape)
    both = np.asarray(grids.axis[0][which] * len(grids.axes.points) + grids.axis[1][which])
    kinds = codes_in(both)
    if len(kinds) == 1:
        axes = [grids.axes.points[n] for n in divmod(kinds[0], len(grids.axes.points))]
        return _over(axes[-len(x) :], grids, which, x, here)
    value, inside, on_point = np.empty(shape), np.empty(shape, bool), np.empty(shape, bool)
    which, both, *x = (np.broadcast_to(v, shape) for v in (which, both, *x))
    here = None if here is None else np.broadcast_to(here, shape)
    for kind in kinds:
        rows = both == kind
        axes = [grids.axes.points[n] for n in divmod(kind, len(grids.axes.points))]
        some = [v[rows] for v in x]
        found = _over(axes[-len(x) :], grids, which[rows], some, None if here is None else here[rows])
        value[rows], inside[rows], on_point[rows] = found
    return value, inside, on_point


def _over(
    axes: list[Array], grids: Grids, which: Index, x: list[Array], here: Array | None
) -> tuple[Array, Mask, Mask]:
    """Do what `on_grid` does, of grids that are all over the same axes."""
    places = [_place(a, v) for a, v in zip(axes, x, strict=True)]
    inside: Mask = reduce(np.logical_and, (p.inside for p in places))
    on_point: Mask = reduce(np.logical_and, (p.on_point for p in places))
    start = grids.start[which]
    cells, weights, growths = _cells(axes, start, places), _weights(places), [p.beyond for p in places]
    corner = _seen(grids.known, cells, weights)
    if here is None:
        base = _mean(grids.cells, cells, weights)
    else:
        places, base, growths[-1] = _by_time(axes, cells, x, places, (grids.bound, grids.time, here))
    value = base
    for number, place in enumerate(places):
        if len(axes[number]) > 1 and not place.inside.all():
            value = value + _beyond_axis(grids.cells, axes, start, number, places, base, growths[number])
    return value, inside & corner, on_point & corner


def _by_rows(
    read_rows: Callable[..., None], grids: Grids, rows: tuple[Index | Array, ...], shape: tuple[int, ...]
) -> tuple[Array, Mask, Mask]:
    """Do what `on_grid` does with the reader of rows.

    rows: (number of the grid, one coordinate per axis, ln(bound)) of each row, which broadcast to `shape`.
    """
    if len(rows) == 3:  # one axis: the last of two, of which the first has one point
        rows = (rows[0], np.zeros(()), *rows[1:])
    tables = tuple(_plain(t, float) for t in (grids.cells, grids.bound, grids.time))
    axes, places = grids.axes, (grids.start, *grids.axis)
    kinds = (np.intp, *(float,) * (len(rows) - 1))
    count = math.prod(shape)
    flat = tuple(_flat(row, shape, kind) for row, kind in zip(rows, kinds, strict=True))
    value, flags = np.empty(count), np.empty(count, np.int8)
    change, growth = np.empty((2, count)), np.empty((2, count))  # written where flags say so
    out = (value, flags, change, growth)
    read_rows((*tables, grids.known), (axes.flat, axes.first, axes.count), places, flat, out, _FOR_ROWS)
    beyond = [BEYOND_FIRST, BEYOND_LAST] if (flags >= min(BEYOND_FIRST, BEYOND_LAST)).any() else []
    for number, bit in enumerate(beyond):
        past = np.flatnonzero(flags & bit)
        if len(past):
            value[past] += line_in_bound(growth[number, past], change[number, past])
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
    axes: list[Array], cells: list[Index], x: list[Array], places: list[_AxisPlace], least: tuple[Array, Array, Array]
) -> tuple[list[_AxisPlace], Array, Array]:
    """Interpolate ln(time) between the grid points, held within the ends of the axes.

    Returns (places with the fractions that were used, ln(utilisation), signed growth of ln(bound) past the ends of the
    last axis). Along the last axis time goes from one grid point to the next as the bound does, and a little as the
    coordinate does, for cells in which the bound stays the same. Along the first of two axes the bound grows in
    proportion. cells: of each corner of each row. least: ln(seconds) of the bound and ln(time) of each cell, (C,), and
    ln(seconds) of the bound at each row.
    """
    nodes, times, here = least
    *first, last = places
    left, right = nodes[cells[0]], nodes[cells[len(cells) // 2]]
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


def _cells(axes: list[Array], start: Index, places: list[_AxisPlace]) -> list[Index]:
    """Return the number of the cell at each of the 2^A corners around each row.

    Corner c lies to the right on axis a where bit a of c is set. start: first cell of the grid of each row.
    """
    cells = [start]
    for number, place in enumerate(places):
        stride = math.prod(len(a) for a in axes[number + 1 :])
        left, right = place.left * stride, np.minimum(place.left + 1, len(axes[number]) - 1) * stride
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
    """Return the weighted sum over the corners of each row's grid cell; grids: of each of C cells, (C,)."""
    value: Array = np.zeros(())
    for cell, weight in zip(cells, weights, strict=True):
        value = value + weight * grids[cell]
    return value


def _seen(known: Mask, cells: list[Index], weights: list[Array]) -> Mask:
    """Return True where a corner with a weight above `_CORNER_WEIGHT` was measured."""
    corner: Mask = np.zeros((), bool)
    for cell, weight in zip(cells, weights, strict=True):
        corner = corner | (known[cell] & (weight > _CORNER_WEIGHT))
    return corner


def _beyond_axis(
    grids: Cells | Array,
    axes: list[Array],
    start: Index,
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

    grids: ln(utilisation) of each of C cells, (C,). start: first cell of the grid of each row. places: of each row on
    each axis. growth: signed growth d of ln(bound) past the end.
    """
    axis, beyond = axes[number], places[number].beyond
    held = np.where(beyond > 0, axis[-1], axis[0])
    back = np.clip(held - np.sign(beyond) * OCTAVE, axis[0], axis[-1])
    moved = [*places[:number], _place(axis, back), *places[number + 1 :]]
    earlier = _mean(grids, _cells(axes, start, moved), _weights(moved))
    octaves = np.maximum(np.abs(held - back) / OCTAVE, LEAST_OCTAVES)
    change = line_in_bound(growth, (value - earlier) / octaves)
    return np.where(np.abs(beyond) > EDGE_TOLERANCE, change, 0.0)


def line_in_bound(beyond: Array, change: Array, over: Array | float = OCTAVE) -> Array:
    """Return the change of ln(bound / time) past a border: none above it, and below it time as a straight line in the
    bound (see `_beyond_axis`).

    beyond: signed growth of ln(bound) past the border. change: change of ln(bound / time) before the border, over a
    growth `over` of ln(bound).
    """
    change = clipped(change, -OCTAVE, OCTAVE)
    # a share above 1 would make the time negative
    share = clipped(1.0 + np.exp(over) * np.expm1(change) / np.maximum(np.expm1(over), _TINY), 0.0, 1.0)
    reach = clipped(beyond, -_LONGEST_REACH, 0.0)
    return np.asarray(reach - np.log1p(share * np.expm1(reach)))
