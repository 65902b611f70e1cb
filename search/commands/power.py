"""The command `perfmodel power`."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, ClassVar

import typer

from hwdb import InputError
from search.commands.shared.option_groups import grouped
from search.commands.shared.options import DataOutputOptions, Scenario
from search.commands.shared.searching import plan_of

EXAMPLES = """\
perfmodel power examples/row-power.toml --row-budget-kw 400
perfmodel power examples/row-power.toml --row-budget-kw 400 --caps 0.8"""

#: Columns that stay in a narrow terminal, and those that go first.
KEPT = ("measure", "servers", "more_servers_percent", "capping_risk", "ttft_ratio", "tpot_ratio")
DROPPED = ("row_budget_kw", "server_w_peak", "row_request_rate_rps", "ttft_ms", "tpot_ms", "row_power_kw_p99")
NOTES = (
    "A server is a node of the plan. More servers: compared with provisioning by nameplate. Capping risk: share of "
    "time in which the row would exceed its budget without capping.",
    "Power is that of servers at the meter of the row, cooling apart. Ratios: latency over that without a cap.",
)


@dataclass(frozen=True)
class RowOptions:
    """What a row may draw, and what is replayed on it."""

    section: ClassVar[str] = "Row"

    row_budget_kw: Annotated[
        float, typer.Option(metavar="KW", help="Power of the row, cooling apart; power_kw of the scenario without it.")
    ] = math.nan
    capping_risk: Annotated[
        float, typer.Option(metavar="SHARE", help="Share of the time in which the row may have to be capped.")
    ] = 0.01
    caps: Annotated[
        list[float] | None,
        typer.Option(metavar="SHARE", help="Power limit to try, as a share of that of the device; repeatable."),
    ] = None
    rank: Annotated[int, typer.Option(min=1, metavar="N", help="Rank of the candidate in the plan; 1 is best.")] = 1
    requests: Annotated[
        int, typer.Option(min=0, metavar="N", help="Requests to replay. 0: the whole trace, or some thousands.")
    ] = 0
    seed: Annotated[int, typer.Option(min=0, metavar="N", help="Seed of the random numbers.")] = 0
    nearest: Annotated[
        bool, typer.Option("--nearest", help="Where nothing qualifies, take the nearest miss and not fail.")
    ] = False


@grouped
def power_command(scenario: Scenario, row: RowOptions, output: DataOutputOptions) -> None:
    """Say how many servers of a plan fit a power budget, and what caps cost and gain.

    The load of the scenario is replayed on the candidate; the row holds many such servers, each with its share of the
    load. Where nothing qualifies, the exit code is 1.
    """
    from perfmodel.power import lowest_limit
    from perfmodel.unit_factors import WATTS_PER_KW
    from search.output import Layout, print_rows, print_text, progress_bar
    from search.planning import row_power, verify

    found = plan_of(scenario, output.folders)
    watts = row.row_budget_kw * WATTS_PER_KW
    if math.isnan(watts):
        watts = found.scenario.limits.power
        if not math.isfinite(watts):
            raise InputError("no budget is known; give --row-budget-kw, or power_kw in [limits]")
    settings = verify.Settings(count=row.requests, seed=row.seed, nearest=row.nearest)
    caps = tuple(row.caps) if row.caps else row_power.CAPS
    with progress_bar("replaying") as update:
        budget = row_power.Budget(watts, row.capping_risk)
        rows = row_power.row_power(found, row.rank, budget, settings, caps, progress=update)
    form = output.form
    print_rows(rows, form, Layout(title="Servers within the budget", keep=KEPT, drop=DROPPED, wide=output.wide))
    if form == "table":
        for note in NOTES:
            print_text(note)
        low = [f"{share:g}" for share in row.caps or () if share < lowest_limit()]
        if low:
            print_text(f"--caps {', '.join(low)}: limits lower than any measured; what they cost is extrapolated.")
