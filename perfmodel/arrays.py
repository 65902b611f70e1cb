"""Array types that every package uses, and interpolation along an axis."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

#: Figures. Conditions. Row numbers and long codes. Short codes (basis, bound).
Array = NDArray[np.float64]
Mask = NDArray[np.bool_]
Index = NDArray[np.intp]
Codes = NDArray[np.int8]
NAN = float("nan")
#: Least distance of two knots, so that equal ones divide by no zero.
_LEAST_WIDTH = 1e-12


def interpolate(knots: Array, values: Array, at: Array) -> Array:
    """Interpolate linearly, for each of N columns, between K points, and return the values at `at` (N,).

    `knots` (K, N) are the positions of the points, ascending; `values` (K, N) are the values there.

    Outside the knots the nearest value is held.

    >>> interpolate(np.array([[0.0], [2.0]]), np.array([[1.0], [3.0]]), np.array([0.5])).tolist()
    [1.5]
    """
    knots, values = np.asarray(knots, float), np.asarray(values, float)
    along = (-1, *(1 for _ in range(np.ndim(at) - 1)), *knots.shape[1:])
    start, width = knots[:-1].reshape(along), np.maximum(knots[1:] - knots[:-1], _LEAST_WIDTH).reshape(along)
    part = np.minimum(np.maximum((at - start) / width, 0.0), 1.0)  # np.clip takes several times as long on few columns
    out: Array = values[0].copy()
    for share, rise in zip(part, values[1:] - values[:-1], strict=True):
        out = out + share * rise
    return out
