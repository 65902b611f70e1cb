"""A finite run of requests that arrive at a rate, in a pool of decode workers: how many decode, and what they wait for.

A run of n requests never has more than n in the pool, however long they stay: benchmarks of a hundred requests at
several per second end long before the pool is in equilibrium.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from perfmodel.arrays import Array
from perfmodel.serving import SATURATED_SHARE, TINY, DecodeCurve, rising_root

#: Least sequences that are searched from.
_LEAST_MET = 1e-6


@dataclass(frozen=True)
class PoolRun:
    """Describe the requests of a run that go to one decode worker. Fields are (N,); infinite counts: no end.

    count: how many. rate: requests/s at which they come to the pool. later_tokens: mean output tokens after the first.
    max_running: sequences that the worker has room for.
    """

    count: Array
    rate: Array
    later_tokens: Array
    max_running: Array

    def running(self, curve: DecodeCurve, steady: Array) -> Array:
        """Return the sequences that a request meets on average while it decodes, itself included, (N,).

        It solves running = count x share met(later tokens x token time(running)).

        curve: seconds per output token. steady: sequences in a run without end, which no finite run has more of, (N,).
        """
        finite = np.isfinite(self.count)
        count = np.where(finite, self.count, 1.0)
        spread = count / np.maximum(self.rate, TINY)

        def ratio(running: Array) -> Array:
            stay = self.later_tokens * curve.at(np.minimum(running, self.max_running))
            return np.asarray(running / np.maximum(count * share_met(stay, spread), TINY))

        most = np.maximum(np.minimum(count, self.max_running), 2.0 * _LEAST_MET)
        found = rising_root(np.full_like(most, _LEAST_MET), most, ratio)
        return np.where(finite, np.minimum(found, steady), steady)


def share_met(stay: Array, spread: Array) -> Array:
    """Return the mean share of a run's requests that one of them meets at a time, (N,).

    Derived: two requests that arrive evenly within `spread` seconds and stay for `stay` are in the pool together for
    max(0, stay - d), d apart; d has the density 2 (spread - d) / spread^2. Divided by `stay` the mean over both is
    1 - spread / (3 stay) where all stay longer than they take to arrive, and s (1 - s / 3) with s = stay / spread else.
    """
    brief = np.minimum(stay / np.maximum(spread, TINY), 1.0)
    return np.where(stay >= spread, 1.0 - spread / (3.0 * np.maximum(stay, TINY)), brief * (1.0 - brief / 3.0))


class Queued(NamedTuple):
    """Say what requests of a run wait for because more arrive than are served, seconds, (N,) each.

    mean: what one waits on average. begun: from the first arrival until the last request is served.
    """

    mean: Array
    begun: Array


def waits_of_run(count: Array, rates: tuple[Array, Array, Array], room: Array) -> Queued:
    """Return what requests of a run wait for: prefill, and room in the decode pool.

    Derived: the k-th of n requests waits for prefill (k - 1) times what one takes longer than it takes to arrive. Room
    it finds when one that came `room` before it has ended: the pool fills floor((k - 1) / room) times before, and each
    time a request waits for `room` times what one takes longer to leave than to come.

    count: requests, (N,), infinite for a run without end, whose wait is. rates: requests/s that arrive, of those what
    prefill and links let through, and of these what the pools serve without end, (N,) each. room: requests that the
    decode pool holds, (N,).
    """
    finite = np.isfinite(count)
    count, (arrive, enter, leave) = np.where(finite, count, 1.0), (np.maximum(r, TINY) for r in rates)
    before, later = 1.0 / enter - 1.0 / arrive, room * (1.0 / leave - 1.0 / enter)
    fills = np.floor((count - 1.0) / np.maximum(room, 1.0))
    usual = fills - np.maximum(room, 1.0) * fills * (fills + 1.0) / 2.0 / count
    endless = np.where(leave < arrive * SATURATED_SHARE, np.inf, 0.0)
    mean = np.where(finite, (count - 1.0) / 2.0 * before + usual * later, endless)
    return Queued(mean, np.where(finite, count / enter + fills * later, np.inf))


def rate_of_run(count: Array, rate: Array, stay: Array, queued: Queued) -> Array:
    """Return the requests/s of a run from its first arrival to its last answer, (N,); `rate` for runs without end.

    count: requests. rate: requests/s without end. stay: mean seconds of a request from its arrival to the end of its
    answer, with what it waits for of `queued`. (N,) each.
    """
    finite = np.isfinite(count)
    alone = np.where(finite, stay, 0.0) - np.where(finite, queued.mean, 0.0)
    return np.where(finite, np.where(finite, count, 1.0) / (np.where(finite, queued.begun, 1.0) + alone), rate)
