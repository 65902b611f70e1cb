"""Delays of a request that decodes: prompts that arrived behind its own, and the rest of its burst."""

from __future__ import annotations

import numpy as np

from perfmodel import equations as eq
from perfmodel.arrays import Array, clipped
from perfmodel.serving.limits import MAX_UTILISATION, TINY
from perfmodel.serving.open_loops.open_waits import Point, Replica
from perfmodel.workload import POISSON_CV


def interrupted(replica: Replica, point: Point, rate: Array, queued: tuple[Array, Array]) -> tuple[Array, Array]:
    """Return how prompts of others delay the decodes of a request, (N,) each.

    They are the share of time in which decodes stand still because prompts are computed, and the seconds that prompts
    take which arrived after that of the request. Where prompts are computed before decodes, steps of prompts follow the
    request's own until one meets no arrival, and no fewer than these prompts fill.

    rate: requests/s, (N,). queued: prompts that wait behind that of the request, and the rest of its burst, (N,) each.
    """
    (alone, rest), each, mixed = queued, point.prefill.interference, replica.mixed
    burst = lost_to_burst(replica, point, rest)
    if not mixed.separate:
        share = np.minimum(rate * each, MAX_UTILISATION)
        return share, _met(replica, point, (alone, share)) + burst / (1.0 - share)
    seconds = replica.load.mean(point.prefill.shared)
    between = mixed.between(rate, point.decode.wall, point.seen)
    delay = between.steps * seconds
    per_prompt = mixed.per_prompt(point.seen)
    full = alone * per_prompt / (1.0 - np.minimum(rate * per_prompt, MAX_UTILISATION))
    behind = np.maximum((between.behind - between.steps) * seconds, full) + burst * (1.0 + delay / point.step)
    return delay / (point.step + delay), behind


def _met(replica: Replica, point: Point, queued: tuple[Array, Array]) -> Array:
    """Return the seconds that prompts behind its own take from a request in steps that both share, (N,).

    Derived: one of them comes with the chance 1 - exp(-mean), and the time that they and those after them take is then
    exponential, with the mean x. A request makes a token per step, so that it meets no more of that than its steps
    get longer by, r, where all of them hold prompts: x (1 - exp(-r / x)). queued: mean number of prompts behind its
    own, and the share of time that prompts take from decodes, (N,) each.
    """
    (alone, share), load = queued, replica.load
    chance = np.maximum(-np.expm1(-alone), TINY)
    taken = np.maximum(alone * point.prefill.interference / (1.0 - share) / chance, TINY)
    steps = replica.later_tokens / load.accepted
    room = steps * np.maximum(point.prefill.mixed_step - point.step / (1.0 - share), 0.0)
    return np.asarray(chance * taken * -np.expm1(-room / taken))


def settling_share(alone: Array, rest: Array) -> Array:
    """Return the share of requests that prompts behind them delay, (N,); the delay is uniform from 0 to twice its mean.

    Derived: two numbers of prompts add up. One is Poisson with mean `alone`: single requests that arrive meanwhile. The
    other is geometric with mean `rest` and variance rest (1 + rest): requests behind it in its own burst. The share is
    chosen so that the uniform law has the same variance over squared mean, 4 / (3 share) - 1.
    """
    behind = np.maximum(alone + rest, TINY)
    even = 4.0 / (3.0 * np.maximum(-np.expm1(-alone), TINY)) - 1.0
    varied = (np.square(alone) * even + rest * (1.0 + rest)) / np.square(behind)
    return np.where(rest > 0.0, 4.0 / (3.0 * (1.0 + varied)), -np.expm1(-alone))


def rest_of_burst(replica: Replica, arriving: Array) -> Array:
    """Return how many requests arrive within the residence of one beyond the mean number `arriving`, (N,).

    It is 0 where the gaps between arrivals vary no more than those of a Poisson process.
    """
    gaps = np.maximum(replica.variation.bursts, POISSON_CV)
    return np.asarray(eq.peakedness(arriving, gaps) - 1.0)


def lost_to_burst(replica: Replica, point: Point, rest: Array) -> Array:
    """Return the seconds that the rest of its burst, `rest` prompts, (N,), adds to the answer of a request, (N,).

    Derived: these prompts come one by one, each in a step of its own, but a short output has few steps left, which hold
    no more than all of these prompts at once. Where prompts are computed before decodes, prompts that arrive while
    others are computed share a step.
    """
    lost = np.asarray(rest * point.prefill.interference)
    if not np.any(rest > 0.0):
        return lost
    group = clipped(rest, point.entering, np.maximum(replica.mixed.most, point.entering))
    together = np.maximum(rest, group) * replica.mixed.added(point.decode.wall, group, point.seen)
    steps = 1.0 if replica.mixed.separate else np.maximum(replica.later_tokens / replica.load.accepted, 1.0)
    return np.asarray(np.minimum(lost, steps * together))
