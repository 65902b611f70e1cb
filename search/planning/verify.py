"""The finalists of a plan replayed by simulation, step by step, beside what the closed form said of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from hwdb import InputError
from perfmodel import simulator
from perfmodel.deployment import Deployments
from perfmodel.simulator import Capacity, Simulation, Traffic
from search.planning.plan import Plan
from search.searchers import Progress

#: Figures shown twice: as estimated (the name) and as simulated (`simulated_` before it).
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
    "Throughput": ("request_rate", "output_tok_s", "input_tok_s", "goodput", "capacity_rps"),
    "Objectives": ("meets", "slo_attainment", "fluidity_index", "qoe"),
    "Memory": ("kv_share", "waiting", "running", "cached_share", "preemptions"),
    "Remarks": ("remark",),
}


def finalists(plan: Plan, most: int) -> list[int]:
    """The best `most` qualifying candidates of different layout, best first; the nearest misses where none does."""
    names: dict[str, int] = {}
    chosen = plan.order[: int(plan.qualifies.sum())] if plan.feasible else plan.order
    for number in chosen.tolist():
        if len(names) == most:
            break
        names.setdefault(plan.name(number), number)
    return list(names.values())


def layout(plan: Plan, number: int) -> tuple[Deployments, Deployments | None]:
    """(what answers, what computes prompts elsewhere or None) of a candidate, replicas included."""
    if not plan.disaggregated(number):
        return plan.deployment(number), None
    pair, c = plan.pair(number), plan.columns
    front, back = (
        replace(p, replicas=c[w][[number]])
        for p, w in ((pair.prefill, "prefill_workers"), (pair.decode, "decode_workers"))
    )
    return back, front


def requests(plan: Plan, number: int, *, count: int = 0, seed: int = 0) -> Traffic:
    """What a candidate is asked: the scenario's trace where it names one, else requests drawn from its workload."""
    asked = plan.scenario.request
    if asked is not None and asked.trace is not None:
        return simulator.offered(asked.read_trace(), count=count)
    answering, first = layout(plan, number)
    replicas = float(answering.replicas[0] + (first.replicas[0] if first is not None else 0.0))
    work = plan.scorer.asked.workload
    if not plan.scorer.sized:
        work = work.at(concurrency=float(plan.columns["concurrency_per_replica"][number]) * replicas)
    if not count and work.arrival == "open":
        count = int(max(simulator.COUNT, simulator.COUNT_REPLICA * replicas))
    return simulator.offered(work, count=count, seed=seed)


def replay(
    plan: Plan,
    number: int,
    *,
    count: int = 0,
    router: str = "join_shortest_queue",
    seed: int = 0,
    progress: Progress | None = None,
) -> Simulation:
    """Candidate `number` of `plan` under the scenario's load, simulated."""
    answering, first = layout(plan, number)
    return simulator.simulate(
        plan.scorer.asked.model,
        answering,
        requests(plan, number, count=count, seed=seed),
        prefill=first,
        engine=plan.scorer.asked.engine,
        costs=plan.scorer.asked.costs,
        router=router,
        seed=seed,
        progress=progress,
    )


def capacity(
    plan: Plan, number: int, *, count: int = 0, router: str = "join_shortest_queue", seed: int = 0
) -> Capacity:
    """The highest rate that candidate `number` serves within the scenario's objectives."""
    answering, first = layout(plan, number)
    return simulator.capacity(
        plan.scorer.asked.model,
        answering,
        requests(plan, number, count=count, seed=seed),
        plan.scorer.asked.slo,
        prefill=first,
        engine=plan.scorer.asked.engine,
        costs=plan.scorer.asked.costs,
        router=router,
        seed=seed,
    )


def row(plan: Plan, number: int, found: Simulation) -> dict[str, Any]:
    """One simulated candidate as a flat row."""
    slo = plan.scorer.asked.slo
    over_time = simulator.occupancy(found)
    return {
        "candidate": plan.name(number),
        "engine": plan.scorer.asked.engine.name,
        "router": found.router,
        **simulator.summary(found, slo),
        "meets": simulator.holds(found, slo),
        **{k: float(np.mean(over_time[k])) for k in ("kv_share", "waiting", "running")},
        "remark": "; ".join(found.notes),
    }


def verify(plan: Plan, most: int = 0, *, seed: int = 0, progress: Progress | None = None) -> list[dict[str, Any]]:
    """The finalists (`most`; 0: as many as the scenario says), estimated and simulated side by side.

    Flat rows: every figure of `FIGURES` and every objective as estimated and, with `simulated_` before its name, as
    simulated; `simulated_meets`: whether all objectives held.
    """
    slo = plan.scorer.asked.slo
    names = list(dict.fromkeys([*(o.key for o in slo.objectives), *FIGURES]))
    chosen = finalists(plan, most or plan.scenario.choices.finalists)
    rows = []
    for done, number in enumerate(chosen):
        if progress:
            progress(done, len(chosen))
        estimated, simulated = plan.row(number), row(plan, number, replay(plan, number, seed=seed))
        pairs = {name: (estimated.get(name, float("nan")), simulated.get(name, float("nan"))) for name in names}
        rows.append(
            {
                "candidate": plan.name(number),
                "qualifies": estimated["qualifies"],
                "simulated_meets": simulated["meets"],
                **{k: v for name, (a, b) in pairs.items() for k, v in ((name, a), (f"simulated_{name}", b))},
                "slo_attainment": simulated.get("slo_attainment", float("nan")),
                "remark": simulated["remark"],
            }
        )
    return rows


def columns(plan: Plan) -> list[str]:
    """What a terminal shows of `verify`: each objective twice, the share of requests within all, the verdict."""
    names = [o.key for o in plan.scorer.asked.slo.objectives] or ["ttft_ms", "tpot_ms"]
    pairs = [c for name in names for c in (name, f"simulated_{name}")]
    throughput = ["output_tok_s", "simulated_output_tok_s"]
    return ["candidate", *pairs, *throughput, "slo_attainment", "simulated_meets", "remark"]


def simulated_row(
    plan: Plan,
    rank: int,
    *,
    count: int = 0,
    router: str = "join_shortest_queue",
    seed: int = 0,
    capacity_too: bool = False,
    log: Path | None = None,
    trace: Path | None = None,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """The finalist of the given rank, simulated, as a flat row; its request log and trace written where asked.

    `InputError` when the plan has fewer finalists, or a file cannot be written.
    """
    chosen = finalists(plan, rank)
    if len(chosen) < rank:
        raise InputError(f"rank {rank} is beyond the {len(chosen)} candidates of different layout; give a lower one")
    number = chosen[rank - 1]
    found = replay(plan, number, count=count, router=router, seed=seed, progress=progress)
    made = row(plan, number, found)
    if capacity_too:
        made["capacity_rps"] = capacity(plan, number, count=count, router=router, seed=seed).rate
    if log is not None:
        simulator.write_requests(found, log)
    if trace is not None:
        simulator.write_trace(found, trace)
    return made
