"""Find the least-cost fleet: whole replicas of options and continuous shares of request classes, with proof.

`FleetProblem` (in `search.fleet.problem`) is plain data, `formulate` (in `search.fleet.program`) turns it into an
integer program, and `fleet_plan` solves it. The docstring of `search.fleet.program` has the formulation, with the names
that code, messages and docs use.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from hwdb import Infeasible
from search.fleet.fleet import LIMIT_TOLERANCE, Binding, FleetPlan
from search.fleet.limits import INTEGRALITY_TOLERANCE, limits, prices, served_by_none
from search.fleet.periods import of_busiest, period_by_period
from search.fleet.problem import FleetProblem, checked
from search.fleet.program import Program, formulate
from search.fleet.solve import Solver, available_solver, run_solver
from search.scenario import Inventory, Option

__all__ = ["Binding", "FleetInfeasible", "FleetPlan", "FleetProblem", "Inventory", "Option", "Relaxation", "fleet_plan"]

#: Relative distance from the optimum at which the solver may stop.
DEFAULT_GAP = 1e-6
#: Saving, relative to the fleet's cost, from which a limit counts as binding: the gap of the solutions compared.
LEAST_SAVING = 1e-6
#: Options from which a fleet mixes them.
MIXED = 2
#: Seconds that the solver may take by default. chosen.
TIME_LIMIT_S = 60.0


@dataclass(frozen=True)
class Relaxation:
    """One change that makes an infeasible fleet problem feasible. limits: those to raise, as name -> (from, to)."""

    limits: Mapping[str, tuple[float, float]]

    def __str__(self) -> str:
        def phrase(name: str, before: float, after: float) -> str:
            if name == "demand":
                return f"lower the demand to {after:.1%} of what is asked"
            return f"raise {describe(name)} from {before:,.6g} to {after:,.6g}{unit(name)}"

        return " and ".join(phrase(n, *change) for n, change in self.limits.items())


class FleetInfeasible(Infeasible):
    """Raised when no fleet satisfies the limits. relaxations: changes, each of which alone makes a fleet possible."""

    def __init__(self, message: str, relaxations: tuple[Relaxation, ...] = ()) -> None:
        ways = "; or ".join(str(r) for r in relaxations)
        super().__init__(message + (f": {ways}" if ways else ""))
        self.relaxations = relaxations


def describe(limit: str) -> str:
    """Describe a limit in words: `stock[h100-sxm]` is "the stock of h100-sxm"."""
    if limit.startswith("stock["):
        return f"the stock of {limit.removeprefix('stock[').removesuffix(']')}"
    return {"power": "the power limit", "budget": "the budget", "nodes": "the number of nodes"}.get(limit, limit)


def unit(limit: str) -> str:
    """Return the unit in which a message gives the limit called `limit`, with a leading space; "" for nodes."""
    return {"power": " W", "budget": " USD/h"}.get(limit, "" if limit == "nodes" else " devices")


def fleet_plan(
    problem: FleetProblem, solver: Solver | None = None, time_limit: float = TIME_LIMIT_S, gap: float = DEFAULT_GAP
) -> FleetPlan:
    """Solve `problem` for the least-cost fleet.

    Args:
        problem: options, classes, demand, limits.
        solver: `highs` or `cbc`; by default HiGHS, or CBC where HiGHS is not installed.
        time_limit: seconds per solution.
        gap: relative distance from the optimum at which the solver may stop.

    Raises:
        FleetInfeasible: no fleet satisfies the limits; the message says what to relax and by how much.
        InputError: the data contradict themselves.
    """
    problem, solver = checked(problem), solver or available_solver()
    unserved = served_by_none(problem)
    if unserved:
        names = ", ".join(repr(problem.classes[c]) for c in unserved)
        raise FleetInfeasible(f"no option serves request class(es) {names} within the SLO; relax it or offer others")
    few, stands = of_busiest(problem)
    if problem.elastic and problem.periods > 1:
        try:
            return period_by_period(problem, lambda one: _solved(one, solver, time_limit, gap))
        except FleetInfeasible:
            raise _infeasible(few, solver, time_limit) from None
    found = _solved(few, solver, time_limit, gap)
    return replace(
        found,
        problem=problem,
        replicas=np.repeat(found.replicas[:, :1], problem.periods, axis=1),
        shares=found.shares[:, :, stands],
    )


def _solved(problem: FleetProblem, solver: Solver, time_limit: float, gap: float) -> FleetPlan:
    """Solve a checked problem whose replicas are the same in all periods; the arguments are those of `fleet_plan`."""
    program = formulate(problem)
    if not run_solver(program, solver, time_limit, gap):
        raise _infeasible(problem, solver, time_limit)
    cost, bound = program.cost(), program.bound
    binding = () if problem.counts_devices else _binding(problem, program, solver, time_limit)
    if (prices(problem) == 0).any():
        program = _fewest_devices(program, solver, time_limit, gap)
    program = _of_one_option(program, solver, time_limit, gap)
    unit = np.nan if problem.counts_devices else 1.0
    return FleetPlan(
        problem=problem,
        replicas=program.solved_replicas(),
        shares=program.solved_shares(),
        usd_per_hour=cost * unit,
        bound=min(bound, cost) * unit,
        gap=max(0.0, (cost - bound) / cost) if cost > 0 else 0.0,
        binding=binding,
        solver=program.solver,
    )


def _fewest_devices(program: Program, solver: Solver, time_limit: float, gap: float) -> Program:
    """Return the solved program with the fewest devices among the fleets that cost no more than `program`'s."""
    cost = program.cost()
    fewest = formulate(program.problem, most_cost=cost + LEAST_SAVING * max(cost, 1.0))
    if not run_solver(fewest, solver, time_limit, gap) or fewest.cost() > cost + LEAST_SAVING * max(cost, 1.0):
        return program
    return fewest


def _of_one_option(program: Program, solver: Solver, time_limit: float, gap: float) -> Program:
    """Return the solved program with one option only, where a single class is served by several.

    It is `program` itself unless one of these options alone costs no more and takes no more devices.
    """
    problem, used = program.problem, np.nonzero(program.solved_replicas().any(axis=1))[0]
    if problem.rate.shape[1] > 1 or len(used) < MIXED:
        return program
    devices, cost = np.array([o.devices for o in problem.options]), program.cost()
    mixed = float((devices @ program.solved_replicas()).sum())
    for option in used:
        only = np.where(np.arange(len(devices))[:, None] == option, problem.throughput, 0.0)
        alone = formulate(replace(problem, throughput=only), most_cost=cost + LEAST_SAVING * max(cost, 1.0))
        possible = run_solver(alone, solver, time_limit, gap)
        if possible and float((devices @ alone.solved_replicas()).sum()) <= mixed + INTEGRALITY_TOLERANCE:
            return alone
    return program


def _infeasible(problem: FleetProblem, solver: Solver, time_limit: float) -> FleetInfeasible:
    """Return the error for a problem that no fleet satisfies, with the changes that would help."""
    told = "; ".join(["no fleet meets the demand within the limits", *problem.remarks])
    return FleetInfeasible(told, _relaxations(problem, solver, time_limit))


def _binding(problem: FleetProblem, program: Program, solver: Solver, time_limit: float) -> tuple[Binding, ...]:
    """Find the limits whose removal makes the fleet cheaper, the costliest first.

    Only a limit that one more replica of some option would exceed can bind. Each such limit is left out in turn and the
    program is solved again, so the saving is that of the whole limit, not a derivative.
    """
    found = []
    for name, (limit, taken) in limits(problem).items():
        used = program.used(name)
        if limit - used >= taken.max() * (1 - LIMIT_TOLERANCE):
            continue
        free = formulate(problem, without=frozenset({name}))
        if run_solver(free, solver, time_limit, DEFAULT_GAP):
            saving = program.cost() - free.cost()
            if saving > LEAST_SAVING * max(program.cost(), LIMIT_TOLERANCE):
                found.append(Binding(name=name, limit=limit, used=used, saving=saving))
    return tuple(sorted(found, key=lambda b: -b.saving))


def _relaxations(problem: FleetProblem, solver: Solver, time_limit: float) -> tuple[Relaxation, ...]:
    """Find the least changes that make the problem feasible: each limit alone, else all together; then less demand."""

    def least(names: frozenset[str]) -> Relaxation | None:
        """Find the least excess of the limits `names` that makes the problem feasible; None where no excess does."""
        elastic = formulate(problem, elastic=names)
        return Relaxation(elastic.raised()) if run_solver(elastic, solver, time_limit, DEFAULT_GAP) else None

    bounds = limits(problem)
    found = [r for r in (least(frozenset({name})) for name in bounds) if r is not None]
    if not found:
        together = least(frozenset(bounds))
        found = [together] if together is not None else []
    less_demand = least(frozenset({"demand"}))
    return (*found, *([less_demand] if less_demand is not None else []))
