"""Find the least-cost fleet: whole replicas of options and continuous shares of request classes, with proof.

`FleetProblem` (in `search.fleet.problem`) is plain data, `formulate` (in `search.fleet.program`) turns it into an
integer program, and `fleet_plan` solves it. The docstring of `search.fleet.program` has the formulation, with the names
that code, messages and docs use.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from hwdb import Infeasible
from perfmodel.arrays import Array, Index
from search.fleet.idle import Idle
from search.fleet.limits import INTEGRALITY_TOLERANCE, limits, prices, served_by_none
from search.fleet.periods import of_busiest, period_by_period
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
#: Share of a class from which an option counts as serving all of it.
WHOLE_SHARE = 0.9999
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
    where it does not come from a scenario. power_at_load: (O, P) watts at the load of each period, None where only the
    power at full load is known. scaled: of a static fleet over several periods, what each period needs of its options.
    static: of a fleet that changes over the day, the least-cost one that does not. idle: devices on hand that it does
    not use.
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
    power_at_load: Array | None = None
    scaled: FleetPlan | None = None
    static: FleetPlan | None = None
    idle: tuple[Idle, ...] = ()

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
        return float(self.watts.sum(0).max())

    @property
    def watts(self) -> Array:
        """Return the watts of each option in each period, (O, P): at its load, or at full load where only that is
        known."""
        if self.power_at_load is not None:
            return self.power_at_load
        full = np.array([o.power for o in self.problem.options])[:, None]
        return np.where(self.replicas > 0, full * self.replicas, 0.0)

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

        `remark`: what was left out of the comparison, and why; absent where nothing was. `replicas_needed`: of a static
        fleet over several periods, what the period needs.
        """
        problem, busy, hourly = self.problem, self.utilisation(), self.hourly()
        starts = np.concatenate([[0.0], np.cumsum(problem.hours)[:-1]])
        needed = self.scaled.replicas if self.scaled is not None else None
        return [
            {
                "option": problem.options[o].name,
                "device": problem.options[o].device,
                "model": problem.options[o].model,
                "serves": self._serves(int(o), int(t)),
                "period": int(t) + 1,
                "start_h": float(starts[t]),
                "hours": float(problem.hours[t]),
                "request_rate_rps": float(self.shares[o, :, t] @ problem.rate[t]),
                "replicas": int(self.replicas[o, t]),
                **({"replicas_needed": int(needed[o, t])} if needed is not None else {}),
                "devices": float(self.replicas[o, t] * problem.options[o].devices),
                "nodes": float(np.ceil(self.replicas[o, t] * problem.options[o].nodes - LIMIT_TOLERANCE)),
                "usd_per_hour": float(hourly[o, t]),
                "power_w": float(self.watts[o, t]),
                "utilisation_percent": float(busy[o, t]) * 100.0,
                **({"remark": "; ".join(problem.remarks)} if problem.remarks else {}),
            }
            for o, t in zip(*np.nonzero(self.replicas), strict=True)
        ]

    def _serves(self, option: int, period: int) -> str:
        """Name the classes that an option serves in a period, with the share of a class that it does not serve all
        of."""
        shares = self.shares[option, :, period] * (self.problem.rate[period] > 0)
        named = [(self.problem.classes[c], shares[c]) for c in np.nonzero(shares)[0]]
        return ", ".join(name if share > WHOLE_SHARE else f"{share:.0%} of {name}" for name, share in named)

    def hourly(self) -> Array:
        """Return USD per hour of each option in each period, (O, P); NaN where no prices are known.

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
        return np.asarray(out * np.nan if problem.counts_devices else out, dtype=float)

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
    few, stands = of_busiest(problem)
    if problem.elastic and problem.periods > 1:
        try:
            return period_by_period(problem, lambda one: _solved(one, solver, time_limit, gap))
        except FleetInfeasible:
            raise _infeasible(few, solver, time_limit) from None
    found = _solved(few, solver, time_limit, gap)
    return replace(
        found,
        problem=problem,
        replicas=np.repeat(found.replicas[:, :1], problem.periods, axis=1),
        shares=found.shares[:, :, stands],
    )


def _solved(problem: FleetProblem, solver: Solver, time_limit: float, gap: float) -> FleetPlan:
    """Solve a checked problem whose replicas are the same in all periods; the arguments are those of `fleet_plan`."""
    program = formulate(problem)
    if not run_solver(program, solver, time_limit, gap):
        raise _infeasible(problem, solver, time_limit)
    cost, bound = program.cost(), program.bound
    binding = () if problem.counts_devices else _binding(problem, program, solver, time_limit)
    if (prices(problem) == 0).any():
        program = _fewest_devices(program, solver, time_limit, gap)
    unit = np.nan if problem.counts_devices else 1.0
    return FleetPlan(
        problem=problem,
        replicas=program.solved_replicas(),
        shares=program.solved_shares(),
        usd_per_hour=cost * unit,
        bound=min(bound, cost) * unit,
        gap=max(0.0, (cost - bound) / cost) if cost > 0 else 0.0,
        binding=binding,
        solver=program.solver,
    )


def _fewest_devices(program: Program, solver: Solver, time_limit: float, gap: float) -> Program:
    """Return the solved program with the fewest devices among the fleets that cost no more than `program`'s."""
    cost = program.cost()
    fewest = formulate(program.problem, most_cost=cost + LEAST_SAVING * max(cost, 1.0))
    if not run_solver(fewest, solver, time_limit, gap) or fewest.cost() > cost + LEAST_SAVING * max(cost, 1.0):
        return program
    return fewest


def _infeasible(problem: FleetProblem, solver: Solver, time_limit: float) -> FleetInfeasible:
    """Return the error for a problem that no fleet satisfies, with the changes that would help."""
    told = "; ".join(["no fleet meets the demand within the limits", *problem.remarks])
    return FleetInfeasible(told, _relaxations(problem, solver, time_limit))


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
