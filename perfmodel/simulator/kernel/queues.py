"""Heaps and linked lists over plain arrays, compiled: pending events, completions of sequences, queues of requests.

Names as in `perfmodel.simulator.kernel.admission`. In binary heaps, `up` is the parent of position `at`, `down` a
child.
"""

from __future__ import annotations

from typing import Any

from perfmodel.simulator.kernel.jit import inner
from perfmodel.simulator.kernel.state import Arrays

#: The lower half of an entry in a heap of completions is the request; the upper half is the decode count.
REQUEST_MASK = (1 << 32) - 1


@inner
def push_event(arrays: Arrays, time: float, request: int) -> None:
    """Add an arrival to come; of equal times the request with the lower index comes first."""
    events, loop = arrays.events, arrays.loop[0]
    at = loop.pending_events
    loop.pending_events += 1
    while at > 0:
        up = (at - 1) >> 1
        if events[up].time < time or (events[up].time == time and events[up].request < request):
            break
        events[at].time, events[at].request = events[up].time, events[up].request
        at = up
    events[at].time, events[at].request = time, request


@inner
def pop_event(arrays: Arrays) -> int:
    """Remove the earliest arrival and return its request."""
    events, loop = arrays.events, arrays.loop[0]
    found: int = events[0].request
    loop.pending_events -= 1
    size = loop.pending_events
    time, request = events[size].time, events[size].request
    at = 0
    while True:
        down = 2 * at + 1
        if down >= size:
            break
        if down + 1 < size and (
            events[down + 1].time < events[down].time
            or (events[down + 1].time == events[down].time and events[down + 1].request < events[down].request)
        ):
            down += 1
        if time < events[down].time or (time == events[down].time and request < events[down].request):
            break
        events[at].time, events[at].request = events[down].time, events[down].request
        at = down
    events[at].time, events[at].request = time, request
    return found


@inner
def push_completion(heap: Any, i: int, size: int, entry: int) -> None:
    """Add `entry` to row i of `heap`, which has `size` entries."""
    at = size
    while at > 0:
        up = (at - 1) >> 1
        if heap[i, up] <= entry:
            break
        heap[i, at] = heap[i, up]
        at = up
    heap[i, at] = entry


@inner
def remove_completion(heap: Any, i: int, size: int, at: int) -> None:
    """Remove the entry at position `at` of row i of `heap`, which has `size` entries."""
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
def find_completion(heap: Any, i: int, size: int, request: int) -> int:
    """Position of `request` in row i of `heap`, which has `size` entries; -1 where it is absent."""
    for at in range(size):
        if heap[i, at] & REQUEST_MASK == request:
            return at
    return -1


@inner
def enqueue(arrays: Arrays, i: int, r: int) -> None:
    """Put request r at the end of replica i's queue."""
    replica = arrays.replicas[i]
    arrays.requests[r].next_waiting = -1
    if replica.queue_head < 0:
        replica.queue_head = r
    else:
        arrays.requests[replica.queue_tail].next_waiting = r
    replica.queue_tail = r
    replica.waiting += 1


@inner
def requeue(arrays: Arrays, i: int, r: int) -> None:
    """Put request r at the front of replica i's queue, as a preempted request goes."""
    replica = arrays.replicas[i]
    arrays.requests[r].next_waiting = replica.queue_head
    if replica.queue_head < 0:
        replica.queue_tail = r
    replica.queue_head = r
    replica.waiting += 1


@inner
def dequeue(arrays: Arrays, i: int) -> int:
    """Take the first request of replica i's queue."""
    replica = arrays.replicas[i]
    r: int = replica.queue_head
    replica.queue_head = arrays.requests[r].next_waiting
    if replica.queue_head < 0:
        replica.queue_tail = -1
    replica.waiting -= 1
    return r


@inner
def begin_running(arrays: Arrays, i: int, r: int) -> None:
    """Append request r to the list of requests admitted on replica i."""
    replica, request = arrays.replicas[i], arrays.requests[r]
    request.older, request.newer = replica.newest, -1
    if replica.newest < 0:
        replica.oldest = r
    else:
        arrays.requests[replica.newest].newer = r
    replica.newest = r
    replica.running += 1


@inner
def end_running(arrays: Arrays, i: int, r: int) -> None:
    """Take request r out of the list of requests admitted on replica i."""
    replica, request = arrays.replicas[i], arrays.requests[r]
    if request.older < 0:
        replica.oldest = request.newer
    else:
        arrays.requests[request.older].newer = request.newer
    if request.newer < 0:
        replica.newest = request.older
    else:
        arrays.requests[request.newer].older = request.older
    replica.running -= 1
