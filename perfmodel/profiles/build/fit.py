"""From measured rows to tables: one variant of one family of one device at a time.

Rows become cells of a (site, axis, axis) grid of ln(bound / measured). Cells without a measurement are filled from the
site's own neighbours in the grid after taking away what nearby sites say about the same cell, so that the staircase of
tile and wave quantisation, which neighbouring sites share, is not interpolated away.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from perfmodel.arrays import Array
from perfmodel.profiles.build.smooth import surface
from perfmodel.profiles.families import Family, Reference, Shape, Variant, bound
from perfmodel.profiles.table import Table, neighbours

#: Axes with more different values than this are thinned to a logarithmic grid.
MOST_POINTS = 96
#: Points an octave of a thinned axis.
POINTS_AN_OCTAVE = 4
#: Width (in logarithm) over which a site's own deviation from its neighbours is averaged into an empty cell.
REACH = 0.55
#: Distance (in logarithm) over which a site's deviation from the trend is forgotten.
FADE = 3.0
#: A time this factor under the bound is not a measurement of the shape it names.
IMPOSSIBLE = 4.0
#: Families whose bytes all come from memory once they exceed the cache this many times, and by how much boost clocks
#: and rounding may then beat the rated bandwidth.
STREAMED = ("gemm", "attention_decode", "elementwise")
CACHES, TOO_FAST = 4.0, 1.15
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


def points(
    family: Family, shape: Shape, time: Array, variant: Variant, reference: Reference, cache: float = np.inf
) -> Points:
    """Rows of `shape` (columns (R,)) measured at `time` (R,) s, as coordinates and ln(bound / time); impossible times
    (not positive, not finite, under the bound by more than `IMPOSSIBLE`, or faster than memory although the bytes
    moved exceed `cache` bytes several times) are left out."""
    site, axis = family.locate(shape)
    least, _ = bound(family, shape, variant, reference)
    with np.errstate(divide="ignore", invalid="ignore"):
        value = np.log(least / time)
    good = np.isfinite(value) & (value < np.log(IMPOSSIBLE)) & (time > 0)
    if family.name in STREAMED:
        moved = np.asarray(family.work(shape, variant.formats()).moved)
        good &= (moved < CACHES * cache) | (value < np.log(TOO_FAST))

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
    known = np.isfinite(values)
    place = np.broadcast_to(np.arange(values.shape[-1]), values.shape)
    before = np.maximum.accumulate(np.where(known, place, -1), axis=-1)
    after = np.minimum.accumulate(np.where(known, place, values.shape[-1])[..., ::-1], axis=-1)[..., ::-1]
    some = known.any(axis=-1, keepdims=True)
    left = np.where(before >= 0, before, np.where(some, after, 0))
    right = np.where(after < values.shape[-1], after, np.where(some, before, 0))
    one, two = np.take_along_axis(values, left, axis=-1), np.take_along_axis(values, right, axis=-1)
    share = (place - left) / np.maximum(right - left, 1)
    return np.where(some, one + np.where(right > left, share, 0.0) * (two - one), np.nan)


def _smooth(values: Array) -> Array:
    """Fill NaN of (S, A1) or (S, A1, A2): along each axis in both orders, averaged."""
    if values.ndim == 2:
        return _along(values)
    adapter_bytes_fetched = values.transpose(0, 2, 1)
    first = _along(_along(values).transpose(0, 2, 1)).transpose(0, 2, 1)
    second = _along(_along(adapter_bytes_fetched).transpose(0, 2, 1))
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


def places(sites: Array, axes: tuple[Array, ...]) -> Array:
    """Coordinates of every cell (S, A1[, A2], d)."""
    shape = (len(sites), *(len(a) for a in axes))
    grids = np.meshgrid(*axes, indexing="ij")
    columns = [np.broadcast_to(c.reshape(-1, *([1] * len(axes))), shape) for c in sites.T]
    return np.stack([*columns, *(np.broadcast_to(g, shape) for g in grids)], axis=-1)


def _filled(sites: Array, scale: Array, axes: tuple[Array, ...], values: Array, data: Points) -> Array:
    """Every cell: as measured; else what its neighbours say plus the site's own deviation, over a smooth trend."""
    trend = surface(np.concatenate([data.site, data.axis], axis=1), data.value)
    level = trend.at(places(sites, axes))
    rest = values - level
    around = _neighbourhood(sites, scale, rest)
    corrected = around + _spread_out(rest - around, axes)
    best = np.where(np.isfinite(rest), rest, corrected)
    return level + np.where(np.isfinite(best), best, _faded(best, axes))


def _faded(values: Array, axes: tuple[Array, ...]) -> Array:
    """Fill NaN from the site's own known cells, fading to 0 (the trend) with the distance from the nearest of them."""
    from scipy.ndimage import distance_transform_edt

    steps = [float(np.diff(a).mean()) if len(a) > 1 else 1.0 for a in axes]
    distance = distance_transform_edt(~np.isfinite(values), sampling=[1e6, *steps])
    held = _smooth(values)
    return np.where(np.isfinite(held), held * np.exp(-np.asarray(distance) / FADE), 0.0)


def fitted_table(family: Family, data: Points) -> Table:
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
    values = _filled(sites, scale, tuple(grids), values, data)
    return Table(sites, scale, tuple(grids), values.astype(np.float32), known)


#: How far below one sequence the batch axis of a prefill table reaches: a chunk over a long context counts as a
#: fraction of a sequence of the same mean length.
CHUNK_OCTAVES = 6


def with_chunks(data: Table, heads: Array, least: Array, rows: float) -> Table:
    """The prefill table, extended to fractions of a sequence by how many blocks of query rows keep the device busy.

    heads, least: (S,) query heads of each site, and ln of its batch coordinate at one sequence. rows: query rows times
    heads at which half of the device is idle. A chunk of q rows over a long context works like a long sequence of
    which only q rows are there: utilisation falls by (1 + rows/(L heads)) / (1 + rows/(q heads)).
    """
    octave = np.log(2.0)
    below = data.axes[0][0] - octave * np.arange(CHUNK_OCTAVES, 0, -1)
    axis = np.concatenate([below, data.axes[0]])
    pad = ((0, 0), (CHUNK_OCTAVES, 0), (0, 0))
    values = np.pad(data.values, pad, mode="edge")
    known = np.pad(data.known, pad)
    for site in range(len(data.sites)):
        whole = int(np.abs(axis - least[site]).argmin())
        if not known[site, whole].any():
            continue
        length = np.exp(data.axes[1])[None, :]
        share = np.exp(axis[:whole] - least[site])[:, None]
        fewer = np.log1p(rows / (length * heads[site])) - np.log1p(rows / (share * length * heads[site]))
        empty = ~known[site, :whole]
        values[site, :whole] = np.where(empty, values[site, whole] + fewer, values[site, :whole])
    return Table(data.sites, data.scale, (axis, data.axes[1]), values, known)
