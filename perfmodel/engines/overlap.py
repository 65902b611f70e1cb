"""Ways of overlapping communication with computation: which work of a step runs at the same time, and how much hides.

Without overlap a step takes the sum of its kernels. Engines that overlap run several streams side by side
(`overlap.toml`): collectives beside local kernels, in fused kernels or with a second micro-batch to work on meanwhile;
with nano-batches also kernels that read memory beside kernels that compute. The longest stream sets the pace; of every
other stream a share hides behind it, and the rest adds (interference):

    time = alone + longest + (1 - share) * (sum of streams - longest)

which lies between the longest stream and the sum. Micro-batches are priced as they are: a half-sized step is priced
twice, so weights are read and kernels launched twice.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

from hwdb import InputError, UnknownName
from hwdb.tomlfile import Table, read_toml
from perfmodel.arrays import NAN

TABLE = Path(__file__).with_name("overlap.toml")
#: Kinds of time in a step: local kernels by what limits them (`launch`: too small for either); collectives by link or,
#: where small, by their latency; waiting for the host's memory.
KINDS_OF_TIME = ("compute", "memory", "launch", "link", "latency", "host")
#: Name that stands for running without overlap.
NO_OVERLAP = "none"


@dataclass(frozen=True)
class Overlap:
    """Describes one way of overlapping the work of a step.

    batches: micro-batches per step. streams: for each stream, the kinds of time in it (indices into `KINDS_OF_TIME`);
    streams run at the same time, kinds in no stream run alone. share: part (0 to 1) of the shorter streams that hides
    behind the longest. source: where the share comes from.
    """

    name: str
    title: str
    batches: int
    streams: tuple[tuple[int, ...], ...]
    share: float
    source: str

    def names(self) -> tuple[str, ...]:
        """Return a name for each stream: the kind of time that comes first in it (`links` for link)."""
        return tuple("links" if KINDS_OF_TIME[s[0]] == "link" else KINDS_OF_TIME[s[0]] for s in self.streams)


@cache
def _ways() -> dict[str, Overlap]:
    """Read the ways of overlapping from `overlap.toml`, by name."""
    top = read_toml(TABLE, "table of overlaps")
    return {name: _way(name, top.table(name)) for name in top.keys()}  # noqa: SIM118 - a Table is no mapping


def _way(name: str, table: Table) -> Overlap:
    """Read the way of overlapping `name` from its table in `overlap.toml`."""
    share = table.table("share")
    return Overlap(
        name=name,
        title=table.text("title"),
        batches=table.whole("batches", least=1),
        streams=tuple(tuple(KINDS_OF_TIME.index(kind) for kind in stream) for stream in table.get("streams")),
        share=share.number("value", least=0, most=1),
        source=f"{share.text('kind')}: {share.text('source')}",
    )


def ways() -> tuple[str, ...]:
    """Return the names of the known ways of overlapping, `none` first."""
    return (NO_OVERLAP, *_ways())


def overlap_of(name: str, share: float = NAN) -> Overlap | None:
    """Return the way of overlapping called `name`; None for `none`.

    share: part (0 to 1) of the shorter streams that hides behind the longest; NaN keeps the published one. Raises
    `UnknownName` for an unknown name, and `InputError` for a share outside 0 to 1.

    >>> overlap_of("none") is None, overlap_of("dual_batch").batches
    (True, 2)
    """
    if name == NO_OVERLAP:
        return None
    if name not in _ways():
        raise UnknownName("overlap", name, list(ways()))
    if not (math.isnan(share) or 0.0 <= share <= 1.0):
        raise InputError(f"overlap_share {share:g} is no share; give one between 0 (nothing hides) and 1")
    found = _ways()[name]
    return found if math.isnan(share) else replace(found, share=share)
