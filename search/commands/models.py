"""The commands `perfmodel models ...`: the model catalogue."""

from __future__ import annotations

from typing import Annotated

import typer

from search.commands.shared.option_groups import grouped
from search.commands.shared.options import OutputOptions
from search.options import ModelName

LIST_EXAMPLES = """\
perfmodel models list
perfmodel models list --like llama-3.1"""
SHOW_EXAMPLES = """\
perfmodel models show meta-llama/Llama-3.1-70B
perfmodel models show path/to/config.json --json"""

NamePart = Annotated[
    str,
    typer.Option(
        metavar="TEXT", help="Only models whose name contains this text (default: all).", rich_help_panel="Selection"
    ),
]


Text = Annotated[str, typer.Argument(metavar="TEXT", help="The same as --like.", show_default=False)]


@grouped
def list_command(output: OutputOptions, like: NamePart = "", text: Text = "") -> None:
    """List the models of the catalogue."""
    from hwdb import counted
    from perfmodel.models import model, names
    from search.output import MODEL_COLUMNS, MODELS_DROP, Layout, model_row, print_rows

    form = output.form
    parts = (like.lower(), text.lower())
    found = [model_row(model(name)) for name in names() if all(part in name.lower() for part in parts)]
    title = counted(len(found), "model")
    print_rows(found, form, Layout(title=title, columns=MODEL_COLUMNS, drop=MODELS_DROP, wide=output.wide))


@grouped
def show_command(name: ModelName, output: OutputOptions) -> None:
    """Show the dimensions of a model: layers, weights, KV-cache bytes per token."""
    from perfmodel import model
    from search.output import model_row, print_rows, print_sheet

    form = output.form
    spec = model(name)
    row = {**model_row(spec), **({"remark": spec.reading} if spec.reading else {})}
    if form == "table":
        print_sheet(row, {row["name"]: [column for column in row if column != "name"]})
    else:
        print_rows([row], form)
