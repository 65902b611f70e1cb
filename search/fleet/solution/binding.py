"""Find the limits that cost money: the program is solved again without each of them."""

from __future__ import annotations

from hwdb import Infeasible
from search.fleet.accounting.fleet import LIMIT_TOLERANCE, Binding
from search.fleet.integer_program.solve import Effort
from search.fleet.integer_program.variables import Ask, Program
from search.fleet.problem_data.limits import bounds, limits
from search.fleet.solution.ties import LEAST_SAVING


def binding(program: Program, effort: Effort) -> tuple[tuple[Binding, ...], int]:
    """Find the limits whose removal makes the fleet cheaper, the costliest first, and how many were not asked in time.

    Only a limit that one more replica of some option would exceed can bind. Each such limit is left out in turn and the
    program is solved again, so the saving is that of the whole limit, not a derivative.
    """
    problem, cost, found, unasked = program.problem, program.amount("cost"), [], 0
    per_period = limits(problem)
    for name, limit in bounds(problem).items():
        used = program.used(name)
        if name in per_period and limit - used >= per_period[name][1].max() * (1 - LIMIT_TOLERANCE):
            continue
        try:
            free = effort.solve(problem, Ask(without=frozenset({name})))
        except Infeasible:
            unasked += 1
            continue
        if free is not None:
            saving = cost - free.amount("cost")
            if saving > LEAST_SAVING * max(cost, LIMIT_TOLERANCE):
                found.append(Binding(name=name, limit=limit, used=used, saving=saving))
    return tuple(sorted(found, key=lambda b: -b.saving)), unasked
