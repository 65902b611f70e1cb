"""Read a CSV table as `perfmodel predict` reads it, whose output columns (`ttft_ms`, `tpot_ms` ...) are measured."""

from __future__ import annotations

from collections.abc import Sequence

from hwdb import InputError
from perfmodel.cases import OUTPUT, columns, read_columns, unread_columns
from perfmodel.user_calibration.readers.reader import ResultReader, metrics, table_rows
from perfmodel.user_calibration.run import METRICS, MeasuredRun
from perfmodel.workload.traces import Content

#: Other names of metrics: those with which plans and JSON write them.
ALSO = {"served_request_rate_rps": "req_s"}


def read_plain_csv(content: Content) -> Sequence[MeasuredRun]:
    """Read one run per row of a table."""
    known = {name for name, _, _ in columns()}
    remarks = _remarks(content.fields)
    spelled = {**ALSO, **read_columns(content.fields)}
    runs: list[MeasuredRun] = []
    for place, row in table_rows(content):
        cells = {spelled.get(k.strip(), k).strip(): (v or "").strip() for k, v in row.items() if isinstance(k, str)}
        if None in row or any(v is None for v in row.values()):
            raise InputError(f"{place}: {len(row)} cells, and the heading has {len(content.fields)}; give one for each")
        found = metrics(cells, {m: m for m in METRICS if cells.get(m)}, place)
        if not found:
            raise InputError(f"{place}: nothing is measured; give at least one of {', '.join(METRICS[:6])} ...")
        runs.append(
            MeasuredRun(place, {k: v for k, v in cells.items() if k in known and v}, found, () if runs else remarks)
        )
    return runs


def _remarks(names: Sequence[str]) -> tuple[str, ...]:
    """Return remarks on columns that are not read although they seem to mean an input or a measured value."""
    meant, read = unread_columns(names), read_columns(names)
    known, parts = {*METRICS, *ALSO, *OUTPUT, *meant}, {metric.split("_")[0] for metric in METRICS}
    figures = [name for name in names if name not in known and name.lower().split("_")[0] in parts]
    return (
        *(f"column {name!r} is read as {column}" for name, column in read.items()),
        *(f"column {n!r} is not read; its input is called {column}" for n, column in meant.items() if n not in read),
        *(f"column {name!r} is not read; measured values are {', '.join(METRICS[:6])} ..." for name in figures),
    )


READER = ResultReader(
    name="CSV table",
    recognises=lambda c: c.kind == "table" and bool({*METRICS, *ALSO} & set(c.fields)),
    read=read_plain_csv,
)
