"""Arguments and options that several commands of the command line take, declared once."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

AsJson = Annotated[bool, typer.Option("--json", help="Print a JSON array of flat objects, one a row.")]
AsCsv = Annotated[bool, typer.Option("--csv", help="Print CSV.")]
Folders = Annotated[
    list[Path] | None,
    typer.Option("--hwdb", metavar="DIR", help="Folder of your own device, node and price files; repeatable."),
]
Scenario = Annotated[Path, typer.Argument(metavar="SCENARIO.toml", help="What to serve, on what, within which SLOs.")]
Name = Annotated[str, typer.Argument(metavar="NAME", help="A device, as `hw list` names it.")]
Model = Annotated[str, typer.Argument(metavar="MODEL", help="Hugging Face name, or path to a config.json.")]
