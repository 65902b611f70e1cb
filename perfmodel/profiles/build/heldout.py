"""How well a table predicts what it has not seen: random points, whole sites, and one octave beyond its axis or its
sites."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from perfmodel.arrays import Array
from perfmodel.profiles.build.fit import Points, fitted_table
from perfmodel.profiles.families import Family
from perfmodel.profiles.table import Table

TESTS = ("points", "sites", "octave", "border")
#: Share of points and of sites that are hidden.
SHARE = 0.1
_OCTAVE = float(np.log(2.0))


@dataclass(frozen=True)
class Hidden:
    """Residuals ln(predicted / measured) (R,) of hidden measurements, and the basis code of each prediction."""

    residual: Array
    basis: NDArray[np.int8]

    def quantile(self, share: float) -> float:
        """Quantile of |predicted / measured - 1|; NaN if nothing was hidden."""
        return float(np.quantile(np.abs(np.expm1(self.residual)), share)) if len(self.residual) else float("nan")


def masks(data: Points, test: str, seed: int) -> NDArray[np.bool_]:
    """Which rows `test` hides."""
    rng = np.random.default_rng(seed)
    if test == "points":
        return rng.random(len(data)) < SHARE
    if test == "sites":
        _, which = np.unique(np.round(data.site, 6), axis=0, return_inverse=True)
        count = int(which.max()) + 1
        return (rng.random(count) < SHARE)[which.reshape(-1)] if count >= 5 else np.zeros(len(data), bool)
    if test == "border":  # the last octave of the site coordinate with the most different values
        different = [len(np.unique(np.round(c, 6))) for c in data.site.T]
        column = data.site[:, int(np.argmax(different))]
        far = column > column.max() - _OCTAVE + 1e-6
        return far if max(different) >= 3 else np.zeros(len(data), bool)
    last = data.axis[:, -1]
    return last > last.max() - _OCTAVE + 1e-6


def hide(
    family: Family, data: Points, test: str, seed: int = 0, build: Callable[[Family, Points], Table] = fitted_table
) -> Hidden:
    """Fit without the rows that `test` hides and predict them."""
    hidden = masks(data, test, seed)
    if not hidden.any() or hidden.sum() > 0.6 * len(data):
        return Hidden(np.zeros(0), np.zeros(0, np.int8))
    fitted, rest = build(family, data.take(~hidden)), data.take(hidden)
    value, basis = fitted.read(list(rest.site.T), list(rest.axis.T), family.growth)
    return Hidden(rest.value - value, basis)


def pooled(parts: Iterator[Hidden] | list[Hidden]) -> Hidden:
    """All residuals together."""
    every = list(parts)
    if not every:
        return Hidden(np.zeros(0), np.zeros(0, np.int8))
    return Hidden(np.concatenate([p.residual for p in every]), np.concatenate([p.basis for p in every]))
