"""Score candidates: size each to its operating point, estimate and price it, and judge it against SLO and limits."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from perfmodel import Deployments, Estimates
from perfmodel.arrays import NAN, Array, Index, Mask
from perfmodel.workload import load_of
from search.planning.columns import (
    basis_columns,
    cost_columns,
    latency_columns,
    memory_columns,
    power_columns,
    slo_columns,
    throughput_columns,
)
from search.planning.prices import Tariff
from search.planning.sizing import Target, greatest, least_replicas, rows_of
from search.searchers import RANKINGS, SCORE

if TYPE_CHECKING:
    from search.scenario import Limits, Site

#: Why a candidate does not qualify, by code in the column `verdict`; code 0 means that it qualifies.
VERDICTS = ("qualifies", "memory", "slo", "stock", "devices", "nodes", "power", "budget", "unknown")
#: Most requests in flight per replica that are tried where the workload leaves the concurrency open.
MAX_CONCURRENCY = 4096.0
#: A candidate that misses the SLO with any number of replicas is shown with the most that were tried over this.
#: chosen: some 16 times what the load alone saturates.
SHOWN_FRACTION_OF_MOST = 64.0
#: Score of a qualifying candidate whose ranking column is unknown. chosen: worse than any known one, yet finite.
SCORE_OF_UNKNOWN = 1e300


@dataclass(frozen=True)
class Scorer:
    """Turns deployments into scored columns.

    target: the model, workload, SLO and engine that each candidate has to satisfy. tariff: prices and nodes. limits,
    site: bounds on the whole plan, and the site's PUE and electricity. stock: (D,) devices on hand by device type.
    rank_by: a key of `RANKINGS`. concurrency: requests in flight per replica to choose from where the workload gives
    none; empty for any.
    """

    target: Target
    tariff: Tariff
    limits: Limits
    site: Site
    stock: Array
    rank_by: str
    concurrency: tuple[float, ...] = ()

    @property
    def sized(self) -> bool:
        """Return True where the workload gives a demand (a rate or a concurrency) to which replicas are sized.

        Otherwise one replica is loaded as far as the SLO allows.
        """
        work = self.target.workload
        return work.arrival != "closed" or bool(work.concurrency == work.concurrency)

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
        out = {
            **columns,
            **cost_columns(estimates, columns["usd_per_hour"]),
            **throughput_columns(estimates),
            **latency_columns(estimates),
            **memory_columns(estimates),
            **power_columns(estimates, columns["host_w"], self.site),
            **slo_columns(estimates, self.target.slo, self.target.confidence),
            **basis_columns(estimates),
        }
        out["verdict"] = self._verdict(out, meets)
        out[SCORE] = self._score(out)
        return out

    def _sized_to_demand(self, d: Deployments) -> dict[str, Array]:
        """Score each deployment with the least replicas that meet the target, and spare ones where nodes may fail."""
        needed, most = least_replicas(self.target, d, np.full(len(d), np.inf))
        shown = np.where(np.isfinite(needed), needed + self._spare_replicas(d), self._shown_replicas(d, most))
        tried = replace(d, replicas=np.maximum(shown, 1.0))
        found = self.target.estimates(tried)
        work = self.target.workload
        in_flight = (work.concurrency if work.arrival in ("closed", "static") else NAN) / tried.replicas
        return self._columns(tried, found, in_flight, np.isfinite(needed) | self.target.met_by(found))

    def _loaded_to_slo(self, d: Deployments) -> dict[str, Array]:
        """Score one replica of each deployment at the greatest concurrency that keeps the SLO."""
        base = load_of(self.target.workload.at(concurrency=1.0), len(d))

        def at(rows: Index, values: Array) -> Estimates:
            """Estimate the deployments at `rows`, each with its number of requests in flight."""
            return self.target.estimates_of(replace(rows_of(base, rows), concurrency=values), d.take(rows))

        def test(rows: Index, values: Array) -> Mask:
            """Return True where the deployments at `rows` meet the target with so many requests in flight."""
            return self.target.met_by(at(rows, values))

        everyone = np.arange(len(d))
        if self.concurrency:
            best = np.full(len(d), np.nan)
            for value in sorted(self.concurrency):
                best = np.where(test(everyone, np.full(len(d), float(value))), float(value), best)
        else:
            best = np.floor(greatest(test, np.ones(len(d)), np.full(len(d), MAX_CONCURRENCY)))
        shown = np.where(np.isfinite(best), best, min(self.concurrency, default=1.0))
        return self._columns(d, at(everyone, shown), shown, np.isfinite(best))

    def _spare_replicas(self, d: Deployments) -> Array:
        """Return the replicas that go down when `spare_nodes` nodes fail, (N,)."""
        if not self.limits.spare_nodes:
            return np.zeros(len(d))
        return self.limits.spare_nodes * self.tariff.failing(d.device, d.devices_per_replica)

    def _shown_replicas(self, d: Deployments, most: Array) -> Array:
        """Choose the replicas to show for a candidate that misses the SLO with any number of them.

        They are a few times what the load alone saturates, as far as the stock allows. most: (N,) most replicas that
        were tried.
        """
        on_hand = np.maximum(self.stock[d.device] / d.devices_per_replica, 1.0)
        return np.floor(np.clip(most / SHOWN_FRACTION_OF_MOST, 1.0, on_hand))

    def _columns(self, d: Deployments, estimates: Estimates, in_flight: Array, meets: Mask) -> dict[str, Array]:
        """Compute the columns of colocated candidates.

        in_flight: (N,) requests in flight per replica, NaN where the load is a rate. meets: (N,) True where the target
        is met.
        """
        size = d.devices_per_replica
        bill = {
            "replicas": d.replicas,
            "devices_per_replica": size,
            "nodes": self.tariff.nodes(d.device, size, d.replicas),
            "devices_billed": self.tariff.billed(d.device, size, d.replicas),
            "usd_per_hour": self.tariff.hourly(d.device, size, d.replicas),
            "host_w": self.tariff.host_watts(d.device, size, d.replicas),
            "concurrency_per_replica": np.broadcast_to(in_flight, size.shape),
            "over_stock": estimates.devices - self.stock[d.device],
        }
        return self.finish(bill, estimates, meets)

    def _verdict(self, c: dict[str, Array], meets: Mask) -> Array:
        """Return (N,) the code of the first reason against each candidate, in the order of `VERDICTS`; 0 for none.

        c: columns of the candidates. meets: (N,) True where the target is met.
        """
        limits = self.limits
        power_unknown = np.isnan(c["power_w"]) & np.isfinite(limits.power)
        price_unknown = np.isnan(c["usd_per_hour"]) & np.isfinite(limits.usd_per_hour)
        against = [
            np.asarray(c["fits"] == 0),
            ~meets,
            c["over_stock"] > 0,
            c["devices"] > limits.devices,
            c["nodes"] > limits.nodes,
            c["power_w"] > limits.power,
            c["usd_per_hour"] > limits.usd_per_hour,
            power_unknown | price_unknown,
        ]
        return np.select(against, list(range(1, len(VERDICTS))), 0).astype(float)

    def _score(self, c: dict[str, Array]) -> Array:
        """Return (N,) what the search minimises: the ranking's column, negated where more is better.

        It is inf where a candidate does not qualify. c: columns of the candidates.
        """
        value = c[self.rank_by] * (1.0 if RANKINGS[self.rank_by] else -1.0)
        return np.where(c["verdict"] == 0, np.where(np.isnan(value), SCORE_OF_UNKNOWN, value), np.inf)
