"""Show where the time and the memory of one candidate of a plan go."""

from __future__ import annotations

from typing import TYPE_CHECKING, NotRequired, TypedDict

import numpy as np

from perfmodel import explain
from perfmodel.costs import default
from perfmodel.estimates import Term, explain_disaggregated, in_pools, prepare
from perfmodel.unit_factors import PERCENT, US_PER_S
from perfmodel.workload import load_of
from search.planning.evaluation.columns import BYTES_PER_GB

if TYPE_CHECKING:
    from perfmodel.arrays import Array
    from perfmodel.memory import Memory
    from search.planning.plan_making.ranked_plan import Plan


class OperatorRow(TypedDict):
    """One operator of the steps of a prompt or of a decode step, as a flat row.

    phase: "prefill" or "decode". calls: kernels per step. steps: steps that the time is of. time_us: microseconds of
    all of them. share_percent: part of the time of the phase. bound: what limits the operator, one of `BOUNDS`.
    peak_share_percent: part of the device's peak that it reaches, NaN unknown. basis: what the time rests on.
    spread: log half-width of the 80 % interval of the time, in the rows of a plan. spread_percent: the same in percent,
    in printed rows.
    """

    phase: str
    operator: str
    family: str
    calls: float
    steps: float
    time_us: float
    share_percent: float
    bound: str
    peak_share_percent: float
    basis: str
    spread: NotRequired[float]
    spread_percent: NotRequired[float]


def terms_of(plan: Plan, number: int | None = None) -> list[OperatorRow]:
    """List the time of one candidate by operator, one flat row each: the steps of a prompt, then a decode step.

    number: the candidate; by default the winner. For a pair of pools, each step is that of the pool that runs it.
    """
    number = plan.best if number is None else number
    target, work = plan.scorer.target, plan.scorer.workload_of(float(plan.columns["offered"][number]))
    if plan.disaggregated(number):
        pools, workers = plan.pool_deployments(number), _workers(plan, number)
        known = target.known_of_pools
        terms = explain_disaggregated(
            target.model, work, pools, workers, engine=target.engine, costs=target.costs, known=known
        )
    else:
        one, known = plan.deployment(number), target.known
        terms = explain(target.model, work, one, engine=target.engine, costs=target.costs, known=known)
    return [{**term_row(t), "spread": t.spread} for t in terms]


def _workers(plan: Plan, number: int) -> tuple[Array, Array]:
    """Return the workers of the prefill pool and of the decode pool of a pair of pools, (1,) each."""
    return plan.columns["prefill_workers"][[number]], plan.columns["decode_workers"][[number]]


def term_row(term: Term) -> OperatorRow:
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

    number: the candidate; by default the winner. Of a pair of pools, it is a device of the decode pool
    (`memory_place`). `adapters_gb`, `sampler_warmup_gb` and `host_gb` appear only where there are adapters, where the
    engine warms up its sampler, or where something is kept in host memory.
    """
    number = plan.best if number is None else number
    budget, sequences = _memory_budget(plan, number)
    running = np.array([float(plan.columns["running"][number])])
    used = float(budget.used(running)[0]) / BYTES_PER_GB
    fixed = {
        "weights_gb": float(budget.weights[0]) / BYTES_PER_GB,
        **({"adapters_gb": float(budget.adapters[0]) / BYTES_PER_GB} if budget.adapters[0] else {}),
        "activations_gb": float(budget.activations[0]) / BYTES_PER_GB,
        **({"sampler_warmup_gb": float(budget.sampler[0]) / BYTES_PER_GB} if budget.sampler[0] else {}),
        "engine_gb": float(budget.reserve[0]) / BYTES_PER_GB,
    }
    in_host = float(budget.host.fixed[0] + budget.host.sequence[0] * sequences) / BYTES_PER_GB
    return {
        **fixed,
        "kv_gb": used - sum(fixed.values()),
        "free_gb": float(budget.capacity[0]) / BYTES_PER_GB - used,
        **({"host_gb": in_host} if in_host else {}),
    }


def memory_place(plan: Plan, number: int | None = None) -> str:
    """Say which device `memory_of` is about, in words: for a pair of pools, a device of the decode pool."""
    number = plan.best if number is None else number
    return "one device of the decode pool" if plan.disaggregated(number) else "one device"


def _memory_budget(plan: Plan, number: int) -> tuple[Memory, float]:
    """Return (memory of a device, sequences that run on a rank of attention data parallelism) of a candidate.

    Of a pair of pools, they are those of a decode worker.
    """
    target, paired = plan.scorer.target, plan.disaggregated(number)
    one = plan.pair(number).decode if paired else plan.deployment(number)
    engine = in_pools(target.engine) if paired else target.engine
    demand = load_of(target.workload, 1)
    budget = prepare(target.model, one, engine, target.costs or default(engine), demand).memory
    return budget, float(plan.columns["running"][number] / one.dp[0])
