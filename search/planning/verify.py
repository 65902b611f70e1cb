"""Check a plan by simulation: simulate its finalists step by step, and compare them with the analytic estimates."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from hwdb import InputError
from perfmodel import simulator
from perfmodel.arrays import NAN
from perfmodel.deployment import Deployments
from perfmodel.simulator import Capacity, Simulation, Traffic
from search.planning.ranked_plan import Plan
from search.searchers import Progress

#: Columns of `verify` that appear twice: estimated, under their own name, and simulated, with `simulated_` before it.
FIGURES = ("ttft_ms", "ttft_ms_p90", "ttft_ms_p99", "tpot_ms", "tpot_ms_p90", "tpot_ms_p99", "e2e_ms", "output_tok_s")
#: What the terminal shows of a simulation, by section.
SHEET: Mapping[str, Sequence[str]] = {
    "Candidate": ("candidate", "engine", "router", "requests", "rejected", "duration_s"),
    "Latency": (
        "ttft_ms",
        "ttft_ms_p50",
        "ttft_ms_p90",
        "ttft_ms_p95",
        "ttft_ms_p99",
        "tpot_ms",
        "tpot_ms_p50",
        "tpot_ms_p90",
        "tpot_ms_p99",
        "itl_ms",
        "itl_ms_p50",
        "itl_ms_p99",
        "e2e_ms",
        "e2e_ms_p50",
        "e2e_ms_p90",
        "e2e_ms_p99",
        "normalised_ms",
    ),
    "Throughput": ("request_rate_rps", "output_tok_s", "input_tok_s", "goodput_rps", "capacity_rps"),
    "Objectives": ("meets", "slo_attainment", "fluidity_index", "qoe"),
    "Memory": ("kv_share", "waiting", "running", "cached_share", "preemptions"),
    "Remarks": ("remark",),
}


@dataclass(frozen=True)
class Settings:
    """Settings of a simulation.

    count: requests to simulate, 0 for as many as the load needs. router: how requests are assigned to replicas. seed:
    of the random draws.
    """

    count: int = 0
    router: str = "join_shortest_queue"
    seed: int = 0


def finalists(plan: Plan, most: int) -> list[int]:
    """Return the numbers of the best `most` qualifying candidates with different names, best first.

    Where none qualifies, they are the nearest misses.
    """
    names: dict[str, int] = {}
    chosen = plan.order[: int(plan.qualifies.sum())] if plan.feasible else plan.order
    for number in chosen.tolist():
        if len(names) == most:
            break
        names.setdefault(plan.name(number), number)
    return list(names.values())


def pools_of(plan: Plan, number: int) -> tuple[Deployments, Deployments | None]:
    """Return the pools of a candidate, with their replicas, as (decode pool, prefill pool).

    The prefill pool is None where the candidate is colocated: its one deployment does both.
    """
    if not plan.disaggregated(number):
        return plan.deployment(number), None
    prefill, decode = plan.pool_deployments(number)
    return decode, prefill


def requests(plan: Plan, number: int, settings: Settings | None = None) -> Traffic:
    """Return the requests to simulate for a candidate: the scenario's trace, or else draws from its workload."""
    settings = settings or Settings()
    request = plan.scenario.request
    if request is not None and request.trace is not None:
        return simulator.offered(request.read_trace(), count=settings.count)
    decode, prefill = pools_of(plan, number)
    replicas = float(decode.replicas[0] + (prefill.replicas[0] if prefill is not None else 0.0))
    work, count = plan.scorer.target.workload, settings.count
    if not plan.scorer.sized:
        work = plan.scorer.workload_of(float(plan.columns["offered"][number]))
    if not count and work.arrival == "open":
        count = int(max(simulator.COUNT, simulator.COUNT_REPLICA * replicas))
    return simulator.offered(work, count=count, seed=settings.seed)


def replay(
    plan: Plan, number: int, settings: Settings | None = None, *, progress: Progress | None = None
) -> Simulation:
    """Simulate candidate `number` of `plan` under the scenario's load."""
    settings = settings or Settings()
    decode, prefill = pools_of(plan, number)
    return simulator.simulate(
        plan.scorer.target.model,
        decode,
        requests(plan, number, settings),
        prefill=prefill,
        engine=plan.scorer.target.engine,
        costs=plan.scorer.target.costs,
        router=settings.router,
        seed=settings.seed,
        progress=progress,
    )


def capacity(plan: Plan, number: int, settings: Settings | None = None) -> Capacity:
    """Find, by simulation, the highest request rate that candidate `number` serves within the SLO."""
    settings = settings or Settings()
    decode, prefill = pools_of(plan, number)
    return simulator.capacity(
        plan.scorer.target.model,
        decode,
        requests(plan, number, settings),
        plan.scorer.target.slo,
        prefill=prefill,
        engine=plan.scorer.target.engine,
        costs=plan.scorer.target.costs,
        router=settings.router,
        seed=settings.seed,
    )


def row(plan: Plan, number: int, found: Simulation) -> dict[str, Any]:
    """Convert the simulation `found` of candidate `number` to a flat row."""
    slo = plan.scorer.target.slo
    over_time = simulator.occupancy(found)
    return {
        "candidate": plan.name(number),
        "engine": plan.scorer.target.engine.name,
        "router": found.router,
        **simulator.summary(found, slo),
        "meets": simulator.holds(found, slo),
        **{k: float(np.mean(over_time[k])) for k in ("kv_share", "waiting", "running")},
        "remark": "; ".join(found.notes),
    }


def verify(plan: Plan, most: int = 0, *, seed: int = 0, progress: Progress | None = None) -> list[dict[str, Any]]:
    """Simulate the finalists of `plan` and return one flat row each, estimated and simulated values side by side.

    most: number of finalists; 0 for as many as the scenario says. Each column of `FIGURES`, and each latency that the
    SLO bounds, appears as estimated and, with `simulated_` before its name, as simulated. `simulated_meets`: True where
    every SLO bound held in the simulation.
    """
    chosen = finalists(plan, most or plan.scenario.choices.finalists)
    rows = []
    for done, number in enumerate(chosen):
        if progress:
            progress(done, len(chosen))
        rows.append(_side_by_side(plan, number, row(plan, number, replay(plan, number, Settings(seed=seed)))))
    return rows


def _side_by_side(plan: Plan, number: int, simulated: Mapping[str, Any]) -> dict[str, Any]:
    """Join the estimated and the simulated columns of one candidate. simulated: its row from `row`."""
    estimated = plan.row(number)
    out = {"candidate": plan.name(number), "qualifies": estimated["qualifies"], "simulated_meets": simulated["meets"]}
    for name in dict.fromkeys([*(o.key for o in plan.scorer.target.slo.objectives), *FIGURES]):
        out |= {name: estimated.get(name, NAN), f"simulated_{name}": simulated.get(name, NAN)}
    return {**out, "slo_attainment": simulated.get("slo_attainment", NAN), "remark": simulated["remark"]}


def columns(plan: Plan) -> list[str]:
    """Name the columns of `verify` that a terminal shows.

    They are each latency that the SLO bounds, estimated and simulated, the throughput, the share of requests that keep
    every bound, and whether the simulation meets the SLO.
    """
    names = [o.key for o in plan.scorer.target.slo.objectives] or ["ttft_ms", "tpot_ms"]
    pairs = [c for name in names for c in (name, f"simulated_{name}")]
    throughput = ["output_tok_s", "simulated_output_tok_s"]
    return ["candidate", *pairs, *throughput, "slo_attainment", "simulated_meets", "remark"]


def simulated_row(
    plan: Plan,
    rank: int,
    settings: Settings | None = None,
    *,
    capacity_too: bool = False,
    log: Path | None = None,
    trace: Path | None = None,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Simulate the finalist of rank `rank` (from 1) and return it as a flat row.

    capacity_too: also find the highest rate within the SLO. log, trace: files to write the requests and the events to.
    Raises `InputError` when the plan has fewer finalists, or a file cannot be written.
    """
    chosen = finalists(plan, rank)
    if len(chosen) < rank:
        raise InputError(f"rank {rank} is beyond the {len(chosen)} candidates of different layout; give a lower rank")
    number = chosen[rank - 1]
    found = replay(plan, number, settings, progress=progress)
    made = row(plan, number, found)
    if capacity_too:
        made["capacity_rps"] = capacity(plan, number, settings).rate
    if log is not None:
        simulator.write_requests(found, log)
    if trace is not None:
        simulator.write_trace(found, trace)
    return made
