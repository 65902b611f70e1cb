"""Explain one deployment by operator: where the time of a prompt and of a decode step goes, and what limits it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np

from perfmodel.arrays import NAN, Array
from perfmodel.costs import (
    BOUNDS,
    Cost,
    CostModel,
    StepCache,
    StepCost,
    default,
    draft_passes,
    priced,
    streams_of,
    summed,
)
from perfmodel.deployment import Deployments
from perfmodel.engines import Engine, Overlap, overlap_of
from perfmodel.engines import engine as engine_of
from perfmodel.estimates.disaggregation.disaggregated import serve_pools
from perfmodel.estimates.estimation.estimator import per_replica, prepare, speculated
from perfmodel.hardware import Hardware
from perfmodel.models import ModelSpec
from perfmodel.operators import Demand, Step, step_shape
from perfmodel.serving import PlannedPrompts, PlannedStep, StepModel, serve
from perfmodel.vocabulary import BASES
from perfmodel.workload import POOLED_REQUESTS_PER_CLIENT, Load, Workload, load_of

#: Host time and overlap below this share of a phase are rounding.
_ROUNDING = 1e-9


@dataclass(frozen=True)
class Term:
    """Describe one operator of one phase (prefill or decode).

    calls: how often it runs per step. time: seconds in all `steps` of the phase, all layers; share: of the phase.
    bound: what limits it. peak_share: achieved share of the device's dense peak, memory bandwidth or link bandwidth,
    whichever it comes closest to; NaN for host time and waits for host memory. basis: kind of data that the time rests
    on. spread: log half-width of its 80 % interval. steps: engine steps of the phase: those that a prompt, or prompts
    computed together, are cut into; one for a decode step. Work that hides behind other work is a term of family
    `overlap` with a time below zero. flop, moved: floating-point operations and bytes to and from memory, of one device
    in all `steps`; 0 for host time and overlap.
    """

    phase: str
    operator: str
    family: str
    calls: float
    time: float
    share: float
    bound: str
    peak_share: float
    basis: str
    spread: float
    steps: float = 1.0
    flop: float = 0.0
    moved: float = 0.0


def explain(
    model: ModelSpec,
    workload: Workload,
    deployments: Deployments,
    row: int = 0,
    *,
    engine: Engine | str = "vllm",
    costs: CostModel | None = None,
    known: StepCache | None = None,
) -> tuple[Term, ...]:
    """List the operators of the prefill and of a decode step of deployment `row` under its load, host time included.

    They sum to the times that `estimate` uses: the same functions price the steps once more. The prefill is that of a
    prompt, or of prompts that are computed together, over all its steps, with the decodes that share them; over several
    request classes it is the mean. Where replicas hold different numbers of requests, it is one that holds most.

    known: costs of steps that were priced before, with the same model, engine and costs.
    """
    chosen = engine_of(engine) if isinstance(engine, str) else engine
    costs = costs or default(chosen)
    one = deployments.take(np.array([row]))
    demand = speculated(load_of(workload, 1), one)
    setup = prepare(model, one, chosen, costs, demand, known)
    replica = per_replica(demand, one.replicas)
    served = serve(setup.steps, replica, setup.memory.max_sequences())
    decoding = np.where(np.isfinite(served.costs.decode_seqs), served.costs.decode_seqs, served.running)
    steps, prompts = setup.steps, served.costs.prompts
    if prompts is None:
        prompts = steps.prefill_steps(replica.new, replica.cached)
    decode = steps.decode_step(decoding, replica.decode_context, replica.drafts)
    return (*_prefill(steps, prompts, replica), *_phase("decode", steps, (decode,), np.ones(1)))


def explain_disaggregated(
    model: ModelSpec,
    workload: Workload,
    pools: tuple[Deployments, Deployments],
    workers: tuple[Array | float, Array | float],
    *,
    engine: Engine | str = "vllm",
    costs: CostModel | None = None,
    known: StepCache | None = None,
) -> tuple[Term, ...]:
    """List the operators of one pair of pools under its load, host time included: a prefill, then a decode step.

    The prefill is that of a prefill worker: of the whole number of prompts that it computes together at the load, over
    all its steps. The decode step is that of a decode worker with the sequences that run on it, and sums to the step
    that `estimate_disaggregated` uses.

    Args:
        workload: arrivals at the whole pair.
        pools: a prefill worker and a decode worker, one row each.
        workers: numbers of prefill and of decode workers.
        known: as of `explain`, for pools alone.
    """
    chosen = engine_of(engine) if isinstance(engine, str) else engine
    demand = load_of(workload, 1, POOLED_REQUESTS_PER_CLIENT)
    numbers = np.full(1, workers[0], float), np.full(1, workers[1], float)
    pair = serve_pools(model, demand, pools, numbers, engine=chosen, costs=costs, known=known)
    front, back, served = pair.front.steps, pair.back.steps, pair.served
    # whole prompts: a fraction of one more would start a wave of tiles that no step of a worker has
    group = np.rint(pair.prompts.group_of(served.rate, served.times.wait[0]))
    prompts = front.prefill_steps(demand.new, demand.cached, group)
    decode = back.decode_step(served.running, demand.decode_context, pair.demand.drafts)
    return (*_prefill(front, prompts, demand), *_phase("decode", back, (decode,), np.ones(1)))


def _prefill(steps: StepModel, prompts: PlannedPrompts, load: Load) -> tuple[Term, ...]:
    """List the operators of the steps of `prompts`, the mean over the request classes of `load`."""
    seconds = load.mean(steps.price_prompts(prompts).pipelined(steps.sharding.pp))
    return _phase("prefill", steps, prompts.parts, load.share[:, 0], _first(seconds))


@dataclass
class _Sum:
    """Collect one operator over the kinds of step and the request classes of a phase, from columns (C,).

    calls, time: sums over steps. work, doubt: sums of time x peak share and of time x spread. heaviest: most seconds of
    one kind and class; bound, basis: codes of those. flop, moved: of all calls.
    """

    operator: str
    family: str
    calls: float = 0.0
    time: float = 0.0
    work: float = 0.0
    doubt: float = 0.0
    heaviest: float = -np.inf
    bound: str = "launch"
    basis: str = "roofline"
    flop: float = 0.0
    moved: float = 0.0

    def add(self, calls: Array, time: Array) -> None:
        """Add calls and seconds by request class, (C,) each, already weighted by the number of steps."""
        self.calls, self.time = self.calls + float(calls.sum()), self.time + float(time.sum())

    def describe(self, time: Array, cost: Cost, peak_share: Array) -> None:
        """Add what limits an operator and how certain its `time` (C,) is. peak_share: (C,)."""
        column = partial(np.broadcast_to, shape=time.shape)
        self.work += float(np.sum(time * peak_share))
        self.doubt += float(np.sum(time * column(np.ravel(cost.spread))))
        if time.max() > self.heaviest:
            most = int(time.argmax())
            self.heaviest = float(time[most])
            self.bound = BOUNDS[int(column(np.ravel(cost.bound))[most])]
            self.basis = BASES[int(column(np.ravel(cost.basis))[most])]


@dataclass
class _Phase:
    """Collect the operators, the host time and the overlap of a phase.

    share: share of requests by class, (C,). steps: number of steps, all kinds together. time: seconds of all steps one
    after the other.
    """

    share: Array
    steps: float = 0.0
    time: float = 0.0
    operators: dict[str, _Sum] = field(default_factory=dict)
    besides: dict[str, _Sum] = field(default_factory=dict)

    def column(self, values: Array | float) -> Array:
        """Return values by class of one deployment, (C,), from (C, 1), (1,) or a number."""
        return np.broadcast_to(np.ravel(np.asarray(values, float)), self.share.shape)

    def aside(self, operator: str, family: str, bound: str, calls: Array, time: Array) -> None:
        """Add time that no operator accounts for, by class: host time, and overlap below zero."""
        found = self.besides.setdefault(operator, _Sum(operator, family, bound=bound))
        found.add(calls, time)


def _phase(
    phase: str, steps: StepModel, parts: Sequence[PlannedStep], share: Array, seconds: float = NAN
) -> tuple[Term, ...]:
    """List the operators of all steps of a phase, then the host's time, then (below zero) what is hidden.

    Where pipeline stages work on several steps at once, the phase takes less than its steps one after another. Each
    operator then has its part of what the phase takes.

    parts: kinds of step. share: share of requests by class, (C,). seconds: the phase takes; NaN: its steps in a row.
    """
    whole = _Phase(share)
    for planned in parts:
        _add_steps(whole, steps, planned)
    others = [s for s in whole.besides.values() if abs(s.time) > _ROUNDING * whole.time]
    terms = tuple(_term(phase, s, whole.steps, whole.time) for s in (*whole.operators.values(), *others))
    part = seconds / whole.time
    return tuple(replace(t, time=t.time * part) for t in terms) if part < 1.0 - _ROUNDING else terms


def _add_steps(whole: _Phase, steps: StepModel, planned: PlannedStep) -> None:
    """Add the steps of one kind to a phase."""
    cost = steps.price(planned.step)
    number = whole.share * whole.column(planned.n_steps)
    batches = whole.column(cost.batches.astype(float))
    wall = whole.column(steps.wall(cost, planned.seqs, captured=planned.captured, whole=planned.whole))
    part = planned.step.part(cost.batches.astype(float))
    parts = list(priced(steps.sharding, steps.hardware, steps.costs, part))
    drafting = list(_drafting(whole, steps, part))
    inside = np.zeros_like(wall)
    once = np.ones_like(batches)
    for demand, price, times in (*((d, p, once) for d, p in parts), *drafting):
        calls = times * batches * whole.column(demand.count)
        time = np.where(calls > 0, calls * whole.column(price.time), 0.0)
        if not np.any(calls * number > 0):
            continue
        inside = inside + time
        found = whole.operators.setdefault(demand.name, _Sum(demand.name, demand.family))
        found.add(calls * number, time * number)
        found.flop += float(np.sum(calls * number * whole.column(demand.flop)))
        found.moved += float(np.sum(calls * number * whole.column(demand.moved)))
        found.describe(time * number, price, _peak_share(whole, demand, steps.hardware, time / batches))
    hidden = whole.column(cost.hidden)
    whole.aside("host", "host", "launch", number, np.where(number > 0, wall - inside + hidden, 0.0) * number)
    overlap = overlap_of(steps.engine.overlap, steps.engine.overlap_share)
    if np.any(hidden * number > 0) and overlap is not None:
        name = _hidden_name(summed(parts, step_shape(planned.step, steps.sharding.tp)), overlap)
        whole.aside(name, "overlap", "link", batches * number, -hidden * number)
    whole.steps += float(number.sum())
    whole.time += float(np.sum(np.where(number > 0, wall * number, 0.0)))


def _drafting(whole: _Phase, steps: StepModel, step: Step) -> Iterator[tuple[Demand, Cost, Array]]:
    """Yield the operators of the passes that draft tokens for a step, named so, with their cost and number, (C,)."""
    for each in draft_passes(steps.sharding, step):
        for demand, price in priced(each.drafter, steps.hardware, steps.costs, each.step):
            yield replace(demand, name=f"draft {demand.name}"), price, whole.column(each.times)


def _term(phase: str, found: _Sum, steps: float, total: float) -> Term:
    """Make the term of an operator from its sums. steps: of the phase; total: its seconds."""
    untabled = found.family in ("host", "overlap")
    return Term(
        phase=phase,
        operator=found.operator,
        family=found.family,
        calls=found.calls / steps,
        time=found.time,
        share=found.time / total,
        bound=found.bound,
        peak_share=NAN if untabled else found.work / found.time,
        basis=found.basis,
        spread=NAN if untabled else found.doubt / found.time,
        steps=steps,
        flop=found.flop,
        moved=found.moved,
    )


def _hidden_name(cost: StepCost, overlap: Overlap) -> str:
    """Name the streams of work that hide behind another one, and that one."""
    streams = streams_of(cost, overlap).reshape(len(overlap.streams), -1)[:, 0]
    front = int(np.argmax(streams))
    behind = [name for i, name in enumerate(overlap.names()) if i != front and streams[i] > 0]
    return f"{' and '.join(behind)} behind {overlap.names()[front]}"


def _peak_share(whole: _Phase, demand: Demand, hardware: Hardware, time: Array) -> Array:
    """Return the achieved share of the peak (compute, memory or link) that an operator comes closest to, (C,).

    time: seconds per step of a micro-batch, (C,).
    """
    calls = whole.column(demand.count)
    message = whole.column(demand.message) * calls
    with np.errstate(invalid="ignore", divide="ignore"):
        if np.any(message > 0):
            inside = _first(demand.shape["group"]) <= hardware.peers[0]
            fabric = hardware.link_bandwidth if inside else hardware.net_bandwidth
            return np.where(time > 0, message / time / float(fabric[0]), 0.0)
        if demand.family == "host_link":
            return np.full_like(calls, NAN)  # a wait: what crosses the link to the host is not its demand
        peak = float(hardware.peak[0, int(_first(demand.compute))])
        arithmetic = whole.column(demand.flop) * calls / time / peak
        traffic = whole.column(demand.moved) * calls / time / float(hardware.bandwidth[0])
        return np.where(time > 0, np.maximum(arithmetic, traffic), 0.0)


def _first(values: Array | np.ndarray | float) -> float:
    """Return the first of `values` as a float."""
    return float(np.ravel(values)[0])
