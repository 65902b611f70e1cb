"""The command `perfmodel explain`: what a flag, a column, a key of a scenario or a word means."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from hwdb import UnknownName
from search.commands.shared.option_groups import grouped
from search.commands.shared.options import FormOptions

if TYPE_CHECKING:
    from perfmodel.glossary import Entry

EXAMPLES = """\
perfmodel explain "Sure %"
perfmodel explain ttft_ms_p99"""
#: Most entries that a word which begins several headings may stand for. Chosen: a short list.
MOST_ENTRIES = 16
#: Lets a flag of another command be given as it is written: `perfmodel explain --tp`.
SETTINGS = {"ignore_unknown_options": True}

Word = Annotated[
    list[str] | None,
    typer.Argument(metavar="WORD", help="A flag, column, heading, key or word (default: all, by kind)."),
]


@grouped
def explain_command(output: FormOptions, words: Word = None) -> None:
    """Explain a flag, column, heading, scenario key or word.

    Dashes, underscores and case do not matter. Suffixes such as _p99 and _lo are understood.
    """
    from perfmodel import glossary
    from search.output import print_rows, print_words

    form, word = output.form, " ".join(words or ())
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
    """Return the entries of a word, or else of the columns that have it as their heading or at its beginning.

    A degree with its number (`TP4`) and a shortened basis (`interp.`) stand for the whole word. Raises `UnknownName`
    with the nearest names where there are none.
    """
    from perfmodel import glossary
    from search.output import columns_of_heading, whole_word

    try:
        return glossary.explain(whole_word(word))
    except UnknownName:
        columns = columns_of_heading(word)
        if columns:
            return [entry for column in columns for entry in glossary.explain(column) if "column" in entry.places]
        begun = [e for e in glossary.entries() if _plain(e.name).startswith(f"{_plain(word)} ")]
        begun += [e for c in columns_of_heading(word, begun=True) for e in glossary.explain(c) if "column" in e.places]
        entries = list({e.name: e for e in begun}.values())
        if not 0 < len(entries) <= MOST_ENTRIES:
            raise
        return entries


def _plain(text: str) -> str:
    """Return a name as words in lower case."""
    return " ".join(text.lower().replace("_", " ").replace("-", " ").split())


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
        "other_names": ", ".join(entry.others),
    }
