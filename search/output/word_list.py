"""Print words with their meanings, as a list that is readable at any width."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import TextIO

from search.output.headings import heading
from search.output.terminal import page_on, print_lines
from search.output.wrapping import wrapped

INDENT = "  "
#: Widest name that has its meaning beside it, characters; the meaning of a longer one stands below.
NAME_WIDTH = 26
#: What is said of a single word below its meaning.
DETAILS = ("kind", "appears_in", "paper_name", "former_names", "other_names")


def print_words(
    rows: Sequence[Mapping[str, str]], *, title: str = "", detailed: bool = False, stream: TextIO | None = None
) -> None:
    """Print each word with its unit and its meaning. rows: with `name`, `unit`, `meaning` and `DETAILS`.

    detailed: also print where each word appears and what else it is called.
    """
    page = page_on(sys.stdout if stream is None else stream)
    if title:
        print_lines(page, wrapped(title, page.width), "bold")
    for row in rows:
        print_lines(page, _detailed(row, page.width) if detailed else _brief(row, page.width))
    print_lines(page, [] if detailed else [""])


def _brief(row: Mapping[str, str], width: int) -> list[str]:
    """Return the lines of a word in a list: its name, and beside it its meaning and unit."""
    meaning = row["meaning"] + (f" [{row['unit']}]" if row["unit"] else "")
    column = min(NAME_WIDTH, width // 3)
    indent = " " * (column + 2 * len(INDENT))
    lines = [f"{indent}{line}" for line in wrapped(meaning, max(width - len(indent), 1))]
    name = f"{INDENT}{row['name']}"
    if len(name) + len(INDENT) > len(indent):
        return [name, *lines]
    return [name + lines[0][len(name) :], *lines[1:]]


def _detailed(row: Mapping[str, str], width: int) -> list[str]:
    """Return the lines of a single word: its name and unit, its meaning, and its details."""
    unit = f" ({row['unit']})" if row["unit"] else ""
    details = ". ".join(f"{heading(key)}: {row[key]}" for key in DETAILS if row[key])
    texts = (f"{INDENT}{line}" for text in (row["meaning"], f"{details}.") for line in wrapped(text, width - 2))
    return [f"{row['name']}{unit}", *texts]
