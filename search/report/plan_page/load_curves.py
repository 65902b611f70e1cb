"""Say what hardware costs over the load, where the cheapest changes, and what growth and the hours need."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from perfmodel.arrays import Array, Index
from perfmodel.unit_factors import SECONDS_PER_HOUR
from search.output import number
from search.planning import deployment_words, hourly_usd, usd_per_million_tokens
from search.report.chart_drawing.charts import PALETTE, Figure, Points, Titles
from search.report.chart_drawing.curve_charts import Limits, Style, columns_over, lines
from search.report.live_controls.replica_loads import MOST_TIMES, ReplicaLoads, capacity, planned_load, sized_share
from search.scenario import MONEY
from search.whatif import LOAD_DOWN, LOAD_UP, SAME, load_name

if TYPE_CHECKING:
    from search.planning import Plan

#: Loads that are tried, from a part of the planned one to as many times it.
LOADS_TRIED = 129
#: Growth that is listed, times the planned load.
GROWTH = (0.25, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0)
#: The same where pairs of pools are candidates: each is a whole plan.
GROWTH_OF_PAIRS = (0.5, 1.0, 1.5, 2.0, 4.0)
#: Costs that differ by less, relative, are the same.
SAME_COST = 1e-9
#: Most kinds of hardware that are drawn over the load.
MOST_LINES = 6
#: Most places where the cheapest changes that are listed. Chosen: more are ties that change with every replica.
MOST_CHANGES = 8


@dataclass(frozen=True)
class LoadCosts:
    """What N layouts cost under M loads of the whole service.

    loads: (M,) requests/s, or requests in flight. replicas, usd: (N, M), NaN where a layout cannot serve the load.
    names: (N,) of a replica. hardware: (N,) names. rank: (N,) place in the plan.
    """

    loads: Array
    replicas: Array
    usd: Array
    names: tuple[str, ...]
    hardware: tuple[str, ...]
    rank: Index

    def cheapest(self, at: int) -> int | None:
        """Return the layout that costs least under the load `at`; None where none serves it.

        Of those that cost the same it is the one that the plan ranks first.
        """
        usd = self.usd[:, at]
        if not np.isfinite(usd).any():
            return None
        equal = np.flatnonzero(usd <= np.nanmin(usd) * (1 + SAME_COST))
        return int(equal[np.argmin(self.rank[equal])])


def load_costs(plan: Plan, table: ReplicaLoads, loads: Array) -> LoadCosts:
    """Return what the layouts of a table cost under `loads` of the whole service, (M,), spare replicas included."""
    layouts, share = plan.layouts.take(table.rows), sized_share(plan)
    most = capacity(plan, table, loads / share)
    with np.errstate(divide="ignore"):
        needed = np.maximum(np.ceil(loads / (share * most) * (1 - 1e-9)), 1.0)
    needed = np.where(most > 0, needed, np.nan) + plan.scorer.spare_replicas(layouts)[:, None]
    usd = _usd(plan, table.rows, needed)
    devices = layouts.devices_per_replica[:, None] * needed
    limits, stock = plan.scenario.limits, plan.scorer.stock[layouts.device][:, None]
    inside = (devices <= stock) & (devices <= limits.devices) & (usd <= limits.usd_per_hour)
    return LoadCosts(
        loads=loads,
        replicas=np.where(inside, needed, np.nan),
        usd=np.where(inside, usd, np.nan),
        names=tuple(deployment_words(layouts.take(np.array([i])), plan.checkpoints) for i in range(len(layouts))),
        hardware=tuple(str(layouts.devices[int(d)].name) for d in layouts.device),
        rank=np.argsort(plan.order)[table.rows],
    )


def _usd(plan: Plan, rows: Index, replicas: Array) -> Array:
    """Return USD per hour of so many replicas, (N, M), of the layouts at `rows`, with the plan's watts per device."""
    count = replicas.shape[1]
    layouts, each = plan.layouts.take(np.repeat(rows, count)), replicas.ravel()
    scorer, size = plan.scorer, layouts.devices_per_replica
    bill = scorer.tariff.bill((layouts.device, size, each), caps=(layouts.power_cap,))
    watts = np.repeat(plan.columns["mean_power_w"][rows] / plan.columns["devices"][rows], count) * size * each
    money = scorer.tariff.money
    return hourly_usd(bill, watts, plan.scenario.site, money.ownership).reshape(replicas.shape)


def load_unit(plan: Plan) -> str:
    """Return the unit of the load in words."""
    return "requests/s" if plan.scorer.target.workload.arrival == "open" else "requests in flight"


def loads_around(plan: Plan) -> Array:
    """Return the loads that are drawn, (M,), with the planned one among them."""
    planned = planned_load(plan)
    tried = planned * np.geomspace(1.0 / MOST_TIMES, MOST_TIMES, LOADS_TRIED)
    return np.unique(np.maximum(np.round(tried), 1.0)) if load_unit(plan) != "requests/s" else tried


def cost_over_load(plan: Plan, costs: LoadCosts) -> tuple[Figure, list[dict[str, Any]]]:
    """Return the chart of the cost over the load, a line per kind of hardware, and rows of where the cheapest changes.

    With one kind of hardware, a line is a layout.
    """
    groups = costs.hardware if len(set(costs.hardware)) > 1 else costs.names
    lowest: dict[str, Array] = {}
    for name, usd in zip(groups, costs.usd, strict=True):
        lowest[name] = np.fmin(lowest[name], usd) if name in lowest else usd
    shown = sorted(lowest, key=lambda name: _mean(lowest[name]))[:MOST_LINES]
    series = {n: Points(costs.loads.tolist(), lowest[n].tolist()) for n in shown if np.isfinite(lowest[n]).any()}
    rows = _changes(plan, costs)
    marks = [
        (r["offered_load"], r["usd_per_hour"], f"from {number(r['offered_load'])} on: {r['candidate']}")
        for r in rows[1:]
    ]
    titles = Titles("Cost over the load", x=load_unit(plan), y="$ per hour")
    figure = lines(series, titles, Limits(x=[planned_load(plan)], marks=marks), Style(steps=True))
    return figure, rows


def _mean(values: Array) -> float:
    """Return the mean of the known values; infinite where there is none."""
    return float(np.mean(values[np.isfinite(values)])) if np.isfinite(values).any() else np.inf


def _changes(plan: Plan, costs: LoadCosts) -> list[dict[str, Any]]:
    """Return rows of the loads from which another layout is the cheapest, with how many replicas it takes there.

    Where the last winner costs as little, it stays.
    """
    found: list[dict[str, Any]] = []
    last: int | None = None
    for at in range(len(costs.loads)):
        best = costs.cheapest(at)
        if best is None:
            break
        if last is None or not costs.usd[last, at] <= costs.usd[best, at] * (1 + SAME_COST):
            replicas = float(costs.replicas[best, at])
            found.append(load_row(plan, costs, at, best) | {"candidate": costs.names[best], "replicas": replicas})
            last = best
    return found[:MOST_CHANGES]


def load_row(plan: Plan, costs: LoadCosts, at: int, layout: int) -> dict[str, Any]:
    """Return what a layout costs under the load `at`, as a flat row."""
    replicas, usd, load = (float(v) for v in (costs.replicas[layout, at], costs.usd[layout, at], costs.loads[at]))
    return _row(plan, load, f"{replicas:g} x {costs.names[layout]}", usd)


def _row(plan: Plan, load: float, name: str, usd: float) -> dict[str, Any]:
    """Return a load with what serves it, and what that costs per hour and per million output tokens."""
    work = plan.scorer.target.workload
    rate = load if work.arrival == "open" else np.nan
    tokens = float(usd_per_million_tokens(usd, rate * work.mean_output))
    return {"offered_load": load, "candidate": name, "usd_per_hour": usd, "usd_per_million_tokens": tokens}


def growth(plan: Plan) -> tuple[float, ...]:
    """Return the loads that the table of growth lists, times the planned one."""
    return GROWTH_OF_PAIRS if len(plan.pairs) and plan.scorer.rank_by in MONEY else GROWTH


def grown(plan: Plan) -> tuple[float, ...]:
    """Return those of `growth` that need a whole plan which no other table has; () where pools are not paired."""
    known = (1.0, LOAD_DOWN, LOAD_UP)
    return tuple(times for times in GROWTH_OF_PAIRS if times not in known) if growth(plan) is GROWTH_OF_PAIRS else ()


def with_whole_plans(figure: Figure, rows: Sequence[Mapping[str, Any]]) -> None:
    """Add the rows of the table of growth, whole plans with pairs of pools among them, to the chart of the cost."""
    known = [row for row in rows if row.get("usd_per_hour") == row.get("usd_per_hour", 0)]
    figure["data"].append(
        {
            "type": "scatter",
            "mode": "markers",
            "name": "whole plan, pairs of pools included",
            "x": [row["offered_load"] for row in known],
            "y": [row["usd_per_hour"] for row in known],
            "text": [str(row["candidate"]) for row in known],
            "marker": {"symbol": "square", "size": 10, "color": PALETTE[5], "line": {"width": 1, "color": "#fff"}},
            "hovertemplate": "%{x:.4g}: %{y:.4g}<br>%{text}<extra></extra>",
            "showlegend": True,
        }
    )


def growth_rows(plan: Plan, table: ReplicaLoads, what_ifs: Sequence[Mapping[str, Any]] = ()) -> list[dict[str, Any]]:
    """Return rows of what is cheapest as the load grows: single pools; whole plans where pools are paired.

    Loads that are among the what_ifs have the answers of those: they are whole plans.
    """
    planned = planned_load(plan)
    grows = growth(plan)
    loads = planned * np.array(grows)
    costs = load_costs(plan, table, loads if load_unit(plan) == "requests/s" else np.maximum(np.round(loads), 1.0))
    found = []
    for at, times in enumerate(grows):
        best = None if grows is GROWTH_OF_PAIRS else costs.cheapest(at)
        whole = _planned(plan, times, what_ifs)
        if whole:
            found.append({"load_times": times, **whole})
        elif best is None:
            found.append(
                {"load_times": times, "offered_load": float(costs.loads[at]), "candidate": "nothing on offer serves it"}
            )
        else:
            found.append({"load_times": times, **load_row(plan, costs, at, best)})
    return found


def _planned(plan: Plan, times: float, what_ifs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the row of a load that a whole plan has answered by cost: the planned one, or a what-if; else {}."""
    if plan.scorer.rank_by not in MONEY:
        return {}
    if times == 1.0:
        name, usd = plan.name(plan.best), float(plan.columns["usd_per_hour"][plan.best])
    else:
        row = next(
            (r for r in what_ifs if r["what_if"] == load_name(times) and r["usd_per_hour"] == r["usd_per_hour"]), None
        )
        if row is None:
            return {}
        name, usd = plan.name(plan.best) if row["answer"] == SAME else str(row["answer"]), float(row["usd_per_hour"])
    return _row(plan, planned_load(plan) * times, name, usd)


def hours_of_day(plan: Plan, table: ReplicaLoads) -> tuple[Figure, list[dict[str, Any]], str] | None:
    """Return (chart, rows, a sentence) of the replicas that each hour of the load needs; None for a steady load.

    The rows are of the layout that costs least at the planned load.
    """
    request = plan.scenario.request
    if request is None or not request.periods or load_unit(plan) != "requests/s":
        return None
    rates = np.array([p.mean for p in request.periods])
    if np.ptp(rates) == 0:
        return None
    costs = load_costs(plan, table, np.append(rates, planned_load(plan)))
    best = costs.cheapest(len(rates))
    if best is None:
        return None
    hours = [p.start / SECONDS_PER_HOUR for p in request.periods]
    rows = [
        {"start_h": hour, "request_rate_rps": rate, "replicas": replicas, "usd_per_hour": usd}
        for hour, rate, replicas, usd in zip(
            hours, rates.tolist(), costs.replicas[best, :-1].tolist(), costs.usd[best, :-1].tolist(), strict=True
        )
    ]
    fixed, scaled = float(costs.usd[best, -1]), float(np.nanmean(costs.usd[best, :-1]))
    says = (
        f"With the replicas of the busiest hour all day it costs ${fixed:,.2f} per hour; with those of each hour "
        f"${scaled:,.2f} on average, {100 * (1 - scaled / fixed):.0f} % less. perfmodel fleet plans the hours."
    )
    titles = Titles("Replicas that each hour needs", x="hour", y="replicas")
    figure = columns_over([f"{h:g}" for h in hours], {"replicas": [r["replicas"] for r in rows]}, titles)
    return figure, rows, says
