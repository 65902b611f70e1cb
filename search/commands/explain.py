"""The command `perfmodel explain`: what a flag, a column, a key of a scenario or a word means."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from search.commands.option_groups import grouped
from search.commands.options import OutputOptions

if TYPE_CHECKING:
    from perfmodel.glossary import Entry

EXAMPLES = """\
perfmodel explain ttft_ms_p99
perfmodel explain --max-num-seqs"""
#: Lets a flag of another command be given as it is written: `perfmodel explain --tp`.
SETTINGS = {"ignore_unknown_options": True}

Word = Annotated[
    str, typer.Argument(metavar="WORD", help="A flag, column, key or word; without one, all are listed by kind.")
]
#: Columns that the terminal shows of a list of all names.
LIST_COLUMNS = ("name", "unit", "meaning")


@grouped
def explain_command(output: OutputOptions, word: Word = "") -> None:
    """Explain a flag, a column, a key of a scenario or a word.

    Dashes, underscores and case do not matter. Suffixes such as _p99 and _lo are understood.
    """
    from perfmodel import glossary
    from search.output import Layout, print_rows

    form = output.form
    found = glossary.explain(word) if word else glossary.entries()
    if form != "table" or word:
        print_rows([_row(entry) for entry in found], form)
        return
    for kind, about in glossary.kinds().items():
        rows = [_row(entry) for entry in found if entry.kind == kind]
        print_rows(rows, form, Layout(title=f"{kind.capitalize()}: {about}", columns=LIST_COLUMNS))


def _row(entry: Entry) -> dict[str, str]:
    """Return a glossary entry as a row: column name -> text."""
    return {
        "name": entry.name,
        "kind": entry.kind,
        "unit": entry.unit,
        "meaning": entry.meaning,
        "appears_in": ", ".join(entry.places),
        "paper_name": entry.paper,
        "former_names": ", ".join(entry.former),
    }
