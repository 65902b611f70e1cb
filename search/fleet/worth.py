"""Say what a little more of each limit would be worth: the fleet is planned again with it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from hwdb import Infeasible
from perfmodel import Slo
from search.fleet.fleet import FleetPlan
from search.fleet.limits import bounds
from search.fleet.plan import fleet_plan
from search.fleet.problem import FleetProblem
from search.fleet.relax import unit
from search.fleet.ties import LEAST_SAVING

if TYPE_CHECKING:
    from search.scenario import Scenario

#: Step of a limit whose worth is asked for, in its unit: a device, a kW, a USD per hour, a node, a kg per hour.
STEPS = {"power": 1e3, "budget": 1.0, "mean_budget": 1.0, "nodes": 1.0, "carbon": 1e3}
#: What is gained, by objective.
GAINS = {"cost": "USD/h", "traffic": "share of the demand", "power": "W", "carbon": "g CO2e/h", "devices": "devices"}
#: Step of the bounds of an SLO, seconds.
SLO_STEP_S = 0.01


def worth_rows(found: FleetPlan) -> list[dict[str, Any]]:
    """Return one flat row per limit, the most valuable first: what one more step of it is worth.

    `gain`: by how much the objective gets better, 0 where the limit does not bind. A fleet that nothing limits has no
    rows.
    """
    problem = found.problem
    rows = [_row(problem, name, (bound, step), _value(wider)) for name, bound, step, wider in _wider(problem)]
    base = _value(problem) if rows else 0.0
    return sorted((_gained(row, base) for row in rows), key=lambda r: -float(r["gain"]))


def _row(problem: FleetProblem, name: str, of: tuple[float, float], value: float) -> dict[str, Any]:
    """Return the row of one limit before its gain is known. of: bound, step. value: of the objective with the step."""
    told = {"limit": name, "allowed": of[0], "step": of[1], "step_unit": unit(name).strip() or "nodes"}
    return {**told, "gain": value, "gain_unit": GAINS[problem.objective]}


def _gained(row: dict[str, Any], base: float) -> dict[str, Any]:
    """Return a row whose `gain` is that over the value `base`; NaN is unknown.

    What is less than the solver's gap is no gain.
    """
    gain = base - float(row["gain"])
    return {**row, "gain": 0.0 if gain <= LEAST_SAVING * max(abs(base), LEAST_SAVING) else gain}


def _value(problem: FleetProblem) -> float:
    """Return the value of the objective of the best fleet of a problem."""
    return fleet_plan(problem).value


def slo_worth_rows(scenario: Scenario, problem: FleetProblem) -> list[dict[str, Any]]:
    """Return one flat row: what ten more milliseconds in every bound of the SLOs are worth.

    problem: of the scenario as it is. Empty where no class has an SLO or every throughput is stated.
    """
    from search.fleet.options import fleet_problem

    if scenario.fleet is None or not scenario.fleet.modelled:
        return []
    classes = tuple(replace(c, slo=_longer(c.slo)) for c in scenario.fleet.classes)
    if all(c.slo == old.slo for c, old in zip(classes, scenario.fleet.classes, strict=True)):
        return []
    longer = replace(scenario, slo=_longer(scenario.slo), fleet=replace(scenario.fleet, classes=classes))
    try:
        value = _value(fleet_problem(longer)[0])
    except Infeasible:
        return []
    row = _row(problem, "slo", (float("nan"), SLO_STEP_S), value) | {"step_unit": "s"}
    return [_gained(row, _value(problem))]


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
