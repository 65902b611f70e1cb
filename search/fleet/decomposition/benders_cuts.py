"""Benders cuts: state that all classes are served after every failure, without variables for shares in each failure.

Let worth[c] >= 0 be a price per request of class c (the dual prices of the shares, Benders 1962). By the duality of
linear programs, the replicas that a failure f leaves serve all classes exactly if, for all worths,

    sum_o alive[o,t,f] value[o] >= sum_c worth[c] rate[t,c],

where value[o] = max_c worth[c] throughput[o,c] (summed over the models of o) is the greatest worth that a replica of o
serves per second. For given worths this is the constraint `capacity` of a single class
(`search.fleet.integer_program.serving_constraints`), so that one constraint covers the worst of many failures. Few
worths matter: the program is solved with some of them, and those that a failure violates are added until none is
violated.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from perfmodel.arrays import Array, Mask
from search.fleet.decomposition.cost_bounds import value_rows
from search.fleet.integer_program.deadline import Deadline
from search.fleet.integer_program.periods import deciding
from search.fleet.integer_program.serving_constraints import add_capacity
from search.fleet.integer_program.solve import Solver, linear_bound
from search.fleet.integer_program.variables import Program
from search.fleet.problem_data.cases import FAILURES, cases, groups
from search.fleet.problem_data.limits import failures
from search.fleet.problem_data.problem import FleetProblem

#: What may be lacking of all that is asked for by rounding errors of the solver.
ROUNDING = 1e-7
#: How many times longer the next linear program may take, with more worths.
SLOWER = 2.0
#: Worths that are this near each other, as parts of their sum, are alike.
ALIKE = 0.02


def solve_with_cuts(program: Program, run: Callable[[], bool]) -> bool:
    """Solve a program with cuts for its failures, and again with violated cuts added; False where it has no solution.

    run: solves the program as it is, or raises.
    """
    while run():
        if program.ask.worths is None:
            return True
        numbers = program.solved()
        lacking = [
            worth
            for t in range(program.problem.periods)
            for _, worth in lacking_worths(program.problem, t, numbers.replicas[:, t].astype(float), numbers.spot[:, t])
        ]
        if not lacking:
            return True
        add_worths(program, np.array(lacking))
    return False


def add_worths(program: Program, worths: Array) -> None:
    """Add the constraints of more worths, (W, C), to a program that knows its failures by worths."""
    known, problem = program.ask.worths, program.problem
    assert known is not None
    program.ask = replace(program.ask, worths=np.concatenate([known, worths]))
    more = range(len(known), len(known) + len(worths))
    for number, case in enumerate(cases(problem, program.ask.without, by_worth=True)):
        if case.kind in FAILURES and len(case.classes) > 1:
            for t in deciding(problem, case.classes):
                for row in more:
                    add_capacity(program, case, (number, t), row)


@dataclass(frozen=True)
class Linear:
    """A linear program that was solved. bound: its value. prices: of its constraints by name, at least 0. held: (K,)
    devices of each supply in the first period. replicas, spot: (O, P)."""

    bound: float
    prices: Mapping[str, float] = field(default_factory=dict)
    held: Array = field(default_factory=lambda: np.zeros(0))
    replicas: Array = field(default_factory=lambda: np.zeros((0, 0)))
    spot: Array = field(default_factory=lambda: np.zeros((0, 0)))


def solve_linear_with_cuts(program: Program, solver: Solver, clock: Deadline, most: int) -> Linear:
    """Solve the linear program of a program, again with worths at which it lacks most, as long as there is time.

    most: new worths of a group each time. Returns the last one that was solved. Its value is a bound on that with whole
    numbers: inf where there is no solution, -inf where there was no time.
    """
    found, longest = Linear(-np.inf), 0.0
    while True:
        begun = clock.left()
        bound = linear_bound(program, solver, max(begun, 1.0))
        if not np.isfinite(bound):
            return Linear(bound) if np.isposinf(bound) else found
        known = {constraint.name: abs(constraint.pi or 0.0) for constraint in program.linear.constraints()}
        held = [program.held[k, 0].varValue or 0.0 for k in range(len(program.problem.inventory.supplies))]
        found, more = Linear(bound, known, np.array(held), *_numbers(program)), _most_lacking(program, most)
        longest = max(longest, begun - clock.left())
        if not more or clock.left() < SLOWER * longest:
            return found
        add_worths(program, np.array(more))


def _numbers(program: Program) -> tuple[Array, Array]:
    """Return the replicas of a solved program, whole or not, and those on spot devices, (O, P) each."""
    shape = len(program.problem.options), program.problem.periods
    replicas, spot = np.zeros(shape), np.zeros(shape)
    for known, out in ((program.replicas, replicas), (program.spot, spot)):
        for index, variable in known.items():
            out[index] = max(variable.varValue or 0.0, 0.0)
    return replicas, spot


def _most_lacking(program: Program, most: int) -> list[Array]:
    """Return the worths of each group at which a solved program, whole or not, lacks most, `most` of a group."""
    problem = program.problem
    group = {c: g for g, (_, classes) in enumerate(groups(problem)) for c in classes}
    found, (replicas, spot) = dict[int, list[tuple[float, Array]]](), _numbers(program)
    for t in range(problem.periods):
        for part, worth in lacking_worths(problem, t, replicas[:, t], spot[:, t], program.ask.without):
            found.setdefault(group[int(np.argmax(worth > 0))], []).append((part, worth))
    out: list[Array] = []
    for some in found.values():
        chosen: list[Array] = []
        for _, worth in sorted(some, key=lambda one: one[0]):
            scaled = worth / worth.sum()
            if len(chosen) < most and all(np.abs(scaled - other).max() > ALIKE for other in chosen):
                chosen.append(scaled)
        out += chosen
    return out


def lacking_worths(
    problem: FleetProblem, t: int, replicas: Array, spot: Array, without: frozenset[str] = frozenset()
) -> list[tuple[float, Array]]:
    """Return (the part of all requests that is served, worths at which it is so, (C,)) of failures that leave too
    little in period t, the worst failure first.

    replicas, spot: (O,). without: kinds of failures that are left out. There are none exactly where every failure of
    nodes and spot devices is survived.
    """
    found: list[tuple[float, Array]] = []
    for options, classes in groups(problem):
        rate = problem.rate[t, list(classes)]
        if len(classes) == 1 or not rate.any():
            continue
        rows = list(options)
        speed = np.nan_to_num(problem.throughput[np.ix_(rows, list(classes))])
        loads = [(i, np.isin(classes, at)) for i, o in enumerate(rows) for at in problem.loads(o)]
        for alive in _left(problem, rows, (replicas, spot), without):
            part, worth = least_served(speed, loads, alive, rate)
            if part < 1.0 - ROUNDING:
                own = np.zeros(len(problem.classes))
                own[list(classes)] = worth
                found.append((part, own))
    return sorted(found, key=lambda one: one[0])


def _left(
    problem: FleetProblem, options: Sequence[int], numbers: tuple[Array, Array], without: frozenset[str]
) -> Array:
    """Return what the failures of nodes and of spot devices leave of N options, (F, N), the least of it only.

    What leaves no less of any option than another failure is no case of its own. numbers: (O,) replicas, on spot.
    without: kinds of failures that are left out.
    """
    replicas, spot = numbers
    used = [o for o in options if replicas[o] > 0 and "spare" not in without]
    left = [np.maximum(replicas - lost, 0.0) for lost in failures(problem, used)]
    for supply in problem.inventory.supplies:
        if supply.kind == "spot" and supply.lost_share:
            here = np.array([o.device == supply.device for o in problem.options])
            left.append(replicas - supply.lost_share * spot * here)
    rows = np.unique(np.array(left)[:, options], axis=0)
    below = (rows[None] <= rows[:, None]).all(axis=2)  # [i, j]: j leaves no more than i
    return np.asarray(rows[below.sum(axis=1) == 1])


def least_served(speed: Array, loads: Sequence[tuple[int, Mask]], alive: Array, rate: Array) -> tuple[float, Array]:
    """Return (the least part of the worth of all requests that some replicas serve, worths at which it is so, (C,)).

    speed: (N, C) requests/s of a replica. loads: (option, (C,) whether it adds up the class). alive: (N,) replicas.
    rate: (C,) requests/s, some above 0; all requests are worth 1 together.
    """
    from scipy.optimize import linprog

    above = value_rows(np.array([np.where(at, speed[o], 0.0) for o, at in loads]))
    count = len(loads)
    usd = np.concatenate([np.zeros(len(rate)), alive[[o for o, _ in loads]]])
    one = np.concatenate([rate, np.zeros(count)])[None]
    found = linprog(usd, above, np.zeros(len(above)), one, [1.0], bounds=(0.0, None))
    if found.x is None or found.fun is None:  # never seen: the program has a solution and an end
        return 1.0, np.ones(len(rate))
    return float(found.fun), np.maximum(found.x[: len(rate)], 0.0)
