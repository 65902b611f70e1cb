"""Read shapes of one operator family in several tables at once, as times that never fall as work is added."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from perfmodel.arrays import Array, Codes, Index, common_shape
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
    table, site, which = _different(asked.which, asked.sites)
    shape = common_shape(which.shape, here.shape, *(a.shape for a in asked.place[1]))
    if len(site) <= SITES_PER_BLOCK:
        return _read(tables, bounds, asked, (table, site, which), asked.place[1], here)
    which, here, *axis = (np.broadcast_to(v, shape).ravel() for v in (which, here, *asked.place[1]))
    value, basis = np.empty(len(which)), np.empty(len(which), np.int8)
    order = np.argsort(which, kind="stable")
    starts = np.searchsorted(which[order], np.arange(0, len(site) + SITES_PER_BLOCK, SITES_PER_BLOCK))
    for block, (start, stop) in enumerate(pairwise(starts)):
        rows, first = order[start:stop], block * SITES_PER_BLOCK
        some = slice(first, first + SITES_PER_BLOCK)
        sites = table[some], site[some], which[rows] - first
        value[rows], basis[rows] = _read(tables, bounds, asked, sites, [a[rows] for a in axis], here[rows])
    return value.reshape(shape), basis.reshape(shape)


def _different(table: Index, sites: Sites) -> tuple[Index, Index, Index]:
    """Return (table, site, which) of the P different pairs of a table and a site among shapes, in order of the tables.

    table, site: numbers of those of each pair, (P,). which: number of the pair of each shape. Argument `table` is the
    number of the table of each shape.
    """
    count = len(sites.queries)
    if table.ndim == 0:
        return np.full(count, table), np.arange(count), sites.which
    both = table * count + sites.which
    found = np.zeros(int(both.max(initial=0)) + 1, bool)
    found[both] = True
    pairs = np.flatnonzero(found)
    turn = np.empty(len(found), np.intp)
    turn[pairs] = np.arange(len(pairs))
    return pairs // count, pairs % count, turn[both]


def _read(
    tables: Sequence[Table],
    bounds: Sequence[Bounds],
    asked: ShapeBatch,
    sites: tuple[Index, Index, Index],
    axis: list[Array],
    here: Array,
) -> tuple[Array, Codes]:
    """Do what `read_jointly` does for rows at the coordinates `axis`; sites: see `_different`."""
    table, site, which = sites
    starts = [0, *(np.flatnonzero(table[1:] != table[:-1]) + 1).tolist(), len(table)]
    growth = asked.family.growth
    parts = [
        Part(tables[table[start]], bounds[table[start]], growth, slice(start, stop))
        for start, stop in pairwise(starts)
        if stop > start
    ]
    found = KEPT.find(parts, asked.sites.queries[site])
    value, inside, on_point = on_grid(found.grids, found.place[which], axis, here)
    return value, basis_of(inside, on_point, found.exact[which], found.outside[which])
