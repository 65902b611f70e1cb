"""Waits of a queue in a run that starts with an empty queue: reflected Brownian motion, measured over one run.

A queue has a drift d and a noise s, both in seconds over the whole run. The mean wait of a run (or a percentile of it)
has two known limits: a backlog that only grows (d >> s), and the steady wait of a queue that drains faster than it
fills (d << -s). Both limits solve y^2 = slope d y + B, with B = slope x steady x s^2 / 2. The value at d = 0 is known
too, and B is scaled to match it. The law is within 9 % of random paths for drifts of -12 to 4 times the noise
(`tests/test_serving_run_waits.py`).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from perfmodel.arrays import Array

#: Mean over a run of a reflected Brownian motion without drift, in units of its noise: E|B(t)| = sqrt(2 t / pi).
_MEAN_WITHOUT_DRIFT = 2.0 / 3.0 * np.sqrt(2.0 / np.pi)
#: The same for the percentiles of a run, mean over runs: computed from paths of 4,000 steps. The last one is the mean
#: of the maximum, sqrt(pi / 2).
_RANKS_WITHOUT_DRIFT = (
    np.array([0.0, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99, 1.0]),
    np.array([0.0, 0.24, 0.52, 0.79, 0.98, 1.07, 1.185, np.sqrt(np.pi / 2.0)]),
)
#: Drift, in units of the noise, at which half of the way from the value without drift to the steady one is gone.
_HALF_WAY = 2.0
#: Highest and lowest rank that has a steady wait.
_MOST_RANK, _LEAST_RANK = 1.0 - 1e-9, 1e-9
#: Coefficient of variation of the waits of a run without drift, within one run.
CV_WITHOUT_DRIFT = 0.6


@dataclass(frozen=True)
class _Law:
    """Describe a statistic of the waits of a run, (N,) or one number.

    slope: its ratio to the final backlog, if a backlog only grows. steady: its ratio to the mean wait of a steady
    queue, whose waits are exponential. still: its value without drift, in units of the noise.
    """

    slope: Array
    steady: Array
    still: Array

    def at(self, noise: Array, steady: Array) -> Array:
        """Return the statistic, seconds, (N,), of a queue that is no longer than `steady` seconds in a run without end.

        noise: standard deviation of the work of a run less the time that it has, seconds, (N,); infinite without end.
        """
        finite = np.isfinite(noise)
        spread = np.where(finite, noise, 1.0)
        whole = self.slope * self.steady / 2.0 * np.square(spread)
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            down = np.where(whole > 0.0, whole / steady, 0.0)  # the drift that a steady queue of this length has
            part = np.square(down / (self.slope * spread * _HALF_WAY))
            easing = np.where(np.isfinite(part), part / (1.0 + part), 1.0)
            usual = np.square(self.still) / (self.slope * self.steady / 2.0)
            scaled = whole * (usual + (1.0 - usual) * easing)
            found = np.where(scaled > 0.0, 2.0 * scaled / (down + np.sqrt(np.square(down) + 4.0 * scaled)), 0.0)
        return np.where(finite, found, steady)


_MEAN = _Law(np.asarray(0.5), np.asarray(1.0), np.asarray(_MEAN_WITHOUT_DRIFT))


def run_noise(count: Array, gap: Array, variability: Array) -> Array:
    """Return the standard deviation of the work of `count` requests less the time in which they arrive, seconds, (N,).

    count: requests, (N,), infinite for a run without end. gap: seconds per request, (N,). variability: sum of the
    squared coefficients of variation of gaps between arrivals and of the work per request, (N,).
    """
    finite = np.isfinite(count)
    return np.where(finite, gap * np.sqrt(variability * np.where(finite, count, 0.0)), np.inf)


def mean_in_run(noise: Array, steady: Array) -> Array:
    """Return the mean wait over the requests of a run, seconds, (N,).

    noise: as `run_noise` returns it. steady: mean wait in a run without end, seconds, (N,); infinite beyond capacity.
    """
    return _MEAN.at(noise, steady)


def rank_in_run(noise: Array, steady: Array, rank: Array) -> Array:
    """Return the wait at a rank of the requests of a run, its mean over runs, seconds, (N,).

    noise, steady: as in `mean_in_run`, the latter at the rank, 0 to 1, (N,). Below a rank of 0 nobody waits.
    """
    kept = np.clip(rank, _LEAST_RANK, _MOST_RANK)
    law = _Law(kept, -np.log1p(-kept), np.interp(kept, *_RANKS_WITHOUT_DRIFT))
    return np.where(rank > 0.0, law.at(noise, steady), 0.0)


def with_backlog(backlog: Array, chance: Array) -> Array:
    """Return the wait for a `backlog` that grows and for a queue by `chance`, seconds, in the shape of both.

    Derived: y^2 = backlog y + chance^2, which is either where the other is nought.
    """
    return np.asarray((backlog + np.sqrt(np.square(backlog) + 4.0 * np.square(chance))) / 2.0)
