"""Solve a fleet program with HiGHS or CBC, through PuLP."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal

from hwdb import Infeasible
from search.fleet.problem import FleetProblem
from search.fleet.program import Ask, Program, formulate
from search.scenario import DEFAULT_GAP, TIME_LIMIT_S

Solver = Literal["highs", "cbc"]


@dataclass(frozen=True)
class Effort:
    """How hard a fleet is solved.

    solver: None for HiGHS, or CBC where HiGHS is not installed. time_limit: seconds per solution. gap: relative
    distance from the optimum at which the solver may stop.
    """

    solver: Solver | None = None
    time_limit: float = TIME_LIMIT_S
    gap: float = DEFAULT_GAP

    def solve(self, problem: FleetProblem, ask: Ask) -> Program | None:
        """Write and solve the program of a checked problem; None where it has no solution."""
        program = formulate(problem, ask)
        solver = self.solver or available_solver()
        return program if run_solver(program, solver, self.time_limit, self.gap) else None

    def part(self, problem: FleetProblem, ask: Ask, shares: tuple[float, float]) -> Program | None:
        """Solve one of several programs, within shares of the time and of the gap."""
        time, gap = shares
        return replace(self, time_limit=self.time_limit * time, gap=self.gap * gap).solve(problem, ask)


def run_solver(program: Program, solver: Solver, time_limit: float, gap: float) -> bool:
    """Solve the program in place; return False when it is proven infeasible.

    time_limit: seconds. gap: relative distance from the optimum at which the solver may stop. HiGHS reports its own
    bound. CBC reports none through PuLP, so the bound follows from `gap` where the optimum is proven, and is -inf
    otherwise. Raises `Infeasible` when no solution was found within the time.
    """
    import pulp

    linear = program.linear
    linear.solve(_solver(solver, time_limit, gap))
    program.solver = solver
    if linear.sol_status in (pulp.LpSolutionInfeasible, pulp.LpSolutionUnbounded):
        return False
    if linear.sol_status == pulp.LpSolutionNoSolutionFound:
        raise Infeasible(
            f"fleet: {solver} found no answer within {time_limit:g} s; "
            "raise time_limit_s in [fleet], or offer fewer options"
        )
    value = float(pulp.value(linear.objective) or 0.0)
    if solver == "highs":
        program.bound = float(linear.solverModel.getInfo().mip_dual_bound)
    elif linear.sol_status == pulp.LpSolutionOptimal:
        program.bound = value * (1 - gap)
    else:
        program.bound = float("-inf")
    return True


def available_solver() -> Solver:
    """Return the name of the solver to use: HiGHS where it is installed, else CBC."""
    import pulp

    return "highs" if pulp.HiGHS(msg=False).available() else "cbc"


def _solver(name: Solver, time_limit: float, gap: float) -> Any:
    """Build the PuLP solver called `name`, with one thread, so that the same problem gives the same fleet."""
    import pulp

    if name == "highs":
        return pulp.HiGHS(msg=False, gapRel=gap, timeLimit=time_limit, threads=1)
    from pulp.apis.coin_api import pulp_cbc_path

    bundled = pulp.COIN_CMD(path=pulp_cbc_path, msg=False, gapRel=gap, timeLimit=time_limit, threads=1)
    return bundled if bundled.available() else pulp.COIN_CMD(msg=False, gapRel=gap, timeLimit=time_limit, threads=1)
