"""Check a fleet by simulation: replay the mix of requests that each option gets, and judge every class by its SLO."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from hwdb import InputError
from perfmodel import Deployments, Slo, Workload, simulator
from perfmodel.arrays import Array, Mask
from perfmodel.estimates import overall
from perfmodel.simulator import Simulation
from perfmodel.workload import MS_PER_S
from search.fleet.busiest import Mix, busiest_mixes, workload_of
from search.fleet.fleet import FleetPlan
from search.fleet.modelled import Modelled
from search.fleet.operating import Served
from search.fleet.regions import shorter
from search.scenario import OVER_THE_NETWORK
from search.searchers import Progress

#: Most replicas of an option that are simulated, at their part of the rate. chosen: more replicas behind one router
#: wait no longer, and take longer to simulate.
MOST_REPLICAS = 16


def verified(found: FleetPlan, *, seed: int = 0, progress: Progress | None = None) -> list[dict[str, Any]]:
    """Simulate each modelled option of a fleet at its busiest; return flat rows, one per option, class and SLO bound.

    Each row has the limit, the value of the closed form in the mix and the simulated one, both with the network to the
    users, and whether that is kept.
    `slo_attainment`: share of the requests of the class that stay within all its bounds. Raises `InputError` where no
    option is modelled.
    """
    modelled = found.modelled
    chosen = [] if modelled is None else busiest_mixes(found, modelled)
    if modelled is None or not chosen:
        raise InputError("no option of this fleet is modelled: stated throughputs cannot be simulated")
    rows = []
    for done, mix in enumerate(chosen):
        if progress:
            progress(done, len(chosen))
        rows += _rows(found, modelled, mix, seed)
    return rows


def _rows(found: FleetPlan, modelled: Modelled, mix: Mix, seed: int) -> list[dict[str, Any]]:
    """Simulate one mix; return its rows."""
    served, row, o, t = mix.served, mix.row, mix.option, mix.period
    layout = served.batch.layouts.take(np.array([row]))
    count = float(layout.replicas[0])
    some = min(count, MOST_REPLICAS)
    run = _simulated(served, replace(layout, replicas=np.array([some])), workload_of(mix, modelled, some / count), seed)
    option, out = found.problem.options[o], []
    for kind, alone in mix.by_class(mix.estimates()):
        slo, mine = modelled.slos[kind], _of_kind(run, served.kind[served.kind[:, row] >= 0, row] == kind)
        far = found.problem.round_trip(option, found.problem.classes[kind])
        seen = simulator.window(run)
        seen = replace(seen, counted=seen.counted & mine, asked=seen.asked & mine)
        kept = simulator.attained(run, shorter(slo, far) or slo)[seen.asked]
        share = float(kept.mean()) if seen.asked.any() else float("nan")
        for bound in slo.objectives:
            more = far if bound.metric in OVER_THE_NETWORK else 0.0
            value = simulator.latency(run, bound.metric, seen).at(bound.statistic) + more
            out.append(
                {
                    "option": option.name,
                    "model": served.model,
                    "class": found.problem.classes[kind],
                    "period": t + 1,
                    "replicas": int(count),
                    "request_rate_rps": float(found.shares[o, kind, t] * found.problem.rate[t, kind]),
                    "slo_bound": bound.key,
                    "limit_ms": MS_PER_S * bound.limit,
                    "closed_form_ms": MS_PER_S * (float(overall(alone, bound.metric, bound.statistic)[0]) + more),
                    "simulated_ms": MS_PER_S * value,
                    "kept": bool(value <= bound.limit) and not simulator.unstable(run),
                    "slo_attainment": share,
                }
            )
    return out


def _simulated(served: Served, layout: Deployments, work: Workload, seed: int) -> Simulation:
    """Replay the requests of a mix on the replicas of one option."""
    target, replicas = served.batch.target, float(layout.replicas[0])
    count = int(max(simulator.COUNT, simulator.COUNT_REPLICA * replicas))
    bounds = tuple(dict.fromkeys(o for slo in _slos(served) for o in slo.objectives))
    drawn = simulator.offered(work, count=count, seed=seed)
    return simulator.simulate(
        target.model, layout, drawn, slo=Slo(bounds), engine=target.engine, costs=target.costs, seed=seed
    )


def _slos(served: Served) -> Sequence[Slo]:
    """Return the SLOs whose figures a run has to know; the task's own stands for those of all classes."""
    return served.batch.slos or (served.batch.target.slo,)


def _of_kind(run: Simulation, mine: Mask) -> Mask:
    """Return which requests of a run are of a class, (R,). mine: (L,) True for the length classes of the class."""
    kinds: Array = np.asarray(run.traffic.kind)
    return np.asarray(mine[kinds.astype(np.intp)] if len(mine) > 1 else np.ones(len(kinds), dtype=bool))
