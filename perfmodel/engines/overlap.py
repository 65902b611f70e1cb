"""Communication beside computation: what a pass takes when one stream of its work hides behind another.

A pass is the sum of its kernels where they run one after the other. Engines that overlap run several streams side by
side (`overlap.toml`): collectives beside local kernels, in fused kernels or with a second micro-batch to work on
meanwhile; with nano-batches also kernels that read memory beside kernels that compute. The longest stream sets the
pace; of every other one a share disappears behind it, the rest is interference:

    time = alone + longest + (1 - share) * (sum of streams - longest)

which lies between the longest stream and the sum. Micro-batches are priced as they are: a half-sized pass twice, so
weights are read and kernels launched twice.
"""

from __future__ import annotations

import tomllib
from dataclasses import dataclass, replace
from functools import cache
from importlib.resources import files

from hwdb import InputError, UnknownName

#: Kinds of time in a pass: local kernels by what limits them; collectives by link or, where small, by their latency;
#: waiting for the host's memory.
KINDS_OF_TIME = ("compute", "memory", "launch", "link", "latency", "host")


@dataclass(frozen=True)
class Overlap:
    """A way of overlapping. batches: micro-batches a pass; streams: kinds of time (indices into `KINDS_OF_TIME`) that
    run beside one another; share: part of the shorter streams that hides. source: where the share comes from."""

    name: str
    title: str
    batches: int
    streams: tuple[tuple[int, ...], ...]
    share: float
    source: str

    def names(self) -> tuple[str, ...]:
        """A name of each stream: the kind of time that comes first in it."""
        return tuple("links" if KINDS_OF_TIME[s[0]] == "link" else KINDS_OF_TIME[s[0]] for s in self.streams)


@cache
def _ways() -> dict[str, Overlap]:
    read = tomllib.loads(files("perfmodel.engines").joinpath("overlap.toml").read_text(encoding="utf-8"))
    return {
        name: Overlap(
            name,
            entry["title"],
            int(entry["batches"]),
            tuple(tuple(KINDS_OF_TIME.index(kind) for kind in stream) for stream in entry["streams"]),
            float(entry["share"]["value"]),
            f"{entry['share']['kind']}: {entry['share']['source']}",
        )
        for name, entry in read.items()
    }


def ways() -> tuple[str, ...]:
    """Names of the ways of overlapping, `none` first."""
    return ("none", *_ways())


def overlap_of(name: str, share: float = float("nan")) -> Overlap | None:
    """The way called `name`, None for `none`; share: instead of the way's own, NaN to keep it. Raises
    `UnknownName`, and `InputError` for a share outside 0 to 1.

    >>> overlap_of("none") is None, overlap_of("dual_batch").batches
    (True, 2)
    """
    if name == "none":
        return None
    if name not in _ways():
        raise UnknownName("overlap", name, list(ways()))
    if not (share != share or 0.0 <= share <= 1.0):
        raise InputError(f"overlap_share {share:g} is no share; give one between 0 (nothing hides) and 1")
    found = _ways()[name]
    return found if share != share else replace(found, share=share)
