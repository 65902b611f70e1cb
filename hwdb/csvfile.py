"""Check the shape of a CSV text before a reader turns it into columns: no field without a name, no name twice.

Tables that a spreadsheet wrote in a locale with decimal commas are turned into CSV with points (`with_commas`).
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Iterator

from hwdb.errors import InputError

#: Signs that stand between fields where a locale keeps the comma for decimals, or cells were pasted.
_SIGNS = (";", "\t")
#: The first line by which Excel tells, and is told, the sign between fields.
_ANNOUNCED = re.compile(r'"?sep=(.)"?', re.IGNORECASE)
#: A number with a decimal comma, perhaps with points between thousands; one that may also mean thousands in English.
_DECIMAL_COMMA = re.compile(r"[+-]?(\d{1,3}(\.\d{3})+|\d+),\d+([eE][+-]?\d+)?")
_ENGLISH_THOUSANDS = re.compile(r"[+-]?[1-9]\d{0,2},\d{3}")
#: A number whose points may stand between thousands or before decimals.
_POINTS = re.compile(r"[+-]?[1-9]\d{0,2}(\.\d{3})+")
#: Characters of a header that a message shows.
_SHOWN = 40


def with_commas(text: str, path: str) -> str:
    """Return a table as CSV: commas between fields and decimal points, where it had semicolons or tabs between fields.

    Lines keep their numbers. Other texts are returned unchanged.

    Raises:
        InputError: for a line that is no row of fields, and for a number that has two meanings ("1.024" beside "3,5").

    >>> with_commas("isl;request_rate_rps\\n1024;3,5\\n", "cases.csv")
    'isl,request_rate_rps\\n1024,3.5\\n'
    """
    head = next((line.strip() for line in io.StringIO(text) if line.strip()), "")
    said = _ANNOUNCED.fullmatch(head)
    if said:
        text = text.replace(head, "", 1)
        head = next((line for line in io.StringIO(text) if line.strip()), "")
    sign = said[1] if said else next((s for s in _SIGNS if s in head and "," not in head), ",")
    if sign == "," or head.lstrip()[:1] in ("{", "["):
        return text
    written = io.StringIO()
    writer = csv.writer(written, lineterminator="\n")
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=sign)
    try:
        rows = [(reader.line_num, row) for row in reader]
    except csv.Error as error:
        raise InputError(f"{path}: not a CSV table ({error}); give one line of fields per row") from None
    commas = any(_DECIMAL_COMMA.fullmatch(cell.strip()) for _, row in rows for cell in row)
    for number, row in rows:
        writer.writerow([_pointed(cell, f"{path}, line {number}", sign, commas=commas) for cell in row])
    return written.getvalue()


def _pointed(cell: str, place: str, sign: str, *, commas: bool) -> str:
    """Return a cell with a decimal point where it is a number with a comma; all else unchanged.

    sign: between fields. commas: whether the table writes decimals with commas.
    """
    bare = cell.strip()
    english = sign != ";" and _ENGLISH_THOUSANDS.fullmatch(bare)
    if english or (commas and _POINTS.fullmatch(bare)):
        digits = re.sub(r"[.,]", "", bare)
        raise InputError(f"{place}: {bare!r} may mean {digits} or a decimal; write {digits}, or more decimals")
    return bare.replace(".", "").replace(",", ".") if _DECIMAL_COMMA.fullmatch(bare) else cell


def check_separator(header: str, path: str) -> None:
    """Raise `InputError` where the fields of a header line are separated by bars.

    >>> check_separator("isl,osl", "cases.csv")
    """
    if "|" in header and "," not in header:
        text = f"the columns {header[:_SHOWN]!r} are separated by bars"
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
