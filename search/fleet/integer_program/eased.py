"""Ease the constraints of a fleet that are no limits: failures, losses of spot devices, cases, starts, stays, promises.

Each takes a value, which a scenario states, and asks for less as that gets smaller. So the greatest value that leaves a
fleet is found by halving.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np

from perfmodel.arrays import Array
from perfmodel.unit_factors import SECONDS_PER_HOUR
from search.fleet.problem_data.problem import FleetProblem, World
from search.scenario import Option, Supply

#: Steps between a value and 0 where any value between them may be the greatest. Chosen: a thousandth is told apart.
STEPS = 1000
#: Hours by which a stay is shorter than all periods. Chosen: below what anybody schedules.
SHORTER_H = 0.01

#: Returns a problem with a value of one of its constraints.
Change = Callable[[FleetProblem, float], FleetProblem]


@dataclass(frozen=True)
class Ease:
    """A constraint that asks for less as its value gets smaller.

    name: of the constraint, with its value in the unit of a scenario. now: that value. values: smaller ones to try, the
    greatest first. at: returns a problem with the constraint at a value.
    """

    name: str
    now: float
    values: Sequence[float]
    at: Change

    def whole(self, problem: FleetProblem) -> FleetProblem:
        """Return a problem in which the constraint asks for the least that it can."""
        return self.at(problem, self.values[-1])

    def greatest(self, problem: FleetProblem, possible: Callable[[FleetProblem], bool]) -> float | None:
        """Return the greatest value with which a fleet is possible; None where none is."""
        if not possible(self.whole(problem)):
            return None
        low, high = -1, len(self.values) - 1
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (low, middle) if possible(self.at(problem, self.values[middle])) else (middle, high)
        return float(self.values[high])


def eases(problem: FleetProblem, day: FleetProblem | None = None) -> list[Ease]:
    """List the constraints of a problem that can be eased, limits apart.

    day: the problem of all periods, where `problem` has only the busiest, which decide in a fleet that stays the same.
    """
    found = [*_spare(problem), *_supplies(problem), *_cases(problem), *_timing(problem, day or problem)]
    return [e for e in found if len(e.values)]


def _spare(problem: FleetProblem) -> Iterator[Ease]:
    """Yield the nodes and domains that may fail."""
    inventory = problem.inventory
    for name in ("spare_nodes", "spare_domains"):
        now = getattr(inventory, name)
        yield Ease(name, now, range(now - 1, -1, -1), partial(_of_inventory, name))
    for pool, now in inventory.spare.items():
        yield Ease(f"spare[{pool}]", now, range(now - 1, -1, -1), partial(_of_spare, pool))


def _of_inventory(name: str, problem: FleetProblem, count: float) -> FleetProblem:
    """Return a problem with a count of its inventory changed."""
    changed: dict[str, Any] = {name: int(count)}
    return replace(problem, inventory=replace(problem.inventory, **changed))


def _of_spare(pool: str, problem: FleetProblem, count: float) -> FleetProblem:
    """Return a problem in which so many nodes of a pool may fail."""
    spare = {**problem.inventory.spare, pool: int(count)}
    return replace(problem, inventory=replace(problem.inventory, spare=spare))


def _supplies(problem: FleetProblem) -> Iterator[Ease]:
    """Yield the losses of spot devices, and what is promised to supplies where money is limited."""
    limited = np.isfinite([problem.inventory.budget, problem.inventory.mean_budget]).any()
    for k, supply in enumerate(problem.inventory.supplies):
        if supply.kind == "spot":
            less = _below(supply.lost_share)
            yield Ease(f"lost_share[{supply.name}]", supply.lost_share, less, _of_supply(k, "lost_share"))
        if limited:
            fewer = np.arange(np.ceil(supply.least) - 1.0, -1.0, -1.0)
            yield Ease(f"least[{supply.name}]", supply.least, fewer.tolist(), _of_supply(k, "least"))
            spent = _below(supply.least_spend)
            yield Ease(f"least_usd_per_hour[{supply.name}]", supply.least_spend, spent, _of_supply(k, "least_spend"))


def _of_supply(position: int, field: str) -> Change:
    """Return what changes one field of one supply."""

    def changed(problem: FleetProblem, value: float) -> FleetProblem:
        """Return the problem with the field at a value."""
        supplies: list[Supply] = list(problem.inventory.supplies)
        told: dict[str, Any] = {field: value}
        supplies[position] = replace(supplies[position], **told)
        return replace(problem, inventory=replace(problem.inventory, supplies=tuple(supplies)))

    return changed


def _below(value: float, least: float = 0.0) -> list[float]:
    """Return evenly spaced values below one, down to `least`, and those of two digits; [] where there are none."""
    if value <= least:
        return []
    digit = 10.0 ** (np.floor(np.log10(value)) - 1.0)
    two = np.arange(np.ceil(least / digit), value / digit) * digit
    found: list[float] = np.unique([*np.linspace(least, value, STEPS + 1)[:-1], *two[two < value]])[::-1].tolist()
    return found


def _cases(problem: FleetProblem) -> Iterator[Ease]:
    """Yield the cases that have to be survived: with shorter outputs where that is known, else left out."""
    for w, world in enumerate(problem.worlds):
        if world.must and world.output_factor > 1.0:
            name = f"output_factor[{world.name}]"
            yield Ease(name, world.output_factor, _below(world.output_factor, 1.0), _with_outputs(w, world))
        elif world.must:
            yield Ease(f"case[{world.name}]", 1, (0,), _without_world(world.name))


def _with_outputs(position: int, world: World) -> Change:
    """Return what sets the output factor of a case of stated throughputs."""

    def changed(problem: FleetProblem, value: float) -> FleetProblem:
        """Return the problem with outputs of so many times their length in the case."""
        faster = replace(world, throughput=world.throughput * (world.output_factor / value), output_factor=value)
        worlds = (*problem.worlds[:position], faster, *problem.worlds[position + 1 :])
        return replace(problem, worlds=worlds)

    return changed


def _without_world(name: str) -> Change:
    """Return what leaves out a case: it asks for no more than normal running."""

    def changed(problem: FleetProblem, _value: float) -> FleetProblem:
        """Return the problem with the case at the throughput of the problem itself."""
        worlds = tuple(
            replace(w, throughput=problem.throughput) if w.must and w.name == name else w for w in problem.worlds
        )
        return replace(problem, worlds=worlds)

    return changed


def _timing(problem: FleetProblem, day: FleetProblem) -> Iterator[Ease]:
    """Yield what ties the periods of a day: starts, stays, options that are fixed, a fleet that stays the same.

    day: see `eases`.
    """
    several, longest = problem.periods > 1, {name: _longest(problem, name) for name in ("start_up_h", "min_stay_h")}
    often = any(s.interruptions_per_hour for s in problem.inventory.supplies if s.kind == "spot")
    if longest["start_up_h"] and (often or (problem.elastic and several)):
        exact = not often and np.isinf(problem.inventory.mean_budget)
        hours = _spans(problem, longest["start_up_h"]) if exact else _below(longest["start_up_h"])
        seconds = [h * SECONDS_PER_HOUR for h in hours]
        now = longest["start_up_h"] * SECONDS_PER_HOUR
        yield Ease("start", now, seconds, lambda p, v: _at_most(p, "start_up_h", v / SECONDS_PER_HOUR))
    if longest["min_stay_h"] and problem.elastic and several:
        spans = _spans(problem, longest["min_stay_h"])
        yield Ease("stay", longest["min_stay_h"], spans, lambda p, v: _at_most(p, "min_stay_h", v))
    if problem.elastic and several and any(o.fixed for o in problem.options):
        yield Ease("fixed", 1, (0,), lambda p, _: _each(p, lambda _o: {"fixed": False}))
    if day.periods > 1 and not problem.elastic:
        yield Ease("elastic", 1, (0,), _following(day))


def _following(day: FleetProblem) -> Change:
    """Return what lets the replicas follow all periods of `day`."""

    def changed(problem: FleetProblem, _value: float) -> FleetProblem:
        """Return the problem with all periods and an elastic fleet."""
        every = replace(problem, gco2_per_kwh=day.gco2_per_kwh, region_gco2=day.region_gco2, elastic=True)
        return every.at_periods(np.arange(day.periods), day.rate, day.hours)

    return changed


def _longest(problem: FleetProblem, field: str) -> float:
    """Return the greatest value of a field of the options."""
    return max((float(getattr(o, field)) for o in problem.options), default=0.0)


def _at_most(problem: FleetProblem, field: str, hours: float) -> FleetProblem:
    """Return a problem whose options have at most so many hours in a field."""
    return _each(problem, lambda o: {field: min(getattr(o, field), hours)})


def _each(problem: FleetProblem, change: Callable[[Option], dict[str, Any]]) -> FleetProblem:
    """Return a problem with every option changed. change: fields of an option by name."""
    return replace(problem, options=tuple(replace(o, **change(o)) for o in problem.options))


def _spans(problem: FleetProblem, below: float) -> list[float]:
    """Return the lengths of runs of periods that are shorter than `below`, in hours, the greatest first, then 0.

    Starts and stays are counted in whole periods: between two such lengths nothing changes. A stay of all periods ties
    them more than one that is a little shorter, so that the whole is less by `SHORTER_H`.
    """
    hours = np.concatenate([problem.hours, problem.hours])
    ends: Array = np.concatenate([[0.0], np.cumsum(hours)])
    lengths = (ends[None, :] - ends[:, None]).ravel()
    total = problem.hours.sum()
    found = np.unique(np.round(lengths[(lengths > 0) & (lengths < total)], 9))
    found = np.append(found, total - SHORTER_H)
    return [*found[found < below][::-1].tolist(), 0.0]
