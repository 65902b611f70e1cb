"""An offline batch: requests that are all queued at the start."""

from __future__ import annotations

from dataclasses import dataclass

from perfmodel.arrays import Array
from perfmodel.serving.curve import DecodeCurve
from perfmodel.serving.output_ages import OutputLengths


@dataclass(frozen=True)
class PrefillCost:
    """State what prefills cost on top of the decode steps that they are computed with. (N,)

    fixed: seconds per step that carries prompts. each: seconds per prompt. prompt: tokens per prompt. budget: tokens
    per step. separate: whether prompts take steps of their own (prefill first) rather than being mixed with decodes.
    """

    fixed: Array
    each: Array
    prompt: Array
    budget: Array
    separate: bool


@dataclass(frozen=True)
class SteadyState:
    """Describe the middle of a long batch. request_gap: seconds between completions; tpot: seconds per decode step.

    (N,)
    """

    request_gap: Array
    tpot: Array


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
