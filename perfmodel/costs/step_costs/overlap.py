"""Price steps that overlap communication and computation; the formula is in `perfmodel.engines.overlap`."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from perfmodel.arrays import Array, Mask
from perfmodel.costs.step_costs.steps import COST_FIELDS, StepCost
from perfmodel.engines import Overlap


def kinds(cost: StepCost) -> Array:
    """Split the seconds of a step by `KINDS_OF_TIME`, (6, ...): compute, memory, launch, link, latency, host."""
    compute, memory, link, launch = cost.bound
    linked, latency = cost.links
    return np.stack([compute, memory, launch - latency, linked, latency, link - linked])


def streams_of(cost: StepCost, way: Overlap) -> Array:
    """Return the seconds of each stream, (streams, ...), of a micro-batch that costs `cost` and overlaps by `way`."""
    return _streams(kinds(cost), way)


def _streams(times: Array, way: Overlap) -> Array:
    """Sum the seconds of each kind of time (6, ...) to those of each stream, (streams, ...)."""
    return np.stack([times[list(members)].sum(axis=0) for members in way.streams])


def visible(times: Array, way: Overlap) -> Array:
    """Return the seconds of each kind of time that do not hide behind the longest stream, (6, ...).

    times: all seconds of each kind, (6, ...). The result sums to the time of the step.
    """
    longest = np.argmax(_streams(times, way), axis=0)
    left = np.array(times)
    for number, members in enumerate(way.streams):
        left[list(members)] *= np.where(longest == number, 1.0, 1.0 - way.share)
    return left


def overlapped(cost: StepCost, way: Overlap) -> StepCost:
    """Return the cost of a step run with overlap `way`, given the cost of each of its micro-batches.

    `bound` keeps the part of each kind of time that does not hide, so that it still sums to `time`; `hidden` is the
    rest. Basis and spread stay as they are.
    """
    times = way.batches * kinds(cost)
    compute, memory, launch, linked, latency, host = left = visible(times, way)
    return replace(
        cost,
        time=left.sum(axis=0),
        bound=np.stack([compute, memory, linked + host, launch + latency]),
        links=np.stack([linked, latency]),
        hidden=(times - left).sum(axis=0),
        calls=way.batches * cost.calls,
        operators=way.batches * cost.operators,
        work=way.batches * cost.work,
        batches=np.full(np.shape(cost.time), way.batches, np.int8),
    )


def cheaper(plain: StepCost, other: StepCost, use_other: Mask) -> StepCost:
    """Return the cost of a step from `other` where the mask `use_other` is True, else from `plain`, in every field."""
    return StepCost(**{n: np.where(use_other, getattr(other, n), getattr(plain, n)) for n in COST_FIELDS})
