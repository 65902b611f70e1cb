"""Look up what published measurements do not print beside their rows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import numpy as np

from hwdb.tomlfile import read_toml
from perfmodel.cases.read import Cases
from perfmodel.cases.table import NUMBER_COLUMNS

TABLE = Path(__file__).with_name("publications.toml")


@dataclass(frozen=True)
class Publication:
    """Describe what a publication ran.

    engine, version: the engine whose version its rows leave out, "" for none. columns: number column that its rows
    leave blank -> what stands in it: a number, or the number column of the same row that has it.
    """

    engine: str
    version: str
    columns: Mapping[str, float | str]


@cache
def publications() -> Mapping[str, Publication]:
    """Return every known publication by its name in the column `dataset`; the file gives the source of each."""
    top = read_toml(TABLE, "table of publications")
    names = [c.name for c in NUMBER_COLUMNS]
    out = {}
    for name in top.keys():  # noqa: SIM118 - no mapping
        entry = top.table(name)
        entry.text("source")
        engine = entry.text("engine", "")
        given, same = entry.table("columns", None), entry.table("same_as", None)
        columns: dict[str, float | str] = {c: given.number(c, above=0) for c in names if c in given}
        columns |= {c: same.text(c, choices=names) for c in names if c in same}
        out[name] = Publication(engine, entry.text("engine_version") if engine else "", columns)
        for table in (given, same, entry):
            table.done()
    return out


def with_published_settings(cases: Cases) -> Cases:
    """Fill the version of the engine, and number columns, where a row of a known publication leaves them out."""
    known, text, number = publications(), cases.text, dict(cases.number)
    version = text["engine_version"].copy()
    for name, one in known.items():
        mine = text["dataset"] == name
        version[mine & (text["engine"] == one.engine) & (version == "")] = one.version
        for column, value in one.columns.items():
            filled = cases.number[value] if isinstance(value, str) else value
            number[column] = np.where(mine & np.isnan(number[column]), filled, number[column])
    return replace(cases, text={**text, "engine_version": version}, number=number)
