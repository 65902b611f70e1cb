"""Check the shape of a CSV text before a reader turns it into columns: no field without a name, no name twice."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator

from hwdb.errors import InputError

#: Signs that stand between fields where a locale keeps the comma for decimals, or a table was pasted.
_SEPARATORS = {";": "semicolons", "\t": "tabs", "|": "bars"}
#: Characters of a header that a message shows.
_SHOWN = 40


def check_separator(header: str, path: str) -> None:
    """Raise `InputError` where the fields of a header line are separated by something other than commas.

    >>> check_separator("isl,osl", "cases.csv")
    """
    other = next((sign for sign in _SEPARATORS if sign in header and "," not in header), "")
    if other:
        text = f"the columns {header[:_SHOWN]!r} are separated by {_SEPARATORS[other]}"
        raise InputError(f"{path}: {text}; separate them by commas, and write decimals with a point")


def check_fields(text: str, path: str) -> None:
    """Raise `InputError` for a line with more fields than the header names, and for a name that stands there twice.

    path: what messages call the file. Readers would shift the columns of such a line, or take the first of two.
    """
    try:
        counts = _counts(text)
        _, header = next(counts, (0, []))
    except csv.Error as error:
        raise InputError(f"{path}: not a CSV table ({error}); give one line of fields per row") from None
    check_separator(",".join(header), path)
    names = [name.strip() for name in header]
    twice = next((name for name in names if name and names.count(name) > 1), None)
    if twice is not None:
        raise InputError(f"{path}, line 1: column {twice!r} appears twice; remove or rename one")
    try:
        longer = next(((n, found) for n, found in _field_counts(text) if found > len(names)), None)
    except csv.Error as error:
        raise InputError(f"{path}: not a CSV table ({error}); give one line of fields per row") from None
    if longer is not None:
        number, found = longer
        raise InputError(
            f"{path}, line {number}: not a table: {found} fields in line {number} where the header has {len(names)}; "
            "give each line as many fields as the header"
        )


def _counts(text: str) -> Iterator[tuple[int, list[str]]]:
    """Yield (number of its last line, fields) of each row that is not blank."""
    reader = csv.reader(io.StringIO(text, newline=""))
    return ((reader.line_num, row) for row in reader if row)


def _field_counts(text: str) -> Iterable[tuple[int, int]]:
    """Return (line number, number of fields) of each line; without quotes, commas are counted, which is faster."""
    if '"' not in text:
        return ((n, line.count(",") + 1) for n, line in enumerate(text.splitlines(), 1))
    return ((n, len(row)) for n, row in _counts(text))
