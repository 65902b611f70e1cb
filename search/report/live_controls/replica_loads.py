"""Estimate one replica of each layout of a plan over its load: what the controls and the curves of the page rest on."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from perfmodel.arrays import Array, Index
from perfmodel.estimates import Estimates, slo_ratio
from perfmodel.workload import POISSON_CV
from search.planning import SATURATING_RATE

if TYPE_CHECKING:
    from search.planning import Plan

#: Loads of one replica, as shares of the greatest. Chosen: near saturation a step is 2 %, so that a straight line
#: between two of them is good to a fraction of a percent.
SHARES = np.concatenate([np.geomspace(0.0005, 0.3, 20, endpoint=False), np.linspace(0.3, 0.999, 36)])
#: Times the planned load that the reader may ask for.
MOST_TIMES = 4.0
#: Total loads for which tables are made if replicas share bursts, as multiples of the load that the plan is sized for.
#: Between two tables, figures are interpolated linearly in the burst that one replica gets.
TOTALS = (1.0 / MOST_TIMES, 1.0, MOST_TIMES)


@dataclass(frozen=True)
class ReplicaLoads:
    """One replica of each of N layouts under K loads, beside others that share a total load with it.

    rows: (N,) of the layouts of the plan. greatest: (N,) load that saturates a replica, or the most that is asked for.
    shares: (K,) of the greatest. totals: (T,) loads of all replicas together, in order; a single one if the figures of
    a replica depend on its own load alone (no bursts). found: (T,) estimates of N x K replicas, layout by layout.
    """

    rows: Index
    greatest: Array
    shares: Array
    totals: Array
    found: tuple[Estimates, ...]

    @property
    def loads(self) -> Array:
        """Return the loads, requests/s or requests in flight, (N, K)."""
        return self.greatest[:, None] * self.shares


def planned_load(plan: Plan) -> float:
    """Return the load that the plan is for: requests/s, or requests in flight."""
    work = plan.scorer.target.workload
    return float(work.rate if work.arrival == "open" else work.concurrency)


def kind_of(plan: Plan) -> str:
    """Return what replicas are counted by: `open` (a rate), `closed` (requests in flight), `fill` or `fixed`.

    `fill`: each replica is loaded as far as the SLO allows, at a rate, and there are as many as the limits allow.
    `fixed`: as the plan has them.
    """
    arrival, scorer = plan.scorer.target.workload.arrival, plan.scorer
    if plan.scenario.site.psu or np.isfinite(plan.scenario.limits.rack) or not plan.complete or plan.rivals:
        return "fixed"
    if np.isfinite(scorer.target.workload.n_requests):
        return "fixed"
    if not scorer.sized:
        shared = scorer.target.workload.cv > POISSON_CV  # how bursty a replica's part is depends on how many there are
        return "fill" if scorer.open_loop and not scorer.one_replica and not shared else "fixed"
    return arrival if arrival in ("open", "closed") else "fixed"


def replica_loads(plan: Plan, most: int) -> ReplicaLoads | None:
    """Estimate one replica of each of the best `most` layouts over its load; None where load does not size replicas."""
    kind, count = kind_of(plan), len(plan.layouts)
    rows = np.sort(plan.order[plan.order < count][:most])
    if kind == "fixed" or not len(rows):
        return None
    target, loads_of = plan.scorer.target, plan.scorer.loads
    one = replace(plan.layouts.take(rows), replicas=np.ones(len(rows)))
    if kind == "closed":
        greatest = np.full(len(rows), MOST_TIMES * float(target.workload.concurrency))
        shares = np.geomspace(1.0, greatest[0], len(SHARES)) / greatest[0]
    else:
        full = replace(loads_of(np.ones(len(rows))), rate=np.full(len(rows), SATURATING_RATE))
        greatest, shares = target.estimates_of(full, one).request_rate, SHARES
    loads = (greatest[:, None] * shares).ravel()
    again, totals = np.repeat(np.arange(len(rows)), len(shares)), totals_of(plan)
    asked = loads_of(np.ones(len(again)))
    if kind == "closed":
        parts = [replace(asked, concurrency=loads)]
    elif kind == "open":
        parts = [replace(asked, rate=np.full(len(loads), total)).part_at(loads) for total in totals]
    else:
        parts = [replace(asked, rate=loads)]
    found = tuple(target.estimates_of(part, one.take(again)) for part in parts)
    return ReplicaLoads(rows, greatest, shares, totals, found)


def totals_of(plan: Plan) -> Array:
    """Return the loads of all replicas together that tables are made for, in order, (T,).

    It is the one that the plan is sized for, with others around it where requests come in bursts.
    """
    sized = np.array([planned_load(plan) / sized_share(plan)])
    bursty = kind_of(plan) == "open" and plan.scorer.target.workload.cv > POISSON_CV
    return sized * np.array(TOTALS) if bursty else sized


def sized_share(plan: Plan) -> float:
    """Return the share of what a replica serves within the SLO that it is planned for."""
    return plan.scenario.limits.utilisation if plan.scorer.sized_by_rate else 1.0


def capacity(plan: Plan, table: ReplicaLoads, totals: Array) -> Array:
    """Return the greatest load of one replica of each layout that keeps the SLO, (N, M); 0 where none does.

    totals: (M,) loads of all replicas together; between those of the table it lies on a straight line.
    """
    each = np.stack([_capacity(plan, table, found) for found in table.found], axis=1)
    return np.stack([np.interp(np.log(totals), np.log(table.totals), most) for most in each])


def _capacity(plan: Plan, table: ReplicaLoads, found: Estimates) -> Array:
    """Return the same under one total load, (N,). found: of the table.

    It lies on a straight line between the last load of the table that keeps the SLO and the next.
    """
    target, shape = plan.scorer.target, (len(table.rows), len(table.shares))
    kept = target.met_by(found).reshape(shape)
    with np.errstate(divide="ignore", invalid="ignore"):
        miss = np.log(slo_ratio(found, target.slo, target.confidence)[0]).reshape(shape)
    last = shape[1] - 1 - np.argmax(kept[:, ::-1], axis=1)
    at, after = np.arange(shape[0]), np.minimum(last + 1, shape[1] - 1)
    low, high, here, there = table.loads[at, last], table.loads[at, after], miss[at, last], miss[at, after]
    with np.errstate(divide="ignore", invalid="ignore"):
        part = np.where(np.isfinite(here) & np.isfinite(there), -here / (there - here), 0.5)
    part = np.clip(np.nan_to_num(part, nan=0.5), 0.0, 1.0)
    return np.where(kept.any(axis=1), low + part * (high - low), 0.0)
