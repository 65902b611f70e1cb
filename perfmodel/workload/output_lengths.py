"""How answers vary in length: Weibull, cut at the longest that a run allows."""

from __future__ import annotations

from functools import cache

import numpy as np

from perfmodel.arrays import Array

#: Coefficient of variation of answers by how lengths vary. Natural ones: Azure conversations 2023 0.77, Mooncake
#: conversations 0.73, ShareGPT 0.74 (10,000 first turns); uniform in 0.8-1.0 of the nominal: 0.2 / sqrt(12) / 0.9.
OUTPUT_LENGTH_CV = {"fixed": 0.0, "uniform": 0.064, "trace": 0.75}
#: Equal answers are given this little variation, so that nothing jumps.
LEAST_LENGTH_CV = 0.02
#: Answers expected to be still running when the longest of many ends: exp(-Euler's constant), of Gumbel's law.
_LAST = 0.56


def survival(answers: Array, cv: Array, ages: Array) -> Array:
    """Share of answers longer than `ages` where they are `answers` long on average and vary by `cv` (coefficient
    of variation; 1 is the exponential law). Broadcasts.

    >>> survival(np.array(100.0), np.array(1.0), np.array([0.0, 100.0])).round(3).tolist()
    [1.0, 0.368]
    """
    shape = _shape(cv)
    with np.errstate(over="ignore", under="ignore"):
        return np.exp(-np.power(np.maximum(ages, 0.0) * _gamma(1.0 + 1.0 / shape) / answers, shape))


def longest(answers: Array, cv: Array, count: Array) -> Array:
    """Expected longest of `count` answers (see `survival`)."""
    shape = _shape(cv)
    many = np.maximum(np.log(np.maximum(count, 1.0) / _LAST), 0.0)
    return np.maximum(answers / _gamma(1.0 + 1.0 / shape) * np.power(many, 1.0 / shape), answers)


def truncated_cv(kind: str, fullness: Array) -> Array:
    """Coefficient of variation of answers that vary as `kind` (see `OUTPUT_LENGTH_CV`; others: not at all) and are cut at a
    longest one, of which their mean is the share `fullness`; NaN where nothing cuts them.

    >>> truncated_cv("trace", np.array([np.nan, 0.1, 0.7, 1.0])).round(2).tolist()
    [0.75, 0.74, 0.46, 0.0]
    """
    cv = OUTPUT_LENGTH_CV.get(kind, 0.0)
    shares, cvs = _cut(cv)
    return np.where(np.isfinite(fullness), np.interp(fullness, shares, cvs), cv)


@cache
def _cut(cv: float) -> tuple[Array, Array]:
    """(mean over the longest, coefficient of variation) of min(X, M) for rising M, X of mean 1."""
    grid = np.linspace(0.0, 12.0, 12001)
    longer = survival(np.ones(1), np.array([cv]), grid)
    first = np.concatenate([[0.0], np.cumsum((longer[1:] + longer[:-1]) / 2.0) * grid[1]])
    second = np.concatenate([[0.0], np.cumsum((longer * grid)[1:] + (longer * grid)[:-1]) * grid[1]])
    mean, square = first[1:], second[1:]
    cvs = np.sqrt(np.maximum(square / np.square(mean) - 1.0, 0.0))
    order = slice(None, None, -1)
    return (mean / grid[1:])[order], cvs[order]


def _shape(cv: Array) -> Array:
    """Weibull shape of a coefficient of variation (Justus et al., J. Appl. Meteorol. 17, 1978; within 3 % to 1)."""
    return np.power(np.maximum(cv, LEAST_LENGTH_CV), -1.086)


def _gamma(z: Array) -> Array:
    """Gamma function of z from 1, by Stirling's series at z + 3; relative error below 1e-5."""
    w = z + 3.0
    series = np.sqrt(2.0 * np.pi / w) * np.power(w / np.e, w) * (1.0 + 1.0 / (12.0 * w) + 1.0 / (288.0 * w * w))
    return series / (z * (z + 1.0) * (z + 2.0))
