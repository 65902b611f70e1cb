"""The command `perfmodel estimate`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

import typer

from search.commands.shared.option_groups import grouped
from search.commands.shared.options import DataOutputOptions
from search.options import (
    DeploymentOptions,
    EngineOptions,
    ExpertOptions,
    HostOptions,
    LoraOptions,
    PoolOptions,
    SiteOptions,
    SloOptions,
    SpeculationOptions,
    WorkloadOptions,
)

EXAMPLES = """\
perfmodel estimate meta-llama/Llama-3.1-70B --device h100-sxm --tp 4
perfmodel estimate --from start.sh --device l40s --request-rate-rps 2"""
#: Exit code where the SLO is missed, or the deployment does not fit.
MISSED_SLO = 1


@dataclass(frozen=True)
class EstimateOutput(DataOutputOptions, SiteOptions):
    """The form of the output, what of the estimate is printed, and the prices and the site that it is for."""

    section: ClassVar[str] = DataOutputOptions.section

    explain: Annotated[bool, typer.Option("--explain", help="Print the time per operator instead of the estimate.")] = (
        False
    )


@dataclass(frozen=True)
class ServingOptions(EngineOptions, ExpertOptions, SpeculationOptions):
    """The serving engine, how it spreads experts, and who drafts tokens."""

    section: ClassVar[str] = EngineOptions.section


@grouped
def estimate_command(
    deployment: DeploymentOptions,
    workload: WorkloadOptions,
    engine: ServingOptions,
    lora: LoraOptions,
    host: HostOptions,
    pools: PoolOptions,
    slo: SloOptions,
    output: EstimateOutput,
) -> int:
    """Estimate latency, throughput, memory, power, cost of a deployment.

    The deployment is given by options, or read with --from from a launch command, script, compose file or manifest.
    With an SLO, the exit code is 1 where the deployment does not fit, or is less likely than --confidence to keep it.
    """
    from search import options
    from search.commands.shared import read_options
    from search.output import operator_layout, print_rows

    hwdb, bounds = output.database(), slo.bounds()
    reading = read_options.reading_of(deployment, engine.engine_version)
    if reading is not None:
        deployment, engine = read_options.deployment_of(reading), read_options.engine_of(reading, engine)
        pools = read_options.pools_of(reading, pools)
    deployment = deployment.complete()
    groups: dict[str, Any] = {"experts": engine, "drafting": engine, "host": host, "lora": lora}
    asked = options.with_pools(
        options.colocated(deployment, workload.workload(), engine, hwdb=hwdb, **groups), pools, hwdb
    )
    if output.explain:
        layout = operator_layout("Where the time goes", output.wide, options.EXPLAINED)
        print_rows(options.operator_rows(asked), output.form, layout)
        return 0
    row = options.estimate_row(asked, hwdb, bounds, output)
    if reading is not None:
        beside = read_options.plan_columns(reading, asked, slo, row["slo_chance"], output.folders)
        row |= {**read_options.read_columns(reading, row["kv_pool_tokens"]), **beside}
    _print(row, output)
    return 0 if options.keeps_slo(asked, bounds, slo.confidence) else MISSED_SLO


def _print(row: dict[str, Any], output: EstimateOutput) -> None:
    """Print the row of a deployment: as a sheet of its main figures, or whole as JSON or CSV."""
    from search.options import NO_HOST, NOTES, SHEET
    from search.output import print_rows, print_sheet

    if output.form != "table":
        print_rows([row], output.form)
        return
    hosted = row["host_power_kw"] == row["host_power_kw"]  # NaN: no host is counted
    print_sheet(row, SHEET, notes=NOTES if hosted else (NO_HOST, *NOTES), wide=output.wide)
