"""The rows that join the parts of a fleet: groups of classes, and periods, that share devices, power and nodes.

A part is one group of classes (`search.fleet.problem_data.cases.groups`) in one period, or in all periods if the fleet
stays the same. All other constraints of the program concern a single part. The rows that join parts, in every period,
are:

source[d]   devices in use beside spot ones <= what the supplies hold
spot[d]     devices in use on spot <= what the spot supply holds
stock[d], power, nodes, as in `search.fleet.integer_program.supply_constraints`

With a price on each row (USD per hour for one unit of it), the parts are independent problems. The sum of their least
costs at these prices, less the bounds of the rows valued at the same prices, is a lower bound on the cost of the fleet
(Lagrangian relaxation). It holds for all prices >= 0 that do not exceed the cost of a supply without a limit.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from perfmodel.arrays import Array
from search.fleet.problem_data.cases import groups
from search.fleet.problem_data.limits import limits, prices, spot_options, taken_of
from search.fleet.problem_data.problem import FleetProblem
from search.scenario import Supply

#: Devices that a part can have beside those of other parts, by name: (USD per hour, most of them), the cheapest first.
Tiers = Mapping[str, Sequence[tuple[float, float]]]


@dataclass(frozen=True)
class Part:
    """One group in one slot. options, classes: positions of the group's. slot: its number. periods: of the slot."""

    options: tuple[int, ...]
    classes: tuple[int, ...]
    slot: int
    periods: tuple[int, ...]


@dataclass(frozen=True)
class Coupling:
    """R rows of each of S slots, and what O options and K supplies add to them.

    names, bound: (R,). replicas: (R, O) of a replica. lent: (R, O) more where it stands on spot devices. held: (R, K)
    of a device held, below 0 where it allows for more. weight: (S,) share of the hours.
    """

    problem: FleetProblem
    names: tuple[str, ...]
    bound: Array
    replicas: Array
    lent: Array
    held: Array
    weight: Array

    @property
    def capacity(self) -> Array:
        """Return what all supplies together allow the replicas of a slot to take of each row, (R,)."""
        most = np.array([s.most for s in self.problem.inventory.supplies])
        more = np.where(self.held < 0, -self.held, 0.0)
        return np.asarray(self.bound + np.where(more > 0, more * np.where(more > 0, most, 0.0), 0.0).sum(axis=1))

    def row(self, name: str) -> int:
        """Return the number of the row called `name`, -1 for none."""
        return self.names.index(name) if name in self.names else -1

    def usd(self, dual: Array) -> tuple[Array, Array]:
        """Return what a replica, and what its being on spot devices, adds to the cost at prices `dual` (R, S).

        (O, S) each, USD per hour as they count in the mean over the hours.
        """
        own = prices(self.problem)[: len(self.problem.options)]
        own = own + np.array([o.penalty_usd_per_hour for o in self.problem.options])
        return own[:, None] * self.weight + self.replicas.T @ dual, self.lent.T @ dual

    def within_prices(self, dual: Array) -> Array:
        """Return prices (R, S) that are lowered to where no supply without end is worth more than it costs."""
        out = np.maximum(dual, 0.0)
        for supply in self.problem.inventory.supplies:
            row = self.row(f"{'spot' if supply.kind == 'spot' else 'source'}[{supply.device}]")
            if np.isfinite(supply.most):
                continue
            if supply.kind == "reserved":
                out[row] *= min(1.0, supply.usd_per_hour / max(float(out[row].sum()), np.finfo(float).tiny))
            else:
                out[row] = np.minimum(out[row], supply.usd_per_hour * self.weight)
        return out

    def worth(self, dual: Array) -> float:
        """Return what the bounds of the rows and the devices of the supplies are worth at prices (R, S)."""
        total = float(self.bound @ dual.sum(axis=1))
        for k, supply in enumerate(self.problem.inventory.supplies):
            gain = -(self.held[:, k] @ dual) - supply.usd_per_hour * self.weight
            gain = np.maximum(gain.sum() if supply.kind == "reserved" else gain, 0.0).sum()
            total += float(gain * supply.most) if np.isfinite(supply.most) else 0.0
        return total


def coupling(problem: FleetProblem) -> Coupling:
    """Return the rows that join the parts of a problem that is split (see `split.splits`)."""
    supplies, count = problem.inventory.supplies, len(problem.options)
    on_spot = np.isin(np.arange(count), spot_options(problem))
    names, bound, rows = [], [], []
    none = np.zeros(len(supplies))
    for device in dict.fromkeys(s.device for s in supplies):
        each = taken_of(problem, device)
        here = np.array([s.device == device for s in supplies])
        spot = here & np.array([s.kind == "spot" for s in supplies])
        names += [f"source[{device}]", f"spot[{device}]"]
        lent = each * on_spot
        rows += [(each, -lent, -1.0 * (here & ~spot)), (np.zeros(count), lent, -1.0 * spot)]
        bound += [0.0, 0.0]
    for name, (most, taken) in limits(problem).items():
        if not name.startswith("supply["):
            names.append(name)
            bound.append(most)
            rows.append((taken[:count], np.zeros(count), none))
    shapes = (count, count, len(supplies))
    each, lent, held = (np.array([r[i] for r in rows], dtype=float).reshape(len(rows), n) for i, n in enumerate(shapes))
    weight = problem.hours / problem.hours.sum() if problem.elastic else np.ones(1)
    return Coupling(problem, tuple(names), np.array(bound, dtype=float), each, lent, held, weight)


def parts_of(problem: FleetProblem) -> list[Part]:
    """List the parts of a problem, slot by slot."""
    slots = [(t,) for t in range(problem.periods)] if problem.elastic else [tuple(range(problem.periods))]
    return [Part(o, c, s, periods) for s, periods in enumerate(slots) for o, c in groups(problem)]


def part_problem(
    join: Coupling, part: Part, dual: Array, left: Array | None = None, tiers: Tiers | None = None
) -> FleetProblem:
    """Return the problem of a part alone, whose cost is that at prices `dual` (R, S).

    left: (R,) what it may take of each row; None for no bound. tiers: of its devices, in place of
    their price in `dual`.
    """
    problem, rows, s = join.problem, np.array(part.options), part.slot
    few, classes, periods = problem.of_options(rows), np.array(part.classes), np.array(part.periods)
    paid = [r for r, name in enumerate(join.names) if not name.startswith(("source[", "spot["))]
    extra = (join.replicas[paid][:, rows].T @ dual[paid, s]) / join.weight[s]
    bounds = {join.names[r]: float(max(left[r], 0.0)) for r in paid} if left is not None else {}
    inventory = replace(
        problem.inventory,
        supplies=_supplies(join, few, dual[:, s] / join.weight[s], left, tiers or {}),
        stock={name[len("stock[") : -1]: bound for name, bound in bounds.items() if name.startswith("stock[")},
        power=bounds.get("power", np.inf),
        nodes=bounds.get("nodes", np.inf),
    )
    alone = replace(
        few,
        options=tuple(
            replace(o, penalty_usd_per_hour=o.penalty_usd_per_hour + float(more))
            for o, more in zip(few.options, extra, strict=True)
        ),
        classes=tuple(problem.classes[c] for c in part.classes),
        class_models=tuple(problem.class_models[c] for c in part.classes if problem.class_models),
        throughput=few.throughput[:, classes],
        worlds=tuple(replace(w, throughput=w.throughput[:, classes]) for w in few.worlds),
        inventory=inventory,
        elastic=False,
    )
    return alone.at_periods(periods, problem.rate[np.ix_(periods, classes)], problem.hours[periods])


def _supplies(join: Coupling, few: FleetProblem, dual: Array, left: Array | None, tiers: Tiers) -> tuple[Supply, ...]:
    """Return the supplies of a part: of each device its tiers, or one at the price of `source`, and one of `spot`.

    few: the problem of its options. dual: (R,) prices in its slot, USD per hour. left, tiers: see `part_problem`.
    """
    found: list[Supply] = []
    most = np.full(len(join.names), np.inf) if left is None else np.maximum(left, 0.0)
    for device in dict.fromkeys(s.device for s in join.problem.inventory.supplies):
        if device not in few.device_names:
            continue
        row = join.row(f"source[{device}]")
        each = tiers.get(device, ((float(dual[row]), float(most[row])),))
        found += [Supply(device, f"tier {i}", usd, count) for i, (usd, count) in enumerate(each)]
        for spot in join.problem.inventory.supplies:
            if spot.device == device and spot.kind == "spot":
                row = join.row(f"spot[{device}]")
                found.append(replace(spot, usd_per_hour=float(dual[row]), most=float(most[row])))
    return tuple(found)
