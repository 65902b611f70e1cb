"""The command `perfmodel report`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from hwdb import outfile
from search.commands.option_groups import grouped
from search.commands.options import HwdbOptions, Scenario
from search.commands.searching import plan_of

EXAMPLES = """\
perfmodel report examples/chat-70b-h100.toml
perfmodel report examples/chat-70b-h100.toml -o chat.html"""

Page = Annotated[
    Path, typer.Option("--output", "-o", metavar="FILE", help="Page to write (HTML).", rich_help_panel="Output")
]


@grouped
def report_command(scenario: Scenario, hardware: HwdbOptions, output: Page = Path("report.html")) -> None:
    """Write the plan of a scenario as one offline HTML page.

    The page shows the recommendation, the alternatives, where time and memory go, and what changes of the load, the
    prices or the SLOs would do.
    """
    from search.output import headline, print_text, progress_bar, write_text
    from search.report import render_report

    outfile.check(output, scenario)
    found = plan_of(scenario, hardware.folders, command=f"perfmodel report {scenario} -o {output}")
    with progress_bar("what if") as update:
        write_text(output, render_report(found, update))
    print_text(f"{output}: {headline(found)}")
