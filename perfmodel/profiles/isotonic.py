"""Isotonic regression of many rows, as a plain loop, which `perfmodel.profiles.compiled` compiles.

It does what `perfmodel.profiles.monotone` does with arrays, by the same operations, so that both give the same numbers
to the last bit.
"""

from __future__ import annotations

from typing import Any


def isotonic_rows(total: Any, mass: Any, out: Any) -> None:
    """Write the weighted isotonic regression of R rows of A values into `out`, (R, A), by the max-min formula.

    total, mass: sums of weight times value and of weight over the first values of each row, from none to all, (R, A+1).
    """
    count = out.shape[1]
    for row in range(out.shape[0]):
        for place in range(count):
            out[row, place] = -float("inf")
        for start in range(count):
            least = float("inf")
            for stop in range(count, start, -1):
                mean = (total[row, stop] - total[row, start]) / (mass[row, stop] - mass[row, start])
                if mean < least or mean != mean:  # NaN stays NaN, as in arrays
                    least = mean
                if least > out[row, stop - 1] or least != least:
                    out[row, stop - 1] = least
