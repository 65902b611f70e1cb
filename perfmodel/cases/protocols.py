"""Look up the limits that benchmark runs are known to have kept: a published result is a run that passed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import numpy as np

from hwdb.tomlfile import read_toml
from perfmodel.arrays import Mask
from perfmodel.cases.read import Cases, Texts

TABLE = Path(__file__).with_name("protocols.toml")
#: Number columns that hold the limits kept, by the key of `protocols.toml` that fills them.
KEPT = {"ttft_ms": "kept_ttft_ms_p99", "tpot_ms": "kept_tpot_ms_p99"}


@dataclass(frozen=True)
class Protocol:
    """Describe a benchmark whose results kept limits.

    publication: what the names of its data sets begin with. scenario: last part of the path of its results. highest:
    whether a result is the highest rate that keeps the limits. limits: model -> key of `KEPT` -> milliseconds at the
    99th percentile.
    """

    publication: str
    scenario: str
    highest: bool
    limits: Mapping[str, Mapping[str, float]]


@cache
def protocols() -> Mapping[str, Protocol]:
    """Return every known benchmark by name; the file gives the source of each."""
    top = read_toml(TABLE, "table of benchmark protocols")
    found = {}
    for name in top.keys():  # noqa: SIM118 - no mapping
        entry = top.table(name)
        entry.text("source")
        by_model = entry.table("limits")
        limits = {m: {k: by_model.table(m).number(k, above=0) for k in KEPT} for m in by_model.keys()}  # noqa: SIM118
        found[name] = Protocol(entry.text("publication"), entry.text("scenario"), entry.flag("highest"), limits)
        entry.done()
    return found


def with_kept_limits(cases: Cases) -> Cases:
    """Fill blank limits of rows that are runs of a known benchmark on a model that it limits.

    Refuses rows whose `protocol` is unknown.
    """
    names = _named(cases)
    known, models = protocols(), cases.text["model"]
    number = dict(cases.number)
    for key, column in KEPT.items():
        found = [
            known[name].limits.get(model, {}).get(key, np.nan) if name in known else np.nan
            for name, model in zip(names, models, strict=True)
        ]
        number[column] = np.where(np.isfinite(number[column]), number[column], np.array(found, float))
    return replace(cases, number=number)


def at_highest_rate(cases: Cases) -> Mask:
    """Return True for rows that state the highest rate at which their benchmark's limits were kept, (R,)."""
    highest = {name for name, one in protocols().items() if one.highest}
    return np.array([name in highest for name in _named(cases)], bool)


def _named(cases: Cases) -> Texts:
    """Return the protocol of each row, (R,); "" for none."""
    text, known = cases.text, protocols()
    stated = text["protocol"]
    unknown = (stated != "") & ~np.isin(stated, list(known))
    cases.refuse(unknown, (f"protocol {s!r} is none of {', '.join(known)}" for s in stated))
    names = stated.copy()
    for row, (dataset, source) in enumerate(zip(text["dataset"], text["source"], strict=True)):
        path = source.split(" @")[0].rstrip("/")  # a version of the repository may follow the path
        scenario = path.rsplit("/", 1)[-1].lower()
        for name, one in known.items():
            if not names[row] and dataset.startswith(one.publication) and scenario == one.scenario:
                names[row] = name
    return names
