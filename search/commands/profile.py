"""The commands `perfmodel profile ...`: measured operator times."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar

import typer

from search.commands.shared.option_groups import grouped
from search.commands.shared.options import DataOutputOptions, OutputOptions

LIST_EXAMPLES = """\
perfmodel profile list
perfmodel profile list --json"""
SHOW_EXAMPLES = """\
perfmodel profile show h100-sxm
perfmodel profile show h100-sxm --plot roofline.html"""
RUN_EXAMPLES = """\
perfmodel profile run -o rows.csv
perfmodel profile run -o rows.csv --backend torch-gpu --grid full"""
FIT_EXAMPLES = """\
perfmodel profile fit rows.csv --device my-gpu -o my-hardware/
perfmodel profile fit rows.csv --device my-gpu --like h100-sxm -o my-hardware/"""
IMPORT_EXAMPLES = """\
perfmodel profile import nccl-tests all_reduce.txt -o rows.csv
perfmodel profile import csv times.csv -o rows.csv --device h100-sxm"""

#: Columns of a profile that a narrow terminal leaves out, the least important first.
LESS_IMPORTANT = (
    "licence",
    "software",
    "kernel",
    "octave_median_percent",
    "sites_median_percent",
    "sites",
    "formats",
    "frameworks",
    "points_p90_percent",
)

ProfiledDevice = Annotated[str, typer.Argument(metavar="DEVICE", help="A device that `profile list` names.")]
Plot = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE", help="Write a roofline plot of the measured points here (HTML).", rich_help_panel="Output"
    ),
]


@grouped
def list_command(output: DataOutputOptions) -> None:
    """List the measured profiles: one row per device and operator family.

    Each row says how many measurements there are, and the error on those held out of the fit.
    """
    from perfmodel.profiler import list_rows
    from search.output import Layout, print_rows

    print_rows(
        list_rows(output.folders), output.form, Layout(title="Measured profiles", drop=LESS_IMPORTANT, wide=output.wide)
    )


@grouped
def show_command(device: ProfiledDevice, output: DataOutputOptions, plot: Plot = None) -> None:
    """Show every table of a device's profile: range, source, held-out error."""
    from perfmodel.profiler import SHOWN, measured_points, show_rows
    from search.output import Layout, print_rows

    found = show_rows(device, output.folders)
    if plot:
        from search.report import write_roofline

        write_roofline(output.database().device(device), measured_points(device, output.folders), plot)
    layout = Layout(
        title=f"Profile of {device}",
        columns=SHOWN,
        keep=["framework", "rows"],
        drop=LESS_IMPORTANT,
        footnotes=["source"],
        wide=output.wide,
    )
    print_rows(found, output.form, layout)


@dataclass(frozen=True)
class MeasurementOptions:
    """What is measured, where, and for how long."""

    section: ClassVar[str] = "Measurement"

    output: Annotated[
        Path,
        typer.Option(
            "--output", "-o", metavar="FILE", help="Rows are written here (CSV); an existing file is continued."
        ),
    ]
    device: Annotated[
        str, typer.Option(metavar="NAME", help="Device name in the rows (default: from the machine's own).")
    ] = ""
    backend: Annotated[
        str, typer.Option(metavar="NAME", help="numpy, torch-cpu or torch-gpu (default: the fastest available).")
    ] = ""
    grid: Annotated[str, typer.Option(metavar="SIZE", help="Shapes to measure: small or full.")] = "small"
    budget_s: Annotated[
        float | None, typer.Option(metavar="SECONDS", help="Start no further shape after so long (default: no limit).")
    ] = None
    gpu: Annotated[int, typer.Option(metavar="N", help="Index of the GPU.")] = 0
    threads: Annotated[int, typer.Option(metavar="N", help="CPU threads; 0 is all of them.")] = 0
    socket: Annotated[int | None, typer.Option(metavar="N", help="Run on this CPU socket only (default: on all).")] = (
        None
    )
    collectives: Annotated[
        bool, typer.Option("--collectives", help="Also time collectives between all GPUs of the machine.")
    ] = False


@grouped
def run_command(measurement: MeasurementOptions, output: OutputOptions) -> None:
    """Measure the operators of this machine.

    An interrupted run continues where it stopped when it is started again with the same file.
    """
    from perfmodel.profiler import MachineChoice, profile_machine
    from search.output import Layout, print_rows, progress_bar

    form = output.form
    choice = MachineChoice(
        backend=measurement.backend,
        gpu=measurement.gpu,
        threads=measurement.threads,
        socket=measurement.socket,
        collectives=measurement.collectives,
    )
    with progress_bar("profiling") as update:
        run = profile_machine(
            measurement.output,
            device=measurement.device,
            choice=choice,
            size=measurement.grid,
            budget=measurement.budget_s,
            progress=update,
        )
    print_rows(run.rows(), form, Layout(title="Measured", wide=output.wide))


@dataclass(frozen=True)
class FitOptions:
    """The device that measured rows are turned into."""

    section: ClassVar[str] = "New device"

    device: Annotated[str, typer.Option(metavar="NAME", help="Name of the new device.")]
    output: Annotated[Path, typer.Option("--output", "-o", metavar="DIR", help="Folder to write, for use with --hwdb.")]
    like: Annotated[
        str, typer.Option(metavar="NAME", help="Device of `hw list` whose rated figures it takes over (default: none).")
    ] = ""
    memory_gb: Annotated[
        float | None, typer.Option(metavar="GB", help="Memory of the device, where the rows do not state it.")
    ] = None


MeasuredRows = Annotated[
    Path, typer.Argument(metavar="ROWS.csv", help="Rows written by `profile run` or `profile import`.")
]


@grouped
def fit_command(rows: MeasuredRows, made: FitOptions, output: OutputOptions) -> None:
    """Turn measured rows into a device and its profile.

    Other commands use them with `--hwdb DIR --device NAME`.
    """
    from perfmodel import profiler
    from search.output import Layout, print_rows

    form, memory = output.form, profiler.gigabytes(made.memory_gb)
    fitted = profiler.fit(rows, device=made.device, out=made.output, like=made.like, memory=memory)
    notes = [*fitted.notes(), f"use it with: --hwdb {made.output} --device {made.device}"]
    print_rows(fitted.rows(), form, Layout(title=f"Profile of {made.device}", notes=notes, wide=output.wide))


@dataclass(frozen=True)
class ImportOptions:
    """Where imported rows go, and what they lack."""

    section: ClassVar[str] = "Import"

    output: Annotated[Path, typer.Option("--output", "-o", metavar="FILE", help="Rows are written here (CSV).")]
    device: Annotated[
        str,
        typer.Option(metavar="NAME", help="Device that was measured, as `hw list` names it (default: from the file)."),
    ] = ""
    licence: Annotated[
        str, typer.Option(metavar="TEXT", help="Licence of the data, where the file does not state it.")
    ] = ""


Format = Annotated[str, typer.Argument(metavar="FORMAT", help="csv, aiconfigurator, vidur, nccl-tests or llama-bench.")]
Source = Annotated[Path, typer.Argument(metavar="PATH", help="File or folder to read.")]


@grouped
def import_command(kind: Format, source: Source, imported: ImportOptions, output: DataOutputOptions) -> None:
    """Import operator times that another tool measured.

    Rows are checked; the output counts those that were left out, with the reason.
    """
    from perfmodel.profiles.importers import import_rows
    from search.output import Layout, print_rows

    form, look_up = output.form, output.database().device
    found = import_rows(
        kind, source, imported.output, device=imported.device, licence=imported.licence, look_up=look_up
    )
    layout = Layout(title=f"Imported to {imported.output}", notes=found.notes, wide=output.wide)
    print_rows(found.report(), form, layout)
