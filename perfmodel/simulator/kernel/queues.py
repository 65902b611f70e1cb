"""Heaps and linked lists over plain arrays, compiled: pending events, finishing sequences, queues of requests."""

from __future__ import annotations

from typing import Any

from perfmodel.simulator.kernel.jit import inner
from perfmodel.simulator.kernel.state import Arrays

MASK = (1 << 32) - 1


@inner
def push_event(x: Arrays, time: float, request: int) -> None:
    """Add an arrival to come; equal times leave in the order of their requests."""
    e, z = x.events, x.loop[0]
    at = z.pending
    z.pending += 1
    while at > 0:
        up = (at - 1) >> 1
        if e[up].time < time or (e[up].time == time and e[up].request < request):
            break
        e[at].time, e[at].request = e[up].time, e[up].request
        at = up
    e[at].time, e[at].request = time, request


@inner
def pop_event(x: Arrays) -> int:
    """Remove the earliest arrival and return its request."""
    e, z = x.events, x.loop[0]
    found = e[0].request
    z.pending -= 1
    size = z.pending
    time, request = e[size].time, e[size].request
    at = 0
    while True:
        down = 2 * at + 1
        if down >= size:
            break
        if down + 1 < size and (
            e[down + 1].time < e[down].time
            or (e[down + 1].time == e[down].time and e[down + 1].request < e[down].request)
        ):
            down += 1
        if time < e[down].time or (time == e[down].time and request < e[down].request):
            break
        e[at].time, e[at].request = e[down].time, e[down].request
        at = down
    e[at].time, e[at].request = time, request
    return found


@inner
def push_finish(heap: Any, i: int, size: int, entry: int) -> None:
    """Add an entry to row i, a heap of `size` entries."""
    at = size
    while at > 0:
        up = (at - 1) >> 1
        if heap[i, up] <= entry:
            break
        heap[i, at] = heap[i, up]
        at = up
    heap[i, at] = entry


@inner
def drop_finish(heap: Any, i: int, size: int, at: int) -> None:
    """Remove the entry at position `at` of row i, a heap of `size` entries."""
    size -= 1
    entry = heap[i, size]
    if at == size:
        return
    while at > 0 and heap[i, (at - 1) >> 1] > entry:
        heap[i, at] = heap[i, (at - 1) >> 1]
        at = (at - 1) >> 1
    while True:
        down = 2 * at + 1
        if down >= size:
            break
        if down + 1 < size and heap[i, down + 1] < heap[i, down]:
            down += 1
        if heap[i, down] >= entry:
            break
        heap[i, at] = heap[i, down]
        at = down
    heap[i, at] = entry


@inner
def find_finish(heap: Any, i: int, size: int, request: int) -> int:
    """Position of `request` in row i, a heap of `size` entries; -1 where absent."""
    for at in range(size):
        if heap[i, at] & MASK == request:
            return at
    return -1


@inner
def enqueue(x: Arrays, i: int, r: int) -> None:
    """Put request r at the end of replica i's queue."""
    s = x.replicas[i]
    x.requests[r].after = -1
    if s.head < 0:
        s.head = r
    else:
        x.requests[s.tail].after = r
    s.tail = r
    s.waiting += 1


@inner
def requeue(x: Arrays, i: int, r: int) -> None:
    """Put request r at the front of replica i's queue."""
    s = x.replicas[i]
    x.requests[r].after = s.head
    if s.head < 0:
        s.tail = r
    s.head = r
    s.waiting += 1


@inner
def dequeue(x: Arrays, i: int) -> int:
    """Take the first request of replica i's queue."""
    s = x.replicas[i]
    r = s.head
    s.head = x.requests[r].after
    if s.head < 0:
        s.tail = -1
    s.waiting -= 1
    return r


@inner
def begin_running(x: Arrays, i: int, r: int) -> None:
    """Append request r to replica i's running list."""
    s, q = x.replicas[i], x.requests[r]
    q.older, q.newer = s.newest, -1
    if s.newest < 0:
        s.oldest = r
    else:
        x.requests[s.newest].newer = r
    s.newest = r
    s.running += 1


@inner
def end_running(x: Arrays, i: int, r: int) -> None:
    """Take request r out of replica i's running list."""
    s, q = x.replicas[i], x.requests[r]
    if q.older < 0:
        s.oldest = q.newer
    else:
        x.requests[q.older].newer = q.newer
    if q.newer < 0:
        s.newest = q.older
    else:
        x.requests[q.newer].older = q.older
    s.running -= 1
