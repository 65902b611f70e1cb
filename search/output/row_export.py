"""Write rows as JSON and CSV, and text files.

JSON is an array of flat objects, one per row. CSV has a heading line. Unknown values (NaN) and infinities are null in
JSON and empty in CSV.
"""

from __future__ import annotations

import csv
import io
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from hwdb import InputError, outfile
from search.output.clean_text import cell, printable
from search.output.value_format import Row, json_value

if TYPE_CHECKING:
    import pandas as pd


def columns_of(rows: Sequence[Row]) -> list[str]:
    """Return every column that at least one row has, in order of first appearance."""
    return list(dict.fromkeys(c for row in rows for c in row))


def to_json(rows: Sequence[Row]) -> str:
    """Return the rows as a JSON array of flat objects."""
    return json.dumps([{c: json_value(v) for c, v in row.items()} for row in rows], indent=1, ensure_ascii=False)


def write_csv(rows: Sequence[Row], stream: TextIO) -> None:
    """Write the rows as CSV with a heading line."""
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, columns_of(rows), restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows({c: cell(json_value(v)) for c, v in row.items()} for row in rows)
    stream.write(shown_on(stream, text.getvalue()))


def shown_on(stream: TextIO, text: str) -> str:
    """Return a text for `stream`: a terminal gets no escape sequences, a file or a pipe gets the text as it is."""
    return printable(text) if stream.isatty() else text


def write_predictions(frame: pd.DataFrame, path: Path | None, *, as_json: bool) -> None:
    """Write a frame of predictions as CSV, or as JSON where `as_json`, to `path` or (None) to stdout.

    stderr says how many cases failed, and why the first of them did; with a path, also how many were predicted.

    Raises:
        InputError: after writing, where not one case could be predicted.
    """
    if as_json:
        text = to_json([{str(c): v for c, v in row.items()} for row in frame.to_dict(orient="records")]) + "\n"
    else:
        text = _table(frame)
    if path is None:
        sys.stdout.write(shown_on(sys.stdout, text))
    else:
        write_text(path, text)
    failed = (frame["error"] != "").to_numpy()
    count = int(failed.sum())
    first = f"case {int(failed.argmax()) + 1}: {frame['error'].iloc[int(failed.argmax())]}" if count else ""
    if count and count == len(frame):
        raise InputError(f"no case could be predicted, the column error says why; {first}")
    why = f"; the column error says why, first of {first}" if count else ""
    if path is not None or count:
        place = f"{path}: " if path is not None else ""
        print(f"{place}{len(frame) - count} of {len(frame)} cases predicted, {count} failed{why}", file=sys.stderr)


def _table(frame: pd.DataFrame) -> str:
    """Return a frame as CSV, as `DataFrame.to_csv` writes it, which takes nearly twice as long."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(frame.columns)
    writer.writerows(zip(*(_column(frame[name]) for name in frame.columns), strict=True))
    return text.getvalue()


def _column(column: pd.Series[Any]) -> list[Any]:
    """Return the values of a column as they are written: unknown ones empty, texts by `cell`."""
    if column.dtype.kind != "f":
        known = column.astype(object).where(column.notna(), "")
        return (known.map(cell) if any(cell(value) is not value for value in known.unique()) else known).tolist()
    values = column.tolist()
    for place in column.isna().to_numpy().nonzero()[0].tolist():
        values[place] = ""
    return values


def write_text(path: Path, text: str) -> None:
    """Write a text file in UTF-8, compressed where its name ends in `.gz`. Raises `InputError` if that fails."""
    outfile.write_text(path, text)
