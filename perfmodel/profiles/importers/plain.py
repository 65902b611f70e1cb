"""Reads and writes plain CSV: one measured operator per line, units in the column names (docs/profiling.md)."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TextIO

import numpy as np
from numpy.typing import NDArray

from hwdb import InputError, UnknownName, infile, outfile
from hwdb.csvfile import with_commas
from perfmodel.arrays import Array
from perfmodel.profiles.importers.rows import COLUMNS, NUMBERS, ON_DISK, TEXT, Rows, rows_of

#: Columns that a file must have; all others may be missing.
REQUIRED = ("family", "latency_us")
#: Column in the file -> (column in memory, factor to SI units).
FROM_DISK = {ON_DISK.get(name, (name, 1.0))[0]: (name, ON_DISK.get(name, (name, 1.0))[1]) for name in COLUMNS}


def open_text(path: Path) -> TextIO:
    """Open a file as text, decompressed where it is gzipped. Raises `InputError` if it cannot be read."""
    return io.StringIO(with_commas(infile.read_table_text(path, "CSV file"), str(path)), newline="")


def read_table(path: Path) -> tuple[list[str], list[list[str]]]:
    """Read header and lines of a CSV. Raises `InputError` for an empty file, a repeated column or a line of wrong
    length."""
    with open_text(path) as stream:
        try:
            lines = list(csv.reader(stream))
        except csv.Error as error:
            raise InputError(f"{path}: not a CSV file ({error})") from error
    if not lines or not lines[0]:
        raise InputError(f"{path}: empty; expected a header line with column names")
    header = [name.strip() for name in lines[0]]
    twice = sorted({name for name in header if header.count(name) > 1})
    if twice:
        raise InputError(f"{path}, line 1: column {twice[0]!r} appears twice")
    body = [line for line in lines[1:] if line]
    for number, line in enumerate(lines[1:], start=2):
        if line and len(line) != len(header):
            raise InputError(f"{path}, line {number}: {len(line)} fields where the header names {len(header)}")
    return header, body


def numbers(path: Path, column: str, values: Sequence[str]) -> Array:
    """Turn a text column into float64; empty becomes NaN. Raises `InputError` with the row of a field that is no
    number.

    path, column: name the place in the message. values: (R,) fields.
    """
    try:
        return np.array([float(v) if v.strip() else np.nan for v in values])
    except ValueError:
        for index, value in enumerate(values):
            try:
                float(value or "nan")
            except ValueError as error:
                raise InputError(f"{path}, row {index + 1}, {column}: {value!r} is not a number") from error
        raise


def read(path: Path, device: str = "", licence: str = "") -> Rows:
    """Read a plain CSV as canonical rows. `device` and `licence` are used where the file does not state them.

    Raises `InputError` for a missing or unknown column and for a field that is not a number.
    """
    header, body = read_table(path)
    for name in REQUIRED:
        if name not in header:
            raise InputError(f"{path}, line 1: no column {name!r}; a plain CSV needs {', '.join(REQUIRED)}")
    for name in header:
        if name not in FROM_DISK:
            raise UnknownName("column", name, FROM_DISK, f"({path}, line 1)")
    columns: dict[str, NDArray[Any]] = {}
    for place, title in enumerate(header):
        name, unit = FROM_DISK[title]
        values = [line[place] for line in body]
        if name in TEXT:
            columns[name] = np.array([v.strip() for v in values], dtype=object)
        else:
            columns[name] = numbers(path, title, values) * unit
    table = rows_of(len(body), **columns)
    return fill(fill(fill(table, "device", device), "licence", licence), "source", path.name)


def fill(table: Rows, name: str, value: str) -> Rows:
    """Write `value` into the text column `name` wherever it is empty."""
    blank = table[name] == ""
    return table.replace(**{name: np.where(blank, value, table[name])}) if value and blank.any() else table


def write(table: Rows, path: Path, append: bool = False) -> None:
    """Write rows as plain CSV. All columns are written, so files of several runs can be concatenated."""
    stream = io.StringIO(newline="")
    writer = csv.writer(stream, lineterminator="\n")
    if not append or not path.exists() or path.stat().st_size == 0:
        writer.writerow(header())
    writer.writerows(lines(table))
    if not append:
        outfile.write_text(path, stream.getvalue())
        return
    with path.open("a", encoding="utf-8", newline="") as file:
        file.write(stream.getvalue())


def header() -> list[str]:
    """Return the column names of a plain CSV, in the order of the file.

    >>> header()[-1], "latency_us" in header()
    ('power_w', True)
    """
    return [ON_DISK.get(name, (name, 1.0))[0] for name in COLUMNS]


def lines(table: Rows) -> list[list[str]]:
    """Format each row as the text fields of a plain CSV; unknown numbers are empty."""
    columns = []
    for name in COLUMNS:
        values = table[name]
        if name in NUMBERS:
            unit = ON_DISK.get(name, (name, 1.0))[1]
            columns.append(["" if v != v else f"{v / unit:.9g}" for v in values])
        else:
            columns.append([str(v) for v in values])
    return [list(fields) for fields in zip(*columns, strict=True)]
