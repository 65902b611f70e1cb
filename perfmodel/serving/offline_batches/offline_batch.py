"""An offline batch: requests that are all queued at the start."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np

from perfmodel.arrays import Array, clipped
from perfmodel.serving.limits import TINY
from perfmodel.serving.offline_batches.output_ages import OutputLengths
from perfmodel.serving.queues.variation import MARKOV, Variation
from perfmodel.serving.step_times.curve import DecodeCurve
from perfmodel.serving.step_times.mixed_steps import MixedSteps
from perfmodel.serving.step_times.planned_step import prefill_budget
from perfmodel.serving.step_times.prefills import WholePrompts

#: Prompts per step from which each step takes the fixed part of a `PrefillLine` anew. Chosen: fewer are cut, and the
#: next one fills what is left of a step, so that prompts that queue are one stream of tokens.
STREAM = 2.0


@dataclass(frozen=True)
class PrefillLine:
    """Give the time that g prompts add to the decode steps that they share: fixed + g each seconds, (N,) both.

    fixed: of a step where several prompts fill one, else of a stream of prompts that queue.
    """

    fixed: Array
    each: Array


@dataclass(frozen=True)
class PrefillCost:
    """State what prefills cost on top of the decode steps that they are computed with. (N,)

    few, full: of a step with one decoding sequence, and of one with `running` of them. prompt: tokens per prompt.
    budget: tokens per step. separate: whether prompts take steps of their own (prefill first) rather than being mixed
    with decodes. whole: where a step computes whole prompts. alone: seconds per prompt of full groups with no decode
    beside them, which is the least that any step's share of it takes.
    """

    few: PrefillLine
    full: PrefillLine
    running: Array
    prompt: Array
    budget: Array
    separate: bool
    whole: WholePrompts
    alone: Array | float = 0.0

    def per_step(self, decodes: Array) -> Array:
        """Return the prompts of a step beside `decodes` sequences, below 1 for prompts of several steps, (N,)."""
        left = prefill_budget(self.budget, 0.0 if self.separate else decodes)
        return self.whole.of(left / self.prompt)

    def seconds(self, came: Array, steps: Array, running: Array, curve: DecodeCurve, *, at_once: Array) -> Array:
        """Return the seconds that `came` prompts in `steps` steps add while `running` sequences decode, (N,) each.

        Derived: the time of a step that prompts fill grows as a line with the sequences that decode in it, from that
        with one to that with `self.running` of them; what prompts add is the rest beyond a decode step. curve: time of
        decode steps. at_once: share of the prompts that queue, (N,): those of several steps share steps with the next.
        """
        part = clipped((running - 1.0) / np.maximum(self.running - 1.0, 1.0), 0.0, 1.0)
        fixed = self.few.fixed + part * (self.full.fixed - self.few.fixed)
        each = self.few.each + part * (self.full.each - self.few.each)
        if self.separate:  # whole prompts, one after the other where they fill a step
            return np.asarray(steps * fixed + came * each)
        stream = np.where((self.budget < STREAM * self.prompt) & ~self.whole.uncut, at_once, 0.0)
        begun = np.where(self.budget < self.prompt, came, steps)
        begun = begun + stream * (np.minimum(came, 1.0) - begun)
        added = begun * fixed + came * each
        chord = curve.time[0] + part * (curve.at(self.running) - curve.time[0])
        spared = chord - curve.at(clipped(running, 1.0, self.running))
        return np.asarray(np.maximum(added + steps * spared, 0.0))


@dataclass(frozen=True)
class SteadyState:
    """Describe the middle of a long batch, (N,).

    request_gap: seconds between completions. tpot: seconds per decode step. running: decoding sequences. step: seconds
    of a decode step without prompts.
    """

    request_gap: Array
    tpot: Array
    running: Array
    step: Array

    def no_faster(self, gap: Array) -> SteadyState:
        """Return this state with at least `gap` seconds (N,) between completions."""
        return replace(self, request_gap=np.maximum(self.request_gap, gap))


@dataclass(frozen=True)
class Places:
    """State what a sequence holds of the KV cache, in sequences of mean length, (N,) each.

    young: one whose prompt has been computed. growth: what each decode step adds. most: sequences that run at once,
    however young. By default a sequence holds one place from first to last.
    """

    young: Array | float = 1.0
    growth: Array | float = 0.0
    most: Array | float = np.inf

    def free(self, room: Array, running: Array, used: Array) -> Array:
        """Return the young sequences that fit beside `running` ones, which hold `used` of `room` places, (N,) each."""
        return np.asarray(np.minimum((room - used) / self.young, self.most - running))

    def crowding(self, room: Array, came: Array, used: Array) -> tuple[Array, Array]:
        """Return (places held, how much longer a token takes as each pauses in turn where that is too much), (N,) each.

        came: young sequences beside those that hold `used` of `room` places, (N,).
        """
        held = used + came * self.young
        return held, np.maximum(held / room, 1.0)


@dataclass(frozen=True)
class OfflineBatch:
    """Describe requests that are all queued at the start, on each of N candidates.

    count: requests, (N,). max_running: sequences that run at once, (N,). outputs: output lengths in decode steps.
    curve: time of a decode step with up to `max_running` sequences. gap: seconds between the arrivals of two requests,
    0 where all are queued at the start, (N,). variation: of these gaps and of the answers. first: steps of prompts that
    arrive and go before decodes, None where all are queued at the start or share steps with decodes. places: what a
    sequence holds of the KV cache, in sequences of mean length.
    """

    count: Array
    max_running: Array
    outputs: OutputLengths
    curve: DecodeCurve
    prefill: PrefillCost
    steady: SteadyState
    gap: Array | float = 0.0
    variation: Variation = MARKOV
    first: MixedSteps | None = None
    places: Places = field(default_factory=Places)

    @property
    def spread(self) -> Array:
        """Return how far apart the answers of a full batch begin, as a part of an answer, 0 to 1, (N,)."""
        mean = np.sum(self.outputs.mean * self.outputs.share, axis=0)
        answer = np.maximum(mean * self.curve.at(self.max_running), TINY)
        return np.asarray(np.minimum(self.max_running * np.asarray(self.gap) / answer, 1.0))
