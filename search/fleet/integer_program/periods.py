"""Solve a fleet over many periods by the few that matter.

A fleet that stays the same all day is decided by its busiest periods: one whose every rate is at most that of another
needs nothing more. In a fleet that changes from period to period, nothing joins the periods, and each is a problem of
its own.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from perfmodel.arrays import Array, Index
from search.fleet.problem_data.limits import mean_limits
from search.fleet.problem_data.problem import FleetProblem

if TYPE_CHECKING:
    from search.fleet.accounting.fleet import Binding, FleetPlan


def busiest(rate: Array) -> tuple[Index, Index]:
    """Find the periods that no other exceeds in every class.

    rate: (P, C) requests/s. Returns (their numbers, (K,); for each period the position among them of one whose rates
    are all at least its own, (P,)).

    >>> kept, stands = busiest(np.array([[1.0], [3.0], [2.0]]))
    >>> kept.tolist(), stands.tolist()
    ([1], [0, 0, 0])
    """
    covers = np.all(rate[:, None, :] >= rate[None, :, :], axis=2)  # (P, P): the first is at least the second
    strictly = covers & ~covers.T
    same_before = np.tril(covers & covers.T, -1).T  # an equal period with a lower number
    kept = np.nonzero(~(strictly | same_before).any(axis=0))[0]
    return kept, np.argmax(covers[kept], axis=0)


def deciding(problem: FleetProblem, classes: tuple[int, ...]) -> list[int]:
    """List the periods in which a case of some classes has to be survived: the others follow from them.

    In a fleet that stays the same, these are the busiest of the classes; in an elastic one, all.
    """
    if problem.elastic:
        return list(range(problem.periods))
    return [int(t) for t in busiest(problem.rate[:, list(classes)])[0]]


def of_busiest(problem: FleetProblem) -> tuple[FleetProblem, Index]:
    """Return the problem of the busiest periods alone, and for each period the position of one that stands for it."""
    kept, stands = busiest(problem.rate)
    weight = problem.hours / problem.hours.sum()
    mean = {name: np.full(problem.periods, weight @ grams) for name, grams in problem.region_gco2.items()}
    level = np.full(problem.periods, weight @ problem.gco2_per_kwh)
    even = replace(problem, gco2_per_kwh=level, region_gco2=mean)
    return even.at_periods(kept, problem.rate[kept], problem.hours[kept]), stands


def options_join(problem: FleetProblem) -> bool:
    """Return whether an option joins the periods of an elastic fleet: by starts, stays, fixed replicas or moves."""
    return any(o.start_up_h or o.min_stay_h or o.fixed or o.migration_usd for o in problem.options)


def periods_joined(problem: FleetProblem) -> bool:
    """Return whether something joins the periods of an elastic fleet, so that they are no problems of their own.

    Starts, stays, fixed options, moves, reserved devices, commitments, limits on means, draws that may be missed, and
    the most traffic, which is one factor for all periods, do.
    """
    held = any(s.kind == "reserved" or s.least_spend for s in problem.inventory.supplies)
    others = mean_limits(problem) or problem.may_miss or problem.objective == "traffic"
    return bool(held or options_join(problem) or others)


def period_by_period(problem: FleetProblem, solve: Callable[[FleetProblem, float], FleetPlan]) -> FleetPlan:
    """Solve each period by itself and join the fleets.

    problem: elastic, with P periods. solve: finds the fleet of one period, within a share of the time that is left. The
    cost and its bound are means over the hours; what a limit costs is too.
    """
    grams = np.nan_to_num(problem.gco2.T) * (problem.objective == "carbon")
    rates, first, which = np.unique(
        np.column_stack([problem.rate, grams]), axis=0, return_index=True, return_inverse=True
    )
    which = which.reshape(-1)
    alone = replace(problem, elastic=False)
    count = len(first)
    parts = [
        solve(alone.at_periods(first[[i]], problem.rate[first[[i]]], np.ones(1)), 1.0 / (count - i))
        for i in range(count)
    ]
    weight = np.bincount(which, weights=problem.hours, minlength=len(rates)) / problem.hours.sum()
    cost = float(weight @ np.array([p.usd_per_hour for p in parts]))
    bound = float(weight @ np.array([p.bound for p in parts]))
    return replace(
        parts[0],
        problem=problem,
        replicas=np.concatenate([parts[i].replicas for i in which], axis=1),
        shares=np.concatenate([parts[i].shares for i in which], axis=2),
        held=np.concatenate([parts[i].held for i in which], axis=1),
        spot=np.concatenate([parts[i].spot for i in which], axis=1),
        usd_per_hour=cost,
        bound=bound,
        value=float(weight @ np.array([p.value for p in parts])),
        gap=_gap(parts, cost, bound),
        binding=_joined(parts, weight),
    )


def _gap(parts: list[FleetPlan], cost: float, bound: float) -> float:
    """Return the relative distance of the mean from its bound; that of the worst part where the bound is unknown."""
    if np.isfinite(bound) and cost > 0:
        return max(0.0, (cost - bound) / cost)
    return max((p.gap for p in parts), default=0.0)


def _joined(parts: list[FleetPlan], weight: Array) -> tuple[Binding, ...]:
    """Join the limits that cost money in some period: the mean saving, and what the fullest period uses.

    weight: (K,) share of the hours of each part.
    """
    found: dict[str, Binding] = {}
    for part, share in zip(parts, weight.tolist(), strict=True):
        for b in part.binding:
            known = found.get(b.name, replace(b, saving=0.0, used=0.0))
            found[b.name] = replace(known, saving=known.saving + share * b.saving, used=max(known.used, b.used))
    return tuple(sorted(found.values(), key=lambda b: -b.saving))
