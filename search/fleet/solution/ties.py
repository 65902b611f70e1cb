"""Choose among fleets of equal value: the least cost, the fewest devices, then the least power."""

from __future__ import annotations

import numpy as np

from search.fleet.integer_program.relax import Solve
from search.fleet.integer_program.variables import Ask, Program
from search.fleet.problem_data.limits import prices

#: Saving, relative to the fleet's value, from which one fleet counts as better than another: the gap of the solutions.
LEAST_SAVING = 1e-6
#: Options from which a fleet mixes them.
MIXED = 2
#: Most variables of a program whose ties are decided even where nothing is free. Chosen: a solution takes milliseconds.
MOST_VARIABLES = 1000


def tied(program: Program, solve: Solve) -> Program:
    """Return the solved program with the best of the fleets whose objective is no worse than `program`'s.

    In large programs, ties are decided only where replicas are free.
    """
    problem, objective = program.problem, program.problem.objective
    free = (prices(problem)[: len(problem.options)] == 0).any() and not problem.inventory.supplies
    small = len(program.linear.variables()) <= MOST_VARIABLES
    if not (free or small):
        return program
    best = program
    within: dict[str, float] = {}
    for quantity in [q for q in (objective, "cost", "devices") if q != "devices" or objective != "devices"]:
        if within and quantity != objective:
            found = solve(problem, Ask(objective=quantity, within=within))
            if found is None or any(found.amount(q) > most + LEAST_SAVING for q, most in within.items()):
                return best
            best = found
        amount = best.amount(quantity)
        within = {**within, quantity: amount + LEAST_SAVING * max(abs(amount), 1.0)}
    return best


def of_one_option(program: Program, solve: Solve) -> Program:
    """Return the solved program with one option only, where a single class is served by several.

    It is `program` itself unless one of these options alone costs no more, takes no more devices and draws no more.
    """
    problem, used = program.problem, np.nonzero(program.solved_replicas().any(axis=1))[0]
    if problem.rate.shape[1] > 1 or len(used) < MIXED or problem.objective != "cost":
        return program
    cost, mixed = program.amount("cost"), program.amount("devices")
    for option in used:
        others = np.arange(len(problem.options))[:, None] != option
        alone = solve(
            problem.without_throughput(others),
            Ask(objective="devices", within={"cost": cost + LEAST_SAVING * max(cost, 1.0)}),
        )
        if alone is not None and alone.amount("devices") <= mixed * (1.0 + LEAST_SAVING):
            return alone
    return program
