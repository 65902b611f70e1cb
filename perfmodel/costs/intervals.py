"""Spreads: how wide the 80 % interval of an operator is, by family and basis, as learned from held-out measurements."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from perfmodel.arrays import Array
from perfmodel.hardware import efficiency
from perfmodel.profiles import store
from perfmodel.vocabulary import BASES

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
    borrowed = efficiency.roofline_spread()
    values = np.array([max(learned.get(basis, borrowed), LEAST) for basis in BASES])
    return np.maximum.accumulate(values)


def spread_of(family: str, basis: NDArray[np.int8]) -> Array:
    """Log half-width of the 80 % interval of each row."""
    return spreads(family)[basis]


#: Distance of the nearest measured relative (`calibrated.device_distance`, scarcity and formats included) up to which a device
#: counts as a twin, and from which as a stranger: of another vendor or kind.
TWIN, UNRELATED_DEVICE = 0.75, 3.0


@cache
def calibrated_spread(family: str, distance: float) -> float:
    """Log half-width where a relative at `distance` stands in."""
    learned = _learned().get(family, {})
    related = float(spreads(family)[BASES.index("calibrated")])
    if distance < TWIN:
        return min(learned.get("calibrated_twin", related), related)
    return max(learned.get("calibrated_stranger", related), related) if distance >= UNRELATED_DEVICE else related
