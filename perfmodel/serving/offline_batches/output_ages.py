"""Compute the share of sequences that still run some decode steps after their start, from how output lengths vary."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from perfmodel.arrays import Array, Mask
from perfmodel.workload import LEAST_LENGTH_CV, survival, uncut


@dataclass(frozen=True)
class OutputLengths:
    """Describe the distribution of output lengths, in decode steps, for C request classes.

    mean: by class, (C, N). cv: coefficient of variation within a class, (N,). longest: a length that all are cut at,
    (N,). share: share of requests of each class, (C, N).
    """

    mean: Array
    cv: Array
    longest: Array
    share: Array


def lockstep(outputs: OutputLengths) -> Mask:
    """Return True where all outputs are equally long, so that sequences that start together end together. (N,)"""
    shortest, most = np.min(outputs.mean, axis=0), np.max(outputs.mean, axis=0)
    return np.asarray((outputs.cv < LEAST_LENGTH_CV) & (most - shortest < LEAST_LENGTH_CV * most))


def longer_than(outputs: OutputLengths, kind: int, ages: Array) -> Array:
    """Return the share of outputs of class `kind` that are longer than `ages` decode steps; 0 beyond the longest."""
    mean = outputs.mean[kind]
    allowed = ages < np.maximum(outputs.longest, mean) * (1.0 + LEAST_LENGTH_CV)
    return np.asarray(survival(*uncut(mean, outputs.cv, outputs.longest), ages) * allowed)


def running_shares(outputs: OutputLengths, width: Array, cells: int) -> tuple[Array, Array]:
    """Return two shares of sequences that still run after each number of cells, in the middle of a cell.

    (cells, N) each.

    First those that started at the beginning of a cell, then those that started evenly over it. The ages of the latter
    are spread over the cell before and the cell behind. In their own cell half of them have started on average, and
    their survival is the mean of that at ages zero and half a cell.

    Args:
        outputs: output lengths.
        width: decode steps per cell, (N,).
        cells: number of cells.
    """
    whole, half = (np.zeros((cells, len(width))) for _ in range(2))
    ages = np.arange(cells)[:, None] * width
    for kind, share in enumerate(outputs.share):
        whole += share * longer_than(outputs, kind, ages + width / 2.0)
        half += share * longer_than(outputs, kind, ages)
    half[1:] = half[1:] / 2.0 + (whole[:-1] + whole[1:]) / 4.0
    half[0] = (1.0 + whole[0]) / 4.0
    return whole, half


def total(counts: Array, shares: Array) -> Array:
    """Sum counts x shares over cells: two arrays (cells, N) in, one (N,) out."""
    return np.asarray(np.einsum("gn,gn->n", counts, shares))
