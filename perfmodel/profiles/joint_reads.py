"""Read shapes of one operator family in several tables at once, as times that never fall as work is added."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from perfmodel.arrays import Array, Codes, Index, common_shape, different_codes
from perfmodel.profiles.grid import on_grid
from perfmodel.profiles.kept_grids import KEPT, Part
from perfmodel.profiles.monotone import Bounds
from perfmodel.profiles.shape_batch import ShapeBatch
from perfmodel.profiles.table import Sites, Table, basis_of

#: Different sites read at a time. Chosen so that their grids fit into a processor's cache.
SITES_PER_BLOCK = 2048


def read_jointly(
    tables: Sequence[Table], bounds: Sequence[Bounds], asked: ShapeBatch, here: Array
) -> tuple[Array, Codes]:
    """Return ln(utilisation) and its basis code (measured, interpolated, extrapolated) of N shapes.

    Args:
        tables: the tables that shapes are read in.
        bounds: the bound that the utilisation of each table is relative to.
        asked: the shapes, and the number of the table of each.
        here: ln(seconds) of the bound of each shape, in its table.
    """
    growth, split, sites, axis = asked.family.growth, asked.family.split, asked.sites, asked.place[1]
    if asked.which.ndim == 0:
        number = int(asked.which)
        parts = [Part(tables[number], bounds[number], growth, slice(0, len(sites.queries)), split)]
    else:
        table, sites = _different(asked.which, sites)
        starts = np.searchsorted(table, np.arange(len(tables) + 1)).tolist()
        parts = [
            Part(t, b, growth, slice(*ends), split) for t, b, ends in zip(tables, bounds, pairwise(starts), strict=True)
        ]
    if len(sites.queries) <= SITES_PER_BLOCK:
        return _read(parts, sites, axis, here)
    return _by_blocks(parts, sites, axis, here)


def _by_blocks(parts: Sequence[Part], sites: Sites, axis: list[Array], here: Array) -> tuple[Array, Codes]:
    """Do what `_read` does, for some of the sites at a time."""
    shape = common_shape(sites.which.shape, here.shape, *(a.shape for a in axis))
    which, here, *axis = (np.broadcast_to(v, shape).ravel() for v in (sites.which, here, *axis))
    value, basis = np.empty(len(which)), np.empty(len(which), np.int8)
    order, count = np.argsort(which, kind="stable"), len(sites.queries)
    starts = np.searchsorted(which[order], np.arange(0, count + SITES_PER_BLOCK, SITES_PER_BLOCK))
    for block, (start, stop) in enumerate(pairwise(starts)):
        rows, first = order[start:stop], block * SITES_PER_BLOCK
        last = min(first + SITES_PER_BLOCK, count)
        within = [(p, max(p.sites.start, first) - first, min(p.sites.stop, last) - first) for p in parts]
        mine = [p._replace(sites=slice(begin, end)) for p, begin, end in within if begin < end]
        some = Sites(which[rows] - first, sites.queries[first:last])
        value[rows], basis[rows] = _read(mine, some, [a[rows] for a in axis], here[rows])
    return value.reshape(shape), basis.reshape(shape)


def _different(table: Index, sites: Sites) -> tuple[Index, Sites]:
    """Return the P different pairs of a table and a site among shapes, in order of the tables.

    They are the number of the table of each pair, (P,), and the sites. table: number of the table of each shape.
    """
    count = len(sites.queries)
    pairs, which = different_codes(table * count + sites.which)
    return pairs // count, Sites(which, sites.queries[pairs % count])


def _read(parts: Sequence[Part], sites: Sites, axis: list[Array], here: Array) -> tuple[Array, Codes]:
    """Do what `read_jointly` does for rows at the coordinates `axis`; parts: which sites are asked of which table."""
    found = KEPT.find(parts, sites.queries)
    value, inside, on_point = on_grid(found.grids, found.place[sites.which], axis, here)
    return value, basis_of(inside, on_point, found.exact, found.outside, sites.which)
