"""Find the highest request rate at which a deployment keeps its objectives, by repeated simulation."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Unpack

from hwdb import Infeasible, InputError
from perfmodel.deployment import Deployments
from perfmodel.models import ModelSpec
from perfmodel.simulator.event_replay.replay import run
from perfmodel.simulator.measurement.metrics import latency
from perfmodel.simulator.measurement.verdict import Verdict, judged
from perfmodel.simulator.replica_pools.policy import Pool
from perfmodel.simulator.request_traffic.requests import Traffic
from perfmodel.simulator.runs.api import prepared
from perfmodel.simulator.runs.options import Replay, ReplayOptions
from perfmodel.simulator.simulation import Simulation
from perfmodel.workload import Slo, Trace, Workload

#: Most simulations of one search. Chosen: `LOWEST_SHARE` is reached after 12, and a tolerance of 2 % takes 6
#: bisections.
MAX_PROBES = 40
#: The search gives up below this share of the rate it started from. Chosen: 12 halvings.
LOWEST_SHARE = 2.0**-12
#: Requests of the first run at a rate, and of the longest; they double until the verdict is certain. Chosen: a stable
#: queue and one that is 1 % beyond capacity differ after about 100,000 requests, which take less than a second.
FIRST_REQUESTS, MOST_REQUESTS = 2048, 131_072
#: Rates tried above or below the answer until one is missed or kept for certain; each is twice as far away. Chosen: the
#: last is 1.6 times the answer at a tolerance of 2 %.
MOST_WIDENINGS = 6
#: Most events of one run. Chosen: about a second.
MOST_EVENTS = 1_000_000


@dataclass(frozen=True)
class Capacity:
    """Holds the highest rate found that keeps the objectives.

    Attributes:
        rate: Requests per second of the whole deployment.
        low, high: Requests per second, 95 % interval. low: highest rate tried at which all objectives are certainly
            kept (0 for none); high: lowest rate at which one is certainly missed (inf for none). The interval is at
            least as wide as the growth of a queue that a run of that length cannot detect.
        per_replica: Requests per second of each replica that takes arrivals.
        simulation: The simulation at that rate.
        probes: (rate, whether the objectives held), in the order tried.
    """

    rate: float
    low: float
    high: float
    per_replica: float
    simulation: Simulation
    probes: tuple[tuple[float, bool], ...]


def capacity(
    model: ModelSpec,
    deployments: Deployments,
    work: Workload | Trace | Traffic,
    slo: Slo,
    *,
    tolerance: float = 0.02,
    **options: Unpack[ReplayOptions],
) -> Capacity:
    """Find the highest request rate at which `slo` holds and the queue does not keep growing, to a relative
    `tolerance`.

    `work` must come at a rate: an open workload or a trace. An open workload is run at each rate until it is certain
    whether the objectives hold, up to `MOST_REQUESTS`, so that the answer does not depend on `count`. A trace is
    replayed as a whole with its gaps stretched. options: as in `simulate`.

    Raises:
        Infeasible: where the objectives are missed however low the rate.
    """
    chosen = Replay(**options)
    requests, pools = prepared(model, deployments, work, chosen)
    if not math.isfinite(requests.rate):
        raise InputError(f"{requests.name}: its requests do not come at a rate; give an open workload or a trace")
    search = _Search(requests, pools, slo, chosen, tolerance)
    start = requests.source.rate if requests.source else requests.rate
    rate, found, probes = highest_rate(search.probe, start, tolerance)
    if found is not None and rate in search.glanced:
        rate, found, more = highest_rate(search.probe, rate, tolerance)
        probes += more
    if found is None:
        raise Infeasible(
            f"no rate keeps the objectives: at {rate:.3g} requests/s {_misses(search.simulate(rate)[0], slo)}; "
            "relax them or choose a faster deployment"
        )
    search.widen(rate)
    low, high = search.interval(rate, found)
    entry = sum(p.replicas for p in pools if p.role != "decode")
    return Capacity(rate, low, high, per_replica=rate / entry, simulation=found, probes=tuple(probes))


@dataclass
class _Search:
    """Simulates rates and remembers what was certain.

    Until a first rate misses, runs are short: rates far below capacity need no long ones.

    Attributes:
        requests, pools, slo, chosen, tolerance: As in `capacity`.
        verdicts: Of each rate tried.
        glanced: Rates that were kept in a short run.
    """

    requests: Traffic
    pools: tuple[Pool, ...]
    slo: Slo
    chosen: Replay
    tolerance: float
    verdicts: dict[float, Verdict] = field(default_factory=dict)
    glanced: set[float] = field(default_factory=set)

    @property
    def near(self) -> bool:
        """Return whether a rate has missed, so that the capacity is near."""
        return any(not v.kept for v in self.verdicts.values())

    def probe(self, rate: float) -> tuple[Simulation, bool]:
        """Simulate at `rate` requests/s; return the simulation and whether it keeps the objectives."""
        found, verdict = self.simulate(rate)
        (self.glanced.discard if self.near or not self.requests.stationary else self.glanced.add)(rate)
        self.verdicts[rate] = verdict
        return found, verdict.kept

    def simulate(self, rate: float) -> tuple[Simulation, Verdict]:
        """Simulate at `rate` requests/s, a stationary load for as long as it takes to be certain; and judge the run."""
        if not self.requests.stationary:
            found = run(self.requests.scaled(rate), self.pools, router=self.chosen.router, seed=self.chosen.seed)
            return found, judged(found, self.slo)
        count, most = FIRST_REQUESTS, max(MOST_REQUESTS, self.chosen.count)
        while count < min(rate * self._least_seconds(), most):
            count *= 2
        while True:
            drawn = self.requests.longer(count).scaled(rate)
            found = run(drawn, self.pools, router=self.chosen.router, seed=self.chosen.seed)
            verdict = judged(found, self.slo)
            if 2 * count > most or 2 * found.events > MOST_EVENTS or self._tells(found, verdict, rate):
                return found, verdict
            count *= 4 if 4 * count <= most else 2

    def _tells(self, found: Simulation, verdict: Verdict, rate: float) -> bool:
        """Return whether a run is long enough: certain and, near capacity, such that growth by the tolerance shows."""
        shows = found.warm_up is not None and found.warm_up.growth.margin <= self.tolerance * rate
        return verdict.certain and (shows or not verdict.kept or not self.near)

    def _least_seconds(self) -> float:
        """Return the seconds that a run must last: a queue beyond capacity by the tolerance then breaks the limits."""
        limits = [o.limit for o in self.slo.objectives if o.metric in ("ttft", "e2e")]
        return max(limits, default=0.0) / self.tolerance

    def widen(self, rate: float) -> None:
        """Simulate rates ever further from `rate` until one is missed and one kept for certain, to bound the interval.

        A rate just above capacity may miss in one sample of the load and keep in another: it bounds nothing. Nor does
        one that is certain but further away than the next rate to try, such as half the answer.
        """
        for sign, kept in ((1.0, False), (-1.0, True)):
            step = self.tolerance
            for _ in range(MOST_WIDENINGS):
                tried = rate * (1.0 + step) ** sign
                near = [v for r, v in self.verdicts.items() if min(rate, tried) <= r <= max(rate, tried)]
                if any(v.certain and v.kept == kept for v in near):
                    break
                self.verdicts[tried] = self.simulate(tried)[1]
                step *= 2.0

    def interval(self, rate: float, found: Simulation) -> tuple[float, float]:
        """Return (highest rate kept for certain, lowest rate missed for certain), of the rates tried around `rate`.

        At least as far from `rate` as a growth of the queue that the run at that rate, `found`, cannot show: near
        capacity, another sample of the same load may break the limits by that much earlier or later.
        """
        unseen = found.warm_up.growth.margin if found.warm_up else 0.0
        missed = [r for r, v in self.verdicts.items() if v.certain and not v.kept and r > rate]
        kept = [r for r, v in self.verdicts.items() if v.certain and v.kept and r <= rate]
        low, high = max(kept, default=0.0), min(missed, default=math.inf)
        return max(min(low, rate - unseen), 0.0), max(high, rate + unseen)


def highest_rate(
    probe: Callable[[float], tuple[Simulation, bool]], start: float, tolerance: float
) -> tuple[float, Simulation | None, list[tuple[float, bool]]]:
    """Find the highest rate at which `probe` succeeds, by doubling or halving from `start` and then bisection.

    probe: gives the simulation at a rate (requests/s) and whether the objectives held. tolerance: relative. Returns the
    rate, its simulation, and every (rate, whether it held) tried. Where no rate holds: the lowest rate tried and None.
    """
    probes: list[tuple[float, bool]] = []
    good, bad, rate = math.nan, math.nan, start
    best: Simulation | None = None
    for _ in range(MAX_PROBES):
        found, held = probe(rate)
        probes.append((rate, held))
        if held:
            good, best = rate, found
        else:
            bad = rate
        if math.isnan(bad):
            rate *= 2.0
        elif math.isnan(good):
            rate /= 2.0
            if rate < start * LOWEST_SHARE:
                return bad, None, probes
        elif bad <= good * (1.0 + tolerance):
            break
        else:
            rate = math.sqrt(good * bad)
    return good, best, probes


def _misses(simulation: Simulation, slo: Slo) -> str:
    """Describe in words which objectives of `slo` a simulation misses."""
    missed = []
    for o in slo.objectives:
        value = latency(simulation, o.metric).at(o.statistic)
        if not value <= o.limit:
            missed.append(f"{o.metric.upper()} {o.statistic} is {1e3 * value:.4g} ms, not {1e3 * o.limit:.4g} ms")
    if simulation.rejected.any():
        missed.append(simulation.notes[0])
    return " and ".join(missed) or "the queue keeps growing"
