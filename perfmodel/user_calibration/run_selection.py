"""Order benchmark runs by how much they would reduce the uncertainty of target figures, before any is measured.

The factors of a system are normal, and figures are linear in them. So the variance that remains after a run follows
from derivatives alone: those of the values that the run measures, and those of the target figures, by the factors.
"""

from __future__ import annotations

import numpy as np

from perfmodel.arrays import Array, Index


def most_informative_first(
    slope: Array, noise: Array, run: Index, target: Array, prior: Array, count: int
) -> list[int]:
    """Return the numbers of `count` runs, chosen greedily: each leaves the least variance of the target figures.

    slope: (V, P) derivatives of the values that runs would measure. noise: (V,) their scatter. run: (V,) their run.
    target: (T, P) derivatives of the figures that matter, each over its scatter. prior: (P,) spread of the factors.
    """
    spread = np.diag(np.square(prior))
    left: list[int] = list(dict.fromkeys(run.tolist()))
    order: list[int] = []
    while left and len(order) < count:
        kept = [after_run(spread, slope[run == one], noise[run == one]) for one in left]
        totals = [float(np.einsum("tp,pq,tq->", target, one, target)) for one in kept]
        best = int(np.argmin(totals))
        spread = kept[best]
        order.append(left.pop(best))
    return order


def after_run(spread: Array, slope: Array, noise: Array) -> Array:
    """Return the covariance of the factors after values with such derivatives (V, P) and scatter (V,) are known."""
    across = spread @ slope.T
    return np.asarray(spread - across @ np.linalg.solve(slope @ across + np.diag(np.square(noise)), across.T))
