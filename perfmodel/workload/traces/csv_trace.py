"""Read traces in CSV: one request per line, columns found by name in any order.

Understood are `arrival_s,input_tokens,output_tokens` and the other names in `columns`. Without a column of times the
trace has lengths only.
"""

from __future__ import annotations

import io

import numpy as np

from hwdb import InputError
from hwdb.csvfile import check_fields, check_separator
from perfmodel.workload.traces.columns import roles_of
from perfmodel.workload.traces.content import Content
from perfmodel.workload.traces.parsed import Parsed, Reader
from perfmodel.workload.traces.rows import Table, parsed_of


def read_csv_trace(content: Content) -> Parsed:
    """Read the trace in a CSV text."""
    return read_table(content)


def read_table(content: Content, *, kind: str = "CSV", unit: str = "") -> Parsed:
    """Read a CSV text. kind: name of its format. unit: of the times in that format, "" where it states none."""
    table, names = table_of(content)
    return parsed_of(table, roles_of(names, content.path), kind=kind, unit=unit)


def table_of(content: Content) -> tuple[Table, list[str]]:
    """Return (the lines of a CSV text that are not blank, the names of its columns)."""
    import pandas as pd

    check_separator(content.head, content.path)
    check_fields(content.text, content.path)
    above = next(n for n, line in enumerate(io.StringIO(content.text)) if line.strip())  # blank lines before the header
    text = io.StringIO(content.text)
    try:
        frame = pd.read_csv(
            text, dtype=str, skiprows=above, skip_blank_lines=False, skipinitialspace=True, na_filter=False
        )
    except pd.errors.ParserError as error:
        sentence = f"not a table: {str(error).strip()}; give each line as many fields as the header"
        raise InputError(f"{content.path}: {sentence}") from None
    frame.columns = [str(c).strip() for c in frame.columns]
    blank = (frame == "").all(axis=1).to_numpy()
    lines = np.arange(2, len(frame) + 2)[~blank] + above  # the header is line 1
    frame = frame[~blank]
    names = list(frame.columns)
    return Table({name: frame[name] for name in names}, lines.astype(np.int64), content.path), names


def _is_table(content: Content) -> bool:
    """True for every text that is not JSON: what is no table is refused with a reason."""
    return content.kind == "table"


READER = Reader(name="CSV", recognises=_is_table, read=read_csv_trace)
