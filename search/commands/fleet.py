"""The command `perfmodel fleet`."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import typer

from hwdb import InputError
from search.commands.shared.option_groups import grouped
from search.commands.shared.options import DataOutputOptions, Scenario

if TYPE_CHECKING:
    from search.fleet import FleetPlan, SimulatedFleet
    from search.output import Form
    from search.scenario import Scenario as ScenarioFile

EXAMPLES = """\
perfmodel fleet examples/fleet-mix.toml --verify --report fleet.html
perfmodel fleet examples/day.toml --routing routes.json"""
PERCENT = 100.0
#: Tables for which the fleet is planned again, and the share of the time for the first plan where there is one.
AGAIN, FIRST_SHARE = ("alternatives", "limits", "worth", "growth"), 0.5
#: What `--rows` can name: the tables of a fleet.
ROWS = ("options", "latency", "alternatives", "hours", "shares", "routing", "limits", "growth", "supply", "worth")
#: Columns that a table says something with, so that a narrow terminal leaves out others.
KEPT = ("class", "period", "start_h", "request_rate_rps", "replicas", "devices", "usd_per_hour", "share_percent")


@dataclass(frozen=True)
class FleetResultOptions:
    """What of a fleet is printed."""

    section: ClassVar[str] = "Result"

    verify: Annotated[
        bool, typer.Option("--verify", help="Also simulate what each option serves; plan again if a bound is missed.")
    ] = False
    routing: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Write which class goes to which option, in what share, as HTTPRoutes for a gateway."
        ),
    ] = None
    rows: Annotated[str, typer.Option(metavar="TABLE", help=f"Rows to print: {', '.join(ROWS)}.")] = ROWS[0]
    time_limit: Annotated[
        float | None,
        typer.Option(
            metavar="SECONDS",
            help="Seconds for all plans, --verify aside; default: time_limit_s of the scenario, or 60.",
        ),
    ] = None
    gap: Annotated[
        float | None,
        typer.Option(
            metavar="PERCENT", help="Distance from the optimum that is enough; default: gap_percent of the scenario."
        ),
    ] = None
    report: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Also write the page of the fleet: HTML, .md, .json or .csv.")
    ] = None


@grouped
def fleet_command(scenario: Scenario, result: FleetResultOptions, output: DataOutputOptions) -> None:
    """Find the least-cost mix of hardware for classes of requests, and what each hour needs.

    The load over the day comes from a trace, or from rate_by_hour in the scenario. Solves an integer program and
    proves how close to the least cost the fleet is.
    """
    from hwdb import outfile
    from search.fleet import routing_json
    from search.output import progress_bar, verified_rows, write_text
    from search.scenario import load_scenario

    start, form = time.monotonic(), output.form
    if result.rows not in ROWS:
        raise InputError(f"--rows {result.rows!r} is no table of a fleet; give {', '.join(ROWS)}")
    if result.verify and result.rows != ROWS[0]:
        raise InputError(f"--verify prints rows of its own; leave out --rows {result.rows}")
    time_limit, gap = _effort(result)
    for file in (result.routing, result.report):
        if file is not None:
            outfile.check(file, scenario)
    asked = load_scenario(scenario, output.folders)
    found = _planned(asked, result, time_limit, gap, start, form)
    passed = _passing(found, asked) if result.verify else None  # before anything is printed: it may be refused
    found = found if passed is None else passed.fleet
    if result.routing is not None:
        write_text(result.routing, routing_json(found))
    if result.report is not None:
        from search.report import form_of, render_fleet_report

        with progress_bar("what if"):
            page = render_fleet_report(found, form_of(result.report), str(scenario), asked.title, asked)
        write_text(result.report, page)
    if form != "table" or result.rows != ROWS[0]:
        rows = _rows(found, asked, result.rows) if passed is None else verified_rows(passed)
        _print_rows(rows, result.rows, output)
        return
    _print_tables(found, asked, result, passed, wide=output.wide)


def _planned(
    asked: ScenarioFile,
    result: FleetResultOptions,
    time_limit: float | None,
    gap: float | None,
    start: float,
    form: Form,
) -> FleetPlan:
    """Plan the fleet of a scenario, and leave time for what is planned again.

    start: when the command began. All plans are due `time_limit` seconds after it. form: JSON and CSV print the changes
    that make a fleet possible where there is none, before `FleetInfeasible` is raised.
    """
    from search.fleet import FleetInfeasible, due_at, plan_fleet, relaxation_rows
    from search.output import print_rows, progress_bar
    from search.scenario import TIME_LIMIT_S

    terms = asked.fleet.terms.time_limit_s if asked.fleet is not None else TIME_LIMIT_S
    limit = time_limit or terms
    share = FIRST_SHARE if result.report is not None or result.rows in AGAIN else 1.0
    first = max(share * limit - (time.monotonic() - start), FIRST_SHARE * share * limit)
    try:
        with progress_bar("solving"):
            return due_at(plan_fleet(asked, time_limit=first, gap=gap), start + limit)
    except FleetInfeasible as error:
        if form != "table":
            print_rows(relaxation_rows(error), form)
        raise


def _effort(result: FleetResultOptions) -> tuple[float | None, float | None]:
    """Return (seconds, relative gap) that the options ask for; raise `InputError` for impossible ones."""
    if result.time_limit is not None and not result.time_limit > 0:
        raise InputError(f"--time-limit {result.time_limit:g}: give seconds above 0")
    if result.gap is not None and not 0 <= result.gap <= PERCENT:
        raise InputError(f"--gap {result.gap:g}: give per cent, 0 to {PERCENT:g}")
    return result.time_limit, None if result.gap is None else result.gap / PERCENT


def _print_rows(rows: list[dict[str, Any]], table: str, output: DataOutputOptions) -> None:
    """Print the rows of one table of a fleet, alone; say so where it has none and a person reads it."""
    from search.output import Layout, print_alternatives, print_latencies, print_rows, print_text

    if output.form == "table" and not rows:
        print_text(f"This fleet has no rows of {table}.")
        return
    printers = {"latency": print_latencies, "alternatives": print_alternatives}
    if output.form == "table" and table in printers:
        printers[table](rows, wide=output.wide)
        return
    layout = Layout(
        footnotes=["remark"],
        keep=KEPT,
        numbered=("option",) if table in ("shares", "routing") else (),
        below=("option",) if table == "hours" and not output.wide else (),
        wide=output.wide,
    )
    print_rows(rows, output.form, layout)


def _print_tables(
    found: FleetPlan, asked: ScenarioFile, result: FleetResultOptions, passed: SimulatedFleet | None, *, wide: bool
) -> None:
    """Print the fleet, the purchases of a growing demand, and what else is asked for. passed: by simulation."""
    from search.fleet import latency_rows
    from search.output import print_fleet, print_growth, print_latencies, print_text, print_verified

    print_fleet(found, wide=wide)
    if passed is None and (rows := latency_rows(found)):
        print_latencies(rows, wide=wide)
    if asked.growth is not None:
        print_growth(_rows(found, asked, "growth"), wide=wide)
    if passed is not None:
        print_verified(passed, wide=wide)
    if result.routing is not None:
        print_text(f"{result.routing}: the share of each class that each option gets")


def _rows(found: FleetPlan, asked: ScenarioFile, table: str) -> list[dict[str, Any]]:
    """Return the rows of one of the tables of a fleet; raise `InputError` where the scenario has no such table."""
    from search.fleet import (
        alternative_rows,
        growth_rows,
        hour_rows,
        latency_rows,
        limit_rows,
        marginal_value_rows,
        routing_rows,
        slo_worth_rows,
        supply_rows,
    )
    from search.output import fleet_rows

    if table == "growth":
        if asked.growth is None:
            raise InputError(f"{asked.path}: no growth is stated; add [growth] with monthly = 1.05 or the like")
        return growth_rows(found, asked.growth)
    makers = {"options": fleet_rows, "hours": hour_rows, "routing": routing_rows, "limits": limit_rows}
    makers |= {"latency": latency_rows, "alternatives": alternative_rows}
    if table == "worth":
        return [*marginal_value_rows(found), *slo_worth_rows(found, asked)]
    if table == "supply":
        return supply_rows(found.problem, found.held)
    return makers[table](found) if table in makers else found.share_rows()


def _passing(found: FleetPlan, asked: ScenarioFile) -> SimulatedFleet:
    """Simulate the options of a fleet, and plan it again where they miss a bound."""
    from search.fleet import passing
    from search.output import progress_bar

    with progress_bar("simulating") as update:
        return passing(found, asked, progress=update)
