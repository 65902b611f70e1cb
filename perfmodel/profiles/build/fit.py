"""Build a table from measured rows, for one variant of one operator family of one device.

A *site* is a combination of fixed sizes (n and k of a GEMM; heads and head size of attention); an *axis* is a size that
varies at run time (tokens; batch and length). Rows become cells of a grid (site, axis[, axis]) of ln(bound / measured
time), which is ln(utilisation). An empty cell is predicted from the same cell of neighbouring sites, plus the site's
own deviation from its neighbours, averaged over nearby cells. Neighbouring sites share the steps that tile and wave
quantisation cause, so this keeps the steps, which interpolation along the axis would smooth away.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from perfmodel.arrays import Array, Index, Mask
from perfmodel.profiles.build.smooth import surface
from perfmodel.profiles.families import Family, Reference, Shape, Variant, bound
from perfmodel.profiles.stencil import neighbours
from perfmodel.profiles.table import Table

#: Most grid points on an axis; with more different values, the axis becomes an evenly spaced logarithmic grid. Chosen.
MOST_POINTS = 96
#: Grid points per octave (factor 2) of such an axis. Chosen.
POINTS_PER_OCTAVE = 4
#: Decimals to which logarithmic coordinates are compared.
DECIMALS = 6
#: Width, in logarithm, of the Gaussian average of a site's deviations from its neighbours; and the least and most cells
#: that it may span. Chosen.
AVERAGING_WIDTH, LEAST_WIDTH, MOST_WIDTH = 0.55, 0.5, 4.0
#: Least total weight of measured cells in a Gaussian average; with less, the nearest values are used. Chosen.
LEAST_SHARE = 1e-3
#: Distance, in logarithm, over which a site's deviation from the trend decays by a factor e. Chosen.
DECAY_DISTANCE = 3.0
#: Spacing of sites in distances between cells: so large that the nearest known cell is always one of the same site.
SITE_SPACING = 1e6
#: A time below the bound by more than this factor cannot be a measurement of the shape given with it. Chosen.
IMPOSSIBLE = 4.0
#: Families that read their bytes from memory once these exceed the cache `CACHES` times. `TOO_FAST`: how much a boost
#: clock and rounding may then exceed the rated bandwidth. Chosen.
STREAMED = ("gemm", "attention_decode", "elementwise")
CACHES, TOO_FAST = 4.0, 1.15
#: A cell that differs by this factor from its neighbours is a defect of the source (placeholder, stall). Chosen.
DEFECT = 8.0
#: Neighbouring sites that predict a cell; sites handled at a time (bounds the memory); least total weight of those that
#: were measured at the cell. Chosen.
NEIGHBOURS, SITES_PER_BLOCK, LEAST_WEIGHT = 12, 256, 0.5
#: How many octaves below one sequence the batch axis of a prefill table is extended. A prefill chunk with a long cached
#: context counts as a fraction of a sequence of the same mean attended length.
CHUNK_OCTAVES = 6


@dataclass(frozen=True)
class Points:
    """Hold R measurements of one variant in table coordinates.

    site: (R, d) and axis: (R, a), logarithms of d site and a axis coordinates. value: (R,) ln(bound / measured time).
    """

    site: Array
    axis: Array
    value: Array

    def take(self, rows: Mask | Index) -> Points:
        """Return the rows that a mask or an array of row numbers selects."""
        return Points(site=self.site[rows], axis=self.axis[rows], value=self.value[rows])

    def __len__(self) -> int:
        return len(self.value)


def points(
    family: Family, shape: Shape, time: Array, variant: Variant, reference: Reference, cache: float = np.inf
) -> Points:
    """Convert measured rows to table coordinates, leaving out those whose time is impossible.

    Impossible: not positive, not finite, below the bound by more than `IMPOSSIBLE`, or faster than memory bandwidth
    allows although the bytes moved exceed the cache `CACHES` times.

    Args:
        family: operator family of the rows.
        shape: the shape columns of the family, (R,) each.
        time: (R,) measured seconds.
        variant: number formats of the rows.
        reference: peak and bandwidths that the bound is computed with.
        cache: last-level cache of the device, bytes.
    """
    site, axis = family.locate(shape)
    least, _ = bound(family, shape, variant, reference)
    with np.errstate(divide="ignore", invalid="ignore"):
        value = np.log(least / time)
    good = np.isfinite(value) & (value < np.log(IMPOSSIBLE)) & (time > 0)
    if family.name in STREAMED:
        moved = np.asarray(family.work(shape, variant.formats()).moved)
        good &= (moved < CACHES * cache) | (value < np.log(TOO_FAST))

    def columns(parts: list[Array]) -> Array:
        return np.asarray(np.stack([np.broadcast_to(p, time.shape) for p in parts], axis=1)[good])

    return Points(site=columns(site), axis=columns(axis), value=value[good])


def _ranks(values: Array) -> tuple[Array, Index]:
    """Return the different values of a coordinate (R,), ascending, and the position (R,) of each row's value among
    them."""
    _, first, rank = np.unique(np.round(values, DECIMALS), return_index=True, return_inverse=True)
    return values[first], rank


def _axis(values: Array) -> tuple[Array, Index]:
    """Choose the grid points of an axis from the coordinates `values` (R,), and return them with the number of the grid
    point nearest to each row."""
    grid, rank = _ranks(values)
    if len(grid) <= MOST_POINTS:
        return grid, rank
    step = np.log(2.0) / POINTS_PER_OCTAVE
    grid = grid[0] + step * np.arange(int(np.ceil((grid[-1] - grid[0]) / step)) + 1)
    rank = np.clip(np.rint((values - grid[0]) / step).astype(np.intp), 0, len(grid) - 1)
    return grid, rank


def _sites(site: Array) -> tuple[Array, Index]:
    """Return the different sites (S, d) among the rows `site` (R, d), and the number of each row's site (R,)."""
    _, first, which = np.unique(np.round(site, DECIMALS), axis=0, return_index=True, return_inverse=True)
    return site[first], which.reshape(-1)


def _along(values: Array) -> Array:
    """Fill NaN along the last axis: linearly between known cells, by the nearest one beyond them.

    Lines without any known cell stay NaN.
    """
    known = np.isfinite(values)
    place = np.broadcast_to(np.arange(values.shape[-1]), values.shape)
    before = np.maximum.accumulate(np.where(known, place, -1), axis=-1)
    after = np.minimum.accumulate(np.where(known, place, values.shape[-1])[..., ::-1], axis=-1)[..., ::-1]
    some = known.any(axis=-1, keepdims=True)
    left = np.where(before >= 0, before, np.where(some, after, 0))
    right = np.where(after < values.shape[-1], after, np.where(some, before, 0))
    one, two = np.take_along_axis(values, left, axis=-1), np.take_along_axis(values, right, axis=-1)
    share = (place - left) / np.maximum(right - left, 1)
    return np.asarray(np.where(some, one + np.where(right > left, share, 0.0) * (two - one), np.nan))


def _interpolated(values: Array) -> Array:
    """Fill NaN of (S, A1) or (S, A1, A2) cells from the same site. With two axes: mean of both orders of filling."""
    if values.ndim == 2:
        return _along(values)
    transposed = values.transpose(0, 2, 1)
    first = _along(_along(values).transpose(0, 2, 1)).transpose(0, 2, 1)
    second = _along(_along(transposed).transpose(0, 2, 1))
    return 0.5 * (first + second)


def _neighbourhood(sites: Array, scale: Array, values: Array) -> Array:
    """Predict each cell (S, A1[, A2]) from the same cell of the nearest other sites, by local regression.

    sites: (S, d) logarithms. scale: (d,) weight of each coordinate in distances. values: (S, A1[, A2]), NaN where not
    measured. The prediction is NaN where too few of the other sites were measured at that cell.
    """
    if len(sites) < 2:
        return np.full(values.shape, np.nan)
    known = np.isfinite(values)
    filled = np.where(known, values, 0.0)
    out = np.empty(values.shape)
    for start in range(0, len(sites), SITES_PER_BLOCK):
        rows = np.arange(start, min(start + SITES_PER_BLOCK, len(sites)))
        near, weight = neighbours(sites[rows], sites, scale, min(NEIGHBOURS, len(sites) - 1), skip=rows)
        total = np.einsum("sk,sk...->s...", weight, known[near].astype(float))
        predicted = np.einsum("sk,sk...->s...", weight, filled[near])
        with np.errstate(invalid="ignore", divide="ignore"):
            out[rows] = np.where(np.abs(total) > LEAST_WEIGHT, predicted / total, np.nan)
    return out


def _averaged(values: Array, axes: tuple[Array, ...]) -> Array:
    """Average the known cells of each site with Gaussian weights of their distance along the axes.

    values: (S, A1[, A2]), NaN where unknown. axes: grid points, logarithms. Where no known cell is near, the averages
    are interpolated.
    """
    from scipy.ndimage import gaussian_filter

    width = [0.0]
    for axis in axes:
        step = float(np.diff(axis).mean()) if len(axis) > 1 else 1.0
        width.append(float(np.clip(AVERAGING_WIDTH / step, LEAST_WIDTH, MOST_WIDTH)))
    known = np.isfinite(values)
    total = gaussian_filter(np.where(known, values, 0.0), width)
    share = gaussian_filter(known.astype(float), width)
    with np.errstate(invalid="ignore", divide="ignore"):
        near = np.where(share > LEAST_SHARE, total / share, np.nan)
    return np.where(np.isfinite(near), near, _interpolated(near))


def places(sites: Array, axes: tuple[Array, ...]) -> Array:
    """Return the site and axis coordinates of every cell: (S, A1[, A2], d + number of axes).

    sites: (S, d) and axes: grid points of each axis, logarithms.
    """
    shape = (len(sites), *(len(a) for a in axes))
    grids = np.meshgrid(*axes, indexing="ij")
    columns = [np.broadcast_to(c.reshape(-1, *([1] * len(axes))), shape) for c in sites.T]
    return np.stack([*columns, *(np.broadcast_to(g, shape) for g in grids)], axis=-1)


def _filled(sites: Array, scale: Array, axes: tuple[Array, ...], values: Array, data: Points) -> Array:
    """Return the grid with all cells filled; a measured cell keeps its value.

    Any other cell is the sum of a polynomial trend, what neighbouring sites predict above the trend, and the site's own
    averaged deviation from them. values: (S, A1[, A2]), NaN where not measured. data: the measurements that the trend
    is fitted to.
    """
    trend = surface(np.concatenate([data.site, data.axis], axis=1), data.value)
    level = trend.at(places(sites, axes))
    rest = values - level
    around = _neighbourhood(sites, scale, rest)
    corrected = around + _averaged(rest - around, axes)
    best = np.where(np.isfinite(rest), rest, corrected)
    return np.asarray(level + np.where(np.isfinite(best), best, _decayed(best, axes)))


def _decayed(values: Array, axes: tuple[Array, ...]) -> Array:
    """Fill NaN from known cells of the same site, decaying to 0 (the trend) with distance from the nearest of them.

    values: (S, A1[, A2]) deviations from the trend. axes: grid points of each axis, logarithms.
    """
    from scipy.ndimage import distance_transform_edt

    steps = [float(np.diff(a).mean()) if len(a) > 1 else 1.0 for a in axes]
    distance = distance_transform_edt(~np.isfinite(values), sampling=[SITE_SPACING, *steps])
    held = _interpolated(values)
    return np.where(np.isfinite(held), held * np.exp(-np.asarray(distance) / DECAY_DISTANCE), 0.0)


def fitted_table(family: Family, data: Points) -> Table:
    """Build the table of `data`: repeated cells are averaged, defects discarded, empty cells filled.

    A defect is a cell that differs from its neighbours by more than the factor `DEFECT`.
    """
    sites, which = _sites(data.site)
    scale = np.array(family.scale[: sites.shape[1]])
    grids, ranks = zip(*(_axis(data.axis[:, a]) for a in range(data.axis.shape[1])), strict=True)
    shape = (len(sites), *(len(g) for g in grids))
    cell = np.ravel_multi_index((which, *ranks), shape)
    size = int(np.prod(shape))
    count = np.bincount(cell, minlength=size)
    with np.errstate(invalid="ignore", divide="ignore"):
        values = (np.bincount(cell, weights=data.value, minlength=size) / count).reshape(shape)
    around = _neighbourhood(sites, scale, values)
    with np.errstate(invalid="ignore"):
        values[np.abs(values - around) > np.log(DEFECT)] = np.nan
    known = np.isfinite(values)
    values = _filled(sites, scale, tuple(grids), values, data)
    return Table(sites=sites, scale=scale, axes=tuple(grids), values=values.astype(np.float32), known=known)


def with_chunks(data: Table, heads: Array, least: Array, rows: float) -> Table:
    """Extend a prefill table to prefill chunks, which count as fractions of a sequence.

    Derived: a chunk of q query rows over a long context runs like a sequence of length L of which only q rows are
    computed. Fewer rows occupy less of the device, so utilisation changes by the factor

    (1 + rows / (L heads)) / (1 + rows / (q heads)).

    Args:
        data: the prefill table, of S sites.
        heads: (S,) query heads of each site.
        least: (S,) logarithm of each site's batch coordinate at one sequence.
        rows: query rows times heads at which half of the device is idle.
    """
    octave = np.log(2.0)
    below = data.axes[0][0] - octave * np.arange(CHUNK_OCTAVES, 0, -1)
    axis = np.concatenate([below, data.axes[0]])
    pad = ((0, 0), (CHUNK_OCTAVES, 0), (0, 0))
    values = np.pad(data.values, pad, mode="edge")
    known = np.pad(data.known, pad)
    for site in range(len(data.sites)):
        whole = int(np.abs(axis - least[site]).argmin())  # grid point of one sequence
        if not known[site, whole].any():
            continue
        length = np.exp(data.axes[1])[None, :]
        share = np.exp(axis[:whole] - least[site])[:, None]
        fewer = np.log1p(rows / (length * heads[site])) - np.log1p(rows / (share * length * heads[site]))
        empty = ~known[site, :whole]
        values[site, :whole] = np.where(empty, values[site, whole] + fewer, values[site, :whole])
    return Table(sites=data.sites, scale=data.scale, axes=(axis, data.axes[1]), values=values, known=known)
