"""What happens to a request, compiled: arrival, start of decoding, preemption, hand-over to the decode pool,
completion.

Names as in `perfmodel.simulator.kernel.admission`.
"""

from __future__ import annotations

import math

from perfmodel.simulator.kernel.holding import enough_ready
from perfmodel.simulator.kernel.jit import inner
from perfmodel.simulator.kernel.kvcache import kv_tokens, release, steps_of_room
from perfmodel.simulator.kernel.queues import (
    end_running,
    enqueue,
    find_completion,
    push_completion,
    push_event,
    remove_completion,
    requeue,
)
from perfmodel.simulator.kernel.records import FROM_HOST, FROM_POOL
from perfmodel.simulator.kernel.router import route
from perfmodel.simulator.kernel.state import Arrays
from perfmodel.simulator.kernel.steptime import run_end, steps_until_seen


@inner
def arrive(arrays: Arrays, r: int, time: float) -> None:
    """Request r reaches the router, or its KV cache reaches the replica that decodes it."""
    request = arrays.requests[r]
    if request.kv_source == FROM_POOL:
        i = request.replica
        ready = time
        _end_transfer(arrays, r, time)
    else:
        i = route(arrays, r)
        ready = _pass_front_end(arrays, i, r, time)
    request.ready = ready
    enqueue(arrays, i, r)
    replica = arrays.replicas[i]
    if replica.queue_head != r:
        if replica.hold_end <= replica.decode_steps or replica.waiting != replica.prompts_together:
            return
        ready = enough_ready(arrays, i)
    if not replica.busy:
        replica.boundary = ready
    elif replica.steps > 1 and not replica.static_batching and replica.running < replica.max_num_seqs:
        # the run under way ends at the first step boundary at which the request, or those it held back, can be admitted
        replica.steps = steps_until_seen(
            replica.schedules_ahead, replica.start, replica.step, replica.slope, replica.steps, ready
        )
        replica.boundary = run_end(replica.start, replica.step, replica.slope, replica.steps)


@inner
def _end_transfer(arrays: Arrays, r: int, time: float) -> None:
    """The KV of request r has left its prefill replica, which frees the blocks and may admit its next request."""
    sender: int = arrays.requests[r].prefiller
    replica = arrays.replicas[sender]
    release(arrays, sender, r)
    if not replica.busy and replica.queue_head >= 0:
        replica.boundary = max(time, arrays.requests[replica.queue_head].ready)


@inner
def _pass_front_end(arrays: Arrays, i: int, r: int, time: float) -> float:
    """Request r goes to replica i; returns when its front end has handed the request to the scheduler."""
    replica, request = arrays.replicas[i], arrays.requests[r]
    request.issued, request.replica = time, i
    replica.outstanding += 1
    replica.outstanding_tokens += request.prompt
    begin = max(time, replica.front_end_free_at) if replica.front_end_serial else time
    ready: float = begin + replica.front_end_time + replica.tokenize_time * request.prompt
    replica.front_end_free_at = ready
    return ready


@inner
def complete(arrays: Arrays, i: int, r: int, time: float) -> None:
    """Request r has all its tokens and gives back its blocks; a closed loop triggers the next request of its user."""
    replica, request, loop = arrays.replicas[i], arrays.requests[r], arrays.loop[0]
    release(arrays, i, r)
    end_running(arrays, i, r)
    request.finish = time
    replica.outstanding -= 1
    replica.outstanding_tokens -= request.prompt
    loop.finished += 1
    if is_late(arrays, i):
        hold(arrays, i, r)
    else:
        _trigger_next(arrays, time)


@inner
def _trigger_next(arrays: Arrays, time: float) -> None:
    """A user of a closed loop has got an answer at `time`, and asks again after thinking."""
    loop = arrays.loop[0]
    if loop.next_closed_loop < len(arrays.requests):
        push_event(arrays, time + loop.think, loop.next_closed_loop)
        loop.next_closed_loop += 1


@inner
def is_late(arrays: Arrays, i: int) -> bool:
    """Whether clients get the tokens of replica i some time after they were made."""
    late: bool = arrays.replicas[i].hands_on_late or arrays.replicas[i].stream_time > 0.0
    return late


@inner
def stream(arrays: Arrays, i: int, time: float) -> None:
    """The process that streams all answers queues the tokens of the run of replica i that ends at `time`.

    It takes up a step's tokens when the step ends and those before are out. Steps only get longer within a run, so that
    the process is idle, if at all, before the tokens of the first step or of the last one.
    """
    replica = arrays.replicas[i]
    each = replica.stream_time * replica.growth * replica.active_seqs if replica.decoding else 0.0
    last = each + replica.stream_time * replica.ending_prefills
    before = max(replica.stream_free_at, replica.start + replica.step) + each * (replica.steps - 1)
    replica.stream_free_at = max(before, time) + last
    replica.streamed_at = replica.stream_free_at - last / 2.0


@inner
def hold(arrays: Arrays, i: int, r: int) -> None:
    """Keep the first or last token of request r, which replica i has just made, until its client gets it."""
    replica, request = arrays.replicas[i], arrays.requests[r]
    if replica.held != r:  # a token that is the first and the last of a request is held once
        request.next_held, replica.held = replica.held, r


@inner
def hand_on(arrays: Arrays, i: int, time: float) -> None:
    """Let clients have the tokens that replica i made at `time` when the step that it begins now ends.

    A replica that has nothing to do hands them on at once. Where a process of its own streams them, that one says when.
    """
    replica = arrays.replicas[i]
    later = time
    if replica.stream_time > 0.0:
        later = max(time, replica.streamed_at)
    elif replica.busy:
        later = time + replica.step
    while replica.held >= 0:
        request = arrays.requests[replica.held]
        replica.held = request.next_held
        if request.emitted == 1:
            request.first = later
        if request.finish == time:
            request.finish = later
            _trigger_next(arrays, later)


@inner
def hand_over_to_decode(arrays: Arrays, i: int, r: int, time: float) -> None:
    """Send the KV of request r to a decode replica over the link of replica i, which carries one transfer at a time.

    The decode replica streams the output, so the client sees the first token when the KV has arrived there. The blocks
    stay allocated on replica i until then.
    """
    replica, request = arrays.replicas[i], arrays.requests[r]
    end_running(arrays, i, r)
    replica.tokens_to_make -= request.output - request.emitted
    replica.outstanding -= 1
    replica.outstanding_tokens -= request.prompt
    request.replica, request.kv_source, request.last_token = route(arrays, r), FROM_POOL, time
    target = arrays.replicas[request.replica]
    target.outstanding += 1
    target.outstanding_tokens += request.prompt
    tokens = request.prompt + request.emitted - 1
    replica.link_free_at = max(time, replica.link_free_at) + tokens * replica.link_time_per_token
    arrival = replica.link_free_at + replica.link_latency
    if request.emitted == 1:
        request.first, request.last_token = arrival, arrival
    push_event(arrays, arrival, r)


@inner
def log_stint(arrays: Arrays, i: int, r: int, time: float) -> None:
    """Log that request r has all it needs to decode on replica i; `time` as in `start_decoding`."""
    replica, request, loop = arrays.replicas[i], arrays.requests[r], arrays.loop[0]
    row = arrays.stints[loop.logged_stints]
    loop.logged_stints += 1
    row.request, row.replica, row.count, row.made = r, i, replica.decode_steps, request.emitted
    row.time, row.last = time, request.last_token
    if not math.isnan(time):
        request.last_token = time


@inner
def start_decoding(arrays: Arrays, i: int, r: int, time: float) -> None:
    """Request r, whose KV is complete on replica i, makes tokens from the next decode step on.

    time: when its prefill ended; NaN: its KV came from the prefill pool or from the host.
    """
    replica, request = arrays.replicas[i], arrays.requests[r]
    request.kv_at_start, request.decode_steps_at_start = kv_tokens(arrays, i, r, request.emitted), replica.decode_steps
    if request.reserved_tokens == 0:
        room = steps_of_room(arrays, i, request.kv_at_start)
        request.growth_phase = (replica.decode_steps + 1 + room) % replica.growth_steps
        arrays.block_growth[i, request.growth_phase] += 1
    last_step = replica.decode_steps + request.output - request.emitted
    push_completion(arrays.completions, i, replica.active_seqs, (last_step << 32) | r)
    replica.active_seqs += 1
    replica.batch_seqs += 1
    replica.context_tokens += request.kv_at_start
    log_stint(arrays, i, r, time)


@inner
def stop_decoding(arrays: Arrays, i: int, r: int) -> None:
    """Take request r, already out of the heap of completions, out of the batch and bring its counts up to date."""
    replica, request = arrays.replicas[i], arrays.requests[r]
    made = replica.decode_steps - request.decode_steps_at_start
    request.emitted += made
    replica.active_seqs -= 1
    replica.batch_seqs -= 1
    replica.context_tokens -= request.kv_at_start + replica.growth * made
    if request.reserved_tokens == 0:
        arrays.block_growth[i, request.growth_phase] -= 1
        request.blocks = (request.kv_at_start + replica.block_tokens - 1) // replica.block_tokens
        beyond = made - steps_of_room(arrays, i, request.kv_at_start)
        if beyond > 0:
            request.blocks += (beyond + replica.growth_steps - 1) // replica.growth_steps * replica.growth_blocks


@inner
def preempt_newest(arrays: Arrays, i: int) -> float:
    """Send the request admitted last back to the head of the queue.

    Returns the seconds spent on copying its KV to host memory; 0 where the replica recomputes.
    """
    replica = arrays.replicas[i]
    r = replica.newest
    request = arrays.requests[r]
    swap_time = 0.0
    if request.prefill_left > 0:
        replica.partial_prefill = -1
        request.prefill_left = 0
    else:
        at = find_completion(arrays.completions, i, replica.active_seqs, r)
        remove_completion(arrays.completions, i, replica.active_seqs, at)
        if replica.decode_steps > request.decode_steps_at_start:
            request.last_token = replica.last_decode_end
        stop_decoding(arrays, i, r)
        if replica.swaps:
            request.kv_source = FROM_HOST
            swap_time = kv_tokens(arrays, i, r, request.emitted) * replica.swap_time_per_token
    release(arrays, i, r)
    end_running(arrays, i, r)
    requeue(arrays, i, r)
    replica.tokens_to_make -= request.output - request.emitted
    request.preempted += 1
    return swap_time
