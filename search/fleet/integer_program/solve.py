"""Solve a fleet program with HiGHS or CBC, through PuLP."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np

from hwdb import Infeasible
from search.fleet.integer_program.deadline import LEAST_S, Deadline
from search.fleet.integer_program.program import Ask, Program, formulate
from search.fleet.problem_data.problem import FleetProblem
from search.fleet.problem_data.quantities import Numbers
from search.scenario import DEFAULT_GAP, TIME_LIMIT_S

Solver = Literal["highs", "cbc"]


@dataclass(frozen=True)
class Effort:
    """How hard a fleet is solved.

    solver: None for HiGHS, or CBC where HiGHS is not installed. clock: when all answers are due. gap: relative
    distance from the optimum at which the solver may stop.
    """

    solver: Solver | None
    clock: Deadline
    gap: float = DEFAULT_GAP

    def solve(self, problem: FleetProblem, ask: Ask, begin: Numbers | None = None) -> Program | None:
        """Write and solve the program of a checked problem; None where it has no solution.

        begin: a fleet to begin with. Raises `Infeasible` where none was found in time.
        """
        if self.clock.over:
            raise Infeasible("fleet: no time is left to solve another program; raise time_limit_s in [fleet]")
        program = formulate(problem, ask)
        solver = self.solver or available_solver()
        start: list[tuple[Any, float]] = []
        if begin is not None:
            start = [(v, float(begin.replicas[index])) for index, v in program.replicas.items()]
            start += [(v, float(begin.spot[index])) for index, v in program.spot.items()]
        seconds = max(self.clock.left(), LEAST_S)
        return program if run_solver(program, solver, seconds, self.gap, start=start) else None

    def tried(self, problem: FleetProblem, ask: Ask, begin: Numbers | None = None) -> Program | None:
        """Do as `solve`; None also where no solution was found in time."""
        try:
            return self.solve(problem, ask, begin)
        except Infeasible:
            return None

    def part(self, share: float) -> Effort:
        """Return the effort of a share of the time that is left."""
        return replace(self, clock=self.clock.part(share))


def run_solver(
    program: Program,
    solver: Solver,
    time_limit: float,
    gap: float,
    settings: Mapping[str, Any] | None = None,
    start: Sequence[tuple[Any, float]] = (),
) -> bool:
    """Solve the program in place; return False when it is proven infeasible.

    time_limit: seconds. gap: relative distance from the optimum at which the solver may stop. settings: of HiGHS.
    start: values of some variables of a solution to begin with, which CBC does not read. HiGHS reports its own bound.
    CBC reports none through PuLP, so the bound follows from `gap` where the optimum is proven, and is -inf otherwise.
    Raises `Infeasible` when no solution was found within the time.
    """
    import pulp

    linear = program.linear
    linear.solve(solver_of(solver, time_limit, gap, settings=settings, start=start))
    program.solver = solver
    if linear.sol_status in (pulp.LpSolutionInfeasible, pulp.LpSolutionUnbounded):
        return False
    if solver == "highs":
        program.bound = float(linear.solverModel.getInfo().mip_dual_bound)
    if linear.sol_status == pulp.LpSolutionNoSolutionFound:
        raise Infeasible(
            f"fleet: {solver} found no answer within {time_limit:.3g} s; "
            "raise time_limit_s in [fleet], or offer fewer options"
        )
    if solver != "highs":
        value = float(pulp.value(linear.objective) or 0.0)
        program.bound = value * (1 - gap) if linear.sol_status == pulp.LpSolutionOptimal else float("-inf")
    return True


def available_solver() -> Solver:
    """Return the name of the solver to use: HiGHS where it is installed, else CBC."""
    import pulp

    return "highs" if pulp.HiGHS(msg=False).available() else "cbc"


def linear_bound(program: Program, solver: Solver, seconds: float = TIME_LIMIT_S) -> float:
    """Solve the linear program of a program; return its value, a bound on that with whole numbers; inf for none.

    HiGHS begins where it ended the last time with this program, which may have had fewer variables and constraints.
    """
    import pulp

    made = solver_of(solver, seconds, DEFAULT_GAP, whole=False)
    if solver == "highs":
        made.callSolver = lambda linear: _from_basis(linear, program)
    program.linear.solve(made)
    if program.linear.sol_status == pulp.LpSolutionInfeasible:
        return float("inf")
    solved = program.linear.status == pulp.LpStatusOptimal and program.linear.sol_status == pulp.LpSolutionOptimal
    return float(pulp.value(program.linear.objective) or 0.0) if solved else float("-inf")


def solver_of(
    name: Solver,
    time_limit: float,
    gap: float,
    *,
    whole: bool = True,
    settings: Mapping[str, Any] | None = None,
    start: Sequence[tuple[Any, float]] = (),
) -> Any:
    """Build the PuLP solver called `name`, with one thread, so that the same problem gives the same fleet.

    whole: False for the linear program. settings: more of HiGHS. start: see `run_solver`.
    """
    import pulp

    how: dict[str, Any] = {"mip": whole, "msg": False, "gapRel": gap, "timeLimit": time_limit, "threads": 1}
    if name == "highs":
        made = pulp.HiGHS(**how, **(settings or {}))
        if start:
            made.callSolver = lambda linear: _begun(linear, start)
        return made
    from pulp.apis.coin_api import pulp_cbc_path

    bundled = pulp.COIN_CMD(path=pulp_cbc_path, **how)
    return bundled if bundled.available() else pulp.COIN_CMD(**how)


def _from_basis(linear: Any, program: Program) -> None:
    """Run HiGHS on a linear program that it has read, from the basis of the last time, and keep the new one.

    The basis is known by name: a new variable stands at its lower bound, a new constraint is basic.
    """
    import highspy

    model, status = linear.solverModel, highspy.HighsBasisStatus
    columns, rows = [v.name for v in linear.variables()], [c.name for c in linear.constraints()]
    if program.basis is not None:
        begin, (of_columns, of_rows) = highspy.HighsBasis(), program.basis
        begin.col_status = [of_columns.get(name, status.kLower) for name in columns]
        begin.row_status = [of_rows.get(name, status.kBasic) for name in rows]
        begin.valid = True
        model.setBasis(begin)
    model.run()
    found = model.getBasis()
    if found.valid:
        of_columns = dict(zip(columns, found.col_status, strict=True))
        program.basis = of_columns, dict(zip(rows, found.row_status, strict=True))


def _begun(linear: Any, start: Sequence[tuple[Any, float]]) -> None:
    """Run HiGHS on a program that it has read, from values of some of its variables."""
    index = np.array([variable.index for variable, _ in start], dtype=np.int32)
    linear.solverModel.setSolution(len(start), index, np.array([value for _, value in start], dtype=float))
    linear.solverModel.run()
