"""Look up what published measurements do not print beside their rows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np

from hwdb.tomlfile import read_toml
from perfmodel.cases.read import Cases

TABLE = Path(__file__).with_name("publications.toml")


@cache
def published_versions() -> Mapping[tuple[str, str], str]:
    """Return (publication, engine) -> version of the engine that it ran; the file gives the source of each."""
    return {(one.name, one.engine): one.engine_version for one in _publications() if one.engine}


@cache
def server_publications() -> tuple[str, ...]:
    """Return the publications whose batches were sent to a server all at once; the file gives the source of each."""
    return tuple(one.name for one in _publications() if one.server)


class _Publication(NamedTuple):
    """Describe what a publication is known to have run. engine, engine_version: "" where its rows say."""

    name: str
    engine: str
    engine_version: str
    server: bool


@cache
def _publications() -> tuple[_Publication, ...]:
    """Read the table of publications."""
    top = read_toml(TABLE, "table of publications")
    out = []
    for name in top.keys():  # noqa: SIM118 - no mapping
        entry = top.table(name)
        entry.text("source")
        engine = entry.text("engine", "")
        version = entry.text("engine_version") if engine else ""
        out.append(_Publication(name, engine, version, entry.flag("server", False)))
        entry.done()
    return tuple(out)


def with_published_versions(cases: Cases) -> Cases:
    """Fill the version of the engine where a row leaves it out and its publication is known to have run one."""
    known, text = published_versions(), cases.text
    keys = zip(text["dataset"], text["engine"], strict=True)
    published = np.array([known.get((d, e), "") for d, e in keys], dtype=object)
    stated = text["engine_version"]
    return replace(cases, text={**text, "engine_version": np.where(stated == "", published, stated).astype(object)})
