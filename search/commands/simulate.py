"""The command `perfmodel simulate`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar

import typer

from hwdb import outfile
from search.commands.shared.option_groups import grouped
from search.commands.shared.options import DataOutputOptions, Scenario
from search.commands.shared.searching import plan_of

if TYPE_CHECKING:
    from search.planning import verify

EXAMPLES = """\
perfmodel simulate examples/chat-70b-h100.toml --rank 2 --log requests.csv
perfmodel simulate examples/chat-70b-h100.toml --power-series watts.csv"""


#: Table by the hour: its title (of a trace, of stated rates), the columns that stay, and those that a narrow table
#: leaves out first.
HOURS_TITLE, STEADY_TITLE = "By the hour of arrival", "By the hour, each simulated as a load that goes on"
HOURS_KEPT = ("start_h", "request_rate_rps", "slo_attainment")
HOURS_DROPPED = ("usd_per_hour", "requests", "output_tok_s", "usd_per_million_tokens")


@dataclass(frozen=True)
class SimulationOptions:
    """Which candidate is simulated, and how."""

    section: ClassVar[str] = "Simulation"

    rank: Annotated[int, typer.Option(min=1, metavar="N", help="Rank of the candidate in the plan; 1 is best.")] = 1
    requests: Annotated[
        int,
        typer.Option(
            min=0,
            metavar="N",
            help="Requests to simulate; of a closed loop the least. 0: the whole trace, or what --precision needs.",
        ),
    ] = 0
    precision: Annotated[
        float,
        typer.Option(metavar="SHARE", help="Half width of the 95 % intervals to aim at, as a share of each figure."),
    ] = 0.05
    whole_run: Annotated[
        bool, typer.Option("--whole-run", help="Measure the whole run: leave out neither warm-up nor drain.")
    ] = False
    router: Annotated[
        str,
        typer.Option(metavar="NAME", help="How requests are routed to replicas; docs/simulator.md lists the names."),
    ] = "join_shortest_queue"
    seed: Annotated[int, typer.Option(min=0, metavar="N", help="Seed of the random numbers.")] = 0
    capacity: Annotated[
        bool, typer.Option("--capacity", help="Also find the highest request rate that keeps the SLOs.")
    ] = False
    by_hour: Annotated[
        bool,
        typer.Option("--by-hour", help="Also each hour of the day; with --json and --csv one row per hour instead."),
    ] = False
    nearest: Annotated[
        bool, typer.Option("--nearest", help="Where nothing qualifies, simulate the nearest miss and not fail.")
    ] = False

    def settings(self) -> verify.Settings:
        """Return the settings of the simulation."""
        from search.planning import verify

        return verify.Settings(
            count=self.requests,
            precision=self.precision,
            whole=self.whole_run,
            router=self.router,
            seed=self.seed,
            nearest=self.nearest,
        )


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
    power_series: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write watts over time here, a row per interval and replica.")
    ] = None
    interval_s: Annotated[
        float, typer.Option(metavar="S", help="Interval of --power-series in seconds; 0: some hundred intervals.")
    ] = 0.0


@grouped
def simulate_command(
    scenario: Scenario, simulation: SimulationOptions, logs: LogOptions, output: DataOutputOptions
) -> None:
    """Simulate a scenario's load on a candidate of its plan.

    Every request goes through a router, a queue and the engine's steps; nothing is averaged. An open load or a closed
    loop is run until its figures are known well enough, and measured in its steady state.
    Where nothing qualifies, the exit code is 1.
    """
    from perfmodel import simulator
    from search.output import Layout, print_rows, print_simulation, progress_bar
    from search.planning import hourly, verify

    form = output.form
    for file in (logs.log, logs.trace, logs.power_series):
        if file is not None:
            outfile.check(file, scenario)
    found = plan_of(scenario, output.folders)
    with progress_bar("simulating") as update:
        row, number, done = verify.simulated(
            found,
            simulation.rank,
            simulation.settings(),
            capacity_too=simulation.capacity,
            log=logs.log,
            trace=logs.trace,
            progress=update,
        )
    if logs.power_series is not None:
        simulator.write_power(done, logs.power_series, logs.interval_s)
    hours = hourly.hour_rows(found, number, done)
    title = HOURS_TITLE if hours else STEADY_TITLE
    if simulation.by_hour and not hours:
        hours = hourly.simulated_hours(found, number, simulation.settings())
    if form != "table":
        print_rows(hours if simulation.by_hour else [row], form)
        return
    print_simulation(row)
    if hours:
        print_rows(hours, layout=Layout(title=title, keep=HOURS_KEPT, drop=HOURS_DROPPED, wide=output.wide))
