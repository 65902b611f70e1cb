"""Look up what published measurements do not print beside their rows."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cache
from operator import methodcaller
from pathlib import Path
from typing import Any

import numpy as np

from hwdb.tomlfile import Table, read_toml
from perfmodel.arrays import Mask
from perfmodel.cases.read import Cases, Texts
from perfmodel.cases.resolve import Named, Resolved
from perfmodel.cases.table import NUMBER_COLUMNS
from perfmodel.dtypes import FORMAT_CODE, storage
from perfmodel.engines import Engine

TABLE = Path(__file__).with_name("publications.toml")
#: Settings of engines that a publication may state as a text -> what it may be.
_TEXTS = {"admission": ("grow", "reserve", "contiguous"), "preemption": ("recompute", "swap", "none")}
#: Those that it may state as true or false.
_SWITCHES = ("chunked_prefill", "narrow_cache", "rank_balance")
#: Modes in which an engine takes its defaults for use without a server.
BATCHES = ("static", "offline", "single")
#: Modes in which a program that runs an engine in its own process streams from it; the others are batch use.
STREAMED = ("open", "closed", "single")


@dataclass(frozen=True)
class Setup:
    """Describe what some rows of a publication ran.

    dataset: what the names of the publication's data sets begin with. engine, mode: "" for rows of any. models: names
    in the column `model`, () for rows of any. where: number column -> value of the rows. version: that of the engine,
    "" for none. columns: number column that the rows leave blank -> what stands in it: a number, or the number column
    of the same row that has it. settings: of the engine, by the name of their field. kv_dtype: format of the KV cache
    by model. server: whether batches were sent to a server, all at once (`Engine.behind_server`). in_process: whether
    the load generator ran the engine in its own process (`Engine.embedded`).
    """

    dataset: str
    engine: str
    mode: str
    models: tuple[str, ...]
    where: Mapping[str, float]
    version: str
    columns: Mapping[str, float | str]
    settings: Mapping[str, Any]
    kv_dtype: Mapping[str, str]
    server: bool
    in_process: bool

    def rows(self, cases: Cases, mode: Texts) -> Mask:
        """Return which rows of a table ran this setup, (R,); mode: arrival mode of each, (R,)."""
        mine: Mask = np.char.startswith(cases.text["dataset"].astype(str), self.dataset)
        for found, value in ((cases.text["engine"], self.engine), (mode, self.mode)):
            if value:
                mine = mine & (found == value)
        if self.models:
            mine = mine & np.isin(cases.text["model"], self.models)
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
    where, given, same, formats = (entry.table(key, None) for key in ("where", "columns", "same_as", "kv_dtype"))
    columns: dict[str, float | str] = {c: given.number(c, above=0) for c in names if c in given}
    columns |= {c: same.text(c, choices=names) for c in names if c in same}
    found = Setup(
        dataset=dataset,
        engine=entry.text("engine", ""),
        mode=entry.text("mode", ""),
        models=entry.texts("models", ()),
        where={c: where.number(c) for c in names if c in where},
        version=entry.text("engine_version", ""),
        columns=columns,
        settings=_settings(entry.table("settings", None)),
        kv_dtype={m: storage(formats.text(m)).name for m in formats.keys()},  # noqa: SIM118 - no mapping
        server=entry.flag("server", False),
        in_process=entry.flag("in_process", False),
    )
    for table in (where, given, same, formats, entry):
        table.done()
    return found


def _settings(table: Table) -> dict[str, Any]:
    """Read the settings of an engine."""
    found: dict[str, Any] = {key: table.text(key, choices=texts) for key, texts in _TEXTS.items() if key in table}
    found |= {key: table.flag(key) for key in _SWITCHES if key in table}
    if "gpu_memory_utilization" in table:
        found["gpu_memory_utilization"] = table.number("gpu_memory_utilization", above=0, most=1)
    if "rank_balance_steps" in table:
        found["rank_balance_steps"] = float(table.whole("rank_balance_steps", least=1))
    table.done()
    return found


def with_published_columns(cases: Cases, mode: Texts) -> Cases:
    """Fill the version of the engine, and number columns, where a row of a known publication leaves them out.

    Rows of the recipe `default` get the version alone. mode: (R,) arrival mode.
    """
    number, version = dict(cases.number), cases.text["engine_version"].copy()
    own = cases.text["recipe"] != "default"
    for setup in setups():
        mine = setup.rows(cases, mode)
        if setup.version:
            version[mine & (version == "")] = setup.version
        for column, value in setup.columns.items():
            filled = cases.number[value] if isinstance(value, str) else value
            number[column] = np.where(mine & own & np.isnan(number[column]), filled, number[column])
    return replace(cases, text={**cases.text, "engine_version": version}, number=number)


def with_published_engines(cases: Cases, mode: Texts, names: Resolved) -> Resolved:
    """Return the engines as their publications ran them, and KV cache formats that rows leave blank.

    mode: (R,) arrival mode.
    """
    engines, kv = names.engines, names.kv
    batches, streamed = np.isin(mode, BATCHES), np.isin(mode, STREAMED)
    for setup in setups():
        mine = setup.rows(cases, mode) & (cases.text["recipe"] != "default")
        if setup.settings:
            engines = _changed(engines, mine, methodcaller("configured", **setup.settings))
        if setup.server:
            engines = _changed(engines, mine & batches, Engine.behind_server)
        if setup.in_process:
            engines = _changed(engines, mine & streamed, Engine.embedded)
        for model, kind in setup.kv_dtype.items():
            kv = np.where(mine & (kv < 0) & (cases.text["model"] == model), FORMAT_CODE[kind], kv)
    return replace(names, engines=engines, kv=kv)


def _changed(engines: Named[Engine], rows: Mask, change: Callable[[Engine], Engine]) -> Named[Engine]:
    """Return the engines, of which those of `rows` (R,) are changed."""
    values, index = list(engines.values), engines.index.copy()
    for number in np.unique(engines.index[rows]).tolist():
        if number >= 0:
            index[rows & (engines.index == number)] = len(values)
            values.append(change(engines.values[number]))
    return Named(values=tuple(values), index=index)
