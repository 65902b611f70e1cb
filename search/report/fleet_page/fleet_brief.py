"""Answer for a fleet what to buy, what would change that, and what it costs to be sure; and why not the next best."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from hwdb import Infeasible
from search.fleet import describe, greatest_growth, marginal_value_rows, plan_fleet
from search.output import UNKNOWN, money, number, percent
from search.report.page_parts.html_page import Answer, Section, Table
from search.report.plan_page.brief import MINUTES, STEP, SURE, monthly

if TYPE_CHECKING:
    from search.fleet import FleetPlan
    from search.scenario import Scenario

Rows = Sequence[Mapping[str, Any]]
#: Growth of the load that counts as any, and from which it is not named, percent.
LEAST_GROWTH, MOST_GROWTH = 1.0, 200.0
#: Most changes, and classes, that are named.
MOST_NAMED, MOST_CLASSES = 3, 3
#: Gain of traffic, as a share, from which more of a limit is named.
LEAST_GAIN = 1e-3
#: Seconds that a surer fleet has in any case.
LEAST_S = 1.0
#: How a surer fleet is asked for.
AS_STATED = f"set confidence = {SURE:g} in [limits]"
#: Difference of cost that counts as none, percent, and USD per hour; below `WHOLE_PERCENT` it has a decimal.
SAME_PERCENT, LEAST_USD, WHOLE_PERCENT = 0.05, 0.005, 2.0


def fleet_summary(fleet: FleetPlan, chance: float) -> str:
    """Say in two sentences what to take and what it costs, then what it serves and how surely.

    chance: the least of an option, NaN where none is known.
    """
    problem = fleet.problem
    devices = " and ".join(f"{number(n)} {name}" for name, n in fleet.devices.items())
    most, mean = ("up to ", " on average") if fleet.changes else ("", "")
    usd = fleet.usd_per_hour
    priced = f"for ${money(usd)} per hour{mean}, about {monthly(usd)}" if usd else "at no price by the hour"
    cost = priced if usd == usd else "whose price is not known"
    rate = number(float(problem.rate.sum(axis=1).max()))
    busiest = " in the busiest hours" if problem.periods > 1 else ""
    classes, many = ", ".join(problem.classes), len(problem.classes)
    each = classes if many == 1 else f"each class ({classes})" if many <= MOST_CLASSES else f"each of {many} classes"
    kept = f"{each} within its SLO with a chance of {percent(chance)} or more"
    text = kept if chance == chance else "by the throughputs that the scenario states"
    return f"Take {most}{devices} {cost}. They serve {rate} requests per second{busiest}, {text}."


def least_chance(rows: Rows) -> float:
    """Return the least chance that an option keeps its SLOs, NaN where none is known. rows: of the fleet."""
    known = [r["slo_chance"] for r in rows if r["slo_chance"] == r["slo_chance"]]
    return min(known, default=float("nan"))


def fleet_brief(fleet: FleetPlan, rows: Rows, others: Rows, scenario: Scenario | None) -> Section:
    """Return the first section of the page of a fleet.

    rows: of the fleet. others: of `alternative_rows`. scenario: of the fleet, to plan one that is surer; None for none.
    """
    options = list(dict.fromkeys((r["option"], r["serves"]) for r in rows if r["serves"]))
    most = {o: max(r["replicas"] for r in rows if r["option"] == o) for o in dict.fromkeys(o for o, _ in options)}
    serves = {o: " or ".join(dict.fromkeys(s for name, s in options if name == o)) for o in most}
    points, told = _changes(fleet, others), fleet_summary(fleet, least_chance(rows))
    why = [_why_not(others[0], row) for row in others[1:]]
    table = Table(
        why, ["what_if", "why_not"], title="Why this and not the next?", wide=("what_if", "why_not"), id="why"
    )
    return Section(
        id="brief",
        short="In short",
        title="In short",
        lead="",
        answers=[
            Answer("What would you buy?", [told], [_replicas(n, o, serves[o]) for o, n in most.items()]),
            Answer("What would change your mind?", [] if points else ["Nothing that was tried."], points),
            Answer("What does it cost to be sure?", _sure(fleet, rows, others, scenario)),
        ],
        tables=[table] if why else [],
    )


def _replicas(number_of: float, option: str, serves: str) -> str:
    """Say how many replicas an option has, of what, for whom: `4 replicas of A, each 2 h100-sxm, TP2, serve chat`."""
    name, _, layout = option.rpartition(": ")
    many = f"{number(number_of)} replica{'s' if number_of != 1 else ''} of {name or option}"
    verb = "serve" if number_of != 1 else "serves"
    return (
        f"{many}, {'each ' if number_of != 1 else ''}{layout}: {verb} {serves}" if name else f"{many}: {verb} {serves}"
    )


def _why_not(planned: Mapping[str, Any], row: Mapping[str, Any]) -> dict[str, Any]:
    """Return a row that says what an alternative is and by what it is worse. planned: the row of the fleet."""
    if not row["answer"]:
        return {"what_if": row["what_if"], "why_not": row["reason"]}
    parts, change = [row["answer"], *([row["reason"]] if row["reason"] else [])], row["change_percent"]
    if change == change:
        digits = 0 if abs(change) >= WHOLE_PERCENT else 1
        more = f"{abs(change):.{digits}f} % {'more' if change > 0 else 'less'}"
        words = "costs the same" if abs(change) < SAME_PERCENT else f"costs {more}"
        parts.append(f"{words} (${money(row['usd_per_hour'])} per hour)")
    watts = [number(r["power_w"] / 1e3) for r in (row, planned)]
    chances = [percent(r["slo_chance"]) for r in (row, planned)]
    for words, unit, (then, now) in (("draws", " kW", watts), ("least chance of an SLO", "", chances)):
        if then != now and UNKNOWN not in (then, now):
            parts.append(f"{words} {then}{unit} against {now}{unit}")
    return {"what_if": row["what_if"], "why_not": "; ".join(parts)}


def _changes(fleet: FleetPlan, others: Rows) -> list[str]:
    """Name the prices, loads and limits from which on another fleet is the answer."""
    falls = sorted((r for r in others if r["price_fall_percent"] == r["price_fall_percent"]), key=_fall)
    said = [
        f"{r['price_fall_of']} {_fall(r):.0f} % cheaper: {r['answer']} would then cost no more"
        for r in falls[:MOST_NAMED]
        if fleet.problem.objective == "cost"
    ]
    said += _more(fleet) if fleet.problem.objective == "traffic" else _growth(fleet)
    said += [
        f"without the limit on {b['limit']} it would cost ${money(b['saving_usd_per_hour'])} per hour less"
        for b in fleet.binding_rows()
    ]
    return said + _other_operation(fleet)


def _more(fleet: FleetPlan) -> list[str]:
    """Say by how much more traffic a little more of each limit serves, of a fleet for the most traffic."""
    return [
        f"{number(r['step'])} {r['step_unit']} more of {describe(r['limit'])}: {100 * r['gain']:.2g} % more traffic"
        for r in marginal_value_rows(fleet)[:MOST_NAMED]
        if r["gain"] > LEAST_GAIN
    ]


def _fall(row: Mapping[str, Any]) -> float:
    """Return the fall of prices, percent, from which on an alternative costs no more."""
    return float(row["price_fall_percent"])


def _growth(fleet: FleetPlan) -> list[str]:
    """Say from which load on the replicas do not suffice; nothing where they follow the load."""
    if fleet.static is not None or (fleet.problem.elastic and fleet.problem.periods > 1):
        return []
    more = 100.0 * (greatest_growth(fleet.problem, fleet.replicas.max(axis=1)) - 1.0)
    if not more < MOST_GROWTH:
        return []
    if more < LEAST_GROWTH:
        return ["any growth of the load: the replicas serve no more as planned, with what is kept free and spare"]
    return [f"a load more than {more:.0f} % above the planned one: then more replicas are needed"]


def _other_operation(fleet: FleetPlan) -> list[str]:
    """Say what the fleet would cost if its replicas followed the load, or if they did not; nothing where not known."""
    own = f"instead of ${money(fleet.usd_per_hour)}"
    if fleet.scaled is not None:
        usd = money(fleet.scaled.usd_per_hour)
        return [f"replicas that are rented by the period would cost ${usd} per hour on average {own}"]
    if fleet.static is not None:
        return [f"replicas that stay all day would cost ${money(fleet.static.usd_per_hour)} per hour {own} on average"]
    return []


def _sure(fleet: FleetPlan, rows: Rows, others: Rows, scenario: Scenario | None) -> list[str]:
    """Say how sure the least sure option is, what a surer fleet costs, and what a benchmark costs."""
    chance = least_chance(rows)
    if chance != chance:
        said = ["The throughputs are stated: whether they hold is as sure as the measurements that they come from."]
    else:
        least = next(r["option"] for r in rows if r["slo_chance"] == chance)
        said = [f"The least sure part is {least}: it keeps its SLOs with a chance of {percent(chance)}."]
    if chance < SURE and scenario is not None and scenario.limits.confidence < SURE:
        told, usd = _surer(fleet, scenario)
        said += [told, *_cheaper_steps(fleet, others, usd)]
    prices = [o.usd_per_hour for o, n in zip(fleet.problem.options, fleet.replicas, strict=True) if n.any()]
    usd = float(np.sum(prices)) * MINUTES / 60.0
    priced = usd > 0 and not fleet.problem.counts_devices
    cost = f": {MINUTES:.0f} minutes of them, with their start, cost about ${money(usd)}" if priced else ""
    said.append(
        f"To be sure by measuring, benchmark one replica of each option under its classes before you sign{cost}."
    )
    return said


def _cheaper_steps(fleet: FleetPlan, others: Rows, most_usd: float) -> list[str]:
    """Name the alternatives that are surer than the fleet by `STEP` and cost less than `most_usd` per hour.

    Each costs more than the one before, and is surer. Nothing where cost is not the objective.
    """
    reached, said = others[0]["slo_chance"], []
    for row in sorted((r for r in others[1:] if r["answer"]), key=lambda r: float(r["usd_per_hour"])):
        if row["usd_per_hour"] < most_usd and row["slo_chance"] >= reached + STEP:
            reached, more = row["slo_chance"], row["usd_per_hour"] - fleet.usd_per_hour
            price = f"{monthly(more)} more" if more >= LEAST_USD else "no more"
            said.append(f"{row['answer']}, {percent(reached)} sure for {price}")
    plain = fleet.problem.objective == "cost" and not fleet.problem.counts_devices
    return [f"Cheaper steps on the way: {'; '.join(said[:MOST_NAMED])}."] if said and plain else []


def _surer(fleet: FleetPlan, scenario: Scenario) -> tuple[str, float]:
    """Say what the fleet costs that keeps each bound of its SLOs with a chance of `SURE`; with its USD per hour.

    They are infinite where there is none.
    """
    sure = f"{percent(SURE)} sure of each bound"
    try:
        seconds = max(fleet.problem.within().left, LEAST_S)
        found = plan_fleet(replace(scenario, limits=replace(scenario.limits, confidence=SURE)), time_limit=seconds)
    except Infeasible:
        return f"No fleet of what is offered, within the limits, is {sure}: measure.", float("inf")
    devices = ", ".join(f"{number(n)} {name}" for name, n in found.devices.items())
    usd, more = found.usd_per_hour, found.usd_per_hour - fleet.usd_per_hour
    if fleet.problem.objective == "traffic":
        rates = [float(one.problem.rate.sum(axis=1).max()) for one in (found, fleet)]
        less = f"{number(rates[0])} requests per second, {100 * (1 - rates[0] / rates[1]):.0f} % less"
        return f"To be {sure}, serve {less} with {devices}: {AS_STATED}.", usd
    if more != more:
        return f"To be {sure} by more hardware, take {devices}.", usd
    extra = f"{monthly(more)} more ({100 * more / fleet.usd_per_hour:+.0f} %)" if more > 0 else "no more"
    return f"To be {sure} by more hardware, take {devices} for ${money(usd)} per hour, {extra}: {AS_STATED}.", usd
