"""The command `perfmodel cost`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

import typer

from hwdb import Infeasible, InputError
from search.commands.shared.option_groups import grouped
from search.commands.shared.options import DataOutputOptions, Scenario
from search.commands.shared.searching import plan_of
from search.options import MoneyOptions

EXAMPLES = """\
perfmodel cost examples/chat-70b-h100.toml --own-usd-per-device 30000
perfmodel cost examples/chat-70b-h100.toml --api-usd-per-million-output 1.5"""


@dataclass(frozen=True)
class CostOptions(MoneyOptions):
    """What is owned, how much of it is used, and what an API charges; each flag replaces a key of the scenario."""

    section: ClassVar[str] = MoneyOptions.section

    rank: Annotated[
        int, typer.Option(min=1, metavar="N", help="Candidate of the plan, by rank.", rich_help_panel="Result")
    ] = 1
    usd_per_kwh: Annotated[float | None, typer.Option(metavar="USD", help="Price of electricity.")] = None

    def changes(self) -> dict[str, dict[str, Any]]:
        """Return what the flags replace in a scenario: table -> key -> value."""
        site = {} if self.usd_per_kwh is None else {"usd_per_kwh": self.usd_per_kwh}
        return {name: table for name, table in (("money", self.given()), ("site", site)) if table}


@grouped
def cost_command(scenario: Scenario, money: CostOptions, output: DataOutputOptions) -> None:
    """Compare own, rent and API for a plan's best candidate, and where they break even.

    Every way serves the same requests. --utilisation says how much of the planned load there is on average; hardware is
    paid in all hours, an API per token.
    """
    from search.output import print_rows, print_ways
    from search.planning import ways_to_pay

    form = output.form
    found = plan_of(scenario, output.folders, changes=money.changes())
    if not found.feasible:
        raise Infeasible(found.message)
    ranked = found.order[: int(found.qualifies.sum())]
    if money.rank > len(ranked):
        raise InputError(f"--rank {money.rank}: {len(ranked)} candidates qualify; give one of their ranks")
    number = int(ranked[money.rank - 1])
    rows = ways_to_pay(found, number)
    if not rows:
        raise InputError(f"{scenario}: no price is known; give one with [hardware] usd_per_hour, or own or API prices")
    if form == "table":
        print_ways(found, number, rows, wide=output.wide)
        return
    print_rows([{"candidate": found.name(number), **row} for row in rows], form)
