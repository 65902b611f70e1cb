"""From measured rows to tables: one variant of one family of one device at a time.

Rows become cells of a (site, axis, axis) grid of ln(bound / measured). Cells without a measurement are filled from the
site's own neighbours in the grid after taking away what nearby sites say about the same cell, so that the staircase of
tile and wave quantisation, which neighbouring sites share, is not interpolated away.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from perfmodel.demand import Array
from perfmodel.profiles.families import Family, Reference, Shape, Variant, bound
from perfmodel.profiles.table import Table, neighbours

#: Axes with more different values than this are thinned to a logarithmic grid.
MOST_POINTS = 96
#: Points an octave of a thinned axis.
POINTS_AN_OCTAVE = 4
#: Width (in logarithm) over which a site's own deviation from its neighbours is averaged into an empty cell.
REACH = 0.55
#: A time this factor under the bound is not a measurement of the shape it names.
IMPOSSIBLE = 4.0
#: A cell this factor away from what its neighbours say is a defect of the source (sentinel values, stalls).
DEFECT = 8.0


@dataclass(frozen=True)
class Points:
    """Measurements of one variant in table coordinates.

    site: (R, d), axis: (R, a) logarithms; value: (R,) ln(bound / measured).
    """

    site: Array
    axis: Array
    value: Array

    def take(self, rows: NDArray[np.bool_] | NDArray[np.intp]) -> Points:
        """The given rows."""
        return Points(self.site[rows], self.axis[rows], self.value[rows])

    def __len__(self) -> int:
        return len(self.value)


def points(family: Family, shape: Shape, time: Array, variant: Variant, reference: Reference) -> Points:
    """Rows of `shape` (columns (R,)) measured at `time` (R,) s, as coordinates and ln(bound / time); impossible times
    (not positive, not finite, or under the bound by more than `IMPOSSIBLE`) are left out."""
    site, axis = family.locate(shape)
    least, _ = bound(family, shape, variant, reference)
    with np.errstate(divide="ignore", invalid="ignore"):
        value = np.log(least / time)
    good = np.isfinite(value) & (value < np.log(IMPOSSIBLE)) & (time > 0)

    def columns(parts: list[Array]) -> Array:
        return np.stack([np.broadcast_to(p, time.shape) for p in parts], axis=1)[good]

    return Points(columns(site), columns(axis), value[good])


def _ranks(values: Array) -> tuple[Array, NDArray[np.intp]]:
    """Different values of a coordinate (to 1e-6) and each row's rank among them."""
    _, first, rank = np.unique(np.round(values, 6), return_index=True, return_inverse=True)
    return values[first], rank


def _axis(values: Array) -> tuple[Array, NDArray[np.intp]]:
    """Grid of an axis and the nearest grid point of each row."""
    grid, rank = _ranks(values)
    if len(grid) <= MOST_POINTS:
        return grid, rank
    step = np.log(2.0) / POINTS_AN_OCTAVE
    grid = grid[0] + step * np.arange(int(np.ceil((grid[-1] - grid[0]) / step)) + 1)
    rank = np.clip(np.rint((values - grid[0]) / step).astype(np.intp), 0, len(grid) - 1)
    return grid, rank


def _sites(site: Array) -> tuple[Array, NDArray[np.intp]]:
    _, first, which = np.unique(np.round(site, 6), axis=0, return_index=True, return_inverse=True)
    return site[first], which.reshape(-1)


def _along(values: Array) -> Array:
    """Fill NaN along the last axis: linear between known cells, held beyond them; lines without any stay NaN."""
    flat = values.reshape(-1, values.shape[-1]).copy()
    position = np.arange(flat.shape[1], dtype=float)
    known = np.isfinite(flat)
    for line in np.flatnonzero(known.any(axis=1) & ~known.all(axis=1)):
        here = known[line]
        flat[line] = np.interp(position, position[here], flat[line, here])
    return flat.reshape(values.shape)


def _smooth(values: Array) -> Array:
    """Fill NaN of (S, A1) or (S, A1, A2): along each axis in both orders, averaged."""
    if values.ndim == 2:
        return _along(values)
    swapped = values.transpose(0, 2, 1)
    first = _along(_along(values).transpose(0, 2, 1)).transpose(0, 2, 1)
    second = _along(_along(swapped).transpose(0, 2, 1))
    return 0.5 * (first + second)


def _neighbourhood(sites: Array, scale: Array, values: Array, count: int = 12) -> Array:
    """What the nearest other sites say of each cell, by local regression over those that know it; NaN if few do."""
    if len(sites) < 2:
        return np.full(values.shape, np.nan)
    known = np.isfinite(values)
    filled = np.where(known, values, 0.0)
    out = np.empty(values.shape)
    for start in range(0, len(sites), 256):
        rows = np.arange(start, min(start + 256, len(sites)))
        near, weight = neighbours(sites[rows], sites, scale, min(count, len(sites) - 1), skip=rows)
        total = np.einsum("sk,sk...->s...", weight, known[near].astype(float))
        said = np.einsum("sk,sk...->s...", weight, filled[near])
        with np.errstate(invalid="ignore", divide="ignore"):
            out[rows] = np.where(np.abs(total) > 0.5, said / total, np.nan)
    return out


def _spread_out(values: Array, axes: tuple[Array, ...]) -> Array:
    """Normalised Gaussian average of the known cells of each site (half an octave wide); held where none is near."""
    from scipy.ndimage import gaussian_filter

    width = [0.0]
    for axis in axes:
        step = float(np.diff(axis).mean()) if len(axis) > 1 else 1.0
        width.append(float(np.clip(REACH / step, 0.5, 4.0)))
    known = np.isfinite(values)
    total = gaussian_filter(np.where(known, values, 0.0), width)
    share = gaussian_filter(known.astype(float), width)
    with np.errstate(invalid="ignore", divide="ignore"):
        near = np.where(share > 1e-3, total / share, np.nan)
    return np.where(np.isfinite(near), near, _smooth(near))


def _filled(sites: Array, scale: Array, axes: tuple[Array, ...], values: Array) -> Array:
    around = _neighbourhood(sites, scale, values)
    corrected = around + _spread_out(values - around, axes)
    best = np.where(np.isfinite(values), values, corrected)
    return np.where(np.isfinite(best), best, _smooth(best))


def table(family: Family, data: Points) -> Table:
    """The table of `data`; repeated cells are averaged, defects (see `DEFECT`) left out, empty cells filled."""
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
    values = _filled(sites, scale, tuple(grids), values)
    kept = np.isfinite(values).reshape(len(sites), -1).all(axis=1)
    return Table(sites[kept], scale, tuple(grids), values[kept].astype(np.float32), known[kept])
