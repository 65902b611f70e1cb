"""Spreads: how wide the 80 % interval of an operator is, by family and basis, as learned from held-out measurements."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from perfmodel.costs import efficiency
from perfmodel.demand import BASES, Array
from perfmodel.profiles import store

#: Narrower than this no interval is: repeated runs of one kernel differ by as much.
LEAST = 0.01


@cache
def _learned() -> dict[str, dict[str, float]]:
    for folder in store.folders():
        path = folder / "spread.toml"
        if path.is_file():
            found: dict[str, Any] = store.read_toml(path)
            return found["spread"]
    return {}


@cache
def spreads(family: str) -> Array:
    """Log half-width of the 80 % interval for each code of `BASES`; where nothing was learned, that of a roofline. A
    worse basis is never surer."""
    learned = _learned().get(family, {})
    borrowed = efficiency.spread()
    values = np.array([max(learned.get(basis, borrowed), LEAST) for basis in BASES])
    return np.maximum.accumulate(values)


def spread_of(family: str, basis: NDArray[np.int8]) -> Array:
    """Log half-width of the 80 % interval of each row."""
    return spreads(family)[basis]


@cache
def far_spread(family: str) -> float:
    """Log half-width where the nearest measured relative is of another vendor or kind."""
    near = float(spreads(family)[BASES.index("calibrated")])
    return max(_learned().get(family, {}).get("calibrated_far", near), near)
