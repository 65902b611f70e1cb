"""The commands `perfmodel profile ...`: parse flags, call the API, show rows."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from hwdb import load
from search.commands.options import AsCsv, AsJson, Folders

profile = typer.Typer(help="Measured operator times: list, show, measure, fit, import.", no_args_is_help=True)


@profile.command("list")
def profile_list(as_json: AsJson = False, as_csv: AsCsv = False, hwdb: Folders = None) -> None:
    """List measured profiles: one row a device and family, with rows behind it and held-out error."""
    from perfmodel.profiler import list_rows
    from search.output import tables as present

    present.show(list_rows(hwdb or ()), present.form(as_json, as_csv), title="Measured profiles")


@profile.command("show")
def profile_show(
    device: Annotated[str, typer.Argument(metavar="DEVICE", help="A device that has a profile.")],
    plot: Annotated[Path | None, typer.Option(help="Write a roofline of the measured points here (HTML).")] = None,
    as_json: AsJson = False,
    as_csv: AsCsv = False,
    hwdb: Folders = None,
) -> None:
    """Show every table of a device: what it covers, its source, its held-out error."""
    from perfmodel.profiler import SHOWN, measured_points, show_rows
    from search.output import tables as present
    from search.report import roofline_plot

    found = show_rows(device, hwdb or ())
    if plot:
        roofline_plot.write(load(hwdb or ()).device(device), measured_points(device, hwdb or ()), plot)
    present.show(found, present.form(as_json, as_csv), title=f"Profile of {device}", columns=SHOWN)


@profile.command("run")
def profile_run(
    output: Annotated[Path, typer.Option("--output", "-o", help="Rows go here (CSV); an old file is continued.")],
    device: Annotated[str, typer.Option(help="Name the rows carry (default: made of the machine's own).")] = "",
    backend: Annotated[str, typer.Option(help="numpy, torch-cpu or torch-gpu (default: the best here).")] = "",
    grid: Annotated[str, typer.Option(help="Points to measure: small or full.")] = "small",
    budget_s: Annotated[float | None, typer.Option(help="Begin no further point after so many seconds.")] = None,
    gpu: Annotated[int, typer.Option(help="Which GPU.")] = 0,
    threads: Annotated[int, typer.Option(help="Threads of a processor (default: all).")] = 0,
    socket: Annotated[int | None, typer.Option(help="Stay on this socket of a processor.")] = None,
    collectives: Annotated[bool, typer.Option("--collectives", help="Also time collectives between all GPUs.")] = False,
    as_json: AsJson = False,
    as_csv: AsCsv = False,
) -> None:
    """Measure this machine's operators; stopped and started again, it goes on where it was."""
    from perfmodel import profiler
    from search.output import tables as present

    form = present.form(as_json, as_csv)
    with present.progress("profiling") as update:
        run = profiler.profile_machine(
            output,
            device=device,
            backend_name=backend,
            size=grid,
            budget=budget_s,
            index=gpu,
            threads=threads,
            socket=socket,
            between=collectives,
            progress=update,
        )
    present.show(run.rows(), form, title="Measured")


@profile.command("fit")
def profile_fit(
    rows: Annotated[Path, typer.Argument(metavar="ROWS.csv", help="Rows of `profile run` or `profile import`.")],
    device: Annotated[str, typer.Option(help="Name of the new device.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder to write, as --hwdb takes it.")],
    like: Annotated[str, typer.Option(help="Device of `hw list` that it is one of: keeps its rated figures.")] = "",
    memory_gb: Annotated[float | None, typer.Option(help="Its memory, where ROWS.csv has no machine card.")] = None,
    as_json: AsJson = False,
    as_csv: AsCsv = False,
) -> None:
    """Turn measured rows into a device and its profile: then `--hwdb DIR --device NAME` uses both."""
    from perfmodel import profiler
    from search.output import tables as present

    made = profiler.fit(rows, device=device, out=output, like=like, memory=profiler.gigabytes(memory_gb))
    notes = [*made.notes(), f"use it with: --hwdb {output} --device {device}"]
    present.show(made.rows(), present.form(as_json, as_csv), title=f"Profile of {device}", notes=notes)


@profile.command("import")
def profile_import(
    kind: Annotated[str, typer.Argument(metavar="FORMAT", help="csv, aiconfigurator, vidur, nccl-tests, llama-bench.")],
    source: Annotated[Path, typer.Argument(metavar="PATH", help="File or folder to read.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Checked rows go here (plain CSV).")],
    device: Annotated[str, typer.Option(help="What was measured, as `hw list` names it.")] = "",
    licence: Annotated[str, typer.Option(help="Licence of the data, where the file does not state it.")] = "",
    as_json: AsJson = False,
    as_csv: AsCsv = False,
    hwdb: Folders = None,
) -> None:
    """Read what another tool measured, check it, and write it as plain rows; counts what was set aside and why."""
    from perfmodel.profiles.importers import import_rows
    from search.output import tables as present

    found = import_rows(kind, source, output, device=device, licence=licence, look_up=load(hwdb or ()).device)
    present.show(found.report(), present.form(as_json, as_csv), title=f"Imported to {output}", notes=found.notes)
