"""Follow a load over the day: the replicas that each hour needs, beside a fleet that stays the same all day."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from hwdb import Infeasible
from perfmodel.arrays import Mask
from perfmodel.unit_factors import HOURS_PER_DAY
from search.fleet.integer_program.solve import Solver
from search.fleet.problem_data.limits import INTEGRALITY_TOLERANCE
from search.fleet.problem_data.problem import FleetProblem
from search.fleet.solution.plan import fleet_plan

if TYPE_CHECKING:
    from search.fleet.accounting.fleet import FleetPlan

#: Hours by which the periods may miss 24 and still count as a day.
DAY_TOLERANCE = 0.5
#: Shares of the time for a fleet that changes over the day, and for one that does not and the one that follows from it.
ELASTIC_TIME, STATIC_TIME = 0.7, 0.5
#: Options that are tried alone at most. Chosen: the first is within the limits unless stock is short.
MOST_TRIED = 5


def over_the_day(problem: FleetProblem, solver: Solver | None, *, scaled: bool) -> FleetPlan:
    """Solve a problem of several periods, and what it is to be compared with.

    scaled: True for a fleet of the same options all day whose replicas follow the load. Otherwise the problem says
    whether the fleet is elastic. The result has the other fleet beside it: a static one has `scaled`, with its own
    options, the others have `static`. All of them share the time of the problem.
    """
    if problem.periods == 1:
        return fleet_plan(problem, solver)
    timed = problem.within()
    if problem.elastic and not scaled:
        found = fleet_plan(timed.within(ELASTIC_TIME), solver)
        return due_at(replace(found, static=_static(timed, solver)), problem.due)
    static = fleet_plan(replace(timed.within(STATIC_TIME), elastic=False), solver)
    following = _following(timed.within(STATIC_TIME), np.asarray(static.replicas.any(axis=1)), solver)
    if not scaled:
        return due_at(replace(static, scaled=following), problem.due)
    best = min([following, *_alone(timed, solver)], key=lambda found: found.usd_per_hour)
    return due_at(replace(best, static=static), problem.due)


def due_at(found: FleetPlan, due: float) -> FleetPlan:
    """Return a fleet, and those beside it, whose problems are due at another time (see `FleetProblem`)."""

    def timed(one: FleetPlan) -> FleetPlan:
        """Return one fleet with the time."""
        return replace(one, problem=replace(one.problem, due=due))

    scaled, static = (None if one is None else timed(one) for one in (found.scaled, found.static))
    return replace(timed(found), scaled=scaled, static=static)


def _static(problem: FleetProblem, solver: Solver | None) -> FleetPlan | None:
    """Return the least-cost fleet that stays the same all day; None where the limits allow none."""
    try:
        return fleet_plan(replace(problem, elastic=False), solver)
    except Infeasible:
        return None


def _alone(problem: FleetProblem, solver: Solver | None) -> list[FleetPlan]:
    """Return the fleet of the one option that serves a single class at the least cost over the day; [] without one.

    The options are tried in the order of their cost without the limits, until one is within them.
    """
    if problem.rate.shape[1] != 1 or problem.counts_devices:
        return []
    speed = np.where(problem.serves()[:, 0], np.nan_to_num(problem.throughput[:, 0]), np.nan)
    count = np.ceil(problem.rate[:, 0] / speed[:, None] - INTEGRALITY_TOLERANCE)
    each = np.array([o.usd_per_hour for o in problem.options])
    order = np.argsort(each * (count @ problem.hours), kind="stable")
    for option in order[np.isfinite(speed[order])][:MOST_TRIED]:
        try:
            return [_following(problem, np.arange(len(each)) == option, solver)]
        except Infeasible:
            continue
    return []


def _following(problem: FleetProblem, used: Mask, solver: Solver | None) -> FleetPlan:
    """Return the fleet of the options `used`, (O,), whose replicas follow the load, period by period.

    It has all options of the problem, in their order.
    """
    found = fleet_plan(replace(problem.of_options(used), elastic=True), solver)
    replicas = np.zeros((len(used), problem.periods), dtype=np.intp)
    shares = np.zeros((len(used), problem.rate.shape[1], problem.periods))
    spot = np.zeros(replicas.shape)
    replicas[used], shares[used], spot[used] = found.replicas, found.shares, found.spot
    whole = replace(problem, elastic=True, rate=found.problem.rate)
    return replace(found, problem=whole, replicas=replicas, shares=shares, spot=spot)


def hour_rows(found: FleetPlan) -> list[dict[str, Any]]:
    """Return one flat row per period: rate of all classes, replicas needed and what they cost and draw.

    Of a static fleet they are those of the replicas that the period needs (`scaled`).
    """
    shown = found.scaled or found
    problem, hourly, watts = shown.problem, shown.hourly(), shown.watts
    starts = problem.starts
    return [
        {
            "period": t + 1,
            "start_h": float(starts[t]),
            "hours": float(problem.hours[t]),
            "request_rate_rps": float(problem.rate[t].sum()),
            "replicas": int(shown.replicas[:, t].sum()),
            "devices": float(sum(o.devices * n for o, n in zip(problem.options, shown.replicas[:, t], strict=True))),
            "option": " + ".join(
                f"{n} x {o.name}" for o, n in zip(problem.options, shown.replicas[:, t], strict=True) if n
            ),
            "usd_per_hour": float(hourly[:, t].sum()),
            "power_w": float(watts[:, t].sum()),
        }
        for t in range(problem.periods)
    ]


def is_a_day(problem: FleetProblem) -> bool:
    """Return whether the periods make one day."""
    return bool(abs(problem.hours.sum() - HOURS_PER_DAY) <= DAY_TOLERANCE)
