"""Plan a fleet again without what it chose: the next best fleets, what each costs, and why it is not the answer.

Left out in turn are each device type in use, every type but one, each model's place on a device type, and each option
in use. The program is solved again with the same limits, so an alternative is the least-cost fleet of what is left.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from hwdb import Infeasible
from perfmodel.arrays import NAN, Mask
from search.fleet.accounting.fleet import FleetPlan
from search.fleet.checks.mix import tightened
from search.fleet.integer_program.deadline import Deadline
from search.fleet.problem_data.problem import FleetProblem
from search.fleet.solution.day import over_the_day
from search.fleet.solution.from_scenario import with_load
from search.fleet.solution.plan import fleet_plan

#: Most restrictions that are tried. Chosen: each is a solution of the program.
MOST_TRIED = 12
#: Columns of a fleet that no fall of prices makes the answer.
NO_FALL = {"price_fall_percent": NAN, "price_fall_of": ""}
#: By how much an alternative is worse, by objective, where that is not the cost.
WORSE = {
    "traffic": "serves {0:.1f} % less traffic",
    "power": "draws {0:.1f} % more power",
    "carbon": "emits {0:.1f} % more CO2e",
    "devices": "takes {0:.1f} % more devices",
}


@dataclass(frozen=True)
class Alternative:
    """The best fleet under a restriction, None where there is none, for the `reason`. name: of the restriction."""

    name: str
    fleet: FleetPlan | None
    reason: str = ""


def alternatives(found: FleetPlan) -> tuple[Alternative, ...]:
    """Return the fleets of what is left when parts of `found` are left out, the best first, impossible ones last.

    Two restrictions with the same answer are one alternative, named after both.
    """
    tried: dict[tuple[bytes, str], Alternative] = {}
    timed, restrictions = replace(found, problem=found.problem.within()), list(_restrictions(found))
    for i, (name, kept) in enumerate(restrictions):
        one = _planned(timed, name, kept, len(restrictions) - i)
        whole = np.zeros(found.replicas.shape, dtype=int)
        whole[kept] = 0 if one.fleet is None else one.fleet.replicas
        known = tried.get((whole.tobytes(), one.reason))
        tried[whole.tobytes(), one.reason] = one if known is None else replace(known, name=f"{known.name}; {name}")
    return tuple(sorted(tried.values(), key=lambda a: np.inf if a.fleet is None else _worse_percent(found, a.fleet)))


def _restrictions(found: FleetPlan) -> Iterator[tuple[str, Mask]]:
    """Yield (name, options that are left, (O,)) of at most `MOST_TRIED` restrictions that leave another fleet."""
    options, used = found.problem.options, np.asarray(found.replicas.any(axis=1))
    in_use = [o for o, on in zip(options, used, strict=True) if on]
    of = [frozenset(o.devices_of) for o in options]
    named = [(f"without {d}", [d not in devices for devices in of]) for d in found.devices]
    named += [(f"{d} alone", [devices == {d} for devices in of]) for d in found.problem.device_names]
    for model, device in dict.fromkeys((o.model, o.device) for o in in_use if o.model):
        name = f"{model.split('/')[-1]} not on {device}"
        named.append((name, [(o.model, o.device) != (model, device) for o in options]))
    named += [(f"without {one.name}", [o is not one for o in options]) for one in in_use]
    seen: set[bytes] = set()
    for name, left in named:
        kept = np.array(left, dtype=bool)
        if kept.tobytes() not in seen and kept.any() and not kept[used].all() and len(seen) < MOST_TRIED:
            seen.add(kept.tobytes())
            yield name, kept


def _planned(found: FleetPlan, name: str, kept: Mask, count: int) -> Alternative:
    """Plan the fleet of the options `kept`, (O,), as `found` was planned, in one of `count` parts of its time."""
    problem = replace(found.problem.of_options(kept), remarks=()).within(1.0 / count)
    if Deadline(problem.due).over:
        return Alternative(name, None, "no time was left to plan it; raise time_limit_s in [fleet]")
    try:
        if found.modelled is None:
            return Alternative(name, _solved(problem, options_stay=found.options_stay))
        fleet, _ = tightened(problem, found.modelled, lambda p: _solved(p, options_stay=found.options_stay))
        return Alternative(name, with_load(fleet, found.modelled))
    except Infeasible as error:
        return Alternative(name, None, str(error))


def _solved(problem: FleetProblem, *, options_stay: bool) -> FleetPlan:
    """Solve a problem; options_stay: only replicas follow the load of the periods, options do not."""
    if options_stay and problem.periods > 1:
        return over_the_day(problem, None, scaled=True)
    return fleet_plan(problem)


def _worse_percent(found: FleetPlan, other: FleetPlan) -> float:
    """Return by how many percent the objective of `other` is worse than that of `found`."""
    if found.problem.objective == "traffic":  # its demand is what `found` serves
        return 100.0 * (1.0 - other.served)
    if found.problem.objective == "cost" and not found.problem.counts_devices:
        return _percent(other.usd_per_hour, found.usd_per_hour)
    if found.problem.objective == "cost" or found.problem.objective == "devices":
        return _percent(sum(other.devices.values()), sum(found.devices.values()))
    return _percent(other.value, found.value)


def _percent(then: float, now: float) -> float:
    """Return a change in percent; NaN where there is nothing to compare with."""
    return 100.0 * (then / now - 1.0) if now else NAN


def alternative_rows(found: FleetPlan, others: tuple[Alternative, ...] | None = None) -> list[dict[str, Any]]:
    """Return flat rows: the fleet as planned, then its alternatives, the best first.

    `price_fall_percent`: by how much the prices of the devices that only the alternative has have to fall for it
    (`price_fall_of`) to cost no more; NaN where no fall is enough. `reason`: why there is no such fleet, or by what it
    is worse where that is not the cost. others: `alternatives(found)`, where they are known.
    """
    others = alternatives(found) if others is None else others
    return [
        {"what_if": "as planned", **_figures(found), "change_percent": 0.0, **NO_FALL, "reason": ""},
        *(_row(found, other) for other in others),
    ]


def _row(found: FleetPlan, other: Alternative) -> dict[str, Any]:
    """Return the row of an alternative."""
    if other.fleet is None:
        empty = dict.fromkeys(("usd_per_hour", "devices", "power_w", "slo_chance"), NAN)
        return {"what_if": other.name, "answer": "", **empty, "change_percent": NAN, **NO_FALL, "reason": other.reason}
    return {
        "what_if": other.name,
        **_figures(other.fleet),
        "change_percent": _percent(other.fleet.usd_per_hour, found.usd_per_hour),
        **_price_fall(found, other.fleet),
        "reason": _reason(found, other.fleet),
    }


def _figures(fleet: FleetPlan) -> dict[str, Any]:
    """Return what a fleet has, costs and draws, and the least chance that one of its options keeps its SLOs."""
    counts = fleet.replicas.max(axis=1)
    sure = fleet.slo_chance
    return {
        "answer": " + ".join(
            f"{n} x {o.name}" for n, o in zip(counts.tolist(), fleet.problem.options, strict=True) if n
        ),
        "usd_per_hour": fleet.usd_per_hour,
        "devices": sum(fleet.devices.values()),
        "power_w": fleet.power,
        "slo_chance": float(np.nanmin(sure)) if sure is not None and np.isfinite(sure).any() else NAN,
    }


def _reason(found: FleetPlan, other: FleetPlan) -> str:
    """Say by what an alternative is worse where that is not its cost, which has a column; "" else."""
    objective = "devices" if found.problem.counts_devices else found.problem.objective
    return "" if objective == "cost" else WORSE[objective].format(_worse_percent(found, other))


def _price_fall(found: FleetPlan, other: FleetPlan) -> dict[str, Any]:
    """Return by how much the prices of the devices that only `other` has must fall for it to cost no more, and which.

    `NO_FALL` where no fall is enough, or none is needed.
    """
    hours, had = found.problem.hours, set(found.devices)
    new = np.array([not set(o.devices_of) & had for o in other.problem.options], dtype=float)
    paid = float(new @ other.hourly() @ hours / hours.sum())
    more = other.usd_per_hour - found.usd_per_hour
    if not 0.0 < more <= paid:
        return NO_FALL
    of = ", ".join(name for name in other.devices if name not in had)
    return {"price_fall_percent": 100.0 * more / paid, "price_fall_of": of}
