"""An offline batch: requests that are all queued at the start."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from perfmodel.arrays import Array
from perfmodel.serving.curve import DecodeCurve
from perfmodel.serving.output_ages import OutputLengths


@dataclass(frozen=True)
class PrefillLine:
    """Give the time that g prompts add to the decode step that they share: fixed + g each seconds, (N,) both."""

    fixed: Array
    each: Array


@dataclass(frozen=True)
class PrefillCost:
    """State what prefills cost on top of the decode steps that they are computed with. (N,)

    few, full: of a step with one decoding sequence, and of one with `running` of them. prompt: tokens per prompt.
    budget: tokens per step. separate: whether prompts take steps of their own (prefill first) rather than being mixed
    with decodes.
    """

    few: PrefillLine
    full: PrefillLine
    running: Array
    prompt: Array
    budget: Array
    separate: bool

    def at(self, running: Array) -> PrefillLine:
        """Interpolate the time that prompts add while `running` (N,) sequences decode.

        A step that prompts fill takes about as long however few decodes it carries, so that prompts add more to a short
        decode step than to a long one.
        """
        part = np.clip((running - 1.0) / np.maximum(self.running - 1.0, 1.0), 0.0, 1.0)
        few, full = self.few, self.full
        return PrefillLine(
            fixed=few.fixed + part * (full.fixed - few.fixed), each=few.each + part * (full.each - few.each)
        )


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


@dataclass(frozen=True)
class OfflineBatch:
    """Describe requests that are all queued at the start, on each of N candidates.

    count: requests, (N,). max_running: sequences that run at once, (N,). outputs: output lengths in decode steps.
    curve: time of a decode step with up to `max_running` sequences.
    """

    count: Array
    max_running: Array
    outputs: OutputLengths
    curve: DecodeCurve
    prefill: PrefillCost
    steady: SteadyState
