"""Find the least replicas, or the greatest load per replica, that keep the SLO, for many candidates at once.

An SLO only gets easier to keep with less load per replica. So the least number of replicas, and the greatest rate, are
found by narrowing brackets (`bracket_search`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from perfmodel import Deployments, Engine, Estimates, ModelSpec, Slo, Workload
from perfmodel.arrays import Array, Index, Mask
from perfmodel.costs import CostModel, StepCache
from perfmodel.estimates import estimate_load, estimate_pools, excess, slo_ratio
from perfmodel.workload import Load, load_of
from search.planning.operating_point.bracket_search import greatest, least_whole

#: Called with rows (M,) and a load (M,) for each: estimates of these candidates under their loads.
LoadedEstimates = Callable[[Index, Array], Estimates]
#: Called with rows (M,) and their estimates: by how much each misses what is asked of it, (M,), as `Target.missed_by`.
Missed = Callable[[Index, Estimates], Array]
#: Most replicas that are tried, per replica that the load alone would saturate. Chosen: at 1000 each is idle.
MAX_OVERPROVISION = 1000.0
#: Times what the load saturates that is shown where no number of replicas keeps the SLO: half of each stays free.
HALF_LOADED = 2.0
#: Multiples of those replicas that are tried where no number keeps the SLO, for the nearest miss. Chosen: beyond,
#: nearly every request meets an idle replica.
MULTIPLES_TRIED = (1.0, 1.5, 2.0, 3.0, 4.0, 6.0, 8.0)
#: Misses that differ by less, relative, count as equal: the fewest replicas are shown. Chosen: below the error.
SAME_MISS = 0.05
#: Replicas that the load is assumed to need where one replica is not saturated by it, or its rate is unknown.
REPLICAS_UNSATURATED = 2.0
#: Request rate that saturates any replica, requests/s.
SATURATING_RATE = 1e6
#: Least rate that is tried, as a share of the rate at which a replica saturates. Chosen: an idle replica.
LEAST_LOAD = 1e-3
#: Highest rate that is tried, over what a replica serves at a rate that saturates it. Chosen: sequences that preempt
#: each other cost less than half of the rate.
OVER_SATURATED = 2.0
#: Answers a question: in place of the target that asks it, where several plans are made at once.
Asks = Callable[["Question"], Estimates]


@dataclass(frozen=True)
class Question:
    """Ask for the estimates of N candidates of `target`, each under its own load.

    load: one column per candidate. pools: (deployments,), or (prefill, decode) for pairs of pools, N each. workers: of
    each pool, (N,) each; () where replicas are a column of the deployments.
    """

    target: Target
    load: Load
    pools: tuple[Deployments, ...]
    workers: tuple[Array, ...] = ()

    def take(self, rows: Index) -> Question:
        """Ask for the candidates at positions `rows` alone."""
        pools = tuple(pool.take(rows) for pool in self.pools)
        return Question(self.target, rows_of(self.load, rows), pools, tuple(n[rows] for n in self.workers))

    def answer(self) -> Estimates:
        """Estimate the candidates."""
        t = self.target
        if not self.workers:
            only = self.pools[0]
            return estimate_load(t.model, self.load, only, engine=t.engine, costs=t.costs, known=t.known)
        pools, workers = (self.pools[0], self.pools[1]), (self.workers[0], self.workers[1])
        return estimate_pools(
            t.model, self.load, pools, workers, engine=t.engine, costs=t.costs, known=t.known_of_pools
        )


@dataclass(frozen=True)
class Target:
    """The task that every candidate of a plan has to do: serve `workload` on `model` with `engine` within `slo`.

    confidence: least probability that each SLO bound holds. costs: cost model of the operators, None for the default.
    known, known_of_pools: costs of steps that were priced before, of colocated deployments and of pools. asks: answers
    questions in place of the target, where several plans are made at once
    (`search.planning.replanning.concurrent_plans`).
    """

    model: ModelSpec
    workload: Workload
    slo: Slo
    engine: Engine
    confidence: float = 0.5
    costs: CostModel | None = None
    known: StepCache = field(default_factory=StepCache, repr=False, compare=False)
    known_of_pools: StepCache = field(default_factory=StepCache, repr=False, compare=False)
    asks: Asks | None = field(default=None, repr=False, compare=False)

    def estimates(self, deployments: Deployments) -> Estimates:
        """Estimate the deployments under the target's workload."""
        return self.estimates_of(load_of(self.workload, len(deployments)), deployments)

    def estimates_of(self, loads: Load, deployments: Deployments) -> Estimates:
        """Estimate the deployments, each under its own load; `loads` has one column per deployment."""
        question = Question(self, loads, (deployments,))
        return self.asks(question) if self.asks else question.answer()

    def estimates_of_pools(
        self, loads: Load, pools: tuple[Deployments, Deployments], workers: tuple[Array, Array]
    ) -> Estimates:
        """Estimate pairs of (prefill, decode) pools with so many workers, (N,) each, each pair under its own load."""
        question = Question(self, loads, pools, workers)
        return self.asks(question) if self.asks else question.answer()

    def met_by(self, estimates: Estimates) -> Mask:
        """Return (N,) booleans: True where the memory suffices and every SLO bound holds with at least `confidence`."""
        return np.asarray(self.missed_by(estimates) <= 0.0)

    def missed_by(self, estimates: Estimates, confidence: Array | None = None) -> Array:
        """Return by how much each misses the target, (N,): `estimates.excess`, infinite where the memory is short.

        confidence: (N,) in place of that of the target.
        """
        sure = self.confidence if confidence is None else confidence
        return np.where(estimates.fits, excess(estimates, self.slo, sure), np.inf)

    def misses(self, confidence: Array | None = None) -> Missed:
        """Return what says by how much candidates miss the target. confidence: (N,) of each, as for `missed_by`."""
        return lambda rows, found: self.missed_by(found, None if confidence is None else confidence[rows])


def least_replicas(target: Target, deployments: Deployments, cap: Array) -> tuple[Array, Array]:
    """Find the least replicas of each deployment that meet the target, at most `cap` (N,).

    Returns (least replicas, replicas that do not queue), (N,) each. The first is NaN where no number up to `cap`
    suffices; the second is what to show then. A closed loop is never spread over more replicas than it has requests in
    flight. A single stream takes one replica.
    """
    alone = target.estimates(replace(deployments, replicas=np.ones(len(deployments))))
    needed = _saturated_by(target, alone)
    most = np.minimum(np.asarray(cap, dtype=float), np.ceil(MAX_OVERPROVISION * needed))
    work = target.workload
    in_flight = {"closed": work.concurrency, "static": work.concurrency, "single": 1.0, "offline": work.n_requests}
    requests = in_flight.get(work.arrival, np.inf)
    most = np.minimum(most, requests)

    def test(rows: Index, numbers: Array) -> Mask:
        """Return True where the deployments at `rows` meet the target with so many replicas."""
        return target.met_by(target.estimates(replace(deployments.take(rows), replicas=numbers)))

    busy = (
        requests / np.maximum(alone.running, 1.0) if np.isfinite(requests) else np.where(alone.saturated, needed, 0.0)
    )
    enough = np.where(alone.fits, np.ceil(HALF_LOADED * busy), 1.0)
    least = least_whole(test, np.where(alone.fits, most, 0.0), needed / OVER_SATURATED)
    return least, _nearest(target, deployments, np.isnan(least) & alone.fits, enough, most)


def _nearest(target: Target, deployments: Deployments, missing: Mask, enough: Array, most: Array) -> Array:
    """Return the replicas to show, (N,): where the SLO is missed, the fewest beyond which more hardly help.

    missing: (N,) True where no number of replicas keeps the SLO. enough: (N,) replicas that do not queue. most: (N,).
    """
    shown = np.clip(enough, 1.0, np.maximum(most, 1.0))
    rows = np.nonzero(missing)[0]
    if not len(rows) or not target.slo.objectives:
        return shown
    tried = np.ceil(shown[rows] * np.array(MULTIPLES_TRIED)[:, None])
    tried = np.clip(tried, 1.0, np.maximum(most[rows], 1.0))
    some = replace(deployments.take(np.tile(rows, len(tried))), replicas=tried.ravel())
    ratio = slo_ratio(target.estimates(some), target.slo, target.confidence)[0].reshape(tried.shape)
    first = np.argmax(ratio <= np.fmin.reduce(ratio, axis=0) * (1.0 + SAME_MISS), axis=0)
    shown[rows] = tried[first, np.arange(len(rows))]
    return shown


def _saturated_by(target: Target, alone: Estimates) -> Array:
    """Return the replicas that the demand saturates, (N,): the demand over the rate that one replica serves at most.

    alone: estimates with one replica of each deployment. The result is `REPLICAS_UNSATURATED` where one replica is not
    saturated, or its rate is unknown.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        needed = np.where(alone.saturated, target.workload.rate / alone.request_rate, REPLICAS_UNSATURATED)
    return np.nan_to_num(needed, nan=REPLICAS_UNSATURATED, posinf=REPLICAS_UNSATURATED)


def greatest_rate(missed: Missed, at: LoadedEstimates, count: int) -> Array:
    """Find the greatest request rate at which each of `count` candidates misses nothing, requests/s, (count,).

    The rate is 0 where even an idle candidate misses the SLO, or where the memory does not suffice.
    missed: says by how much. at: estimates the candidates at rows (M,), each at its rate (M,).
    """
    saturated = at(np.arange(count), np.full(count, SATURATING_RATE))
    fits, ceiling = np.nonzero(saturated.fits)[0], saturated.request_rate

    def margin(rows: Index, rates: Array) -> Array:
        """Return by how much the candidates at `rows` (among those that fit) miss the target at these rates."""
        return missed(fits[rows], at(fits[rows], rates))

    rate = np.zeros(count)
    rate[fits] = np.nan_to_num(greatest(margin, ceiling[fits] * LEAST_LOAD, ceiling[fits] * OVER_SATURATED))
    return rate


def greatest_load(missed: Missed, at: LoadedEstimates, most: Array, *, open_loop: bool) -> Array:
    """Find the greatest load with which candidates miss nothing, (N,): requests/s, or whole requests in flight.

    NaN where none does.

    Args:
        missed: by how much candidates miss what is asked of them.
        at: estimates the candidates at rows (M,), each under its load (M,).
        most: (N,) requests in flight at which the search for them ends.
        open_loop: True where the load is a rate of requests.
    """
    if open_loop:
        rate = greatest_rate(missed, at, len(most))
        return np.where(rate > 0, rate, np.nan)
    return greatest(lambda rows, values: missed(rows, at(rows, values)), np.ones(len(most)), most, whole=True)


def rows_of(loads: Load, rows: Index) -> Load:
    """Return the load of the candidates at `rows`: the arrays of `loads` hold one column per candidate."""
    picked: dict[str, Any] = {k: v[..., rows] for k, v in vars(loads).items() if k != "arrival"}
    return replace(loads, **picked)
