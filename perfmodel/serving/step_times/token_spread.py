"""How times per output token differ between requests: the longest delay by prompts, and the drift of the batch."""

from __future__ import annotations

import numpy as np

from perfmodel.arrays import Array
from perfmodel.serving.step_times.prefills import PrefillTimes, held_beside
from perfmodel.serving.step_times.steps import StepModel
from perfmodel.workload import Load

#: Least d ln(completions) / d ln(running sequences) of the drift. Chosen: below it the replica is at its capacity.
_LEAST_DEATHS = 0.05
#: Least number of prompts that may come between two tokens where nothing bounds it. Chosen: two can come at once.
_LEAST_WAITING = 2.0


def longest_delay(steps: StepModel, load: Load, decode: Array, prefill: PrefillTimes) -> Array:
    """Return the most seconds per output token that prompts add to a request, (N,).

    Where prompts share steps with decodes, every gap is at most a step full of prompts. Where they go first, a gap
    holds all that queue. decode: seconds of a decode step, (N,).
    """
    if not steps.engine.mixes_prefill:
        return np.full_like(decode, np.inf)
    return np.asarray(np.maximum(prefill.mixed_step - decode, 0.0) / load.accepted)


def drift_of(elastic: Array, running: Array, peak: Array) -> Array:
    """Return the standard deviation over mean of the time per token as the number of running sequences drifts, (N,).

    The time per token follows from the number (`spread_of`) by its elasticity; arguments as there.
    """
    return np.asarray(elastic * np.sqrt(spread_of(elastic, running, peak)))


def spread_of(elastic: Array, running: Array, peak: Array) -> Array:
    """Return the variance over squared mean of the running sequences that a request sees over its residence, (N,).

    Derived: the running sequences are a birth-death process with x = d ln(deaths) / d ln(number) = 1 - elastic.
    So its variance is `peak` times mean / x, and its autocorrelation decays at the rate x / residence. A request sees
    the mean over its own residence, whose variance is 2 (x - 1 + exp(-x)) / x^2 of the variance at one moment.

    elastic: d ln(seconds per token) / d ln(running sequences), 0 to below 1, (N,). running: mean number, (N,).
    peak: variance over mean of the number where all are served alike (`equations.peakedness`), (N,).
    """
    x = np.maximum(1.0 - elastic, _LEAST_DEATHS)
    seen = 2.0 * (x + np.expm1(-x)) / np.square(x)
    return np.asarray(seen * peak / (np.maximum(running, 1.0) * x))


def longest_gap(steps: StepModel, load: Load, running: Array, times: tuple[Array, Array, Array]) -> Array:
    """Return the longest gap between tokens, seconds, (N,): a decode step and as many prompts as can come between.

    Where prompts share steps with decodes, these are the prompts that the token budget holds beside them; where they go
    first, or no budget bounds a step, all that can wait, those of all other sequences, but two at least.

    Args:
        steps: computes cost and time of steps.
        load: load of one replica.
        running: sequences in the batch, (N,).
        times: seconds of a decode step, of one with prompts, and what a prompt adds to the former, (N,) each.
    """
    decode, mixed, each = times
    waiting = np.maximum(running - 1.0, _LEAST_WAITING)
    bounded = np.isfinite(steps.token_budget) & steps.engine.mixes_prefill
    held = held_beside(steps, load, np.maximum(running - 1.0, 0.0))
    return np.asarray(np.maximum(mixed, decode + each * np.where(bounded, held, waiting)))
