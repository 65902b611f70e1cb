"""Show where the time and the memory of one candidate of a plan go."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from perfmodel import Deployments, explain
from perfmodel.costs import default
from perfmodel.estimates import Term, prepare
from perfmodel.workload import load_of
from search.planning.columns import BYTES_PER_GB

if TYPE_CHECKING:
    from search.planning.ranked_plan import Plan

US_PER_S = 1e6
PERCENT = 100.0


def terms_of(plan: Plan, number: int | None = None) -> list[dict[str, Any]]:
    """List the time of one candidate by operator, one flat row each: the steps of a prompt, then a decode step.

    number: the candidate; by default the winner. For a pair of pools, each step is that of the pool that runs it.
    """
    number = plan.best if number is None else number
    if not plan.disaggregated(number):
        return _terms(plan, plan.deployment(number), number, ("prefill", "decode"))
    prefill, decode = plan.pool_deployments(number)
    return [*_terms(plan, prefill, number, ("prefill",)), *_terms(plan, decode, number, ("decode",))]


def _terms(plan: Plan, one: Deployments, number: int, phases: tuple[str, ...]) -> list[dict[str, Any]]:
    """List the operators of one deployment in the given phases, as flat rows with their `spread`."""
    target, work = plan.scorer.target, plan.scorer.target.workload
    if not plan.scorer.sized:
        work = plan.scorer.workload_of(float(plan.columns["offered"][number]))
    pooled = len(phases) == 1
    terms = explain(target.model, work, one, engine=target.engine, costs=target.costs, prompts_alone=pooled)
    return [{**term_row(t), "spread": t.spread} for t in terms if t.phase in phases]


def term_row(term: Term) -> dict[str, Any]:
    """Convert one operator to a flat row; the caller adds the spread in the form that it shows."""
    return {
        "phase": term.phase,
        "operator": term.operator,
        "family": term.family,
        "calls": term.calls,
        "steps": term.steps,
        "time_us": term.time * US_PER_S,
        "share_percent": term.share * PERCENT,
        "bound": term.bound,
        "peak_share_percent": term.peak_share * PERCENT,
        "basis": term.basis,
    }


def memory_of(plan: Plan, number: int | None = None) -> dict[str, float]:
    """Return what fills the memory of one device of a candidate, in GB by content, and what is free.

    number: the candidate; by default the winner. Of a pair of pools, it is a device of the decode pool. `adapters_gb`,
    `sampler_warmup_gb` and `host_gb` appear only where there are adapters, where the engine warms up its sampler, or
    where something is kept in host memory.
    """
    number = plan.best if number is None else number
    target = plan.scorer.target
    one = plan.pair(number).decode if plan.disaggregated(number) else plan.deployment(number)
    costs = target.costs or default(target.engine)
    budget = prepare(target.model, one, target.engine, costs, load_of(target.workload, 1)).memory
    used = float(plan.columns["memory_gb_per_device"][number])
    fixed = {
        "weights_gb": float(budget.weights[0]) / BYTES_PER_GB,
        **({"adapters_gb": float(budget.adapters[0]) / BYTES_PER_GB} if budget.adapters[0] else {}),
        "activations_gb": float(budget.activations[0]) / BYTES_PER_GB,
        **({"sampler_warmup_gb": float(budget.sampler[0]) / BYTES_PER_GB} if budget.sampler[0] else {}),
        "reserve_gb": float(budget.reserve[0]) / BYTES_PER_GB,
    }
    sequences = plan.columns["running"][number] / one.dp[0]
    in_host = float(budget.host.fixed[0] + budget.host.sequence[0] * sequences) / BYTES_PER_GB
    return {
        **fixed,
        "kv_gb": used - sum(fixed.values()),
        "free_gb": float(budget.capacity[0]) / BYTES_PER_GB - used,
        **({"host_gb": in_host} if in_host else {}),
    }
