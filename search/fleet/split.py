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

from hwdb import Infeasible
from perfmodel.arrays import Array
from search.fleet.limits import mean_limits
from search.fleet.periods import options_join
from search.fleet.problem import FleetProblem
from search.fleet.program import Ask, Program, formulate
from search.fleet.solve import run_solver
from search.scenario import DEFAULT_GAP, TIME_LIMIT_S

#: Options x periods from which a fleet is solved so. chosen: below, the whole program takes seconds.
LARGE = 400
#: Periods that are solved at the same time. chosen: the solver leaves Python while it works.
AT_ONCE = 2
#: Kinds of cases that the linear program of the prices leaves out.
LEFT_OUT = frozenset({"chance"})
#: Parts of the time for the bounds and for the fleets of all periods, times those that are solved at once; and parts of
#: the gap at which each period may stop. chosen: bounds hardly rise after a second, and the split takes the rest.
BOUND_TIME, FLEET_TIME = 0.2 * AT_ONCE, 0.55 * AT_ONCE
BOUND_GAP, FLEET_GAP = 0.8, 0.2
#: Kind of a reserved supply in the problem of one period. It has a name of its own, so that it can stand beside others.
AT_ITS_WORTH = "at its worth"
#: A mean price below this is none, USD per hour.
SMALLEST = 1e-12
#: Kinds of cases that need no place in the last program: its replicas have been found to survive them.
SETTLED = frozenset({"spare", "domain", "spot", "chance", "case"})

#: Solves one program within shares of the time and of the gap; None where it has no solution.
Solve = Callable[[FleetProblem, Ask, tuple[float, float]], Program | None]


def splits(problem: FleetProblem) -> bool:
    """Return whether a checked problem is large and only reserved devices join its periods."""
    supplies = problem.inventory.supplies
    large = len(problem.options) * problem.periods >= LARGE
    reserved = any(s.kind == "reserved" for s in supplies) and not any(s.least_spend or s.least for s in supplies)
    budget = np.isfinite(problem.inventory.budget)  # it counts the price that a reserved device has, not its worth
    joined = options_join(problem) or mean_limits(problem) or problem.may_miss or problem.objective != "cost" or budget
    return bool(problem.elastic and large and reserved and not joined)


def split(problem: FleetProblem, solve: Solve) -> Program | None:
    """Return the solved program of a problem that `splits`, with its bound; None where some period has no solution.

    Every period is solved twice: with reserved devices at what they are worth there, which gives the bound, and with
    the number of them that the linear program reserves, which gives the fleet. Whole replicas may need more reserved
    devices than that: such a period is solved again without the number. Raises `Infeasible` where a period found no
    fleet in time.
    """
    worth, level = reserved(problem)
    share = problem.hours / problem.hours.sum()
    kept = {d: np.zeros(problem.periods) for d in level}

    def bound_of(t: int) -> float:
        """Return the bound on the cost of period t, inf where it has no solution.

        It is that of the linear program where the solver found no fleet in time, or told none (CBC).
        """
        alone = one_period(problem, worth, t)
        try:
            found = solve(alone, Ask(objective="cost"), (BOUND_TIME / problem.periods, BOUND_GAP))
        except Infeasible:
            return relaxed(alone)
        if found is None:
            return np.inf
        return found.bound if np.isfinite(found.bound) else relaxed(alone)

    def fleet_of(t: int) -> Program | None:
        """Return the solved program of period t with the devices that are reserved, or more where these are too few."""
        part = (FLEET_TIME / problem.periods, FLEET_GAP)
        try:
            found = solve(one_period(problem, kept, t, level), Ask(objective="cost"), part)
        except Infeasible:
            found = None
        return found or solve(one_period(problem, worth, t), Ask(objective="cost"), part)

    with ThreadPoolExecutor(AT_ONCE) as pool:
        lowest = np.array(list(pool.map(bound_of, range(problem.periods))))
        found = [] if np.isposinf(lowest).any() else list(pool.map(fleet_of, range(problem.periods)))
    parts = [part for part in found if part is not None]
    return _joined(problem, parts, float(share @ lowest)) if len(parts) == problem.periods else None


def relaxed(problem: FleetProblem) -> float:
    """Return the least cost of a problem without whole numbers, a bound on that with them; inf for no solution."""
    import pulp

    linear = formulate(problem, Ask(objective="cost")).linear
    linear.solve(pulp.HiGHS(mip=False, msg=False, threads=1))
    solved = linear.sol_status == pulp.LpSolutionOptimal
    return float(pulp.value(linear.objective) or 0.0) if solved else np.inf


def _joined(problem: FleetProblem, parts: list[Program], bound: float) -> Program | None:
    """Return the solved program with the replicas of its periods. parts: (P,) solved programs. bound: on the cost."""
    whole = formulate(problem, Ask(objective="cost", without=SETTLED))
    for t, part in enumerate(parts):
        numbers = part.solved()
        for o in range(len(problem.options)):
            _fix(whole.replicas[o, t], float(numbers.replicas[o, 0]))
            if (o, t) in whole.spot:
                _fix(whole.spot[o, t], float(numbers.spot[o, 0]))
    return _with_bound(whole, bound)


def _with_bound(whole: Program, bound: float) -> Program | None:
    """Solve the program whose replicas are fixed, and give it a bound."""
    if not run_solver(whole, "highs", TIME_LIMIT_S, DEFAULT_GAP):
        return None
    whole.bound = bound
    return whole


def _fix(variable: object, value: float) -> None:
    """Fix a variable of PuLP, which ships no types, at a value."""
    variable.lowBound = value  # type: ignore[attr-defined]
    variable.upBound = value  # type: ignore[attr-defined]


def reserved(problem: FleetProblem) -> tuple[dict[str, Array], dict[str, float]]:
    """Return what a reserved device is worth in each period, device -> (P,) USD per hour, and how many are reserved.

    How many are reserved is the number of the linear program, rounded. The worths are the duals of its constraint
    `source`, scaled so that their mean is the price.
    """
    import pulp

    program = formulate(problem, Ask(objective="cost", without=LEFT_OUT))
    linear, share = program.linear, problem.hours / problem.hours.sum()
    linear.solve(pulp.HiGHS(mip=False, msg=False, threads=1))
    rows = {constraint.name: abs(constraint.pi or 0.0) for constraint in linear.constraints()}
    worth, level, supplies = {}, {}, problem.inventory.supplies
    for k, supply in enumerate(supplies):
        if supply.kind == "reserved":
            first = min(i for i, s in enumerate(supplies) if s.device == supply.device)
            dual = np.array([rows.get(f"source_{first}_{t}", 0.0) for t in range(problem.periods)])
            each = np.maximum(dual / share + supply.usd_per_hour - dual.sum(), 0.0)
            worth[supply.device] = each * supply.usd_per_hour / max(float(share @ each), SMALLEST)
            level[supply.device] = float(np.rint(program.held[k, 0].varValue or 0.0))
    return worth, level


def one_period(
    problem: FleetProblem, worth: dict[str, Array], t: int, level: dict[str, float] | None = None
) -> FleetProblem:
    """Return the problem of period t alone, whose reserved devices cost what they are worth there.

    worth: device -> (P,) USD per hour. level: most of them by device; None for as many as the supply has.
    """
    supplies = [
        replace(
            s,
            kind=AT_ITS_WORTH,
            usd_per_hour=float(worth[s.device][t]),
            most=min(s.most, level[s.device]) if level is not None else s.most,
        )
        if s.kind == "reserved"
        else s
        for s in problem.inventory.supplies
    ]
    alone = replace(problem, elastic=False, inventory=replace(problem.inventory, supplies=tuple(supplies)))
    return alone.at_periods(np.array([t]), problem.rate[[t]], np.ones(1))
