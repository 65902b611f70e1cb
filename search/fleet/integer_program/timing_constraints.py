"""Constraints over time: replicas of a period, starts, least stays. Each is one function, which states its inequality.

The periods repeat: the last one comes before the first.
"""

from __future__ import annotations

from search.fleet.integer_program.variables import Program
from search.fleet.problem_data.limits import INTEGRALITY_TOLERANCE
from search.fleet.problem_data.problem import FleetProblem

#: Names under which the constraints of this module are left out.
START, STAY = "start", "stay"


def changes(problem: FleetProblem, option: int) -> bool:
    """Return whether the replicas of an option may differ between the periods."""
    o = problem.options[option]
    whole_day = o.min_stay_h >= float(problem.hours.sum())
    return problem.elastic and problem.periods > 1 and not o.fixed and not whole_day


def add_replicas(program: Program) -> None:
    """Add the variables replicas[o,t], whole numbers, at least kept[o] where some replicas stay.

    They are the same in all periods unless the fleet is elastic; in an elastic fleet, those of an option that is fixed
    are, and those of one that has to stay the whole day.
    """
    import pulp

    problem = program.problem
    for o in range(len(problem.options)):
        same = not (
            changes(problem, o) or (problem.elastic and STAY in program.ask.without and not problem.options[o].fixed)
        )
        for t in range(problem.periods):
            if t and same:
                program.replicas[o, t] = program.replicas[o, 0]
                continue
            name, least = f"replicas_{o}_{t}", 0 if problem.kept is None else int(problem.kept[o])
            program.replicas[o, t] = program.linear.add_variable(name, least, int(program.most[o]), pulp.LpInteger)


def add_starts(program: Program) -> None:
    """Add the variables started[o,t] >= 0 where starts cost or bind, the constraint start[o,t], and the stays.

    start[o,t]: started[o,t] >= replicas[o,t] - replicas[o,t-1]. A replica that serves in a period has started before
    it: its rent of that time is part of the cost, and its devices and power are taken in the periods before.
    """
    import pulp

    problem = program.problem
    for o, option in enumerate(problem.options):
        start = option.start_up_h > 0 and START not in program.ask.without
        stay = option.min_stay_h > 0 and STAY not in program.ask.without
        if not (changes(problem, o) and (start or stay)):
            continue
        for t in range(problem.periods):
            started = program.linear.add_variable(f"started_{o}_{t}", 0, int(program.most[o]))
            program.started[o, t] = started
            program.linear += (
                started >= program.replicas[o, t] - program.replicas[o, (t - 1) % problem.periods],
                f"start_{o}_{t}",
            )
        for t in range(problem.periods):
            for before in periods_before(problem, t, option.start_up_h) if start else ():
                program.starting.setdefault((o, before), []).append(program.started[o, t])
            if stay:
                kept = [program.started[o, s] for s in stays_from(problem, t, option.min_stay_h)]
                program.linear += (pulp.lpSum(kept) <= program.replicas[o, t], f"stay_{o}_{t}")


def periods_before(problem: FleetProblem, t: int, hours: float) -> list[int]:
    """List the periods in which a replica that serves from period t on is starting. hours: that it takes to start."""
    found: list[int] = []
    left = hours
    while left > INTEGRALITY_TOLERANCE and len(found) < problem.periods - 1:
        found.append((t - 1 - len(found)) % problem.periods)
        left -= float(problem.hours[found[-1]])
    return found


def stays_from(problem: FleetProblem, t: int, hours: float) -> list[int]:
    """List the periods whose starts still run in period t. hours: least stay of a replica.

    stay[o,t]: the sum of started[o,s] over these periods s <= replicas[o,t].
    """
    found, since = [t], 0.0
    while len(found) < problem.periods:
        before = (t - len(found)) % problem.periods
        since += float(problem.hours[before])
        if since >= hours - INTEGRALITY_TOLERANCE:
            break
        found.append(before)
    return found
