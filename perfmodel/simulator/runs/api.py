"""Simulate a model on a deployment request by request, and draw the requests for it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Unpack

import numpy as np

from hwdb import InputError
from perfmodel.arrays import Array
from perfmodel.costs import CostModel
from perfmodel.deployment import Deployments
from perfmodel.engines import Engine
from perfmodel.engines import engine as engine_of
from perfmodel.estimates import check_context, check_lengths, cut_bandwidth, least_group, link_between
from perfmodel.hardware import hardware_of
from perfmodel.models import ModelSpec
from perfmodel.simulator.event_replay.replay import Progress, run
from perfmodel.simulator.replica_pools.build import pool
from perfmodel.simulator.replica_pools.policy import Link, Policy, Pool
from perfmodel.simulator.replica_pools.table import StepTable
from perfmodel.simulator.request_traffic.requests import Prefixes, Traffic, from_workload, traffic
from perfmodel.simulator.runs.options import Replay, ReplayOptions
from perfmodel.simulator.runs.sequential import lengthened
from perfmodel.simulator.simulation import Simulation
from perfmodel.workload import Slo, Trace, Workload

#: Requests drawn from a workload that does not say how many. Chosen: 2,000 leave 20 above a p99; 300 per replica let
#: each of many replicas reach its steady state.
COUNT, COUNT_REPLICA = 2000, 300
#: Requests of the first run of a closed loop, per client and in all. Chosen: 20 slices of more than one round each, and
#: what a steady part needs; longer runs follow where the figures need them.
FIRST_ROUNDS, FIRST_REQUESTS = 40, 200


def offered(work: Workload | Trace | Traffic, *, count: int = 0, seed: int = 0) -> Traffic:
    """Return the requests to replay: drawn from a workload, read from a trace, or passed through as they are.

    count: number of requests. 0 means all of a trace or of given requests; for a workload its own `n_requests`, else
    enough for stable percentiles. seed: seed of the random draws from a workload.
    """
    if isinstance(work, Traffic):
        return work.take(count) if count else work
    if isinstance(work, Trace):
        return _of_trace(work.take(slice(0, count)) if count else work)
    if work.arrival == "closed" and not math.isfinite(work.concurrency):
        raise InputError("the workload's concurrency is left open; give one to simulate")
    users = work.concurrency if math.isfinite(work.concurrency) else 1.0
    if work.arrival == "static":
        return from_workload(replace(work, arrival="offline", n_requests=users), count=int(users), seed=seed)
    return from_workload(work, count=count or _default_count(work, users), seed=seed)


def _default_count(work: Workload, users: float) -> int:
    """Return how many requests to draw from a workload: its `n_requests`, else by its clients, else `COUNT`."""
    count: float = COUNT
    if math.isfinite(work.n_requests):
        count = work.n_requests
    elif work.arrival in ("closed", "single"):
        count = max(FIRST_ROUNDS * users, FIRST_REQUESTS)
    return max(int(count), 1)


def _of_trace(trace: Trace) -> Traffic:
    """Convert a trace to the requests of a simulation, with its prefix hashes where it has them."""
    prefixes = None
    if len(trace.offsets):
        prefixes = Prefixes(offsets=trace.offsets, hashes=trace.blocks, tokens=trace.block_tokens)
    return traffic(
        trace.input,
        trace.output,
        arrival=trace.arrival if np.isfinite(trace.arrival).all() else None,
        prefixes=prefixes,
        name=trace.name or "trace",
    )


def simulate(
    model: ModelSpec,
    deployments: Deployments,
    work: Workload | Trace | Traffic,
    *,
    slo: Slo | None = None,
    progress: Progress | None = None,
    **options: Unpack[ReplayOptions],
) -> Simulation:
    """Replay `work` step by step on every replica of one deployment. options: `engine`, `prefill`, `policy`, `costs`,
    `router`, `seed`, `count`, `precision` and `allow_long_context`, as `perfmodel.simulator.Replay` explains them.

    Without `count`, an open workload is run for longer until its figures are known to `precision`. A closed loop that
    states no number of requests is in any case, as its opening burst may be felt for long: `count` is the least.

    Args:
        deployments: One row; its `replicas` stand behind the router.
        work: The requests: a workload to draw them from, a trace, or requests as they are.
        slo: Names the figures to be known; None: the request rate, TTFT (mean, p90), TPOT and E2E (mean).
        progress: Called now and then with the number of completed requests and of all requests.

    Raises:
        InputError: for a model that does not fit, and for options that mean nothing; `UnknownName` for an unknown
        router.
    """
    chosen = Replay(**options)
    requests, pools = prepared(model, deployments, work, chosen)

    def replayed(count: int) -> Simulation:
        drawn = requests if count == len(requests) else requests.longer(count)
        return run(drawn, pools, router=chosen.router, seed=chosen.seed, progress=progress)

    if not requests.stationary or (chosen.count and not requests.concurrency):
        return replayed(len(requests))
    return lengthened(replayed, len(requests), slo or Slo(), chosen.precision)


def prepared(
    model: ModelSpec, deployments: Deployments, work: Workload | Trace | Traffic, chosen: Replay
) -> tuple[Traffic, tuple[Pool, ...]]:
    """Return what `simulate` runs: the requests drawn from `work`, and the pools of replicas that serve them."""
    requests = offered(work, count=chosen.count, seed=chosen.seed)
    if isinstance(work, Workload):  # drawn lengths scatter around those that are asked for
        check_context(model, work, allowed=chosen.allow_long_context)
    else:
        check_lengths(model, requests.total_tokens.astype(float), what=requests.name, allowed=chosen.allow_long_context)
    pools = pools_of(
        model,
        deployments,
        requests,
        engine=chosen.engine,
        prefill=chosen.prefill,
        policy=chosen.policy,
        costs=chosen.costs,
    )
    return requests, pools


def pools_of(
    model: ModelSpec,
    deployments: Deployments,
    requests: Traffic,
    *,
    engine: Engine | str = "vllm",
    prefill: Deployments | None = None,
    policy: Policy | None = None,
    costs: CostModel | None = None,
    tables: Sequence[StepTable] = (),
) -> tuple[Pool, ...]:
    """Build the pools that serve `requests`: one pool, or a prefill and a decode pool; arguments as in `Replay`.

    tables: step times made earlier for the same pools, in their order, as `pool` takes them; empty to make them.
    """
    chosen = engine_of(engine) if isinstance(engine, str) else engine
    made = partial(pool, model, engine=chosen, traffic=requests, costs=costs, policy=policy)
    first, last = (tables[0], tables[-1]) if tables else (None, None)
    if prefill is None:
        return (made(deployments=deployments, table=first),)
    front = made(deployments=prefill, role="prefill", table=first)
    back = made(deployments=deployments, role="decode", table=last)
    ways = prefill.tp / prefill.kvp, deployments.tp / deployments.kvp
    most = cut_bandwidth(chosen, model, ways)
    return replace(front, link=_link(front, back, prefill, deployments, most)), back


def _link(front: Pool, back: Pool, prefill: Deployments, decode: Deployments, most: Array) -> Link:
    """Return the link between a prefill and a decode pool, by the rule of the analytic estimate (`link_between`).

    The pool that holds more KV bytes per device sets the time, as each device receives or sends its own share. Each
    prefill replica sends one request after another, always after its prefill; a decode replica receives from several at
    once. most: B/s per device that its pages allow where nothing is stated (`cut_bandwidth`).
    """
    hardware = hardware_of(prefill.devices, prefill.device), hardware_of(decode.devices, decode.device)
    devices = prefill.devices_per_replica, decode.devices_per_replica
    group = least_group(devices, (prefill.replicas, decode.replicas))
    bandwidth, latency, delay = link_between(hardware, group, decode.hand_over)
    if not bandwidth[0] > 0:
        raise InputError(
            f"{back.name}: the link to it is unknown, and KV has to cross it; state kv_link_gbs in [pools]"
        )
    stated = not math.isnan(decode.hand_over.bandwidth)
    reached = float(bandwidth[0]) if stated else min(float(bandwidth[0]), float(most[0]))
    rate = reached * front.kv_bytes / max(front.kv_bytes, back.kv_bytes)
    return Link(rate, float(latency[0] + delay[0]), f"link to {back.name}")
