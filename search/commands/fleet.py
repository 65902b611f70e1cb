"""The command `perfmodel fleet`."""

from __future__ import annotations

from search.commands.option_groups import grouped
from search.commands.options import DataOutputOptions, Scenario

EXAMPLES = """\
perfmodel fleet examples/fleet-mix.toml --json
perfmodel fleet examples/day.toml"""


@grouped
def fleet_command(scenario: Scenario, output: DataOutputOptions) -> None:
    """Find the least-cost mix of hardware for classes of requests, and what each hour needs.

    The load over the day comes from a trace, or from rate_by_hour in the scenario. Solves an integer program and
    proves how close to the least cost the fleet is.
    """
    from search.fleet import plan_fleet
    from search.output import fleet_rows, print_fleet, print_rows
    from search.scenario import load_scenario

    form = output.form
    found = plan_fleet(load_scenario(scenario, output.folders))
    if form == "table":
        print_fleet(found, wide=output.wide)
    else:
        print_rows(fleet_rows(found), form)
