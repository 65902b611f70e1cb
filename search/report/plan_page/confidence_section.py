"""Say what the estimate of the winner rests on, which doubt its figures hang on, and what to measure next."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from perfmodel.estimates import CAUSES, DEVIATE_80, by_cause, rest_spread
from search.report.chart_drawing.charts import Figure, Titles
from search.report.chart_drawing.curve_charts import Parts, kinds_of_bars
from search.report.page_parts.html_page import Section

if TYPE_CHECKING:
    from search.planning import OperatorRow, Plan

#: Causes of doubt in words.
CAUSE_WORDS = {
    "compute": "speed of arithmetic",
    "memory": "speed of memory",
    "link": "speed of links",
    "launch": "kernel launches",
    "host": "time of the host",
    "front_end": "time of the front end",
    "power": "watts",
}
#: Least range that is drawn, and least share of the time that is named, percent.
LEAST_RANGE, LEAST_SHARE = 0.5, 0.5


def confidence_section(
    plan: Plan, terms: Sequence[OperatorRow], rows: Sequence[Mapping[str, Any]]
) -> tuple[Section, dict[str, Figure]]:
    """Return the section on how sure the answer is, and its chart. terms: operators. rows: candidates, best first."""
    best = rows[0]
    basis: dict[str, float] = {}
    for term in terms:
        basis[term["basis"]] = basis.get(term["basis"], 0.0) + term["share_percent"]
    phases = len({term["phase"] for term in terms}) or 1
    shares = sorted(((percent / phases, name) for name, percent in basis.items()), reverse=True)
    named = [f"{name} {percent:.0f} % of the time" for percent, name in shares if percent > LEAST_SHARE]
    facts = [
        ("rests on", ", ".join(named)),
        ("weakest significant part", str(best["basis"])),
        ("80 % range", "the true figure lies in it in 8 of 10 published systems that no part was fitted on"),
    ]
    hangs = next((str(r["odds_hang_on"]) for r in rows if r["rank"] and r["rank"] > 1 and r.get("odds_hang_on")), "")
    if hangs:
        facts.append(("the ranking hangs on errors of", hangs))
    figure, largest = _doubts(plan)
    if largest:
        facts.append(("largest doubt", f"{largest[0]}: alone it moves {largest[1]} {_factor(largest[2])}"))
        facts.append(("measure next", _next(largest[0])))
    section = Section(
        id="confidence",
        short="Confidence",
        title="How sure is it, and what would make it surer?",
        lead="Bars show by how much each doubt alone may raise a figure, in 8 of 10 cases; it may fall by that factor.",
        charts=["doubts"],
        terms=facts,
        command=f"perfmodel next {plan.scenario.path}" if plan.scenario.path else "",
    )
    return section, {"doubts": figure}


def _doubts(plan: Plan) -> tuple[Figure, tuple[str, str, float] | None]:
    """Return the chart of doubts by figure, and (doubt, figure, percent) of the largest; None where there is none."""
    found = plan.estimates(plan.best)
    figures = [(o.metric, o.statistic) for o in plan.scenario.slo.objectives] or [("ttft", "mean"), ("tpot", "mean")]
    figures = [*dict.fromkeys(figures), ("power", "mean")]
    drawn: list[tuple[str, str, float]] = []
    for metric, statistic in figures:
        spread = np.abs(by_cause(found, metric, statistic)[:, 0])
        by = {CAUSE_WORDS.get(cause, cause): float(s) for cause, s in zip(CAUSES, spread, strict=True)}
        by["arrivals and the rest"] = float(rest_spread(found, metric, statistic)[0])
        title = f"{metric.upper()} {statistic}" if metric != "power" else "power"
        moved = [(cause, title, 100.0 * float(np.expm1(DEVIATE_80 * deviation))) for cause, deviation in by.items()]
        drawn += sorted((doubt for doubt in moved if doubt[2] >= LEAST_RANGE), key=lambda doubt: -doubt[2])
    names = [f"{title}: {cause}" for cause, title, _ in drawn]
    parts = Parts(names, [percent for _, _, percent in drawn], [title for _, title, _ in drawn])
    figure = kinds_of_bars(parts, Titles("What each doubt moves", x="up by %, in 8 of 10 cases"))
    return figure, max(drawn, key=lambda doubt: doubt[2], default=None)


def _factor(percent: float) -> str:
    """Say in words how far a figure may move that may be greater by so many percent, or smaller by the same factor."""
    factor = 1.0 + percent / 100.0
    return f"up by {percent:.0f} % or down by {100 * (1 - 1 / factor):.0f} %"


def _next(doubt: str) -> str:
    """Say which run tells most of a doubt."""
    if doubt == "arrivals and the rest":
        return (
            "a run of your own traffic at the planned rate: vllm bench serve with your trace, then perfmodel calibrate"
        )
    return "one run of a replica at the planned load, then perfmodel calibrate: it narrows every figure of this device"
