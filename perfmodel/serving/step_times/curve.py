"""Time of a decode step as a function of the number of running sequences."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import NamedTuple

import numpy as np

from perfmodel.arrays import Array, Interpolation, clipped
from perfmodel.serving.step_times.planned_step import PlannedStep, PricedStep
from perfmodel.serving.step_times.steps import StepModel
from perfmodel.workload import Load

#: Knots of a decode curve where the caller does not say. Chosen: step times bend once, from memory-bound to
#: compute-bound, which five geometric knots follow.
KNOTS = 5


@dataclass(frozen=True)
class DecodeCurve:
    """Hold the time of a decode step as a piecewise-linear function of the number of running sequences.

    running: K numbers of sequences, rising from 1, (K, N). time: seconds per step with so many, (K, N).
    """

    running: Array
    time: Array

    def at(self, running: Array) -> Array:
        """Interpolate the seconds of a decode step with `running` sequences. (N,)"""
        return self._line.at(running)[0]

    @cached_property
    def _line(self) -> Interpolation:
        """Return the curve, to be read at several places."""
        return Interpolation(self.running, self.time)

    def sequences(self, rate: Array, most: Array) -> Array:
        """Return the sequences n that decode at once where they yield `rate` tokens/s together, (N,), at most `most`.

        By Little's law n = rate x time(n), with the seconds per token held at their first value below the first knot.
        The least n is taken, and it is exact: n - rate x time(n) is linear between knots. It is `most`, (N,), where the
        last knot yields less.
        """
        excess = self.running - rate * self.time
        enough = excess >= 0.0
        upper = np.argmax(enough, axis=0)
        count, column = excess.shape[1], np.arange(excess.shape[1])
        ends = np.maximum(upper - 1, 0) * count + column, upper * count + column  # places among all knots
        (short, over), (start, end) = ([v.ravel().take(at) for at in ends] for v in (excess, self.running))
        rise = over - short
        part = -short / np.where(rise > 0.0, rise, 1.0)
        between = np.where(upper > 0, start + part * (end - start), rate * self.time[0])
        return np.asarray(np.where(enough.any(axis=0), np.minimum(between, most), most))

    def per_token(self, accepted: Array) -> DecodeCurve:
        """Return the curve of seconds per output token, where a step yields `accepted` tokens per sequence (N,)."""
        return replace(self, time=self.time / accepted)


def decode_curve(steps: StepModel, load: Load, most: Array, count: int = KNOTS) -> DecodeCurve:
    """Price a decode step at `count` geometrically spaced numbers of running sequences, from 1 to `most` (N,)."""
    planned = planned_curve(steps, load, most, count)
    return planned.priced(steps.run(planned.step)[0])


class PlannedCurve(NamedTuple):
    """Describe the decode steps of a `DecodeCurve`. knots: numbers of running sequences, (K, N). step: those steps."""

    knots: Array
    step: PlannedStep

    def priced(self, step: PricedStep) -> DecodeCurve:
        """Return the curve of the steps that were priced."""
        return DecodeCurve(running=self.knots, time=step.wall)


def planned_curve(
    steps: StepModel, load: Load, most: Array, count: int = KNOTS, *, beyond: Array | None = None
) -> PlannedCurve:
    """Plan the steps of `decode_curve`, to be priced beside others; two more where graphs end (`_with_jump`).

    beyond: sequences that run for a while, more than `most`, which take one step more, (N,).
    """
    most = np.maximum(most, 1.0)
    knots = np.exp(np.linspace(0.0, 1.0, count)[:, None] * np.log(most))
    if beyond is not None and np.any(beyond > most):
        most = np.maximum(beyond, most)
        knots = np.concatenate([knots, most[None]])
    knots = _with_jump(knots, steps.most_captured, most)
    return PlannedCurve(knots, steps.decode_step(knots, load.decode_context, load.drafts))


def _with_jump(knots: Array, captured: Array, most: Array) -> Array:
    """Return knots (K, N) with the largest batch whose step is a captured graph and the one after it, if any is larger.

    Beyond it the host launches every kernel, which takes several times as long where kernels are short. captured: that
    batch, (N,). most: last knot, (N,).
    """
    if not np.any((captured > 1.0) & (captured < most)):
        return knots
    ends = np.stack([captured, captured + 1.0])
    return np.sort(np.concatenate([knots, np.where(captured > 1.0, clipped(ends, 1.0, most), most)]), axis=0)
