"""The compiled event loop: engine replicas step by step, with stretches in which nothing changes taken as one event.

Two kinds of events move time on. An *arrival* brings a request to the router, or its KV cache to the decode pool. A
*boundary* ends a replica's run of steps; the next run is planned there (`perfmodel.simulator.kernel.planning`). Events
are taken in order of time; of equal times arrivals come before boundaries, and boundaries in order of replicas.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from perfmodel.simulator.kernel.jit import inner
from perfmodel.simulator.kernel.kvcache import allocate, blocks_needed, publish_prefix
from perfmodel.simulator.kernel.lifecycle import (
    arrive,
    complete,
    hand_on,
    hand_over_to_decode,
    hold,
    is_late,
    log_stint,
    start_decoding,
    stop_decoding,
    stream,
)
from perfmodel.simulator.kernel.planning import plan_run
from perfmodel.simulator.kernel.queues import REQUEST_MASK, find_completion, pop_event, remove_completion
from perfmodel.simulator.kernel.records import ALL_DONE, LOG_FULL, MORE, PREFILL
from perfmodel.simulator.kernel.state import Arrays
from perfmodel.simulator.kernel.steptime import run_end


@inner
def _end_run(arrays: Arrays, i: int, time: float) -> None:
    """Count the tokens of the run that ends now, and complete the sequences that are done."""
    replica = arrays.replicas[i]
    arrays.runs[replica.log_row].steps = replica.steps
    if not replica.decoding:
        return
    if replica.steps > 1:
        allocate(arrays, i, blocks_needed(arrays, i, replica.decode_steps + 2, replica.steps - 1))
    replica.decode_steps += replica.steps
    replica.context_tokens += replica.growth * replica.steps * replica.batch_seqs
    replica.tokens_to_make -= replica.steps * replica.active_seqs
    replica.last_decode_end = time
    while replica.active_seqs > 0 and arrays.completions[i, 0] >> 32 <= replica.decode_steps:
        r = arrays.completions[i, 0] & REQUEST_MASK
        at = find_completion(arrays.completions, i, replica.active_seqs, r)
        remove_completion(arrays.completions, i, replica.active_seqs, at)
        if replica.static_batching:  # its slot stays in the batch, and its output returns with the others
            replica.active_seqs -= 1
            arrays.requests[r].emitted = arrays.requests[r].output
        else:
            stop_decoding(arrays, i, r)
            complete(arrays, i, r, time)


@inner
def _make_token_of_prefill(arrays: Arrays, i: int, r: int, time: float) -> None:
    """The prefill of request r has ended at `time` and made a token: the first, or the next after a preemption."""
    replica, request = arrays.replicas[i], arrays.requests[r]
    request.emitted += 1
    replica.tokens_to_make -= 1
    if math.isnan(request.first):
        request.first, request.prefiller = time, i
        if is_late(arrays, i):
            hold(arrays, i, r)
    if replica.prefix_cache:
        publish_prefix(arrays, i, r)
    if request.emitted < request.output:
        if replica.role == PREFILL:
            hand_over_to_decode(arrays, i, r, time)
        else:
            start_decoding(arrays, i, r, time)
    elif not replica.static_batching:
        if request.emitted > 1:  # its last token came from a prefill after a preemption
            log_stint(arrays, i, r, time)
        complete(arrays, i, r, time)


@inner
def _end_prefills(arrays: Arrays, i: int, time: float) -> None:
    """Every prompt that is complete with this step makes a token."""
    replica, longest = arrays.replicas[i], 0
    for at in range(replica.ending_prefills):
        r = arrays.ending_prefills[i, at]
        longest = max(longest, arrays.requests[r].prompt)
        _make_token_of_prefill(arrays, i, r, time)
    if replica.static_batching and replica.ending_prefills > 0:
        replica.batch_seqs = replica.ending_prefills
        replica.context_tokens = longest * replica.ending_prefills
    replica.ending_prefills = 0


@inner
def _end_static_batch(arrays: Arrays, i: int, time: float) -> None:
    """Complete all requests of a static batch whose last sequence is done."""
    replica = arrays.replicas[i]
    while replica.oldest >= 0:
        complete(arrays, i, replica.oldest, time)
    replica.batch_seqs, replica.context_tokens = 0, 0


@inner
def _pass_boundary(arrays: Arrays, i: int) -> None:
    """End what replica i has under way, then plan what it does next."""
    replica, loop = arrays.replicas[i], arrays.loop[0]
    time = replica.boundary
    replica.seen = time
    if replica.busy:
        replica.busy = False
        planned = run_end(replica.start, replica.step, replica.slope, replica.steps - 1)
        stream(arrays, i, time)
        _end_run(arrays, i, time)
        _end_prefills(arrays, i, time)
        if replica.static_batching and replica.active_seqs == 0:
            _end_static_batch(arrays, i, time)
        if replica.schedules_ahead and replica.active_seqs > 0:
            replica.seen = planned  # what comes now was planned when the step that ends here began
    # arrivals that a completion triggers at this very moment are seen before the next step is planned
    while loop.pending_events > 0 and arrays.events[0].time <= time:
        arrive(arrays, pop_event(arrays), time)
    plan_run(arrays, i, time)
    if replica.held >= 0:
        hand_on(arrays, i, time)


@inner
def _next_replica(arrays: Arrays) -> int:
    """The replica whose boundary comes first."""
    best = 0
    for i in range(len(arrays.replicas)):
        if arrays.replicas[i].boundary < arrays.replicas[best].boundary:
            best = i
    return best


@inner
def advance(arrays: Arrays, most: int) -> int:
    """Process up to `most` events.

    Returns `LOG_FULL` where a log array has to be enlarged first, `ALL_DONE` where nothing is left to happen, else
    `MORE`.
    """
    loop, widest = arrays.loop[0], arrays.ending_prefills.shape[1]
    for _ in range(most):
        # one boundary may end as many prefills and start as many decodes as there are sequences
        if loop.logged_runs + 1 > len(arrays.runs) or loop.logged_stints + 2 * widest > len(arrays.stints):
            return LOG_FULL
        i = _next_replica(arrays)
        boundary = arrays.replicas[i].boundary
        given = arrays.requests[loop.next_arrival].arrival if loop.next_arrival < len(arrays.requests) else math.inf
        triggered = arrays.events[0].time if loop.pending_events > 0 else math.inf
        if boundary == math.inf and given == math.inf and triggered == math.inf:
            return ALL_DONE
        loop.processed_events += 1
        if min(given, triggered) > boundary:
            _pass_boundary(arrays, i)
        elif given <= triggered:
            loop.next_arrival += 1
            arrive(arrays, loop.next_arrival - 1, given)
        else:
            arrive(arrays, pop_event(arrays), triggered)
    return MORE


def cached(fingerprint: int) -> Callable[[Arrays, int], int]:
    """`advance` for numba's cache on disk.

    numba notices changes only of the file that defines the cached function. The `fingerprint` of all sources is a
    constant inside that function, and so part of the cache's key.
    """

    def advance_cached(arrays: Arrays, most: int) -> int:
        if fingerprint < 0:  # never true; it keeps the fingerprint a part of the function
            return -1
        return advance(arrays, most)

    return advance_cached
