"""A table of ln(utilisation) of one operator, and how it is interpolated and extrapolated.

Utilisation is bound / measured time, where bound is the roofline time (`perfmodel.profiles.families`). A *site* is a
combination of fixed sizes (n and k of a GEMM; heads and head size of attention). Each site has a grid over one or two
*axes*, the sizes that vary at run time (tokens; batch and length). All coordinates are natural logarithms.

- Measured site: the grid is interpolated linearly in its logarithmic axes.
- Other site within the range of the measured ones: the grids of the nearest sites are blended by locally weighted
  linear regression (Cleveland & Devlin, J. Am. Stat. Assoc. 83(403), 1988). It reproduces a plane exactly, and it
  returns the site's own grid where that site was measured.
- Above the range of sites, past the upper end of an axis, or past the last measured cell: utilisation is that at the
  edge of what was measured.
- Below: time is extrapolated as a straight line in the bound. This keeps utilisation constant where the kernel is
  saturated, and time constant where launch overhead dominates.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from perfmodel.arrays import Array, Codes, Index, Mask, common_shape, different, widened
from perfmodel.profiles.grid import EDGE_TOLERANCE, LEAST_OCTAVES, OCTAVE, Cells, Grids, line_in_bound, on_grid
from perfmodel.profiles.monotone import Bounds, rising
from perfmodel.profiles.stencil import Stencil, stencil
from perfmodel.vocabulary import BASIS_CODE

_MEASURED, _INTERPOLATED, _EXTRAPOLATED = (
    np.int8(BASIS_CODE[name]) for name in ("measured", "interpolated", "extrapolated")
)

#: Factors that mix the coordinates of a site into one number, so that different sites differ. Chosen: the first is
#: 1/p of the plastic number p (M. Roberts, R2 low-discrepancy sequence), irrational, so grid values do not collide.
_MIX_LINEAR, _MIX_SQUARE = 0.7548776662466927, 0.01


#: Octaves up to which a share of an operator is compared with the whole: one of two or four devices. Chosen: with one,
#: experts on Arc Pro B60 still rise from four devices to eight; a third would double the sites that are read once.
SHARED_OCTAVES = 2
#: Ways in which devices share an operator: (site coordinate, power by which the first axis shrinks with it) each.
Splits = tuple[tuple[int, float], ...]


class Sites(NamedTuple):
    """Hold the U different sites among rows.

    which: number of each row's site. queries: the sites, logarithms, (U, d).
    """

    which: Index
    queries: Array


class Rising(NamedTuple):
    """Hold grids of U sites, read as times that never fall along an axis.

    near: the measured sites that each is blended from. grids: ln(utilisation), (U, A1[, A2]), and of the same shape:
    known: whether the cell rests on a measurement; bound, time: ln(seconds) of the bound, and ln(time).
    """

    near: Stencil
    grids: Array
    known: Mask
    bound: Array
    time: Array


class _Sites(NamedTuple):
    """Hold U sites, and the wholes of which some of them are a share.

    queries: (U, d) logarithms. wholes: (which sites are a share, (U,); how far the whole of each lies along the first
    axis, in logarithm; the wholes) each.
    """

    queries: Array
    wholes: tuple[tuple[Mask, float, _Sites], ...]

    def every(self) -> Iterator[Array]:
        """Yield the sites themselves, then their wholes, those of each way to share after one another."""
        yield self.queries
        for _, _, whole in self.wholes:
            yield from whole.every()


class _Shares(NamedTuple):
    """Hold shares of some of U sites: numbers of these, the sites of the shares, and how far each site lies along the
    first axis of its share, in logarithm."""

    rows: Index
    queries: Array
    by: Array


@dataclass(frozen=True)
class Table:
    """Hold ln(utilisation) of one operator at S measured sites, over a grid at each site.

    sites: (S, d) logarithms of d coordinates, in any order. scale: (d,) weight of each site coordinate in distances.
    axes: one or two ascending arrays of logarithms, of A1 and A2 grid points. values: (S, A1) or (S, A1, A2) float32,
    every cell filled. known: same shape, True where the cell was measured.
    """

    sites: Array
    scale: Array
    axes: tuple[Array, ...]
    values: Cells
    known: Mask

    def read(self, site: list[Array], axis: list[Array], growth: tuple[float, ...] = ()) -> tuple[Array, Codes]:
        """Return ln(utilisation) and its basis code (measured, interpolated, extrapolated) at the given coordinates.

        Cells are read as they are; `perfmodel.profiles.joint_reads` reads tables as times that never fall.

        Args:
            site: d arrays of logarithms, one per site coordinate.
            axis: one or two arrays of logarithms, one per axis. All arrays must broadcast against each other; both
                results have their common shape.
            growth: d exponents: the bound grows as coordinate^exponent. They extrapolate beyond the range of sites;
                with () the value at the border is used there.
        """
        which, queries = unique_sites(site)
        near, grids, known = self._extended(queries, growth)
        found, inside, on_point = on_grid(Grids.over(self.axes, grids, known), which, axis)
        shape = common_shape(which.shape, *(a.shape for a in axis))
        codes = basis_of(inside, on_point, near.exact, near.outside, which)
        return _spread(found, shape), _spread(codes, shape)

    def rising(self, queries: Array, growth: tuple[float, ...], bound: Bounds, split: Splits = ()) -> Rising:
        """Return the grids of U sites, read as times that never fall; queries: (U, d). growth: as for `read`.

        split: the ways in which devices share the operator, see `perfmodel.profiles.families.Family`. A share takes no
        longer than the whole that it is a part of, where that was measured; and beyond the range of sites, the whole
        takes no less than the largest share that was measured.
        """
        sites, shares = self._with_wholes(queries, split, SHARED_OCTAVES), self._largest_shares(queries, split)
        asked = [*sites.every(), *(share.queries for share in shares)]
        near, nodes, every, known = self._risen(np.concatenate(asked), growth, bound)  # one call for all is quicker
        times = iter(np.split(every, np.cumsum([len(some) for some in asked])[:-1]))
        time = self._capped(sites, times)
        for share, shorter in zip(shares, times, strict=True):
            for row, (n, by) in enumerate(zip(share.rows, share.by, strict=True)):
                time[n] = np.maximum(time[n], moved_along(shorter[row][None], self.axes[0], by)[0])
        count = len(queries)
        nodes = nodes[:count]
        return Rising(near.first(count), nodes - time, known[:count], nodes, time)

    def _with_wholes(self, queries: Array, split: Splits, octaves: int) -> _Sites:
        """Return U sites with the wholes of which they are a share, within the range of sites.

        octaves: most doublings of a share.
        """
        wholes: list[tuple[Mask, float, _Sites]] = []
        for coordinate, power in split if octaves else ():
            other, high = np.array(queries), self.sites[:, coordinate].max() + EDGE_TOLERANCE
            other[:, coordinate] += OCTAVE
            within = other[:, coordinate] <= high
            if within.any():
                wholes.append((within, power * OCTAVE, self._with_wholes(other[within], split, octaves - 1)))
        return _Sites(queries, tuple(wholes))

    def _largest_shares(self, queries: Array, split: Splits) -> list[_Shares]:
        """Return the largest shares that were measured of those of U sites that lie beyond the range of sites."""
        found: list[_Shares] = []
        for coordinate, power in split:
            beyond = queries[:, coordinate] - self.sites[:, coordinate].max()
            rows = np.flatnonzero(beyond > EDGE_TOLERANCE)
            if len(rows):
                other = np.array(queries[rows])
                other[:, coordinate] -= beyond[rows]
                found.append(_Shares(rows, other, -power * beyond[rows]))
        return found

    def _capped(self, sites: _Sites, times: Iterator[Array]) -> Array:
        """Return ln(time) of sites, at most that of their wholes; times: by themselves, in the order of `every`."""
        time = next(times)
        for rows, by, whole in sites.wholes:
            time[rows] = np.minimum(time[rows], moved_along(self._capped(whole, times), self.axes[0], by))
        return time

    def _risen(self, queries: Array, growth: tuple[float, ...], bound: Bounds) -> tuple[Stencil, Array, Array, Mask]:
        """Return neighbours, ln(bound), ln(time) that never falls along an axis, and where it rests on a measurement,
        of U sites each by itself; arguments as for `rising`."""
        near, grids, known = self._extended(queries, growth)
        nodes = bound.at_nodes(queries, self.axes)
        return near, nodes, rising(nodes - grids, known), known

    def _blended(self, queries: Array) -> tuple[Stencil, Cells, Mask]:
        """Return, for each of U queried sites, its neighbours and weights, its blended grid, and where that grid rests
        on a measurement.

        The grid has shape (U, A1[, A2]). The mask has the same shape and is that of the neighbour with the largest
        weight.
        """
        near = stencil(queries, self.sites, self.scale)
        heavy = near.index[np.arange(len(queries)), near.weight.argmax(axis=1)]
        if near.exact.all():
            return near, self.values[heavy], self.known[heavy]
        weight = near.weight.astype(np.float32).reshape(near.weight.shape + (1,) * (self.values.ndim - 1))
        # neighbour by neighbour: a product of matrices adds in an order that depends on how many sites are asked
        grids = weight[:, 0] * self.values[near.index[:, 0]]
        for k in range(1, near.index.shape[1]):
            grids += weight[:, k] * self.values[near.index[:, k]]
        return near, grids, self.known[heavy]

    def _extended(self, queries: Array, growth: tuple[float, ...]) -> tuple[Stencil, Cells | Array, Mask]:
        """Return what `_blended` does, with the grids of sites outside the measured range extrapolated to them.

        The slope is that of the last octave (factor 2) before the border; the formula is that of `_beyond_axis`.
        growth: as for `read`.
        """
        near, grids, known = self._blended(queries)
        if not (near.outside.any() and any(growth)):
            return near, grids, known
        low, high = self.sites.min(axis=0), self.sites.max(axis=0)
        held = np.clip(queries, low, high)
        # sites that count as inside keep their grid, whatever other sites are asked for
        offset = np.where(near.outside[:, None], (queries - held) * np.array(growth), 0.0)
        back = np.clip(held - np.sign(offset) * OCTAVE, low, high)
        octaves: Array = np.maximum(np.abs(held - back).sum(axis=1) / OCTAVE, LEAST_OCTAVES)
        _, earlier, _ = self._blended(back)
        along = (-1, *(1 for _ in self.axes))
        more = line_in_bound(
            offset.sum(axis=1).reshape(along), np.asarray(grids - earlier, float), octaves.reshape(along)
        )
        return near, grids + more, known


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


def basis_of(inside: Mask, on_point: Mask, exact: Mask, outside: Mask, which: Index) -> Codes:
    """Return the basis code of rows that were read.

    inside, on_point: as `on_grid` returns them. exact, outside: whether each of U sites was itself measured, and
    whether it lies outside the range of measured sites. which: number of the site of each row.
    """
    if not exact.all():
        on_point = on_point & exact[which]
    if outside.any():
        inside = inside & ~outside[which]
    return np.where(inside, np.where(on_point, _MEASURED, _INTERPOLATED), _EXTRAPOLATED)


def _spread(values: NDArray[Any], shape: tuple[int, ...]) -> NDArray[Any]:
    """Return what was read as an array of the shape of all rows, which may be written to; itself where it is one."""
    return values if shape and values.shape == shape else np.broadcast_to(values, shape).copy()


def held_past_the_edge(values: Cells, known: Mask) -> Cells:
    """Raise cells past the last measured one along an axis to its ln(utilisation), (S, A1[, A2]) each.

    More work than was measured keeps the device at least as busy as the most that was measured. What fills empty cells
    decays to a trend over all sites, which falls far below that where the grid has corners that nobody measured (the
    largest batch of the longest prompts does not fit a device).

    values: every cell filled. known: True where the cell was measured; measured cells stay as they are.
    """
    out = np.array(values)
    for axis in range(1, values.ndim):
        place = np.arange(values.shape[axis]).reshape(-1, *([1] * (values.ndim - 1 - axis)))
        from_end = np.flip(known, axis).argmax(axis=axis, keepdims=True)
        last = np.where(known.any(axis=axis, keepdims=True), values.shape[axis] - 1 - from_end, -1)
        edge = np.take_along_axis(values, np.maximum(last, 0), axis=axis)
        past = (last >= 0) & (place > last)
        out = np.where(past, np.maximum(out, edge), out)
    return out


def unique_sites(site: list[Array]) -> Sites:
    """Find the U different sites among all rows.

    site: d arrays of logarithms that broadcast against each other; they are not expanded first.
    """
    shape = common_shape(*(a.shape for a in site))
    if math.prod(shape) == 1:
        return Sites(np.zeros(shape, np.intp), np.array([[a.item() for a in site]]))
    mix = np.zeros(shape)
    for position, coordinate in enumerate(site):
        mix = mix + coordinate * (1.0 + _MIX_LINEAR * position + _MIX_SQUARE * position * position)
    first, which = different(mix.ravel())
    queries = np.empty((len(first), len(site)))
    for position, coordinate in enumerate(site):
        whole = coordinate if coordinate.ndim == 0 else widened(coordinate, shape).ravel()[first]
        queries[:, position] = whole
    return Sites(which.reshape(shape), queries)
