"""Say when a growing demand outgrows a fleet, and what has to be bought then.

Today's replicas stay. Each month of the forecast asks whether they still serve the demand. Where they do not, the
program is solved again with at least the replicas on hand, and what it adds is the purchase.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from perfmodel.arrays import Array, Index
from search.fleet.accounting.fleet import FleetPlan
from search.fleet.integer_program.solve import Solver
from search.fleet.problem_data.cases import FAILURES, cases
from search.fleet.problem_data.limits import supplied
from search.fleet.problem_data.problem import FleetProblem
from search.fleet.solution.plan import FleetInfeasible, fleet_plan
from search.scenario import Growth

#: A fleet serves a demand that is above what it can by no more than this share: rounding of the linear program.
SERVED_TOLERANCE = 1e-6


def greatest_growth(problem: FleetProblem, replicas: Index, spot: Array | None = None) -> float:
    """Return the greatest factor on the demand of all classes and periods that some replicas serve in every case.

    replicas: (O,) of each option, the same in all periods. spot: (O,) of them on spot devices, none by default. The
    cases are those of `search.fleet.problem_data.cases`: failures, losses of spot devices, cases to survive, and all
    draws of the throughput but those that may be missed. A linear program per distinct period and case gives the
    factor.
    """
    on_spot = np.zeros(len(replicas)) if spot is None else spot
    most, draws = float(np.inf), dict[int, float]()
    for case in cases(problem):
        if case.kind in FAILURES and not any(replicas[o] for o in case.options if case.touches(o)):
            continue  # it takes nothing
        held = np.array([o for o in case.options if replicas[o]], dtype=np.intp)
        alive = case.alive(problem, replicas.astype(float), on_spot)[held]
        mine = np.isin(np.arange(len(problem.classes)), case.classes)
        rates = np.unique(problem.rate * mine, axis=0)
        factor = min(_factor(problem, held, (rate, case.throughput[held]), alive) for rate in rates)
        if case.kind == "chance":
            draws[case.world] = min(draws.get(case.world, np.inf), factor)
        else:
            most = min(most, factor)
    return min([most, *sorted(draws.values())[problem.may_miss :]])


def _factor(problem: FleetProblem, held: Index, load_of: tuple[Array, Array], alive: Array) -> float:
    """Return the greatest factor on the demand that so many replicas (K,) of the options `held` (K,) serve.

    load_of: rate (C,) of each class, and throughput (K, C) of one replica.
    """
    from scipy.optimize import linprog

    rate, speed = load_of
    wanted = np.nonzero(rate > 0)[0]
    if not len(wanted):
        return float("inf")
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
        spot = held - (found.replicas - found.spot).max(axis=1)
        enough = greatest_growth(problem, held, spot)
        for month, factor in enumerate(growth.factors(quantile).tolist()):
            before, added, told = enough, np.zeros_like(held), ""
            if factor > enough * (1.0 + SERVED_TOLERANCE):
                try:
                    more = extended(problem, held, factor, solver)
                except FleetInfeasible as error:
                    told = str(error)
                else:
                    added, spot = more.replicas[:, 0] - held, more.spot[:, 0]
                    held = held + added
                    enough = greatest_growth(problem, held, spot)
            rows.append(_row(problem, growth, (quantile, month, factor), (held, added), before))
            if told:
                rows[-1]["remark"] = told
                break
    return rows


def extended(problem: FleetProblem, held: Index, factor: float, solver: Solver | None = None) -> FleetPlan:
    """Return the least-cost fleet that keeps the replicas on hand, (O,), and serves the demand times `factor`."""
    return fleet_plan(replace(problem, rate=problem.rate * factor, kept=held), solver)


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
