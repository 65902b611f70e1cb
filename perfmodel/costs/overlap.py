"""Overlap of communication and computation within a step."""

from __future__ import annotations

from dataclasses import fields, replace

import numpy as np

from perfmodel.arrays import Array
from perfmodel.costs.steps import StepCost
from perfmodel.engines import Overlap


def kinds(cost: StepCost) -> Array:
    """Seconds of a pass by `KINDS_OF_TIME`, (6, ...)."""
    compute, memory, link, launch = cost.bound
    linked, late = cost.links
    return np.stack([compute, memory, launch - late, linked, late, link - linked])


def streams_of(cost: StepCost, way: Overlap) -> Array:
    """Seconds of each stream of a micro-batch, (streams, ...)."""
    return _streams(kinds(cost), way)


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
        cost,
        time=left.sum(axis=0),
        bound=np.stack([compute, memory, linked + host, launch + late]),
        links=np.stack([linked, late]),
        hidden=(times - left).sum(axis=0),
        calls=way.batches * cost.calls,
        batches=np.full(np.shape(cost.time), way.batches, np.int8),
    )


def cheaper(plain: StepCost, other: StepCost, pays: np.ndarray) -> StepCost:
    """`other` where it `pays`, else `plain`."""
    names = (f.name for f in fields(StepCost))
    return StepCost(**{n: np.where(pays, getattr(other, n), getattr(plain, n)) for n in names})
