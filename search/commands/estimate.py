"""The command `perfmodel estimate`."""

from __future__ import annotations

from search.commands.estimate_options import (
    DeploymentOptions,
    EngineOptions,
    EstimateOutput,
    HostOptions,
    LoraOptions,
    PoolOptions,
    SloOptions,
    WorkloadOptions,
)
from search.commands.option_groups import grouped

EXAMPLES = """\
perfmodel estimate meta-llama/Llama-3.1-70B --device h100-sxm --tp 4
perfmodel estimate meta-llama/Llama-3.1-8B --device l40s --request-rate-rps 2"""
MISSED_SLO = 1


@grouped
def estimate_command(
    deployment: DeploymentOptions,
    workload: WorkloadOptions,
    engine: EngineOptions,
    lora: LoraOptions,
    host: HostOptions,
    pools: PoolOptions,
    slo: SloOptions,
    output: EstimateOutput,
) -> int:
    """Estimate latency, throughput, memory, power, cost of a deployment.

    With an SLO, the exit code is 1 where the deployment does not fit, or is likelier to miss the SLO than to keep it.
    """
    from search.commands.colocated import colocated
    from search.commands.disaggregated import with_pools
    from search.commands.estimate_row import SHEET, estimate_row, keeps_slo, operator_rows
    from search.output import Layout, print_rows, print_sheet

    form, hwdb, bounds = output.form, output.database(), slo.slo()
    asked = colocated(deployment, workload.workload(), engine, host=host, lora=lora, hwdb=hwdb)
    asked = with_pools(asked, pools, hwdb)
    if output.explain:
        print_rows(operator_rows(asked), form, Layout(title="Where the time goes"))
        return 0
    row = estimate_row(asked, hwdb, bounds)
    if form == "table":
        print_sheet(row, SHEET)
    else:
        print_rows([row], form)
    return 0 if keeps_slo(row, bounds) else MISSED_SLO
