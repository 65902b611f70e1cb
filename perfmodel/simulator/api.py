"""`simulate` and `capacity`: a model on a deployment, replayed."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from hwdb import Infeasible, InputError
from perfmodel.costs import CostModel
from perfmodel.deployment import Deployments
from perfmodel.engines import Engine
from perfmodel.engines import engine as engine_of
from perfmodel.estimates import HAND_OVER, between
from perfmodel.hardware import hardware_of
from perfmodel.models import ModelSpec
from perfmodel.simulator.build import pool
from perfmodel.simulator.metrics import holds, latency
from perfmodel.simulator.policy import Link, Policy, Pool
from perfmodel.simulator.requests import Traffic, from_workload, traffic
from perfmodel.simulator.simulation import Progress, Simulation, run
from perfmodel.workload import Slo, Trace, Workload

#: Requests drawn where a workload does not say how many: enough for a p99, and for each replica to settle.
COUNT, COUNT_REPLICA = 2000, 300
#: Requests a user sends in a closed loop, as InferenceMAX does (10 x concurrency).
REQUESTS_PER_CLIENT = 10


def offered(work: Workload | Trace | Traffic, *, count: int = 0, seed: int = 0) -> Traffic:
    """Requests from a workload, a trace or as they are. count: how many (0: all of a trace; of a workload its own
    number, else enough for percentiles)."""
    if isinstance(work, Traffic):
        return work.take(count) if count else work
    if isinstance(work, Trace):
        return _of_trace(work.take(slice(0, count)) if count else work)
    asked = work.n_requests if math.isfinite(work.n_requests) else math.nan
    users = work.concurrency if math.isfinite(work.concurrency) else 1.0
    if work.arrival == "static":
        return from_workload(replace(work, arrival="offline", n_requests=users), count=int(users), seed=seed)
    if work.arrival == "closed" and not math.isfinite(work.concurrency):
        raise InputError("the workload's concurrency is left open; give one to simulate")
    if math.isnan(asked):
        asked = REQUESTS_PER_CLIENT * users if work.arrival in ("closed", "single") else COUNT
    return from_workload(work, count=count or max(int(asked), 1), seed=seed)


def _of_trace(trace: Trace) -> Traffic:
    arrival = trace.arrival if np.isfinite(trace.arrival).all() else None
    prefixes = (trace.offsets, trace.blocks) if len(trace.offsets) else None
    return traffic(
        trace.input,
        trace.output,
        arrival=arrival,
        prefixes=prefixes,
        hash_tokens=trace.block_tokens,
        name=trace.name or "trace",
    )


def simulate(
    model: ModelSpec,
    deployments: Deployments,
    work: Workload | Trace | Traffic,
    *,
    engine: Engine | str = "vllm",
    router: str = "join_shortest_queue",
    seed: int = 0,
    count: int = 0,
    prefill: Deployments | None = None,
    policy: Policy | None = None,
    costs: CostModel | None = None,
    progress: Progress | None = None,
) -> Simulation:
    """Replay `work` on every replica of one deployment, step by step.

    deployments: one row; its `replicas` stand behind `router` (`perfmodel.simulator.ROUTERS`). prefill: another row
    whose replicas compute the prompts, `deployments` then only answering (disaggregation). policy: scheduling other
    than the engine's own. count: requests to take of a trace or to draw from a workload. The same arguments give the
    same answer. Raises `InputError` for what cannot fit or means nothing, `UnknownName` for an unknown router.
    """
    requests = offered(work, count=count, seed=seed)
    pools = pools_of(model, deployments, requests, engine=engine, prefill=prefill, policy=policy, costs=costs)
    return run(requests, pools, router=router, seed=seed, progress=progress)


def pools_of(
    model: ModelSpec,
    deployments: Deployments,
    requests: Traffic,
    *,
    engine: Engine | str = "vllm",
    prefill: Deployments | None = None,
    policy: Policy | None = None,
    costs: CostModel | None = None,
) -> tuple[Pool, ...]:
    """The pools that `simulate` runs; arguments as there."""
    chosen = engine_of(engine) if isinstance(engine, str) else engine
    if prefill is None:
        return (pool(model, deployments, chosen, requests, costs=costs, policy=policy),)
    front = pool(model, prefill, chosen, requests, costs=costs, policy=policy, role="prefill")
    back = pool(model, deployments, chosen, requests, costs=costs, policy=policy, role="decode")
    return replace(front, link=_link(front, back, prefill, deployments)), back


def _link(front: Pool, back: Pool, prefill: Deployments, decode: Deployments) -> Link:
    """The way of KV between the pools: that of the closed form, at the rate of the end that holds more a device."""
    bandwidth, latency = between(*(hardware_of(d.devices, d.device) for d in (prefill, decode)))
    if not bandwidth[0] > 0:
        raise InputError(f"{back.name}: its network is unknown, and KV has to cross it; give the pools' link")
    rate = float(bandwidth[0]) * front.kv_bytes / max(front.kv_bytes, back.kv_bytes)
    return Link(rate, float(np.nan_to_num(latency[0])) + HAND_OVER, f"network to {back.name}")


@dataclass(frozen=True)
class Capacity:
    """Highest rate found that keeps the objectives. rate: requests/s of the whole deployment; per_replica: of each
    replica that takes arrivals. simulation: at that rate. probes: (rate, whether it held), in the order tried."""

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
    engine: Engine | str = "vllm",
    router: str = "join_shortest_queue",
    seed: int = 0,
    count: int = 0,
    prefill: Deployments | None = None,
    policy: Policy | None = None,
    costs: CostModel | None = None,
    tolerance: float = 0.02,
) -> Capacity:
    """The highest request rate at which `slo` holds and the queue does not keep growing, to `tolerance` (relative).

    `work` must come at a rate, an open workload or a trace; its pattern is stretched, so all rates see the same
    requests in the same order. Raises `Infeasible` where the objectives are missed however low the rate.
    """
    requests = offered(work, count=count, seed=seed)
    if not math.isfinite(requests.rate):
        raise InputError(f"{requests.name}: its requests do not come at a rate; give an open workload or a trace")
    pools = pools_of(model, deployments, requests, engine=engine, prefill=prefill, policy=policy, costs=costs)

    def probe(rate: float) -> tuple[Simulation, bool]:
        found = run(requests.scaled(rate), pools, router=router, seed=seed)
        return found, holds(found, slo) and not any(n.startswith("beyond capacity") for n in found.notes)

    rate, found, probes = highest(probe, requests.rate, tolerance)
    if found is None:
        lowest, _ = probe(rate)
        raise Infeasible(
            f"no rate keeps the objectives: at {rate:.3g} requests/s {_misses(lowest, slo)}; "
            "relax them or choose a faster deployment"
        )
    entry = sum(p.replicas for p in pools if p.role != "decode")
    return Capacity(rate, rate / entry, found, tuple(probes))


def highest(
    probe: Callable[[float], tuple[Simulation, bool]], start: float, tolerance: float, factor: float = 2.0
) -> tuple[float, Simulation | None, list[tuple[float, bool]]]:
    """Highest rate that `probe` says holds, by doubling from `start` and then bisection; the lowest rate tried, and
    None, where none does."""
    probes: list[tuple[float, bool]] = []

    def ask(rate: float) -> tuple[Simulation, bool]:
        found, held = probe(rate)
        probes.append((rate, held))
        return found, held

    good, bad, rate = math.nan, math.nan, start
    best: Simulation | None = None
    for _ in range(40):
        found, held = ask(rate)
        if held:
            good, best = rate, found
        else:
            bad = rate
        if math.isnan(bad):
            rate *= factor
        elif math.isnan(good):
            rate /= factor
            if rate < start * 2.0**-12:
                return bad, None, probes
        elif bad <= good * (1.0 + tolerance):
            break
        else:
            rate = math.sqrt(good * bad)
    return good, best, probes


def _misses(simulation: Simulation, slo: Slo) -> str:
    """The objectives a simulation misses, in words."""
    missed = []
    for o in slo.objectives:
        value = latency(simulation, o.metric).at(o.statistic)
        if not value <= o.limit:
            missed.append(f"{o.metric.upper()} {o.statistic} is {1e3 * value:.4g} ms, not {1e3 * o.limit:.4g} ms")
    if simulation.rejected.any():
        missed.append(simulation.notes[0])
    return " and ".join(missed) or "the queue keeps growing"
