"""Where the time and the memory of one candidate of a plan go."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from perfmodel import Deployments, explain
from perfmodel.estimates import Term, prepare
from perfmodel.workload import load_of
from search.planning.plan import Plan

GB = 1e9


def terms_of(plan: Plan, number: int | None = None) -> list[dict[str, Any]]:
    """Operator by operator, prefill pass then decode pass; of pools, the prefill of one and the decode of the other."""
    number = plan.best if number is None else number
    if not plan.disaggregated(number):
        return _terms(plan, plan.deployment(number), number, ("prefill", "decode"))
    pair = plan.pair(number)
    front = replace(pair.prefill, replicas=plan.columns["prefill_workers"][[number]])
    back = replace(pair.decode, replicas=plan.columns["decode_workers"][[number]])
    return [*_terms(plan, front, number, ("prefill",)), *_terms(plan, back, number, ("decode",))]


def _terms(plan: Plan, one: Deployments, number: int, phases: tuple[str, ...]) -> list[dict[str, Any]]:
    asked, work = plan.scorer.asked, plan.scorer.asked.workload
    if not plan.scorer.sized:
        work = work.at(concurrency=float(plan.columns["concurrency_per_replica"][number]))
    terms = explain(asked.model, work, one, engine=asked.engine, costs=asked.costs)
    return [{**term_row(t), "spread": t.spread} for t in terms if t.phase in phases]


def term_row(term: Term) -> dict[str, Any]:
    """One operator as a row with units in the names; its spread is left to whoever shows it."""
    return {
        "phase": term.phase,
        "operator": term.operator,
        "family": term.family,
        "calls": term.calls,
        "time_us": term.time * 1e6,
        "share_percent": term.share * 100.0,
        "bound": term.bound,
        "peak_share_percent": term.peak_share * 100.0,
        "basis": term.basis,
    }


def memory_of(plan: Plan, number: int | None = None) -> dict[str, float]:
    """GB of one device of a candidate (of the decode pool where there are two): what lies there, and what is free."""
    from perfmodel.costs import default

    number = plan.best if number is None else number
    asked = plan.scorer.asked
    one = plan.pair(number).decode if plan.disaggregated(number) else plan.deployment(number)
    setup = prepare(
        asked.model, one, asked.engine, asked.costs or default(asked.engine.family), load_of(asked.workload, 1)
    )
    space = setup.memory
    used = float(plan.columns["memory_gb_per_device"][number])
    fixed = {
        "weights_gb": float(space.weights[0]) / GB,
        **({"adapters_gb": float(space.adapters[0]) / GB} if space.adapters[0] else {}),
        "activations_gb": float(space.activations[0]) / GB,
        "reserve_gb": float(space.reserve[0]) / GB,
    }
    behind = float(space.host.fixed[0] + space.host.sequence[0] * plan.columns["running"][number] / one.dp[0]) / GB
    host = {"host_gb": behind} if behind else {}
    return {**fixed, "kv_gb": used - sum(fixed.values()), "free_gb": float(space.capacity[0]) / GB - used, **host}
