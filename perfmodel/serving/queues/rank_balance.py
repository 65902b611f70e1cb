"""Prompts that an engine holds back until each rank of attention data parallelism has one.

A step of prompts takes as long as that of its fullest rank, so that prompts which enter together cost as much as one.
Engines hold the first of them until the others have come, for at most some steps (SGLang's prefill delayer,
sgl-project/sglang pull 23588, 2026-04; TensorRT-LLM, `AttentionDpConfig.enable_balance` and `timeout_iters`).
"""

from __future__ import annotations

import numpy as np

from perfmodel.arrays import Array
from perfmodel.serving.limits import TINY
from perfmodel.serving.queues.queueing import prompts_per_step


def held_together(prompts: Array, longest: Array | float, coming: Array | float, during: Array | float = 0.0) -> Array:
    """Return how many of `prompts`, (N,), begin together that an engine holds back until so many wait.

    Derived: the first of them waits for at most `longest` steps, NaN without a limit, in each of which `coming`, (N,),
    more come. Before that `during`, (N,), have come on average while the prompts before them were computed; where none
    has, with the chance exp(-during), the first comes later.
    """
    most = longest * coming + during + np.exp(-np.asarray(during))
    return np.asarray(np.fmin(prompts, most))  # of a NaN and a number, the number


def entering_together(decoding: Array, answer: Array, held: tuple[Array, Array | float], most: Array) -> Array:
    """Return the mean prompts of the steps that have any, while `decoding` sequences decode, (N,).

    answer: decode steps of a request, (N,). held: prompts that are held back for each other, and most steps that the
    first of them waits. most: most prompts of a step, (N,).
    """
    least = held_together(*held, decoding / answer)
    return prompts_per_step(decoding, answer, least, most)


def held_wait(prompts: Array, longest: Array | float, step: Array, rate: Array) -> Array:
    """Return the mean seconds that a prompt is held back until `prompts`, (N,), have come or the first waits too long.

    Derived: each of g prompts waits for those that come after it, (g - 1) / 2 on average. Or the first waits for D
    seconds, in which rate x D others come, who wait for half of that on average.

    longest: steps that D lasts, NaN without a limit. step: seconds of each, (N,). rate: prompts/s, (N,).
    """
    rate = np.maximum(rate, TINY)
    full, seconds = (prompts - 1.0) / 2.0 / rate, longest * step
    return np.asarray(np.fmin(full, seconds / 2.0 * (1.0 + 1.0 / (1.0 + rate * seconds))))


def held_share(held: Array, wait: Array) -> Array:
    """Return the share of requests that wait uniformly, from nothing to twice the mean, as prompts are held back, (N,).

    Derived: prompts that come at random until all enter together wait uniformly. A request waits for a step as well;
    the law of the sum is taken to be that uniform one for as large a share as the hold is of the mean wait.

    held: mean seconds that prompts are held back. wait: mean seconds of the whole wait, (N,) each.
    """
    return np.asarray(np.minimum(held / np.maximum(wait, held + TINY), 1.0))
