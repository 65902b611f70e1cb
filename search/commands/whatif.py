"""The command `perfmodel whatif`."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import typer

from hwdb import Infeasible
from search.commands.shared.option_groups import grouped
from search.commands.shared.options import DataOutputOptions, Scenario

if TYPE_CHECKING:
    from search.whatif import Trials

EXAMPLES = """\
perfmodel whatif examples/small-4090.toml --set 'slo.**=0.8'
perfmodel whatif examples/small-4090.toml --grid workload.concurrency=2:16:8"""
#: Columns of the table of a grid; the least important go first where it is narrow.
GRID = ("usd_per_hour", "devices", "power_w", "ttft_ms", "tpot_ms", "slo_chance", "change_percent")
LESS_IMPORTANT = ("tpot_ms", "ttft_ms", "power_w", "change_percent", "slo_chance")
NOTE = "A key may be a pattern: slo.**=0.8 multiplies every bound. perfmodel explain WORD explains a key."


@dataclass(frozen=True)
class ChangeOptions:
    """What is to be different."""

    section: ClassVar[str] = "Change"

    set_: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="KEY=VALUE",
            help="Set a key of the scenario (slo.ttft_ms_p95=300), or a figure of a device "
            "(device.h100-sxm.power.tdp=500); KEY*=2 multiplies it, KEY= takes it out. Repeatable: all hold together.",
        ),
    ] = None
    grid: Annotated[
        list[str] | None,
        typer.Option(
            metavar="KEY=LO:HI:N",
            help="Plan with N values of a key from LO to HI (LO:HI:N:log by equal factors), or with those of a list "
            "A,B,C; one or two grids.",
        ),
    ] = None


@grouped
def whatif_command(scenario: Scenario, change: ChangeOptions, output: DataOutputOptions) -> int:
    """Plan a scenario with something different, and say what that changes.

    Prints the answer before and after: configuration, devices, cost, power, latencies, and the chance that today's
    answer would do. Where nothing meets the changed request, the exit code is 1.
    """
    from search.output import print_rows, progress_bar
    from search.scenario import load_scenario
    from search.whatif import try_changes

    form = output.form
    if load_scenario(scenario, output.folders).fleet is not None:
        return _of_fleet(scenario, change, output)
    with progress_bar("planning") as update:
        found = try_changes(scenario, change.set_ or (), change.grid or (), folders=output.folders, progress=update)
    rows = found.rows()
    if form != "table":
        print_rows(rows, form)
    elif found.grids:
        _print_grid(found, rows, wide=output.wide)
    else:
        _print_difference(found, rows)
    return 0 if found.feasible else Infeasible.exit_code


def _of_fleet(scenario: Scenario, change: ChangeOptions, output: DataOutputOptions) -> int:
    """Plan a fleet as it is and with something different; print one line each. Returns the exit code."""
    from search.output import Layout, print_rows, progress_bar
    from search.whatif import VALUES, try_fleet_changes

    with progress_bar("planning") as update:
        found = try_fleet_changes(
            scenario, change.set_ or (), change.grid or (), folders=output.folders, progress=update
        )
    values, rows = VALUES[: len(found.grids)], found.rows()
    layout = Layout(
        columns=[*values, "answer", *GRID[:3], *GRID[5:]],
        below=() if values else ("what_if",),
        headings=dict(zip(values, found.grids, strict=True)),
        label="answer",
        keep=[*values, "usd_per_hour", "devices"],
        drop=LESS_IMPORTANT,
        right=values,
        wide=output.wide,
    )
    print_rows(rows, output.form) if output.form != "table" else print_rows(rows, layout=layout)
    return 0 if found.feasible else Infeasible.exit_code


def _print_difference(found: Trials, rows: Sequence[dict[str, Any]]) -> None:
    """Print the answer before and after one change. Where there is none afterwards, stderr says why."""
    from search.output import error_lines, print_changes, print_text, verdict

    trial, before = found.trials[0], found.before
    for told in trial.name.split("; "):
        print_text(told)
    if trial.plan is not None and not trial.plan.feasible:
        print(error_lines(f"error: {trial.plan.message}", sys.stderr), file=sys.stderr)
        return
    planned, after = (rows[0], rows[1]) if before.feasible else ({}, rows[0])
    if not before.feasible:
        print_text(f"As planned, {before.message}")
    print_text(verdict(planned, after), bold=True)
    print_text("")
    columns = [c for c in after if c not in ("what_if", "answer", *CHANGES)]
    shown = {"configuration": after["answer"] if after["answer"] != "the same" else planned["answer"]}
    print_changes(
        {"configuration": planned.get("answer"), **planned},
        {**shown, **{c: after[c] for c in columns}},
        ["configuration", *columns],
        ("As planned", "Changed"),
    )


#: Columns of a row that say how it differs: the sheet says it of every figure.
CHANGES = ("change_percent", "devices_change", "power_change_percent", "chance_if_nothing_changes")


def _print_grid(found: Trials, rows: Sequence[dict[str, Any]], *, wide: bool) -> None:
    """Print one line per value of the grids."""
    from search.output import Layout, print_rows
    from search.whatif import VALUES

    values = VALUES[: len(found.grids)]
    told = [dict(row) for row in rows]
    if found.before.feasible:
        told[0] |= {values[0]: "as planned"}
    bounded = [o.key for o in found.before.scenario.slo.objectives if o.key not in GRID]
    layout = Layout(
        title=f"{found.before.scenario.title}: {' and '.join(found.grids)}",
        columns=[*values, "answer", *GRID[:5], *bounded, *GRID[5:]],
        headings=dict(zip(values, found.grids, strict=True)),
        label="answer",
        keep=[*values, "usd_per_hour", "devices"],
        drop=[*bounded, *LESS_IMPORTANT],
        right=values,
        wide=wide,
    )
    print_rows(told, layout=layout)
