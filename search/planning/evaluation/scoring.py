"""Score candidates: size each to its operating point, estimate and price it, and judge it against SLO and limits."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from perfmodel import Deployments, Estimates, Workload
from perfmodel.arrays import NAN, Array, Index, Mask
from perfmodel.equations import split_cv
from perfmodel.unit_factors import WATTS_PER_KW
from perfmodel.workload import DEFAULT_REQUESTS_PER_CLIENT, POISSON_CV, POOLED_REQUESTS_PER_CLIENT, Load, load_of
from search.planning.evaluation.columns import (
    basis_columns,
    concurrency_columns,
    cost_columns,
    latency_columns,
    memory_columns,
    memory_over,
    node_watts,
    power_columns,
    rack_columns,
    rated_columns,
    slo_columns,
    throughput_columns,
)
from search.planning.money.account import hourly_usd
from search.planning.money.prices import Tariff
from search.planning.operating_point.replica_limits import LIMIT_TOLERANCE, Bounds, Watts
from search.planning.operating_point.sizing import Target, greatest_load, least_replicas, rows_of
from search.scenario import BY_LATENCY, ONE_REPLICA
from search.searchers import RANKINGS, SCORE

if TYPE_CHECKING:
    from search.scenario import Limits, Site

#: Why a candidate does not qualify, by code in the column `verdict`; code 0 means that it qualifies.
VERDICTS = ("qualifies", "memory", "slo", "stock", "devices", "nodes", "power", "rack", "budget", "unknown")
#: Most requests in flight per replica that are tried where the workload leaves the concurrency open.
MAX_CONCURRENCY = 4096.0
#: Metrics that a growing queue breaks.
QUEUED = ("ttft", "e2e")
#: Requests in flight, or requests/s, that a candidate is shown with which keeps the SLO under no load.
LEAST_OFFERED = 1.0
#: Replicas' worth of load that is left at least where every replica is spare.
LEAST_SHARE = 1e-3
#: Devices on hand that a shortage is compared with where there are none.
LEAST_STOCK = 0.5
#: Columns that a limit bounds, and the prefix of the same columns for the replicas that would keep the SLO.
LIMITED = ("replicas", "devices", "nodes", "usd_per_hour", "power_w", "rated_power_kw", "over_stock")
NEEDED = "needed_"
#: Score of a qualifying candidate whose ranking column is unknown. Chosen: worse than any known one, yet finite.
SCORE_OF_UNKNOWN = 1e250


@dataclass(frozen=True)
class Scorer:
    """Turns deployments into scored columns.

    target: the model, workload, SLO and engine that each candidate has to satisfy. tariff: prices and nodes. limits,
    site: bounds on the whole plan, and the site's PUE and electricity. stock: (D,) devices on hand by device type.
    rank_by: a key of `RANKINGS`. concurrency: requests in flight per replica to choose from where the workload gives
    none; empty for any. closed: True where the scenario asks for a closed loop by name.
    """

    target: Target
    tariff: Tariff
    limits: Limits
    site: Site
    stock: Array
    rank_by: str
    concurrency: tuple[float, ...] = ()
    closed: bool = False

    @property
    def sized(self) -> bool:
        """Return True where the workload gives a demand (a rate or a concurrency) to which replicas are sized.

        Otherwise each replica is loaded as far as the SLO allows, and the replicas fill what is on hand, or one
        replica is asked for its latency (`least_loaded`).
        """
        work = self.target.workload
        return work.arrival != "closed" or bool(work.concurrency == work.concurrency)

    @property
    def least_loaded(self) -> bool:
        """Return True where each candidate gets the least load, one request in flight.

        It does under a ranking by a latency where nothing states or bounds the load: the latency at a load without
        bound says nothing.
        """
        return not self.sized and not self.target.slo.objectives and self.rank_by in BY_LATENCY

    @property
    def one_replica(self) -> bool:
        """Return True where one replica answers the ranking of a plan without a load."""
        return self.rank_by in ONE_REPLICA or self.least_loaded

    @property
    def open_loop(self) -> bool:
        """Return True where a load that the search chooses is a rate of requests, False where it is a concurrency.

        It is a rate where a bound on TTFT or end-to-end latency ends the queue, unless the scenario asks for a closed
        loop or lists concurrencies.
        """
        queues = any(o.metric in QUEUED for o in self.target.slo.objectives)
        return queues and not self.closed and not self.concurrency

    @property
    def sized_by_rate(self) -> bool:
        """Return True where replicas are sized to a rate of requests, of whose capacity a part has to stay free."""
        return self.sized and self.target.workload.arrival == "open"

    @property
    def raised(self) -> Scorer:
        """Return the scorer whose load has to be kept for a candidate to count: that of the plan over `utilisation`.

        Replicas that keep every SLO under it are used to at most `utilisation` under the load of the plan. It is this
        scorer where no rate is given.
        """
        share = self.limits.utilisation
        if not self.sized_by_rate or share == 1.0:
            return self
        work = self.target.workload
        return replace(
            self,
            target=replace(self.target, workload=work.at(rate=work.rate / share)),
            limits=replace(self.limits, utilisation=1.0),
        )

    @property
    def bounds(self) -> Bounds:
        """Return what limits the number of replicas."""
        return Bounds(limits=self.limits, stock=self.stock, tariff=self.tariff, site=self.site)

    def workload_of(self, offered: float) -> Workload:
        """Return the workload of a candidate: the target's own, or one that offers `offered` where that gives no load.

        offered: requests/s (`open_loop`) or requests in flight, of all that is to be estimated.
        """
        work = self.target.workload
        if self.sized:
            return work
        return work.at(arrival="open", rate=offered) if self.open_loop else work.at(concurrency=offered)

    def loads(self, offered: Array, *, pools: bool = False) -> Load:
        """Return the loads of candidates, one column each.

        offered: (N,) as for `workload_of`. pools: True for pairs of pools, whose clients send fewer requests each.
        """
        per_client = POOLED_REQUESTS_PER_CLIENT if pools else DEFAULT_REQUESTS_PER_CLIENT
        base = load_of(self.workload_of(1.0), len(offered), per_client)
        if self.sized:
            return base
        return replace(base, rate=offered) if self.open_loop else replace(base, concurrency=offered)

    def score(self, deployments: Deployments) -> dict[str, Array]:
        """Return the columns (N,) of each deployment at its operating point, `SCORE` among them."""
        return self._sized_to_demand(deployments) if self.sized else self._loaded_to_slo(deployments)

    def finish(self, columns: dict[str, Array], estimates: Estimates, meets: Mask) -> dict[str, Array]:
        """Add the columns that follow from the estimates and the bill, the verdict and the score.

        Args:
            columns: (N,) replicas, nodes, `usd_per_hour`, `host_w`, `over_stock` and the like.
            estimates: at the operating points.
            meets: (N,) True where the target is met there.
        """
        money = self.tariff.money
        power = power_columns(estimates, self.tariff, columns, self.site, money.utilisation)
        hourly = hourly_usd(columns, power["mean_power_w"], self.site, money.ownership)
        out = {
            **columns,
            "usd_per_hour": hourly,
            **cost_columns(estimates, hourly, money.utilisation),
            **throughput_columns(estimates, columns["replicas"]),
            **latency_columns(estimates),
            **concurrency_columns(estimates, columns),
            **memory_columns(estimates),
            **power,
            **rated_columns(columns, self.site),
            **rack_columns(columns, self.limits),
            **slo_columns(estimates, self.target.slo, self.target.confidence),
            **basis_columns(estimates),
        }
        over = self._over_limits(out)
        out["within_limits"] = np.all([~(ratio > 1.0) for ratio in over.values()], axis=0).astype(float)
        out["verdict"] = self._verdict(out, meets, over)
        out["excess"] = np.where(meets, np.fmax.reduce(list(over.values())), out["slo_ratio"])
        out["excess"] = np.where(out["fits"] > 0, out["excess"], memory_over(out))
        out[SCORE] = self.scores(out)
        return out | {f"{NEEDED}{name}": out[name] for name in LIMITED}

    def _sized_to_demand(self, d: Deployments) -> dict[str, Array]:
        """Score each deployment with the least replicas that meet the target, and spare ones where nodes may fail.

        A deployment that would need more than is on hand is shown with what is.
        """
        needed, enough = least_replicas(self.raised.target, d, np.full(len(d), np.inf))
        shown = np.where(np.isfinite(needed), needed + self.spare_replicas(d), enough)
        offered = np.full(len(d), NAN)
        out = self._columns(replace(d, replicas=shown), offered, np.isfinite(needed))
        beyond = np.nonzero((out["within_limits"] == 0) & (out["fits"] == 1))[0]
        if not len(beyond):
            return out
        some, loads = d.take(beyond), self.loads(offered[beyond])

        def watts(rows: Index, replicas: Array) -> Array:
            """Return the power of a device of `some` at `rows`, with so many replicas under the demand."""
            tried = replace(some.take(rows), replicas=replicas)
            return self.target.estimates_of(rows_of(loads, rows), tried).power

        most = self.bounds.most(some, watts)
        able = np.nonzero((most >= 1) & np.isfinite(most))[0]
        if not len(able):
            return out
        smaller = replace(some.take(able), replicas=most[able])
        return _with_what_is_on_hand(
            out, beyond[able], self._columns(smaller, offered[able], np.zeros(len(able), bool))
        )

    def _loaded_to_slo(self, d: Deployments) -> dict[str, Array]:
        """Score as many replicas of each deployment as the limits allow, each loaded as far as it keeps the SLO."""
        found = self.greatest_load(d)
        keeps = np.isfinite(found)
        load = np.where(keeps, found, min(self.concurrency, default=LEAST_OFFERED))
        spare = self.spare_replicas(d)
        most = self._chosen_replicas(d, self.bounds.most(d, self._watts(d, load, spare)), spare)
        if self.target.workload.cv > POISSON_CV and not np.isfinite(self.limits.power):  # they share their bursts
            found = self.greatest_load(d, parts=most - spare)
            keeps, load = np.isfinite(found), np.where(np.isfinite(found), found, load)
        offered = load * (most - spare)
        return self._columns(replace(d, replicas=most), offered, keeps)

    def _watts(self, d: Deployments, load: Array, spare: Array) -> Watts:
        """Return the power of a device as a function of the replicas, all of which share what the spare ones leave.

        load: (N,) of one replica where none is spare. spare: (N,) replicas that may fail.
        """
        alone = replace(d, replicas=np.ones(len(d)))
        drawn = np.isfinite(self.limits.power) and self.limits.power_basis == "mean"
        if not spare.any() or not drawn:
            full = self.target.estimates_of(self.loads(load), alone).power if drawn else load
            return lambda rows, _: full[rows]

        def shared(rows: Index, replicas: Array) -> Array:
            """Estimate one of so many replicas of the deployments at `rows`."""
            part = load[rows] * np.maximum(replicas - spare[rows], LEAST_SHARE) / replicas
            return self.target.estimates_of(self.loads(part), alone.take(rows)).power

        return shared

    def _chosen_replicas(self, d: Deployments, most: Array, spare: Array) -> Array:
        """Choose the replicas of deployments whose load is chosen too, (N,): at least one, and the spare ones.

        They are all that the limits allow, or one where that is enough (`one_replica`). Where nothing limits them it is
        one, or what one node holds where devices are rented by the node: the least that can be rented.
        most: (N,) as many as the limits allow, inf where nothing limits them. spare: (N,) replicas that stay free.
        """
        if self.one_replica:
            return 1.0 + spare
        rented = self.tariff.failing(d.device, d.devices_per_replica)
        return np.maximum(np.where(np.isfinite(most), most, rented + spare), 1.0 + spare)

    def greatest_load(self, d: Deployments, confidence: Array | None = None, parts: Array | float = 1.0) -> Array:
        """Return the greatest load of one replica that keeps the SLO, (N,): requests/s or requests in flight.

        It is the least one where `least_loaded`. NaN where no load keeps the SLO. confidence: (N,) in place of that of
        the target. parts: (N,) replicas that share the bursts of their requests.
        """
        share = np.broadcast_to(1.0 / np.asarray(parts, float), (len(d),))
        missed = self.target.misses(confidence)

        def at(rows: Index, values: Array) -> Estimates:
            """Estimate one replica of the deployments at `rows`, each under its load."""
            loads = self.loads(values)
            loads = replace(loads, cv=split_cv(loads.cv, share[rows]))
            return self.target.estimates_of(loads, d.take(rows))

        def test(rows: Index, values: Array) -> Mask:
            """Return True where one replica of the deployments at `rows` meets the target under its load."""
            return np.asarray(missed(rows, at(rows, values)) <= 0.0)

        if self.open_loop or not self.concurrency:
            most = LEAST_OFFERED if self.least_loaded else MAX_CONCURRENCY
            cap = np.full(len(d), most)
            return greatest_load(missed, at, cap, open_loop=self.open_loop)
        best, everyone = np.full(len(d), np.nan), np.arange(len(d))
        for value in sorted(self.concurrency)[: 1 if self.least_loaded else None]:
            best = np.where(test(everyone, np.full(len(d), float(value))), float(value), best)
        return best

    def spare_replicas(self, d: Deployments) -> Array:
        """Return the replicas, or the workers of a pool, that go down when `spare_nodes` nodes fail, (N,).

        Any node may fail, and the nodes of one pool may fail together, so that each pool has spares of its own.
        """
        if not self.limits.spare_nodes:
            return np.zeros(len(d))
        return self.limits.spare_nodes * self.tariff.failing(d.device, d.devices_per_replica)

    def _columns(self, d: Deployments, offered: Array, keeps: Mask) -> dict[str, Array]:
        """Estimate colocated candidates and compute their columns.

        offered: (N,) load of each whole candidate where the search chooses it, as in `loads`. keeps: (N,) True where
        the load of a replica was found to keep the SLO.
        """
        estimates = self.target.estimates_of(self.loads(offered), d)
        size = d.devices_per_replica
        bill = {
            "replicas": d.replicas,
            "devices_per_replica": size,
            **self.tariff.bill((d.device, size, d.replicas), caps=(d.power_cap,)),
            "concurrency_per_replica": self._in_flight(offered, d.replicas),
            "offered": offered,
            "over_stock": estimates.devices - self.stock[d.device],
        }
        met = self.target.met_by(estimates)
        return self.finish(bill, estimates, keeps & met if self.raised is not self else keeps | met)

    def _in_flight(self, offered: Array, replicas: Array) -> Array:
        """Return the requests in flight per replica that the load states, (N,); NaN where it states none.

        offered: (N,) as in `_columns`. replicas: (N,).
        """
        work = self.target.workload
        if not self.sized:
            return np.full(len(offered), np.nan) if self.open_loop else offered / replicas
        stated = {"closed": work.concurrency, "static": work.concurrency, "single": 1.0}
        return np.full(len(offered), stated.get(work.arrival, np.nan)) / replicas

    def limited_power(self, c: Mapping[str, Array]) -> Array:
        """Return the watts of candidates that a limit on power bounds, (N,): mean or rated. c: their columns."""
        return c["power_w"] if self.limits.power_basis == "mean" else c["rated_power_kw"] * WATTS_PER_KW

    def _over_limits(self, c: dict[str, Array]) -> dict[str, Array]:
        """Return what each limit is exceeded by, by verdict: (N,) the value over the limit, NaN where it is unknown.

        A ratio of at most 1 is within the limit. c: columns of the candidates.
        """
        limits, slack = self.limits, 1.0 + LIMIT_TOLERANCE
        on_hand = np.maximum(c["devices"] - c["over_stock"], LEAST_STOCK)
        return {
            "stock": np.where(c["over_stock"] > 0, c["devices"] / on_hand, 0.0),
            "devices": c["devices"] / limits.devices / slack,
            "nodes": c["nodes"] / limits.nodes / slack,
            "power": self.limited_power(c) / limits.power / slack,
            "rack": node_watts(c) / limits.rack / slack,
            "budget": c["usd_per_hour"] / limits.usd_per_hour / slack,
        }

    def _verdict(self, c: dict[str, Array], meets: Mask, over: dict[str, Array]) -> Array:
        """Return (N,) the code of the first reason against each candidate, in the order of `VERDICTS`; 0 for none.

        c: columns of the candidates. meets: (N,) True where the target is met. over: as `_over_limits` returns it.
        """
        power_unknown = np.isnan(self.limited_power(c)) & np.isfinite(self.limits.power)
        price_unknown = np.isnan(c["usd_per_hour"]) & np.isfinite(self.limits.usd_per_hour)
        against = {
            "memory": np.asarray(c["fits"] == 0),
            "slo": ~meets,
            **{name: ratio > 1.0 for name, ratio in over.items()},
            "unknown": power_unknown | price_unknown,
        }
        return np.select(list(against.values()), [VERDICTS.index(name) for name in against], 0).astype(float)

    def scores(self, c: Mapping[str, Array]) -> Array:
        """Return (N,) what the search minimises: the ranking's column, negated where more is better.

        It is inf where a candidate does not qualify. Candidates with an unknown value come after all others, those with
        fewer devices first. c: columns of the candidates.
        """
        value = c[self.rank_by] * (1.0 if RANKINGS[self.rank_by] else -1.0)
        return np.where(c["verdict"] == 0, np.where(np.isnan(value), SCORE_OF_UNKNOWN * c["devices"], value), np.inf)


def _with_what_is_on_hand(c: dict[str, Array], rows: Index, smaller: dict[str, Array]) -> dict[str, Array]:
    """Return the columns with those of `rows` replaced by what the same candidates do within the limits.

    Verdict, score and excess of a limit stay those of what would be needed, as do the columns `NEEDED`.
    c: columns of all candidates. smaller: columns of the candidates `rows` with fewer replicas.
    """
    kept = {"verdict", "excess", SCORE}
    out = dict(c)
    for name in c:
        if name not in kept and not name.startswith(NEEDED):
            out[name] = c[name].copy()
            out[name][rows] = smaller[name]
    missed = c["verdict"][rows] == VERDICTS.index("slo")  # such a miss is that of what is shown
    out["excess"] = c["excess"].copy()
    out["excess"][rows[missed]] = smaller["slo_ratio"][missed]
    return out
