"""Define what every reader of a trace format takes and returns, and helpers that all readers use."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from hwdb import InputError
from perfmodel.arrays import Array
from perfmodel.workload.traces.content import Content
from perfmodel.workload.traces.trace import Trace, Whole

#: Numbers from which a float no longer holds every whole number of 64 bits.
_BEYOND_WHOLE = 2**62


@dataclass(frozen=True)
class Clock:
    """How the times of a trace are written. Times are `InputError`-checked against it in `units`.

    field: name of the column of times. unit: "s", "ms", "us" or "ns", "" where nothing states it. stated: True where
    the file itself states the unit (in the name of the column, or by dates); False where it follows from the format,
    so that the times may contradict it. kind: what messages call the format.
    """

    field: str = "arrival_s"
    unit: str = "s"
    stated: bool = True
    kind: str = "trace"


@dataclass(frozen=True)
class Parsed:
    """A trace as read from its file, before any check.

    trace: its arrivals are in the unit of `clock`. lines: (R,) line or entry number in the file of each request. word:
    what messages call such a number. clock: how times are written. failed: (R,) requests that the file marks as failed
    or cut short, None where it marks none. ids: (R,) what should differ from request to request, None without.
    odd_blocks: share of prompts whose number of hashed blocks may contradict their length. unordered: True where the
    format lists requests in another order than that of arrival. remarks: what was assumed, without a full stop.
    """

    trace: Trace
    lines: Whole
    word: str = "line"
    clock: Clock = field(default_factory=Clock)
    failed: NDArray[np.bool_] | None = None
    ids: tuple[str, NDArray[np.object_]] | None = None
    odd_blocks: float = 0.0
    unordered: bool = False
    remarks: tuple[str, ...] = ()

    def place(self, path: str, row: int) -> str:
        """Return where request number `row` stands, as messages begin. path: what messages call the file."""
        return f"{path}, {self.word} {self.lines[row]}"


@dataclass(frozen=True)
class Reader:
    """Describes one trace format and how to read it.

    name: what people call it. recognises: whether a file is of this format, by its content. read: parses it.
    """

    name: str
    recognises: Callable[[Content], bool]
    read: Callable[[Content], Parsed]


def whole_tokens(values: Array, field: str, path: str, lines: Whole, word: str = "line") -> Whole:
    """Convert values (R,) to whole numbers of tokens; raise `InputError` at the first that is not whole.

    field, path, lines, word: what the message calls the column, the file, the line of each value, and a line.
    """
    bad = np.flatnonzero((values != np.floor(values)) | (np.abs(values) > _BEYOND_WHOLE))
    if len(bad):
        wrong = f"{field} {values[bad[0]]:g} is not a whole number of tokens; correct it"
        raise InputError(f"{path}, {word} {lines[bad[0]]}: {wrong}")
    return values.astype(np.int64)


def stem(path: str) -> str:
    """Return the name of a trace: its file's name without folder and endings."""
    return Path(path).name.removesuffix(".gz").rsplit(".", 1)[0]


def with_article(kind: str) -> str:
    """Return the name of a format with its article.

    >>> with_article("AIPerf")
    'an AIPerf'
    """
    return f"{'an' if kind[:1].upper() in tuple('AEIOU') else 'a'} {kind}"
