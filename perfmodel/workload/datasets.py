"""Public data sets by name: their mean lengths, and for some a whole length histogram.

`lengths("openorca")` answers for benchmark rows that name a data set and not its lengths; `histogram` gives the joint
classes that ship with the package. The figures and their sources are in `datasets.toml`.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np

from hwdb import UnknownName
from hwdb.tomlfile import Table, read_toml
from perfmodel.workload.histograms import FOLDER, Histogram, read_histogram

TABLE = Path(__file__).with_name("datasets.toml")

#: How a figure came about: see the head of `datasets.toml`.
KINDS = ("published", "computed", "observed", "inferred")


@dataclass(frozen=True)
class LengthStats:
    """Lengths of a data set in tokens a request; NaN where unknown.

    kind: how the figures came about, one of `KINDS`; source: whose they are. aliases: other names for it.
    """

    name: str
    title: str
    input_mean: float
    output_mean: float
    input_median: float
    input_p90: float
    output_median: float
    output_p90: float
    output_max: float
    kind: str
    source: str
    aliases: tuple[str, ...] = ()


def _stats(name: str, table: Table) -> LengthStats:
    nan = float("nan")
    optional = ("input_median", "input_p90", "output_median", "output_p90", "output_max")
    stats = LengthStats(
        name=name,
        title=table.text("title"),
        input_mean=table.number("input_mean", least=1),
        output_mean=table.number("output_mean", least=1),
        kind=table.text("kind", choices=KINDS),
        source=table.text("source"),
        aliases=table.texts("aliases", ()),
        **{key: table.number(key, nan, least=1) for key in optional},
    )
    table.done()
    return stats


@cache
def _all() -> dict[str, LengthStats]:
    top = read_toml(TABLE, "table of data sets")
    return {name: _stats(name, top.table(name)) for name in top.keys()}  # noqa: SIM118 - a Table is no mapping


def dataset_names() -> list[str]:
    """Names of all data sets with known lengths."""
    return sorted(_all())


def histogram_names() -> list[str]:
    """Names of the data sets that ship with a length histogram."""
    return sorted(p.stem for p in FOLDER.glob("*.csv"))


def _find(name: str) -> str:
    key = name.strip()
    for own, stats in _all().items():
        if key.lower() in (own, *(a.lower() for a in stats.aliases)):
            return own
    raise UnknownName("data set", name, [*_all(), *(a for s in _all().values() for a in s.aliases)])


def lengths(name: str) -> LengthStats:
    """Lengths of the data set called `name` (or any of its aliases), or `UnknownName`.

    >>> lengths("mlperf_longctx405b").input_mean
    9400.0
    """
    return _all()[_find(name)]


@cache
def histogram(name: str) -> Histogram:
    """The length histogram of the data set called `name`: its own where one ships, else one class of its means.

    >>> len(histogram("azure-conv-2023")), len(histogram("openorca"))
    (32, 1)
    """
    stats = lengths(name)
    path = FOLDER / f"{stats.name}.csv"
    if path.is_file():
        return read_histogram(path)
    return Histogram(
        input_tokens=np.array([stats.input_mean]),
        output_tokens=np.array([stats.output_mean]),
        share=np.ones(1),
        prefix_hit=np.zeros(1),
        name=stats.name,
        source=stats.source,
    )
