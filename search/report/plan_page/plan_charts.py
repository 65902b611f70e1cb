"""Make the charts of a plan: choose which numbers of the plan each one shows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from perfmodel.arrays import Array, Index
from perfmodel.unit_factors import MS_PER_S
from search.output import operator_group
from search.planning import memory_of, memory_place
from search.report.chart_drawing import charts
from search.report.chart_drawing.charts import Figure, Points, Ranges, Titles
from search.report.chart_drawing.curve_charts import Limits, Parts, kinds_of_bars, limit_lines, waterfall

if TYPE_CHECKING:
    from search.planning import OperatorRow, Plan

#: Most candidates that a scatter plot shows; of more, the best ranked (chosen: keeps a page near 2 MB).
DRAWN_CANDIDATES = 1500
#: Most kinds of hardware whose cost is compared in bars.
COMPARED_DEVICES = 20
#: Smallest change of the cost that the chart of what-ifs shows, percent.
SHOWN_CHANGE = 0.5
#: Operators below this share of their step are drawn together, percent.
DRAWN_SHARE = 2.0
#: Latencies that are drawn, with their names.
LATENCIES = {"ttft": "time to first token", "tpot": "time per output token"}
#: Smallest change of a chance that is drawn, points.
SHOWN_POINTS = 1.0
#: Column of a plan with the energy per output token, of devices, hosts and cooling.
SITE_ENERGY = "site_energy_j_per_output_token"


def plan_charts(plan: Plan, terms: Sequence[OperatorRow], what_ifs: Sequence[Mapping[str, Any]]) -> dict[str, Figure]:
    """Return every chart of a feasible plan, by the name that sections refer to.

    terms: operators of the recommended candidate (`search.planning.terms_of`). what_ifs: rows of `what_if`.
    """
    return {
        **fronts(plan),
        "time": _time_by_group(terms),
        **_waterfalls(terms),
        "roofline": _near_the_roof(terms),
        "memory": _memory_of_a_device(plan),
        **_cost_by_device(plan),
        **_change_of_cost(what_ifs),
        **_change_of_chance(plan, what_ifs),
    }


def fronts(plan: Plan) -> dict[str, Figure]:
    """Return the charts in which every candidate that qualifies is a point, with lines at the bounds of the SLO.

    Cost (energy where no price is known) against TTFT and TPOT, on the statistic that the SLO bounds; tokens/s of a
    device against tokens/s of a user; energy of a token against TPOT.
    """
    drawn = plan.order[: min(int(plan.qualifies.sum()), DRAWN_CANDIDATES)]
    priced = bool(np.isfinite(plan.columns["usd_per_million_tokens"][drawn]).any())
    what, unit = ("Cost", "$ per million output tokens") if priced else ("Energy", "J per output token")
    cost = plan.columns["usd_per_million_tokens" if priced else SITE_ENERGY]
    found = {}
    for metric, name in LATENCIES.items():
        column, limits = _bounded(plan, metric)
        statistic = column.rpartition("_ms")[2].strip("_") or "mean"
        titles = Titles(f"{what} against {name}", x=unit, y=f"{metric.upper()} {statistic}, ms")
        found[f"front-{metric}_ms"] = _front(plan, drawn, (cost, plan.columns[column]), titles, Limits(y=limits))
    column, limits = _bounded(plan, "tpot")
    with np.errstate(divide="ignore", invalid="ignore"):
        each = MS_PER_S / plan.columns["tpot_ms"]
    titles = Titles("Throughput against speed", x="tokens/s of a user (1 / mean TPOT)", y="tokens/s of a device")
    axes = (each, plan.columns["output_tok_s_per_device"])
    of_users = Limits(x=[MS_PER_S / v for v in limits])
    found["front-speed"] = _front(plan, drawn, axes, titles, of_users, (True, True))
    if priced and np.isfinite(plan.columns[SITE_ENERGY][drawn]).any():
        y = f"TPOT {column.rpartition('_ms')[2].strip('_') or 'mean'}, ms"
        titles = Titles("Energy against time per output token", x="J per output token", y=y)
        axes = (plan.columns[SITE_ENERGY], plan.columns[column])
        found["front-energy"] = _front(plan, drawn, axes, titles, Limits(y=limits))
    return found


def _bounded(plan: Plan, metric: str) -> tuple[str, list[float]]:
    """Return the column of a latency that the SLO bounds, with its bounds in ms; the mean where it bounds none."""
    own = [o for o in plan.scenario.slo.objectives if o.metric == metric and o.key in plan.columns]
    return (own[0].key, [own[0].limit * MS_PER_S]) if own else (f"{metric}_ms", [])


def _front(
    plan: Plan,
    drawn: Index,
    axes: tuple[Array, Array],
    titles: Titles,
    limits: Limits,
    largest: tuple[bool, bool] = (False, False),
) -> Figure:
    """Draw candidates over two figures, (N,) each. drawn: their numbers. largest: whether more of either is better."""
    x, y = axes
    points = lower_left_front(*(np.where(up, -v[drawn], v[drawn]) for v, up in zip(axes, largest, strict=True)))
    front = Points([abs(v) for v in points.x], [abs(v) for v in points.y])
    return charts.scatter(
        _points_by_device(plan, drawn.tolist(), x, y),
        front=front,
        chosen=Points(x[[plan.best]].tolist(), y[[plan.best]].tolist()),
        titles=titles,
        shapes=limit_lines(limits),
    )


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


def _time_by_group(terms: Sequence[OperatorRow]) -> Figure:
    """Draw the share of a prefill step and of a decode step that each group of operators takes."""
    phases = list(dict.fromkeys(t["phase"] for t in terms))
    shares: dict[str, list[float]] = {}
    for t in terms:
        bar = shares.setdefault(operator_group(t["family"]).replace("_", " "), [0.0] * len(phases))
        bar[phases.index(t["phase"])] += t["share_percent"]
    return charts.stacked(phases, shares, Titles("Where the time of a step goes", x="share of the step, %"))


def _waterfalls(terms: Sequence[OperatorRow]) -> dict[str, Figure]:
    """Draw what the time of each step is made of, operator by operator; small ones are one bar."""
    found = {}
    for phase in dict.fromkeys(t["phase"] for t in terms):
        own = [t for t in terms if t["phase"] == phase]
        large = [t for t in own if abs(t["share_percent"]) >= DRAWN_SHARE]
        small = sum(t["time_us"] for t in own if t not in large)
        names, times = [t["operator"] for t in large], [t["time_us"] / 1e3 for t in large]
        parts = Parts([*names, "smaller ones"], [*times, small / 1e3]) if small else Parts(names, times)
        found[f"waterfall-{phase}"] = waterfall(parts, Titles(f"What a {phase} step is made of", x="ms"))
    return found


def _near_the_roof(terms: Sequence[OperatorRow]) -> Figure:
    """Draw how much of its roof each large operator reaches: of the peak of what limits it, by what that is."""
    own = [t for t in terms if t["share_percent"] >= DRAWN_SHARE and t["peak_share_percent"] == t["peak_share_percent"]]
    parts = Parts(
        [f"{t['phase']}: {t['operator']}" for t in own],
        [t["peak_share_percent"] for t in own],
        [f"limited by {t['bound']}" for t in own],
    )
    return kinds_of_bars(
        parts, Titles("How near each operator comes to its roof", x="% of the peak that limits it"), most=100
    )


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
    return {"whatif": charts.tornado(names, change, Titles("Change of the cost", x="cost, %"))}


def _change_of_chance(plan: Plan, what_ifs: Sequence[Mapping[str, Any]]) -> dict[str, Figure]:
    """Draw by how much the chance of the recommendation, left as it is, changes per what-if, in points."""
    if not plan.scenario.slo.objectives:
        return {}
    now = float(plan.columns["slo_chance"][plan.best])
    moved = {r["what_if"]: 100.0 * (r["chance_if_nothing_changes"] - now) for r in what_ifs}
    shown = {name: points for name, points in moved.items() if abs(points) >= SHOWN_POINTS}
    if not shown:
        return {}
    titles = Titles("Change of the chance, if nothing else changes", x="chance, points")
    return {"chances": charts.tornado(list(shown), list(shown.values()), titles, points=True)}
