"""Make the report of a plan as one offline page: recommendation, alternatives, time, memory, cost, sources.

It also shows what-ifs: the plan repeated with one thing changed.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from hwdb import Infeasible, InputError
from search.output import headline, money, number, odds_note, percent, question, ranking_note
from search.planning import terms_of
from search.report.chart_drawing.grid_charts import grid_charts
from search.report.live_controls.live_data import live_data, loads_of_page
from search.report.page_parts.html_page import Chip, Fact, Page
from search.report.page_parts.inputs import inputs_sections
from search.report.page_parts.text_forms import FORMS
from search.report.plan_page import sections
from search.report.plan_page.answer import answer_of
from search.report.plan_page.brief import summary
from search.report.plan_page.plan_charts import SITE_ENERGY, plan_charts
from search.whatif import Trials

if TYPE_CHECKING:
    import plotly.graph_objects as go

    from search.planning import Plan
    from search.searchers import Progress

#: Most qualifying candidates in the table of candidates, and most near misses.
LISTED_CANDIDATES, LISTED_MISSES = 60, 5
#: Bases that do not rest on measurements of the device at hand.
WEAK_BASES = ("roofline", "extrapolated")


def render_report(plan: Plan, progress: Progress | None = None, form: str = "html") -> str:
    """Return the page of `plan` as HTML; where no candidate qualifies, it says what comes nearest and what to relax.

    progress: called with (done, total) what-ifs. form: one of `FORMS`; the same content as Markdown, as a JSON object,
    or the rows of all tables as CSV.
    """
    if form not in FORMS:
        raise InputError(f"unknown form {form!r} of a report; give one of {', '.join(FORMS)}")
    return FORMS[form](page_of(plan, progress, live=form == "html"))


def figures(found: Plan | Trials) -> dict[str, go.Figure]:
    """Return charts as Plotly figures, by name; they show themselves in a notebook.

    Of a plan they are its fronts, time, memory and cost by device; of `try_changes` with a grid, each figure of the
    answer over the values. Raises `Infeasible` where nothing qualifies.
    """
    import plotly.graph_objects as go

    if isinstance(found, Trials):
        charts = grid_charts(found)
    elif not found.feasible:
        raise Infeasible(found.message)
    else:
        charts = plan_charts(found, terms_of(found), [])
    return {name: go.Figure(chart) for name, chart in charts.items()}


def page_of(plan: Plan, progress: Progress | None = None, *, live: bool = True) -> Page:
    """Return the content of the page of `plan`.

    progress: called with (done, total) what-ifs. live: with what the controls compute with, which only HTML has.
    """
    rows, loads = plan.rows(LISTED_CANDIDATES, LISTED_MISSES), loads_of_page(plan)
    answer, figures = answer_of(plan, rows, loads, progress) if plan.feasible else ([], {})
    return Page(
        title=plan.scenario.title,
        question=question(plan),
        headline=headline(plan),
        summary=summary(plan, rows[0]) if plan.feasible else "",
        feasible=plan.feasible,
        version=plan.manifest.version,
        chips=_chips(plan) if plan.feasible else [Chip("no candidate qualifies", "bad")],
        odds=odds_note(rows) if plan.feasible else [],
        facts=_facts(rows[0]) if plan.feasible else [],
        sections=[
            *answer[:1],
            sections.live_section(),
            *answer[1:],
            sections.candidates_section(plan, rows),
            *inputs_sections(plan),
            sections.provenance_section(plan),
        ],
        charts=figures,
        live=live_data(plan, loads) if live else {},
    )


def _chips(plan: Plan) -> list[Chip]:
    """Return short remarks under the headline: probability of the SLOs, basis of the estimate, ranking, price date."""
    row, chips = plan.row(plan.best), []
    if plan.scenario.slo.objectives:
        chance = row["slo_chance"]
        chips.append(Chip(f"every SLO kept: {percent(chance)}", sections.tone_of(chance)))
    chips.append(Chip(f"rests on: {row['basis']}", "warn" if row["basis"] in WEAK_BASES else ""))
    chips.append(Chip(ranking_note(plan)))
    if plan.manifest.prices:
        uncertain = "assumed" in row["price"] or "for want of" in row["price"]
        chips.append(Chip(f"prices {plan.manifest.prices}", "warn" if uncertain else ""))
    return chips


def _facts(row: Mapping[str, Any]) -> list[Fact]:
    """Return the key numbers of the recommended candidate; those that are not known are left out."""
    used, free = row["memory_gb_per_device"], row["memory_free_gb_per_device"]
    per_million = f"${money(row['usd_per_million_tokens'])} per million output tokens, inputs included"
    fuller = " of the fuller pool" if row["mode"] == "disaggregated" else ""
    facts = [
        Fact("Cost", f"${money(row['usd_per_hour'])}", "/h", per_million),
        Fact("Request", f"${money(row['usd_per_request'])}", "", _by_kind(row)),
        Fact(
            "Carbon", number(row["gco2_per_request"]), "g per request", f"{number(row['co2_kg_per_month'])} kg a month"
        ),
        Fact("Power", number(row["power_w"] / 1e3), "kW", _power_in_words(row)),
        Fact(
            "Throughput",
            number(row["output_tok_s"]),
            "output tok/s",
            f"{number(row['request_rate_rps'])} requests per second",
        ),
        Fact("First token", number(row["ttft_ms"]), "ms", _mean_and_range(row, "ttft_ms")),
        Fact("Each token", number(row["tpot_ms"]), "ms", _mean_and_range(row, "tpot_ms")),
        Fact("Memory", number(used), "GB", _room(used, free, fuller)),
    ]
    return [f for f in facts if "–" not in f.value]


def _room(used: float, free: float, fuller: str) -> str:
    """Say what is free of the memory of a device, in GB and in GiB, by which it is sold. fuller: of which pool."""
    whole = used + free
    return (
        f"per device{fuller}; {number(free)} GB free of {number(whole)} GB, which are {number(whole * 1e9 / 2**30)} GiB"
    )


def _by_kind(row: Mapping[str, Any]) -> str:
    """Say what a million tokens of each kind cost; those that are not known are left out."""
    kinds = {kind: row[f"{kind}_usd_per_million"] for kind in ("input", "cached", "output")}
    parts = [f"{kind} ${money(usd)}" for kind, usd in kinds.items() if usd == usd]
    return f"split by kind of token, per million: {', '.join(parts)}"


def _power_in_words(row: Mapping[str, Any]) -> str:
    """Give the 80 % interval of the power, and the energy per output token."""
    low, high = (number(row[f"power_w_{end}"] / 1e3) for end in ("lo", "hi"))
    return f"80 % range {low} to {high}; {number(row[SITE_ENERGY])} J per output token"


def _mean_and_range(row: Mapping[str, Any], column: str) -> str:
    """Say that a value is a mean, and give the 80 % interval of `column` in words."""
    return f"mean; 80 % range {number(row[f'{column}_lo'])} to {number(row[f'{column}_hi'])}"
