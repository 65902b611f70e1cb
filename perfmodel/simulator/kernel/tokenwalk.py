"""A walk over all tokens of a simulation that scores each request against a reader's expectations; compiled."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from perfmodel.simulator.kernel.jit import inner
from perfmodel.simulator.kernel.steptime import run_end


@inner
def _meet_deadline(
    wait: float, due: float, token: float, score: tuple[float, float, float]
) -> tuple[float, float, float]:
    """Count one token against its deadline by algorithm 1 of Metron (arXiv:2407.07000).

    The token came `wait` seconds after the one before and was due after `due` seconds plus slack; later tokens are due
    every `token` seconds. score: slack (s) that early tokens have left, deadlines met, deadlines missed; returned
    updated.
    """
    slack, met, missed = score
    if wait <= due + slack:
        return slack + (due - wait), met + 1.0, missed
    # a late token misses every deadline that has passed; later deadlines start anew from it
    return 0.0, met, missed + (np.floor((wait - slack - due) / token) + 1.0)


@inner
def _quality(digested: float, area: float, count: int, ttft: float, token: float) -> float:
    """QoE of Andes (arXiv:2404.16283): tokens digested over time divided by tokens expected over time, at most 1.

    digested: when the reader digests the last of `count` tokens; area: the sum of these times over all tokens.
    """
    end = digested + token
    due = min(float(count), max(np.ceil((end - ttft) / token), 0.0))
    expected = due * (end - ttft) - token * due * (due - 1.0) / 2.0
    return min(1.0, (count * end - area) / expected) if expected > 0 else 1.0


@inner
def _score_request(
    r: int, issued: float, first: float, line: Any, reader: tuple[float, float]
) -> tuple[float, float, float]:
    """Fluidity index, quality of experience and longest gap between tokens (s) of request r.

    line: `perfmodel.simulator.measurement.tokens.Timeline`; reader: expected seconds to the first token, and per
    further token.
    """
    ttft, token = reader
    last = first - issued
    slack, met, missed = _meet_deadline(last, ttft, token, (0.0, 0.0, 0.0))
    digested, area, count, longest = last, last, 1, 0.0
    for k in range(line.begin[r], line.begin[r + 1]):
        run, step, left = line.run[k], 0, line.tokens[k]
        resumed = line.made[k] > count  # a prefill after a preemption made a token before those of decode steps
        while left > 0 or resumed:
            if resumed:
                resumed = False
                time = line.time[k] - issued
            else:
                if step == line.steps[run]:
                    run += 1
                    step = 0
                step += 1
                left -= 1
                time = run_end(line.start[run], line.step[run], line.slope[run], step) - issued
            slack, met, missed = _meet_deadline(time - last, token, token, (slack, met, missed))
            longest, last = max(longest, time - last), time
            digested = max(time, digested + token)  # the reader digests at most one token every `token` seconds
            area += digested
            count += 1
    return met / (met + missed), _quality(digested, area, count, ttft, token), longest


@inner
def walk(issued: Any, first: Any, line: Any, reader: tuple[float, float], scores: Any) -> None:
    """Fill `scores` (3, R) for the requests that got a first token; arguments as in `_score_request`."""
    for r in range(len(issued)):
        if not math.isnan(first[r]):
            scores[0, r], scores[1, r], scores[2, r] = _score_request(r, issued[r], first[r], line, reader)


def cached(fingerprint: int) -> Callable[[Any, Any, Any, tuple[float, float], Any], None]:
    """`walk` for numba's cache on disk; `fingerprint` as in `perfmodel.simulator.kernel.core.cached`."""

    def walk_cached(issued: Any, first: Any, line: Any, reader: tuple[float, float], scores: Any) -> None:
        if fingerprint >= 0:  # always true; it keeps the fingerprint a part of the function
            walk(issued, first, line, reader, scores)

    return walk_cached
