"""What happens in one cell of the clock of `drain`."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from perfmodel.arrays import Array, Mask, clipped
from perfmodel.serving.limits import TINY
from perfmodel.serving.offline_batches.offline_batch import OfflineBatch
from perfmodel.serving.step_times.mixed_steps import MixedSteps

#: Passes over the sequences that run in a cell and the prompts that come beside them.
_FIRST_PASSES = 3
#: Counts that differ by less than this share are equal.
SAME = 1e-6
#: Highest probability in a logarithm of its complement.
_ALMOST_ONE = 1.0 - 1e-12


@dataclass(frozen=True)
class Work:
    """Describe one cell, (N,).

    came: requests admitted. over: share of the cell over which they come. running: sequences. met: seconds of its
    decode steps; decoding: those while any sequence runs. prompts: seconds that prompts add. beside: decode steps that
    carry prompts, seconds. group: seconds until the first group of prompts is done; filling: mean seconds until a
    prompt is. beyond: requests that would be admitted if slots were free. held: what all hold of the KV cache, in
    sequences of mean length. stretch: seconds that a token takes over those of a step, above 1 where that is too much.
    early: share of the requests that come over a part of the cell whose prompts are all computed at its start. abreast:
    prompts that are done together.
    """

    came: Array
    over: Array
    running: Array
    met: Array
    decoding: Array
    prompts: Array
    beside: Array
    group: Array
    filling: Array
    beyond: Array
    held: Array
    stretch: Array
    early: Array
    abreast: Array


@dataclass(frozen=True)
class FirstCell:
    """A cell in which prompts arrive and go before decodes.

    batch: the requests. first: steps with their prompts. width: decode steps of the cell, (N,). shares: of those that
    are admitted at its start, and evenly over it, the part that runs in it, (N,) each. lockstep: whether sequences that
    began together end together, (N,).
    """

    batch: OfflineBatch
    first: MixedSteps
    width: Array
    shares: tuple[Array, Array]
    lockstep: Mask

    def work(self, earlier: tuple[Array, Array], entered: Array, queue: tuple[Array, Array]) -> Work:
        """Return what the cell does beside earlier sequences.

        Derived: between two decode steps run as many steps of prompts as `first` says, and no more prompts than there
        are requests left and free slots. Where fewer come than would, all of them come before the first decode steps.

        earlier: sequences that were admitted before and run, and what they hold of the KV cache, (N,) each. entered:
        requests admitted before, (N,). queue: requests that wait at its start, and all that are not admitted yet, (N,)
        each.
        """
        batch, first, rate = self.batch, self.first, 1.0 / np.asarray(self.batch.gap)
        (waiting, left), (older, used) = queue, earlier
        free = np.maximum(batch.places.free(batch.max_running, older, used), 0.0)
        running, came = older, np.zeros_like(older)
        for _ in range(_FIRST_PASSES):
            held, stretch = batch.places.crowding(batch.max_running, running - older, used)
            step = batch.curve.at(np.maximum(running / stretch, 1.0)) * stretch
            between, met = first.between(rate, step, running), self.width * step
            decoding = met * any_running(running, np.maximum(entered + came, 1.0))
            would = np.maximum(between.prompts * between.steps * decoding / step, TINY)
            able = waiting + np.minimum(would, left - waiting)
            came = np.minimum(able, free)
            fresh, full = np.maximum(came - waiting, 0.0), able > free + SAME * batch.max_running
            over = np.where(full, 1.0, fresh / would * fresh / np.maximum(came, TINY))
            running = older + came * ((1.0 - over) * self.shares[0] + over * self.shares[1])
        steps = prefill_steps(came - fresh, first.most, self.width, at_once=~full | self.lockstep)
        prompts = first.seconds(came - fresh, steps, running) + fresh / between.prompts * between.seconds
        group = prompts / np.maximum(fresh / between.prompts + steps, 1.0)
        zero = np.zeros_like(prompts)
        filling = (prompts + group) / 2.0
        most = np.maximum(first.most, 1.0) + zero
        return Work(
            *(came, over, running, met, decoding, prompts, zero, group, filling, able - came, held, stretch),
            *(zero, most),
        )


def prompts_between(batch: OfflineBatch, step: Array) -> Array | float:
    """Return the seconds of prompts that go first between two decode steps of `step` seconds, as they arrive, (N,)."""
    if batch.first is None:
        return 0.0
    return batch.first.between(1.0 / np.asarray(batch.gap), step, batch.max_running).delay


def prefill_steps(came: Array, per_step: Array, width: Array, *, at_once: Mask) -> Array:
    """Count the decode steps of a cell that also carry prompts. (N,)

    Args:
        came: prompts of the cell, (N,).
        per_step: prompts that fill a step, below 1 for prompts of several steps, (N,).
        width: decode steps of the cell, (N,).
        at_once: whether prompts come together and go in full groups; else they come one by one, each in steps of its
            own while the cell has them, (N,).
    """
    together = np.maximum(came / per_step, np.minimum(came, 1.0))
    return np.where(at_once, together, clipped(width, together, np.maximum(came, together)))


def any_running(running: Array, entered: Array) -> Array:
    """Return the probability that at least one sequence runs. (N,)

    `entered` sequences were admitted, and `running` of them run on average, independently of one another.
    """
    return np.asarray(-np.expm1(entered * np.log1p(-np.minimum(running / entered, _ALMOST_ONE))))
