"""Explain one deployment by operator: where the time of its prefill and decode steps goes, and what limits it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from perfmodel.arrays import NAN, Array
from perfmodel.costs import BOUNDS, Cost, CostModel, StepCost, default, priced, streams_of, summed
from perfmodel.deployment import Deployments
from perfmodel.engines import Engine, Overlap, overlap_of
from perfmodel.engines import engine as engine_of
from perfmodel.estimates.estimator import per_replica, prepare
from perfmodel.hardware import Hardware
from perfmodel.models import ModelSpec
from perfmodel.operators import Demand, step_shape
from perfmodel.serving import PlannedStep, StepModel, serve
from perfmodel.vocabulary import BASES
from perfmodel.workload import Workload, load_of

#: Host time below this share of a step is rounding.
_ROUNDING = 1e-9


@dataclass(frozen=True)
class Term:
    """Describe one operator of one phase (prefill or decode).

    calls: how often it runs per step. time: seconds per step, all layers; share: of the step. bound: what limits it.
    peak_share: achieved share of the device's dense peak, memory bandwidth or link bandwidth, whichever it comes
    closest to; NaN for host time and waits for host memory. basis: kind of data that the time rests on. spread: log
    half-width of its 80 % interval. Work that hides behind other work is a term of family `overlap` with a time below
    zero.
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


def explain(
    model: ModelSpec,
    workload: Workload,
    deployments: Deployments,
    row: int = 0,
    *,
    engine: Engine | str = "vllm",
    costs: CostModel | None = None,
) -> tuple[Term, ...]:
    """List the operators of the prefill and the decode step of deployment `row` under its load, host time included.

    They sum to the step times that `estimate` uses: the same functions price the steps once more. The prefill is that
    of the mean prompt.
    """
    chosen = engine_of(engine) if isinstance(engine, str) else engine
    costs = costs or default(chosen)
    one = deployments.take(np.array([row]))
    demand = load_of(workload, 1)
    setup = prepare(model, one, chosen, costs, demand)
    replica = per_replica(demand, one.replicas)
    served = serve(setup.steps, replica, setup.memory.max_sequences())
    decoding = np.where(np.isfinite(served.costs.decode_seqs), served.costs.decode_seqs, served.running)
    new, cached = replica.mean(replica.new), replica.mean(replica.cached)
    steps = setup.steps
    return (
        *_phase("prefill", steps, steps.prefill_step(new, cached)),
        *_phase("decode", steps, steps.decode_step(decoding, replica.decode_context, replica.drafts)),
    )


def _phase(phase: str, steps: StepModel, planned: PlannedStep) -> list[Term]:
    """List the operators of one step, then the host's time, then (below zero) time that is hidden behind other work."""
    cost = steps.price(planned.step)
    batches = int(_first(cost.batches))
    parts = list(priced(steps.sharding, steps.hardware, steps.costs, planned.step.part(batches)))
    wall = _first(steps.wall(cost, planned.seqs, captured=planned.captured, factor=planned.factor))
    out = [_operator(phase, d, c, steps.hardware, (batches, wall)) for d, c in parts if np.all(d.count > 0)]
    hidden = _first(cost.hidden)
    host = wall - sum(t.time for t in out) + hidden
    if host > _ROUNDING * wall:
        out.append(_untabled(phase, "host", "host", calls=1.0, time=host, wall=wall, bound="launch"))
    overlap = overlap_of(steps.engine.overlap, steps.engine.overlap_share)
    if hidden > 0 and overlap is not None:
        name = _hidden_name(summed(parts, step_shape(planned.step, steps.sharding.tp)), overlap)
        calls = float(overlap.batches)
        out.append(_untabled(phase, name, "overlap", calls=calls, time=-hidden, wall=wall, bound="link"))
    return out


def _operator(phase: str, demand: Demand, cost: Cost, hardware: Hardware, step: tuple[int, float]) -> Term:
    """Describe one operator as a `Term`. step: (micro-batches, wall time in seconds) of the step that it is part of."""
    batches, wall = step
    calls = batches * _first(demand.count)
    time = calls * _first(cost.time)
    return Term(
        phase=phase,
        operator=demand.name,
        family=demand.family,
        calls=calls,
        time=time,
        share=time / wall,
        bound=BOUNDS[int(_first(cost.bound))],
        peak_share=_peak_share(demand, hardware, time / batches),
        basis=BASES[int(_first(cost.basis))],
        spread=_first(cost.spread),
    )


def _untabled(phase: str, operator: str, family: str, *, calls: float, time: float, wall: float, bound: str) -> Term:
    """Make a term for time that no operator accounts for: host time and overlap.

    calls: per step. time: seconds per step. wall: seconds of the whole step.
    """
    return Term(
        phase=phase,
        operator=operator,
        family=family,
        calls=calls,
        time=time,
        share=time / wall,
        bound=bound,
        peak_share=NAN,
        basis="roofline",
        spread=NAN,
    )


def _hidden_name(cost: StepCost, overlap: Overlap) -> str:
    """Name the streams of work that hide behind another one, and that one."""
    streams = streams_of(cost, overlap).reshape(len(overlap.streams), -1)[:, 0]
    front = int(np.argmax(streams))
    behind = [name for i, name in enumerate(overlap.names()) if i != front and streams[i] > 0]
    return f"{' and '.join(behind)} behind {overlap.names()[front]}"


def _peak_share(demand: Demand, hardware: Hardware, time: float) -> float:
    """Return the achieved share of the peak (compute, memory or link) that an operator comes closest to.

    time: seconds per step of a micro-batch.
    """
    calls = _first(demand.count)
    message = _first(demand.message) * calls
    if message > 0:
        inside = _first(demand.shape["group"]) <= hardware.peers[0]
        fabric = hardware.link_bandwidth if inside else hardware.net_bandwidth
        return message / time / float(fabric[0])
    if demand.family == "host_link":
        return NAN  # a wait: what crosses the link to the host is not its demand
    peak = float(hardware.peak[0, int(_first(demand.compute))])
    arithmetic = _first(demand.flop) * calls / time / peak
    traffic = _first(demand.moved) * calls / time / float(hardware.bandwidth[0])
    return max(arithmetic, traffic)


def _first(values: Array | np.ndarray | float) -> float:
    """Return the first of `values` as a float."""
    return float(np.ravel(values)[0])
