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
from collections.abc import Hashable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from perfmodel.arrays import Array, Codes, Index, Mask, common_shape, different, widened
from perfmodel.profiles.envelope import Envelope
from perfmodel.profiles.grid import EDGE_TOLERANCE, OCTAVE, Cells, Grids, line_in_bound, on_grid
from perfmodel.profiles.monotone import Bounds, rising
from perfmodel.profiles.shares import Splits, hold, with_relatives
from perfmodel.profiles.stencil import Stencil, stencil
from perfmodel.vocabulary import BASIS_CODE

_MEASURED, _INTERPOLATED, _EXTRAPOLATED = (
    np.int8(BASIS_CODE[name]) for name in ("measured", "interpolated", "extrapolated")
)

#: Factors that mix the coordinates of a site into one number, so that different sites differ. Chosen: the first is
#: 1/p of the plastic number p (M. Roberts, R2 low-discrepancy sequence), irrational, so grid values do not collide.
_MIX_LINEAR, _MIX_SQUARE = 0.7548776662466927, 0.01


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


#: How a table is read: growth, bound and split of `Table.rising`.
Read = tuple[tuple[float, ...], Bounds, Splits]


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
    _envelopes: dict[Hashable, Envelope] = field(default_factory=dict, init=False, repr=False, compare=False)

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
        steady = Bounds(at=lambda place, _: (place * np.array(growth or 0.0)).sum(axis=-1), formats=())
        near, grids, known = self._extended(queries, growth, steady)
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
        read = growth, bound, split
        if len(split) == self.sites.shape[1]:
            near, nodes, time, known = self._between_sites(queries, read)
        elif split:
            near, nodes, time, known = self._beside_relatives(queries, read)
        else:
            near, nodes, time, known = self._risen(queries, growth, bound)
        return Rising(near, nodes - time, known, nodes, time)

    def _between_sites(self, queries: Array, read: Read) -> tuple[Stencil, Array, Array, Mask]:
        """Return what `_risen` does, with ln(time) no longer than that of any larger measured site and no shorter than
        that of any smaller one; past the range of sites it is compared with the site at the border."""
        growth, bound, _ = read
        near, nodes, time, known = self._risen(queries, growth, bound)
        time = self._envelope(bound).hold(queries, time)
        low, high = self.sites.min(axis=0), self.sites.max(axis=0)
        for border, choose in ((np.maximum(queries, low), np.minimum), (np.minimum(queries, high), np.maximum)):
            past = np.abs(border - queries).max(axis=1) > EDGE_TOLERANCE
            if past.any():
                time[past] = choose(time[past], self._between_sites(border[past], read)[2])
        return near, nodes, time, known

    def _envelope(self, bound: Bounds) -> Envelope:
        """Return the bounds of ln(time) by the measured sites themselves, which are made once."""
        found = self._envelopes.get(bound.formats)
        if found is None:
            time = rising(bound.at_nodes(self.sites, self.axes) - self.values, self.known)
            found = self._envelopes[bound.formats] = Envelope.of(self.sites, time)
        return found

    def _beside_relatives(self, queries: Array, read: Read) -> tuple[Stencil, Array, Array, Mask]:
        """Return what `_risen` does, with ln(time) held to that of wholes, and beyond the sites to that of shares."""
        growth, bound, split = read
        sites, halves = with_relatives(queries, split, self.sites)
        near, nodes, time, known = self._risen(sites, growth, bound)
        hold(time, halves, self.axes[0])
        count = len(queries)
        return near.first(count), nodes[:count], time[:count], known[:count]

    def _risen(self, queries: Array, growth: tuple[float, ...], bound: Bounds) -> tuple[Stencil, Array, Array, Mask]:
        """Return neighbours, ln(bound), ln(time) that never falls along an axis, and where it rests on a measurement,
        of U sites each by itself; arguments as for `rising`."""
        near, grids, known = self._extended(queries, growth, bound)
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

    def _extended(
        self, queries: Array, growth: tuple[float, ...], bound: Bounds
    ) -> tuple[Stencil, Cells | Array, Mask]:
        """Return what `_blended` does, with the grids of sites outside the measured range extrapolated to them.

        Time is a straight line in the bound, of the slope over the last octave (factor 2) before the border; above the
        range utilisation is that at the border. The bound counts as it is: that of a GEMM with few columns hardly
        falls with them. growth, bound: as for `rising`.
        """
        near, grids, known = self._blended(queries)
        grows = np.array(growth, bool)
        if not (near.outside.any() and grows.any()):
            return near, grids, known
        low, high = self.sites.min(axis=0), self.sites.max(axis=0)
        rows = np.flatnonzero(near.outside)
        asked = queries[rows]
        held = np.where(grows, np.clip(asked, low, high), asked)
        back = np.where(grows, np.clip(held + np.sign(held - asked) * OCTAVE, low, high), asked)
        here, there, before = (bound.at_nodes(sites, self.axes) for sites in (asked, held, back))
        _, earlier, _ = self._blended(back)
        out = np.array(grids, float)
        out[rows] += line_in_bound(here - there, out[rows] - earlier, before - there)
        return near, out, known


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
