"""Make the page of a fleet: the mix, what each hour costs, how busy it is, who serves whom, and which limits cost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from shlex import quote
from typing import TYPE_CHECKING, Any

from hwdb import InputError
from search.fleet import account, hour_rows
from search.output import fleet_headline, known_columns, money, number, percent
from search.report.brief import MINUTES
from search.report.charts import Figure, Titles, ranked_bars
from search.report.curve_charts import Parts, columns_over, kinds_of_bars
from search.report.html_page import Answer, Chip, Fact, Page, Section, Table
from search.report.inputs import text_of
from search.report.text_forms import FORMS

if TYPE_CHECKING:
    from search.fleet import FleetPlan

#: Chance from which an option counts as sure.
SURE = 0.8
#: Share of the capacity from which an option counts as full, percent.
FULL = 95.0
#: Letters from which a text wraps.
WIDE = 44
#: Most limits, options or classes that are drawn.
MOST_DRAWN = 24

Rows = Sequence[Mapping[str, Any]]


def render_fleet_report(fleet: FleetPlan, form: str = "html", path: str = "", title: str = "") -> str:
    """Return the page of a fleet as HTML; form: one of `FORMS`. path, title: of its scenario."""
    if form not in FORMS:
        raise InputError(f"unknown form {form!r} of a report; give one of {', '.join(FORMS)}")
    return FORMS[form](page_of_fleet(fleet, path, title))


def page_of_fleet(fleet: FleetPlan, path: str = "", title: str = "") -> Page:
    """Return the content of the page of a fleet. path, title: of its scenario."""
    rows = fleet.rows()
    parts = [_hours(fleet), _mix(fleet, rows), _shares(fleet), _limits(fleet)]
    figures: dict[str, Figure] = {name: chart for _, drawn in parts for name, chart in drawn.items()}
    version = fleet.manifest.version if fleet.manifest is not None else ""
    return Page(
        title=title or "A fleet",
        question=f"{len(fleet.problem.classes)} classes of requests: {', '.join(fleet.problem.classes)}",
        headline=fleet_headline(fleet),
        feasible=True,
        version=version,
        chips=_chips(fleet, rows),
        facts=_facts(fleet),
        sections=[_brief(fleet, rows), *(section for section, _ in parts if section is not None), _origin(fleet, path)],
        charts=figures,
    )


def _chips(fleet: FleetPlan, rows: Rows) -> list[Chip]:
    """Return short remarks: how near to the least cost it is proven to be, and the least chance of an SLO."""
    chances = [r["slo_chance"] for r in rows if r["slo_chance"] == r["slo_chance"]]
    found = [Chip(f"within {number(100 * fleet.gap)} % of the least cost" if fleet.gap > 0 else "proven least cost")]
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


def _brief(fleet: FleetPlan, rows: Rows) -> Section:
    """Answer what to take, what it hangs on, and how sure it is."""
    options = list(dict.fromkeys(r["option"] for r in rows))
    most = {o: max(r["replicas"] for r in rows if r["option"] == o) for o in options}
    busy = {o: max(r["utilisation_percent"] for r in rows if r["option"] == o) for o in options}
    full = [o for o, share in busy.items() if share >= FULL]
    limits = [
        f"without the limit on {b['limit']} it would cost ${money(b['saving_usd_per_hour'])} per hour less"
        for b in fleet.binding_rows()
    ]
    points = [
        *limits,
        *_other_operation(fleet),
        *([f"full, so that more load needs more of it: {', '.join(full)}"] if full else []),
    ]
    chances = [(r["slo_chance"], r["option"]) for r in rows if r["slo_chance"] == r["slo_chance"]]
    sure = (
        [f"The least sure part is {min(chances)[1]}: it keeps its SLOs with a chance of {percent(min(chances)[0])}."]
        if chances
        else []
    )
    return Section(
        id="brief",
        short="In short",
        title="In short",
        lead="",
        answers=[
            Answer("What would you buy?", [fleet_headline(fleet)], [_replicas(n, o) for o, n in most.items()]),
            Answer("What would change your mind?", [] if points else ["No limit costs money."], points),
            Answer("What does it cost to be sure?", [*sure, *_cost_of_a_run(fleet, options)]),
        ],
    )


def _replicas(number_of: float, option: str) -> str:
    """Say how many replicas an option has, and what each is: `4 replicas of chat on H100, each 2 h100-sxm, TP2`."""
    name, _, layout = option.rpartition(": ")
    many = f"{number(number_of)} replica{'s' if number_of != 1 else ''}"
    return f"{many} of {name}, each {layout}" if name else f"{many} of {option}"


def _cost_of_a_run(fleet: FleetPlan, used: Sequence[str]) -> list[str]:
    """Say what a benchmark of one replica of each option in use costs, and how to ask for more than an even chance."""
    prices = [option.usd_per_hour for option in fleet.problem.options if option.name in used]
    usd = sum(prices) * MINUTES / 60.0
    cost = f": {MINUTES:.0f} minutes of them cost about ${money(usd)}" if prices and usd > 0 else ""
    return [
        f"To be sure by measuring, benchmark one replica of each option under its classes before you sign{cost}.",
        "To be surer by more hardware, set confidence = 0.9 in [limits]: every option is then sized for it.",
    ]


def _when(fleet: FleetPlan) -> str:
    """Say of which hours the cost of the fleet is."""
    if fleet.problem.periods < 2:
        return ""
    return "in every period" if fleet.scaled is not None else "mean over the periods"


def _other_operation(fleet: FleetPlan) -> list[str]:
    """Say what the fleet would cost if its replicas followed the load, or if they did not; nothing where not known."""
    own = f"instead of ${money(fleet.usd_per_hour)}"
    if fleet.scaled is not None:
        usd = money(fleet.scaled.usd_per_hour)
        return [f"replicas that are rented by the period would cost ${usd} per hour on average {own}"]
    if fleet.static is not None:
        return [f"replicas that stay all day would cost ${money(fleet.static.usd_per_hour)} per hour {own} on average"]
    return []


def _hours(fleet: FleetPlan) -> tuple[Section | None, dict[str, Figure]]:
    """Return what each period costs and draws by option, and the rows of the periods; no section for one period."""
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
    table = _table(rows, "by-the-hour")
    return Section(
        id="hours", short="Hours", title="By the hour", lead=lead, charts=list(charts), tables=[table]
    ), charts


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


def _mix(fleet: FleetPlan, rows: Rows) -> tuple[Section, dict[str, Figure]]:
    """Return the options in use, how busy they are, and how surely they keep their SLOs."""
    busiest: dict[str, Mapping[str, Any]] = {}
    for row in rows:
        known = busiest.get(row["option"])
        if known is None or row["utilisation_percent"] > known["utilisation_percent"]:
            busiest[row["option"]] = row
    shown = list(busiest.values())[:MOST_DRAWN]
    busy = Parts([r["option"] for r in shown], [r["utilisation_percent"] for r in shown], [r["device"] for r in shown])
    charts = {
        "utilisation": kinds_of_bars(
            busy, Titles("How busy each option is at its busiest", x="% of its capacity"), most=100
        )
    }
    sure = [r for r in shown if r["slo_chance"] == r["slo_chance"]]
    if sure:
        chances = Parts([r["option"] for r in sure], [100 * r["slo_chance"] for r in sure], [r["device"] for r in sure])
        charts["slo-chances"] = kinds_of_bars(chances, Titles("Chance that an option keeps its SLOs", x="%"), most=100)
    remarks = list(dict.fromkeys(str(r["remark"]) for r in rows if r.get("remark")))
    shared = remarks if len(remarks) == 1 else []  # what holds for the whole fleet is not repeated in every row
    plain = [{k: v for k, v in row.items() if k != "remark"} for row in rows] if shared else rows
    section = Section(
        id="mix",
        short="Mix",
        title="The mix",
        lead="One row per option and period in use.",
        charts=list(charts),
        tables=[_table(plain, "options")],
        notes=[text for text in shared if text not in fleet.problem.remarks],
    )
    return section, charts


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


def _limits(fleet: FleetPlan) -> tuple[Section | None, dict[str, Figure]]:
    """Return the limits that cost money; no section where none does."""
    rows = fleet.binding_rows()
    if not rows:
        return None, {}
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
        tables=[_table(rows, "binding")],
    )
    return section, {"limits": chart}


def _table(rows: Rows, name: str) -> Table:
    """Return rows as a table of every column that has a value somewhere; long texts wrap."""
    columns = [
        c
        for c in known_columns(rows, list(dict.fromkeys(c for row in rows for c in row)))
        if not c.endswith(("_lo", "_hi"))
    ]
    wide = [c for c in columns if any(len(str(row.get(c, ""))) > WIDE for row in rows)]
    return Table(rows, columns, sortable=True, wide=wide, id=name)


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
