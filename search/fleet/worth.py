"""Say what limits cost and what a little more of each would be worth: the program is solved again with it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from search.fleet.fleet import LIMIT_TOLERANCE, Binding
from search.fleet.limits import bounds, limits
from search.fleet.problem import FleetProblem
from search.fleet.relax import Solve, unit
from search.fleet.ties import LEAST_SAVING
from search.fleet.variables import Ask, Program

#: Step of a limit whose worth is asked for, in its unit: a device, a kW, a USD per hour, a node, a kg per hour.
STEPS = {"power": 1e3, "budget": 1.0, "mean_budget": 1.0, "nodes": 1.0, "carbon": 1e3}
#: What is gained, by objective, and its unit.
GAINS = {"cost": "USD/h", "traffic": "x the demand", "power": "W", "carbon": "g CO2e/h", "devices": "devices"}


@dataclass(frozen=True)
class Worth:
    """What one more step of a limit is worth.

    limit: its name. step: how much more, in its unit. gain: by how much the objective gets better, in `unit`.
    """

    limit: str
    allowed: float
    step: float
    gain: float
    unit: str

    def row(self) -> dict[str, Any]:
        """Return a flat record."""
        return {
            "limit": self.limit,
            "allowed": self.allowed,
            "step": self.step,
            "step_unit": unit(self.limit).strip() or "nodes",
            "gain": self.gain,
            "gain_unit": self.unit,
        }


def binding(program: Program, solve: Solve) -> tuple[Binding, ...]:
    """Find the limits whose removal makes the fleet cheaper, the costliest first.

    Only a limit that one more replica of some option would exceed can bind. Each such limit is left out in turn and the
    program is solved again, so the saving is that of the whole limit, not a derivative.
    """
    problem, cost, found = program.problem, program.amount("cost"), []
    per_period = limits(problem)
    for name, limit in bounds(problem).items():
        used = program.used(name)
        if name in per_period and limit - used >= per_period[name][1].max() * (1 - LIMIT_TOLERANCE):
            continue
        free = solve(problem, Ask(without=frozenset({name})))
        if free is not None:
            saving = cost - free.amount("cost")
            if saving > LEAST_SAVING * max(cost, LIMIT_TOLERANCE):
                found.append(Binding(name=name, limit=limit, used=used, saving=saving))
    return tuple(sorted(found, key=lambda b: -b.saving))


def worths(problem: FleetProblem, solve: Solve, others: dict[str, FleetProblem] | None = None) -> tuple[Worth, ...]:
    """Find what one more step of every limit is worth, the most valuable first.

    others: by name, problems to compare with it beside those of the limits (SLOs that are ten milliseconds longer).
    """
    base = solve(problem, Ask())
    if base is None:
        return ()
    before, gains = base.amount(problem.objective), GAINS[problem.objective]
    found = []
    tries = [*_wider(problem), *((n, float("nan"), 1.0, p) for n, p in (others or {}).items())]
    for name, allowed, step, wider in tries:
        after = solve(wider, Ask())
        if after is not None:
            gain = before - after.amount(wider.objective)
            gain = gain if abs(gain) > LEAST_SAVING * max(abs(before), LEAST_SAVING) else 0.0
            found.append(Worth(name, allowed, step, gain, gains))
    return tuple(sorted(found, key=lambda w: -w.gain))


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
