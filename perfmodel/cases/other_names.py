"""Tell the columns of a table that mean an input and bear another name."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches

from perfmodel.cases.column_spelling import read_columns
from perfmodel.cases.table import INPUT
from perfmodel.cases.write import OUTPUT
from perfmodel.glossary import elsewhere, plain
from perfmodel.vocabulary import FORMER_NAMES

#: Likeness of two names from which one is a slip of the other. Chosen: one letter of seven.
_ALIKE = 0.86


def column_remarks(names: Iterable[str]) -> tuple[str, ...]:
    """Return a remark for each column of a table that bears another name of an input, whether it is read or not.

    >>> column_remarks(["model", "GPU", "ngl"])
    ("column 'GPU' is read as device", "column 'ngl' is not read; its input is called host_weights")
    """
    given = [str(name).strip() for name in names]
    read = read_columns(given)
    return tuple(
        f"column {name!r} is read as {read[name]}"
        if name in read
        else f"column {name!r} is not read; its input is called {column}"
        for name, column in unread_columns(given).items()
    )


def unread_columns(names: Iterable[str]) -> dict[str, str]:
    """Return column of a table -> the input column that it seems to mean, where the table has not got that one.

    >>> unread_columns(["model", "device", "weights", "concurency", "note", "ttft_ms"])
    {'weights': 'weight_dtype', 'concurency': 'concurrency'}
    """
    own = {str(name).strip() for name in names}
    known = [column.name for column in INPUT]
    own |= {FORMER_NAMES.get(name, name) for name in own}
    meant = {o: e.name for o, entries in elsewhere().items() for e in entries if "case" in e.places}
    found = {}
    for name in (str(name).strip() for name in names):
        if name in known or name in OUTPUT or name in FORMER_NAMES:
            continue
        near = get_close_matches(plain(name), known, 1, _ALIKE)
        column = meant.get(plain(name)) or (near[0] if near else "")
        if column and column not in own:
            found[name] = column
    return found
