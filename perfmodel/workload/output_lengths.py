"""How output lengths vary: a Weibull law, cut at the longest output that a run allows."""

from __future__ import annotations

from functools import cache

import numpy as np

from perfmodel.arrays import Array

#: Coefficient of variation of output lengths by kind of spread. `trace`: Azure conversations 2023 0.77, Mooncake
#: conversations 0.73, ShareGPT 0.74 (10,000 first turns). `uniform`: lengths uniform in 0.8-1.0 of the nominal,
#: 0.2 / sqrt(12) / 0.9.
OUTPUT_LENGTH_CV = {"fixed": 0.0, "uniform": 0.064, "trace": 0.75}
#: Least coefficient of variation that formulas use, so that equal outputs cause no division by zero and no jump.
LEAST_LENGTH_CV = 0.02
#: exp(-Euler's constant). The mean of the largest of n draws is the quantile that this many of them exceed (Gumbel's
#: law).
_LARGEST = 0.56
#: Exponent that gives a Weibull law's shape from its coefficient of variation (Justus et al., J. Appl. Meteorol. 17,
#: 1978); within 3 % up to a coefficient of 1.
_SHAPE_EXPONENT = -1.086
#: Grid of output lengths, in means, that cut laws are integrated on: to 12 means in steps of 0.001.
_GRID_END, _GRID_POINTS = 12.0, 12001
#: Coefficients of variation before a cut that `uncut` looks between, and fullnesses of its grid.
_BASES, _FULLNESSES = np.geomspace(LEAST_LENGTH_CV, 3.0, 40), 401
#: Least divisor.
TINY = 1e-12
#: Coefficients of variation that `cv_of_tail` looks between.
_TAILED = np.geomspace(LEAST_LENGTH_CV, 3.0, 200)


def survival(outputs: Array, cv: Array, ages: Array) -> Array:
    """Return the share of outputs that are longer than `ages` tokens. All arguments broadcast together.

    outputs: mean tokens per output. cv: coefficient of variation of output lengths (1: exponential law). ages: tokens.
    Of outputs that a run cuts, both are those of the law before the cut (`uncut`).

    >>> survival(np.array(100.0), np.array(1.0), np.array([0.0, 100.0])).round(3).tolist()
    [1.0, 0.368]
    """
    return Survival(outputs, cv).at(ages)


class Survival:
    """Give what `survival` returns, at one age after the other. outputs, cv: as there."""

    def __init__(self, outputs: Array, cv: Array) -> None:
        """Keep what does not depend on the age."""
        self._outputs, self._shape = outputs, _shape(cv)
        with np.errstate(over="ignore", under="ignore"):
            self._scale = _gamma(1.0 + 1.0 / self._shape)

    def at(self, ages: Array) -> Array:
        """Return the share of outputs that are longer than `ages` tokens."""
        with np.errstate(over="ignore", under="ignore"):
            return np.exp(-np.power(np.maximum(ages, 0.0) * self._scale / self._outputs, self._shape))


def quantile(outputs: Array, cv: Array, ranks: Array, most: Array) -> Array:
    """Return the tokens that a share `ranks` (0 to 1) of outputs does not exceed, cut at `most` tokens.

    outputs, cv: mean tokens and coefficient of variation after the cut. All arguments broadcast together.

    >>> quantile(np.array(100.0), np.array(1.0), np.array([0.5, 0.99]), np.array(np.inf)).round(1).tolist()
    [69.3, 460.5]
    >>> quantile(np.array(350.0), np.array(0.46), np.array([0.01, 0.9]), np.array(512.0)).round(0).tolist()
    [22.0, 512.0]
    """
    before, spread = uncut(outputs, cv, most)
    shape = _shape(spread)
    tokens = before / _gamma(1.0 + 1.0 / shape) * np.power(-np.log1p(-ranks), 1.0 / shape)
    return np.asarray(np.minimum(tokens, np.maximum(most, outputs)))


def uncut(outputs: Array, cv: Array, most: Array) -> tuple[Array, Array]:
    """Return mean tokens and coefficient of variation of outputs before a run cuts them at `most` tokens.

    Derived: the Weibull law X whose min(X, most) has the mean `outputs` and the coefficient of variation `cv`. An
    output as short as one in a hundred is then far shorter than the cut law's own moments would make it. All arguments
    broadcast together; outputs that nothing cuts stay as they are.
    """
    outputs, cv, most = np.broadcast_arrays(outputs, cv, most)
    cut = (cv > LEAST_LENGTH_CV) & (most > outputs) & (most < _GRID_END * outputs)
    if not cut.any():
        return outputs, cv
    bases, spreads, means = _cuts()
    place = np.clip(np.where(cut, outputs / np.where(cut, most, 1.0), 0.0), 0.0, 1.0) * (_FULLNESSES - 1)
    left = np.minimum(place.astype(int), _FULLNESSES - 2)
    part = place - left
    at_base, shares = (table[:, left] * (1.0 - part) + table[:, left + 1] * part for table in (spreads, means))
    row = np.clip(np.sum(at_base < cv, axis=0) - 1, 0, len(bases) - 2)
    low, high = (np.take_along_axis(at_base, row[None] + k, axis=0)[0] for k in (0, 1))
    along = np.clip((cv - low) / np.maximum(high - low, TINY), 0.0, 1.0)
    share = np.take_along_axis(shares, row[None], axis=0)[0] * (1.0 - along)
    share = share + np.take_along_axis(shares, row[None] + 1, axis=0)[0] * along
    found = bases[row] * (1.0 - along) + bases[row + 1] * along
    cut &= cv <= at_base[-1]  # no cut law varies more
    return np.where(cut, outputs / share, outputs), np.where(cut, found, cv)


@cache
def _cuts() -> tuple[Array, Array, Array]:
    """Return (J coefficients of variation before a cut; the one after it; the mean after it over that before it).

    The latter two are (J, F), at F fullnesses (mean output over the longest allowed) evenly from 0 to 1.
    """
    even = np.linspace(0.0, 1.0, _FULLNESSES)
    columns = []
    for cv in _BASES.tolist():
        shares, cvs = _cut(cv)
        means = shares * np.linspace(_GRID_END, _GRID_END / (_GRID_POINTS - 1), _GRID_POINTS - 1)
        columns.append((np.interp(even, shares, cvs), np.interp(even, shares, means)))
    spreads, means = (np.array(table) for table in zip(*columns, strict=True))
    # far laws that are cut near nought leave the grid
    return _BASES, np.maximum.accumulate(spreads, axis=0), np.maximum(means, TINY)


def cv_of_tail(tail: Array) -> Array:
    """Return the coefficient of variation of the law whose 99th percentile is `tail` times its mean, (N,); 0 to 3.

    >>> cv_of_tail(np.array([1.0, np.log(100.0)])).round(2).tolist()
    [0.02, 1.0]
    """
    ratios = quantile(np.ones(1), _TAILED, np.array(0.99), np.array(np.inf))
    return np.interp(tail, ratios, _TAILED)


def longest(outputs: Array, cv: Array, count: Array) -> Array:
    """Return the expected tokens of the longest of `count` outputs; other arguments as in `survival`."""
    shape = _shape(cv)
    exponent = np.maximum(np.log(np.maximum(count, 1.0) / _LARGEST), 0.0)
    return np.maximum(outputs / _gamma(1.0 + 1.0 / shape) * np.power(exponent, 1.0 / shape), outputs)


def shorter_of_two(cv: Array) -> Array:
    """Return the mean of the shorter of two outputs over the mean output, in the shape of `cv` (as in `survival`).

    Derived: both are longer than x with the square of the chance that one is, which is a Weibull law of the same shape.

    >>> shorter_of_two(np.array([0.0, 1.0])).round(2).tolist()
    [0.99, 0.5]
    """
    return np.asarray(np.exp2(-1.0 / _shape(cv)))


def truncated_cv(kind: str, fullness: Array) -> Array:
    """Return the coefficient of variation of output lengths that are cut at a longest output.

    kind: a key of `OUTPUT_LENGTH_CV`; outputs of any other kind do not vary. fullness: mean output over the longest
    output allowed; NaN where nothing cuts outputs.

    >>> truncated_cv("trace", np.array([np.nan, 0.1, 0.7, 1.0])).round(2).tolist()
    [0.75, 0.74, 0.46, 0.0]
    """
    cv = OUTPUT_LENGTH_CV.get(kind, 0.0)
    shares, cvs = _cut(cv)
    return np.where(np.isfinite(fullness), np.interp(fullness, shares, cvs), cv)


@cache
def _cut(cv: float) -> tuple[Array, Array]:
    """Return (mean / M, coefficient of variation) of min(X, M), for falling M.

    X is an output length with mean 1 and coefficient of variation `cv`, M the longest output allowed. Derived: the
    moments of min(X, M) are integrals of the survival function S up to M, E = int S and E2 = 2 int x S, by the
    trapezoid rule.
    """
    grid = np.linspace(0.0, _GRID_END, _GRID_POINTS)
    longer = survival(np.ones(1), np.array([cv]), grid)
    first = np.concatenate([[0.0], np.cumsum((longer[1:] + longer[:-1]) / 2.0) * grid[1]])
    second = np.concatenate([[0.0], np.cumsum((longer * grid)[1:] + (longer * grid)[:-1]) * grid[1]])
    mean, square = first[1:], second[1:]
    cvs = np.sqrt(np.maximum(square / np.square(mean) - 1.0, 0.0))
    order = slice(None, None, -1)
    return (mean / grid[1:])[order], cvs[order]


def _shape(cv: Array) -> Array:
    """Return the shape of the Weibull law with coefficient of variation `cv` (see `_SHAPE_EXPONENT`)."""
    shape: Array = np.power(np.maximum(cv, LEAST_LENGTH_CV), _SHAPE_EXPONENT)
    return shape


def _gamma(z: Array) -> Array:
    """Return the gamma function for z of 1 and more, by Stirling's series at z + 3; relative error below 1e-5."""
    w = z + 3.0
    series = np.sqrt(2.0 * np.pi / w) * np.power(w / np.e, w) * (1.0 + 1.0 / (12.0 * w) + 1.0 / (288.0 * w * w))
    return series / (z * (z + 1.0) * (z + 2.0))
