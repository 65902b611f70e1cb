"""Waits of a closed loop whose prompts share steps with decodes, and whose sequences start and end independently."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from perfmodel import equations as eq
from perfmodel.arrays import Array
from perfmodel.serving.limits import MAX_RUNNING, TINY
from perfmodel.serving.step_times.prefills import PrefillTimes, held_beside
from perfmodel.serving.step_times.steps import StepModel
from perfmodel.workload import Load


@dataclass(frozen=True)
class SharedSteps:
    """Describe the steps that prompts and decodes of a closed loop share, (N,).

    decode, full: seconds of a step without prompts, and with as many as it holds. steps, seconds: number of the steps
    with prompts per prompt, and what they take, where prompts enter as answers end. abreast: prompts that a full step
    holds, below 1 for prompts of several steps. at_once: prompts that are under way in a full step. prompt_cv:
    coefficient of variation of prefill times. running: sequences in the loop. others: share of them whose prompts a
    request waits for. beside: chance that any other runs. front: seconds between the end of an answer, which ends with
    a step, and the arrival of its client's next request at the scheduler.
    """

    decode: Array
    full: Array
    steps: Array
    seconds: Array
    abreast: Array
    at_once: Array
    prompt_cv: Array
    running: Array
    others: Array
    beside: Array
    front: Array

    def wait(self, rate: Array) -> Array:
        """Return the mean seconds until a step computes an arriving prompt, (N,). rate: prompts/s that enter, (N,)."""
        return self.ahead(rate) + self.residual(rate)

    def _decodes(self, rate: Array) -> Array:
        """Return the number of steps without prompts per prompt, (N,): they take the time that prompts leave."""
        return np.asarray(np.maximum(1.0 / np.maximum(rate, TINY) - self.seconds, 0.0) / self.decode)

    def mean_step(self, rate: Array) -> Array:
        """Return the mean seconds of a step, (N,). rate: prompts/s that enter, (N,)."""
        decodes = self._decodes(rate)
        return np.asarray((self.seconds + decodes * self.decode) / (self.steps + decodes))

    def loaded(self, rate: Array) -> Array:
        """Return the prompts of others that enter a step over those that it holds, below 1, (N,).

        A sequence makes a token per step, so that as many answers end per step, and as many prompts enter the next,
        however long steps are: the queue of prompts is one in steps, not in seconds. rate: prompts/s, (N,).
        """
        entering = self.others / (self.steps + self._decodes(rate))
        return np.minimum(entering / self.abreast, 1.0 - TINY)

    def ahead(self, rate: Array) -> Array:
        """Return the mean seconds that a prompt waits for a later step because others fill the next, (N,).

        Derived: the prompts left over after a step are those before it plus those that entered, less the c that a step
        holds. The number of customers of an M/D/c queue follows the same law from one service time to the next
        (Crommelin, P.O. Elec. Eng. J. 25, 1932), so that the wait is that of M/D/c with steps as service times; with
        prompts of several steps, of M/D/1. Seen by one of N clients, a queue holds (N - 1) / N of what it holds on
        average (Bard 1979; Schweitzer 1979), and never more than the prompts of all others. rate: prompts/s, (N,).
        """
        each = self.full / self.abreast
        queued = eq.queue_wait(self.loaded(rate), each * self.at_once, 1.0, self.prompt_cv, self.at_once)
        return np.asarray(self.others * np.minimum(queued, np.maximum(self.running - 1.0, 0.0) * each))

    def chance_of_ahead(self, rate: Array) -> Array:
        """Return the share of prompts that wait for a later step, (N,), as in `ahead`."""
        return np.minimum(eq.all_busy(self.loaded(rate), self.at_once), 1.0)

    def residual(self, rate: Array) -> Array:
        """Return the mean seconds until the step ends that runs when a request arrives, (N,).

        Derived: requests follow the end of a step by the time in the front end. Steps that are longer than twice that
        have all the rest of it to go; of shorter ones, of which several may pass, half is left on average. A request
        meets a step with prompts as often as such steps take of the time. rate: prompts/s, (N,).
        """
        busy, mixed = np.minimum(rate * self.seconds, 1.0), self.seconds / self.steps
        return np.asarray(self.beside * (busy * self._left(mixed) + (1.0 - busy) * self._left(self.decode)))

    def _left(self, step: Array) -> Array:
        """Return the mean seconds that are left of a step of `step` seconds when a request arrives, (N,)."""
        return np.maximum(step / 2.0, step - self.front)


def shared_steps(
    steps: StepModel,
    load: Load,
    prefills: tuple[PrefillTimes, PrefillTimes],
    columns: tuple[Array, Array, Array, Array],
    met: tuple[Array, Array],
) -> SharedSteps:
    """Describe the steps of a closed loop that prompts share with decodes.

    Args:
        steps: computes cost and time of steps.
        load: load of one replica.
        prefills: times of prompts that enter as answers end, and of those that fill a step.
        columns: seconds of a decode step, sequences in the loop, prompts that enter as answers end, and sequences that
            can decode at once, (N,) each.
        met: share of the sequences whose prompts a request waits for, and chance that any other runs, (N,) each.
    """
    (apart, grouped), (decode, running, entering, decoding) = prefills, columns
    # a step without a token budget holds all
    abreast = np.minimum(held_beside(steps, load, np.maximum(decoding - 1.0, 0.0)), MAX_RUNNING)
    mixed = np.maximum(apart.mean_step, decode)
    seconds = load.mean(apart.shared) / entering
    return SharedSteps(
        decode=decode,
        full=np.maximum(grouped.mixed_step, mixed),
        steps=seconds / mixed,
        seconds=seconds,
        abreast=abreast,
        at_once=np.maximum(abreast, steps.sharding.dp),
        prompt_cv=apart.cv(load),
        running=running,
        others=met[0],
        beside=met[1],
        front=load.mean(steps.request_time(load.input)),
    )
