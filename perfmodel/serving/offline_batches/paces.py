"""Compute how long the decode steps of an offline batch take by their age: of all requests, and by length of answer."""

from __future__ import annotations

import numpy as np

from perfmodel.arrays import Array, interpolate
from perfmodel.serving.limits import TINY
from perfmodel.serving.offline_batches.output_ages import OutputLengths, longer_than, total
from perfmodel.serving.served import PACE_AT


def seconds_by_age(delays: Array, instant: Array, gradual: Array, width: Array) -> Array:
    """Return the mean seconds of a decode step at each age in cells, of the requests that are followed so far, (G, N).

    Args:
        delays: seconds per cell of age, summed over requests, (G, N).
        instant, gradual: requests admitted at the start of each cell, and evenly over it, (G, N) each.
        width: decode steps per cell, (N,).
    """
    first, later = np.cumsum(instant, axis=0)[::-1], np.cumsum(gradual, axis=0)[::-1]
    before = np.concatenate([later[1:], np.zeros_like(later[:1])])
    followed = first + (later + before) / 2.0
    return np.asarray(delays / (np.maximum(followed, TINY) * width))


def mean_seconds(outputs: OutputLengths, width: Array, by_age: Array) -> Array:
    """Return the mean seconds of a decode step over all steps of each request class, (C, N).

    by_age: as `seconds_by_age` returns it. Derived: the share of answers that are longer than an age takes part in it.
    """
    out = np.zeros_like(outputs.mean * width)
    edges = np.arange(len(by_age) + 1)[:, None] * width
    for kind in range(len(out)):
        left = longer_than(outputs, kind, edges)
        left[0], left[-1] = 1.0, 0.0
        part = (left[1:] + left[:-1]) / 2.0
        out[kind] = total(part, by_age) / np.sum(part, axis=0)
    return out


def pace(outputs: OutputLengths, width: Array, by_age: Array, mean: Array) -> Array:
    """Return the seconds per decode step of requests with `PACE_AT` times the mean steps, over those of all, (K, N).

    A batch that starts at once empties while it lasts: the longer an answer, the fewer run beside it in the end.

    by_age: as `seconds_by_age` returns it. mean: as `mean_seconds` returns it, (C, N).
    """
    edges = np.arange(len(by_age) + 1)[:, None] * width
    passed = np.concatenate([np.zeros((1, len(width))), np.cumsum(by_age * width, axis=0)])
    weight = outputs.mean * outputs.share
    long, usual = np.sum(weight, axis=0), np.sum(weight * mean, axis=0)
    found = [by_age[0]]
    for part in PACE_AT[1:]:
        steps = np.clip(part * long, width, edges[-1])  # nothing is known of parts of a cell
        found.append(interpolate(edges, passed, steps) / steps)
    return np.asarray(np.stack(found) * long / np.maximum(usual, TINY))
