"""The documented plain CSV: canonical rows with units in the column names, one operator a line (docs/profiling.md)."""

from __future__ import annotations

import csv
import gzip
import io
from collections.abc import Sequence
from pathlib import Path
from typing import TextIO

import numpy as np

from hwdb import InputError, UnknownName
from perfmodel.profiles.importers.rows import COLUMNS, NUMBERS, ON_DISK, TEXT, Rows, rows_of

#: What a file must have; every other column may be missing.
REQUIRED = ("family", "latency_us")
#: Column on disk -> (column in memory, factor to SI).
FROM_DISK = {ON_DISK.get(name, (name, 1.0))[0]: (name, ON_DISK.get(name, (name, 1.0))[1]) for name in COLUMNS}


def open_text(path: Path) -> TextIO:
    """The file as text, unpacked if its name ends in .gz; `InputError` if it cannot be read."""
    try:
        if path.suffix == ".gz":
            return io.TextIOWrapper(gzip.open(path), encoding="utf-8", newline="")
        return path.open(encoding="utf-8", newline="")
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from error


def read_table(path: Path) -> tuple[list[str], list[list[str]]]:
    """Header and lines of a CSV; `InputError` names an empty file, a repeated column or a line of the wrong length."""
    with open_text(path) as stream:
        try:
            lines = list(csv.reader(stream))
        except (UnicodeDecodeError, csv.Error, gzip.BadGzipFile, EOFError) as error:
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


def numbers(path: Path, column: str, values: Sequence[str]) -> np.ndarray:
    """Column of text to float64, empty -> NaN; `InputError` names the line of what is not a number."""
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
    """Rows of a plain CSV; `device` and `licence` fill in where the file has none.

    Raises `InputError` for a missing or unknown column and for a field that is not a number.
    """
    header, body = read_table(path)
    for name in REQUIRED:
        if name not in header:
            raise InputError(f"{path}, line 1: no column {name!r}; a plain CSV needs {', '.join(REQUIRED)}")
    for name in header:
        if name not in FROM_DISK:
            raise UnknownName("column", name, FROM_DISK, f"({path}, line 1)")
    columns: dict[str, np.ndarray] = {}
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
    """The text `value` wherever column `name` is empty."""
    blank = table[name] == ""
    return table.replace(**{name: np.where(blank, value, table[name])}) if value and blank.any() else table


def write(table: Rows, path: Path, append: bool = False) -> None:
    """Write rows as plain CSV with every column, so that files of several runs concatenate."""
    with path.open("a" if append else "w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        if not append or path.stat().st_size == 0:
            writer.writerow(header())
        writer.writerows(lines(table))


def header() -> list[str]:
    """Column names of a plain CSV, in order.

    >>> header()[-1], "latency_us" in header()
    ('power_w', True)
    """
    return [ON_DISK.get(name, (name, 1.0))[0] for name in COLUMNS]


def lines(table: Rows) -> list[list[str]]:
    """Fields of each row as text; unknown numbers are empty."""
    columns = []
    for name in COLUMNS:
        values = table[name]
        if name in NUMBERS:
            unit = ON_DISK.get(name, (name, 1.0))[1]
            columns.append(["" if v != v else f"{v / unit:.9g}" for v in values])
        else:
            columns.append([str(v) for v in values])
    return [list(fields) for fields in zip(*columns, strict=True)]
