"""Turn a table of requests into a trace: cells checked one by one, times as numbers or dates."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from hwdb import InputError
from perfmodel.arrays import NAN, Array
from perfmodel.workload.traces.columns import Roles
from perfmodel.workload.traces.content import SHOWN
from perfmodel.workload.traces.parsed import Clock, Parsed, stem, whole_tokens
from perfmodel.workload.traces.trace import Trace, Whole

if TYPE_CHECKING:
    import pandas as pd

NANOSECONDS_PER_SECOND = 1e9


@dataclass(frozen=True)
class Table:
    """Rows of requests. cells: by column, (R,) text or values of JSON. lines: (R,) their numbers in the file.

    path: what messages call the file. word: what they call the number of a row, "line" or "entry".
    """

    cells: Mapping[str, Sequence[Any] | pd.Series[Any]]
    lines: Whole
    path: str
    word: str = "line"

    def __len__(self) -> int:
        return len(self.lines)

    def place(self, row: int) -> str:
        """Return where a row stands, as messages begin."""
        return f"{self.path}, {self.word} {self.lines[row]}"

    def numbers(self, column: str) -> Array:
        """Return a column as finite numbers, (R,); raise `InputError` naming the first cell that is none."""
        import pandas as pd

        cells = self.series(column)
        values = pd.to_numeric(cells, errors="coerce").to_numpy(dtype=float)
        if cells.dtype == object:
            values = np.where([isinstance(v, bool) for v in cells], NAN, values)
        bad = np.flatnonzero(~np.isfinite(values))
        if len(bad):
            written = "" if cells.iloc[bad[0]] is None else str(cells.iloc[bad[0]])
            what = "is empty" if not written.strip() else f"{written[:SHOWN]!r} is not a finite number"
            raise InputError(f"{self.place(int(bad[0]))}: {column} {what}; give a number or drop the line")
        return values

    def series(self, column: str) -> pd.Series[Any]:
        """Return the cells of a column."""
        import pandas as pd

        cells = self.cells[column]
        if isinstance(cells, pd.Series):
            return cells
        return pd.Series([v if isinstance(v, str | int | float) else repr(v) for v in cells], dtype=object)

    def whole(self, column: str) -> Whole:
        """Return a column of tokens as whole numbers, (R,)."""
        return whole_tokens(self.numbers(column), column, self.path, self.lines, self.word)


def parsed_of(table: Table, roles: Roles, *, kind: str = "", unit: str = "") -> Parsed:
    """Return the trace in a table. kind: name of its format. unit: of times in that format, "" where it has none."""
    if not len(table):
        raise InputError(f"{table.path}: the trace has a header and no request; give at least one line of data")
    prompt, output = table.whole(roles.input), table.whole(roles.output)
    if roles.total:
        _check_total(table, roles, prompt + output)
    arrival, clock = _times(table, roles, kind, unit)
    made = Trace(arrival=arrival, input=prompt, output=output, name=stem(table.path), source=table.path)
    ids = (roles.ids, table.series(roles.ids).to_numpy(dtype=object)) if roles.ids else None
    return Parsed(trace=made, lines=table.lines, word=table.word, clock=clock, ids=ids)


def _check_total(table: Table, roles: Roles, total: Whole) -> None:
    """Raise `InputError` where the column of input and output tokens together is not their sum."""
    stated = table.numbers(roles.total)
    wrong = np.flatnonzero(stated != total)
    if len(wrong):
        row = int(wrong[0])
        text = f"{roles.total} {stated[row]:g} is not the sum of {roles.input} and {roles.output}, {total[row]}"
        others = f" ({len(wrong)} of {len(total)} such)"
        raise InputError(f"{table.place(row)}: {text}{others}; correct the line, or remove the column {roles.total}")


def _times(table: Table, roles: Roles, kind: str, unit: str) -> tuple[Array, Clock]:
    """Return (arrivals, how they are written): as in the file, dates as seconds after the earliest, NaN without."""
    import pandas as pd

    if not roles.arrival:
        return np.full(len(table), NAN), Clock()
    first = table.series(roles.arrival).iloc[0]
    number = pd.to_numeric(pd.Series([first]), errors="coerce").notna().iloc[0] or isinstance(first, bool)
    if roles.unit or number or first is None:
        clock = Clock(roles.arrival, roles.unit or unit, stated=bool(roles.unit), kind=kind)
        return table.numbers(roles.arrival), clock
    return _dates(table, roles.arrival), Clock(roles.arrival)


def _dates(table: Table, column: str) -> Array:
    """Return dates as seconds after the earliest one, (R,)."""
    import pandas as pd

    cells = table.series(column)
    times = pd.to_datetime(cells, format="ISO8601", errors="coerce", utc=True)
    bad = np.flatnonzero(times.isna().to_numpy())
    if len(bad):
        wrong = f"{column} {str(cells.iloc[bad[0]])[:SHOWN]!r} is not a date and time"
        raise InputError(f"{table.place(int(bad[0]))}: {wrong}; write it as 2023-11-16 18:15:46.6805900")
    stamps = times.to_numpy(dtype="datetime64[ns]")
    seconds: Array = (stamps - stamps.min()).astype(np.int64) / NANOSECONDS_PER_SECOND
    return seconds
