"""Choose the measured sites that the grid of a site is blended from, and their weights."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from perfmodel.arrays import Array, Index, Mask
from perfmodel.profiles.grid import EDGE_TOLERANCE

#: Two sites closer than this, in logarithm, are the same site. Chosen: far above float32 rounding of stored sites.
SAME_SITE = 1e-6
#: Sites that an unmeasured site is blended from. Chosen: enough to fit a plane in five coordinates.
NEIGHBOURS = 8
#: With more queries than this, nearest sites are found by a k-d tree. Chosen for speed only.
_TREE_QUERIES = 256
#: Local regression. Distance^3 that keeps the weight of a site at distance 0 finite; ridge penalty as a share of the
#: mean squared distance, and the least such distance; sum of absolute weights above which the fit is unstable. Chosen.
_ZERO_DISTANCE, _RIDGE, _LEAST_SPREAD, _UNSTABLE_WEIGHT = 1e-9, 1e-3, 1e-6, 3.0


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

    def first(self, count: int) -> Stencil:
        """Return the stencils of the first `count` queried sites."""
        return Stencil(self.index[:count], self.weight[:count], self.exact[:count], self.outside[:count])


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
