"""Make the sections of a plan's page."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from hwdb import PerfmodelError
from perfmodel.costs import remarks_of
from perfmodel.estimates import chances, overall
from perfmodel.workload import Objective
from search.deploy import CLUSTERS, export, launch_of
from search.output import (
    candidate_columns,
    known_columns,
    number,
    percent,
    ranking_note,
    step_time_rows,
    with_kilowatts,
)
from search.report.page_parts.html_page import Goal, Section, Table
from search.whatif import WHAT_IF_FIGURES

if TYPE_CHECKING:
    from search.planning import OperatorRow, Plan

#: Operators below this share of their step are not listed, percent.
LISTED_SHARE = 2.0
#: Position of the limit on the bar of an objective, percent of the bar's length (chosen: room for what exceeds it).
LIMIT_POSITION = 72.0
#: Least width of an 80 % interval on the bar of an objective, percent, so that it stays visible.
LEAST_RANGE_WIDTH = 0.5
#: Chances from which a verdict is good, and from which it is at least even: a warning.
GOOD_CHANCE, EVEN_CHANCE = 0.8, 0.5
#: Columns of the table of operators.
OPERATORS = ("phase", "operator", "calls", "steps", "time_us", "share_percent", "bound", "peak_share_percent", "basis")
#: Most rows of the table of the best of each mode and device.
MOST_WINNERS = 16
#: Columns of the table of what-ifs.
WHAT_IF = ("what_if", "answer", *WHAT_IF_FIGURES, "chance_if_nothing_changes")


def tone_of(chance: float) -> str:
    """Return the colour of a probability (0 to 1) that objectives hold: good, warn or bad."""
    return "good" if chance >= GOOD_CHANCE else "warn" if chance >= EVEN_CHANCE else "bad"


def objectives_section(plan: Plan) -> Section | None:
    """Compare each objective of the SLO with its estimate; None without objectives."""
    objectives = plan.scenario.slo.objectives
    if not objectives:
        return None
    found = plan.estimates(plan.best)
    kept = chances(found, plan.scenario.slo)[:, 0]
    goals = [
        goal_bar(
            objective,
            value=float(overall(found, objective.metric, objective.statistic)[0]),
            spread=float(found.half_width(objective.metric, objective.statistic)[0]),
            chance=float(chance),
        )
        for objective, chance in zip(objectives, kept, strict=True)
    ]
    return Section(
        id="objectives",
        short="SLOs",
        title="Does it keep the SLOs?",
        goals=goals,
        lead="The bar is the 80 % range of the estimate and the dark mark its centre; the red line is the limit.",
    )


def goal_bar(objective: Objective, *, value: float, spread: float, chance: float, of: str = "") -> Goal:
    """Return one objective as a bar.

    value: the estimate, seconds. spread: log half-width of its 80 % interval. chance: that it holds. of: what it is an
    objective of, before its name.
    """
    low, high = value * np.exp(-spread), value * np.exp(spread)
    left, middle, right = (min(100.0, LIMIT_POSITION * v / objective.limit) for v in (low, value, high))
    limit = number(objective.limit * 1e3)
    return Goal(
        name=f"{of}: {objective.title}" if of else f"{objective.metric.upper()} {objective.statistic}",
        middle=middle,
        limit=LIMIT_POSITION,
        says=f"{number(value * 1e3)} ms ({number(low * 1e3)}–{number(high * 1e3)}) of {limit} ms",
        verdict=percent(chance),
        tone=tone_of(chance),
        range=(left, max(right - left, LEAST_RANGE_WIDTH)),
    )


def live_section() -> Section:
    """Return the place of the controls with which the reader changes the question."""
    return Section(
        id="live",
        short="Change it",
        title="What if you change the question?",
        live=True,
        lead="",
        on_screen="Move SLOs, load, prices, PUE or confidence, or leave devices out: ranking and cost follow at once, "
        "in this page. Where an exact answer needs the tool, the page says so, with the command.",
    )


def alternatives_section(plan: Plan, chart_names: Iterable[str]) -> Section:
    """Show every qualifying candidate as a point of cost against latency."""
    return Section(
        id="options",
        short="Options",
        title="Which alternatives qualify",
        lead=f"Each point keeps every SLO and limit; down and to the left is better. {ranking_note(plan)}.",
        charts=[name for name in chart_names if name.startswith("front-")],
    )


def time_and_memory_section(terms: Sequence[OperatorRow], chart_names: Iterable[str]) -> Section:
    """Show where the time of a step and the memory of a device go, and the operators that take most."""
    charts = ["time", *(n for n in chart_names if n.startswith("waterfall-")), "roofline", "memory"]
    names = {"prefill": "a prompt takes", "decode": "a decode step takes"}
    steps = "; ".join(f"{names[r['step']]} {number(r['step_ms'])} ms" for r in step_time_rows(terms))
    title = f"Operators that take {LISTED_SHARE:g} % of their step or more"
    largest = [t for t in sorted(terms, key=lambda t: -t["share_percent"]) if t["share_percent"] >= LISTED_SHARE]
    return Section(
        id="time",
        short="Time",
        title="Where the time and the memory go",
        charts=charts,
        lead=f"For the recommended configuration: {steps}. The dashed line is the memory that the engine may use.",
        tables=[Table(largest, OPERATORS, title=title, sortable=True, id="operators")],
    )


def cost_section(chart_names: Iterable[str]) -> Section | None:
    """Show the cost of the best candidate of each kind of hardware; None where there is no such chart."""
    if "devices" not in chart_names:
        return None
    return Section(
        id="cost",
        short="Cost",
        title="What other hardware costs",
        charts=["devices"],
        lead="Bars end at the estimate, whiskers span its 80 % range; each candidate keeps every SLO and limit.",
    )


def what_if_section(planned: dict[str, Any], what_ifs: Sequence[dict[str, Any]], chart_names: Iterable[str]) -> Section:
    """Show the plan repeated with one thing changed per row, below the plan as it is. planned: its row."""
    rows = [planned, *what_ifs]
    return Section(
        id="whatif",
        short="What if",
        title="What if",
        charts=[n for n in ("whatif", "chances") if n in chart_names],
        lead="Each row plans again with one thing changed; changes are against the first row. The last column is the "
        "chance that the recommended configuration, left as it is, would still keep the SLOs.",
        tables=[Table(rows, known_columns(rows, WHAT_IF), wide=("answer",), id="changes")],
    )


def constraints_section(planned: dict[str, Any], rows: Sequence[dict[str, Any]]) -> Section | None:
    """Show what the plan would be without each of its constraints; None without any. planned: the row of the plan."""
    if not rows:
        return None
    shown = [planned, *rows]
    return Section(
        id="constraints",
        short="Constraints",
        title="What each constraint is worth",
        lead="Each row plans again without one constraint: what it saves is what the constraint costs.",
        tables=[Table(shown, known_columns(shown, WHAT_IF), wide=("answer",), id="without")],
    )


def winners_section(plan: Plan) -> Section | None:
    """Show the best candidate of each way of serving and of each device; None where there is but one."""
    found = plan.best_of_each(MOST_WINNERS)
    if len(found) < 2:
        return None
    rows = with_kilowatts(found)
    columns = ["rank", "mode", *candidate_columns(plan)]
    return Section(
        id="winners",
        short="Best of each",
        title="The best of each mode and device",
        lead="One row per way of serving and device, best first; the ranks are those of the table of candidates.",
        tables=[Table(rows, known_columns(rows, list(dict.fromkeys(columns))), chosen=("rank", 1), id="best-of-each")],
        notes=reading_notes(plan, rows),
    )


def reading_notes(plan: Plan, rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Say how to read the columns of a table of candidates that need it: loads, and ranges that have no end."""
    found = []
    if any(row.get("utilisation", np.nan) == row.get("utilisation", np.nan) for row in rows):
        full = "Used % is the load over the greatest load within the SLOs, without any margin"
        share = plan.scenario.limits.utilisation
        sized = f"; replicas are sized so that it is at most {100 * share:.0f} %" if plan.scorer.sized_by_rate else ""
        found.append(f"{full}{sized if share < 1 else ''}. Headroom % is the part that is left, over the load.")
    if any(row.get("usd_per_hour_hi") == np.inf for row in rows):
        found.append(
            "A cost with the upper end ∞: in the worst tenth of cases no number of replicas keeps the SLOs, because "
            "one request alone takes nearly as long as a bound allows."
        )
    if any("prefill" in str(row["candidate"]) for row in rows):
        found.append(
            "prefill_ before a setting: of the prefill workers. Candidates of one name differ in the settings after it."
        )
    return found


def candidates_section(plan: Plan, rows: Sequence[dict[str, Any]]) -> Section:
    """List the best candidates, then the nearest misses with the reason why they do not qualify."""
    shown = list(dict.fromkeys([*candidate_columns(plan), "devices", "output_tok_s", "memory_gb_per_device"]))
    shown = [c for c in shown if c != "reason"] + [c for c in shown if c == "reason"]
    table, best = with_kilowatts(rows), len([r for r in rows if r["rank"]])
    listed = f"The best {best}" if best < plan.qualifies.sum() else "All that qualify"
    misses = len(rows) - best
    near = f", then the {misses} nearest misses, without a rank, each with the reason" if misses else ""
    columns = known_columns(table, shown)
    return Section(
        id="candidates",
        short="Candidates",
        title="Candidates",
        lead=f"{listed}{near}. Rank 1 is the recommendation.",
        on_screen="Click a heading to sort.",
        tables=[Table(table, columns, sortable=True, wide=("reason",), chosen=("rank", 1), id="table")],
        notes=reading_notes(plan, table),
    )


def launch_section(plan: Plan) -> Section | None:
    """Return the commands that launch the recommendation and its benchmark; None where there are none."""
    try:
        launch = launch_of(plan)
        text = export(launch, launch.engine).text
    except PerfmodelError:
        return None
    return Section(
        id="launch",
        short="Launch",
        title="How to start it",
        lead=f"These commands start it; perfmodel export writes them, and files for {', '.join(CLUSTERS)}.",
        command=text,
    )


def provenance_section(plan: Plan) -> Section:
    """Say how to make the page again: command, versions, hashes of the data, prices, remarks on devices, rules."""
    made: Mapping[str, Any] = plan.manifest.row()
    terms = [
        (k.replace("_", " "), str(v)) for k, v in made.items() if k != "command" and v not in ("", None) and v == v
    ]
    tariff = plan.scorer.tariff
    prices = [f"{device.name}: {price}" for device, price in zip(tariff.devices, tariff.price, strict=True)]
    removed = [f"{r['removed']:,} layouts left out, for example {r['example']}" for r in plan.removed]
    return Section(
        id="origin",
        short="Origin",
        title="Where this comes from",
        command=plan.manifest.command,
        lead="This command makes the page again; the hashes identify the data.",
        terms=terms,
        notes=[*dict.fromkeys([*prices, *remarks_of(tariff.devices), *plan.scenario.readings]), *removed],
    )
