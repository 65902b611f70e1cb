"""Make the page of a fleet: the mix, what each hour costs, how busy it is, who serves whom, and which limits cost."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from shlex import quote
from typing import TYPE_CHECKING, Any

from hwdb import InputError
from perfmodel.unit_factors import MS_PER_S
from perfmodel.workload import Objective
from search.fleet import (
    account,
    alternative_rows,
    describe,
    growth_rows,
    hour_rows,
    latency_rows,
    marginal_value_rows,
    slo_worth_rows,
)
from search.output import fleet_headline, fleet_power_notes, fleet_proof, known_columns, money, number, percent
from search.report.chart_drawing.charts import Figure, Titles, ranked_bars
from search.report.chart_drawing.curve_charts import Parts, columns_over, kinds_of_bars
from search.report.fleet_page.fleet_brief import fleet_brief, fleet_summary, least_chance
from search.report.page_parts.html_page import Chip, Fact, Page, Section, Table
from search.report.page_parts.inputs import text_of
from search.report.page_parts.text_forms import FORMS
from search.report.plan_page.sections import goal_bar

if TYPE_CHECKING:
    from search.fleet import FleetPlan
    from search.scenario import Scenario

#: Chance from which an option counts as sure.
SURE = 0.8
#: Letters from which a text wraps.
WIDE = 44
#: Title of what one step more of each limit is worth.
WORTH = "What a little more is worth"
#: The bounds of the SLOs, in words.
SLO_BOUNDS = "bounds of the SLOs"
#: Most limits, options or classes that are drawn.
MOST_DRAWN = 24

#: Columns of the tables of options, the most telling first.
OPTIONS = (
    *("option", "serves", "start_h", "hours", "replicas", "devices", "request_rate_rps", "running"),
    *("utilisation_percent", "slo_chance", "usd_per_hour", "power_w"),
)

Rows = Sequence[Mapping[str, Any]]


def render_fleet_report(
    fleet: FleetPlan, form: str = "html", path: str = "", title: str = "", scenario: Scenario | None = None
) -> str:
    """Return the page of a fleet as HTML; form: one of `FORMS`. The others are those of `page_of_fleet`."""
    if form not in FORMS:
        raise InputError(f"unknown form {form!r} of a report; give one of {', '.join(FORMS)}")
    return FORMS[form](page_of_fleet(fleet, path, title, scenario))


def page_of_fleet(fleet: FleetPlan, path: str = "", title: str = "", scenario: Scenario | None = None) -> Page:
    """Return the content of the page of a fleet.

    path, title: of its scenario. scenario: of the fleet, for its growth and for what a surer fleet costs; both are left
    out without it. The fleet is planned again without each part of it, with a little more of each limit, and once more
    to be surer.
    """
    rows, latencies = fleet.rows(), latency_rows(fleet)
    parts = [
        _hours(fleet, rows),
        _mix(fleet, rows, latencies),
        _shares(fleet),
        _limits(fleet, _worth(fleet, scenario)),
        _growth(fleet, scenario),
    ]
    figures: dict[str, Figure] = {name: chart for _, drawn in parts for name, chart in drawn.items()}
    brief = fleet_brief(fleet, rows, alternative_rows(fleet), scenario)
    version = fleet.manifest.version if fleet.manifest is not None else ""
    return Page(
        title=title or "A fleet",
        question=f"{_classes(fleet)}: {', '.join(fleet.problem.classes)}",
        headline=fleet_headline(fleet),
        summary=fleet_summary(fleet, least_chance(rows)),
        feasible=True,
        version=version,
        chips=_chips(fleet, rows),
        facts=_facts(fleet),
        sections=[s for s in (brief, _objectives(latencies), *(part for part, _ in parts)) if s is not None]
        + [_origin(fleet, path)],
        charts=figures,
    )


def fleet_figures(fleet: FleetPlan) -> dict[str, Figure]:
    """Return the charts of the page of a fleet by name; nothing is planned for them."""
    rows = fleet.rows()
    parts = [_hours(fleet, rows), _mix(fleet, rows, latency_rows(fleet)), _shares(fleet), _limits(fleet)]
    return {name: chart for _, drawn in parts for name, chart in drawn.items()}


def _classes(fleet: FleetPlan) -> str:
    """Say how many classes of requests a fleet serves."""
    count = len(fleet.problem.classes)
    return "1 class of requests" if count == 1 else f"{count} classes of requests"


def _chips(fleet: FleetPlan, rows: Rows) -> list[Chip]:
    """Return short remarks: how near to the best it is proven to be, and the least chance of an SLO."""
    chances = [r["slo_chance"] for r in rows if r["slo_chance"] == r["slo_chance"]]
    found = [Chip(fleet_proof(fleet))]
    if chances:
        found.append(
            Chip(
                f"each option keeps its SLOs with a chance of {percent(min(chances))} or more",
                "good" if min(chances) >= SURE else "warn",
            )
        )
    return found


def _facts(fleet: FleetPlan) -> list[Fact]:
    """Return the key figures of the fleet; those that are not known are left out."""
    told = account(fleet)
    found = [
        Fact("Cost", f"${money(fleet.usd_per_hour)}", "/h", _when(fleet)),
        Fact("Month", f"${money(told.get('fleet_usd_per_month', float('nan')))}"),
        Fact("Request", f"${money(told.get('fleet_usd_per_request', float('nan')))}", "", "mean of all classes"),
        Fact("Power", number(fleet.power / 1e3), "kW", "in the fullest period"),
        Fact(
            "Devices",
            number(sum(fleet.devices.values())),
            "",
            ", ".join(f"{number(n)} {d}" for d, n in fleet.devices.items()),
        ),
    ]
    return [fact for fact in found if "–" not in fact.value]


def _when(fleet: FleetPlan) -> str:
    """Say of which hours the cost of the fleet is."""
    if fleet.problem.periods < 2:
        return ""
    return "in every period" if fleet.scaled is not None else "mean over the periods"


def _objectives(latencies: Rows) -> Section | None:
    """Compare each bound of the SLO of each class with its estimate, where the class is served; None without any."""
    classes = {r["class"] for r in latencies}
    several = len({(r["class"], r["option"]) for r in latencies}) > len(classes)
    goals = [
        goal_bar(
            Objective.from_key(r["slo_bound"], r["limit_ms"]),
            value=r["closed_form_ms"] / MS_PER_S,
            spread=math.log(r["closed_form_ms_hi"] / r["closed_form_ms"]),
            chance=r["slo_bound_chance"],
            of=f"{r['class']} on {r['option']}" if several else r["class"] if len(classes) > 1 else "",
        )
        for r in latencies
        if r["limit_ms"] == r["limit_ms"] and math.isfinite(r["closed_form_ms"])
    ]
    return (
        Section(
            id="objectives",
            short="SLOs",
            title="Does each class keep its SLO?",
            goals=goals,
            lead="Each class in the busiest period of the option that serves it, among the other classes there. The "
            "bar is the 80 % range of the estimate and the dark mark its centre; the red line is the limit.",
        )
        if goals
        else None
    )


def _growth(fleet: FleetPlan, scenario: Scenario | None) -> tuple[Section | None, dict[str, Figure]]:
    """Return what a growing demand needs when; no section where the scenario forecasts none."""
    if scenario is None or scenario.growth is None:
        return None, {}
    rows = growth_rows(fleet, scenario.growth)
    shown = [r for r in rows if r["month"] == 0 or r["buy_devices"] or r.get("remark")]
    return Section(
        id="growth",
        short="Growth",
        title="What growth needs",
        lead="Today, and each month of the forecast in which something has to be bought.",
        tables=[_table(shown, "growth")],
    ), {}


def _hours(fleet: FleetPlan, options: Rows) -> tuple[Section | None, dict[str, Figure]]:
    """Return what each period costs and draws by option, and the rows of the periods; no section for one period.

    options: rows of the fleet by option and period.
    """
    rows = hour_rows(fleet)
    if len(rows) < 2:
        return None, {}
    charts = _over_hours(fleet, rows)
    lead = "The replicas of each period, and what they cost and draw."
    if fleet.scaled is not None:
        lead = (
            f"The whole fleet stays up in every period, for ${money(fleet.usd_per_hour)} per hour. Shown here are "
            "only the replicas that the load of each period needs, and what those alone would cost and draw."
        )
    tables = [_table(rows, "by-the-hour"), replace(_options(options, "options"), title="Each option in each period")]
    return Section(
        id="hours", short="Hours", title="By the hour", lead=lead, charts=list(charts), tables=tables
    ), charts


def _options(rows: Rows, name: str) -> Table:
    """Return rows of options as a table of the columns that a reader needs, the most telling first."""
    several = len({r["period"] for r in rows}) > 1
    wanted = [c for c in OPTIONS if several or c not in ("start_h", "hours")]
    if several:  # the range of the watts is that of the table of the busiest period
        rows = [{k: v for k, v in row.items() if k not in ("power_w_lo", "power_w_hi")} for row in rows]
    columns = known_columns(rows, wanted)
    return Table(rows, columns, sortable=True, wide=_long(rows, columns), id=name)


def _long(rows: Rows, columns: Sequence[str]) -> list[str]:
    """Return the columns whose texts are so long that they wrap."""
    return [c for c in columns if any(len(str(row.get(c, ""))) > WIDE for row in rows)]


def _over_hours(fleet: FleetPlan, rows: Rows) -> dict[str, Figure]:
    """Return the charts of load, replicas, cost and power over the periods. rows: of `hour_rows`."""
    shown, needed = (fleet, "") if fleet.scaled is None else (fleet.scaled, "needed ")
    over = [f"{r['start_h']:g}" for r in rows]
    used = [o for o in range(len(shown.problem.options)) if shown.replicas[o].any()]
    names = [shown.problem.options[o].name for o in used]
    drawn = {
        "hours-replicas": (f"Replicas {needed}by the hour", "replicas", shown.replicas),
        "hours-cost": (f"Cost of the replicas {needed}by the hour", "$ per hour", shown.hourly()),
        "hours-power": (f"Power of the replicas {needed}by the hour", "kW", shown.watts / 1e3),
    }
    load = {"requests/s": [r["request_rate_rps"] for r in rows]}
    charts = {"hours-rate": columns_over(over, load, Titles("Load by the hour", x="hour", y="requests/s"))}
    for name, (title, unit, values) in drawn.items():
        series = dict(zip(names, values[used].tolist(), strict=True))
        charts[name] = columns_over(over, series, Titles(title, x="hour", y=unit))
    return charts


def _mix(fleet: FleetPlan, rows: Rows, latencies: Rows) -> tuple[Section, dict[str, Figure]]:
    """Return the options in use at their busiest: how busy they are, their batches, how surely they keep their SLOs."""
    running = {(r["option"], r["model"]): r["running"] for r in latencies}
    busiest: dict[tuple[str, str], Mapping[str, Any]] = {}
    for row in rows:
        key = (row["option"], row["model"])
        if key not in busiest or row["utilisation_percent"] > busiest[key]["utilisation_percent"]:
            busiest[key] = {**row, "running": running.get(key, float("nan"))}
    shown = list(busiest.values())
    drawn = shown[:MOST_DRAWN]
    busy = Parts([r["option"] for r in drawn], [r["utilisation_percent"] for r in drawn], [r["device"] for r in drawn])
    titles = Titles("How busy each option is at its busiest", x="% of its capacity within the SLOs")
    charts = {"utilisation": kinds_of_bars(busy, titles, most=100)}
    sure = [r for r in drawn if r["slo_chance"] == r["slo_chance"]]
    if sure:
        chances = Parts([r["option"] for r in sure], [100 * r["slo_chance"] for r in sure], [r["device"] for r in sure])
        charts["slo-chances"] = kinds_of_bars(chances, Titles("Chance that an option keeps its SLOs", x="%"), most=100)
    name = "options" if len(shown) == len(rows) else "busiest"
    planned = {o.most_used for o in fleet.problem.options if o.model}
    most = (
        f" Replicas are planned to at most {percent(max(planned))} of what they serve within the SLOs."
        if planned
        else ""
    )
    return Section(
        id="mix",
        short="Mix",
        title="The mix at its busiest",
        lead="Replicas, load and batch of each option in its busiest period; running: sequences in the batch of one "
        f"replica.{most}",
        charts=list(charts),
        tables=[_options(shown, name)],
        notes=fleet_power_notes(fleet),
    ), charts


def _shares(fleet: FleetPlan) -> tuple[Section, dict[str, Figure]]:
    """Return which option serves which part of a class, in the busiest period."""
    rows = fleet.share_rows()
    busiest = 1 + int(fleet.problem.rate.sum(axis=1).argmax())
    own = [r for r in rows if r["period"] == busiest]
    classes = list(dict.fromkeys(r["class"] for r in own))
    parts: dict[str, list[float]] = {}
    for row in own:
        parts.setdefault(row["option"], [0.0] * len(classes))[classes.index(row["class"])] = row["share_percent"]
    chart = columns_over(
        classes, parts, Titles("Who serves each class, in the busiest period", x="class", y="% of its requests")
    )
    section = Section(
        id="routing",
        short="Routing",
        title="Which requests go where",
        lead="The shares are what a router has to keep to.",
        charts=["shares"],
        tables=[_table(rows, "shares")],
    )
    return section, {"shares": chart}


def _worth(fleet: FleetPlan, scenario: Scenario | None) -> list[dict[str, Any]]:
    """Return what a little more of each limit, and of the bounds of the SLOs, is worth; [] where nothing is.

    A step whose worth was not known in time counts as one that may be.
    """
    found = [*(slo_worth_rows(fleet, scenario) if scenario is not None else []), *marginal_value_rows(fleet)]
    found.sort(key=lambda r: -(r["gain"] if r["gain"] == r["gain"] else -1.0))
    told = [
        {
            "limit": SLO_BOUNDS if r["limit"] == "slo" else describe(r["limit"]).removeprefix("the "),
            "one_step_more": _step(r),
            "gain": r["gain"],
            "gain_unit": r["gain_unit"],
        }
        for r in found[:MOST_DRAWN]
    ]
    return told if any(r["gain"] != 0.0 for r in found) else []


def _step(row: Mapping[str, Any]) -> str:
    """Say how much more of a limit there is in a row of its worth, such as `1 device` or `10 ms each`."""
    step, unit = row["step"], row["step_unit"]
    if unit == "s":
        return f"{number(step * MS_PER_S)} ms each"
    if unit == "W":
        return f"{number(step / 1e3)} kW"
    return f"{number(step)} {unit.removesuffix('s') if step == 1.0 else unit}"


def _limits(fleet: FleetPlan, worth: Rows = ()) -> tuple[Section | None, dict[str, Figure]]:
    """Return the limits that cost money, and what a little more of each is worth; no section where none does."""
    rows = fleet.binding_rows()
    gains = [Table(worth, list(worth[0]), title=WORTH if rows else "", id="worth")] if worth else []
    if not rows:
        return _of_worth(gains), {}
    drawn = rows[:MOST_DRAWN]
    chart = ranked_bars(
        [r["limit"] for r in drawn],
        [r["saving_usd_per_hour"] for r in drawn],
        Titles("What each limit costs", x="$ per hour"),
    )
    section = Section(
        id="limits",
        short="Limits",
        title="Which limits cost money",
        lead="Each limit is left out in turn, and the fleet planned again: what that saves is what the limit costs.",
        charts=["limits"],
        tables=[_table(rows, "binding"), *gains],
    )
    return section, {"limits": chart}


def _of_worth(gains: list[Table]) -> Section | None:
    """Return the section of a fleet that no whole limit makes dearer, but that a little more makes better."""
    if not gains:
        return None
    lead = "The fleet is planned again with one step more of each limit, and with each bound of the SLOs 10 ms longer."
    return Section(id="limits", short="Limits", title=WORTH, lead=lead, charts=[], tables=gains)


def _table(rows: Rows, name: str) -> Table:
    """Return rows as a table of every column that has a value somewhere; long texts wrap."""
    columns = [
        c
        for c in known_columns(rows, list(dict.fromkeys(c for row in rows for c in row)))
        if not c.endswith(("_lo", "_hi"))
    ]
    return Table(rows, columns, sortable=True, wide=_long(rows, columns), id=name)


def _origin(fleet: FleetPlan, path: str) -> Section:
    """Say how to make the fleet again, and what it rests on."""
    made: Mapping[str, Any] = fleet.manifest.row() if fleet.manifest is not None else {}
    terms = [
        (k.replace("_", " "), str(v)) for k, v in made.items() if k != "command" and v not in ("", None) and v == v
    ]
    asked = quote(path or "FLEET.toml")
    commands = [("this fleet", f"perfmodel fleet {asked}"), ("as rows", f"perfmodel fleet {asked} --json")]
    return Section(
        id="origin",
        short="Origin",
        title="Where this comes from",
        lead="The scenario as it was written, the commands, and the hashes that identify the data.",
        command=text_of(path),
        terms=[*commands, *terms],
        notes=list(fleet.problem.remarks),
    )
