"""Look up what published measurements do not print beside their rows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from hwdb.tomlfile import Table, read_toml
from perfmodel.arrays import Index
from perfmodel.cases.read import Cases, Texts
from perfmodel.cases.resolve import Named, Resolved
from perfmodel.dtypes import FORMAT_CODE, storage
from perfmodel.engines import Engine

TABLE = Path(__file__).with_name("publications.toml")
#: Settings of engines that a publication may state as a text -> what it may be.
_TEXTS = {"admission": ("grow", "reserve", "contiguous"), "preemption": ("recompute", "swap", "none")}
#: Those that it may state as true or false.
_SWITCHES = ("chunked_prefill", "narrow_cache")


@dataclass(frozen=True)
class Publication:
    """Hold what a publication ran, whatever its rows leave blank.

    name: what the names of its data sets begin with. engine_version: "" where rows differ in it. settings: of the
    engine, by the name of their field. kv_dtype: format of the KV cache by model.
    """

    name: str
    engine: str
    engine_version: str
    settings: Mapping[str, Any]
    kv_dtype: Mapping[str, str]

    def covers(self, datasets: Texts, engines: Texts) -> np.ndarray:
        """Return True for rows of this publication on its engine, (R,). datasets, engines: texts of the rows, (R,)."""
        return np.asarray(np.char.startswith(datasets.astype(str), self.name) & (engines == self.engine))


@cache
def publications() -> tuple[Publication, ...]:
    """Return every known publication; the file gives the source of each."""
    top = read_toml(TABLE, "table of publications")
    out = []
    for name in top.keys():  # noqa: SIM118 - no mapping
        entry = top.table(name)
        entry.text("source")
        formats = entry.table("kv_dtype", {})
        kv_dtype = {model: storage(formats.text(model)).name for model in formats.keys()}  # noqa: SIM118
        settings = _settings(entry.table("settings", {}))
        version = entry.text("engine_version", "")
        out.append(Publication(name, entry.text("engine"), version, settings, kv_dtype))
        entry.done()
    return tuple(out)


def _settings(table: Table) -> dict[str, Any]:
    """Read the settings of an engine."""
    found: dict[str, Any] = {key: table.text(key, choices=texts) for key, texts in _TEXTS.items() if key in table}
    found |= {key: table.flag(key) for key in _SWITCHES if key in table}
    if "gpu_memory_utilization" in table:
        found["gpu_memory_utilization"] = table.number("gpu_memory_utilization", above=0, most=1)
    table.done()
    return found


def with_published_versions(cases: Cases) -> Cases:
    """Fill the version of the engine where a row leaves it out and its publication is known to have run one."""
    text = cases.text
    version = text["engine_version"].copy()
    for one in publications():
        version[(version == "") & one.covers(text["dataset"], text["engine"])] = one.engine_version
    return replace(cases, text={**text, "engine_version": version})


def with_published_settings(cases: Cases, names: Resolved) -> Resolved:
    """Return the engines as their publications set them, and KV cache formats that rows leave blank."""
    text = cases.text
    engines, kv = names.engines, names.kv
    for one in publications():
        rows = one.covers(text["dataset"], text["engine"]) & (text["recipe"] != "default")
        if one.settings and rows.any():
            engines = _configured(engines, np.flatnonzero(rows), one.settings)
        for model, kind in one.kv_dtype.items():
            kv = np.where(rows & (kv < 0) & (text["model"] == model), FORMAT_CODE[kind], kv)
    return replace(names, engines=engines, kv=kv)


def _configured(engines: Named[Engine], rows: Index, settings: Mapping[str, Any]) -> Named[Engine]:
    """Return the engines, of which those of `rows` have other settings."""
    values, index = list(engines.values), engines.index.copy()
    for number in np.unique(engines.index[rows]).tolist():
        if number >= 0:
            values.append(engines.values[number].configured(**settings))
            index[rows[engines.index[rows] == number]] = len(values) - 1
    return Named(values=tuple(values), index=index)
