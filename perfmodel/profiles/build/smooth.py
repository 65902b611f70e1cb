"""Fit a polynomial to measurements: ridge regression on monomials of the logarithmic coordinates.

Sparse tables use it as the trend between their points. With a higher degree it replaces measurements whose licence does
not allow redistribution: only a few dozen coefficients are kept.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations_with_replacement

import numpy as np

from perfmodel.arrays import Array

#: Ridge penalty per point. Chosen: keeps the normal matrix invertible and hardly changes the fit.
RIDGE = 1e-4
#: Standardised coordinates lie within -1 and 1; predictions are held to this multiple. Chosen: a quarter beyond.
HELD_RANGE = 1.25
#: Coordinates that vary by less than this do not vary.
SAME = 1e-6
#: Least points per term of the polynomial. Chosen: fewer points reduce the degree.
POINTS_PER_TERM = 3


@dataclass(frozen=True)
class Surface:
    """Hold a fitted polynomial of d standardised coordinates.

    centre, width: (d,) that standardise a coordinate. terms: for each term, the numbers of the coordinates that it
    multiplies. coefficients: one per term. low, high: predictions are clipped to this range (that of the data).
    """

    centre: Array
    width: Array
    terms: tuple[tuple[int, ...], ...]
    coefficients: Array
    low: float
    high: float

    def at(self, place: Array) -> Array:
        """Return the value at coordinates `place` (..., d), each clipped to a quarter beyond the fitted range."""
        z = np.clip((place - self.centre) / self.width, -HELD_RANGE, HELD_RANGE)
        return np.clip(_design(z, self.terms) @ self.coefficients, self.low, self.high)


def _design(z: Array, terms: tuple[tuple[int, ...], ...]) -> Array:
    """Return the value of each term at standardised coordinates `z` (..., d), with shape (..., number of terms)."""
    columns = [np.prod(z[..., list(term)], axis=-1) if term else np.ones(z.shape[:-1]) for term in terms]
    return np.stack(columns, axis=-1)


def surface(place: Array, value: Array, degree: int = 2) -> Surface:
    """Fit `value` (R,) at `place` (R, d) by all monomials, up to `degree`, of the coordinates that vary.

    The degree is reduced where there are fewer than `POINTS_PER_TERM` points per term.

    >>> x = np.linspace(0.0, 4.0, 20)[:, None]
    >>> bool(np.allclose(surface(x, x[:, 0] ** 2).at(np.array([[2.5]])), 6.25, rtol=1e-3))
    True
    """
    low, high = place.min(axis=0), place.max(axis=0)
    width = np.maximum((high - low) / 2.0, SAME)
    centre: Array = (high + low) / 2.0
    moving = [int(i) for i in np.flatnonzero(high - low > SAME)]
    while degree > 1 and _count(len(moving), degree) > len(value) / POINTS_PER_TERM:
        degree -= 1
    terms = tuple(t for d in range(degree + 1) for t in combinations_with_replacement(moving, d))
    design = _design((place - centre) / width, terms)
    normal = design.T @ design + RIDGE * len(value) * np.eye(len(terms))
    coefficients: Array = np.linalg.solve(normal, design.T @ value).astype(float)
    return Surface(
        centre=centre,
        width=width,
        terms=terms,
        coefficients=coefficients,
        low=float(value.min()),
        high=float(value.max()),
    )


def _count(dimensions: int, degree: int) -> int:
    """Count the monomials up to `degree` in `dimensions` coordinates."""
    return int(np.prod([(dimensions + i) / i for i in range(1, degree + 1)]).round())
