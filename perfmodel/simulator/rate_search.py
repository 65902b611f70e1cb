"""Find the highest request rate at which a deployment keeps its objectives, by repeated simulation."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Unpack

from hwdb import Infeasible, InputError
from perfmodel.deployment import Deployments
from perfmodel.models import ModelSpec
from perfmodel.simulator.api import prepared
from perfmodel.simulator.metrics import holds, latency
from perfmodel.simulator.options import Replay, ReplayOptions
from perfmodel.simulator.replay import run
from perfmodel.simulator.requests import Traffic
from perfmodel.simulator.simulation import OVERLOAD, Simulation
from perfmodel.workload import Slo, Trace, Workload

#: Most simulations of one search. Chosen: `LOWEST_SHARE` is reached after 12, and a tolerance of 2 % takes 6
#: bisections.
MAX_PROBES = 40
#: The search gives up below this share of the rate it started from. Chosen: 12 halvings.
LOWEST_SHARE = 2.0**-12


@dataclass(frozen=True)
class Capacity:
    """Holds the highest rate found that keeps the objectives.

    Attributes:
        rate: Requests per second of the whole deployment.
        per_replica: Requests per second of each replica that takes arrivals.
        simulation: The simulation at that rate.
        probes: (rate, whether the objectives held), in the order tried.
    """

    rate: float
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

    `work` must come at a rate: an open workload or a trace. Its gaps are stretched, so that all rates see the same
    requests in the same order. options: as in `simulate`.

    Raises:
        Infeasible: where the objectives are missed however low the rate.
    """
    chosen = Replay(**options)
    requests, pools = prepared(model, deployments, work, chosen)
    if not math.isfinite(requests.rate):
        raise InputError(f"{requests.name}: its requests do not come at a rate; give an open workload or a trace")

    def probe(rate: float) -> tuple[Simulation, bool]:
        """Simulate at `rate` requests/s; return the simulation and whether it keeps the objectives."""
        found = run(requests.scaled(rate), pools, router=chosen.router, seed=chosen.seed)
        return found, holds(found, slo) and not any(n.startswith(OVERLOAD) for n in found.notes)

    rate, found, probes = highest_rate(probe, requests.rate, tolerance)
    if found is None:
        lowest, _ = probe(rate)
        raise Infeasible(
            f"no rate keeps the objectives: at {rate:.3g} requests/s {_misses(lowest, slo)}; "
            "relax them or choose a faster deployment"
        )
    entry = sum(p.replicas for p in pools if p.role != "decode")
    return Capacity(rate=rate, per_replica=rate / entry, simulation=found, probes=tuple(probes))


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
