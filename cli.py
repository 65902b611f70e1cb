"""The command `perfmodel`: parse flags, call the API, show rows. No arithmetic.

Exit codes: 0 done, 1 nothing meets the request, 2 bad input, 130 interrupted.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

import search
from hwdb import PerfmodelError, load
from search.commands import console
from search.commands.options import AsCsv, AsJson, Folders, Model, Name, Scenario
from search.commands.profile import profile

app = typer.Typer(
    name="perfmodel",
    help="Which hardware, how many, in which configuration, at what cost and power, meets your SLOs.",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    add_completion=False,
)
hw = typer.Typer(help="Devices, nodes and prices: list, show, compare.", no_args_is_help=True)
models = typer.Typer(help="The model catalogue: list, show.", no_args_is_help=True)
app.add_typer(hw, name="hw")
app.add_typer(models, name="models")
app.add_typer(profile, name="profile")


@app.command("plan")
def plan(
    scenario: Scenario,
    top: Annotated[int, typer.Option(min=1, help="How many candidates to list, from the best on.")] = 10,
    misses: Annotated[int, typer.Option(min=0, help="How many near misses to list, with their reasons.")] = 3,
    explain: Annotated[bool, typer.Option("--explain", help="Print the winner operator by operator.")] = False,
    verify: Annotated[bool, typer.Option("--verify", help="Replay the finalists by simulation, beside.")] = False,
    as_json: AsJson = False,
    as_csv: AsCsv = False,
    hwdb: Folders = None,
) -> None:
    """Rank every configuration of the hardware on offer that serves the scenario within its SLOs."""
    from search.output import tables as present
    from search.output import words as summary
    from search.planning import terms_of

    form = present.form(as_json, as_csv)
    with present.progress("searching") as update:
        found = search.plan(search.load_scenario(scenario, hwdb or ()), progress=update)
    rows = found.rows(top, misses) if found.best >= 0 else []
    if explain:
        return present.show(terms_of(found), form, title=f"Where the time goes: {rows[0]['candidate']}")
    if verify:
        from search.planning import verify as replayed

        with present.progress("replaying") as update:
            checked = replayed.verify(found, progress=update)
        if form != "table":
            return present.show(checked, form)
        summary.show(found, rows)
        return present.show(checked, columns=replayed.columns(found), title="Finalists, estimated and simulated")
    return summary.show(found, rows) if form == "table" else present.show(rows, form)


@app.command("simulate")
def simulate(
    scenario: Scenario,
    rank: Annotated[int, typer.Option(min=1, help="Which finalist of the plan, from the best on.")] = 1,
    requests: Annotated[int, typer.Option(min=0, help="Requests to replay (0: the whole trace, or enough).")] = 0,
    router: Annotated[
        str, typer.Option(help="How requests find a replica (docs/simulator.md).")
    ] = "join_shortest_queue",
    seed: Annotated[int, typer.Option(min=0, help="Seed of everything random.")] = 0,
    capacity: Annotated[bool, typer.Option("--capacity", help="Also find the highest rate within the SLOs.")] = False,
    log: Annotated[Path | None, typer.Option(help="Write a row a request here: .csv or .parquet.")] = None,
    trace: Annotated[Path | None, typer.Option(help="Write a trace for ui.perfetto.dev here (JSON).")] = None,
    as_json: AsJson = False,
    as_csv: AsCsv = False,
    hwdb: Folders = None,
) -> None:
    """Replay the scenario's load on a finalist of its plan, iteration by iteration."""
    from search.output import tables as present
    from search.planning import verify

    form = present.form(as_json, as_csv)
    with present.progress("searching") as update:
        found = search.plan(search.load_scenario(scenario, hwdb or ()), progress=update)
    with present.progress("replaying") as update:
        row = verify.simulated_row(
            found,
            rank,
            verify.Settings(count=requests, router=router, seed=seed),
            capacity_too=capacity,
            log=log,
            trace=trace,
            progress=update,
        )
    return present.sheet(row, verify.SHEET) if form == "table" else present.show([row], form)


@app.command("fleet")
def fleet(scenario: Scenario, as_json: AsJson = False, as_csv: AsCsv = False, hwdb: Folders = None) -> None:
    """Choose how many of which: the least-cost mix of hardware for the scenario's classes of requests, with proof."""
    from search.output import tables as present
    from search.output import words as summary

    form = present.form(as_json, as_csv)
    found = search.plan_fleet(search.load_scenario(scenario, hwdb or ()))
    return summary.show_fleet(found) if form == "table" else present.show(summary.fleet_rows(found), form)


@app.command("report")
def report(
    scenario: Scenario,
    output: Annotated[Path, typer.Option("--output", "-o", help="The page to write.")] = Path("report.html"),
    hwdb: Folders = None,
) -> None:
    """Write the answer to a scenario as one offline HTML page, what-ifs included."""
    from search.output import tables as present

    command = f"perfmodel report {scenario} -o {output}"
    with present.progress("searching") as update:
        found = search.plan(search.load_scenario(scenario, hwdb or ()), progress=update, command=command)
    with present.progress("what if") as update:
        present.write_text(output, search.render_report(found, update))
    print(f"{output}: {search.headline(found)}")


@app.command("estimate")
def estimate(
    model: Model,
    device: Annotated[str, typer.Option(help="Device, as `hw list` names it.")],
    tp: Annotated[int, typer.Option(help="Tensor parallelism.")] = 1,
    pp: Annotated[int, typer.Option(help="Pipeline parallelism.")] = 1,
    ep: Annotated[int, typer.Option(help="Devices that experts are spread over.")] = 1,
    dp_attention: Annotated[int, typer.Option(help="Attention data parallelism.")] = 1,
    cp: Annotated[int, typer.Option(help="Sequence parallelism of long prompts.")] = 1,
    replicas: Annotated[int, typer.Option(help="Equal replicas that share the load.")] = 1,
    isl: Annotated[float, typer.Option(help="Input tokens of a request (mean).")] = 1024,
    osl: Annotated[float, typer.Option(help="Output tokens of a request (mean).")] = 256,
    concurrency: Annotated[float | None, typer.Option(help="Requests in flight at all times.")] = None,
    request_rate_rps: Annotated[float | None, typer.Option(help="Requests per second that arrive at random.")] = None,
    batch: Annotated[float | None, typer.Option(help="Requests of one static batch.")] = None,
    n_requests: Annotated[float | None, typer.Option(help="Requests that all wait at the start.")] = None,
    prefix_hit: Annotated[float, typer.Option(help="Share of the prompt found in the prefix cache, 0 to 1.")] = 0.0,
    weights: Annotated[str, typer.Option(help="Weight format: bf16, fp8, int4, … (default: the model's).")] = "",
    activations: Annotated[str, typer.Option(help="Type of arithmetic: bf16, fp8, … (default: the weights').")] = "",
    kv: Annotated[str, typer.Option(help="Format of the KV cache (default: the model's).")] = "",
    max_num_batched_tokens: Annotated[float | None, typer.Option(help="Tokens a step (default: engine's).")] = None,
    max_num_seqs: Annotated[float | None, typer.Option(help="Sequences at once a replica (default: engine's).")] = None,
    engine: Annotated[str, typer.Option(help="Serving engine: vllm, sglang, trtllm, …, or a TOML file.")] = "vllm",
    engine_version: Annotated[str, typer.Option(help="Its version, which decides the era.")] = "",
    recipe: Annotated[
        bool, typer.Option("--recipe", help="What published tuned runs set, where no flag does.")
    ] = False,
    lora_rank: Annotated[int | None, typer.Option(help="Rank of the low-rank adapters that requests use.")] = None,
    lora_count: Annotated[int | None, typer.Option(help="Adapters they choose from (default: 1).")] = None,
    lora_resident: Annotated[int | None, typer.Option(help="Adapters in device memory (default: all).")] = None,
    lora_zipf: Annotated[float | None, typer.Option(help="Exponent of their popularity (default: 0, alike).")] = None,
    lora_targets: Annotated[str, typer.Option(help="Layers that carry them: q,k,v,o,gate,up,down (default).")] = "",
    host_weights: Annotated[float, typer.Option(help="Share of the layers' weights in host memory, 0 to 1.")] = 0.0,
    host_experts: Annotated[float, typer.Option(help="Share of the routed experts in host memory.")] = 0.0,
    host_kv: Annotated[float, typer.Option(help="Share of the KV cache in host memory.")] = 0.0,
    host_link_gbs: Annotated[float | None, typer.Option(help="Copies from host memory, GB/s a device.")] = None,
    host_memory_gb: Annotated[float | None, typer.Option(help="Host memory, GB a device.")] = None,
    host_cpu: Annotated[str, typer.Option(help="CPU of the host, as `hw list` names it.")] = "",
    host_sockets: Annotated[float, typer.Option(help="Sockets of it behind each device.")] = 1.0,
    host_compute: Annotated[bool, typer.Option("--host-compute", help="The CPU works on its part itself.")] = False,
    host_prefetch: Annotated[bool, typer.Option("--host-prefetch", help="Copies go on beside the device.")] = False,
    prefill_workers: Annotated[int | None, typer.Option(help="Disaggregated: workers that compute prompts.")] = None,
    decode_workers: Annotated[int | None, typer.Option(help="Disaggregated: workers that answer.")] = None,
    prefill_device: Annotated[str, typer.Option(help="Device of a prefill worker (default: --device).")] = "",
    prefill_tp: Annotated[int | None, typer.Option(help="Its tensor parallelism (default: --tp; so on).")] = None,
    prefill_pp: Annotated[int | None, typer.Option(help="Its pipeline parallelism.")] = None,
    prefill_ep: Annotated[int | None, typer.Option(help="Its devices that experts are spread over.")] = None,
    prefill_dp_attention: Annotated[int | None, typer.Option(help="Its attention data parallelism.")] = None,
    ttft_ms: Annotated[float | None, typer.Option(help="Bound on time to first token: prints the chance.")] = None,
    tpot_ms: Annotated[float | None, typer.Option(help="Bound on time per output token.")] = None,
    e2e_ms: Annotated[float | None, typer.Option(help="Bound on a whole request.")] = None,
    slo_at: Annotated[str, typer.Option(help="What the bounds hold for: mean, p50, p90, p95 or p99.")] = "mean",
    explain: Annotated[bool, typer.Option("--explain", help="Print operator by operator where time goes.")] = False,
    as_json: AsJson = False,
    as_csv: AsCsv = False,
    hwdb: Folders = None,
) -> int:
    """Latency, throughput, memory, power and cost of one deployment, or of a pair of pools.

    Bounds that are more likely missed than kept, or asked of what does not fit, end it with exit code 1.
    """
    from search.commands import estimate as single
    from search.commands import estimate_pools as pooled
    from search.output import tables as present

    form, database = present.form(as_json, as_csv), load(hwdb or ())
    slo = single.slo_of(ttft_ms, tpot_ms, e2e_ms, slo_at)
    workload = single.workload_of(
        isl,
        osl,
        concurrency=concurrency,
        request_rate_rps=request_rate_rps,
        batch=batch,
        n_requests=n_requests,
        prefix_hit=prefix_hit,
    )
    asked = single.single(
        model,
        device,
        workload,
        hwdb=database,
        engine_name=engine,
        engine_version=engine_version,
        published=recipe,
        weights=weights,
        activations=activations,
        kv=kv,
        tp=tp,
        pp=pp,
        ep=ep,
        dp=dp_attention,
        cp=cp,
        replicas=replicas,
        max_num_batched_tokens=max_num_batched_tokens,
        max_num_seqs=max_num_seqs,
        host_weights=host_weights,
        host_experts=host_experts,
        host_kv=host_kv,
        adapters=single.adapters_of(lora_rank, lora_count, lora_resident, lora_zipf, lora_targets),
        host=single.host_of(
            database,
            cpu=host_cpu,
            sockets=host_sockets,
            link_gbs=host_link_gbs,
            memory_gb=host_memory_gb,
            compute=host_compute,
            prefetch=host_prefetch,
        ),
    )
    asked = pooled.pooled(
        asked,
        database,
        prefill_workers=prefill_workers,
        decode_workers=decode_workers,
        device=prefill_device,
        tp=prefill_tp,
        pp=prefill_pp,
        ep=prefill_ep,
        dp=prefill_dp_attention,
    )
    if explain:
        present.show(single.terms_of(asked), form, title="Where the time goes")
        return 0
    row = single.row_of(asked, database, slo)
    present.sheet(row, single.SHEET) if form == "table" else present.show([row], form)
    return 0 if single.kept(row, slo) else 1


@app.command("predict")
def predict(
    cases: Annotated[Path, typer.Argument(metavar="CASES.csv", help="Cases, one a row; plain or gzipped CSV.")],
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Write here (CSV) in place of stdout.")] = None,
    as_json: AsJson = False,
    as_csv: AsCsv = False,
    hwdb: Folders = None,
) -> None:
    """Predict every case of a table; a bad row says why in its `error` and stops nothing."""
    import perfmodel
    from search.output import tables as present

    form = present.form(as_json, as_csv)
    with present.progress("predicting") as update:
        frame = perfmodel.predict(cases, hwdb=load(hwdb or ()), progress=update)
    present.deliver(frame, output, form if as_json else "csv")


@app.command("version")
def version() -> None:
    """Print the version."""
    from perfmodel import __version__

    print(__version__)


@hw.command("list")
def hw_list(
    kind: Annotated[str, typer.Option(help="Only devices of this kind: gpu, cpu, tpu, npu, …")] = "",
    vendor: Annotated[str, typer.Option(help="Only devices of this vendor.")] = "",
    nodes: Annotated[bool, typer.Option("--nodes", help="List nodes (servers) in place of devices.")] = False,
    as_json: AsJson = False,
    as_csv: AsCsv = False,
    hwdb: Folders = None,
) -> None:
    """List devices, or nodes."""
    from search.output import rows
    from search.output import tables as present

    form = present.form(as_json, as_csv)
    if nodes:
        return present.show([rows.node_row(n) for n in load(hwdb or ()).nodes()], form, title="Nodes")
    found = rows.select(rows.device_rows(load(hwdb or ())), kind=kind, vendor=vendor)
    return present.show(found, form, title=f"{len(found)} devices", columns=rows.LISTED, notes=[rows.DENSE])


@hw.command("show")
def hw_show(name: Name, as_json: AsJson = False, as_csv: AsCsv = False, hwdb: Folders = None) -> None:
    """Show every figure of a device with unit, kind and source, its ridge points and its prices."""
    from perfmodel.costs import remarks
    from search.output import rows
    from search.output import tables as present

    database = load(hwdb or ())
    device = database.device(name)
    found = rows.figure_rows(device, database.prices(name))
    title = f"{device.title} ({device.vendor} {device.arch}, {device.kind})"
    present.show(found, present.form(as_json, as_csv), title=title, notes=[*device.notes, *remarks(device)])


@hw.command("compare")
def hw_compare(
    names: Annotated[list[str], typer.Argument(metavar="NAME…", help="Devices to set side by side.")],
    as_json: AsJson = False,
    as_csv: AsCsv = False,
    hwdb: Folders = None,
) -> None:
    """Set devices side by side, ridge points included."""
    from search.output import rows
    from search.output import tables as present

    database = load(hwdb or ())
    found = [rows.device_row(database.device(name), database.prices(name)) for name in names]
    form = present.form(as_json, as_csv)
    present.show(rows.comparison_rows(found) if form == "table" else found, form, notes=[rows.DENSE])


@models.command("list")
def models_list(
    like: Annotated[str, typer.Option(help="Only models whose name contains this text.")] = "",
    as_json: AsJson = False,
    as_csv: AsCsv = False,
) -> None:
    """List the models of the catalogue."""
    from perfmodel.models import model, names
    from search.output import rows
    from search.output import tables as present

    found = [rows.model_row(model(name)) for name in names() if like.lower() in name.lower()]
    form = present.form(as_json, as_csv)
    present.show(found, form, title=f"{len(found)} models", columns=rows.MODELS_LISTED)


@models.command("show")
def models_show(name: Model, as_json: AsJson = False, as_csv: AsCsv = False) -> None:
    """Show the shape of a model: parameters, weights, cache a token."""
    from perfmodel import model
    from search.output import rows
    from search.output import tables as present

    row = rows.model_row(model(name))
    form = present.form(as_json, as_csv)
    present.show([row] if form != "table" else rows.upright(row), form, title=row["name"])


def main(arguments: list[str] | None = None) -> int:
    """Run the command line and return its exit code. Every error a user can cause ends here, as one sentence."""

    console.forgive_encodings()
    try:
        code = app(args=arguments, prog_name="perfmodel", standalone_mode=False)
        sys.stdout.flush()
        return code if isinstance(code, int) else 0
    except PerfmodelError as error:
        return _fail(str(error), error.exit_code)
    except typer.TyperException as error:
        return _fail(error.format_message(), error.exit_code)
    except (KeyboardInterrupt, typer.Abort):
        return _fail("interrupted", 130)
    except (BrokenPipeError, SystemExit):  # the reader is gone; typer turns that into an exit of its own
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.__stdout__.fileno() if sys.__stdout__ else 1)
        return 0
    except OSError as error:
        return _fail(f"{error.filename or 'file'}: {error.strerror or error}", 2)


def _fail(message: str, code: int) -> int:
    print(message if message.startswith("Usage:") else f"error: {message}", file=sys.stderr)
    return code


if __name__ == "__main__":
    sys.exit(main())
