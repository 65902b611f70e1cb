"""Array types that every room uses, and interpolation along an axis."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Mask = NDArray[np.bool_]
Index = NDArray[np.intp]
Codes = NDArray[np.int8]


def interpolate(knots: Array, values: Array, at: Array) -> Array:
    """Piecewise-linear values between (K, N) knots at (N,) points; the first segment serves below it."""
    out = values[0].copy()
    for i in range(len(knots) - 1):
        width = np.maximum(knots[i + 1] - knots[i], 1e-12)
        part = np.clip((at - knots[i]) / width, 0.0, 1.0)
        out = out + part * (values[i + 1] - values[i])
    return out


NAN = float("nan")
