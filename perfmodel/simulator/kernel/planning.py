"""What a replica does from a step boundary on, compiled: which tokens its next step holds, and how many steps follow.

While the same sequences decode, nothing is admitted and no prefill is under way, step time is linear in the number of
steps made (context grows by one token per sequence and step). Such a stretch is one run: it ends at the next
completion, when KV blocks run out, where the step-time table bends, or at the first boundary at which a newly arrived
request can be admitted.
"""

from __future__ import annotations

import math

from perfmodel.simulator.kernel.admission import admit_with_kv, allocate_decode_step, fill_prefill, fill_static_batch
from perfmodel.simulator.kernel.holding import enough_ready, holds_prompts
from perfmodel.simulator.kernel.jit import inner
from perfmodel.simulator.kernel.kvcache import available_blocks, steps_that_fit
from perfmodel.simulator.kernel.state import Arrays
from perfmodel.simulator.kernel.steptime import decode_line, run_end, step_time, steps_until_seen


@inner
def plan_run(arrays: Arrays, i: int, time: float) -> None:
    """Begin the next run of replica i at `time`, or leave it idle until a request is ready."""
    replica = arrays.replicas[i]
    tokens, keys, swap_time, preempted = 0, 0.0, 0.0, False
    if replica.static_batching:
        if replica.running == 0:
            tokens, keys = fill_static_batch(arrays, i, time)
        decoding = replica.active_seqs > 0
    else:
        swap_time = admit_with_kv(arrays, i, time)
        if replica.mixed_steps and replica.active_seqs > 0:
            preempted, seconds = allocate_decode_step(arrays, i)
            swap_time += seconds
        if not preempted and not holds_prompts(arrays, i):
            left = replica.token_budget - (replica.active_seqs * replica.step_tokens if replica.mixed_steps else 0)
            tokens, keys = fill_prefill(arrays, i, time, left)
            if tokens > 0:
                replica.hold_end = -1
        decoding = replica.active_seqs > 0 and (replica.mixed_steps or tokens == 0)
        if decoding and not replica.mixed_steps:
            preempted, seconds = allocate_decode_step(arrays, i)
            swap_time += seconds
    replica.busy = tokens > 0 or decoding
    if not replica.busy:
        _stay_idle(arrays, i, time)
        return
    replica.start, replica.prompt_tokens, replica.decoding = time, tokens, decoding
    replica.steps, replica.slope = 1, 0.0
    if tokens > 0:
        seqs = replica.batch_seqs if decoding else 0
        context, ending = replica.context_tokens + seqs, replica.ending_prefills
        replica.step = swap_time + step_time(arrays, replica.table, tokens, keys / tokens, seqs, context, ending)
    else:
        _plan_decode_run(arrays, i, time, swap_time, preempted)
    replica.boundary = run_end(time, replica.step, replica.slope, replica.steps)
    _log_run(arrays, i, keys / tokens if tokens > 0 else 0.0)


@inner
def _stay_idle(arrays: Arrays, i: int, time: float) -> None:
    """Wait until the first request in the queue is ready, if one is there whose front end is not done yet."""
    replica = arrays.replicas[i]
    replica.boundary = math.inf
    if replica.queue_head >= 0 and arrays.requests[replica.queue_head].ready > time:
        replica.boundary = arrays.requests[replica.queue_head].ready


@inner
def _plan_decode_run(arrays: Arrays, i: int, time: float, swap_time: float, preempted: bool) -> None:
    """Plan as many decode steps as differ in nothing but the growth of their context."""
    replica = arrays.replicas[i]
    step, slope, steps = decode_line(
        arrays, replica.table, replica.batch_seqs, replica.context_tokens + replica.batch_seqs, replica.growth
    )
    replica.step = step + swap_time
    if preempted or swap_time > 0 or replica.partial_prefill >= 0:
        return
    replica.slope = slope
    steps = min(steps, (arrays.completions[i, 0] >> 32) - replica.decode_steps)
    if not replica.static_batching and steps > 1:
        # blocks of the first step are allocated already
        steps = 1 + steps_that_fit(arrays, i, replica.decode_steps + 2, steps - 1, available_blocks(arrays, i))
        r = replica.queue_head
        if r >= 0 and arrays.requests[r].ready > replica.seen and replica.running < replica.max_num_seqs:
            steps = steps_until_seen(replica.schedules_ahead, time, step, slope, steps, arrays.requests[r].ready)
        if replica.hold_end > replica.decode_steps:
            steps = _steps_of_hold(arrays, i, time, steps)
    replica.steps = steps


@inner
def _steps_of_hold(arrays: Arrays, i: int, time: float, most: int) -> int:
    """Fewest decode steps, 1 to `most`, after which replica i holds the waiting prompts back no longer."""
    replica = arrays.replicas[i]
    steps: int = min(most, replica.hold_end - replica.decode_steps)
    enough = enough_ready(arrays, i)
    if enough > replica.seen:
        steps = steps_until_seen(replica.schedules_ahead, time, replica.step, replica.slope, steps, enough)
    return steps


@inner
def _log_run(arrays: Arrays, i: int, keys: float) -> None:
    """Append the run that replica i begins to the log. keys: of each prompt token, on average."""
    replica, loop = arrays.replicas[i], arrays.loop[0]
    row = arrays.runs[loop.logged_runs]
    replica.log_row = loop.logged_runs
    loop.logged_runs += 1
    row.start, row.step, row.slope, row.replica = replica.start, replica.step, replica.slope, i
    row.count = replica.decode_steps if replica.decoding else -1
    row.active = replica.active_seqs if replica.decoding else 0
    row.prompt, row.waiting, row.running = replica.prompt_tokens, replica.waiting, replica.running
    row.batch = replica.batch_seqs if replica.decoding else 0
    row.keys, row.context = keys, replica.context_tokens + replica.batch_seqs if replica.decoding else 0
    row.used = replica.total_blocks - available_blocks(arrays, i)
