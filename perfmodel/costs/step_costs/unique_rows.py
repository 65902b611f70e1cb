"""Find the different rows of a table of columns: what is equal is priced once."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from perfmodel.arrays import Array, Index
from perfmodel.profiles import MIX_1, MIX_2, SHIFT_1, SHIFT_2, numbering

#: Rows below which all are priced. Chosen: finding equal ones then takes as long as pricing them.
FEW = 64
#: Share of distinct rows above which all are priced: nothing is left to gather. Chosen.
MOSTLY_DISTINCT = 0.7
#: Rows from which the compiled count of equal rows is called. Chosen: it has a fixed cost.
MANY_ROWS = 1024


def find_unique_rows(columns: Sequence[Array]) -> tuple[Index, Index] | None:
    """Find the U different rows of a table of columns, (M,) of floats each.

    Returns (row number of one of each, (U,), which of these each row equals, (M,)), in any order, or None where two
    different rows have one hash value. Numbers count as equal by their bits, -0.0 as 0.0.
    """
    plain = _telling(columns)
    if not plain:
        return np.zeros(1, np.intp), np.zeros(len(columns[0]), np.intp)
    number = numbering() if len(plain[0]) >= MANY_ROWS else None
    return _hashed(plain) if number is None else _numbered(plain, number)


def _numbered(columns: list[Array], number: Callable[..., int]) -> tuple[Index, Index]:
    """Do what `find_unique_rows` does with `perfmodel.profiles.numbering`."""
    count = len(columns[0])
    table = np.empty((len(columns), count))
    for row, column in zip(table, columns, strict=True):
        np.add(column, 0.0, out=row)
    first, which = np.empty((2, count), np.intp)
    slots = np.full(2 ** (int(count).bit_length() + 1), -1, np.intp)
    found = number(table.view(np.uint64), slots, first, which)
    return first[:found].copy(), which


def _hashed(columns: list[Array]) -> tuple[Index, Index] | None:
    """Do what `find_unique_rows` does by sorting one number per row, which mixes the bits of its columns."""
    bits = [(c + 0.0).view(np.uint64) for c in columns]
    mixed = np.zeros(len(bits[0]), np.uint64)
    for column in bits:
        mixed ^= column
        mixed ^= mixed >> SHIFT_1
        mixed *= MIX_1
        mixed ^= mixed >> SHIFT_2
        mixed *= MIX_2
    _, first, which = np.unique(mixed, return_index=True, return_inverse=True)
    if any(np.any(column != column[first][which]) for column in bits):
        return None
    return first, which


def ordered(first: Index, which: Index, by: Sequence[Array | Index]) -> tuple[Index, Index]:
    """Return what `find_unique_rows` found with the different rows in the order of `by`, the first key first.

    by: keys of each of the U rows. Rows of one device or format then are a slice, which needs no copy.
    """
    order = np.lexsort(tuple(reversed(by)))
    place = np.empty(len(order), np.intp)
    place[order] = np.arange(len(order))
    return first[order], place[which]


def _telling(columns: Sequence[Array]) -> list[Array]:
    """Return the columns that tell rows apart: without those of one number, and those that are equal to the one before.

    Comparing a column takes a fraction of hashing it.
    """
    kept: list[Array] = []
    for column in columns:
        if not any(column.strides) or (column == column[0]).all():
            continue
        plain = np.asarray(column, float)
        if not kept or not np.array_equal(plain, kept[-1]):
            kept.append(plain)
    return kept
