"""Look up what published measurements do not print beside their rows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import numpy as np

from hwdb.tomlfile import Table, read_toml
from perfmodel.arrays import Mask
from perfmodel.cases.read import Cases
from perfmodel.cases.table import NUMBER_COLUMNS

TABLE = Path(__file__).with_name("publications.toml")


@dataclass(frozen=True)
class Setup:
    """Describe what some rows of a publication ran.

    dataset: the publication. engine, mode: "" for rows of any. where: number column -> value of the rows. version: that
    of the engine, "" for none. columns: number column that the rows leave blank -> what stands in it: a number, or
    the number column of the same row that has it.
    """

    dataset: str
    engine: str
    mode: str
    where: Mapping[str, float]
    version: str
    columns: Mapping[str, float | str]

    def rows(self, cases: Cases) -> Mask:
        """Return which rows of a table ran this setup, (R,)."""
        mine: Mask = cases.text["dataset"] == self.dataset
        for column, value in (("engine", self.engine), ("mode", self.mode)):
            if value:
                mine = mine & (cases.text[column] == value)
        for column, number in self.where.items():
            mine = mine & (cases.number[column] == number)
        return mine


@cache
def setups() -> tuple[Setup, ...]:
    """Return the known setups of all publications; the file gives the source of each."""
    top = read_toml(TABLE, "table of publications")
    return tuple(_setup(name, entry) for name in top.keys() for entry in top.tables(name))  # noqa: SIM118 - no mapping


def _setup(dataset: str, entry: Table) -> Setup:
    """Read one entry of the file. Raises `InputError` for an unknown key or column, and without a source."""
    entry.text("source")
    names = [c.name for c in NUMBER_COLUMNS]
    where, given, same = (entry.table(key, None) for key in ("where", "columns", "same_as"))
    columns: dict[str, float | str] = {c: given.number(c, above=0) for c in names if c in given}
    columns |= {c: same.text(c, choices=names) for c in names if c in same}
    equal = {c: where.number(c) for c in names if c in where}
    engine, mode, version = (entry.text(key, "") for key in ("engine", "mode", "engine_version"))
    found = Setup(dataset, engine, mode, equal, version, columns)
    for table in (where, given, same, entry):
        table.done()
    return found


def with_published_settings(cases: Cases) -> Cases:
    """Fill the version of the engine, and number columns, where a row of a known publication leaves them out."""
    number, version = dict(cases.number), cases.text["engine_version"].copy()
    for setup in setups():
        mine = setup.rows(cases)
        if setup.version:
            version[mine & (version == "")] = setup.version
        for column, value in setup.columns.items():
            filled = cases.number[value] if isinstance(value, str) else value
            number[column] = np.where(mine & np.isnan(number[column]), filled, number[column])
    return replace(cases, text={**cases.text, "engine_version": version}, number=number)
