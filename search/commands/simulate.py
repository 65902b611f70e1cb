"""The command `perfmodel simulate`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar

import typer

from search.commands.option_groups import grouped
from search.commands.options import DataOutputOptions, Scenario
from search.commands.searching import plan_of

EXAMPLES = """\
perfmodel simulate examples/chat-70b-h100.toml --requests 500
perfmodel simulate examples/chat-70b-h100.toml --rank 2 --log requests.csv"""


@dataclass(frozen=True)
class SimulationOptions:
    """Which candidate is simulated, and how."""

    section: ClassVar[str] = "Simulation"

    rank: Annotated[int, typer.Option(min=1, metavar="N", help="Rank of the candidate in the plan; 1 is best.")] = 1
    requests: Annotated[
        int,
        typer.Option(
            min=0, metavar="N", help="Requests to simulate. 0: the whole trace, or as many as steady percentiles need."
        ),
    ] = 0
    router: Annotated[
        str,
        typer.Option(metavar="NAME", help="How requests are routed to replicas; docs/simulator.md lists the names."),
    ] = "join_shortest_queue"
    seed: Annotated[int, typer.Option(min=0, metavar="N", help="Seed of the random numbers.")] = 0
    capacity: Annotated[
        bool, typer.Option("--capacity", help="Also find the highest request rate that keeps the SLOs.")
    ] = False


@dataclass(frozen=True)
class LogOptions:
    """Files that the simulation writes."""

    section: ClassVar[str] = "Files"

    log: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write one row per request here (.csv or .parquet).")
    ] = None
    trace: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write a timeline for ui.perfetto.dev here (JSON).")
    ] = None


@grouped
def simulate_command(
    scenario: Scenario, simulation: SimulationOptions, logs: LogOptions, output: DataOutputOptions
) -> None:
    """Simulate a scenario's load on a candidate of its plan.

    Every request goes through a router, a queue and the engine's steps; nothing is averaged.
    """
    from search.output import print_rows, print_sheet, progress_bar
    from search.planning import verify

    form = output.form
    found = plan_of(scenario, output.folders)
    with progress_bar("simulating") as update:
        row = verify.simulated_row(
            found,
            simulation.rank,
            verify.Settings(count=simulation.requests, router=simulation.router, seed=simulation.seed),
            capacity_too=simulation.capacity,
            log=logs.log,
            trace=logs.trace,
            progress=update,
        )
    if form == "table":
        print_sheet(row, verify.SHEET)
    else:
        print_rows([row], form)
