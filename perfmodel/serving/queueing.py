"""Waiting for room: a replica serves all it holds at once, and holds only so many."""

from __future__ import annotations

import numpy as np

from perfmodel.arrays import Array, interpolate

#: A prompt is sent back no more often than this, however long answers are beside it.
_MOST_AGAIN = 4.0
#: Cells between nothing and all the room; more of them change no wait by 1 %.
_CELLS = 32


def room_wait(rate: Array, knots: Array, served: Array, room: Array, variability: Array | float = 1.0) -> Array:
    """Mean seconds that requests coming at `rate` wait for one of `room` places. (N,); infinite at or beyond capacity.

    knots, served: (K, N) requests in service up to `room`, and requests/s that end with so many. variability:
    (c_a^2 + c_s^2) / 2 of gaps between arrivals and of lengths. Limited processor sharing as a birth-death process
    (Avi-Itzhak & Heyman, Oper. Res. 21(4), 1973); M/M/c where each in service ends at its own rate. The queue
    behind is scaled as in M/G/c (Allen-Cunneen).
    """
    width = room / _CELLS
    chance = np.zeros_like(room)  # log, of so many in service, against none
    chances = [chance]
    for cell in range(_CELLS):
        at = (cell + 0.5) * width + 0.5
        chance = chance + width * np.log(rate / np.maximum(interpolate_rate(knots, served, at), 1e-300))
        chances.append(chance)
    logs = np.stack(chances)
    top = logs.max(axis=0)
    states = np.exp(logs - top)
    # the sum over whole numbers, as an integral with half a state at either end
    inside = width * (states.sum(axis=0) - 0.5 * (states[0] + states[-1])) + 0.5 * (states[0] + states[-1])
    busy = rate / served[-1]
    with np.errstate(divide="ignore", invalid="ignore"):
        behind = states[-1] * busy / (1.0 - busy)
        wait = behind / (inside + behind) / (1.0 - busy) / rate * variability
    return np.where(busy < 1.0, wait, np.inf)


def walk_wait(rate: Array, count: Array, varied: Array) -> Array:
    """Mean seconds of waiting that `count` requests at `rate` can build up by chance alone. (N,)

    At full load the queue is a random walk held above zero: after k requests it is sqrt(2 v k / pi) long on average,
    two thirds of its end over the run; v: c_a^2 + c_s^2 of gaps and lengths. A short run ends before a queue near full
    load has grown to its steady length; a run without end builds up whatever is steady (infinite here).
    """
    ended = np.where(np.isfinite(count), np.maximum(count, 0.0), 0.0)
    return np.where(np.isfinite(count), np.sqrt(2.0 * varied * ended / np.pi) * 2.0 / 3.0 / rate, np.inf)


def interpolate_rate(knots: Array, served: Array, at: Array) -> Array:
    """Requests/s that end with `at` in service; below the first knot in proportion. (N,)"""
    return interpolate(knots, served, at) * np.minimum(at / knots[0], 1.0)


def sent_back(prompt: Array, answer: Array, kept: Array) -> Array:
    """Times that a request is sent back and its prompt computed again, where KV blocks are given as sequences grow,
    all room is taken and requests wait for it. (N,)

    prompt, answer: mean tokens; kept: tokens kept free at admission. Between two ends the others grow by an
    exponential number of tokens of mean `answer`; an end makes room for prompts until less than one and `kept` are
    free, evenly between; what growth lacks is taken from the newest, a prompt each (PagedAttention, arXiv:2309.06180,
    section 4.5).
    """
    lacking = np.square(answer / prompt) * np.exp(-kept / answer) * -np.expm1(-prompt / answer)
    return np.minimum(lacking, _MOST_AGAIN)
