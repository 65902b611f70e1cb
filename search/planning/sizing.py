"""How many replicas, or how much load a replica: the operating point of every candidate at once, by bisection.

Objectives only get easier with less load a replica, so the least number of replicas (and the greatest rate) that keeps
them is found by doubling and halving on columns; each round re-estimates only the candidates still undecided.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from perfmodel import Deployments, Engine, Estimates, ModelSpec, Slo, Workload, estimate
from perfmodel.costs import CostModel
from perfmodel.estimates import estimate_load, keeps
from perfmodel.workload import Load

Array = NDArray[np.float64]
Index = NDArray[np.intp]
Mask = NDArray[np.bool_]

#: Replicas tried at most, in units of what the load alone would saturate: one a thousand leaves each idle.
MOST_REPLICAS = 1000.0
#: Candidates times values tried in one round; few candidates try many values at once, so that rounds are few.
AT_ONCE = 512
#: Values tried between the ends of the first bracket, at least.
COARSE = 6
#: A rate is found to within this, relative.
CLOSE = 5e-4


@dataclass(frozen=True)
class Asked:
    """What every candidate is asked: to serve `workload` of `model` with `engine` within `slo`.

    confidence: least probability that each objective holds. costs: what prices operators, None the default.
    """

    model: ModelSpec
    workload: Workload
    slo: Slo
    engine: Engine
    confidence: float = 0.5
    costs: CostModel | None = None

    def estimates(self, deployments: Deployments) -> Estimates:
        """Estimates of the deployments as they are."""
        return estimate(self.model, self.workload, deployments, engine=self.engine, costs=self.costs)

    def estimates_of(self, loads: Load, deployments: Deployments) -> Estimates:
        """Estimates under a load of each deployment's own."""
        return estimate_load(self.model, loads, deployments, engine=self.engine, costs=self.costs)

    def kept(self, estimates: Estimates) -> Mask:
        """(N,) True where memory suffices and all objectives hold."""
        return estimates.fits & keeps(estimates, self.slo, self.confidence)


def least_whole(test: Callable[[Index, Array], Mask], cap: Array) -> Array:
    """(N,) least whole number in [1, cap] for which `test(rows, numbers)` holds, NaN where none does.

    test: false, then true; it is asked several numbers of a row at once. Where it turns false again further up, the
    first of its turns that a coarse look along the bracket shows is followed.

    >>> least_whole(lambda rows, n: n >= np.array([3, 1, 9])[rows], np.array([8.0, 8.0, 8.0])).tolist()
    [3.0, 1.0, nan]
    """
    cap = np.floor(np.asarray(cap, dtype=float))
    low, high = np.zeros(len(cap)), np.full(len(cap), np.nan)
    rows = np.nonzero(cap >= 1)[0]
    first = True
    while len(rows):
        bottom = np.maximum(low[rows], 1.0)
        top = np.where(np.isnan(high[rows]), cap[rows], high[rows])
        steps = np.linspace(0.0, 1.0, _several(len(rows), first) + 2)[:, None]
        points = np.rint(bottom * (top / bottom) ** steps)  # (K, n), on a log axis, ends included
        if not first:
            middle = np.floor(0.5 * (bottom + top))
            points = np.clip(points[1:-1], np.minimum(bottom + 1, middle), np.maximum(top - 1, middle))
        ok = test(np.tile(rows, len(points)), points.ravel()).reshape(points.shape)
        kept = np.where(ok, points, np.inf).min(axis=0)
        missed = np.where(ok | (points >= kept), 0.0, points).max(axis=0)
        high[rows] = np.where(np.isfinite(kept), kept, high[rows])
        low[rows] = np.maximum(low[rows], missed)
        rows, first = rows[high[rows] - low[rows] > 1.0], False
    return high


def _several(rows: int, first: bool) -> int:
    """How many values between the ends of a bracket to try at once; the first look is never coarser than `COARSE`."""
    return int(np.clip(AT_ONCE // max(rows, 1), COARSE if first else 1, 15))


def least_replicas(asked: Asked, deployments: Deployments, cap: Array) -> tuple[Array, Array]:
    """(replicas, most tried): the least of each deployment that keep the objectives, NaN where `cap` do not. (N,) each

    A closed loop is never spread over more replicas than it has requests in flight; a single stream takes one.
    """
    one = replace(deployments, replicas=np.ones(len(deployments)))
    alone = asked.estimates(one)
    with np.errstate(divide="ignore", invalid="ignore"):
        needed = np.where(alone.saturated, asked.workload.rate / alone.request_rate, 2.0)
    needed = np.nan_to_num(needed, nan=2.0, posinf=2.0)
    most = np.minimum(np.asarray(cap, dtype=float), np.ceil(MOST_REPLICAS * needed))
    limit = {"closed": asked.workload.concurrency, "static": asked.workload.concurrency, "single": 1.0}
    limit["offline"] = asked.workload.n_requests
    most = np.minimum(most, limit.get(asked.workload.arrival, np.inf))

    def test(rows: Index, numbers: Array) -> Mask:
        tried = replace(deployments.take(rows), replicas=numbers)
        return asked.kept(asked.estimates(tried))

    return least_whole(test, np.where(alone.fits, most, 0.0)), np.maximum(most, 1.0)


def rows_of(loads: Load, rows: Index) -> Load:
    """The given columns of a load."""
    picked: dict[str, Any] = {k: v[..., rows] for k, v in vars(loads).items() if k != "arrival"}
    return replace(loads, **picked)


def greatest(test: Callable[[Index, Array], Mask], low: Array, high: Array) -> Array:
    """(N,) greatest value in [low, high] for which `test(rows, values)` holds, within `CLOSE`; NaN where none.

    test: true, then false; it is asked several values of a row at once. Where it is true again further up, the last of
    its turns that a coarse look along the bracket shows is followed.

    >>> float(greatest(lambda rows, v: v <= 2.5, np.array([0.01]), np.array([100.0]))[0].round(2))
    2.5
    """
    low, high = low.copy(), high.copy()
    out = np.full(len(low), np.nan)
    rows = np.arange(len(low))
    first = True
    while len(rows):
        steps = np.linspace(0.0, 1.0, _several(len(rows), first) + 2)[:, None]
        points = low[rows] * (high[rows] / low[rows]) ** (steps if first else steps[1:-1])
        ok = test(np.tile(rows, len(points)), points.ravel()).reshape(points.shape)
        kept = np.where(ok, points, -np.inf).max(axis=0)
        missed = np.where(ok | (points < kept), np.inf, points).min(axis=0)
        high[rows] = np.minimum(high[rows], missed)
        low[rows] = np.maximum(low[rows], kept)
        if first:  # the ends were tried too: some fail everywhere, some keep the upper end
            rows, missed = rows[np.isfinite(kept)], missed[np.isfinite(kept)]
        out[rows] = low[rows]
        rows = rows[np.isfinite(missed)] if first else rows
        rows, first = rows[high[rows] > low[rows] * (1.0 + CLOSE)], False
    return out
