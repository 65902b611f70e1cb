"""Look up public data sets by name: their mean lengths, and for some a whole length histogram.

`lengths("openorca")` serves benchmark tables that name a data set and no lengths; `histogram` gives the joint classes
of prompt and output lengths that ship with the package. The numbers and their sources are in `datasets.toml`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np

from hwdb import UnknownName
from hwdb.tomlfile import Table, read_toml
from perfmodel.arrays import NAN
from perfmodel.workload.histograms import FOLDER, Histogram, read_histogram
from perfmodel.workload.length_spread import NINETY
from perfmodel.workload.output_lengths import cv_of_tail

TABLE = Path(__file__).with_name("datasets.toml")
#: How a number was obtained: see the head of `datasets.toml`.
KINDS = ("published", "computed", "observed", "inferred")
#: Numbers that a data set may leave out.
OPTIONAL = (
    *("input_median", "input_p90", "input_cv", "output_median", "output_p90", "output_p99", "output_max", "output_cv"),
)
#: What each of them is at least: tokens, but for ratios.
_LEAST = {"input_cv": 0.0, "output_cv": 0.0}


@dataclass(frozen=True)
class LengthStats:
    """Prompt and output lengths of a data set, in tokens per request; NaN where unknown.

    title: what reports call it. input_cv, output_cv: coefficient of variation of prompts and outputs; that of outputs
    after the cut at output_max, by the Weibull law of greatest likelihood, else by the 99th percentile. output_max:
    longest output that the benchmark allows. kind: how the numbers were obtained, one of `KINDS`. source: where they
    are from. aliases: other names of the data set.
    """

    name: str
    title: str
    input_mean: float
    output_mean: float
    input_median: float
    input_p90: float
    input_cv: float
    output_median: float
    output_p90: float
    output_p99: float
    output_max: float
    output_cv: float
    kind: str
    source: str
    aliases: tuple[str, ...] = ()

    @property
    def prompt_tail(self) -> float:
        """Return the 90th percentile of prompts over their mean; NaN where neither it nor `input_cv` is known.

        Where `input_cv` is known, it is that of the log-normal law with this variation: the whole law follows it more
        closely than one percentile of prompts that are cut at a longest one.
        """
        spread = math.sqrt(math.log1p(self.input_cv**2))
        recorded = self.input_p90 / self.input_mean
        return recorded if math.isnan(spread) else math.exp(NINETY * spread - spread**2 / 2.0)


def _stats(name: str, table: Table) -> LengthStats:
    """Read the data set `name` from its table in `datasets.toml`."""
    known = {key: table.number(key, NAN, least=_LEAST.get(key, 1.0)) for key in OPTIONAL}
    mean = table.number("output_mean", least=1)
    by_tail = float(cv_of_tail(np.array([known["output_p99"] / mean]))[0])
    stats = LengthStats(
        name=name,
        title=table.text("title"),
        input_mean=table.number("input_mean", least=1),
        output_mean=mean,
        kind=table.text("kind", choices=KINDS),
        source=table.text("source"),
        aliases=table.texts("aliases", ()),
        **{**known, "output_cv": by_tail if np.isnan(known["output_cv"]) else known["output_cv"]},
    )
    table.done()
    return stats


@cache
def _all() -> dict[str, LengthStats]:
    """Return every known data set by its main name; the file is read once."""
    top = read_toml(TABLE, "table of data sets")
    return {name: _stats(name, top.table(name)) for name in top.keys()}  # noqa: SIM118 - a Table is no mapping


def lengths(name: str) -> LengthStats:
    """Return the lengths of the data set called `name`, or by any of its aliases; raise `UnknownName` if there is none.

    >>> lengths("mlperf_longctx405b").input_mean
    9429.0
    """
    key = name.strip().lower()
    for own, stats in _all().items():
        if key in (own, *(alias.lower() for alias in stats.aliases)):
            return stats
    raise UnknownName("data set", name, _all(), others=[alias for s in _all().values() for alias in s.aliases])


@cache
def histogram(name: str) -> Histogram:
    """Return the length histogram of the data set called `name`.

    It is the histogram that ships for the data set if there is one, else a single class of its mean lengths, around
    which lengths spread as in recorded traffic.

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
        isl_dist="trace",
        output_max=np.inf if np.isnan(stats.output_max) else stats.output_max,
        output_cv=stats.output_cv,
        prompt_tail=stats.prompt_tail,
    )
