"""Read a CSV table as `perfmodel predict` reads it, whose output columns (`ttft_ms`, `tpot_ms` ...) are measured."""

from __future__ import annotations

import re
from collections.abc import Sequence

from hwdb import InputError
from perfmodel.cases import OUTPUT, column_remarks, columns, read_columns, unread_columns
from perfmodel.user_calibration.readers.metric_spelling import ALSO, measured_columns
from perfmodel.user_calibration.readers.reader import ResultReader, metrics, table_rows
from perfmodel.user_calibration.run import METRICS, MeasuredRun
from perfmodel.workload.traces import Content


def read_plain_csv(content: Content) -> Sequence[MeasuredRun]:
    """Read one run per row of a table."""
    known = {name for name, _, _ in columns()}
    names = [name.strip() for name in content.fields]
    remarks = _remarks(names)
    spelled = {**read_columns(names), **measured_columns(names)}
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
    measured, parts = measured_columns(names), {metric.split("_")[0] for metric in METRICS}
    inputs = {*(name for name, _, _ in columns()), *unread_columns(names)}
    others = [name for name in names if name not in {*METRICS, *OUTPUT, *measured, *inputs}]
    figures = [name for name in others if parts & set(re.findall("[a-z0-9]+", name.lower()))]
    own = {*METRICS, *ALSO}
    return (
        *column_remarks([name for name in names if name not in measured]),
        *(f"column {name!r} is read as {metric}" for name, metric in measured.items() if name not in own),
        *(f"column {name!r} is not read; measured values are {', '.join(METRICS[:6])} ..." for name in figures),
    )


READER = ResultReader(
    name="CSV table", recognises=lambda c: c.kind == "table" and bool(measured_columns(c.fields)), read=read_plain_csv
)
