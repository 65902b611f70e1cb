"""Solve a large elastic fleet period by period where only reserved devices join the periods.

A reserved device costs the same in every period. Its price over the day is split into one price per period: what it is
worth there, by the duals of the linear program. With these prices the periods are problems of their own, and the mean
of their bounds bounds the whole (Lagrange). Their replicas stay; how many devices are reserved for them is solved last.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np

from perfmodel.arrays import Array
from search.fleet.limits import mean_limits
from search.fleet.problem import FleetProblem
from search.fleet.program import Ask, Program, formulate
from search.scenario import Supply

#: Options x periods from which a fleet is solved so. chosen: below, the whole program takes seconds.
LARGE = 400
#: Periods that are solved at the same time. chosen: the solver leaves Python while it works.
AT_ONCE = 2
#: Kinds of cases that the linear program of the prices leaves out: they change what a device is worth by little.
LEFT_OUT = frozenset({"spare", "domain", "chance", "case"})
#: Kinds of cases that need no place in the last program: its replicas have been found to survive them.
SETTLED = frozenset({"spare", "domain", "spot", "chance", "case"})

#: Solves one program within a share of the time; None where it has no solution.
Solve = Callable[[FleetProblem, Ask, float], Program | None]


def splits(problem: FleetProblem) -> bool:
    """Return whether a checked problem is large and only reserved devices join its periods."""
    supplies = problem.inventory.supplies
    alone = all(not (o.start_up_h or o.min_stay_h or o.fixed or o.migration_usd) for o in problem.options)
    alone = alone or not problem.elastic
    large = len(problem.options) * problem.periods >= LARGE
    reserved = any(s.kind == "reserved" for s in supplies) and not any(s.least_spend or s.least for s in supplies)
    joined = mean_limits(problem) or problem.may_miss or problem.objective != "cost"
    return bool(problem.elastic and large and alone and reserved and not joined)


def split(problem: FleetProblem, solve: Solve) -> Program | None:
    """Return the solved program of a problem that `splits`, with its bound; None where some period has no solution."""
    worth, share = reserved_worth(problem), problem.hours / problem.hours.sum()

    def of(t: int) -> Program | None:
        """Solve period t."""
        return solve(one_period(problem, worth, t), Ask(objective="cost"), 1.0 / problem.periods * AT_ONCE)

    with ThreadPoolExecutor(AT_ONCE) as pool:
        found = list(pool.map(of, range(problem.periods)))
    parts = [part for part in found if part is not None]
    if len(parts) < problem.periods:
        return None
    whole = formulate(problem, Ask(objective="cost", without=SETTLED))
    for t, part in enumerate(parts):
        numbers = part.solved()
        for o in range(len(problem.options)):
            _fix(whole.replicas[o, t], float(numbers.replicas[o, 0]))
            if (o, t) in whole.spot:
                _fix(whole.spot[o, t], float(numbers.spot[o, 0]))
    return _with_bound(whole, float(share @ np.array([p.bound for p in parts])))


def _with_bound(whole: Program, bound: float) -> Program | None:
    """Solve the program whose replicas are fixed, and give it a bound."""
    from search.fleet.solve import DEFAULT_GAP, TIME_LIMIT_S, run_solver

    if not run_solver(whole, "highs", TIME_LIMIT_S, DEFAULT_GAP):
        return None
    whole.bound = bound
    return whole


def _fix(variable: object, value: float) -> None:
    """Fix a variable of PuLP, which ships no types, at a value."""
    variable.lowBound = value  # type: ignore[attr-defined]
    variable.upBound = value  # type: ignore[attr-defined]


def reserved_worth(problem: FleetProblem) -> dict[str, Array]:
    """Return what a reserved device is worth in each period, device -> (P,) USD per hour; the mean is its price.

    They are the duals of the constraint `source` in the linear program without failures, scaled to the price.
    """
    import pulp

    program = formulate(problem, Ask(objective="cost", without=LEFT_OUT))
    linear, share = program.linear, problem.hours / problem.hours.sum()
    linear.solve(pulp.HiGHS(mip=False, msg=False, threads=1))
    rows = {constraint.name: abs(constraint.pi or 0.0) for constraint in linear.constraints()}
    out = {}
    supplies = problem.inventory.supplies
    for supply in supplies:
        if supply.kind == "reserved":
            first = min(k for k, s in enumerate(supplies) if s.device == supply.device)
            dual = np.array([rows.get(f"source_{first}_{t}", 0.0) for t in range(problem.periods)])
            missing = supply.usd_per_hour - dual.sum()
            out[supply.device] = np.maximum(dual / share + missing, 0.0)
            out[supply.device] *= supply.usd_per_hour / max(float(share @ out[supply.device]), 1e-12)
    return out


def one_period(problem: FleetProblem, worth: dict[str, Array], t: int) -> FleetProblem:
    """Return the problem of period t alone, whose reserved devices cost what they are worth there."""
    supplies: list[Supply] = [
        replace(s, kind="owned", usd_per_hour=float(worth[s.device][t])) if s.kind == "reserved" else s
        for s in problem.inventory.supplies
    ]
    return replace(
        problem,
        rate=problem.rate[[t]],
        hours=np.ones(1),
        gco2_per_kwh=problem.gco2_per_kwh[[t]],
        elastic=False,
        inventory=replace(problem.inventory, supplies=tuple(supplies)),
    )
