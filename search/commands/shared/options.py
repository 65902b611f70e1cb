"""Arguments and options that several commands take, declared once."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar

import typer

from hwdb import Hwdb, InputError, load

if TYPE_CHECKING:
    from search.output import Form

Scenario = Annotated[
    Path, typer.Argument(metavar="SCENARIO.toml", help="What to serve, on which hardware, within which SLOs.")
]
DeviceName = Annotated[str, typer.Argument(metavar="NAME", help="A device, as `hw list` names it.")]


@dataclass(frozen=True)
class FormOptions:
    """The form of the output: for people, unless JSON or CSV is asked for."""

    section: ClassVar[str] = "Output"

    as_json: Annotated[bool, typer.Option("--json", help="Print a JSON array of flat objects, one per row.")] = False
    as_csv: Annotated[bool, typer.Option("--csv", help="Print CSV with a heading line.")] = False

    @property
    def form(self) -> Form:
        """Return the form asked for; raises `InputError` when two are."""
        if self.as_json and self.as_csv:
            raise InputError("--json and --csv exclude each other; give one of them")
        return "json" if self.as_json else "csv" if self.as_csv else "table"


@dataclass(frozen=True)
class OutputOptions(FormOptions):
    """The form of the output, and the width of its tables."""

    wide: Annotated[
        bool, typer.Option("--wide", help="Print all columns and 80 % ranges, however wide the table gets.")
    ] = False


@dataclass(frozen=True)
class HwdbOptions:
    """Folders with the user's own hardware data."""

    section: ClassVar[str] = "Hardware data"

    hwdb: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="DIR",
            help="Folder of your own device, node and price files; repeatable.",
            rich_help_panel="Hardware data",
        ),
    ] = None

    @property
    def folders(self) -> tuple[Path, ...]:
        """Folders with hardware files given on the command line, in order."""
        return tuple(self.hwdb or ())

    def database(self) -> Hwdb:
        """Return the built-in hardware data with that of the given folders on top; a later folder wins."""
        return load(self.folders)


@dataclass(frozen=True)
class DataFormOptions(HwdbOptions, FormOptions):
    """The form of an output that is no table, and the user's own hardware data."""

    section: ClassVar[str] = "Output"


@dataclass(frozen=True)
class DataOutputOptions(HwdbOptions, OutputOptions):
    """The form of the output, and the user's own hardware data."""

    section: ClassVar[str] = "Output"
