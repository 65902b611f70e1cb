"""Compute what a request meets where a program runs the engine in its own process."""

from __future__ import annotations

import numpy as np

from perfmodel.arrays import Array
from perfmodel.serving.step_times.steps import StepModel
from perfmodel.workload import Load


def handed_on(behind: Array, steps: tuple[Array, Array], *, late: bool) -> Array:
    """Return the mean seconds from the step that makes a token until a client gets it, (N,).

    Derived: an engine that processes the tokens of a step while the next one runs (vLLM pull request 7049, 2024-08, the
    asynchronous output processor) gives them to clients of its own process when that step ends, for the process waits
    for it. Where prompts are computed before decodes, the next step is of prompts if any came meanwhile.

    Args:
        behind: mean number of prompts that came while the token was made, (N,); 0 where prompts share steps.
        steps: seconds of a step of decodes and of one of prompts, (N,) each.
        late: whether the engine does so.
    """
    decode, prompts = steps
    if not late:
        return np.zeros_like(decode)
    return np.asarray(prompts + np.exp(-behind) * (decode - prompts))


def between_steps(steps: StepModel, load: Load) -> Array:
    """Return the share of a closed loop's requests that come while a step runs, (N,).

    Derived: 0 where answers are handed on when a step ends and a request needs no time before the next one begins.
    """
    front = load.mean(steps.request_time(load.input))
    return np.where(steps.engine.hands_on_late & (front <= 0.0), 0.0, 1.0)
