"""The compiled event loop: every engine replica, iteration by iteration, skipping over stretches where nothing changes.

A step of a replica is planned at a boundary, when the one before has ended. While the same sequences decode, nothing
is admitted and no prompt is under way, step time is linear in the number of steps made (context grows by one token a
sequence), so a whole stretch is one event: it ends at the next completion, when KV blocks run out, where the step-time
table bends, or at the first boundary at which a newly arrived request can be seen.

Order of events: by time; arrivals before boundaries of the same time, boundaries by replica. Names: x all arrays, s a
replica's record, q a request's, z the loop's own; i a replica, r a request.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from perfmodel.simulator.kernel.jit import inner, outer
from perfmodel.simulator.kernel.kvcache import available, growth, hold, match, next_growth, share, steps_within, take
from perfmodel.simulator.kernel.lifecycle import appear, hand_over, join, leave, log_stint, preempt, stop_decoding
from perfmodel.simulator.kernel.queues import MASK, begin_running, dequeue, drop_finish, find_finish, pop_event
from perfmodel.simulator.kernel.state import ALL_DONE, LOG_FULL, MORE, Arrays
from perfmodel.simulator.kernel.steptime import decode_line, run_end, step_time, steps_until

# ----------------------------------------------------------------------------------------------------------- admission


@inner
def _admissible(x: Arrays, i: int, r: int) -> int:
    """Prefix hashes that r, first in the queue, may use if there is room to admit it now; -1 where there is not."""
    s, q = x.replicas[i], x.requests[r]
    tokens = q.prompt + q.emitted - (1 if q.at_hand > 0 else 0)
    total = (max(tokens, q.reserve) + s.block - 1) // s.block
    hits, unused = 0, 0
    if s.prefix and q.at_hand == 0:
        hits, unused = match(x, i, r, tokens)
    keep = 0
    if s.running > 0:
        keep = s.watermark + int(s.headroom * s.owed) // s.block
        if q.at_hand > 0:  # it decodes at once, with the others
            keep += next_growth(x, i) + 1
    if total - hits * s.span + keep > available(x, i) - unused * s.span:
        return -1
    q.blocks = total
    return hits


@inner
def _admit(x: Arrays, i: int, hits: int, time: float) -> int:
    """Take the first request out of the queue and give it its blocks."""
    r = dequeue(x, i)
    s, q = x.replicas[i], x.requests[r]
    hold(x, i, r, q.refs, hits)
    take(x, i, q.blocks - hits * s.span)
    begin_running(x, i, r)
    q.refs = hits
    if q.admitted != q.admitted:
        q.admitted = time
    s.owed += q.output - q.emitted
    return r


@inner
def _return_ready(x: Arrays, i: int, time: float) -> float:
    """Admit requests at the head of the queue whose KV exists already; seconds spent on fetching it from the host."""
    s, extra = x.replicas[i], 0.0
    while s.head >= 0 and s.running < s.max_num_seqs:
        r = s.head
        q = x.requests[r]
        if q.at_hand == 0 or q.ready > time:
            break
        if _admissible(x, i, r) < 0:
            break
        _admit(x, i, x.requests[s.head].refs, time)
        if q.at_hand == 2:
            extra += (q.prompt + q.emitted - 1) * s.swap_time
        q.at_hand = 0
        join(x, i, r, np.nan)
    return extra


@inner
def _prefill(x: Arrays, i: int, time: float, left: int) -> tuple[int, float]:
    """Fill a step with up to `left` prompt tokens, first come first served; tokens, and keys they attend to in all."""
    s, tokens, work = x.replicas[i], 0, 0.0
    while left > 0:
        r = s.partial
        if r < 0:
            r = s.head
            if r < 0 or s.running >= s.max_num_seqs or x.requests[r].ready > time or x.requests[r].at_hand > 0:
                break
            hits = _admissible(x, i, r)
            if hits < 0:
                break
            found = hits * s.span * s.block
            todo = x.requests[r].prompt + x.requests[r].emitted - found
            if not s.chunk and todo > left and tokens > 0:
                break
            _admit(x, i, hits, time)
            x.requests[r].todo, x.requests[r].done = todo, found
            x.requests[r].cached += found
        q = x.requests[r]
        part = min(q.todo, left) if s.chunk else q.todo
        tokens += part
        left -= part
        work += part * (q.done + 0.5 * (part + 1))
        q.done += part
        q.todo -= part
        if q.todo > 0:
            s.partial = r
            break
        s.partial = -1
        x.fresh[i, s.fresh] = r
        s.fresh += 1
    return tokens, work


@inner
def _prefill_static(x: Arrays, i: int, time: float) -> tuple[int, float]:
    """A new static batch, every prompt padded to the longest; tokens, and keys they attend to in all."""
    s, longest = x.replicas[i], 0
    while s.head >= 0 and s.running < s.max_num_seqs and x.requests[s.head].ready <= time:
        if _admissible(x, i, s.head) < 0:
            break
        r = _admit(x, i, x.requests[s.head].refs, time)
        longest = max(longest, x.requests[r].prompt)
        x.fresh[i, s.fresh] = r
        s.fresh += 1
    tokens = longest * s.fresh
    return tokens, tokens * 0.5 * (longest + 1)


@inner
def _make_room(x: Arrays, i: int) -> tuple[bool, float]:
    """Blocks for the next decode step, preempting until it fits; whether anybody had to go, and seconds of swapping."""
    halted, extra = False, 0.0
    need = next_growth(x, i)
    while need > available(x, i):
        halted = True
        extra += preempt(x, i)
        need = next_growth(x, i)
    take(x, i, need)
    return halted, extra


# ------------------------------------------------------------------------------------------------------------ planning


@inner
def _plan(x: Arrays, i: int, time: float) -> None:
    """Choose what replica i does from `time` on."""
    s = x.replicas[i]
    tokens, work, extra, halted = 0, 0.0, 0.0, False
    if s.static:
        if s.running == 0:
            tokens, work = _prefill_static(x, i, time)
        decoding = s.active > 0
    else:
        extra = _return_ready(x, i, time)
        if s.mix and s.active > 0:
            halted, more = _make_room(x, i)
            extra += more
        if not halted:
            tokens, work = _prefill(x, i, time, s.budget - (s.active if s.mix else 0))
        decoding = s.active > 0 and (s.mix or tokens == 0)
        if decoding and not s.mix:
            halted, more = _make_room(x, i)
            extra += more
    s.busy = tokens > 0 or decoding
    if not s.busy:
        s.due = np.inf
        if s.head >= 0 and x.requests[s.head].ready > time:
            s.due = x.requests[s.head].ready
        return
    s.start, s.tokens, s.decoding, s.steps, s.slope = time, tokens, decoding, 1, 0.0
    if tokens > 0:
        slots = s.slots if decoding else 0
        s.step = extra + step_time(x, s.table, tokens, work / tokens, slots, s.context + slots)
    else:
        _plan_decodes(x, i, time, extra, halted)
    s.due = run_end(time, s.step, s.slope, s.steps)
    _log_run(x, i)


@inner
def _plan_decodes(x: Arrays, i: int, time: float, extra: float, halted: bool) -> None:
    """As many decode steps as can be told apart by nothing but the growth of their context."""
    s = x.replicas[i]
    step, slope, steps = decode_line(x, s.table, s.slots, s.context + s.slots)
    s.step = step + extra
    if halted or extra > 0 or s.partial >= 0:
        return
    s.slope = slope
    steps = min(steps, (x.finishing[i, 0] >> 32) - s.count)
    if not s.static and steps > 1:
        steps = 1 + steps_within(x, i, s.count + 2, steps - 1, available(x, i))
        r = s.head
        if r >= 0 and x.requests[r].ready > time and s.running < s.max_num_seqs:
            steps = steps_until(time, step, slope, steps, x.requests[r].ready)
    s.steps = steps


@inner
def _log_run(x: Arrays, i: int) -> None:
    s, z = x.replicas[i], x.loop[0]
    row = x.runs[z.runs]
    s.row = z.runs
    z.runs += 1
    row.start, row.step, row.slope, row.replica = s.start, s.step, s.slope, i
    row.count = s.count if s.decoding else -1
    row.active = s.active if s.decoding else 0
    row.prompt, row.waiting, row.running = s.tokens, s.waiting, s.running
    row.used = s.capacity - available(x, i)


# ---------------------------------------------------------------------------------------------------- the end of a step


@inner
def _settle(x: Arrays, i: int, time: float) -> None:
    """Book the run that ends now and let finished sequences go."""
    s = x.replicas[i]
    x.runs[s.row].steps = s.steps
    if not s.decoding:
        return
    if s.steps > 1:
        take(x, i, growth(x, i, s.count + 2, s.steps - 1))
    s.count += s.steps
    s.context += s.steps * s.slots
    s.owed -= s.steps * s.active
    s.last_token = time
    while s.active > 0 and x.finishing[i, 0] >> 32 <= s.count:
        r = x.finishing[i, 0] & MASK
        drop_finish(x.finishing, i, s.active, find_finish(x.finishing, i, s.active, r))
        if s.static:
            s.active -= 1
            x.requests[r].emitted = x.requests[r].output
        else:
            stop_decoding(x, i, r)
            leave(x, i, r, time)


@inner
def _first_tokens(x: Arrays, i: int, time: float) -> None:
    """Every prompt that ends with this step yields a token."""
    s, longest = x.replicas[i], 0
    for at in range(s.fresh):
        r = x.fresh[i, at]
        q = x.requests[r]
        longest = max(longest, q.prompt)
        q.emitted += 1
        s.owed -= 1
        if q.first != q.first:
            q.first, q.prefiller = time, i
        if s.prefix:
            share(x, i, r)
        if q.emitted < q.output:
            if s.role == 1:
                hand_over(x, i, r, time)
            else:
                join(x, i, r, time)
        elif not s.static:
            if q.emitted > 1:  # its last token came from a prefill after a preemption
                log_stint(x, i, r, time)
            leave(x, i, r, time)
    if s.static and s.fresh > 0:
        s.slots = s.fresh
        s.context = longest * s.fresh
    s.fresh = 0


@inner
def _end_batch(x: Arrays, i: int, time: float) -> None:
    """A static batch whose last sequence is done returns all its answers."""
    s = x.replicas[i]
    while s.oldest >= 0:
        leave(x, i, s.oldest, time)
    s.slots, s.context = 0, 0


@inner
def _boundary(x: Arrays, i: int) -> None:
    """What replica i has under way ends; then it plans what comes next."""
    s, z = x.replicas[i], x.loop[0]
    time = s.due
    if s.busy:
        s.busy = False
        _settle(x, i, time)
        _first_tokens(x, i, time)
        if s.static and s.active == 0:
            _end_batch(x, i, time)
    # what a finished request sets off at this very moment is seen before the next step is planned
    while z.pending > 0 and x.events[0].time <= time:
        appear(x, pop_event(x), time)
    _plan(x, i, time)


@inner
def _next_replica(x: Arrays) -> int:
    """The replica whose boundary comes first."""
    best = 0
    for i in range(len(x.replicas)):
        if x.replicas[i].due < x.replicas[best].due:
            best = i
    return best


@inner
def advance(x: Arrays, most: int) -> int:
    """Process up to `most` events; LOG_FULL where the log needs room first, ALL_DONE when nothing is left to happen."""
    z, widest = x.loop[0], x.fresh.shape[1]
    for _ in range(most):
        if z.runs + 1 > len(x.runs) or z.stints + 2 * widest > len(x.stints):
            return LOG_FULL
        i = _next_replica(x)
        boundary = x.replicas[i].due
        coming = x.requests[z.next].arrival if z.next < len(x.requests) else np.inf
        pending = x.events[0].time if z.pending > 0 else np.inf
        if boundary == np.inf and coming == np.inf and pending == np.inf:
            return ALL_DONE
        z.events += 1
        if min(coming, pending) > boundary:
            _boundary(x, i)
        elif coming <= pending:
            z.next += 1
            appear(x, z.next - 1, coming)
        else:
            appear(x, pop_event(x), pending)
    return MORE


def cached(fingerprint: int) -> Callable[[Arrays, int], int]:
    """`advance` from numba's cache on disk. numba notices changes of the cached function's own file only, so the
    `fingerprint` of all sources, frozen into it, is part of the cache's key."""

    @outer
    def advance_cached(x: Arrays, most: int) -> int:
        if fingerprint < 0:  # never; keeps the fingerprint a part of the function
            return -1
        return advance(x, most)

    return advance_cached
