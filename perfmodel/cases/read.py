"""Read a table of cases: cells become text and numbers, and every row that is wrong keeps the reason."""

from __future__ import annotations

import io
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from hwdb import InputError, infile
from hwdb.csvfile import check_fields, with_commas
from hwdb.tomlfile import Table
from perfmodel.arrays import Array, Mask
from perfmodel.cases.column_spelling import read_columns
from perfmodel.cases.table import EMPTY, NUMBER_COLUMNS, RECIPES, SHARE_COLUMNS, TEXT_COLUMNS, Column
from perfmodel.vocabulary import FORMER_NAMES
from perfmodel.workload import ARRIVALS

if TYPE_CHECKING:
    import pandas as pd

#: Column of text cells, (R,) of `str`; numpy calls such an array an array of objects.
Texts = NDArray[np.object_]
#: Longest prompt or output, in tokens, that is taken for real. Chosen: ten times the longest context of a released
#: model (10 million tokens), so that a wrong unit is caught and no model is.
LONGEST_LENGTH = 1e8
#: Largest number that is taken for real. Chosen: as in scenarios (`hwdb.tomlfile.Table.largest`).
LARGEST_NUMBER = Table.largest
#: Columns of a table that an error message lists at most. Chosen: fits one line of a terminal.
SHOWN_COLUMNS = 12


@dataclass(frozen=True)
class Cases:
    """R rows of cases.

    frame: the table as read, every cell text; it passes through to the output.
    text: text columns by name, (R,), "" where blank.
    number: number columns by name, (R,), NaN where blank.
    error: (R,) why each row cannot be answered, "" where nothing is wrong; `refuse` fills it in place, so that all
    stages add to the same list.
    path: where the table came from, for messages.
    """

    frame: pd.DataFrame
    text: Mapping[str, Texts]
    number: Mapping[str, Array]
    error: Texts
    path: str = ""

    def __len__(self) -> int:
        return len(self.error)

    def refuse(self, rows: Mask, reasons: str | Iterable[str]) -> None:
        """Record why `rows` (a mask, (R,)) cannot be answered; a reason that a row already has stays.

        reasons: one text for all rows, or one per row, which are made only where a row is refused.
        """
        if rows.any():
            texts = reasons if isinstance(reasons, str) else list(reasons)
            fresh = rows & (self.error == "")
            self.error[fresh] = np.broadcast_to(np.asarray(texts, dtype=object), rows.shape)[fresh]


def read_cases(path: str | Path) -> Cases:
    """Read a CSV file, plain or gzipped.

    A cell that is not valid refuses its row, not the table. Raises `InputError` when the file is no such table or lacks
    the column `model` or `device`.
    """
    import pandas as pd

    text = infile.read_table_text(path, "CSV table", "give a CSV (or .csv.gz) with a header line")
    if not text.strip():
        raise InputError(f"{path}: the file is empty; give a CSV (or .csv.gz) with a header line")
    text = with_commas(text, str(path))
    check_fields(text, str(path))
    try:
        frame = pd.read_csv(io.StringIO(text), dtype=str, keep_default_na=False, low_memory=False)
    except (pd.errors.ParserError, pd.errors.EmptyDataError) as problem:
        raise InputError(f"{path}: not a CSV table: {problem}") from problem
    return cases_of(frame, str(path))


def cases_of(frame: pd.DataFrame, path: str = "table") -> Cases:
    """Turn a frame whose cells are all text into cases; `path` is what messages call it. See `read_cases`."""
    frame = frame.rename(columns=lambda name: str(name).strip())  # "model, device" has a space before the second
    written = {new: old for old, new in read_columns(frame.columns).items()}
    _check_columns(frame, written, path)
    rows = len(frame)
    error = np.full(rows, "", dtype=object)
    written |= {new: old for old, new in FORMER_NAMES.items() if old in frame.columns and new not in frame.columns}
    text = {c.name: _texts(frame, written.get(c.name, c.name)) for c in TEXT_COLUMNS}
    number: dict[str, Array] = {}
    cases = Cases(frame=frame, text=text, number=number, error=error, path=path)
    for column in NUMBER_COLUMNS:
        number[column.name] = _numbers(cases, written.get(column.name, column.name), column)
    _check_choices(cases)
    _check_ranges(cases)
    return cases


def _check_columns(frame: pd.DataFrame, written: Mapping[str, str], path: str) -> None:
    """Raise `InputError` where the table lacks the model or the device, or has a column twice.

    written: input column -> the column of the table that has it under another name.
    """
    missing = [c for c in ("model", "device") if c not in frame.columns and c not in written]
    if missing:
        shown = ", ".join(map(str, frame.columns[:SHOWN_COLUMNS]))
        raise InputError(f"{path}: lacks the column {' and '.join(missing)}; it has {shown}")
    twice = frame.columns[frame.columns.duplicated()]
    if len(twice):
        raise InputError(f"{path}: the column {twice[0]!r} appears twice; remove or rename one")


def _check_choices(cases: Cases) -> None:
    """Refuse rows whose `mode` or `recipe` is none of the known values."""
    for column, known in (("mode", ARRIVALS), ("recipe", RECIPES)):
        given = cases.text[column]
        unknown = (given != "") & ~np.isin(given, known)
        cases.refuse(unknown, (f"{column} {g!r} is none of {', '.join(known)}" for g in given))


def _check_ranges(cases: Cases) -> None:
    """Refuse rows with shares above 1 or with lengths that no model serves."""
    for column in SHARE_COLUMNS:
        values = cases.number[column]
        cases.refuse(values > 1.0, (f"{column} {v:g} is a share; give it between 0 and 1" for v in values))
    used = cases.number["gpu_memory_utilization"]
    cases.refuse(used == 0.0, "gpu_memory_utilization 0 leaves no memory; give a share above 0")
    for column in ("isl", "osl"):
        values = cases.number[column]
        too_long = values > LONGEST_LENGTH
        cases.refuse(too_long, (f"{column} {v:g} is longer than any request; tokens are meant" for v in values))


def _texts(frame: pd.DataFrame, column: str) -> Texts:
    """Return a text column, as the table calls it, without surrounding blanks, (R,); "" where there is none."""
    if column not in frame.columns:
        return np.full(len(frame), "", dtype=object)
    stripped: NDArray[Any] = frame[column].str.strip().to_numpy(dtype=object)
    return stripped


def _numbers(cases: Cases, name: str, column: Column) -> Array:
    """Return the numbers of a column, (R,), NaN where blank. Refuses rows with bad cells.

    name: what the table calls the column, which may be a former name. column: its description.
    """
    import pandas as pd

    if name not in cases.frame.columns:
        return np.full(len(cases), np.nan)
    cells = cases.frame[name].str.strip()
    values = pd.to_numeric(cells, errors="coerce").to_numpy(dtype=float)
    given = ~cells.str.lower().isin(EMPTY).to_numpy()
    shown = cells.to_numpy(dtype=object)
    cases.refuse(given & np.isnan(values), (f"{name} {c!r} is no number" for c in shown))
    values = np.where(given, values, np.nan)
    wrong = values < column.least
    cases.refuse(wrong, (f"{name} {c} is out of range; give {column.least:g} or more" for c in shown))
    large = values > LARGEST_NUMBER
    cases.refuse(large, (f"{name} {c} is out of range; give at most {LARGEST_NUMBER:g}" for c in shown))
    values = np.where(large, np.nan, values)
    if column.whole:
        fraction = np.isfinite(values) & (values != np.floor(values))
        cases.refuse(fraction, (f"{name} {c} must be a whole number" for c in shown))
    return values
