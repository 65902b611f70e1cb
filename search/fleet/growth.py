"""Say when a growing demand outgrows a fleet, and what has to be bought then.

Today's replicas stay. Each month of the forecast asks whether they still serve the demand. Where they do not, the
program is solved again with the replicas on hand free of charge, and what it adds is the purchase.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from perfmodel.arrays import Array, Index
from search.fleet.fleet import FleetPlan
from search.fleet.limits import failures, supplied, taken_of
from search.fleet.plan import FleetInfeasible, fleet_plan
from search.fleet.problem import FleetProblem
from search.fleet.solve import Solver
from search.scenario import Growth, Inventory, Option, Supply

#: What a replica on hand costs more.
FREE: dict[str, Any] = {"usd_per_hour": 0.0, "migration_usd": 0.0, "penalty_usd_per_hour": 0.0, "current": 0}
#: Beginning of the device under which replicas on hand are counted.
ON_HAND = "on hand "
#: A fleet serves a demand that is above what it can by no more than this share: rounding of the linear program.
SERVED_TOLERANCE = 1e-6


def greatest_growth(problem: FleetProblem, replicas: Index) -> float:
    """Return the greatest factor on the demand of all classes and periods that some replicas serve, whatever fails.

    replicas: (O,) of each option, the same in all periods. A linear program per period and failure gives it.
    """
    held = np.nonzero(replicas)[0]
    most = np.inf
    for rate in np.unique(problem.rate, axis=0):
        for lost in np.unique(np.stack([lost[held] for lost in failures(problem)]), axis=0):
            alive = np.maximum(replicas[held] - lost, 0.0)
            most = min(most, _factor(problem, held, rate, alive))
    return most


def _factor(problem: FleetProblem, held: Index, rate: Array, alive: Array) -> float:
    """Return the greatest factor on `rate` (C,) that so many replicas (K,) of the options `held` (K,) serve."""
    from scipy.optimize import linprog

    wanted = np.nonzero(rate > 0)[0]
    if not len(wanted):
        return float("inf")
    speed = np.nan_to_num(problem.throughput[held])
    options, classes = len(alive), len(wanted)
    able = speed[:, wanted] > 0
    load = np.where(able, rate[wanted] / np.where(able, speed[:, wanted], 1.0), 0.0)
    count = options * classes
    loads = [(o, np.isin(wanted, at)) for o in range(options) for at in problem.loads(int(held[o]))]
    busy = np.zeros((len(loads), count + 1))  # variables: the rate served over the rate of today, by option and class
    served = np.zeros((classes, count + 1))
    for row, (o, mine) in enumerate(loads):
        busy[row, o * classes : (o + 1) * classes] = load[o] * mine
    for o in range(options):
        served[:, o * classes : (o + 1) * classes] = np.eye(classes)
    served[:, -1] = -1.0
    bounds = [(0.0, None if on else 0.0) for on in able.ravel().tolist()] + [(0.0, None)]
    goal = np.zeros(count + 1)
    goal[-1] = -1.0
    answer = linprog(goal, busy, alive[[o for o, _ in loads]], served, np.zeros(classes), bounds)
    return float(answer.x[-1]) if answer.status == 0 and answer.x is not None else 0.0


def growth_rows(found: FleetPlan, growth: Growth, solver: Solver | None = None) -> list[dict[str, Any]]:
    """Return one flat row per quantile and month of a forecast: demand, devices needed, and what is to be bought when.

    `next_purchase_rps`: the rate of all classes in the busiest period up to which the devices on hand suffice, before
    the purchase of the month. `order_by_month`: when the purchase has to be ordered; NaN where nothing is bought. A
    month that no fleet within the limits serves has the reason in `remark`, and those after it are left out.
    """
    problem = replace(found.problem, elastic=False, objective="cost")
    rows = []
    for quantile in growth.quantiles:
        held = found.replicas.max(axis=1)
        enough = greatest_growth(problem, held)
        for month, factor in enumerate(growth.factors(quantile).tolist()):
            before, added, told = enough, np.zeros_like(held), ""
            if factor > enough * (1.0 + SERVED_TOLERANCE):
                try:
                    added = bought(problem, held, factor, solver)
                except FleetInfeasible as error:
                    told = str(error.only(lambda name: ON_HAND not in name))
                held = held + added
                enough = greatest_growth(problem, held)
            rows.append(_row(problem, growth, (quantile, month, factor), (held, added), before))
            if told:
                rows[-1]["remark"] = told
                break
    return rows


def bought(problem: FleetProblem, held: Index, factor: float, solver: Solver | None = None) -> Index:
    """Return the replicas of each option, (O,), to buy so that the demand times `factor` is served at the least cost.

    held: (O,) replicas on hand, which cost nothing more.
    """
    at = np.nonzero(held)[0]
    stock = {f"{ON_HAND}{o}": float(held[o]) for o in at.tolist()}
    left = {d: n - float(problem.stocked(d) @ held) for d, n in problem.inventory.stock.items()}
    ours = tuple(_on_hand(problem, o) for o in at.tolist())
    supplies = _supplies_left(problem, held)
    inventory: Inventory = replace(problem.inventory, stock={**left, **stock}, supplies=supplies)
    wider = replace(
        problem,
        options=(*problem.options, *ours),
        throughput=np.concatenate([problem.throughput, problem.throughput[at]]),
        worlds=tuple(replace(w, throughput=np.concatenate([w.throughput, w.throughput[at]])) for w in problem.worlds),
        rate=problem.rate * factor,
        inventory=inventory,
    )
    return np.asarray(fleet_plan(wider, solver).replicas[: len(held)].max(axis=1))


def _on_hand(problem: FleetProblem, o: int) -> Option:
    """Return option o as it is on hand: free, and counted as a device of its own. It fails with its device's others."""
    option, pools = problem.options[o], problem.inventory.spare
    pool = next((d for d in option.pools if d in pools), "") if not problem.inventory.spare_domains else ""
    alone: dict[str, Any] = {"device": f"{ON_HAND}{o}", "devices": 1.0, "parts": {}, "part_nodes": {}, "region": ""}
    nodes = sum(option.nodes_of.values())
    return replace(option, **alone, **FREE, nodes=nodes, domain=option.domain or pool)


def _supplies_left(problem: FleetProblem, held: Index) -> tuple[Supply, ...]:
    """Return the supplies without the devices of the replicas on hand, (O,), which are those of the cheapest."""
    supplies = list(problem.inventory.supplies)
    taken = {d: float(taken_of(problem, d) @ held) for d in {s.device for s in supplies}}
    for k in sorted(range(len(supplies)), key=lambda k: supplies[k].usd_per_hour):
        some = min(supplies[k].most, taken[supplies[k].device])
        taken[supplies[k].device] -= some
        least = max(supplies[k].least - some, 0.0)
        supplies[k] = replace(supplies[k], most=supplies[k].most - some, least=least)
    return tuple(supplies)


def _devices(problem: FleetProblem, replicas: Index) -> dict[str, float]:
    """Return the devices of some replicas (O,) by name."""
    out: dict[str, float] = {}
    for option, count in zip(problem.options, replicas.tolist(), strict=True):
        if count:
            for device, number in option.devices_of.items():
                out[device] = out.get(device, 0.0) + number * count
    return out


def _row(
    problem: FleetProblem, growth: Growth, when: tuple[float, int, float], units: tuple[Index, Index], enough: float
) -> dict[str, Any]:
    """Return the row of a month. when: quantile, month, factor. units: replicas on hand at its end, and those bought.

    enough: greatest factor that the units before the month serve.
    """
    quantile, month, factor = when
    held, added = units
    today = float(problem.rate.sum(axis=1).max())
    price, rented = np.array([o.usd_per_hour for o in problem.options]), supplied(problem)
    unknown = problem.counts_devices or bool(rented.intersection(_devices(problem, held)))  # who supplies what is open
    new = _devices(problem, added)
    return {
        "quantile": quantile,
        "month": month,
        "growth": factor,
        "request_rate_rps": today * factor,
        "next_purchase_rps": today * enough,
        "devices": sum(_devices(problem, held).values()),
        "buy_devices": sum(new.values()),
        "buy": ", ".join(f"{n:g} x {name}" for name, n in new.items()),
        "order_by_month": month - growth.lead_months if new else float("nan"),
        "usd_per_hour": float("nan") if unknown else float(price @ held),
    }
