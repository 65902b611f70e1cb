"""A smooth surface through measurements: ridge regression on polynomials of the logarithmic coordinates.

It is the level that sparse tables fall back to between their points, and, with more terms, all that is kept of
measurements whose licence does not allow a table: a few dozen coefficients.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations_with_replacement

import numpy as np

from perfmodel.arrays import Array

#: Ridge penalty, as a share of the number of points.
RIDGE = 1e-4


@dataclass(frozen=True)
class Surface:
    """Polynomial of standardised coordinates.

    centre, width: (d,) of the coordinates; terms: which coordinates each term multiplies; coefficients: one a term.
    low, high: bounds that predictions are held to.
    """

    centre: Array
    width: Array
    terms: tuple[tuple[int, ...], ...]
    coefficients: Array
    low: float
    high: float

    def at(self, place: Array) -> Array:
        """Value at coordinates (..., d), each held to a quarter beyond the range that was fitted."""
        z = np.clip((place - self.centre) / self.width, -1.25, 1.25)
        return np.clip(_design(z, self.terms) @ self.coefficients, self.low, self.high)


def _design(z: Array, terms: tuple[tuple[int, ...], ...]) -> Array:
    columns = [np.prod(z[..., list(term)], axis=-1) if term else np.ones(z.shape[:-1]) for term in terms]
    return np.stack(columns, axis=-1)


def surface(place: Array, value: Array, degree: int = 2) -> Surface:
    """Fit of `value` (R,) at `place` (R, d) by all monomials up to `degree` of the coordinates that vary.

    >>> x = np.linspace(0.0, 4.0, 20)[:, None]
    >>> bool(np.allclose(surface(x, x[:, 0] ** 2).at(np.array([[2.5]])), 6.25, rtol=1e-3))
    True
    """
    low, high = place.min(axis=0), place.max(axis=0)
    width = np.maximum((high - low) / 2.0, 1e-6)
    centre: Array = (high + low) / 2.0
    moving = [int(i) for i in np.flatnonzero(high - low > 1e-6)]
    while degree > 1 and _count(len(moving), degree) > len(value) / 3:
        degree -= 1
    terms = tuple(t for d in range(degree + 1) for t in combinations_with_replacement(moving, d))
    design = _design((place - centre) / width, terms)
    normal = design.T @ design + RIDGE * len(value) * np.eye(len(terms))
    coefficients: Array = np.linalg.solve(normal, design.T @ value).astype(float)
    return Surface(centre, width, terms, coefficients, float(value.min()), float(value.max()))


def _count(dimensions: int, degree: int) -> int:
    return int(np.prod([(dimensions + i) / i for i in range(1, degree + 1)]).round())
