"""Make texts of other people's files harmless: escape sequences on a terminal, formulas in a spreadsheet."""

from __future__ import annotations

import re

#: Escape sequences of terminals (ECMA-48): CSI (colours, cursor), OSC and other strings (titles, links), two-character
#: ones; then the other control characters but newline and tab, and marks that reorder text (Unicode bidi controls).
_SEQUENCES = re.compile(
    r"(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]"
    r"|(?:\x1b[\]PX^_]|[\x90\x98\x9d-\x9f])[^\x07\x1b\x9c\n]*(?:\x07|\x1b\\|\x9c)?"
    r"|\x1b[ -/]*[0-~]?"
    r"|[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]"
)
#: First characters with which a spreadsheet takes a text for a formula (OWASP, CSV injection).
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def printable(text: str) -> str:
    """Return a text without escape sequences and control characters; newlines and tabs stay.

    >>> printable("a \\x1b[31mred\\x1b[0m card")
    'a red card'
    """
    return text if text.isprintable() else _SEQUENCES.sub("", text)


def cell(value: object) -> object:
    """Return a value for CSV: a text that a spreadsheet would take for a formula gets an apostrophe before it.

    Numbers stay numbers, also those that are written as text.

    >>> cell("=1+1"), cell("-3.5"), cell(-3.5)
    ("'=1+1", '-3.5', -3.5)
    """
    if not isinstance(value, str) or not value.startswith(_FORMULA):
        return value
    try:
        float(value)
    except ValueError:
        lines = value.replace("\r\n", "\n").replace("\r", "\n")  # a lone carriage return would end the row
        return f"'{lines}"
    return value
