"""Find the least-cost fleet: whole replicas of options and continuous shares of request classes, with proof.

`FleetProblem` (in `search.fleet.problem`) is plain data, `formulate` (in `search.fleet.program`) turns it into an
integer program, and `fleet_plan` solves it. The docstring of `search.fleet.program` has the formulation, with the names
that code, messages and docs use.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from hwdb import Infeasible
from perfmodel.arrays import Array, Index
from search.fleet.limits import INTEGRALITY_TOLERANCE, limits, served_by_none
from search.fleet.problem import FleetProblem, checked
from search.fleet.program import Program, formulate
from search.fleet.solve import Solver, available_solver, run_solver
from search.manifest import Manifest
from search.scenario import Inventory, Option

__all__ = ["Binding", "FleetInfeasible", "FleetPlan", "FleetProblem", "Inventory", "Option", "Relaxation", "fleet_plan"]

#: A limit is used up when less than this share of it is left.
LIMIT_TOLERANCE = 1e-9
#: Relative distance from the optimum at which the solver may stop.
DEFAULT_GAP = 1e-6
#: Saving, relative to the fleet's cost, from which a limit counts as binding: the gap of the solutions compared.
LEAST_SAVING = 1e-6
#: Seconds that the solver may take by default. chosen.
TIME_LIMIT_S = 60.0


@dataclass(frozen=True)
class Binding:
    """A limit that costs money: without it, the fleet would be `saving` USD per hour cheaper.

    limit, used: what is allowed and what the fullest period takes, in the unit of the limit.
    """

    name: str
    limit: float
    used: float
    saving: float


@dataclass(frozen=True)
class Relaxation:
    """One change that makes an infeasible fleet problem feasible. limits: those to raise, as name -> (from, to)."""

    limits: Mapping[str, tuple[float, float]]

    def __str__(self) -> str:
        def phrase(name: str, before: float, after: float) -> str:
            if name == "demand":
                return f"lower the demand to {after:.1%} of what is asked"
            return f"raise {describe(name)} from {before:,.6g} to {after:,.6g}{unit(name)}"

        return " and ".join(phrase(n, *change) for n, change in self.limits.items())


class FleetInfeasible(Infeasible):
    """Raised when no fleet satisfies the limits. relaxations: changes, each of which alone makes a fleet possible."""

    def __init__(self, message: str, relaxations: tuple[Relaxation, ...] = ()) -> None:
        ways = "; or ".join(str(r) for r in relaxations)
        super().__init__(message + (f": {ways}" if ways else ""))
        self.relaxations = relaxations


@dataclass(frozen=True)
class FleetPlan:
    """The least-cost fleet of O options for C request classes over P periods, with proof.

    replicas: (O, P) whole numbers. shares: (O, C, P) part of a class that each option serves; they sum to 1 over
    options. usd_per_hour: mean over periods, weighted by their hours. bound: proven lower bound on it. gap: their
    relative distance. binding: limits that cost money, the costliest first. manifest: what the fleet rests on, None
    where it does not come from a scenario.
    """

    problem: FleetProblem
    replicas: Index
    shares: Array
    usd_per_hour: float
    bound: float
    gap: float
    binding: tuple[Binding, ...]
    solver: str
    manifest: Manifest | None = None

    @property
    def devices(self) -> dict[str, float]:
        """Return the devices in use by name, each in its fullest period."""
        used: dict[str, Array] = {}
        for option, counts in zip(self.problem.options, self.replicas, strict=True):
            used[option.device] = used.get(option.device, 0.0) + option.devices * counts
        return {name: float(counts.max()) for name, counts in used.items() if counts.max() > 0}

    @property
    def power(self) -> float:
        """Return the watts of the whole fleet in the fullest period; NaN where an option in use has no known power."""
        watts = np.array([o.power for o in self.problem.options])[:, None]
        return float(np.where(self.replicas > 0, watts * self.replicas, 0.0).sum(0).max())

    def utilisation(self) -> Array:
        """Return how busy each option is in each period, (O, P): its load over what its replicas serve within the SLO.

        NaN where it has no replica.
        """
        problem = self.problem
        speed = np.where(problem.serves(), problem.throughput, np.inf)
        load = np.einsum("oct,tc->ot", self.shares / speed[:, :, None], problem.rate)
        return np.where(self.replicas > 0, load / np.maximum(self.replicas, 1), np.nan)

    def rows(self) -> list[dict[str, Any]]:
        """Return one flat record per option and period in use. Costs add up over the options.

        `remark`: what was left out of the comparison, and why; absent where nothing was.
        """
        problem, busy, hourly = self.problem, self.utilisation(), self._hourly()
        hourly = hourly * np.nan if problem.counts_devices else hourly
        return [
            {
                "option": problem.options[o].name,
                "device": problem.options[o].device,
                "period": int(t) + 1,
                "hours": float(problem.hours[t]),
                "replicas": int(self.replicas[o, t]),
                "devices": float(self.replicas[o, t] * problem.options[o].devices),
                "nodes": float(np.ceil(self.replicas[o, t] * problem.options[o].nodes - LIMIT_TOLERANCE)),
                "usd_per_hour": float(hourly[o, t]),
                "power_w": float(self.replicas[o, t] * problem.options[o].power),
                "utilisation_percent": float(busy[o, t]) * 100.0,
                **({"remark": "; ".join(problem.remarks)} if problem.remarks else {}),
            }
            for o, t in zip(*np.nonzero(self.replicas), strict=True)
        ]

    def _hourly(self) -> Array:
        """Return USD per hour of each option in each period, (O, P).

        The price of whole nodes is split over the options by what their replicas take of the nodes.
        """
        problem = self.problem
        nodes = np.array([o.nodes for o in problem.options])[:, None] * self.replicas
        out = np.array([o.usd_per_hour for o in problem.options])[:, None] * self.replicas
        for device in problem.by_node:
            on = np.array([o.device == device for o in problem.options])
            held = nodes[on].sum(axis=0)
            bill = problem.inventory.node_usd_per_hour[device] * np.ceil(held - INTEGRALITY_TOLERANCE)
            out[on] = np.where(held > 0, nodes[on] / np.maximum(held, INTEGRALITY_TOLERANCE), 0.0) * bill
        return np.asarray(out, dtype=float)

    def share_rows(self) -> list[dict[str, Any]]:
        """Return one flat record per option, class and period in use: how much of the class the option serves."""
        problem = self.problem
        return [
            {
                "class": problem.classes[c],
                "option": problem.options[o].name,
                "period": int(t) + 1,
                "share_percent": float(self.shares[o, c, t]) * 100.0,
                "request_rate_rps": float(self.shares[o, c, t] * problem.rate[t, c]),
                "throughput_rps_per_replica": float(problem.throughput[o, c]),
            }
            for o, c, t in zip(*np.nonzero(self.shares), strict=True)
        ]

    def binding_rows(self) -> list[dict[str, Any]]:
        """Return one flat record per limit that costs money."""
        return [
            {"limit": b.name, "allowed": b.limit, "used": b.used, "saving_usd_per_hour": b.saving} for b in self.binding
        ]


def describe(limit: str) -> str:
    """Describe a limit in words: `stock[h100-sxm]` is "the stock of h100-sxm"."""
    if limit.startswith("stock["):
        return f"the stock of {limit.removeprefix('stock[').removesuffix(']')}"
    return {"power": "the power limit", "budget": "the budget", "nodes": "the number of nodes"}.get(limit, limit)


def unit(limit: str) -> str:
    """Return the unit in which a message gives the limit called `limit`, with a leading space; "" for nodes."""
    return {"power": " W", "budget": " USD/h"}.get(limit, "" if limit == "nodes" else " devices")


def fleet_plan(
    problem: FleetProblem, solver: Solver | None = None, time_limit: float = TIME_LIMIT_S, gap: float = DEFAULT_GAP
) -> FleetPlan:
    """Solve `problem` for the least-cost fleet.

    Args:
        problem: options, classes, demand, limits.
        solver: `highs` or `cbc`; by default HiGHS, or CBC where HiGHS is not installed.
        time_limit: seconds per solution.
        gap: relative distance from the optimum at which the solver may stop.

    Raises:
        FleetInfeasible: no fleet satisfies the limits; the message says what to relax and by how much.
        InputError: the data contradict themselves.
    """
    problem, solver = checked(problem), solver or available_solver()
    unserved = served_by_none(problem)
    if unserved:
        names = ", ".join(repr(problem.classes[c]) for c in unserved)
        raise FleetInfeasible(f"no option serves request class(es) {names} within the SLO; relax it or offer others")
    program = formulate(problem)
    if not run_solver(program, solver, time_limit, gap):
        told = "; ".join(["no fleet meets the demand within the limits", *problem.remarks])
        raise FleetInfeasible(told, _relaxations(problem, solver, time_limit))
    cost = program.cost()
    unit = np.nan if problem.counts_devices else 1.0
    return FleetPlan(
        problem=problem,
        replicas=program.solved_replicas(),
        shares=program.solved_shares(),
        usd_per_hour=cost * unit,
        bound=min(program.bound, cost) * unit,
        gap=max(0.0, (cost - program.bound) / cost) if cost > 0 else 0.0,
        binding=() if problem.counts_devices else _binding(problem, program, solver, time_limit),
        solver=program.solver,
    )


def _binding(problem: FleetProblem, program: Program, solver: Solver, time_limit: float) -> tuple[Binding, ...]:
    """Find the limits whose removal makes the fleet cheaper, the costliest first.

    Only a limit that one more replica of some option would exceed can bind. Each such limit is left out in turn and the
    program is solved again, so the saving is that of the whole limit, not a derivative.
    """
    found = []
    for name, (limit, taken) in limits(problem).items():
        used = program.used(name)
        if limit - used >= taken.max() * (1 - LIMIT_TOLERANCE):
            continue
        free = formulate(problem, without=frozenset({name}))
        if run_solver(free, solver, time_limit, DEFAULT_GAP):
            saving = program.cost() - free.cost()
            if saving > LEAST_SAVING * max(program.cost(), LIMIT_TOLERANCE):
                found.append(Binding(name=name, limit=limit, used=used, saving=saving))
    return tuple(sorted(found, key=lambda b: -b.saving))


def _relaxations(problem: FleetProblem, solver: Solver, time_limit: float) -> tuple[Relaxation, ...]:
    """Find the least changes that make the problem feasible: each limit alone, else all together; then less demand."""

    def least(names: frozenset[str]) -> Relaxation | None:
        """Find the least excess of the limits `names` that makes the problem feasible; None where no excess does."""
        elastic = formulate(problem, elastic=names)
        return Relaxation(elastic.raised()) if run_solver(elastic, solver, time_limit, DEFAULT_GAP) else None

    bounds = limits(problem)
    found = [r for r in (least(frozenset({name})) for name in bounds) if r is not None]
    if not found:
        together = least(frozenset(bounds))
        found = [together] if together is not None else []
    less_demand = least(frozenset({"demand"}))
    return (*found, *([less_demand] if less_demand is not None else []))
