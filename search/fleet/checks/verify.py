"""Check a fleet by simulation: replay the mix of requests that each option gets, and judge every class by its SLO."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from hwdb import InputError
from perfmodel import Slo, Workload, simulator
from perfmodel.arrays import Array, Mask
from perfmodel.estimates import overall
from perfmodel.simulator import Simulation
from perfmodel.unit_factors import MS_PER_S
from search.fleet.accounting.fleet import FleetPlan
from search.fleet.checks.busiest import Mix, busiest_mixes, workload_of
from search.fleet.checks.operating import Served
from search.fleet.options.regions import shorter
from search.fleet.replicas.modelled import Modelled
from search.fleet.replicas.pairs import PairBatch
from search.scenario import OVER_THE_NETWORK
from search.searchers import Progress

#: Most replicas of an option that are simulated, at their part of the rate. Chosen: more replicas behind one router
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
        rows += simulated_rows(found, modelled, mix, seed)
    return rows


def simulated_rows(found: FleetPlan, modelled: Modelled, mix: Mix, seed: int, added: int = 0) -> list[dict[str, Any]]:
    """Simulate one mix and return its rows; `added` replicas share its requests, which the closed form is without."""
    served, row, o, t = mix.served, mix.row, mix.option, mix.period
    count = int(found.replicas[o, t])
    some = max(min(count + added, MOST_REPLICAS // _workers(served, row)), 1)
    load = count / (count + added)  # of one replica, relative to what it has without more of them
    work = workload_of(mix, modelled, load * some / float(served.batch.layouts.replicas[row]))
    run = _simulated(served, row, some, work, seed)
    option, out = found.problem.options[o], []
    for kind, alone in mix.by_class(mix.estimates()):
        slo, mine = modelled.slos[kind], _of_kind(run, served.kind[served.kind[:, row] >= 0, row] == kind)
        far = found.problem.round_trip(option, found.problem.classes[kind])
        seen = simulator.window(run)
        seen = replace(seen, counted=seen.counted & mine, asked=seen.asked & mine)
        kept = simulator.attained(run, shorter(slo, far) or slo)[seen.asked]
        attained = float(kept.mean()) if seen.asked.any() else float("nan")
        for bound in slo.objectives:
            more = far if bound.metric in OVER_THE_NETWORK else 0.0
            value = simulator.latency(run, bound.metric, seen).at(bound.statistic) + more
            out.append(
                {
                    "option": option.name,
                    "model": served.model,
                    "class": found.problem.classes[kind],
                    "period": t + 1,
                    "replicas": count,
                    "request_rate_rps": float(found.shares[o, kind, t] * found.problem.rate[t, kind]),
                    "slo_bound": bound.key,
                    "limit_ms": MS_PER_S * bound.limit,
                    "closed_form_ms": MS_PER_S * (float(overall(alone, bound.metric, bound.statistic)[0]) + more),
                    "simulated_ms": MS_PER_S * value,
                    "kept": bool(value <= bound.limit) and not simulator.unstable(run),
                    "slo_attainment": attained,
                }
            )
    return out


def _workers(served: Served, row: int) -> int:
    """Return the workers of one replica: 1, or those of both pools of a pair."""
    return int(served.batch.workers[:, row].sum()) if isinstance(served.batch, PairBatch) else 1


def _simulated(served: Served, row: int, replicas: int, work: Workload, seed: int) -> Simulation:
    """Replay the requests of a mix on so many replicas of one option; pairs of pools put their workers together."""
    batch, target, at = served.batch, served.batch.target, np.array([row])
    pools = [batch.layouts.take(at)]
    counts = np.array([float(replicas)])
    if isinstance(batch, PairBatch):
        pools, counts = [*pools, batch.prefill.take(at)], batch.workers[::-1, row] * replicas
    decode, *prefill = (replace(p, replicas=np.array([n])) for p, n in zip(pools, counts, strict=True))
    count = int(max(simulator.COUNT, simulator.COUNT_REPLICA * counts.sum()))
    bounds = tuple(dict.fromkeys(o for slo in _slos(served) for o in slo.objectives))
    drawn = simulator.offered(work, count=count, seed=seed)
    return simulator.simulate(
        target.model,
        decode,
        drawn,
        slo=Slo(bounds),
        prefill=prefill[0] if prefill else None,
        engine=target.engine,
        costs=target.costs,
        seed=seed,
    )


def _slos(served: Served) -> Sequence[Slo]:
    """Return the SLOs whose figures a run has to know; the task's own stands for those of all classes."""
    return served.batch.slos or (served.batch.target.slo,)


def _of_kind(run: Simulation, mine: Mask) -> Mask:
    """Return which requests of a run are of a class, (R,). mine: (L,) True for the length classes of the class."""
    kinds: Array = np.asarray(run.traffic.kind)
    return np.asarray(mine[kinds.astype(np.intp)] if len(mine) > 1 else np.ones(len(kinds), dtype=bool))
