"""A table of logarithmic utilisation over sites and axes, and how it is read between and beyond its points.

At a known site the grid is interpolated linearly in logarithmic axes. At an unknown site the grids of its nearest
sites are blended by locally weighted linear regression (Cleveland & Devlin, J. Am. Stat. Assoc. 83(403), 1988), which
reproduces a plane exactly, and reduces to the site's own grid where it is known. Outside the sites' box and beyond an
axis time continues as a straight line in the bound, which holds utilisation where it is saturated and time where a
launch floor rules.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from perfmodel.arrays import Array
from perfmodel.vocabulary import BASIS_CODE

_MEASURED = BASIS_CODE["measured"]
_INTERPOLATED = BASIS_CODE["interpolated"]
_EXTRAPOLATED = BASIS_CODE["extrapolated"]
#: Logarithmic distance below which two coordinates are the same point.
SAME = 1e-6
#: How far outside (in logarithm) still counts as inside: 3 %.
EDGE = 0.03
NEIGHBOURS = 8
_OCTAVE = float(np.log(2.0))
#: From so many queries on, neighbours are found by a tree.
_MANY = 256
#: Unique sites handled at a time, so that blended grids stay in cache.
_BLOCK = 2048


@dataclass(frozen=True)
class Stencil:
    """Which sites answer for each of U queries, with which weights; whether known as is, and whether outside.

    index, weight: (U, K). exact, outside: (U,) bool.
    """

    index: NDArray[np.intp]
    weight: Array
    exact: NDArray[np.bool_]
    outside: NDArray[np.bool_]


def _regression_weights(offset: Array, distance: Array) -> Array:
    """Weights (U, K) of a locally linear fit at the origin of `offset` (U, K, d); inverse-distance where unstable."""
    kernel = 1.0 / (distance**3 + 1e-9)
    kernel /= kernel.sum(axis=1, keepdims=True)
    design = np.concatenate([np.ones((*offset.shape[:2], 1)), offset], axis=2)
    weighted = design * kernel[:, :, None]
    normal = design.transpose(0, 2, 1) @ weighted
    size = np.arange(1, design.shape[2])
    normal[:, size, size] += 1e-3 * np.maximum(np.einsum("uk,uk->u", kernel, distance**2), 1e-6)[:, None]
    first = np.zeros((design.shape[2], 1))
    first[0] = 1.0
    weight = (weighted @ np.linalg.solve(normal, first[None]))[:, :, 0]
    wild = np.abs(weight).sum(axis=1) > 3.0
    weight[wild] = kernel[wild]
    return weight


def neighbours(
    query: Array, sites: Array, scale: Array, count: int, skip: NDArray[np.intp] | None = None
) -> tuple[NDArray[np.intp], Array]:
    """(indices, weights) (U, count) of the sites nearest to each query; `skip` (U,) names a site each may not use."""
    near = _nearest(query * scale, sites * scale, count, skip)
    if count == 1:
        return near, np.ones((len(query), 1))
    offset = (sites[near] - query[:, None, :]) * scale
    return near, _regression_weights(offset, np.sqrt(np.einsum("ukd,ukd->uk", offset, offset)))


def _nearest(query: Array, sites: Array, count: int, skip: NDArray[np.intp] | None) -> NDArray[np.intp]:
    """Indices (U, count) of the nearest sites; a tree where there are many queries, else all distances."""
    if len(query) > _MANY and skip is None and count > 1:
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
    """Neighbours and weights for `query` (U, d) among `sites` (S, d), both logarithms; `scale` (d,) weighs axes."""
    low, high = sites.min(axis=0), sites.max(axis=0)
    inside = np.clip(query, low, high)
    outside = np.any(np.abs(query - inside) > EDGE, axis=1)
    near, weight = neighbours(inside, sites, scale, min(count, len(sites)))
    rows = np.arange(len(query))
    closest = np.abs((sites[near] - inside[:, None, :]) * scale).sum(axis=2)
    best = closest.argmin(axis=1)
    exact = closest[rows, best] < SAME
    weight[exact] = best[exact, None] == np.arange(near.shape[1])
    return Stencil(near, weight, exact & ~outside, outside)


@dataclass(frozen=True)
class Table:
    """ln(utilisation) at S sites over a grid.

    sites: (S, d) ascending in no order, logarithms. scale: (d,). axes: one or two ascending arrays of logarithms.
    values: (S, A1) or (S, A1, A2) float32, every cell filled. known: same shape, True where a measurement stands
    behind the cell.
    """

    sites: Array
    scale: Array
    axes: tuple[Array, ...]
    values: NDArray[np.float32]
    known: NDArray[np.bool_]

    def read(
        self, site: list[Array], axis: list[Array], growth: tuple[float, ...] = ()
    ) -> tuple[Array, NDArray[np.int8]]:
        """(ln utilisation, basis code) at coordinates that broadcast against each other. growth: by what power the
        bound grows with each site coordinate, for sites outside the box; () holds the border there."""
        shape = np.broadcast_shapes(*(a.shape for a in site), *(a.shape for a in axis))
        which, queries = _unique_sites(site)
        power = np.array(growth) if growth else np.zeros(len(site))
        value = np.empty(shape)
        basis = np.empty(shape, np.int8)
        if len(queries) <= _BLOCK:
            value[...], basis[...] = self._read_block(queries, which, axis, power)
            return value, basis
        which = np.broadcast_to(which, shape).ravel()
        flat = [np.broadcast_to(a, shape).ravel() for a in axis]
        order = np.argsort(which, kind="stable")
        bounds = np.searchsorted(which[order], np.arange(0, len(queries) + _BLOCK, _BLOCK))
        value_flat, basis_flat = value.reshape(-1), basis.reshape(-1)
        for block, (start, stop) in enumerate(pairwise(bounds)):
            rows, first = order[start:stop], block * _BLOCK
            part = self._read_block(
                queries[first : first + _BLOCK], which[rows] - first, [a[rows] for a in flat], power
            )
            value_flat[rows], basis_flat[rows] = part
        return value_flat.reshape(shape), basis_flat.reshape(shape)

    def _read_block(
        self, queries: Array, which: NDArray[np.intp], axis: list[Array], power: Array
    ) -> tuple[Array, NDArray[np.int8]]:
        near, grids, known = self._blended(queries)
        value, inside, on_point = _on_grid(grids, known, self.axes, which, axis)
        if near.outside.any() and power.any():
            value = value + self._past_the_sites(queries, which, axis, value, power)
        exact, outside = near.exact[which], near.outside[which]
        basis = np.where(on_point & exact, _MEASURED, _INTERPOLATED)
        return value, np.where(outside | ~inside, _EXTRAPOLATED, basis).astype(np.int8)

    def _blended(self, queries: Array) -> tuple[Stencil, NDArray[np.float32], NDArray[np.bool_]]:
        """(stencil, grids (U, A1[, A2]), cells that the heaviest neighbour knows) of each query."""
        near = stencil(queries, self.sites, self.scale)
        heavy = near.index[np.arange(len(queries)), near.weight.argmax(axis=1)]
        if near.exact.all():
            return near, self.values[heavy], self.known[heavy]
        blend = np.zeros((len(queries), len(self.sites)), np.float32)
        np.put_along_axis(blend, near.index, near.weight.astype(np.float32), axis=1)
        grids = (blend @ self.values.reshape(len(self.sites), -1)).reshape(len(queries), *self.values.shape[1:])
        return near, grids, self.known[heavy]

    def _past_the_sites(
        self, queries: Array, which: NDArray[np.intp], axis: list[Array], value: Array, power: Array
    ) -> Array:
        """What to add to the value held at the sites' border: as `_past_the_end`, with the last octave of the sites."""
        low, high = self.sites.min(axis=0), self.sites.max(axis=0)
        held = np.clip(queries, low, high)
        offset = (queries - held) * power
        back = np.clip(held - np.sign(offset) * _OCTAVE, low, high)
        octaves = np.maximum(np.abs(held - back).sum(axis=1) / _OCTAVE, 1e-6)
        _, grids, known = self._blended(back)
        earlier, _, _ = _on_grid(grids, known, self.axes, which, axis)
        return _straight(offset.sum(axis=1)[which], value - earlier, octaves[which])


def _unique_sites(site: list[Array]) -> tuple[NDArray[np.intp], Array]:
    """(index of each row's site, the U different sites (U, d)); coordinates that broadcast are not expanded first."""
    shape = np.broadcast_shapes(*(a.shape for a in site))
    mix = np.zeros(shape)
    for position, coordinate in enumerate(site):
        mix = mix + coordinate * (1.0 + 0.7548776662466927 * position + 0.01 * position * position)
    _, first, which = np.unique(mix.ravel(), return_index=True, return_inverse=True)
    queries = np.stack([np.broadcast_to(a, shape).ravel()[first] for a in site], axis=1)
    return which.reshape(shape), queries


@dataclass(frozen=True)
class _Step:
    """Where x lies on an axis: cell to its left, fraction within it, log distance past the ends (0 inside)."""

    left: NDArray[np.intp]
    fraction: Array
    beyond: Array

    @property
    def inside(self) -> NDArray[np.bool_]:
        return np.abs(self.beyond) <= EDGE

    @property
    def on_point(self) -> NDArray[np.bool_]:
        return (np.minimum(self.fraction, 1.0 - self.fraction) < 1e-3) & self.inside


def _step(axis: Array, x: Array) -> _Step:
    held = np.clip(x, axis[0], axis[-1])
    if len(axis) == 1:
        return _Step(np.zeros(x.shape, np.intp), np.zeros(x.shape), x - held)
    left = np.clip(np.searchsorted(axis, held, side="right") - 1, 0, len(axis) - 2)
    return _Step(left, (held - axis[left]) / (axis[left + 1] - axis[left]), x - held)


def _on_grid(
    grids: NDArray[np.float32],
    known: NDArray[np.bool_],
    axes: tuple[Array, ...],
    which: NDArray[np.intp],
    x: list[Array],
) -> tuple[Array, NDArray[np.bool_], NDArray[np.bool_]]:
    """Multilinear interpolation in grid `which` at x: (value, inside, on a point); inside asks for a known corner."""
    steps = [_step(a, v) for a, v in zip(axes, x, strict=True)]
    value, corner = _corners(grids, known, which, steps)
    inside = np.all(np.broadcast_arrays(*(s.inside for s in steps)), axis=0)
    on_point = np.all(np.broadcast_arrays(*(s.on_point for s in steps)), axis=0)
    for number, step in enumerate(steps):
        if len(axes[number]) > 1 and not step.inside.all():
            value = value + _past_the_end(grids, known, axes, which, x, number, step.beyond, value)
    return value, inside & corner, on_point & corner


def _corners(
    grids: NDArray[np.float32], known: NDArray[np.bool_], which: NDArray[np.intp], steps: list[_Step]
) -> tuple[Array, NDArray[np.bool_]]:
    shape = grids.shape[1:]
    flat, seen = grids.reshape(-1), known.reshape(-1)
    base = which * int(np.prod(shape))
    value: Array = np.zeros(())
    corner: NDArray[np.bool_] = np.zeros((), bool)
    for choice in range(2 ** len(shape)):
        cell, weight = base, np.ones(())
        for number, step in enumerate(steps):
            right = (choice >> number) & 1
            stride = int(np.prod(shape[number + 1 :]))
            cell = cell + np.minimum(step.left + right, shape[number] - 1) * stride
            weight = weight * (step.fraction if right else 1.0 - step.fraction)
        value = value + weight * flat[cell]
        corner = corner | (seen[cell] & (weight > 0.01))
    return value, corner


def _past_the_end(
    grids: NDArray[np.float32],
    known: NDArray[np.bool_],
    axes: tuple[Array, ...],
    which: NDArray[np.intp],
    x: list[Array],
    number: int,
    beyond: Array,
    value: Array,
) -> Array:
    """What to add to the held border value: time goes on as c + s * bound, c and s from the last octave of the axis.

    With t = c + s b and b growing like exp(x), ln(b/t) changes by d - ln(1 + share (e^d - 1)) a distance d past the
    end, where share = s b / t there; share 1 holds utilisation, share 0 holds time (a launch floor).
    """
    axis = axes[number]
    held = np.clip(x[number], axis[0], axis[-1])
    back = np.clip(held - np.sign(beyond) * _OCTAVE, axis[0], axis[-1])
    moved = list(x)
    moved[number] = back
    steps = [_step(a, v) for a, v in zip(axes, moved, strict=True)]
    earlier, _ = _corners(grids, known, which, steps)
    return _straight(beyond, value - earlier, np.maximum(np.abs(held - back) / _OCTAVE, 1e-6))


def _straight(beyond: Array, change: Array, octaves: Array) -> Array:
    """ln(b/t) gained `beyond` (ln bound, signed) the border, if it changed by `change` over the last `octaves`."""
    change = np.clip(change / octaves, -_OCTAVE, _OCTAVE)
    share = np.where(beyond > 0, 2.0 - np.exp(change), 2.0 * np.exp(change) - 1.0)
    share = np.clip(share, 0.0, np.where(beyond > 0, 1.1, 1.0))  # more than all of it below would be time below 0
    reach = np.clip(beyond, -20.0, 20.0)
    return np.where(np.abs(beyond) > EDGE, reach - np.log1p(share * np.expm1(reach)), 0.0)
