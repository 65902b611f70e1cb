"""Keep the grids of sites that were read from tables end to end, so that sites of many tables are read in one call.

A search, or a table of cases, asks for the same few sites again and again, and for those of many devices at a time.
"""

from __future__ import annotations

import threading
from collections.abc import Hashable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from perfmodel.arrays import Array, Index, Mask, row_keys
from perfmodel.profiles.grid import ONE_POINT, Axes, Grids
from perfmodel.profiles.monotone import Bounds
from perfmodel.profiles.shares import Splits
from perfmodel.profiles.table import Rising, Table

#: Most cells that are kept. Chosen: they take some 100 MB; 12,000 measured cases of 60 devices ask for a tenth.
MOST_CELLS = 4_000_000
#: Answers of one table that are kept whole. Chosen: the steps of a deployment ask for fewer.
_MOST_ASKED = 256
#: Cells and grids for which there is room at first.
_FIRST_CELLS, _FIRST_GRIDS = 4096, 64


class Part(NamedTuple):
    """Hold what is asked of one table: its bound, and the numbers of its sites among those that are asked of several.

    growth, split: as for `Table.rising`.
    """

    table: Table
    bound: Bounds
    growth: tuple[float, ...]
    sites: slice
    split: Splits = ()


class Found(NamedTuple):
    """Hold the grids of sites: where each of P sites is in `grids`, whether it was itself measured, and whether it lies
    outside the range of measured sites, (P,) each."""

    grids: Grids
    place: Index
    exact: Mask
    outside: Mask


class KeptGrids:
    """Keep grids of sites, read as times that never fall. All are forgotten where there is no room for more.

    Threads may share it: what is laid down once is never written again.
    """

    def __init__(self, most: int = MOST_CELLS) -> None:
        """Begin without grids; most: cells that are kept at most."""
        self._most = most
        self._lock = threading.Lock()
        self.forget()

    def forget(self) -> None:
        """Forget all grids."""
        self._places: dict[tuple[Hashable, ...], dict[bytes, int]] = {}
        self._asked: dict[tuple[Hashable, ...], Found] = {}  # what was asked of one table last
        self._tables: list[Table] = []  # held on to, since they are told apart as objects
        self._axes = Axes((ONE_POINT,))
        self._numbers: dict[bytes, int] = {ONE_POINT.tobytes(): 0}
        self._values = np.empty((3, _FIRST_CELLS))  # ln(utilisation), ln(bound), ln(time)
        self._known = np.empty(_FIRST_CELLS, bool)
        self._at = np.empty((3, _FIRST_GRIDS), np.intp)  # first cell, first axis, last axis
        self._kinds = np.empty((2, _FIRST_GRIDS), bool)  # exact, outside
        self._cells = self._grids = 0

    def find(self, parts: Sequence[Part], queries: Array) -> Found:
        """Return the grids of P sites of several tables; those not kept are made.

        queries: the sites, logarithms, (P, d); each part has some of them.
        """
        with self._lock:
            if len(parts) > 1:
                return self._found(parts, queries)
            key = (*_of_table(parts[0]), queries.tobytes()) if parts else ()
            found = self._asked.get(key)
            if found is None:
                found = self._found(parts, queries)
                while len(self._asked) >= _MOST_ASKED:
                    self._asked.pop(next(iter(self._asked)))
                self._asked[key] = found
            return found

    def _found(self, parts: Sequence[Part], queries: Array) -> Found:
        """Do what `find` does, for sites that are looked up one by one."""
        keys = row_keys(queries)
        place = self._looked_up(parts, keys)
        if -1 in place:
            self._make(parts, queries, keys, place)
        values, at = self._values, self._at
        grids = Grids(values[0], self._known, at[0], self._axes, at[1:], values[1], values[2])
        where = np.array(place, np.intp)
        exact, outside = self._kinds[:, where]
        return Found(grids, where, exact, outside)

    def _make(self, parts: Sequence[Part], queries: Array, keys: list[bytes], place: list[int]) -> None:
        """Make the grids of the sites that are not kept, and write where they are into `place`."""
        numbers = [range(*part.sites.indices(len(keys))) for part in parts]
        new = [[n for n in mine if place[n] < 0] for mine in numbers]
        if self._cells and self._cells + _size(parts, new) > self._most:
            self.forget()
            new = [list(mine) for mine in numbers]
        for part, missing in zip(parts, new, strict=True):
            if missing:
                made = part.table.rising(queries[missing], part.growth, part.bound, part.split)
                for n, at in zip(missing, self._keep(part, made, [keys[n] for n in missing]), strict=True):
                    place[n] = at

    def _looked_up(self, parts: Sequence[Part], keys: list[bytes]) -> list[int]:
        """Return where each site of the parts is kept, -1 where it is not."""
        place: list[int] = []
        for part in parts:
            kept = self._places.get(_of_table(part), {})
            place += [kept.get(key, -1) for key in keys[part.sites]]
        return place

    def _keep(self, part: Part, made: Rising, keys: list[bytes]) -> list[int]:
        """Lay down the grids of some sites of a part; return where each is. keys: of the sites."""
        count, size = len(made.grids), made.grids[0].size
        stop, cells = self._grids + count, self._cells + count * size
        self._values, self._known = _with_room(self._values, cells), _with_room(self._known, cells)
        self._at, self._kinds = _with_room(self._at, stop), _with_room(self._kinds, stop)
        some, place = slice(self._cells, cells), np.arange(self._grids, stop)
        for row, values in enumerate((made.grids, made.bound, made.time)):
            self._values[row, some] = values.reshape(-1)
        self._known[some] = made.known.reshape(-1)
        self._at[0, place] = self._cells + size * np.arange(count)
        self._at[1:, place] = np.array(self._axes_of(part.table))[:, None]
        self._kinds[:, place] = made.near.exact, made.near.outside
        self._cells, self._grids = cells, stop
        self._tables.append(part.table)
        places = place.tolist()
        self._places.setdefault(_of_table(part), {}).update(zip(keys, places, strict=True))
        return places

    def _axes_of(self, table: Table) -> tuple[int, int]:
        """Return the numbers of the first and the last axis of a table; the first is that of one point if it has one
        axis."""
        keys = [axis.tobytes() for axis in table.axes]
        new = {key: axis for key, axis in zip(keys, table.axes, strict=True) if key not in self._numbers}
        if new:
            self._numbers |= {key: len(self._numbers) + n for n, key in enumerate(new)}
            self._axes = Axes((*self._axes.points, *new.values()))
        return (0 if len(keys) == 1 else self._numbers[keys[0]]), self._numbers[keys[-1]]


def _of_table(part: Part) -> tuple[Hashable, ...]:
    """Return what tells apart grids of the same site in different tables, or in one that is read by other bounds."""
    return id(part.table), part.bound.formats, part.growth, part.split


def _size(parts: Sequence[Part], new: Sequence[Sequence[int]]) -> int:
    """Return how many cells the grids of sites have that are not kept; new: numbers of those of each part."""
    return sum(len(missing) * part.table.values[0].size for part, missing in zip(parts, new, strict=True))


def _with_room(array: NDArray[Any], count: int) -> NDArray[Any]:
    """Return an array with room for `count` along its last axis: itself, or a copy that has twice the room."""
    if array.shape[-1] >= count:
        return array
    wider = np.empty((*array.shape[:-1], 2 * count), array.dtype)
    wider[..., : array.shape[-1]] = array
    return wider


#: Grids of this process.
KEPT = KeptGrids()
