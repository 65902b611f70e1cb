"""Test how well a table predicts measurements that it was not built from (held-out tests).

Each test hides other measurements. points: random measurements. sites: all measurements of random sites. octave: the
last octave (factor 2) of the last axis. border: the last octave of a site coordinate.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from perfmodel.arrays import NAN, Array, Codes, Mask
from perfmodel.profiles.build.fit import Points, fitted_table
from perfmodel.profiles.families import Family
from perfmodel.profiles.table import Table

TESTS = ("points", "sites", "octave", "border")
#: Share of points, and of sites, that is hidden. Chosen: the usual tenth.
SHARE = 0.1
#: Largest share of the rows that may be hidden; with more, the test is skipped. Chosen.
MOST_HIDDEN = 0.6
#: Fewest sites of which some are hidden, and fewest values of a site coordinate whose last octave is hidden. Chosen.
LEAST_SITES, LEAST_VALUES = 5, 3
#: Decimals to which logarithmic coordinates are compared, and the tolerance that goes with them.
DECIMALS, TOLERANCE = 6, 1e-6
_OCTAVE = float(np.log(2.0))


@dataclass(frozen=True)
class Hidden:
    """Hold the residuals ln(predicted / measured time), (R,), of hidden measurements, and the basis code of each
    prediction."""

    residual: Array
    basis: Codes

    def quantile(self, share: float) -> float:
        """Return the quantile at `share` (0 to 1) of the relative error |predicted / measured - 1|; NaN if nothing was
        hidden."""
        return float(np.quantile(np.abs(np.expm1(self.residual)), share)) if len(self.residual) else NAN


def masks(data: Points, test: str, seed: int) -> Mask:
    """Choose the rows that `test` (one of `TESTS`) hides, as a mask (R,); no row where there are too few sites for
    the test."""
    rng = np.random.default_rng(seed)
    if test == "points":
        return rng.random(len(data)) < SHARE
    if test == "sites":
        _, which = np.unique(np.round(data.site, DECIMALS), axis=0, return_inverse=True)
        count = int(which.max()) + 1
        hidden: Mask = rng.random(count) < SHARE
        return hidden[which.reshape(-1)] if count >= LEAST_SITES else np.zeros(len(data), bool)
    if test == "border":  # the site coordinate with the most different values
        different = [len(np.unique(np.round(c, DECIMALS))) for c in data.site.T]
        column = data.site[:, int(np.argmax(different))]
        return _last_octave(column) if max(different) >= LEAST_VALUES else np.zeros(len(data), bool)
    return _last_octave(data.axis[:, -1])


def _last_octave(values: Array) -> Mask:
    """Mark the logarithmic coordinates that lie within a factor of 2 below the largest, as a mask (R,)."""
    return np.asarray(values > values.max() - _OCTAVE + TOLERANCE)


def hide(
    family: Family, data: Points, test: str, seed: int = 0, build: Callable[[Family, Points], Table] = fitted_table
) -> Hidden:
    """Run one test: `build` a table without the rows that `test` hides, predict the hidden rows, and return the
    residuals."""
    hidden = masks(data, test, seed)
    if not hidden.any() or hidden.sum() > MOST_HIDDEN * len(data):
        return Hidden(np.zeros(0), np.zeros(0, np.int8))
    fitted, rest = build(family, data.take(~hidden)), data.take(hidden)
    value, basis = fitted.read(list(rest.site.T), list(rest.axis.T), family.growth)
    return Hidden(rest.value - value, basis)


def pooled(parts: Iterator[Hidden] | list[Hidden]) -> Hidden:
    """Join the residuals of several tests into one."""
    every = list(parts)
    if not every:
        return Hidden(np.zeros(0), np.zeros(0, np.int8))
    return Hidden(np.concatenate([p.residual for p in every]), np.concatenate([p.basis for p in every]))
