"""Look up what published measurements do not print beside their rows."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path

import numpy as np

from hwdb.tomlfile import read_toml
from perfmodel.cases.read import Texts

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


def stated_or_published_version(text: Mapping[str, Texts]) -> Texts:
    """Return the version of each row's engine, (R,): the one that the row states, else that of its publication, or "".

    text: text columns of cases by name, (R,) each.
    """
    known = published_versions()
    keys = zip(text["dataset"], text["engine"], strict=True)
    published = np.array([known.get((d, e), "") for d, e in keys], dtype=object)
    return np.where(text["engine_version"] == "", published, text["engine_version"]).astype(object)
