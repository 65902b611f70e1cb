"""Put together the sections and the charts that need a recommended candidate."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from search.output import money
from search.planning import terms_of
from search.report import sections
from search.report.brief import brief_section
from search.report.charts import Figure
from search.report.confidence_section import confidence_section
from search.report.html_page import Section, Table
from search.report.load_curves import cost_over_load, growth_rows, hours_of_day, load_costs, loads_around
from search.report.plan_charts import plan_charts
from search.report.replay_section import replay_section
from search.report.replica_loads import kind_of
from search.whatif import as_planned, changes, constraints, what_if

if TYPE_CHECKING:
    from search.planning import Plan
    from search.report.replica_loads import ReplicaLoads
    from search.searchers import Progress

#: Columns of the tables of the cost over the load.
BREAK_EVEN = "The cheapest, from which load on"
OVER_LOAD = ("offered_load", "candidate", "usd_per_hour", "usd_per_million_tokens")


def answer_of(
    plan: Plan, rows: Sequence[Mapping[str, Any]], loads: ReplicaLoads | None, progress: Progress | None
) -> tuple[list[Section], dict[str, Figure]]:
    """Return the sections of a feasible plan in order, the brief first, and their charts.

    rows: candidates, best first. loads: replicas over their load, None where they do not follow from it.
    """
    terms, tried, bounds = terms_of(plan), changes(plan), constraints(plan)
    every = what_if(plan, progress, [*tried, *bounds])
    what_ifs, without = every[: len(tried)], every[len(tried) :]
    figures = plan_charts(plan, terms, what_ifs)
    growth, drawn = load_sections(plan, loads, what_ifs)
    sure, doubts = confidence_section(plan, terms, rows)
    replayed = replay_section(plan)
    found = [
        brief_section(plan, rows, what_ifs),
        sections.objectives_section(plan),
        sections.alternatives_section(plan, figures),
        *growth,
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
        said.append("Diamonds are break-even points: from there on another configuration is the cheapest.")
    if plan.disaggregated(plan.best):
        usd = money(plan.columns["usd_per_hour"][plan.best])
        said.append(
            f"Pairs of pools are not drawn: the recommended pair costs ${usd} per hour at the planned load. In the "
            "table, half, once and twice the load are whole plans, pairs included; the other rows are single pools."
        )
    elif len(plan) > len(plan.layouts):
        said.append("Pairs of pools are not drawn.")
    said.append("Of equal costs, the curves name the configuration that comes first at the planned load.")
    return " ".join(said)


def load_sections(
    plan: Plan, loads: ReplicaLoads | None, what_ifs: Sequence[Mapping[str, Any]] = ()
) -> tuple[list[Section], dict[str, Figure]]:
    """Return the sections of the cost over the load and of the hours of a day, and their charts; none without loads."""
    if loads is None or kind_of(plan) == "fill" or not plan.columns["usd_per_hour"][plan.best] > 0:
        return [], {}
    costs = load_costs(plan, loads, loads_around(plan))
    figure, changed = cost_over_load(plan, costs)
    grown = growth_rows(plan, loads, what_ifs)
    found = [
        Section(
            id="load",
            short="Load",
            title="What more or less load costs",
            charts=["load"],
            lead=_lead_over_load(plan, breaks=bool(changed[1:])),
            tables=[
                *(
                    [Table(changed, OVER_LOAD, title=BREAK_EVEN, wide=("candidate",), id="break-even")]
                    if changed[1:]
                    else []
                ),
                Table(grown, ("load_times", *OVER_LOAD), title="If the load grows", wide=("candidate",), id="growth"),
            ],
        )
    ]
    day = hours_of_day(plan, loads)
    if day is None:
        return found, {"load": figure}
    chart, rows, says = day
    columns = ("start_h", "request_rate_rps", "replicas", "usd_per_hour")
    hours = Section(
        id="day",
        short="Day",
        title="A day by the hour",
        lead=says,
        charts=["day"],
        tables=[Table(rows, columns, id="hours")],
    )
    return [*found, hours], {"load": figure, "day": chart}
