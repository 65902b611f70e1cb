"""Marginal values of limits: what the objective gains if a limit is wider by one step; the fleet is planned again."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from hwdb import Infeasible
from perfmodel import Slo
from search.fleet.accounting.fleet import LIMIT_TOLERANCE, FleetPlan
from search.fleet.decomposition.split import splits
from search.fleet.integer_program.deadline import Deadline
from search.fleet.integer_program.relax import FleetInfeasible, in_nodes, unit
from search.fleet.problem_data.limits import bounds, limits, with_nodes
from search.fleet.problem_data.problem import FleetProblem, checked
from search.fleet.solution.day import over_the_day
from search.fleet.solution.plan import fleet_plan
from search.fleet.solution.ties import LEAST_SAVING

if TYPE_CHECKING:
    from search.scenario import Scenario

#: Step of a limit whose worth is asked for, in its unit: a device, a kW, a USD per hour, a node, a kg per hour.
STEPS = {"power": 1e3, "budget": 1.0, "mean_budget": 1.0, "nodes": 1.0, "carbon": 1e3}
#: What is gained, by objective.
GAINS = {"cost": "USD/h", "traffic": "share of the demand", "power": "W", "carbon": "g CO2e/h", "devices": "devices"}
#: Share of the time that is left for the fleet of longer bounds, and the seconds that it has in any case.
SLO_TIME, LEAST_S = 0.5, 1.0
#: Step of the bounds of an SLO, seconds.
SLO_STEP_S = 0.01


def marginal_value_rows(found: FleetPlan) -> list[dict[str, Any]]:
    """Return one flat row per limit, the most valuable first: what one more step of it is worth.

    `gain`: by how much the objective gets better than that of `found`, 0 where the limit does not bind, NaN where the
    time was over before it was known. All limits share the time of the problem. A fleet that nothing limits has no
    rows.
    """
    problem = found.problem.within()
    wider = list(_wider(problem))
    rows = [
        _gained(found, _row(problem, name, (bound, step), _value(found, _shared(problem, other, len(wider) - i))))
        for i, (name, bound, step, other) in enumerate(wider)
    ]
    return sorted(rows, key=lambda r: -float(np.nan_to_num(r["gain"], nan=-1.0)))


def _shared(problem: FleetProblem, other: FleetProblem, count: int) -> FleetProblem | None:
    """Return another problem with a part of the time that `problem` has left for so many; None where it is over."""
    timed = replace(other, due=problem.due).within(1.0 / count)
    return None if Deadline(timed.due).over else timed


def limit_rows(found: FleetPlan) -> list[dict[str, Any]]:
    """Return one flat row per limit that costs money, the costliest first, with the saving without the whole limit.

    They are those of `FleetPlan.binding_rows`. Where a large fleet was solved period by period, these are not known
    yet: it is planned again without each limit that one more replica of some option would exceed. A saving within the
    gap of the fleet is none; NaN is unknown, where the time was over.
    """
    problem = found.problem.within()
    if not splits(checked(problem)) or found.problem.counts_devices:
        return found.binding_rows()
    units = np.concatenate([with_nodes(problem, found.replicas), found.held])
    rows, full = [], []
    for name, (bound, each) in limits(problem).items():
        used = float((each @ units).max())
        if bound - used < each.max() * (1.0 - LIMIT_TOLERANCE):
            full.append((name, bound, used))
    for i, (name, bound, used) in enumerate(full):
        saving = found.value - _value(found, _shared(problem, _without(problem, name), len(full) - i))
        if np.isnan(saving) or saving > max(found.gap, LEAST_SAVING) * found.value:
            rows.append({"limit": name, "allowed": bound, "used": used, "saving_usd_per_hour": saving})
    return sorted(rows, key=lambda r: -float(np.nan_to_num(r["saving_usd_per_hour"], nan=-1.0)))


def _row(problem: FleetProblem, name: str, of: tuple[float, float], value: float) -> dict[str, Any]:
    """Return the row of one limit before its gain is known. of: bound, step. value: of the objective with the step."""
    told = {
        "limit": name,
        "allowed": of[0],
        "step": of[1],
        "step_unit": unit(name, name in in_nodes(problem)).strip() or "nodes",
    }
    return {**told, "gain": value, "gain_unit": GAINS[problem.objective]}


def _gained(found: FleetPlan, row: dict[str, Any]) -> dict[str, Any]:
    """Return a row whose `gain` is that over the value of `found`; NaN is unknown.

    What is less than the solver's gap is no gain. Of the most traffic, the demand is what `found` serves: all of it.
    """
    base = -1.0 if found.problem.objective == "traffic" else found.value
    gain = base - float(row["gain"])
    return {**row, "gain": 0.0 if gain <= max(LEAST_SAVING, found.gap) * max(abs(base), LEAST_SAVING) else gain}


def _value(found: FleetPlan, problem: FleetProblem | None) -> float:
    """Return the value of the objective of the best fleet of a problem; its options stay where those of `found` do.

    NaN where there was no time for it (None).
    """
    if problem is None:
        return float("nan")
    if found.options_stay and problem.periods > 1:
        return _in_time(lambda: over_the_day(problem, None, scaled=True))
    return _in_time(lambda: fleet_plan(problem))


def _in_time(planned: Callable[[], FleetPlan]) -> float:
    """Return the value of the objective of a fleet that is planned now, NaN where none was found in time."""
    try:
        return planned().value
    except FleetInfeasible:
        raise
    except Infeasible:
        return float("nan")


def slo_worth_rows(found: FleetPlan, scenario: Scenario) -> list[dict[str, Any]]:
    """Return one flat row: what ten more milliseconds in every bound of the SLOs are worth.

    found: the fleet of the scenario as it is. Empty where no class has an SLO or every throughput is stated.
    """
    from search.fleet.solution.from_scenario import plan_fleet

    fleet, modelled = scenario.fleet, found.modelled
    if modelled is None or not (modelled.placed or modelled.pairs):
        return []
    classes = () if fleet is None else tuple(replace(c, slo=_longer(c.slo)) for c in fleet.classes)
    bounded = [scenario.slo] if fleet is None else [c.slo for c in fleet.classes]
    if not any(slo.objectives for slo in bounded):
        return []
    longer = replace(scenario, slo=_longer(scenario.slo))
    longer = longer if fleet is None else replace(longer, fleet=replace(fleet, classes=classes))
    seconds = found.problem.within().left * SLO_TIME
    value = _in_time(lambda: plan_fleet(longer, time_limit=max(seconds, LEAST_S), gap=found.problem.gap))
    value = value / found.served if found.problem.objective == "traffic" else value
    row = _row(found.problem, "slo", (float("nan"), SLO_STEP_S), value) | {"step_unit": "s"}
    return [_gained(found, row)]


def _longer(slo: Slo) -> Slo:
    """Return an SLO whose bounds are ten milliseconds longer."""
    return replace(slo, objectives=tuple(replace(o, limit=o.limit + SLO_STEP_S) for o in slo.objectives))


def _wider(problem: FleetProblem) -> Iterator[tuple[str, float, float, FleetProblem]]:
    """Yield (name, bound, step, problem with the bound that much wider) of every limit."""
    inventory = problem.inventory
    for name, bound in bounds(problem).items():
        step = STEPS.get(name, 1.0)
        if name.startswith("stock["):
            device = name.removeprefix("stock[").removesuffix("]")
            wider = replace(inventory, stock={**inventory.stock, device: bound + step})
        elif name.startswith("supply["):
            supplies = tuple(
                replace(s, most=s.most + step) if name == f"supply[{s.name}]" else s for s in inventory.supplies
            )
            wider = replace(inventory, supplies=supplies)
        else:
            changed: dict[str, Any] = {name: bound + step}
            wider = replace(inventory, **changed)
        yield name, bound, step, replace(problem, inventory=wider)


def _without(problem: FleetProblem, name: str) -> FleetProblem:
    """Return the problem without one of its limits."""
    inventory = problem.inventory
    if name.startswith("stock["):
        device = name.removeprefix("stock[").removesuffix("]")
        free = replace(inventory, stock={d: n for d, n in inventory.stock.items() if d != device})
    elif name.startswith("supply["):
        free = replace(
            inventory,
            supplies=tuple(
                replace(s, most=float("inf")) if name == f"supply[{s.name}]" else s for s in inventory.supplies
            ),
        )
    else:
        changed: dict[str, Any] = {name: float("inf")}
        free = replace(inventory, **changed)
    return replace(problem, inventory=free)
