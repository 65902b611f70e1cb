"""Mean and percentiles of a quantity, weighted or not."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hwdb import UnknownName
from perfmodel.arrays import NAN, Array
from perfmodel.workload import RANKS, STATISTICS

#: Relative rounding of sums of weights, by which a percentile may miss the value that it falls on.
_ROUNDING = 1e-12


@dataclass(frozen=True)
class Distribution:
    """Holds mean and percentiles of a quantity, in its unit; NaN where no value is known."""

    mean: float
    p50: float
    p90: float
    p95: float
    p99: float

    def at(self, statistic: str) -> float:
        """Return the value of `statistic`, one of `perfmodel.workload.STATISTICS`."""
        if statistic not in STATISTICS:
            raise UnknownName("statistic", statistic, STATISTICS)
        return float(getattr(self, statistic))


def distribution(values: Array, weights: Array | None = None) -> Distribution:
    """Return mean and percentiles of `values` (any shape), each counted `weights` times; NaN values are left out.

    The p-th percentile is the least value that p percent of all values do not exceed.

    >>> distribution(np.array([1.0, 2.0, 4.0]), np.array([8.0, 1.0, 1.0]))
    Distribution(mean=1.4, p50=1.0, p90=2.0, p95=4.0, p99=4.0)
    """
    kept = np.isfinite(values)
    values = values[kept]
    if not len(values):
        return Distribution(**dict.fromkeys(STATISTICS, NAN))
    ranks = np.array(list(RANKS.values()))
    if weights is None:
        ordered = np.sort(values)
        places = np.ceil(ranks * len(values) * (1 - _ROUNDING)).astype(np.int64) - 1
        mean = float(values.mean())
    else:
        order = np.argsort(values)
        ordered, counts = values[order], weights[kept][order]
        total = np.cumsum(counts)
        places = np.searchsorted(total, ranks * total[-1] * (1 - _ROUNDING))
        mean = float(np.dot(ordered, counts) / total[-1])
    found = ordered[np.clip(places, 0, len(values) - 1)]
    return Distribution(mean=mean, **{rank: float(v) for rank, v in zip(RANKS, found, strict=True)})
