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
from dataclasses import dataclass, fields, replace
from functools import cache
from importlib.resources import files

import numpy as np

from hwdb import InputError, UnknownName
from perfmodel.costs.step_cost import StepCost
from perfmodel.operators.demand import Array

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

    def streams_of(self, cost: StepCost) -> Array:
        """Seconds of each stream of a micro-batch, (streams, ...)."""
        return _streams(kinds(cost), self)


@cache
def _ways() -> dict[str, Overlap]:
    read = tomllib.loads(files("perfmodel.engines").joinpath("overlap.toml").read_text(encoding="utf-8"))
    return {
        name: Overlap(
            name, entry["title"], int(entry["batches"]),
            tuple(tuple(KINDS_OF_TIME.index(kind) for kind in stream) for stream in entry["streams"]),
            float(entry["share"]["value"]), f"{entry['share']['kind']}: {entry['share']['source']}",
        )
        for name, entry in read.items()
    }  # fmt: skip


def ways() -> tuple[str, ...]:
    """Names of the ways of overlapping, `none` first."""
    return ("none", *_ways())


def overlap(name: str, share: float = float("nan")) -> Overlap | None:
    """The way called `name`, None for `none`; share: instead of the way's own, NaN to keep it. Raises
    `UnknownName`, and `InputError` for a share outside 0 to 1.

    >>> overlap("none") is None, overlap("dual_batch").batches
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


def kinds(cost: StepCost) -> Array:
    """Seconds of a pass by `KINDS_OF_TIME`, (6, ...)."""
    compute, memory, link, launch = cost.bound
    linked, late = cost.links
    return np.stack([compute, memory, launch - late, linked, late, link - linked])


def _streams(times: Array, way: Overlap) -> Array:
    return np.stack([times[list(members)].sum(axis=0) for members in way.streams])


def visible(times: Array, way: Overlap) -> Array:
    """What is left of each kind of time (6, ...) beside the longest stream; it sums to the time of the pass."""
    longest = np.argmax(_streams(times, way), axis=0)
    left = np.array(times)
    for number, members in enumerate(way.streams):
        left[list(members)] *= np.where(longest == number, 1.0, 1.0 - way.share)
    return left


def overlapped(cost: StepCost, way: Overlap) -> StepCost:
    """A pass whose micro-batches cost `cost` each, run as `way` says; basis and relative spread stay as they are.

    `bound` keeps what is visible of each kind, so that it still sums to `time`; `hidden` is the rest.
    """
    times = way.batches * kinds(cost)
    compute, memory, launch, linked, late, host = left = visible(times, way)
    return replace(
        cost, time=left.sum(axis=0), bound=np.stack([compute, memory, linked + host, launch + late]),
        links=np.stack([linked, late]), hidden=(times - left).sum(axis=0), calls=way.batches * cost.calls,
        batches=np.full(np.shape(cost.time), way.batches, np.int8),
    )  # fmt: skip


def cheaper(plain: StepCost, other: StepCost, pays: np.ndarray) -> StepCost:
    """`other` where it `pays`, else `plain`."""
    names = (f.name for f in fields(StepCost))
    return StepCost(**{n: np.where(pays, getattr(other, n), getattr(plain, n)) for n in names})
