"""Make the charts of a plan: choose which numbers of the plan each one shows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from perfmodel.arrays import Array
from search.output import operator_group
from search.planning import memory_of, memory_place
from search.report import charts
from search.report.charts import Figure, Points, Ranges, Titles

if TYPE_CHECKING:
    from search.planning import Plan

#: Most candidates that a scatter plot shows; of more, the best ranked (chosen: keeps a page near 2 MB).
DRAWN_CANDIDATES = 1500
#: Most kinds of hardware whose cost is compared in bars.
COMPARED_DEVICES = 20
#: Smallest change of the cost that the chart of what-ifs shows, percent.
SHOWN_CHANGE = 0.5
#: Column of a plan with the energy per output token, of devices, hosts and cooling.
SITE_ENERGY = "site_energy_j_per_output_token"


def plan_charts(
    plan: Plan, terms: Sequence[Mapping[str, Any]], what_ifs: Sequence[Mapping[str, Any]]
) -> dict[str, Figure]:
    """Return every chart of a feasible plan, by the name that sections refer to.

    terms: operators of the recommended candidate (`search.planning.terms_of`). what_ifs: rows of `what_if`.
    """
    return {
        **_cost_against_latency(plan),
        "time": _time_by_group(terms),
        "memory": _memory_of_a_device(plan),
        **_cost_by_device(plan),
        **_change_of_cost(what_ifs),
    }


def _cost_against_latency(plan: Plan) -> dict[str, Figure]:
    """Draw cost (energy where no price is known) against TTFT and against TPOT, one colour per kind of hardware."""
    drawn = plan.order[: min(int(plan.qualifies.sum()), DRAWN_CANDIDATES)]
    priced = bool(np.isfinite(plan.columns["usd_per_million_tokens"][drawn]).any())
    what, unit = ("Cost", "$ per million output tokens") if priced else ("Energy", "J per output token")
    cost = plan.columns["usd_per_million_tokens" if priced else SITE_ENERGY]
    found = {}
    for metric, name in (("ttft", "time to first token"), ("tpot", "time per output token")):
        latency, best = plan.columns[f"{metric}_ms"], [plan.best]
        found[f"front-{metric}_ms"] = charts.scatter(
            _points_by_device(plan, drawn.tolist(), cost, latency),
            front=lower_left_front(cost[drawn], latency[drawn]),
            chosen=Points(cost[best].tolist(), latency[best].tolist()),
            titles=Titles(title=f"{what} against {name}", x=unit, y=f"mean {metric.upper()}, ms"),
        )
    return found


def _points_by_device(plan: Plan, candidates: Sequence[int], x: Array, y: Array) -> dict[str, Points]:
    """Group candidates by the name of their hardware.

    x, y: coordinates, one entry per candidate of the plan.
    """
    members: dict[str, list[int]] = {}
    for candidate in candidates:
        members.setdefault(_hardware_name(plan, candidate), []).append(candidate)
    return {
        name: Points(x[rows].tolist(), y[rows].tolist(), [plan.name(n) for n in rows]) for name, rows in members.items()
    }


def _hardware_name(plan: Plan, candidate: int) -> str:
    """Return the name of a candidate's device; of both devices for a pair of pools."""
    if not plan.disaggregated(candidate):
        device = plan.layouts.devices[int(plan.layouts.device[candidate])]
        return str(device.name)
    pair = plan.pair(candidate)
    used = [pool.devices[int(pool.device[0])].name for pool in (pair.prefill, pair.decode)]
    return " + ".join(dict.fromkeys(used)) + ", two pools"


def lower_left_front(x: Array, y: Array) -> Points:
    """Return the points for which no other has both a smaller x and a smaller y, by rising x."""
    order = np.lexsort((y, x))
    best = np.minimum.accumulate(y[order])
    kept = order[(y[order] <= best) & (np.diff(best, prepend=np.inf) < 0)]
    return Points(x[kept].tolist(), y[kept].tolist())


def _time_by_group(terms: Sequence[Mapping[str, Any]]) -> Figure:
    """Draw the share of a prefill step and of a decode step that each group of operators takes."""
    phases = list(dict.fromkeys(t["phase"] for t in terms))
    shares: dict[str, list[float]] = {}
    for t in terms:
        bar = shares.setdefault(operator_group(t["family"]).replace("_", " "), [0.0] * len(phases))
        bar[phases.index(t["phase"])] += t["share_percent"]
    return charts.stacked(phases, shares, Titles("Where the time of a step goes", x="share of the step, %"))


def _memory_of_a_device(plan: Plan) -> Figure:
    """Draw what the memory of a device holds, against what the engine may use of it."""
    parts = {
        key.removesuffix("_gb").replace("kv", "KV cache"): value
        for key, value in memory_of(plan).items()
        if key != "host_gb"
    }
    free = parts.pop("free")
    titles, place = Titles("Where the memory goes", x="GB"), memory_place(plan)
    return charts.stacked([place], {k: [v] for k, v in parts.items()}, titles, limit=sum(parts.values()) + free)


def _cost_by_device(plan: Plan) -> dict[str, Figure]:
    """Draw the cost per million tokens of the best candidate of each kind of hardware; {} for a single kind.

    No chart where there is but one kind.
    """
    best: dict[str, int] = {}
    for n in plan.order[: int(plan.qualifies.sum())].tolist():
        best.setdefault(_hardware_name(plan, n), n)
    names = list(best)[:COMPARED_DEVICES]
    rows = [plan.row(best[name]) for name in names]
    if len(rows) < 2 or not any(r["usd_per_million_tokens"] == r["usd_per_million_tokens"] for r in rows):
        return {}
    value, low, high = ([r[f"usd_per_million_tokens{end}"] for r in rows] for end in ("", "_lo", "_hi"))
    titles = Titles("The best configuration of each kind of hardware", x="$ per million output tokens")
    chosen = _hardware_name(plan, plan.best)
    return {"devices": charts.ranged_bars(Ranges(names, value, low, high), titles, chosen=chosen)}


def _change_of_cost(what_ifs: Sequence[Mapping[str, Any]]) -> dict[str, Figure]:
    """Draw the change of the hourly cost per what-if; {} where no change is large enough to show."""
    shown = [r for r in what_ifs if abs(r["change_percent"]) >= SHOWN_CHANGE]
    if not shown:
        return {}
    names, change = [r["what_if"] for r in shown], [r["change_percent"] for r in shown]
    return {"whatif": charts.tornado(names, change, Titles("Change of the cost", x="change in $ per hour, %"))}
