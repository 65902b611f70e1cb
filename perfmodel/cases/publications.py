"""Look up what published measurements do not print beside their rows."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import numpy as np

from hwdb.tomlfile import read_toml
from perfmodel.arrays import NAN, Mask
from perfmodel.cases.read import Cases, Texts

TABLE = Path(__file__).with_name("publications.toml")
#: Modes in which a program that runs an engine in its own process streams from it; the others are batch use.
STREAMED = ("open", "closed", "single")


@dataclass(frozen=True)
class Published:
    """Hold what is known of the runs of a publication on one engine.

    version: of the engine, "" where rows state it. in_process: whether the load generator ran the engine in its own
    process (`Engine.embedded`). cv: coefficient of variation of the gaps between arrivals at a rate, NaN where it is
    not known.
    """

    version: str = ""
    in_process: bool = False
    cv: float = NAN


@cache
def published() -> Mapping[tuple[str, str], Published]:
    """Return (publication, engine) -> what is known of its runs; the file gives the source of each."""
    top = read_toml(TABLE, "table of publications")
    out = {}
    for name in top.keys():  # noqa: SIM118 - no mapping
        entry = top.table(name)
        entry.text("source")
        engine = entry.text("engine")
        out[name, engine] = Published(
            version=entry.text("engine_version", ""),
            in_process=entry.flag("in_process", False),
            cv=1.0 / math.sqrt(entry.number("burstiness", above=0)) if "burstiness" in entry else NAN,
        )
        entry.done()
    return out


def with_published_settings(cases: Cases) -> Cases:
    """Fill the version of the engine and the spread of arrivals where rows leave out what their publication ran."""
    text, number = cases.text, cases.number
    found = [published().get(key, Published()) for key in _keys(cases)]
    stated, versions = text["engine_version"], np.array([one.version for one in found], dtype=object)
    spread = np.where(np.isfinite(number["request_rate_rps"]), np.array([one.cv for one in found], float), np.nan)
    return replace(
        cases,
        text={**text, "engine_version": np.where(stated == "", versions, stated).astype(object)},
        number={**number, "cv": np.where(np.isfinite(number["cv"]), number["cv"], spread)},
    )


def in_process(cases: Cases, mode: Texts) -> Mask:
    """Return True for rows of publications that streamed from an engine in their own process, (R,).

    mode: (R,) arrival mode.
    """
    known = published()
    return np.array([known.get(key, Published()).in_process for key in _keys(cases)], bool) & np.isin(mode, STREAMED)


def _keys(cases: Cases) -> list[tuple[str, str]]:
    """Return (publication, engine) of each row."""
    return [*zip(cases.text["dataset"], cases.text["engine"], strict=True)]
