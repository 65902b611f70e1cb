"""Read traces in CSV: one request per line, columns found by name in any order.

Understood are `arrival_s,input_tokens,output_tokens`, the Azure LLM inference traces
(`TIMESTAMP,ContextTokens,GeneratedTokens`), and length tables of other simulators
(`num_prefill_tokens,num_decode_tokens`). Without an arrival column the trace has lengths only.
"""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import numpy as np

from hwdb import InputError, nearest
from hwdb.csvfile import check_fields
from perfmodel.arrays import Array
from perfmodel.workload.traces.parsed import Parsed, Reader, stem, whole_tokens
from perfmodel.workload.traces.trace import Trace, Whole

if TYPE_CHECKING:
    import pandas as pd

#: Field of `Trace` -> column names understood for it, the first one preferred. `TIMESTAMP` holds dates, `arrival_s`
#: seconds.
COLUMNS = {
    "arrival": ("arrival_s", "TIMESTAMP"),
    "input": ("input_tokens", "ContextTokens", "num_prefill_tokens"),
    "output": ("output_tokens", "GeneratedTokens", "num_decode_tokens"),
}
NANOSECONDS_PER_SECOND = 1e9


def read_csv_trace(text: io.TextIOBase, path: str) -> Parsed:
    """Read the trace in a CSV text; `path` is what messages call it."""
    check_fields(text.read(), path)
    text.seek(0)
    frame, lines = _table(text, path)
    column = {part: next((n for n in names if n in frame.columns), "") for part, names in COLUMNS.items()}
    for part in ("input", "output"):
        if not column[part]:
            raise InputError(_missing(path, part, list(frame.columns)))
    if not len(frame):
        raise InputError(f"{path}: the trace has a header and no request; give at least one line of data")
    tokens = {part: _numbers(frame, column[part], path, lines) for part in ("input", "output")}
    arrival = _arrivals(frame, column["arrival"], path, lines)
    whole = {part: whole_tokens(v, column[part], path, lines) for part, v in tokens.items()}
    made = Trace(arrival=arrival, input=whole["input"], output=whole["output"], name=stem(path), source=path)
    return Parsed(trace=made, lines=lines)


def _table(text: io.TextIOBase, path: str) -> tuple[pd.DataFrame, Whole]:
    """Read a CSV text as (lines that are not blank, cells as text; their line numbers in the file)."""
    import pandas as pd

    try:
        frame = pd.read_csv(text, dtype=str, skip_blank_lines=False, skipinitialspace=True, na_filter=False)
    except pd.errors.ParserError as error:
        raise InputError(
            f"{path}: not a table: {str(error).strip()}; give each line as many fields as the header"
        ) from None
    frame.columns = [str(c).strip() for c in frame.columns]
    blank = (frame == "").all(axis=1).to_numpy()
    lines = np.arange(2, len(frame) + 2)[~blank]  # the header is line 1
    return frame[~blank], lines.astype(np.int64)


def _missing(path: str, part: str, columns: list[str]) -> str:
    """Return the message for a table without a column of `part` tokens; it offers a column whose name is close."""
    near = nearest(COLUMNS[part][0], columns, 1)
    hint = f"; is {near[0]!r} meant?" if near else ""
    return (
        f"{path}, line 1: no column for {part} tokens among {', '.join(columns)}; "
        f"name it {' or '.join(COLUMNS[part])}{hint}"
    )


def _numbers(frame: pd.DataFrame, column: str, path: str, lines: Whole) -> Array:
    """Return a column as finite numbers, (R,); raise `InputError` naming the line of the first cell that is none."""
    import pandas as pd

    values = pd.to_numeric(frame[column], errors="coerce").to_numpy(dtype=float)
    bad = np.flatnonzero(~np.isfinite(values))
    if len(bad):
        written = str(frame[column].iloc[bad[0]])
        what = "is empty" if not written.strip() else f"{written!r} is not a finite number"
        raise InputError(f"{path}, line {lines[bad[0]]}: {column} {what}; give a number or drop the line")
    return values


def _arrivals(frame: pd.DataFrame, column: str, path: str, lines: Whole) -> Array:
    """Return arrival times in seconds, (R,).

    NaN if the table has no arrival column (`column` is ""). Dates are converted to seconds after the earliest one.
    """
    import pandas as pd

    if not column:
        return np.full(len(frame), np.nan)
    if column != "TIMESTAMP":
        return _numbers(frame, column, path, lines)
    times = pd.to_datetime(frame[column], format="ISO8601", errors="coerce", utc=True)
    bad = np.flatnonzero(times.isna().to_numpy())
    if len(bad):
        written = str(frame[column].iloc[bad[0]])
        raise InputError(
            f"{path}, line {lines[bad[0]]}: TIMESTAMP {written!r} is not a date and time; "
            "write it as 2023-11-16 18:15:46.6805900"
        )
    stamps = times.to_numpy(dtype="datetime64[ns]")
    seconds: Array = (stamps - stamps.min()).astype(np.int64) / NANOSECONDS_PER_SECOND
    return seconds


def _any_text(_first_line: str) -> bool:
    """True for every file, because CSV has no mark of its own.

    What no other format recognises is read as a table, and refused with a reason if it is none.
    """
    return True


READER = Reader(name="CSV", recognises=_any_text, read=read_csv_trace)
