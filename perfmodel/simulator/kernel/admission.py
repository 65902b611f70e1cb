"""Admission of waiting requests, prompt tokens of a step, and KV blocks for the next decode step; compiled.

Names in this package: `i` is the index of a replica and `replica` its record, `r` the index of a request and `request`
its record.
"""

from __future__ import annotations

import math

from perfmodel.simulator.kernel.jit import inner
from perfmodel.simulator.kernel.kvcache import (
    allocate,
    available_blocks,
    blocks_needed_next,
    hold_hashes,
    kv_tokens,
    match_prefix,
)
from perfmodel.simulator.kernel.lifecycle import preempt_newest, start_decoding
from perfmodel.simulator.kernel.queues import begin_running, dequeue
from perfmodel.simulator.kernel.records import FROM_HOST, FROM_PREFILL
from perfmodel.simulator.kernel.state import Arrays

#: Returned by `admissible` where the free KV blocks do not suffice.
NO_BLOCKS = -1


@inner
def admissible(arrays: Arrays, i: int, r: int) -> int:
    """Prefix hashes that request r, first in the queue, reuses if admitted now; `NO_BLOCKS`: its KV does not fit."""
    replica, request = arrays.replicas[i], arrays.requests[r]
    has_kv = request.kv_source != FROM_PREFILL
    # the last token made has no KV yet; a prefill computes it with the prompt, a decode step by itself
    tokens = kv_tokens(arrays, i, r, request.emitted + (0 if has_kv else 1))
    total = (max(tokens, request.reserved_tokens) + replica.block_tokens - 1) // replica.block_tokens
    hits, unused = 0, 0
    if replica.prefix_cache and not has_kv:
        hits, unused = match_prefix(arrays, i, r, tokens)
    keep = 0
    if replica.running > 0:
        keep = (
            replica.watermark + int(replica.headroom * replica.growth * replica.tokens_to_make) // replica.block_tokens
        )
        if has_kv:  # it decodes in this very step, with the others
            keep += blocks_needed_next(arrays, i) + replica.growth_blocks
    # hits that nobody uses count as available, and admission takes them
    available = available_blocks(arrays, i) - unused * replica.blocks_per_hash
    if total - hits * replica.blocks_per_hash + keep > available:
        return NO_BLOCKS
    request.blocks = total
    return hits


@inner
def admit(arrays: Arrays, i: int, hits: int, time: float) -> int:
    """Take the first request out of the queue, give it its KV blocks and return it; `hits` is from `admissible`."""
    r: int = dequeue(arrays, i)
    replica, request = arrays.replicas[i], arrays.requests[r]
    hold_hashes(arrays, i, r, request.hashes_held, hits)
    allocate(arrays, i, request.blocks - hits * replica.blocks_per_hash)
    begin_running(arrays, i, r)
    request.hashes_held = hits
    if math.isnan(request.admitted):
        request.admitted = time
    replica.tokens_to_make += request.output - request.emitted
    return r


@inner
def admit_with_kv(arrays: Arrays, i: int, time: float) -> float:
    """Admit the requests at the head of the queue whose KV cache exists already; they decode from this step on.

    Returns the seconds spent on copying KV back from host memory.
    """
    replica, swap_time = arrays.replicas[i], 0.0
    while replica.queue_head >= 0 and replica.running < replica.max_num_seqs:
        r = replica.queue_head
        request = arrays.requests[r]
        if request.kv_source == FROM_PREFILL or request.ready > replica.seen:
            break
        if admissible(arrays, i, r) == NO_BLOCKS:
            break
        admit(arrays, i, request.hashes_held, time)
        if request.kv_source == FROM_HOST:
            swap_time += kv_tokens(arrays, i, r, request.emitted) * replica.swap_time_per_token
        request.kv_source = FROM_PREFILL
        start_decoding(arrays, i, r, math.nan)
    return swap_time


@inner
def _next_prefill(arrays: Arrays, i: int, time: float, left: int, first: bool) -> int:
    """The request whose prompt is computed next, admitted if it was waiting; -1: none fits in this step.

    left: tokens left in the step; first: whether the step has no prompt tokens yet.
    """
    replica = arrays.replicas[i]
    if replica.partial_prefill >= 0:
        partial: int = replica.partial_prefill
        return partial
    r: int = replica.queue_head
    if r < 0 or replica.running >= replica.max_num_seqs:
        return -1
    request = arrays.requests[r]
    if request.ready > replica.seen or request.kv_source != FROM_PREFILL:
        return -1
    hits = admissible(arrays, i, r)
    if hits == NO_BLOCKS:
        return -1
    cached = hits * replica.blocks_per_hash * replica.block_tokens
    to_compute = kv_tokens(arrays, i, r, request.emitted + 1) - cached
    if not replica.chunked_prefill and to_compute > left and not first:
        return -1  # a whole prompt may exceed the token budget only in a step of its own
    admit(arrays, i, hits, time)
    request.prefill_left, request.prefill_done = to_compute, cached
    request.cached += cached
    return r


@inner
def fill_prefill(arrays: Arrays, i: int, time: float, left: int) -> tuple[int, float]:
    """Fill a step with up to `left` prompt tokens, first come first served.

    Returns the prompt tokens in the step, and the keys that they attend to, summed over these tokens.
    """
    replica, tokens, keys = arrays.replicas[i], 0, 0.0
    while left > 0:
        r = _next_prefill(arrays, i, time, left, tokens == 0)
        if r < 0:
            break
        request = arrays.requests[r]
        part = min(request.prefill_left, left) if replica.chunked_prefill else request.prefill_left
        tokens += part
        left -= part
        # the j-th token of the part attends to the tokens before the part and to j tokens of it, j from 1
        keys += part * (request.prefill_done + 0.5 * (part + 1))
        request.prefill_done += part
        request.prefill_left -= part
        if request.prefill_left > 0:
            replica.partial_prefill = r
            break
        replica.partial_prefill = -1
        arrays.ending_prefills[i, replica.ending_prefills] = r
        replica.ending_prefills += 1
    return tokens, keys


@inner
def fill_static_batch(arrays: Arrays, i: int, time: float) -> tuple[int, float]:
    """Form a static batch, every prompt padded to the longest; returns as `fill_prefill`."""
    replica, longest = arrays.replicas[i], 0
    while (
        replica.queue_head >= 0
        and replica.running < replica.max_num_seqs
        and arrays.requests[replica.queue_head].ready <= time
    ):
        if admissible(arrays, i, replica.queue_head) == NO_BLOCKS:
            break
        r = admit(arrays, i, arrays.requests[replica.queue_head].hashes_held, time)
        longest = max(longest, arrays.requests[r].prompt)
        arrays.ending_prefills[i, replica.ending_prefills] = r
        replica.ending_prefills += 1
    tokens = longest * replica.ending_prefills
    return tokens, tokens * 0.5 * (longest + 1)


@inner
def allocate_decode_step(arrays: Arrays, i: int) -> tuple[bool, float]:
    """Allocate the KV blocks of the next decode step, preempting the newest requests until they fit.

    Returns whether any request was preempted, and the seconds spent on copying KV to host memory.
    """
    preempted, swap_time = False, 0.0
    need = blocks_needed_next(arrays, i)
    while need > available_blocks(arrays, i):
        preempted = True
        swap_time += preempt_newest(arrays, i)
        need = blocks_needed_next(arrays, i)
    allocate(arrays, i, need)
    return preempted, swap_time
