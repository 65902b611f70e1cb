"""Look at the content of a trace file: a CSV table, JSON lines, or one JSON document, and the names of its columns."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from hwdb import InputError
from hwdb.csvfile import with_commas

#: Numbers of a JSON file are kept in 64 bits.
LARGEST = 2**63
#: Characters of a bad line or value that a message shows.
SHOWN = 40
#: Most names of columns that a message lists.
MOST_NAMES = 20
_BLANK = re.compile(r"\s*")


@dataclass(frozen=True)
class Content:
    """The text of a trace file. path: what messages call it. head: its first line that is not blank.

    kind: "table" (CSV), "lines" (one JSON value per line) or "document" (one JSON value). fields: names of the columns,
    of the keys of the document, or of those of its first record. document: the value of a document, else None.
    """

    text: str
    path: str
    head: str
    kind: str
    fields: tuple[str, ...] = ()
    document: Any = field(default=None, repr=False)

    @property
    def word(self) -> str:
        """Return what the number of a record counts, for messages: a line, or an entry of a document."""
        return "entry" if isinstance(self.document, list) else "line"

    def has(self, *names: str) -> bool:
        """Return whether every one of the names is among the fields."""
        return set(names) <= set(self.fields)

    def listed(self) -> str:
        """Return the names of the fields as a message lists them; their number is limited."""
        more = len(self.fields) - MOST_NAMES
        names = ", ".join(f[:SHOWN] for f in self.fields[:MOST_NAMES])
        return names + (f" and {more} more" if more > 0 else "") if names else "none"

    def records(self) -> Iterator[tuple[int, dict[str, Any]]]:
        """Yield (line or entry number, object) of each record; raise `InputError` for one that is not an object."""
        if self.kind == "document":
            listed = self.document if isinstance(self.document, list) else [self.document]
            yield from ((n, self._object(v, n, repr(v))) for n, v in enumerate(listed, 1))
            return
        for number, line in enumerate(io.StringIO(self.text), 1):
            if not line.strip():
                continue
            try:
                value = json.loads(line)
            except (ValueError, RecursionError):  # not JSON, or a number of more digits than Python converts
                text = "not JSON; write one object per line"
                raise InputError(f"{self.path}, line {number}: {text}") from None
            yield number, self._object(value, number, line.strip())

    def _object(self, value: Any, number: int, text: str) -> dict[str, Any]:
        """Return `value`; raise `InputError` where it is not an object. text: how it is written."""
        if not isinstance(value, dict):
            wrong = f"{text[:SHOWN]!r} is not an object; write one object per {self.word}"
            raise InputError(f"{self.path}, {self.word} {number}: {wrong}")
        return value


def content_of(text: str, path: str) -> Content:
    """Return the content of a file; raise `InputError` where it is empty. path: what messages call it."""
    head = next((line.strip() for line in io.StringIO(text) if line.strip()), "")
    if not head:
        raise InputError(f"{path}: the file is empty; give one with at least one request")
    if head[0] not in "{[":
        text = with_commas(text, path)
        head = next((line.strip() for line in io.StringIO(text) if line.strip()), "")
        fields = next(csv.reader([head], skipinitialspace=True), [])
        return Content(text, path, head, "table", tuple(f.strip() for f in fields))
    first = _parsed(head)
    single = not text.partition(head)[2].strip()
    document = first if single else None
    if first is None:
        document = _parsed(text)
        document = _one_after_another(text) if document is None else document
    kind = "lines" if document is None else "document"
    return Content(text, path, head, kind, _fields(first if document is None else document), document)


def _parsed(text: str) -> Any:
    """Return the JSON value of a text, None where it is none."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def _one_after_another(text: str) -> list[Any] | None:
    """Return the JSON values of a text that holds one behind the other (`cat a.json b.json`); None for others."""
    decoder, found, at, text = json.JSONDecoder(), [], 0, text.strip()
    try:
        while at < len(text):
            value, at = decoder.raw_decode(text, at)
            found.append(value)
            at += len(_BLANK.match(text, at).group())  # type: ignore[union-attr]  # which matches anywhere
    except (ValueError, RecursionError):
        return None
    return found


def _fields(value: Any) -> tuple[str, ...]:
    """Return the keys of an object, or of the first object of a list; () of other values."""
    if isinstance(value, list) and value:
        value = value[0]
    return tuple(value) if isinstance(value, dict) else ()


def number_of(value: Any, place: str, name: str) -> float:
    """Return a finite number of a JSON file; raise `InputError` where it is none. place, name: where, and of what."""
    good = isinstance(value, int | float) and not isinstance(value, bool) and -LARGEST < value < LARGEST
    if not good:
        wrong = f"{name} {repr(value)[:SHOWN]} is not a finite number"
        raise InputError(f"{place}: {wrong}; give a number of at most 64 bits")
    return float(value)
