"""The command `perfmodel report`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from hwdb import InputError, outfile
from search.commands.option_groups import grouped
from search.commands.options import HwdbOptions, Scenario
from search.commands.searching import plan_of

EXAMPLES = """\
perfmodel report examples/chat-70b-h100.toml
perfmodel report examples/chat-70b-h100.toml -o chat.md
perfmodel report examples/fleet-mix.toml -o fleet.html"""

Page = Annotated[
    Path | None,
    typer.Option(
        "--output", "-o", metavar="FILE", help="File to write; report.html by default.", rich_help_panel="Output"
    ),
]
Form = Annotated[
    str,
    typer.Option(
        "--format",
        metavar="WORD",
        help="html, md (Markdown), json, or csv (the rows of all tables); by default as the file's name ends.",
        rich_help_panel="Output",
    ),
]
#: Endings of files -> form of the report; of others it is a page.
ENDINGS = {".md": "md", ".markdown": "md", ".json": "json", ".csv": "csv"}


@grouped
def report_command(scenario: Scenario, hardware: HwdbOptions, output: Page = None, form: Form = "") -> None:
    """Write the plan of a scenario, or its fleet where it has a [fleet], as one offline page, Markdown, JSON or CSV.

    The page shows the recommendation, the alternatives, where time and memory go, and what changes of the load, the
    prices or the SLOs would do. Its controls change SLOs, load, prices and devices in the page itself.
    """
    from search.report import FORMS
    from search.scenario import load_scenario

    form = form or (ENDINGS.get(output.suffix.lower(), "html") if output else "html")
    if form not in FORMS:
        raise InputError(f"--format {form}: unknown; give one of {', '.join(FORMS)}")
    output = output or Path(f"report.{form}")
    outfile.check(output, scenario)
    if load_scenario(scenario, hardware.folders).fleet is not None:
        write_fleet_page(scenario, hardware.folders, output, form)
    else:
        _write_plan_page(scenario, hardware.folders, output, form)


def write_fleet_page(scenario: Path, folders: Sequence[Path], output: Path, form: str) -> None:
    """Plan the fleet of a scenario, write its page in a form of `search.report.FORMS`, and say what it answers."""
    from search.fleet import plan_fleet
    from search.output import fleet_headline, print_text, write_text
    from search.report import render_fleet_report
    from search.scenario import load_scenario

    asked = load_scenario(scenario, folders)
    found = plan_fleet(asked)
    write_text(output, render_fleet_report(found, form, str(scenario), asked.title))
    print_text(f"{output}: {fleet_headline(found)}")


def _write_plan_page(scenario: Path, folders: Sequence[Path], output: Path, form: str) -> None:
    """Plan a scenario, write its page in a form of `search.report.FORMS`, and say what it answers."""
    from search.output import headline, print_text, progress_bar, write_text
    from search.report import render_report

    found = plan_of(scenario, folders, command=f"perfmodel report {scenario} -o {output}")
    with progress_bar("what if") as update:
        write_text(output, render_report(found, update, form))
    print_text(f"{output}: {headline(found)}")
