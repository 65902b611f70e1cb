"""Check what a replica serves of its mix of classes, and tighten the program where that is less than it counts on.

The program adds up loads: a replica spends part of its time on each class. In a mix, the long prompts of one class
delay the tokens of another. So each mix of the solved fleet is estimated as what it is, one workload of several
classes, and each class is judged by its own SLO in it. Where the mix reaches less than its classes do one by one, the
throughput of that option is lowered, and the program is solved again.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from perfmodel import Estimates, Slo
from perfmodel.arrays import Array, Index, Mask
from search.fleet.accounting.fleet import FleetPlan
from search.fleet.checks.operating import Served, mixes
from search.fleet.integer_program.relax import FleetInfeasible
from search.fleet.problem_data.problem import FleetProblem
from search.fleet.replicas.batches import ratio_of
from search.fleet.replicas.modelled import Modelled
from search.fleet.replicas.rates import greatest_rates

#: A mix may reach less than its classes do one by one by this part before it counts. Chosen: below the error of the
#: estimates, and a few per cent of the utilisation that is left free anyway.
TOLERANCE = 0.05
#: Times that the program is solved again at most. Chosen: mixes move less from round to round.
MOST_ROUNDS = 3
#: Least use of a replica's capacity that has a mix to judge.
LEAST_USE = 1e-3


@dataclass(frozen=True)
class _Mixed:
    """The mixes of some options on one replica each, at any rate; each class has its own SLO."""

    served: Served
    slos: tuple[Slo, ...]
    problem: FleetProblem

    def estimates(self, rows: Index, rates: Array) -> Estimates:
        """Estimate the mixes at `rows` (M,), each at its rate (M,) in requests/s."""
        return self.served.batch.estimates(rows, rates)

    def ratio(self, estimates: Estimates, rows: Index) -> Array:
        """Return the worst ratio of a latency of a class to its limit, (M,); at most 1 where all are kept."""
        own, confidence = self.served, self.served.batch.target.confidence
        here = replace(own, kind=own.kind[:, rows], option=own.option[rows], period=own.period[rows])
        worst = np.where(estimates.fits & ~estimates.saturated, 0.0, np.inf)
        for slo, of, some in here.judged(self.problem, estimates, self.slos):
            worst[of] = np.maximum(worst[of], ratio_of(some, slo, confidence))
        return worst


def mix_factors(found: FleetPlan, modelled: Modelled) -> Array:
    """Return what each option serves of the mixes that it has, as a share of what the program counts on, (O,).

    It is 1 where that is enough within `TOLERANCE`, where an option serves one class at a time, and where its
    throughput is stated; 0 where the mix keeps the SLOs at no rate.
    """
    problem, out = found.problem, np.ones(len(found.problem.options))
    each = found.shares * problem.rate.T[None] / np.where(problem.serves(), problem.throughput, np.inf)[:, :, None]
    for every in mixes(found, modelled):
        mine = np.array([m in (every.model, "") for m in problem.class_models or ("",)])
        several = (each * mine[:, None] > 0).sum(axis=1) > 1  # (O, P)
        busy = (each * mine[:, None]).sum(axis=1) / np.maximum(found.replicas, 1)
        rows = np.nonzero(several[every.option, every.period] & (busy[every.option, every.period] > LEAST_USE))[0]
        if not len(rows):
            continue
        served = _of_one_replica(every, rows)
        used = busy[served.option, served.period] * [problem.options[o].most_used for o in served.option]
        part = served.batch.load.rate / every.batch.layouts.replicas[rows]
        full = part / used  # requests/s at which the program thinks a replica full
        mixed, at = _Mixed(served, modelled.slos, problem), np.arange(len(rows))
        ratio = mixed.ratio(mixed.estimates(at, full * (1.0 - TOLERANCE)), at)
        short = np.nonzero(ratio > 1.0)[0]
        if len(short):
            less = _Mixed(_rows(served, short), modelled.slos, problem)
            reached = greatest_rates(less, len(short))[0] / full[short]
            np.minimum.at(out, served.option[short], reached)
    return out


def _of_one_replica(served: Served, rows: Index) -> Served:
    """Return the mixes at `rows` on one replica each, which gets a part of the load of all equal ones."""
    few = _rows(served, rows)
    one = replace(few.batch.layouts, replicas=np.ones(len(rows)))
    return replace(few, batch=replace(few.batch, layouts=one))


def _rows(served: Served, rows: Index) -> Served:
    """Return the mixes at `rows`."""
    batch, kind = served.batch.take(rows), served.kind[:, rows]
    return Served(served.model, served.option[rows], served.period[rows], batch, kind)


def tightened(
    problem: FleetProblem, modelled: Modelled, solve: Callable[[FleetProblem], FleetPlan]
) -> tuple[FleetPlan, tuple[str, ...]]:
    """Solve a fleet until every replica serves the mix that it is given; returns it and remarks on what was lowered.

    solve: finds the fleet of a problem. Raises `FleetInfeasible` where no fleet is left, with what was lowered.
    """
    found, whole = solve(problem), np.ones(len(problem.options))
    for _ in range(MOST_ROUNDS):
        factors = mix_factors(found, modelled)
        if (factors >= 1.0).all():
            break
        whole = whole * factors
        try:
            found = solve(slowed(problem, whole))
        except FleetInfeasible as error:
            told = _lowered(problem, whole, whole < 1.0)
            raise FleetInfeasible(error.message, error.relaxations, (*error.remarks, *told)) from None
    return found, _lowered(problem, whole, (whole < 1.0) & (found.replicas.any(axis=1) | (whole == 0.0)))


def _lowered(problem: FleetProblem, whole: Array, named: Mask) -> tuple[str, ...]:
    """Return a sentence about each of the `named` options, (O,), that counts with a share `whole`, (O,), of itself."""
    told = []
    for o in np.nonzero(named)[0]:
        name, mix = problem.options[o].name, "the mix of classes that it was given"
        if whole[o]:
            share = f"counts with {100.0 * whole[o]:.0f} % of its throughput"
            told.append(f"{name} {share}: {mix} reaches no more than that within the SLOs of all of them")
        else:
            told.append(f"{name} is left out: {mix} keeps the SLOs of all of them at no rate")
    return tuple(told)


def slowed(problem: FleetProblem, factor: Array) -> FleetProblem:
    """Return the problem with the throughput of each option times its factor, (O,)."""
    worlds = tuple(replace(w, throughput=w.throughput * factor[:, None]) for w in problem.worlds)
    return replace(problem, throughput=problem.throughput * factor[:, None], worlds=worlds)
