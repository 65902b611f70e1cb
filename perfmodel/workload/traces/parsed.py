"""Define what every reader of a trace format returns, and helpers that all readers use."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from hwdb import InputError
from perfmodel.arrays import Array
from perfmodel.workload.traces.trace import Trace, Whole

#: Numbers from which a float no longer holds every whole number of 64 bits.
_BEYOND_WHOLE = 2**62


@dataclass(frozen=True)
class Parsed:
    """A trace as read from its file, before any check. lines: (R,) line number in the file of each request."""

    trace: Trace
    lines: Whole


@dataclass(frozen=True)
class Reader:
    """Describes one trace format and how to read it.

    name: what people call it. recognises: whether a file is of this format, from its first line that is not blank.
    read: parses a text; its second argument is what messages call the file.
    """

    name: str
    recognises: Callable[[str], bool]
    read: Callable[[io.TextIOBase, str], Parsed]


def whole_tokens(values: Array, field: str, path: str, lines: Whole) -> Whole:
    """Convert values (R,) to whole numbers of tokens; raise `InputError` at the first that is not whole.

    field, path, lines: what the message calls the column, the file and the line of each value.
    """
    bad = np.flatnonzero((values != np.floor(values)) | (np.abs(values) > _BEYOND_WHOLE))
    if len(bad):
        raise InputError(f"{path}, line {lines[bad[0]]}: {field} {values[bad[0]]:g} is not a whole number of tokens")
    return values.astype(np.int64)


def stem(path: str) -> str:
    """Return the name of a trace: its file's name without folder and endings."""
    return Path(path).name.removesuffix(".gz").rsplit(".", 1)[0]
