"""The command `perfmodel plan`."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import typer

from hwdb import Infeasible
from search.commands.shared.option_groups import grouped
from search.commands.shared.options import DataOutputOptions
from search.commands.shared.searching import planned, planned_with_narrower
from search.options import AskedWorkloadOptions, OfferOptions, SloOptions

if TYPE_CHECKING:
    from search.output import Form
    from search.planning import Plan

EXAMPLES = """\
perfmodel plan Qwen/Qwen3-32B --request-rate-rps 12 --slo ttft_ms_p90=500
perfmodel plan examples/chat-70b-h100.toml --top 3 --verify"""
Asked = Annotated[
    str,
    typer.Argument(
        metavar="SCENARIO.toml|MODEL",
        help="A scenario file, or the name of a model: the options below then say what to serve, on what, within which "
        "SLOs.",
    ),
]


@dataclass(frozen=True)
class ResultOptions:
    """What of a plan is printed."""

    section: ClassVar[str] = "Result"

    top: Annotated[int, typer.Option(min=1, metavar="N", help="Qualifying candidates to list, best first.")] = 10
    misses: Annotated[
        int, typer.Option(min=0, metavar="N", help="Near misses to list below, each with the reason.")
    ] = 3
    objective: Annotated[
        str,
        typer.Option(
            metavar="WORD",
            help="Rank by this in place of rank_by: cost, token-cost, energy, carbon, power, throughput, latency, or a "
            "column (default with MODEL and no load: token-cost).",
        ),
    ] = ""
    explain: Annotated[
        bool, typer.Option("--explain", help="Also print the time of the best candidate per operator.")
    ] = False
    verify: Annotated[
        bool, typer.Option("--verify", help="Also simulate the best candidates; print both results side by side.")
    ] = False


@grouped
def plan_command(  # the help has a section per group
    scenario: Asked,
    workload: AskedWorkloadOptions,
    slo: SloOptions,
    offer: OfferOptions,
    result: ResultOptions,
    output: DataOutputOptions,
) -> int:
    """Rank the configurations that serve a scenario within its SLOs.

    Searches every legal configuration of the hardware on offer, at the number of devices that the load needs. Where
    none qualifies, the exit code is 1, and the message names the nearest one and what to relax. With a file, options
    take the place of what it says.
    """
    from search.commands.shared.asked_scenario import asked_scenario

    form = output.form
    own = {"objective": {"rank_by": result.objective}} if result.objective else {}
    asked = asked_scenario(scenario, workload, slo, offer, output.folders, own)
    if form == "table":
        found, narrower = planned_with_narrower(asked, lambda plan: plan.rows(result.top, result.misses, apart=True))
        return _print_tables(found, narrower, result, output.wide)
    return _print_data(planned(asked), result, form)


def _print_data(plan: Plan, result: ResultOptions, form: Form) -> int:
    """Print the rows of a plan as JSON or CSV; return the exit code.

    Where nothing qualifies, the rows are the near misses, with no rank and with what to relax as their `reason`.
    """
    from search.deploy import with_launches
    from search.output import print_rows
    from search.planning import terms_of

    if not plan.feasible:
        _say_infeasible(plan)
        print_rows(plan.misses(result.misses), form)
        return Infeasible.exit_code
    if result.explain:
        print_rows(terms_of(plan), form)
    elif result.verify:
        print_rows(_verified(plan), form)
    else:
        rows = with_launches(plan, plan.rows(result.top, result.misses))
        print_rows([*rows, *({"rank": None, **row} for row in plan.best_by_engine()[1:])], form)
    return 0


def _say_infeasible(plan: Plan) -> None:
    """Say on stderr why nothing qualifies, and with which confidence something would."""
    from search.output import error_lines, reachable_confidence

    text = " ".join(filter(None, [f"error: {plan.message}", reachable_confidence(plan)]))
    print(error_lines(text, sys.stderr), file=sys.stderr)


def _print_tables(plan: Plan, narrower: Plan | None, result: ResultOptions, wide: bool) -> int:
    """Print the plan and what else is asked for; return the exit code.

    narrower: the plan with fp8 weights, where they might be offered. Where nothing qualifies, stderr says so and has
    the near misses.
    """
    from search.output import Layout, print_misses, print_operators, print_plan, print_rows
    from search.planning import terms_of

    rows = plan.rows(result.top, apart=True)
    if not plan.feasible:
        _say_infeasible(plan)
        print_misses(plan, rows, result.misses, wide=wide, stream=sys.stderr)
        return Infeasible.exit_code
    checked = _verified(plan) if result.verify else []
    print_plan(plan, rows, listed=result.top, misses=result.misses, wide=wide, narrower=narrower)
    if result.explain:
        print_operators(plan, terms_of(plan), wide=wide)
    if checked:
        from search.planning import verify

        title = "The best candidates, estimated and simulated"
        layout = Layout(
            title=title, columns=verify.columns(plan), keep=["simulated_meets"], footnotes=["remark"], wide=wide
        )
        print_rows(checked, layout=layout)
    return 0


def _verified(plan: Plan) -> list[dict[str, Any]]:
    """Simulate the best candidates; return rows with estimates and simulated values side by side."""
    from search.output import progress_bar
    from search.planning import verify

    if plan.best >= 0:
        with progress_bar("simulating") as update:
            return verify.verify(plan, progress=update)
    return []
