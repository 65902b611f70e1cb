"""Solve a large elastic fleet period by period where only reserved devices join the periods.

A reserved device costs the same in every period. Its price over the day is split into one price per period: what it is
worth there, by the duals of the linear program. With these prices the periods are problems of their own, and the mean
of their bounds bounds the whole (Lagrange). Their replicas stay; how many devices are reserved for them is solved last.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

import numpy as np

from hwdb import Infeasible
from perfmodel.arrays import Array
from search.fleet.clock import LEAST_S, Clock
from search.fleet.problem import FleetProblem
from search.fleet.program import Ask, Program, formulate
from search.fleet.solve import Effort, Solver, available_solver, linear_bound, run_solver, solver_of
from search.scenario import DEFAULT_GAP, TIME_LIMIT_S

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


def by_period(problem: FleetProblem, effort: Effort) -> Program | None:
    """Return the solved program of a problem that splits, with its bound; None where some period has no solution.

    Every period is solved twice: with reserved devices at what they are worth there, which gives the bound, and with
    the number of them that the linear program reserves, which gives the fleet. Whole replicas may need more reserved
    devices than that: such a period is solved again without the number. Raises `Infeasible` where a period found no
    fleet in time.
    """
    worth, level = reserved(problem, effort)
    each = _Periods(problem, effort, effort.clock.left(), worth, level)
    with ThreadPoolExecutor(AT_ONCE) as pool:
        lowest = np.array(list(pool.map(each.bound_of, range(problem.periods))))
        found = [] if np.isposinf(lowest).any() else list(pool.map(each.fleet_of, range(problem.periods)))
    parts = [part for part in found if part is not None]
    bound = float(problem.hours @ lowest / problem.hours.sum())
    return _joined(problem, parts, bound, each.solver) if len(parts) == problem.periods else None


@dataclass(frozen=True)
class _Periods:
    """The periods of a problem. seconds: for all. worth, level: of reserved devices by name, see `reserved`."""

    problem: FleetProblem
    effort: Effort
    seconds: float
    worth: dict[str, Array]
    level: dict[str, float]

    @property
    def solver(self) -> Solver:
        """Return the name of the solver."""
        return self.effort.solver or available_solver()

    def solve(self, alone: FleetProblem, shares: tuple[float, float]) -> Program | None:
        """Solve the program of one period within shares of the time and of the gap."""
        time, gap = shares
        clock = Clock.of(min(self.seconds * time / self.problem.periods, self.effort.clock.left()))
        return replace(self.effort, clock=clock, gap=self.effort.gap * gap).solve(alone, Ask(objective="cost"))

    def relaxed(self, alone: FleetProblem) -> float:
        """Return the bound of the linear program of one period, 0 where it takes too long."""
        program = formulate(alone, Ask(objective="cost"))
        return max(linear_bound(program, self.solver, max(self.effort.clock.left(), LEAST_S)), 0.0)

    def bound_of(self, t: int) -> float:
        """Return the bound on the cost of period t, inf where it has no solution.

        It is that of the linear program where the solver found no fleet in time, or told none (CBC).
        """
        alone = one_period(self.problem, self.worth, t)
        try:
            found = self.solve(alone, (BOUND_TIME, BOUND_GAP))
        except Infeasible:
            return self.relaxed(alone)
        if found is None:
            return np.inf
        return found.bound if np.isfinite(found.bound) else self.relaxed(alone)

    def fleet_of(self, t: int) -> Program | None:
        """Return the solved program of period t with the devices that are reserved, or more where these are too few."""
        kept = {device: np.zeros(self.problem.periods) for device in self.level}
        try:
            found = self.solve(one_period(self.problem, kept, t, self.level), (FLEET_TIME, FLEET_GAP))
        except Infeasible:
            found = None
        return found or self.solve(one_period(self.problem, self.worth, t), (FLEET_TIME, FLEET_GAP))


def _joined(problem: FleetProblem, parts: list[Program], bound: float, solver: Solver) -> Program | None:
    """Return the solved program with the replicas of its periods. parts: (P,) solved programs. bound: on the cost."""
    whole = formulate(problem, Ask(objective="cost", without=SETTLED))
    for t, part in enumerate(parts):
        numbers = part.solved()
        for o in range(len(problem.options)):
            _fix(whole.replicas[o, t], float(numbers.replicas[o, 0]))
            if (o, t) in whole.spot:
                _fix(whole.spot[o, t], float(numbers.spot[o, 0]))
    return _with_bound(whole, bound, solver)


def _with_bound(whole: Program, bound: float, solver: Solver) -> Program | None:
    """Solve the program whose replicas are fixed, and give it a bound."""
    if not run_solver(whole, solver, TIME_LIMIT_S, DEFAULT_GAP):
        return None
    whole.bound = bound
    return whole


def _fix(variable: object, value: float) -> None:
    """Fix a variable of PuLP, which ships no types, at a value."""
    variable.lowBound = value  # type: ignore[attr-defined]
    variable.upBound = value  # type: ignore[attr-defined]


def reserved(problem: FleetProblem, effort: Effort) -> tuple[dict[str, Array], dict[str, float]]:
    """Return what a reserved device is worth in each period, device -> (P,) USD per hour, and how many are reserved.

    How many are reserved is the number of the linear program, rounded. The worths are the duals of its constraint
    `source`, scaled so that their mean is the price.
    """
    program = formulate(problem, Ask(objective="cost", without=LEFT_OUT))
    linear, share = program.linear, problem.hours / problem.hours.sum()
    linear.solve(solver_of(effort.solver or available_solver(), effort.clock.left(), effort.gap, whole=False))
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
