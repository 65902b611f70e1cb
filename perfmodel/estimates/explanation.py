"""One candidate, operator by operator: where the time of its prefill and decode passes goes, and what limits it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from perfmodel.costs import BOUNDS, CostModel, StepCost, default, priced, streams_of, summed
from perfmodel.deployment import Deployments
from perfmodel.engines import Engine, overlap_of
from perfmodel.engines import engine as engine_of
from perfmodel.estimates.estimator import per_replica, prepare
from perfmodel.hardware import Hardware
from perfmodel.models import ModelSpec
from perfmodel.operators import Demand, step_shape
from perfmodel.serving import PlannedStep, StepModel, serve
from perfmodel.vocabulary import BASES
from perfmodel.workload import Workload, load_of


@dataclass(frozen=True)
class Term:
    """One operator of one phase. time: s a pass, all layers; share: of the pass. bound: what limits it.

    peak_share: achieved share of the device's dense peak, memory bandwidth or link bandwidth, whichever it comes
    closest to; NaN for host time and waits for host memory. basis, spread: what the time rests on and the log
    half-width of its 80 % interval.
    What hides behind other work is a term of family `overlap` whose time is below zero.
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
    """The terms of candidate `row`'s prefill pass and decode pass at its operating point, host time included.

    They sum to what `estimate` uses: the same functions priced once more. The prefill is that of the mean prompt.
    """
    chosen = engine_of(engine) if isinstance(engine, str) else engine
    costs = costs or default(chosen)
    one = deployments.take(np.array([row]))
    demand = load_of(workload, 1)
    setup = prepare(model, one, chosen, costs, demand)
    replica = per_replica(demand, one.replicas)
    served = serve(setup.passes, replica, setup.memory.room_for())
    seen = np.where(np.isfinite(served.seen), served.seen, served.running)
    new, cached = replica.mean(replica.new), replica.mean(replica.cached)
    passes = setup.passes
    return (
        *_phase("prefill", passes, passes.prefill_step(new, cached)),
        *_phase("decode", passes, passes.decode_step(seen, replica.decode_context, replica.drafts)),
    )


def _phase(phase: str, passes: StepModel, one: PlannedStep) -> list[Term]:
    """Operators of one pass, then what the host adds, then (below zero) what hides behind something else."""
    cost = passes.price(one.step)
    batches = int(np.ravel(cost.batches)[0])
    every = list(priced(passes.sharding, passes.hardware, passes.costs, one.step.part(batches)))
    wall = float(np.ravel(passes.wall(cost, one.seqs, captured=one.captured, factor=one.factor))[0])
    out = []
    for d, c in every:
        if np.all(d.count > 0):
            calls = batches * float(np.ravel(d.count)[0])
            time = calls * float(np.ravel(c.time)[0])
            out.append(
                Term(
                    phase,
                    d.name,
                    d.family,
                    calls,
                    time,
                    time / wall,
                    BOUNDS[int(np.ravel(c.bound)[0])],
                    _peak_share(d, passes.hardware, time / batches),
                    BASES[int(np.ravel(c.basis)[0])],
                    float(np.ravel(c.spread)[0]),
                )
            )
    hidden = float(np.ravel(cost.hidden)[0])
    host = wall - sum(t.time for t in out) + hidden
    if host > 1e-9 * wall:
        out.append(
            Term(phase, "host", "host", 1.0, host, host / wall, "launch", float("nan"), "roofline", float("nan"))
        )
    if hidden > 0:
        out.append(_hidden(phase, passes, summed(every, step_shape(one.step, passes.sharding.tp)), hidden, wall))
    return out


def _hidden(phase: str, passes: StepModel, cost: StepCost, hidden: float, wall: float) -> Term:
    """Time below zero: what runs behind something else; its name says who hides behind whom."""
    way = overlap_of(passes.engine.overlap, passes.engine.overlap_share)
    assert way is not None  # something hides
    streams = streams_of(cost, way).reshape(len(way.streams), -1)[:, 0]
    front = int(np.argmax(streams))
    behind = [name for i, name in enumerate(way.names()) if i != front and streams[i] > 0]
    name = f"{' and '.join(behind)} behind {way.names()[front]}"
    nan = float("nan")
    return Term(phase, name, "overlap", float(way.batches), -hidden, -hidden / wall, "link", nan, "roofline", nan)


def _peak_share(demand: Demand, hardware: Hardware, time: float) -> float:
    """Achieved share of whichever ceiling the operator comes closest to."""
    calls = float(np.ravel(demand.count)[0])
    message = float(np.ravel(demand.message)[0]) * calls
    if message > 0:
        group = float(np.ravel(demand.shape["group"])[0])
        fabric = hardware.link_bandwidth if group <= hardware.peers[0] else hardware.net_bandwidth
        return message / time / float(fabric[0])
    if demand.family == "host_link":
        return float("nan")  # a wait: what crosses the link to the host is not its demand
    peak = float(hardware.peak[0, int(np.ravel(demand.compute)[0])])
    arithmetic = float(np.ravel(demand.flop)[0]) * calls / time / peak
    traffic = float(np.ravel(demand.moved)[0]) * calls / time / float(hardware.bandwidth[0])
    return max(arithmetic, traffic)
