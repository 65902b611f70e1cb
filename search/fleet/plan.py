"""How many of which: whole replicas of options and continuous shares of request classes, at least cost.

`FleetProblem` is plain data, `search.fleet.program.formulate` turns it into an integer program, `fleet_plan` solves
it. The formulation, with the names that code, messages and docs use, is in `search.fleet.program`; the data in
`search.fleet.problem`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hwdb import Infeasible
from perfmodel.arrays import Array
from search.fleet.problem import FleetProblem, checked
from search.fleet.program import WHOLE, Program, Solver, available_solver, formulate, limits, run_solver, served_by_none
from search.manifest import Manifest
from search.scenario import Inventory, Option

__all__ = ["Binding", "FleetInfeasible", "FleetPlan", "FleetProblem", "Inventory", "Option", "Relaxation", "fleet_plan"]

#: A limit counts as used up when less than this share of it is left.
TOUCHING = 1e-9


@dataclass(frozen=True)
class Binding:
    """A limit that costs money: the fleet would be `saving` USD an hour cheaper without it."""

    name: str
    limit: float
    used: float
    saving: float


@dataclass(frozen=True)
class Relaxation:
    """One change that makes an infeasible problem feasible: limits to raise, as name -> (from, to)."""

    limits: Mapping[str, tuple[float, float]]

    def __str__(self) -> str:
        def phrase(name: str, before: float, after: float) -> str:
            if name == "demand":
                return f"lower the demand to {after:.1%} of what is asked"
            return f"raise {describe(name)} from {before:,.6g} to {after:,.6g}{unit(name)}"

        return " and ".join(phrase(n, *change) for n, change in self.limits.items())


class FleetInfeasible(Infeasible):
    """No fleet satisfies the limits; `relaxations` lists changes each of which is enough."""

    def __init__(self, message: str, relaxations: tuple[Relaxation, ...] = ()) -> None:
        ways = "; or ".join(str(r) for r in relaxations)
        super().__init__(message + (f": {ways}" if ways else ""))
        self.relaxations = relaxations


@dataclass(frozen=True)
class FleetPlan:
    """The least-cost fleet, with proof.

    replicas: (O, P) whole numbers. shares: (O, C, P) share of a class that each option serves; sums to 1 over
    O. usd_per_hour: mean over periods, weighted by their hours. bound: proven lower bound on it; gap:
    relative distance.
    binding: limits that cost money, the costliest first. manifest: how to make it again, where it came from a scenario.
    """

    problem: FleetProblem
    replicas: NDArray[np.intp]
    shares: Array
    usd_per_hour: float
    bound: float
    gap: float
    binding: tuple[Binding, ...]
    solver: str
    manifest: Manifest | None = None

    @property
    def devices(self) -> dict[str, float]:
        """Devices by name, at the fullest period."""
        used: dict[str, Array] = {}
        for option, counts in zip(self.problem.options, self.replicas, strict=True):
            used[option.device] = used.get(option.device, 0.0) + option.devices * counts
        return {name: float(counts.max()) for name, counts in used.items() if counts.max() > 0}

    @property
    def power(self) -> float:
        """W of the whole fleet at the fullest period; NaN where an option that is used has none."""
        watts = np.array([o.power for o in self.problem.options])[:, None]
        return float(np.where(self.replicas > 0, watts * self.replicas, 0.0).sum(0).max())

    def utilisation(self) -> Array:
        """(O, P) share of its capacity at SLO that each option works; NaN where it has no replica."""
        p = self.problem
        speed = np.where(p.serves(), p.throughput, np.inf)
        load = np.einsum("ocp,pc->op", self.shares / speed[:, :, None], p.rate)
        return np.where(self.replicas > 0, load / np.maximum(self.replicas, 1), np.nan)

    def rows(self) -> list[dict[str, Any]]:
        """One flat record an option and period that is used; names carry units. Costs add up over the options."""
        p, busy = self.problem, self.utilisation()
        hourly = self._hourly()
        return [
            {
                "option": p.options[o].name,
                "device": p.options[o].device,
                "period": int(t) + 1,
                "hours": float(p.hours[t]),
                "replicas": int(self.replicas[o, t]),
                "devices": float(self.replicas[o, t] * p.options[o].devices),
                "nodes": float(np.ceil(self.replicas[o, t] * p.options[o].nodes - TOUCHING)),
                "usd_per_hour": float(hourly[o, t]),
                "power_w": float(self.replicas[o, t] * p.options[o].power),
                "utilisation_percent": float(busy[o, t]) * 100.0,
            }
            for o, t in zip(*np.nonzero(self.replicas), strict=True)
        ]

    def _hourly(self) -> Array:
        """(O, P) USD an hour of each option; nodes paid whole are shared out by what their replicas take of them."""
        p = self.problem
        nodes = np.array([o.nodes for o in p.options])[:, None] * self.replicas
        out = np.array([o.usd_per_hour for o in p.options])[:, None] * self.replicas
        for device in p.by_node:
            on = np.array([o.device == device for o in p.options])
            held = nodes[on].sum(axis=0)
            bill = p.inventory.node_usd_per_hour[device] * np.ceil(held - WHOLE)
            out[on] = np.where(held > 0, nodes[on] / np.maximum(held, WHOLE), 0.0) * bill
        return np.asarray(out, dtype=float)

    def share_rows(self) -> list[dict[str, Any]]:
        """One flat record an option, class and period: how much of the class goes there."""
        p = self.problem
        return [
            {
                "class": p.classes[c],
                "option": p.options[o].name,
                "period": int(t) + 1,
                "share_percent": float(self.shares[o, c, t]) * 100.0,
                "request_rate_rps": float(self.shares[o, c, t] * p.rate[t, c]),
                "throughput_rps_per_replica": float(p.throughput[o, c]),
            }
            for o, c, t in zip(*np.nonzero(self.shares), strict=True)
        ]

    def binding_rows(self) -> list[dict[str, Any]]:
        """One flat record a limit that costs money."""
        return [
            {"limit": b.name, "allowed": b.limit, "used": b.used, "saving_usd_per_hour": b.saving} for b in self.binding
        ]


def describe(limit: str) -> str:
    """A limit's name in words: `stock[h100-sxm]` is "the stock of h100-sxm"."""
    if limit.startswith("stock["):
        return f"the stock of {limit[6:-1]}"
    return {"power": "the power limit", "budget": "the budget", "nodes": "the number of nodes"}.get(limit, limit)


def unit(limit: str) -> str:
    """The unit a limit is quoted in, with a leading space."""
    return {"power": " W", "budget": " USD/h"}.get(limit, "" if limit == "nodes" else " devices")


def fleet_plan(
    problem: FleetProblem, solver: Solver | None = None, time_limit: float = 60.0, gap: float = 1e-6
) -> FleetPlan:
    """Solve `problem`; time_limit in seconds, `gap` the relative distance from the optimum that is good
    enough.

    solver: `highs` or `cbc`; by default HiGHS, or CBC where HiGHS is not installed.

    Raises `FleetInfeasible`, naming what to relax and by how much, and `InputError` for data that contradicts
    itself.
    """
    problem, solver = checked(problem), solver or available_solver()
    orphans = served_by_none(problem)
    if orphans:
        names = ", ".join(repr(problem.classes[c]) for c in orphans)
        raise FleetInfeasible(f"no option serves request class(es) {names} within the SLO; relax it or offer others")
    program = formulate(problem)
    if not run_solver(program, solver, time_limit, gap):
        raise FleetInfeasible("no fleet meets the demand within the limits", _relaxations(problem, solver, time_limit))
    cost = program.cost()
    return FleetPlan(
        problem=problem,
        replicas=program.replicas(),
        shares=program.shares(),
        usd_per_hour=cost,
        bound=min(program.bound, cost),
        gap=max(0.0, (cost - program.bound) / cost) if cost > 0 else 0.0,
        binding=_binding(problem, program, solver, time_limit),
        solver=program.solver,
    )


def _binding(problem: FleetProblem, program: Program, solver: Solver, time_limit: float) -> tuple[Binding, ...]:
    """Limits whose removal makes the fleet cheaper, the costliest first.

    Only limits that the next replica of some option would break can bind; each is left out in turn and the
    program solved again, so the saving is that of the whole limit, not a derivative.
    """
    found = []
    for name, (limit, weights) in limits(problem).items():
        used = program.used(name)
        if limit - used >= weights.max() * (1 - TOUCHING):
            continue
        free = formulate(problem, without=frozenset({name}))
        if run_solver(free, solver, time_limit, 1e-6):
            saving = program.cost() - free.cost()
            if saving > 1e-6 * max(program.cost(), 1e-9):
                found.append(Binding(name, limit, used, saving))
    return tuple(sorted(found, key=lambda b: -b.saving))


def _relaxations(problem: FleetProblem, solver: Solver, time_limit: float) -> tuple[Relaxation, ...]:
    """Least changes that make it feasible: each limit alone, else all limits together; then less demand."""

    def least(names: frozenset[str]) -> Relaxation | None:
        elastic = formulate(problem, elastic=names)
        if not run_solver(elastic, solver, time_limit, 1e-6):
            return None
        return Relaxation(elastic.raised())

    bounds = limits(problem)
    alone = [least(frozenset({name})) for name in bounds]
    found = [r for r in alone if r is not None]
    if not found:
        together = least(frozenset(bounds))
        found = [together] if together is not None else []
    less = least(frozenset({"demand"}))
    return (*found, *([less] if less is not None else []))
