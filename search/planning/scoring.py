"""From estimates at the operating point to what a plan is judged by: columns of cost, power, latency, and verdicts."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from perfmodel import Deployments, Estimates
from perfmodel.estimates import chances, overall, slo_ratio
from perfmodel.workload import load_of
from search.planning.prices import Tariff
from search.planning.sizing import Asked, greatest, least_replicas, rows_of
from search.searchers import OBJECTIVE, RANKINGS, Array

if TYPE_CHECKING:
    from search.scenario import Limits, Site

#: Why a candidate does not qualify, as a code in the column `verdict`; 0 is that it does.
VERDICTS = ("qualifies", "memory", "objectives", "stock", "devices", "nodes", "power", "budget", "unknown")
MS = 1e3
#: Requests in flight a replica tried at most where the search chooses them.
MOST_CONCURRENCY = 4096.0
#: A candidate that fails however many replicas it gets is shown with the most tried over this.
IDLE = 64.0


@dataclass(frozen=True)
class Scorer:
    """Everything that turns deployments into scored columns: the request, the prices, the limits, the ranking.

    stock: (D,) devices on hand. concurrency: values to choose from where the workload leaves it open; empty for any.
    """

    asked: Asked
    tariff: Tariff
    limits: Limits
    site: Site
    stock: Array
    rank_by: str
    concurrency: tuple[float, ...] = ()

    @property
    def sized(self) -> bool:
        """Whether there is a demand to size for; otherwise one replica is loaded as far as objectives allow."""
        work = self.asked.workload
        return work.arrival != "closed" or work.concurrency == work.concurrency

    def score(self, deployments: Deployments) -> dict[str, Array]:
        """Columns (N,) of each deployment at its operating point, `objective` among them."""
        if not self.sized:
            return self._loaded(deployments)
        needed, most = least_replicas(self.asked, deployments, np.full(len(deployments), np.inf))
        shown = np.where(np.isfinite(needed), needed + self._spare(deployments), self._failing(deployments, most))
        tried = replace(deployments, replicas=np.maximum(shown, 1.0))
        found = self.asked.estimates(tried)
        population = {"closed": self.asked.workload.concurrency, "static": self.asked.workload.concurrency}
        inflight = population.get(self.asked.workload.arrival, np.nan) / tried.replicas
        return self._columns(tried, found, inflight, np.isfinite(needed) | self.asked.kept(found))

    def _spare(self, d: Deployments) -> Array:
        """Replicas that `spare_nodes` failing nodes may take along."""
        if not self.limits.spare_nodes:
            return np.zeros(len(d))
        return self.limits.spare_nodes * self.tariff.failing(d.device, d.devices_per_replica)

    def _failing(self, d: Deployments, most: Array) -> Array:
        """Replicas to show a candidate with that fails with any number: what stock allows, of a few times its load."""
        return np.floor(np.clip(most / IDLE, 1.0, np.maximum(self.stock[d.device] / d.devices_per_replica, 1.0)))

    def _loaded(self, d: Deployments) -> dict[str, Array]:
        """One replica at the greatest concurrency that keeps the objectives."""
        base = load_of(self.asked.workload.at(concurrency=1.0), len(d))

        def at(rows: NDArray[np.intp], values: Array) -> Estimates:
            return self.asked.estimates_of(replace(rows_of(base, rows), concurrency=values), d.take(rows))

        def test(rows: NDArray[np.intp], values: Array) -> NDArray[np.bool_]:
            return self.asked.kept(at(rows, values))

        everyone = np.arange(len(d))
        if self.concurrency:
            best = np.full(len(d), np.nan)
            for value in sorted(self.concurrency):
                kept = test(everyone, np.full(len(d), float(value)))
                best = np.where(kept, float(value), best)
        else:
            best = np.floor(greatest(test, np.ones(len(d)), np.full(len(d), MOST_CONCURRENCY)))
        shown = np.where(np.isfinite(best), best, min(self.concurrency, default=1.0))
        return self._columns(d, at(everyone, shown), shown, np.isfinite(best))

    def _columns(self, d: Deployments, e: Estimates, inflight: Array, kept: NDArray[np.bool_]) -> dict[str, Array]:
        size = d.devices_per_replica
        shared = {
            "replicas": d.replicas,
            "devices_per_replica": size,
            "nodes": self.tariff.nodes(d.device, size, d.replicas),
            "devices_billed": self.tariff.billed(d.device, size, d.replicas),
            "usd_per_hour": self.tariff.hourly(d.device, size, d.replicas),
            "host_w": self._hosts(d.device, size, d.replicas),
            "concurrency_per_replica": np.broadcast_to(inflight, size.shape),
            "over_stock": e.devices - self.stock[d.device],
        }
        return self.finish(shared, e, kept)

    def _hosts(self, device: NDArray[np.intp], size: Array, replicas: Array) -> Array:
        host = self.tariff.host_power[device]
        return np.where(np.isfinite(host), host * self.tariff.nodes(device, size, replicas), 0.0)

    def finish(self, columns: dict[str, Array], e: Estimates, kept: NDArray[np.bool_]) -> dict[str, Array]:
        """Add what follows from the estimates and the bill; `kept`: objectives hold at this operating point."""
        per_hour = 3600.0 * np.maximum(e.output_rate, 1e-12)
        power = (e.power * e.devices + columns["host_w"]) * self.site.pue
        energy = power / np.maximum(e.output_rate, 1e-12)
        worst, which = slo_ratio(e, self.asked.slo, self.asked.confidence)
        out = {
            **columns,
            "devices": e.devices,
            "usd_per_million_tokens": columns["usd_per_hour"] / per_hour * 1e6,
            "usd_per_million_total_tokens": columns["usd_per_hour"] / (3600.0 * np.maximum(e.total_rate, 1e-12)) * 1e6,
            "request_rate": e.request_rate,
            "output_tok_s": e.output_rate,
            "total_tok_s": e.total_rate,
            "output_tok_s_per_device": e.output_rate / e.devices,
            "ttft_ms": e.mean(e.ttft) * MS,
            "tpot_ms": e.mean(e.tpot) * MS,
            "e2e_ms": e.mean(e.e2e) * MS,
            "running": e.running,
            "memory_gb_per_device": e.memory / 1e9,
            "memory_free_gb_per_device": (e.memory_use.capacity - e.memory) / 1e9,
            "power_w_per_device": e.power,
            "power_w": power,
            "energy_j_per_token": energy,
            "energy_usd_per_million_tokens": energy / 3.6 * self.site.usd_per_kwh,
            "gco2_per_million_tokens": energy / 3.6 * self.site.gco2_per_kwh,
            **{o.key: overall(e, o.metric, o.statistic) * MS for o in self.asked.slo.objectives},
            "slo_chance": chances(e, self.asked.slo).min(axis=0) if self.asked.slo.objectives else np.ones(len(e)),
            "slo_ratio": worst,
            "worst_objective": which.astype(float),
            **{f"spread_{name}": spread for name, spread in e.spread.items() if name in _SPREADS},
            "basis": e.basis.astype(float),
            "fits": e.fits.astype(float),
        }
        out["verdict"] = self._verdict(out, kept)
        return {**out, OBJECTIVE: self._objective(out)}

    def _verdict(self, c: dict[str, Array], kept: NDArray[np.bool_]) -> Array:
        """The first reason that applies, in the order of `VERDICTS`."""
        over = [
            c["fits"] == 0,
            ~kept,
            c["over_stock"] > 0,
            c["devices"] > self.limits.devices,
            c["nodes"] > self.limits.nodes,
            c["power_w"] > self.limits.power,
            c["usd_per_hour"] > self.limits.usd_per_hour,
            np.isnan(c["power_w"]) & np.isfinite(self.limits.power)
            | np.isnan(c["usd_per_hour"]) & np.isfinite(self.limits.usd_per_hour),
        ]
        return np.select(over, list(range(1, len(VERDICTS))), 0).astype(float)

    def _objective(self, c: dict[str, Array]) -> Array:
        value = c[self.rank_by] * (1.0 if RANKINGS[self.rank_by] else -1.0)
        return np.where(c["verdict"] == 0, np.where(np.isnan(value), 1e300, value), np.inf)


_SPREADS = ("ttft", "tpot", "throughput", "power")
