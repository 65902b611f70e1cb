"""The command `perfmodel explain`: what a flag, a column, a key of a scenario or a word means."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from hwdb import UnknownName
from search.commands.option_groups import grouped
from search.commands.options import FormOptions

if TYPE_CHECKING:
    from perfmodel.glossary import Entry

EXAMPLES = """\
perfmodel explain ttft_ms_p99
perfmodel explain "Sure %"""
#: Lets a flag of another command be given as it is written: `perfmodel explain --tp`.
SETTINGS = {"ignore_unknown_options": True}

Word = Annotated[
    str, typer.Argument(metavar="WORD", help="A flag, column, heading, key or word (default: all, by kind).")
]


@grouped
def explain_command(output: FormOptions, word: Word = "") -> None:
    """Explain a flag, column, heading, scenario key or word.

    Dashes, underscores and case do not matter. Suffixes such as _p99 and _lo are understood.
    """
    from perfmodel import glossary
    from search.output import print_rows, print_words

    form = output.form
    found = entries_of(word) if word else glossary.entries()
    rows = [_row(entry) for entry in found]
    if form != "table":
        print_rows(rows, form)
    elif word:
        print_words(rows, detailed=True)
    else:
        for kind, about in glossary.kinds().items():
            print_words([r for r in rows if r["kind"] == kind], title=f"{kind.capitalize()}: {about}")


def entries_of(word: str) -> Sequence[Entry]:
    """Return the entries of a word, or else of the columns that have it as their heading.

    Raises `UnknownName` with the nearest names where there are none.
    """
    from perfmodel import glossary
    from search.output import columns_of_heading

    try:
        return glossary.explain(word)
    except UnknownName:
        columns = columns_of_heading(word)
        if not columns:
            raise
        return [entry for column in columns for entry in glossary.explain(column) if "column" in entry.places]


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
