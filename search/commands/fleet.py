"""The command `perfmodel fleet`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from hwdb import outfile
from search.commands.option_groups import grouped
from search.commands.options import DataOutputOptions, Scenario

EXAMPLES = """\
perfmodel fleet examples/fleet-mix.toml --json
perfmodel fleet examples/day.toml
perfmodel fleet examples/fleet-mix.toml --report fleet.html"""

Report = Annotated[
    Path | None,
    typer.Option(
        "--report",
        metavar="FILE",
        help="Also write the page of the fleet: HTML, .md, .json or .csv.",
        rich_help_panel="Output",
    ),
]


@grouped
def fleet_command(scenario: Scenario, output: DataOutputOptions, report: Report = None) -> None:
    """Find the least-cost mix of hardware for classes of requests, and what each hour needs.

    The load over the day comes from a trace, or from rate_by_hour in the scenario. Solves an integer program and
    proves how close to the least cost the fleet is.
    """
    from search.fleet import plan_fleet
    from search.output import fleet_rows, print_fleet, print_rows, write_text
    from search.report import form_of, render_fleet_report
    from search.scenario import load_scenario

    form = output.form
    if report is not None:
        outfile.check(report, scenario)
    asked = load_scenario(scenario, output.folders)
    found = plan_fleet(asked)
    if report is not None:
        write_text(report, render_fleet_report(found, form_of(report), str(scenario), asked.title))
    if form == "table":
        print_fleet(found, wide=output.wide)
    else:
        print_rows(fleet_rows(found), form)
