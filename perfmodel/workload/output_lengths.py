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
#: Coefficients of variation that `cv_of_tail` looks between.
_TAILED = np.geomspace(LEAST_LENGTH_CV, 3.0, 200)


def survival(outputs: Array, cv: Array, ages: Array) -> Array:
    """Return the share of outputs that are longer than `ages` tokens. All arguments broadcast together.

    outputs: mean tokens per output. cv: coefficient of variation of output lengths (1: exponential law). ages: tokens.

    >>> survival(np.array(100.0), np.array(1.0), np.array([0.0, 100.0])).round(3).tolist()
    [1.0, 0.368]
    """
    shape = _shape(cv)
    with np.errstate(over="ignore", under="ignore"):
        return np.exp(-np.power(np.maximum(ages, 0.0) * _gamma(1.0 + 1.0 / shape) / outputs, shape))


def quantile(outputs: Array, cv: Array, ranks: Array, most: Array) -> Array:
    """Return the tokens that a share `ranks` (0 to 1) of outputs does not exceed, cut at `most` tokens.

    Other arguments as in `survival`; all broadcast together.

    >>> quantile(np.array(100.0), np.array(1.0), np.array([0.5, 0.99]), np.array(400.0)).round(1).tolist()
    [69.3, 400.0]
    """
    shape = _shape(cv)
    tokens = outputs / _gamma(1.0 + 1.0 / shape) * np.power(-np.log1p(-ranks), 1.0 / shape)
    return np.asarray(np.minimum(tokens, np.maximum(most, outputs)))


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
