"""The command `perfmodel report`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hwdb import InputError, outfile
from search.commands.shared.option_groups import grouped
from search.commands.shared.options import HwdbOptions, Scenario
from search.commands.shared.searching import plan_of

if TYPE_CHECKING:
    from search.report import Page as Content
    from search.scenario import Scenario as Asked

EXAMPLES = """\
perfmodel report examples/fleet-mix.toml -o fleet.html
perfmodel report examples/chat-70b-h100.toml --format svg -o charts"""

Page = Annotated[
    Path | None,
    typer.Option(
        "--output",
        "-o",
        metavar="FILE",
        help="File to write, report.html by default; of pictures the folder, report-png by default.",
        rich_help_panel="Output",
    ),
]
Form = Annotated[
    str,
    typer.Option(
        "--format",
        metavar="WORD",
        help="html, md (Markdown), json, csv (the rows of all tables), or png or svg (a picture of each chart, into a "
        "folder; needs perfmodel[images] and a Chromium); by default as the file's name ends.",
        rich_help_panel="Output",
    ),
]


@grouped
def report_command(scenario: Scenario, hardware: HwdbOptions, output: Page = None, form: Form = "") -> None:
    """Write the plan or the fleet of a scenario as one offline HTML page, or as Markdown, JSON or CSV.

    The page shows the recommendation, the alternatives, where time and memory go, and what changes of the load, the
    prices or the SLOs would do. Its controls change SLOs, load, prices and devices in the page itself.
    """
    from search.report import FORMS, PICTURES, form_of
    from search.scenario import load_scenario

    if output:
        outfile.check(output, scenario)
    form = form or (form_of(output) if output else "html")
    if form not in (*FORMS, *PICTURES):
        raise InputError(f"--format {form}: unknown; give one of {', '.join((*FORMS, *PICTURES))}")
    if output is None:
        output = Path(f"report-{form}" if form in PICTURES else f"report.{form}")
        outfile.check(output, scenario)
    if form in PICTURES and output.is_file():
        raise InputError(f"{output}: is a file; --format {form} writes a picture of each chart, so give a folder")
    asked = load_scenario(scenario, hardware.folders)
    if asked.fleet is not None:
        _write_fleet_page(asked, output, form)
    else:
        _write_plan_page(scenario, hardware.folders, output, form)


def _write_fleet_page(asked: Asked, output: Path, form: str) -> None:
    """Plan the fleet of a scenario, write its page in a form of `search.report.FORMS`, and say what it answers."""
    from search.fleet import plan_fleet
    from search.output import fleet_headline, print_text, progress_bar
    from search.report import page_of_fleet

    with progress_bar("solving"):
        found = plan_fleet(asked)
        page = page_of_fleet(found, asked.path, asked.title, asked)
    written = _write(page, output, form)
    print_text(f"{written}: {fleet_headline(found)}", stream=outfile.beside(output))


def _write_plan_page(scenario: Path, folders: Sequence[Path], output: Path, form: str) -> None:
    """Plan a scenario, write its page in a form of `search.report.FORMS`, and say what it answers."""
    from search.output import headline, print_text, progress_bar
    from search.report import page_of

    found = plan_of(scenario, folders, command=f"perfmodel report {scenario} -o {output}")
    with progress_bar("what if") as update:
        page = page_of(found, update, live=form == "html")
    print_text(f"{_write(page, output, form)}: {headline(found)}", stream=outfile.beside(output))


def _write(page: Content, output: Path, form: str) -> str:
    """Write a page in a form of `search.report.FORMS`, or its charts as pictures; returns what was written."""
    from search.output import write_text
    from search.report import FORMS, PICTURES, write_pictures

    if form in PICTURES:
        return f"{output} ({len(write_pictures(page.charts, output, form))} pictures)"
    write_text(output, FORMS[form](page))
    return str(output)
