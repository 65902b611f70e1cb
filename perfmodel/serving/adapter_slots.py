"""Slots for low-rank adapters (vLLM's `max_loras`): a request whose adapter has no slot waits until one is free.

The adapters of one batch are no more than the slots, so slots limit how many requests run at once, as memory and
sequence slots do. Fewer slots then never serve more, unless the memory that they free holds more KV cache.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from perfmodel.arrays import Array
from perfmodel.models import Adapters
from perfmodel.serving.limits import TINY
from perfmodel.serving.served import Served
from perfmodel.workload import Load

#: Estimates one replica under a load.
Server = Callable[[Load], Served]
#: Part of the wait for the batches ahead that a request of a static run waits on average: none for the first batch, all
#: for the last.
_STATIC_PART = 0.5


def slots_limit(adapters: Adapters | None, load: Load, max_running: Array) -> Array:
    """Return the sequences that run at once, (N,), where a batch holds no more adapters than there are slots.

    The requests of a closed loop or of an offline run are all there to choose from; an open loop has as many as run at
    most.

    Args:
        adapters: low-rank adapters of the requests, None without.
        load: load of one replica.
        max_running: sequences that run at once otherwise, (N,).
    """
    if adapters is None:
        return max_running
    present = {"closed": load.concurrency, "static": load.concurrency, "offline": load.n_requests}
    there = np.maximum(present.get(load.arrival, max_running), 1.0)
    runnable = adapters.runnable(there)
    return np.asarray(np.where(runnable < there, np.minimum(max_running, runnable), max_running))


def through_slots(adapters: Adapters | None, load: Load, server: Server) -> Served:
    """Return a fixed number of requests in flight as `server` serves them through the slots.

    Derived: only the requests whose adapters have slots are in the batch, and the others wait for one of these to end.
    By Little's law they wait for as long as the batch takes to serve their number.

    Args:
        adapters: low-rank adapters of the requests, None without.
        load: load of one replica, a closed loop or a static batch.
        server: estimates one replica under a load without slots.
    """
    if adapters is None:
        return server(load)
    inside = np.minimum(adapters.runnable(load.concurrency), load.concurrency)
    whole = server(load)
    if not np.any(inside < load.concurrency):
        return whole
    served = server(replace(load, concurrency=inside))
    rate = np.minimum(served.rate, whole.rate)  # a wait for slots serves no more than none
    ahead = (load.concurrency - inside) / np.maximum(rate, TINY)
    ahead = ahead * (_STATIC_PART if load.arrival == "static" else 1.0)
    times = replace(served.times, ttft=served.times.ttft + ahead, wait=served.times.wait + ahead)
    before = load.mean(served.times.wait + served.times.burst)
    uniform = (served.waits.uniform_share * before + ahead) / np.maximum(before + ahead, TINY)
    return replace(served, times=times, rate=rate, waits=replace(served.waits, uniform_share=uniform))
