"""The command `perfmodel plan`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import typer

from search.commands.option_groups import grouped
from search.commands.options import DataOutputOptions, Scenario
from search.commands.searching import plan_of

if TYPE_CHECKING:
    from search.output import Form
    from search.planning import Plan

EXAMPLES = """\
perfmodel plan examples/chat-70b-h100.toml
perfmodel plan examples/chat-70b-h100.toml --top 3 --verify"""


@dataclass(frozen=True)
class ResultOptions:
    """What of a plan is printed."""

    section: ClassVar[str] = "Result"

    top: Annotated[int, typer.Option(min=1, metavar="N", help="Qualifying candidates to list, best first.")] = 10
    misses: Annotated[
        int, typer.Option(min=0, metavar="N", help="Near misses to list below, each with the reason.")
    ] = 3
    explain: Annotated[
        bool, typer.Option("--explain", help="Print the time of the best candidate per operator instead.")
    ] = False
    verify: Annotated[
        bool, typer.Option("--verify", help="Also simulate the best candidates; print both results side by side.")
    ] = False


@grouped
def plan_command(scenario: Scenario, result: ResultOptions, output: DataOutputOptions) -> None:
    """Rank the configurations that serve a scenario within its SLOs.

    Searches every legal configuration of the hardware on offer, at the number of devices that the load needs. Where
    none qualifies, the exit code is 1, and the message names the nearest one and what to relax.
    """
    from search.output import Layout, print_plan, print_rows
    from search.planning import terms_of

    form = output.form
    found = plan_of(scenario, output.folders)
    rows = found.rows(result.top, result.misses) if found.best >= 0 else []
    if result.explain:
        print_rows(terms_of(found), form, Layout(title=f"Where the time goes: {rows[0]['candidate']}"))
    elif result.verify:
        _print_verified(found, rows, form)
    elif form == "table":
        print_plan(found, rows)
    else:
        print_rows(rows, form)


def _print_verified(plan: Plan, rows: list[dict[str, Any]], form: Form) -> None:
    """Simulate the best candidates and print estimates and simulated values side by side."""
    from search.output import Layout, print_plan, print_rows, progress_bar
    from search.planning import verify

    with progress_bar("simulating") as update:
        checked = verify.verify(plan, progress=update)
    if form == "table":
        print_plan(plan, rows)
    layout = Layout(columns=verify.columns(plan), title="The best candidates, estimated and simulated")
    print_rows(checked, form, layout)
