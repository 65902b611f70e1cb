"""Find the least-cost fleet: whole replicas of options and continuous shares of request classes, with proof.

`FleetProblem` (in `search.fleet.problem_data.problem`) is plain data, `formulate` (in
`search.fleet.integer_program.program`) turns it into an integer program, and `fleet_plan` solves it. The docstring of
`search.fleet.integer_program.program` has the formulation, with the names that code, messages and docs use.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from hwdb import Infeasible
from perfmodel.arrays import Array
from search.fleet.accounting.fleet import Binding, FleetPlan
from search.fleet.decomposition.split import split, splits
from search.fleet.integer_program.deadline import Deadline
from search.fleet.integer_program.periods import of_busiest, period_by_period, periods_joined
from search.fleet.integer_program.program import Ask
from search.fleet.integer_program.relax import FleetInfeasible, Relaxation, relaxations
from search.fleet.integer_program.solve import Effort, Solver
from search.fleet.problem_data.limits import served_by_none
from search.fleet.problem_data.problem import FleetProblem, checked
from search.fleet.problem_data.quantities import Numbers, weights
from search.fleet.solution.binding import binding
from search.fleet.solution.ties import of_one_option, tied
from search.scenario import Inventory, Option

__all__ = ["Binding", "FleetInfeasible", "FleetPlan", "FleetProblem", "Inventory", "Option", "Relaxation", "fleet_plan"]

#: Sentence about a demand that is too great.
UNMET = "no fleet meets the demand within the limits"
#: Factor on the demand below which nothing is served.
LEAST_SERVED = 1e-4
#: Share of the time for the first solution. The rest is for those that say what each limit costs, and for ties.
FIRST_TIME = 0.8
#: Options x periods up to which the program is solved as a whole after its parts. Chosen: it is written in seconds.
WHOLE = 3000
#: Options x periods up to which that has a share of the time in any case, and the share of the parts.
SMALL, PARTS_TIME = 1000, 0.5
#: Share of the time that is left for the whole at least. Chosen: writing it takes seconds.
WHOLE_TIME = 0.1
#: Seconds that an answer has in any case, where those before it have taken all of the time.
LEAST_TIME_S = 1.0
#: Remark where the time was over before every limit was left out in turn.
UNTRIED = "the time was over before every change was tried; raise time_limit_s in [fleet]"
UNASKED = "the time was over before it was known what {} {}; raise time_limit_s in [fleet]"


def fleet_plan(
    problem: FleetProblem, solver: Solver | None = None, time_limit: float | None = None, gap: float | None = None
) -> FleetPlan:
    """Solve `problem` for the least-cost fleet, or for what its objective asks.

    Args:
        problem: options, classes, demand, limits.
        solver: `highs` or `cbc`; by default HiGHS, or CBC where HiGHS is not installed.
        time_limit: seconds for the answer, all solutions together; by default the problem's.
        gap: relative distance from the optimum at which the solver may stop; by default the problem's.

    Raises:
        FleetInfeasible: no fleet satisfies the limits; the message says what to relax and by how much.
        InputError: the data contradict themselves.
    """
    effort = _effort(problem := checked(problem), solver, time_limit, gap)
    unserved = served_by_none(problem)
    if unserved:
        raise _unserved(problem, unserved)
    if splits(problem):
        return _by_parts(problem, effort)
    few, stands = of_busiest(problem)
    if problem.elastic and problem.periods > 1:
        if periods_joined(problem):
            return _solved(problem, effort)
        try:
            return period_by_period(problem, lambda one, share: _solved(one, effort.part(share)))
        except FleetInfeasible:
            raise _infeasible(few, effort) from None
    found = _solved(few, effort, problem)
    return replace(
        found,
        problem=replace(problem, rate=problem.rate * found.served),
        replicas=np.repeat(found.replicas[:, :1], problem.periods, axis=1),
        shares=found.shares[:, :, stands],
        held=np.repeat(found.held[:, :1], problem.periods, axis=1),
        spot=np.repeat(found.spot[:, :1], problem.periods, axis=1),
    )


def _unserved(problem: FleetProblem, rows: Sequence[int]) -> FleetInfeasible:
    """Return the error for classes that no option serves. rows: their positions."""
    classes, names = "classes" if len(rows) > 1 else "class", ", ".join(repr(problem.classes[c]) for c in rows)
    text = f"no option serves request {classes} {names} within the SLO; relax it or offer others"
    return FleetInfeasible(text, (), problem.remarks)


def _effort(problem: FleetProblem, solver: Solver | None, time_limit: float | None, gap: float | None) -> Effort:
    """Return the effort of an answer that is due with the problem's, after `time_limit` seconds at most."""
    now, seconds = time.monotonic(), time_limit or problem.time_limit_s
    clock = Deadline(max(min(problem.due, now + seconds), now + min(seconds, LEAST_TIME_S)))
    return Effort(solver, clock, problem.gap if gap is None else gap)


def _solved(problem: FleetProblem, effort: Effort, day: FleetProblem | None = None) -> FleetPlan:
    """Solve a checked problem as a whole: all of its periods, or the only one that matters.

    day: the problem of all periods, where `problem` has only those that matter.
    """
    objective = problem.objective
    program = effort.part(FIRST_TIME).solve(problem, Ask(objective=objective))
    if program is None:
        raise _infeasible(problem, effort, day=day)
    value, bound = program.amount(objective), program.bound
    if objective == "traffic" and -value < LEAST_SERVED:
        least = replace(problem, objective="cost", rate=problem.rate * LEAST_SERVED)
        whole = None if day is None else replace(day, rate=day.rate * LEAST_SERVED)
        raise _infeasible(least, effort, "no fleet within the limits serves any traffic of every class", whole)
    plain = objective == "cost" and not problem.counts_devices
    limiting, unasked = binding(program, effort) if plain else ((), 0)
    program = of_one_option(tied(program, effort.tried), effort.tried)
    gap = max(0.0, (value - bound) / abs(value)) if value else 0.0
    told = () if not unasked else (UNASKED.format(unasked, "limit costs" if unasked == 1 else "limits cost"),)
    found = _told(problem, (program.solved(), program.solved_shares(), program.cost()), gap, program.solver)
    value = program.amount(objective) * (np.nan if problem.counts_devices else 1.0)
    told_of = replace(found.problem, remarks=(*found.problem.remarks, *told))
    return replace(found, problem=told_of, binding=limiting, value=value)


def _by_parts(problem: FleetProblem, effort: Effort) -> FleetPlan:
    """Solve a checked problem by its parts, then as a whole from their fleet where it is small and time is left.

    Parts that were not made to fit together say nothing of the whole, which is solved by itself then.
    """
    size, total = len(problem.options) * problem.periods, effort.clock.left()
    clock = effort.clock.part(PARTS_TIME) if size <= min(SMALL, WHOLE) else effort.clock
    try:
        found = split(problem, effort.solver, clock, effort.gap)
    except FleetInfeasible:
        raise
    except Infeasible:
        if size > WHOLE or effort.clock.over:
            raise
        return _solved(problem, effort)
    if found is None:
        raise _infeasible(problem, effort)
    bound, usd, program = found.bound, found.usd_per_hour, None
    if usd - bound > effort.gap * usd and size <= WHOLE and effort.clock.left() > WHOLE_TIME * total:
        program = effort.tried(problem, Ask(objective="cost"), found.numbers)
    if program is not None:
        bound = max(bound, program.bound)
    if program is not None and program.amount("cost") < usd:
        usd = program.amount("cost")
        numbers, shares = program.solved(), program.solved_shares()
    else:
        numbers, shares = found.numbers, found.shares
    gap = max(0.0, 1.0 - bound / usd) if usd else 0.0
    money = weights(problem, "money").of(numbers)
    return replace(_told(problem, (numbers, shares, money), gap, found.solver), value=usd)


def _told(problem: FleetProblem, found: tuple[Numbers, Array, float], gap: float, solver: str) -> FleetPlan:
    """Return the fleet of a solution. found: its numbers, shares and USD per hour.

    gap: relative distance of its objective from the proven bound.
    """
    numbers, shares, money = found
    known = np.nan if problem.counts_devices else 1.0
    cost, first = money * known, len(problem.options) + len(problem.by_node)
    return FleetPlan(
        problem=replace(problem, rate=problem.rate * numbers.served),
        replicas=numbers.replicas,
        shares=shares,
        usd_per_hour=cost,
        bound=cost * (1.0 - gap) if problem.objective == "cost" else np.nan,
        gap=gap,
        binding=(),
        solver=solver,
        held=numbers.units[first:],
        spot=numbers.spot,
        served=numbers.served,
    )


def _infeasible(
    problem: FleetProblem, effort: Effort, told: str = UNMET, day: FleetProblem | None = None
) -> FleetInfeasible:
    """Return the error for a problem that no fleet satisfies, with the changes that would help.

    told: its sentence. day: see `_solved`.
    """
    ways = relaxations(problem, effort.tried, day)
    late = (UNTRIED,) if effort.clock.over else ()
    return FleetInfeasible(told, ways, (*problem.remarks, *late))
