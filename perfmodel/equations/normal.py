"""The normal distribution: the chance below a deviate, the deviate of a chance, and what is above 0 on average."""

from __future__ import annotations

import math
from statistics import NormalDist

import numpy as np

from perfmodel.arrays import Array

#: Values up to which the standard library is asked one by one. Chosen: SciPy's functions take a fifth of a second to
#: import, in which so many are done.
_FEW = 100_000


def normal_chance(deviate: Array | float) -> Array:
    """Return the probability that a standard normal variable stays below a value.

    Parameters
    ----------
    deviate : array or float
        The value, in standard deviations from the mean.

    Returns
    -------
    Array
        Probability, of the same shape.

    References
    ----------
    Abramowitz & Stegun, Handbook of Mathematical Functions, 26.2.29.

    Examples
    --------
    >>> float(normal_chance(1.2815515655446004).round(12))
    0.9
    """
    at = np.asarray(deviate, float)
    if at.size > _FEW:
        from scipy.special import ndtr

        return np.asarray(ndtr(at))
    found = [0.5 * math.erfc(-x * math.sqrt(0.5)) for x in at.ravel().tolist()]
    return np.array(found, float).reshape(at.shape)


def normal_deviate(chance: Array | float) -> Array:
    """Return the value below which a standard normal variable stays with a given probability.

    Parameters
    ----------
    chance : array or float
        The probability, 0 to 1.

    Returns
    -------
    Array
        Standard deviations from the mean, of the same shape; infinite at 0 and 1, NaN beyond.

    References
    ----------
    Wichura, algorithm AS 241, Applied Statistics 37, 1988.

    Examples
    --------
    >>> float(normal_deviate(0.9).round(12))
    1.281551565545
    """
    at = np.asarray(chance, float)
    if at.size > _FEW:
        from scipy.special import ndtri

        return np.asarray(ndtri(at))
    quantile = NormalDist().inv_cdf
    ends = {0.0: -math.inf, 1.0: math.inf}
    found = [quantile(p) if 0.0 < p < 1.0 else ends.get(p, math.nan) for p in at.ravel().tolist()]
    return np.array(found, float).reshape(at.shape)


def normal_excess(mean: Array | float, deviation: Array | float) -> Array:
    """Return the mean of the part of a normal variable that lies above 0, the loss function of a normal variable.

    Parameters
    ----------
    mean, deviation : array or float
        Of the variable; the deviation is above 0. They broadcast together.

    Returns
    -------
    Array
        Mean of max(X, 0), in the unit of the variable, of their common shape.

    References
    ----------
    Silver, Pyke & Thomas, Inventory and Production Management in Supply Chains, 2017, appendix II.

    Examples
    --------
    >>> normal_excess([0.0, 100.0, -100.0], 1.0).round(4).tolist()
    [0.3989, 100.0, 0.0]
    """
    at = np.asarray(mean, float) / deviation
    density = np.exp(-0.5 * np.square(at)) / math.sqrt(2.0 * math.pi)
    return np.asarray(np.maximum(deviation * (density + at * normal_chance(at)), 0.0))
