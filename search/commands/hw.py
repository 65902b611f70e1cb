"""The commands `perfmodel hw ...`: devices, nodes and their numbers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

import typer

from hwdb import Device, Hwdb, SeveralDevices
from search.commands.shared.option_groups import grouped
from search.commands.shared.options import DataOutputOptions, DeviceName

LIST_EXAMPLES = """\
perfmodel hw list --kind gpu --vendor amd
perfmodel hw list --nodes --csv"""
SHOW_EXAMPLES = """\
perfmodel hw show h100-sxm
perfmodel hw show my-card --hwdb my-hardware/"""
COMPARE_EXAMPLES = """\
perfmodel hw compare h100-sxm h200-sxm mi300x
perfmodel hw compare h100-sxm h200-sxm --json"""

DeviceNames = Annotated[list[str], typer.Argument(metavar="NAME…", help="Devices to compare, as `hw list` names them.")]


@dataclass(frozen=True)
class FilterOptions:
    """Which devices are listed."""

    section: ClassVar[str] = "Selection"

    kind: Annotated[
        str, typer.Option(metavar="KIND", help="Only devices of this kind: gpu, cpu, tpu, npu, … (default: all).")
    ] = ""
    vendor: Annotated[str, typer.Option(metavar="NAME", help="Only devices of this vendor (default: all).")] = ""
    nodes: Annotated[bool, typer.Option("--nodes", help="List nodes (servers) instead of devices.")] = False
    grids: Annotated[bool, typer.Option("--grids", help="List electricity grids with their carbon intensity.")] = False


@grouped
def list_command(selection: FilterOptions, output: DataOutputOptions) -> None:
    """List devices, nodes or electricity grids with their main figures."""
    from hwdb import counted, grids
    from search import output as out

    form, database, wide = output.form, output.database(), output.wide
    if selection.grids:
        known = [
            {"name": g.name, "title": g.title, "gco2_per_kwh": g.gco2_per_kwh, "year": g.year, "source": g.source}
            for g in grids().values()
        ]
        out.print_rows(known, form, out.Layout(title=counted(len(known), "grid"), footnotes=("source",), wide=wide))
        return
    if selection.nodes:
        rows = [out.node_row(n) for n in database.nodes()]
        out.print_rows(rows, form, out.Layout(title=counted(len(rows), "node"), drop=out.NODES_DROP, wide=wide))
        return
    found = out.matching_rows(out.device_rows(database), kind=selection.kind, vendor=selection.vendor)
    layout = out.Layout(
        title=counted(len(found), "device"),
        columns=out.DEVICE_COLUMNS,
        drop=out.DEVICES_DROP,
        notes=[out.DEVICE_NOTE],
        wide=wide,
    )
    out.print_rows(found, form, layout)


def _one(database: Hwdb, name: str) -> Device:
    """Return the device that a name means, also where it says how many there are ("8xH100")."""
    try:
        return database.device(name)
    except SeveralDevices as several:
        return database.device(several.device)


@grouped
def show_command(name: DeviceName, output: DataOutputOptions) -> None:
    """Show every figure of a device: value, unit, kind and source.

    Ridge points (FLOP per byte) and prices are listed too.
    """
    from perfmodel.costs import remarks
    from search.output import Layout, figure_rows, print_rows

    form, database = output.form, output.database()
    device = _one(database, name)
    title = f"{device.title} ({device.vendor} {device.arch}, {device.kind})"
    notes = [*device.notes, *remarks(device)]
    layout = Layout(title=title, notes=notes, footnotes=("source", "note"), right=["value"], wide=output.wide)
    print_rows(figure_rows(device, database.prices(device.name)), form, layout)


@grouped
def compare_command(names: DeviceNames, output: DataOutputOptions) -> None:
    """Compare devices side by side, ridge points included."""
    from search.output import DEVICE_NOTE, Layout, comparison_rows, device_row, print_rows

    form, database = output.form, output.database()
    devices = [_one(database, name) for name in names]
    found = [device_row(device, database.prices(device.name)) for device in devices]
    shown = [row["name"] for row in found]
    layout = Layout(headings={n: n for n in shown}, right=shown, notes=[DEVICE_NOTE], blocks=True, wide=output.wide)
    print_rows(comparison_rows(found) if form == "table" else found, form, layout)
