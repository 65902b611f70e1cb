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
from perfmodel.demand import CostModel
from perfmodel.estimator import estimate_load
from perfmodel.load import Load, load
from search.objectives import keeps

Array = NDArray[np.float64]
Index = NDArray[np.intp]
Mask = NDArray[np.bool_]

#: Replicas tried at most, in units of what the load alone would saturate: one a thousand leaves each idle.
MOST_REPLICAS = 1000.0
#: Rounds of bisection over a rate: the answer is within 2^-14 of its bracket, on a log axis.
ROUNDS = 14


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


def least_whole(test: Callable[[Index, Array], Mask], cap: Array, guess: Array | None = None) -> Array:
    """(N,) least whole number in [1, cap] for which `test(rows, numbers)` holds, NaN where none does.

    test: monotone, false then true. guess: where to start doubling.

    >>> least_whole(lambda rows, n: n >= np.array([3, 1, 9])[rows], np.array([8.0, 8.0, 8.0])).tolist()
    [3.0, 1.0, nan]
    """
    cap = np.floor(np.asarray(cap, dtype=float))
    out = np.full(len(cap), np.nan)
    rows = np.nonzero(cap >= 1)[0]
    at_one = test(rows, np.ones(len(rows))) if len(rows) else np.zeros(0, dtype=bool)
    out[rows[at_one]] = 1.0
    rows = rows[~at_one & (cap[rows] > 1)]
    rows = rows[test(rows, cap[rows])] if len(rows) else rows
    low, high = np.ones(len(cap)), cap.copy()
    probe = np.clip(np.full(len(cap), 2.0) if guess is None else np.ceil(guess), 2.0, np.maximum(cap, 2.0))
    rising = rows[probe[rows] < high[rows]]
    while len(rising):
        ok = test(rising, probe[rising])
        high[rising[ok]] = probe[rising[ok]]
        rising = rising[~ok]
        low[rising] = probe[rising]
        probe[rising] = probe[rising] * 2.0
        rising = rising[probe[rising] < high[rising]]
    while len(rows):
        out[rows] = high[rows]
        rows = rows[high[rows] - low[rows] > 1.0]
        if len(rows):
            middle = np.floor(0.5 * (low[rows] + high[rows]))
            ok = test(rows, middle)
            high[rows] = np.where(ok, middle, high[rows])
            low[rows] = np.where(ok, low[rows], middle)
    return out


def least_replicas(asked: Asked, deployments: Deployments, cap: Array) -> Array:
    """(N,) least replicas of each deployment that keep the objectives; NaN where `cap` replicas do not.

    A closed loop is never spread over more replicas than it has requests in flight; a single stream takes one.
    """
    one = replace(deployments, replicas=np.ones(len(deployments)))
    alone = asked.estimates(one)
    with np.errstate(divide="ignore", invalid="ignore"):
        guess = np.where(alone.saturated, asked.workload.rate / alone.request_rate, 2.0)
    guess = np.nan_to_num(guess, nan=2.0, posinf=2.0)
    most = np.minimum(np.asarray(cap, dtype=float), np.ceil(MOST_REPLICAS * guess))
    limit = {"closed": asked.workload.concurrency, "static": asked.workload.concurrency, "single": 1.0}
    limit["offline"] = asked.workload.n_requests
    most = np.minimum(most, limit.get(asked.workload.arrival, np.inf))
    most = np.where(alone.fits, most, 0.0)

    def test(rows: Index, numbers: Array) -> Mask:
        tried = replace(deployments.take(rows), replicas=numbers)
        return asked.kept(asked.estimates(tried))

    return least_whole(test, most, guess)


def values_in(values: Array, rows: Index, count: int) -> Array:
    """A column of `count` with `values` at `rows` (ones elsewhere)."""
    out = np.ones(count)
    out[rows] = values
    return out


def rows_of(loads: Load, rows: Index) -> Load:
    """The given columns of a load."""
    picked: dict[str, Any] = {k: v[..., rows] for k, v in vars(loads).items() if k != "arrival"}
    return replace(loads, **picked)


def greatest(test: Callable[[Index, Array], Mask], low: Array, high: Array) -> Array:
    """(N,) greatest value in [low, high] for which `test(rows, values)` holds, to 2^-14 of the bracket's log width.

    test: monotone, true then false. NaN where not even `low` holds.

    >>> float(greatest(lambda rows, v: v <= 2.5, np.array([0.01]), np.array([100.0]))[0].round(2))
    2.5
    """
    low, high = low.copy(), high.copy()
    rows = np.arange(len(low))
    at_low = test(rows, low) if len(rows) else np.zeros(0, dtype=bool)
    out = np.where(at_low, low, np.nan)
    rows = rows[at_low]
    if len(rows):
        at_high = test(rows, high[rows])
        out[rows[at_high]] = high[rows[at_high]]
        rows = rows[~at_high]
    for _ in range(ROUNDS):
        if not len(rows):
            break
        middle = np.sqrt(low[rows] * high[rows])
        ok = test(rows, middle)
        low[rows] = np.where(ok, middle, low[rows])
        high[rows] = np.where(ok, high[rows], middle)
    out[rows] = low[rows]
    return out
