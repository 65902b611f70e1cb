"""Look up what published measurements do not print beside their rows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np

from hwdb.tomlfile import read_toml
from perfmodel.cases.read import Cases

TABLE = Path(__file__).with_name("publications.toml")


@cache
def published_versions() -> Mapping[tuple[str, str], str]:
    """Return (publication, engine) -> version of the engine that it ran; the file gives the source of each."""
    top = read_toml(TABLE, "table of publications")
    out = {}
    for name in top.keys():  # noqa: SIM118 - no mapping
        entry = top.table(name)
        entry.text("source")
        out[name, entry.text("engine")] = entry.text("engine_version")
        entry.done()
    return out


def with_published_versions(cases: Cases) -> Cases:
    """Fill the version of the engine where a row leaves it out and its publication is known to have run one."""
    known, text = published_versions(), cases.text
    keys = zip(text["dataset"], text["engine"], strict=True)
    published = np.array([known.get((d, e), "") for d, e in keys], dtype=object)
    stated = text["engine_version"]
    return replace(cases, text={**text, "engine_version": np.where(stated == "", published, stated).astype(object)})
