"""Find the different rows of a table of columns: what is equal is priced once."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from perfmodel.arrays import Array, Index

#: Rows below which all are priced. Chosen: finding equal ones then takes as long as pricing them.
FEW = 64
#: Share of distinct rows above which all are priced: nothing is left to gather. Chosen.
MOSTLY_DISTINCT = 0.7
#: Odd factors that mix the bits of a row's columns (Steele, Lea & Flood, Fast Splittable Pseudorandom Number
#: Generators, 2014: SplitMix64).
_MIX_1, _MIX_2 = np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)
_SHIFT_1, _SHIFT_2 = np.uint64(30), np.uint64(27)


def distinct(columns: Sequence[Array]) -> tuple[Index, Index] | None:
    """Find the U different rows of a table of columns, (M,) of floats each.

    Returns (row number of one of each, (U,), which of these each row equals, (M,)), or None where two different rows
    have one hash value. Numbers count as equal by their bits, -0.0 as 0.0.
    """
    bits = [(np.asarray(c, float) + 0.0).view(np.uint64) for c in columns if not _constant(c)]
    if not bits:
        return np.zeros(1, np.intp), np.zeros(len(columns[0]), np.intp)
    mixed = np.zeros(len(bits[0]), np.uint64)
    for column in bits:
        mixed ^= column
        mixed ^= mixed >> _SHIFT_1
        mixed *= _MIX_1
        mixed ^= mixed >> _SHIFT_2
        mixed *= _MIX_2
    _, first, which = np.unique(mixed, return_index=True, return_inverse=True)
    if any(np.any(column != column[first][which]) for column in bits):
        return None
    return first, which


def ordered(first: Index, which: Index, by: Sequence[Array | Index]) -> tuple[Index, Index]:
    """Return what `distinct` found with the different rows in the order of `by`, the first key first.

    by: keys of each of the U rows. Rows of one device or format then are a slice, which needs no copy.
    """
    order = np.lexsort(tuple(reversed(by)))
    place = np.empty(len(order), np.intp)
    place[order] = np.arange(len(order))
    return first[order], place[which]


def _constant(column: Array) -> bool:
    """Return whether a column was broadcast from one number."""
    return not any(column.strides)
