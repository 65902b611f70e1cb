"""Number the equal rows of a table by a hash table, as a plain loop, which `perfmodel.profiles.compiled` compiles."""

from __future__ import annotations

from typing import Any

import numpy as np

#: Odd factors and shifts that mix the bits of a row's columns (Steele, Lea & Flood, Fast Splittable Pseudorandom Number
#: Generators, 2014: SplitMix64).
MIX_1, MIX_2 = np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)
SHIFT_1, SHIFT_2 = np.uint64(30), np.uint64(27)


def number_rows(columns: Any, slots: Any, first: Any, which: Any) -> int:
    """Number the different rows in the order in which they come, and return how many there are, U.

    Rows are compared by all their columns, so that two with one hash value stay apart.

    Args:
        columns: bits of each column, (K, M).
        slots: -1 everywhere, as many as a power of two that is above M; they are written.
        first: place of the first row of each number; U of its M are written.
        which: number of each row, (M,), which are written.
    """
    last, found = np.uint64(len(slots) - 1), 0
    for row in range(columns.shape[1]):
        mixed = np.uint64(0)
        for column in range(columns.shape[0]):
            mixed ^= columns[column, row]
            mixed ^= mixed >> SHIFT_1
            mixed *= MIX_1
        mixed ^= mixed >> SHIFT_2
        mixed *= MIX_2
        mixed ^= mixed >> SHIFT_1
        while True:
            slot = mixed & last
            number = slots[slot]
            if number < 0:
                slots[slot], first[found], which[row] = found, row, found
                found += 1
                break
            same = True
            for column in range(columns.shape[0]):
                if columns[column, row] != columns[column, first[number]]:
                    same = False
                    break
            if same:
                which[row] = number
                break
            mixed += np.uint64(1)
    return found
