"""Write a fleet (a mix of hardware for several classes of requests) as a sentence and a table."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from search.output.row_printer import print_rows
from search.output.table_fit import Layout
from search.output.terminal import print_text
from search.output.value_format import money, number

if TYPE_CHECKING:
    from search.fleet import FleetPlan

#: Largest relative gap between a fleet's cost and the solver's bound at which the fleet counts as optimal
#: (chosen: below what any price is known to).
OPTIMAL_GAP = 1e-6

#: Columns that a narrow table keeps, and those that it leaves out, the least important first.
KEPT = ("period", "replicas", "usd_per_hour")
LESS_IMPORTANT = ("device", "nodes", "hours", "power_w", "devices", "utilisation_percent")


def fleet_rows(fleet: FleetPlan) -> list[dict[str, Any]]:
    """Return one row per option, request class and period in use; each row repeats the totals of the fleet."""
    totals = {"fleet_usd_per_hour": fleet.usd_per_hour, "fleet_power_w": fleet.power, "gap_percent": 100.0 * fleet.gap}
    return [{**row, **totals, "solver": fleet.solver} for row in fleet.rows()]


def fleet_headline(fleet: FleetPlan) -> str:
    """Return the fleet in one sentence: devices, cost, power, and how close to the least cost it is proven to be."""
    devices = ", ".join(f"{number(count)} x {name}" for name, count in fleet.devices.items())
    power = [f"{number(fleet.power / 1e3)} kW"] if fleet.power == fleet.power else []
    cost = [f"${money(fleet.usd_per_hour)} per hour"] if fleet.usd_per_hour == fleet.usd_per_hour else []
    proof = "proven least" if fleet.gap <= OPTIMAL_GAP else f"proven within {number(100.0 * fleet.gap)} % of the least"
    figures = ", ".join([*cost, *power])
    least = "number of devices" if fleet.problem.counts_devices else "cost"
    return f"Take {devices}{': ' if figures else ''}{figures}; {proof} {least}."


def print_fleet(fleet: FleetPlan, *, wide: bool = False) -> None:
    """Print a fleet: its headline, its rows, and what each binding limit costs.

    wide: every column, whatever the width of the terminal.
    """
    optimal = "proven optimal" if fleet.gap <= OPTIMAL_GAP else f"gap {number(100.0 * fleet.gap)} %"
    limits = [f"Without the limit on {b.name}: ${money(b.saving)} per hour less." for b in fleet.binding]
    remarks = [f"{text[:1].upper()}{text[1:]}." for text in fleet.problem.remarks]
    notes = [f"Solver: {fleet.solver}, {optimal}.", *limits, *remarks]
    print_text(fleet_headline(fleet), bold=True)
    print_text("")
    rows = [{k: v for k, v in row.items() if k != "remark"} for row in fleet.rows()]
    print_rows(rows, layout=Layout(label="option", keep=KEPT, drop=LESS_IMPORTANT, notes=notes, wide=wide))
