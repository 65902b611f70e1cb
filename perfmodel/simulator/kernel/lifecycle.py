"""The stations of a request, compiled: it appears, joins the decoding, is preempted, handed over, leaves.

Names as in `perfmodel.simulator.kernel.core`.
"""

from __future__ import annotations

from perfmodel.simulator.kernel.jit import inner
from perfmodel.simulator.kernel.kvcache import release
from perfmodel.simulator.kernel.queues import (
    drop_finish,
    end_running,
    enqueue,
    find_finish,
    push_event,
    push_finish,
    requeue,
)
from perfmodel.simulator.kernel.router import route
from perfmodel.simulator.kernel.state import Arrays
from perfmodel.simulator.kernel.steptime import run_end, steps_until


@inner
def appear(x: Arrays, r: int, time: float) -> None:
    """Request r reaches the router, or the KV of its prefill reaches the replica that will decode it."""
    q = x.requests[r]
    ready = time
    if q.at_hand == 1:
        i = q.replica
        home = x.replicas[q.prefiller]
        release(x, q.prefiller, r)
        if not home.busy and home.head >= 0:
            home.due = max(time, x.requests[home.head].ready)
    else:
        i = route(x, r)
        s = x.replicas[i]
        q.issued, q.replica = time, i
        s.outstanding += 1
        s.load += q.prompt
        if s.front_serial:
            ready = max(time, s.front)
        ready += s.front_time
        s.front = ready
    q.ready = ready
    enqueue(x, i, r)
    s = x.replicas[i]
    if s.head != r:
        return
    if not s.busy:
        s.due = ready
    elif s.steps > 1 and not s.static and s.running < s.max_num_seqs:
        s.steps = steps_until(s.start, s.step, s.slope, s.steps, ready)
        s.due = run_end(s.start, s.step, s.slope, s.steps)


@inner
def leave(x: Arrays, i: int, r: int, time: float) -> None:
    """Request r is done and gives back its blocks; a closed loop issues its next one."""
    s, q, z = x.replicas[i], x.requests[r], x.loop[0]
    release(x, i, r)
    end_running(x, i, r)
    q.finish = time
    s.outstanding -= 1
    s.load -= q.prompt
    z.finished += 1
    if z.users < len(x.requests):
        push_event(x, time + z.think, z.users)
        z.users += 1


@inner
def hand_over(x: Arrays, i: int, r: int, time: float) -> None:
    """The KV of r goes to a decode replica over i's link, which carries one transfer at a time.

    Clients are answered by the decode replica, so they see the first token once the KV is there.
    """
    s, q = x.replicas[i], x.requests[r]
    end_running(x, i, r)
    s.owed -= q.output - q.emitted
    s.outstanding -= 1
    s.load -= q.prompt
    q.replica, q.at_hand, q.last = route(x, r), 1, time
    target = x.replicas[q.replica]
    target.outstanding += 1
    target.load += q.prompt
    s.link = max(time, s.link) + (q.prompt + q.emitted - 1) * s.link_time
    there = s.link + s.link_latency
    if q.emitted == 1:
        q.first, q.last = there, there
    push_event(x, there, r)


@inner
def log_stint(x: Arrays, i: int, r: int, time: float) -> None:
    """Note that r has all it needs to decode on replica i; time as in `join`."""
    s, q, z = x.replicas[i], x.requests[r], x.loop[0]
    row = x.stints[z.stints]
    z.stints += 1
    row.request, row.replica, row.count, row.made = r, i, s.count, q.emitted
    row.time, row.last = time, q.last
    if time == time:
        q.last = time


@inner
def join(x: Arrays, i: int, r: int, time: float) -> None:
    """Request r, its KV in place, decodes from the next step on. time: when its prefill ended, NaN if elsewhere."""
    s, q = x.replicas[i], x.requests[r]
    q.stored, q.joined = q.prompt + q.emitted - 1, s.count
    if q.reserve == 0:
        q.phase = (s.count + 1 - q.stored) % s.block
        x.growth[i, q.phase] += 1
    push_finish(x.finishing, i, s.active, ((s.count + q.output - q.emitted) << 32) | r)
    s.active += 1
    s.slots += 1
    s.context += q.stored
    log_stint(x, i, r, time)


@inner
def stop_decoding(x: Arrays, i: int, r: int) -> None:
    """Take r, already out of the heap, out of the batch; its counts are brought up to date."""
    s, q = x.replicas[i], x.requests[r]
    made = s.count - q.joined
    q.emitted += made
    s.active -= 1
    s.slots -= 1
    s.context -= q.stored + made
    if q.reserve == 0:
        x.growth[i, q.phase] -= 1
        q.blocks = (q.stored + made + s.block - 1) // s.block


@inner
def preempt(x: Arrays, i: int) -> float:
    """Send the request admitted last back to the queue; seconds its KV takes to the host, where it is swapped."""
    s = x.replicas[i]
    r = s.newest
    q = x.requests[r]
    extra = 0.0
    if q.todo > 0:
        s.partial = -1
        q.todo = 0
    else:
        drop_finish(x.finishing, i, s.active, find_finish(x.finishing, i, s.active, r))
        if s.count > q.joined:
            q.last = s.last_token
        stop_decoding(x, i, r)
        if s.swap:
            q.at_hand = 2
            extra = (q.prompt + q.emitted - 1) * s.swap_time
    release(x, i, r)
    end_running(x, i, r)
    requeue(x, i, r)
    s.owed -= q.output - q.emitted
    q.preempted += 1
    return extra
