"""Put together the sections and the charts that need a recommended candidate."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from search.planning import terms_of
from search.report.chart_drawing.charts import Figure
from search.report.live_controls.replica_loads import kind_of
from search.report.page_parts.html_page import Section, Table
from search.report.plan_page import sections
from search.report.plan_page.brief import brief_section
from search.report.plan_page.confidence_section import confidence_section
from search.report.plan_page.load_curves import (
    GROWTH_OF_PAIRS,
    cost_over_load,
    grown,
    growth,
    growth_rows,
    hours_of_day,
    load_costs,
    loads_around,
    with_whole_plans,
)
from search.report.plan_page.plan_charts import plan_charts
from search.report.plan_page.replay_section import replay_section
from search.whatif import as_planned, changes, constraints, load_changes, what_if

if TYPE_CHECKING:
    from search.planning import Plan
    from search.report.live_controls.replica_loads import ReplicaLoads
    from search.searchers import Progress

#: Columns of the tables of the cost over the load.
BREAK_EVEN = "Whose replicas are the cheapest, from which load on"
BREAK_EVEN_OF_ONE = "Whose replicas of one pool are the cheapest, from which load on"
OVER_LOAD = ("offered_load", "candidate", "replicas", "usd_per_hour", "usd_per_million_tokens")
GROWN = ("offered_load", "candidate", "usd_per_hour", "usd_per_million_tokens")


def answer_of(
    plan: Plan, rows: Sequence[Mapping[str, Any]], loads: ReplicaLoads | None, progress: Progress | None
) -> tuple[list[Section], dict[str, Figure]]:
    """Return the sections of a feasible plan in order, the brief first, and their charts.

    rows: candidates, best first. loads: replicas over their load, None where they do not follow from it.
    """
    terms, tried, bounds = terms_of(plan), changes(plan), constraints(plan)
    loaded = load_changes(grown(plan)) if loads is not None else []
    every = what_if(plan, progress, [*tried, *bounds, *loaded])
    what_ifs, without = every[: len(tried)], every[len(tried) : len(tried) + len(bounds)]
    figures = plan_charts(plan, terms, what_ifs)
    of_load, drawn = load_sections(plan, loads, every)
    sure, doubts = confidence_section(plan, terms, rows)
    replayed = replay_section(plan)
    found = [
        brief_section(plan, rows, what_ifs),
        sections.objectives_section(plan),
        sections.alternatives_section(plan, figures),
        *of_load,
        sections.cost_section(figures),
        sections.winners_section(plan),
        *([replayed[0]] if replayed else []),
        sections.time_and_memory_section(terms, figures),
        sections.what_if_section(as_planned(plan), what_ifs, figures),
        sections.constraints_section(as_planned(plan), without),
        sure,
        sections.launch_section(plan),
    ]
    figures |= drawn | doubts | (replayed[1] if replayed else {})
    return [section for section in found if section is not None], figures


def _lead_over_load(plan: Plan, *, breaks: bool) -> str:
    """Say what the curves of the cost over the load show. breaks: whether the cheapest changes."""
    said = ["Each step is a replica or a node more; the dashed line is the planned load."]
    if breaks:
        said.append(
            "Diamonds are break-even points: from there on replicas of another configuration are the cheapest; the "
            "table has how many that load takes and what they cost. A higher load takes more of them."
        )
    if growth(plan) is GROWTH_OF_PAIRS:
        said.append(
            "The curves and the break-even points are of single pools; squares, and the table of growth, are whole "
            "plans, pairs of prefill and decode pools included."
        )
    elif len(plan.pairs):
        said.append("Pairs of pools are not drawn.")
    said.append("Of equal costs, the curves name the configuration that comes first at the planned load.")
    return " ".join(said)


def _break_even(plan: Plan, changed: Sequence[Mapping[str, Any]]) -> Table:
    """Return the table of the loads from which another layout is the cheapest."""
    title = BREAK_EVEN_OF_ONE if len(plan.pairs) else BREAK_EVEN
    return Table(changed, OVER_LOAD, title=title, wide=("candidate",), id="break-even")


def load_sections(
    plan: Plan, loads: ReplicaLoads | None, what_ifs: Sequence[Mapping[str, Any]] = ()
) -> tuple[list[Section], dict[str, Figure]]:
    """Return the sections of the cost over the load and of the hours of a day, and their charts; none without loads."""
    if loads is None or kind_of(plan) == "fill" or not plan.columns["usd_per_hour"][plan.best] > 0:
        return [], {}
    costs = load_costs(plan, loads, loads_around(plan))
    figure, changed = cost_over_load(plan, costs)
    rows = growth_rows(plan, loads, what_ifs)
    if growth(plan) is GROWTH_OF_PAIRS:
        with_whole_plans(figure, rows)
    found = [
        Section(
            id="load",
            short="Load",
            title="What more or less load costs",
            charts=["load"],
            lead=_lead_over_load(plan, breaks=bool(changed[1:])),
            tables=[
                *([_break_even(plan, changed)] if changed[1:] else []),
                Table(rows, ("load_times", *GROWN), title="If the load grows", wide=("candidate",), id="growth"),
            ],
        )
    ]
    day = hours_of_day(plan, loads)
    if day is None:
        return found, {"load": figure}
    chart, hourly, says = day
    columns = ("start_h", "request_rate_rps", "replicas", "usd_per_hour")
    hours = Section(
        id="day",
        short="Day",
        title="A day by the hour",
        lead=says,
        charts=["day"],
        tables=[Table(hourly, columns, id="hours")],
    )
    return [*found, hours], {"load": figure, "day": chart}
