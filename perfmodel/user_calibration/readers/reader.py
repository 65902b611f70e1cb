"""Define what a reader of benchmark results is, and helpers that all readers use."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hwdb import InputError
from perfmodel.user_calibration.run import MeasuredRun
from perfmodel.workload.traces import Content

#: Characters of a bad value that a message shows.
SHOWN = 40


@dataclass(frozen=True)
class ResultReader:
    """Describes one format of benchmark results.

    name: what people call it. recognises: whether a file is of this format, by its content. read: its runs.
    """

    name: str
    recognises: Callable[[Content], bool]
    read: Callable[[Content], Sequence[MeasuredRun]]


def number(record: Mapping[str, Any], key: str, place: str, *, unit: float = 1.0) -> float:
    """Return the number that a record has under `key`, times `unit`; NaN where it has none or an empty one.

    Raises `InputError` where it is no number, negative, or not finite.
    """
    value = record.get(key)
    if value is None or value == "":
        return math.nan
    try:
        found = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError):
        found = math.nan
    if not math.isfinite(found) or found < 0:
        raise InputError(f"{place}: {key} is {str(value)[:SHOWN]!r}; give a number of at least 0, or leave it out")
    return found * unit


def metrics(record: Mapping[str, Any], names: Mapping[str, str], place: str, *, unit: float = 1.0) -> dict[str, float]:
    """Return metric -> value of those that a record has. names: metric -> key. unit: factor to the metric's unit.

    Zero is what benchmarks write for a figure that they did not measure, and is left out.
    """
    found = {metric: number(record, key, place, unit=unit) for metric, key in names.items()}
    return {metric: value for metric, value in found.items() if value > 0}


def served_requests(record: Mapping[str, Any], key: str, place: str) -> float:
    """Return how many requests a run served, under `key`; `InputError` where it served none, or does not say."""
    served = number(record, key, place)
    if not served >= 1:
        raise InputError(f"{place}: {key} is 0, no request was served; give a run that served some")
    return served


def failed_remarks(lost: float, sent: float = math.nan) -> tuple[str, ...]:
    """Return what a run says of requests that failed: () where none did. sent: requests in all, NaN if unknown."""
    of_all = f" of {sent:.0f}" if math.isfinite(sent) else ""
    return (f"{lost:.0f}{of_all} requests failed and are left out",) if lost > 0 else ()


def table_rows(content: Content) -> Iterator[tuple[str, dict[str, str]]]:
    """Yield (place, row) of each row of a CSV table."""
    text = content.text.lstrip("\r\n")  # blank lines above the header, which would count as one
    above = content.text[: len(content.text) - len(text)].count("\n")
    rows = csv.DictReader(io.StringIO(text), skipinitialspace=True)
    yield from ((f"{content.path}, line {rows.line_num + above}", row) for row in rows)


def inner(record: Mapping[str, Any], key: str, place: str) -> Mapping[str, Any]:
    """Return the object that a record has under `key`; {} where it has none. `InputError` where it is no object."""
    value = record.get(key)
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise InputError(f"{place}: {key} is {str(value)[:SHOWN]!r} and no object; give the file as its tool wrote it")
    return value


def text_of(value: float) -> str:
    """Return a number as the cell of a table; "" where unknown.

    >>> text_of(64.0), text_of(0.25), text_of(float("nan"))
    ('64', '0.25', '')
    """
    return f"{value:.10g}" if math.isfinite(value) else ""
