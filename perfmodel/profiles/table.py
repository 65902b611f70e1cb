"""A table of ln(utilisation) of one operator, and how it is interpolated and extrapolated.

Utilisation is bound / measured time, where bound is the roofline time (`perfmodel.profiles.families`). A *site* is a
combination of fixed sizes (n and k of a GEMM; heads and head size of attention). Each site has a grid over one or two
*axes*, the sizes that vary at run time (tokens; batch and length). All coordinates are natural logarithms.

- Measured site: the grid is interpolated linearly in its logarithmic axes.
- Other site within the range of the measured ones: the grids of the nearest sites are blended by locally weighted
  linear regression (Cleveland & Devlin, J. Am. Stat. Assoc. 83(403), 1988). It reproduces a plane exactly, and it
  returns the site's own grid where that site was measured.
- Outside the range of sites, or past the end of an axis: time is extrapolated as a straight line in the bound. This
  keeps utilisation constant where the kernel is saturated, and time constant where launch overhead dominates.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from perfmodel.arrays import Array, Codes, Index, Mask
from perfmodel.vocabulary import BASIS_CODE

_MEASURED = BASIS_CODE["measured"]
_INTERPOLATED = BASIS_CODE["interpolated"]
_EXTRAPOLATED = BASIS_CODE["extrapolated"]
Cells = NDArray[np.float32]

#: Two sites closer than this, in logarithm, are the same site. Chosen: far above float32 rounding of stored sites.
SAME_SITE = 1e-6
#: A coordinate this far outside the measured range, in logarithm (3 %), still counts as inside. Chosen.
EDGE_TOLERANCE = 0.03
#: Sites that an unmeasured site is blended from. Chosen: enough to fit a plane in five coordinates.
NEIGHBOURS = 8
_OCTAVE = float(np.log(2.0))
#: With more queries than this, nearest sites are found by a k-d tree. Chosen for speed only.
_TREE_QUERIES = 256
#: Different sites read at a time. Chosen so that their blended grids fit into a processor's cache.
_SITES_PER_BLOCK = 2048
#: Local regression. Distance^3 that keeps the weight of a site at distance 0 finite; ridge penalty as a share of the
#: mean squared distance, and the least such distance; sum of absolute weights above which the fit is unstable. Chosen.
_ZERO_DISTANCE, _RIDGE, _LEAST_SPREAD, _UNSTABLE_WEIGHT = 1e-9, 1e-3, 1e-6, 3.0
#: Factors that mix the coordinates of a site into one number, so that different sites differ. Chosen: the first is
#: 1/p of the plastic number p (M. Roberts, R2 low-discrepancy sequence), irrational, so grid values do not collide.
_MIX_LINEAR, _MIX_SQUARE = 0.7548776662466927, 0.01
#: Fraction of a cell within which a coordinate counts as on a grid point; weight above which a corner counts. Chosen.
_ON_POINT, _CORNER_WEIGHT = 1e-3, 0.01
#: Least length, in octaves, over which a slope is measured: a divisor above 0.
_LEAST_OCTAVES = 1e-6
#: Above an axis: largest share of the time that may grow with the bound (10 % for noise). Chosen.
_LARGEST_SHARE = 1.1
#: Largest extrapolation, in logarithm of the bound: keeps exp() finite. Chosen.
_LONGEST_REACH = 20.0


@dataclass(frozen=True)
class Stencil:
    """Hold, for each of U queried sites, the K measured sites that its grid is blended from.

    index: (U, K) row numbers of the measured sites in `Table.sites`. weight: (U, K), sums to 1. exact: (U,) True where
    the queried site was itself measured. outside: (U,) True where the queried site lies outside the range of measured
    sites.
    """

    index: Index
    weight: Array
    exact: Mask
    outside: Mask


def _regression_weights(offset: Array, distance: Array) -> Array:
    """Return the weights (U, K) with which a locally weighted linear fit blends K neighbours, for each of U queries.

    offset: (U, K, d) neighbour minus query in d coordinates, scaled. distance: (U, K) length of `offset`. Where the fit
    is unstable, the weights are 1 / distance^3 instead.
    """
    kernel = 1.0 / (distance**3 + _ZERO_DISTANCE)
    kernel /= kernel.sum(axis=1, keepdims=True)
    design = np.concatenate([np.ones((*offset.shape[:2], 1)), offset], axis=2)
    weighted = design * kernel[:, :, None]
    normal = design.transpose(0, 2, 1) @ weighted
    size = np.arange(1, design.shape[2])
    spread = np.maximum(np.einsum("uk,uk->u", kernel, distance**2), _LEAST_SPREAD)
    normal[:, size, size] += _RIDGE * spread[:, None]
    first = np.zeros((design.shape[2], 1))
    first[0] = 1.0
    weight = (weighted @ np.linalg.solve(normal, first[None]))[:, :, 0]
    unstable = np.abs(weight).sum(axis=1) > _UNSTABLE_WEIGHT
    weight[unstable] = kernel[unstable]
    return weight


def neighbours(query: Array, sites: Array, scale: Array, count: int, skip: Index | None = None) -> tuple[Index, Array]:
    """Find the measured sites nearest to each queried site.

    Returns their row numbers in `sites` and their regression weights, (U, count) each.

    Args:
        query: (U, d) queried sites, in logarithms of their d coordinates (such as n and k of a GEMM).
        sites: (S, d) measured sites, logarithms.
        scale: (d,) weight of each coordinate in the distance.
        count: how many neighbours.
        skip: (U,) row number of one site that each query must not use (leave-one-out), or None.
    """
    near = _nearest(query * scale, sites * scale, count, skip)
    if count == 1:
        return near, np.ones((len(query), 1))
    offset = (sites[near] - query[:, None, :]) * scale
    return near, _regression_weights(offset, np.sqrt(np.einsum("ukd,ukd->uk", offset, offset)))


def _nearest(query: Array, sites: Array, count: int, skip: Index | None) -> Index:
    """Return row numbers (U, count) of the sites nearest to each query: by k-d tree for many queries, else from all
    distances.

    query: (U, d) and sites: (S, d), both scaled logarithms. skip: as in `neighbours`.
    """
    if len(query) > _TREE_QUERIES and skip is None and count > 1:
        from scipy.spatial import cKDTree

        return np.asarray(cKDTree(sites).query(query, k=count)[1], np.intp)
    gap = sites[None, :, :] - query[:, None, :]
    distance = np.einsum("usd,usd->us", gap, gap)
    if skip is not None:
        distance[np.arange(len(query)), skip] = np.inf
    if count < len(sites):
        return np.asarray(np.argpartition(distance, count - 1, axis=1)[:, :count])
    return np.broadcast_to(np.arange(count), distance.shape).copy()


def stencil(query: Array, sites: Array, scale: Array, count: int = NEIGHBOURS) -> Stencil:
    """Choose the measured sites, and their weights, that each queried site is blended from.

    query: (U, d) and sites: (S, d), logarithms of d coordinates. scale: (d,) weight of each coordinate in distances.
    count: most sites per query. A query outside the range of the sites is moved to its border.
    """
    low, high = sites.min(axis=0), sites.max(axis=0)
    inside = np.clip(query, low, high)
    outside = np.any(np.abs(query - inside) > EDGE_TOLERANCE, axis=1)
    near, weight = neighbours(inside, sites, scale, min(count, len(sites)))
    rows = np.arange(len(query))
    closest = np.abs((sites[near] - inside[:, None, :]) * scale).sum(axis=2)
    best = closest.argmin(axis=1)
    exact = closest[rows, best] < SAME_SITE
    weight[exact] = best[exact, None] == np.arange(near.shape[1])
    return Stencil(near, weight, exact & ~outside, outside)


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

        Args:
            site: d arrays of logarithms, one per site coordinate.
            axis: one or two arrays of logarithms, one per axis. All arrays must broadcast against each other; both
                results have their common shape.
            growth: d exponents: the bound grows as coordinate^exponent. They extrapolate beyond the range of sites;
                with () the value at the border is used there.
        """
        shape = np.broadcast_shapes(*(a.shape for a in site), *(a.shape for a in axis))
        which, queries = _unique_sites(site)
        power = np.array(growth) if growth else np.zeros(len(site))
        value = np.empty(shape)
        basis = np.empty(shape, np.int8)
        if len(queries) <= _SITES_PER_BLOCK:
            value[...], basis[...] = self._read_block(queries, which, axis, power)
            return value, basis
        which = np.broadcast_to(which, shape).ravel()
        flat = [np.broadcast_to(a, shape).ravel() for a in axis]
        order = np.argsort(which, kind="stable")
        bounds = np.searchsorted(which[order], np.arange(0, len(queries) + _SITES_PER_BLOCK, _SITES_PER_BLOCK))
        value_flat, basis_flat = value.reshape(-1), basis.reshape(-1)
        for block, (start, stop) in enumerate(pairwise(bounds)):
            rows, first = order[start:stop], block * _SITES_PER_BLOCK
            part = self._read_block(
                queries[first : first + _SITES_PER_BLOCK], which[rows] - first, [a[rows] for a in flat], power
            )
            value_flat[rows], basis_flat[rows] = part
        return value_flat.reshape(shape), basis_flat.reshape(shape)

    def _read_block(self, queries: Array, which: Index, axis: list[Array], power: Array) -> tuple[Array, Codes]:
        """Do the work of `read` for U different sites: return ln(utilisation) and basis code of each row.

        queries: (U, d) the different sites, logarithms. which: number in `queries` of each row's site. power: (d,)
        `growth` of `read`, zeros for ().
        """
        near, grids, known = self._blended(queries)
        value, inside, on_point = _on_grid(grids, known, self.axes, which, axis)
        if near.outside.any() and power.any():
            value = value + self._beyond_sites(queries, which, axis, value, power)
        exact, outside = near.exact[which], near.outside[which]
        basis = np.where(on_point & exact, _MEASURED, _INTERPOLATED)
        return value, np.where(outside | ~inside, _EXTRAPOLATED, basis).astype(np.int8)

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

    def _beyond_sites(self, queries: Array, which: Index, axis: list[Array], value: Array, power: Array) -> Array:
        """Return the change of `value`, read at the border of the measured sites, when going on to `queries` outside
        it.

        The slope is that of the last octave (factor 2) before the border; the formula is that of `_beyond_axis`.
        Arguments: see `_read_block`.
        """
        low, high = self.sites.min(axis=0), self.sites.max(axis=0)
        held = np.clip(queries, low, high)
        offset = (queries - held) * power
        back = np.clip(held - np.sign(offset) * _OCTAVE, low, high)
        octaves = np.maximum(np.abs(held - back).sum(axis=1) / _OCTAVE, _LEAST_OCTAVES)
        _, grids, known = self._blended(back)
        earlier, _, _ = _on_grid(grids, known, self.axes, which, axis)
        return _line_in_bound(offset.sum(axis=1)[which], value - earlier, octaves[which])


def _unique_sites(site: list[Array]) -> tuple[Index, Array]:
    """Find the U different sites among all rows: return the number of each row's site, and the sites (U, d).

    site: d arrays of logarithms that broadcast against each other; they are not expanded first.
    """
    shape = np.broadcast_shapes(*(a.shape for a in site))
    mix = np.zeros(shape)
    for position, coordinate in enumerate(site):
        mix = mix + coordinate * (1.0 + _MIX_LINEAR * position + _MIX_SQUARE * position * position)
    _, first, which = np.unique(mix.ravel(), return_index=True, return_inverse=True)
    queries = np.stack([np.broadcast_to(a, shape).ravel()[first] for a in site], axis=1)
    return which.reshape(shape), queries


@dataclass(frozen=True)
class _AxisPlace:
    """Hold where coordinates lie on an axis of a grid.

    left: number of the grid point to the left. fraction: of the way to the next grid point. beyond: signed logarithmic
    distance past the ends of the axis, 0 inside.
    """

    left: Index
    fraction: Array
    beyond: Array

    @property
    def inside(self) -> Mask:
        """True where the coordinate lies on the axis, or at most `EDGE_TOLERANCE` past its end."""
        return np.abs(self.beyond) <= EDGE_TOLERANCE

    @property
    def on_point(self) -> Mask:
        """True where the coordinate lies on a grid point of the axis."""
        return (np.minimum(self.fraction, 1.0 - self.fraction) < _ON_POINT) & self.inside


def _place(axis: Array, x: Array) -> _AxisPlace:
    """Locate the coordinates `x` (logarithms, any shape) on the ascending grid points `axis`."""
    held = np.clip(x, axis[0], axis[-1])
    if len(axis) == 1:
        return _AxisPlace(np.zeros(x.shape, np.intp), np.zeros(x.shape), x - held)
    left = np.clip(np.searchsorted(axis, held, side="right") - 1, 0, len(axis) - 2)
    return _AxisPlace(left, (held - axis[left]) / (axis[left + 1] - axis[left]), x - held)


def _on_grid(
    grids: Cells, known: Mask, axes: tuple[Array, ...], which: Index, x: list[Array]
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
    """
    places = [_place(a, v) for a, v in zip(axes, x, strict=True)]
    value, corner = _corners(grids, known, which, places)
    inside = np.all(np.broadcast_arrays(*(p.inside for p in places)), axis=0)
    on_point = np.all(np.broadcast_arrays(*(p.on_point for p in places)), axis=0)
    for number, place in enumerate(places):
        if len(axes[number]) > 1 and not place.inside.all():
            value = value + _beyond_axis(grids, known, axes, which, x, number, place.beyond, value)
    return value, inside & corner, on_point & corner


def _corners(grids: Cells, known: Mask, which: Index, places: list[_AxisPlace]) -> tuple[Array, Mask]:
    """Return the weighted sum over the corners of each row's grid cell, and True where a corner with a weight above
    `_CORNER_WEIGHT` was measured.

    places: position of each row on each axis. Other arguments: see `_on_grid`.
    """
    shape = grids.shape[1:]
    flat, seen = grids.reshape(-1), known.reshape(-1)
    base = which * int(np.prod(shape))
    value: Array = np.zeros(())
    corner: Mask = np.zeros((), bool)
    for choice in range(2 ** len(shape)):
        cell, weight = base, np.ones(())
        for number, place in enumerate(places):
            right = (choice >> number) & 1
            stride = int(np.prod(shape[number + 1 :]))
            cell = cell + np.minimum(place.left + right, shape[number] - 1) * stride
            weight = weight * (place.fraction if right else 1.0 - place.fraction)
        value = value + weight * flat[cell]
        corner = corner | (seen[cell] & (weight > _CORNER_WEIGHT))
    return value, corner


def _beyond_axis(
    grids: Cells,
    known: Mask,
    axes: tuple[Array, ...],
    which: Index,
    x: list[Array],
    number: int,
    beyond: Array,
    value: Array,
) -> Array:
    """Return the change of `value`, read at the end of axis `number`, when going on by `beyond` (signed, logarithm)
    past it.

    Derived: time is taken as t = c + s b, with c and s from the last octave of the axis and the bound b growing like
    exp(x). Then ln(b/t) changes by d - ln(1 + share (e^d - 1)) at distance d past the end, where share = s b / t at the
    end. Share 1 keeps utilisation; share 0 keeps time (launch overhead). Other arguments: see `_on_grid`.
    """
    axis = axes[number]
    held = np.clip(x[number], axis[0], axis[-1])
    back = np.clip(held - np.sign(beyond) * _OCTAVE, axis[0], axis[-1])
    moved = list(x)
    moved[number] = back
    places = [_place(a, v) for a, v in zip(axes, moved, strict=True)]
    earlier, _ = _corners(grids, known, which, places)
    return _line_in_bound(beyond, value - earlier, np.maximum(np.abs(held - back) / _OCTAVE, _LEAST_OCTAVES))


def _line_in_bound(beyond: Array, change: Array, octaves: Array) -> Array:
    """Return the change of ln(bound / time) past a border, with time extrapolated as a straight line in the bound (see
    `_beyond_axis`).

    beyond: signed growth of ln(bound) past the border. change: change of ln(bound / time) over the last `octaves`
    (factors of 2) before the border.
    """
    change = np.clip(change / octaves, -_OCTAVE, _OCTAVE)
    share = np.where(beyond > 0, 2.0 - np.exp(change), 2.0 * np.exp(change) - 1.0)
    # going down, a share above 1 would make the time negative
    share = np.clip(share, 0.0, np.where(beyond > 0, _LARGEST_SHARE, 1.0))
    reach = np.clip(beyond, -_LONGEST_REACH, _LONGEST_REACH)
    return np.where(np.abs(beyond) > EDGE_TOLERANCE, reach - np.log1p(share * np.expm1(reach)), 0.0)
