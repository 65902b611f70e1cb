"""Look up the limits that benchmark runs are known to have kept: a published result is a run that passed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import numpy as np

from hwdb.tomlfile import read_toml
from perfmodel.arrays import Index, Mask
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
    known, models, stated = protocols(), cases.text["model"], cases.text["protocol"]
    unknown = (stated != "") & ~np.isin(stated, list(known))
    cases.refuse(unknown, (f"protocol {s!r} is none of {', '.join(known)}" for s in stated))
    names = _named(cases, slice(None))
    number = dict(cases.number)
    for key, column in KEPT.items():
        found = [
            known[name].limits.get(model, {}).get(key, np.nan) if name in known else np.nan
            for name, model in zip(names, models, strict=True)
        ]
        number[column] = np.where(np.isfinite(number[column]), number[column], np.array(found, float))
    return replace(cases, number=number)


def at_highest_rate(cases: Cases, rows: Index) -> Mask:
    """Return True where rows state the highest rate at which their benchmark's limits were kept, (N,) as `rows`."""
    highest = [name for name, one in protocols().items() if one.highest]
    return np.isin(_named(cases, rows), highest)


def _named(cases: Cases, rows: Index | slice) -> Texts:
    """Return the protocol of each of some rows, (N,); "" for none."""
    known = protocols()
    stated, datasets, sources = (cases.text[name][rows] for name in ("protocol", "dataset", "source"))
    names = stated.copy()
    for row in np.flatnonzero(stated == "").tolist():
        published = [name for name, one in known.items() if datasets[row].startswith(one.publication)]
        if not published:
            continue
        path = sources[row].split(" @")[0].rstrip("/")  # a version of the repository may follow the path
        scenario = path.rsplit("/", 1)[-1].lower()
        names[row] = next((name for name in published if known[name].scenario == scenario), "")
    return names
