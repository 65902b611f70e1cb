"""Record types and integer codes of the compiled event loop. No behaviour here.

Units: times in seconds, lengths in tokens, KV cache in blocks. One record per request and one per replica keeps fields
that are used together close in memory.

Two terms recur. The *decode count* of a replica is the number of steps so far in which sequences decoded; a sequence
that decodes makes one token per count, or several with speculative decoding. A *run* is a stretch of consecutive steps
with the same sequences, handled as one event.
"""

from __future__ import annotations

from typing import Any

import numpy as np

#: Codes of a replica's `role`: it prefills and decodes, prefills only, or decodes only.
BOTH, PREFILL, DECODE = 0, 1, 2

#: Names of the routing rules; a rule's code is its position here.
ROUTERS = ("round_robin", "least_loaded", "join_shortest_queue", "prefix_aware", "random", "power_of_two")
ROUND_ROBIN, LEAST_LOADED, JOIN_SHORTEST_QUEUE, PREFIX_AWARE, RANDOM, POWER_OF_TWO = range(len(ROUTERS))

#: Codes of a request's `kv_source`: its KV cache has to be computed by a prefill, arrives from the prefill pool, or is
#: copied back from host memory after a preemption by swapping.
FROM_PREFILL, FROM_POOL, FROM_HOST = 0, 1, 2

#: What a call of the compiled loop returns: the log arrays are full, events remain, or nothing is left to happen.
LOG_FULL, MORE, ALL_DONE = 0, 1, 2

_F, _I, _B = np.float64, np.int64, np.bool_


def _record(**fields: Any) -> np.dtype[np.void]:
    return np.dtype(list(fields.items()), align=True)


#: A request.
REQUEST = _record(
    prompt=_I,  # prompt tokens
    output=_I,  # output tokens asked for; with drafts the steps that make them
    reserved_tokens=_I,  # tokens of KV set aside at admission; 0: blocks are added as the sequence grows
    hash_begin=_I,
    hash_end=_I,  # its prefix hashes are hash_ids[hash_begin:hash_end]
    arrival=_F,  # offered arrival time; inf where the completion of another request triggers it
    issued=_F,  # actual arrival time
    ready=_F,  # earliest time at which the scheduler can admit it
    admitted=_F,  # time of its first admission
    first=_F,  # time of its first token
    finish=_F,  # time of its last token
    last_token=_F,  # time of its latest token when it last started or stopped decoding
    replica=_I,  # replica that holds or held it last
    prefiller=_I,  # replica that made its first token
    emitted=_I,  # steps that made tokens, one each without drafts; while it decodes, those before it started
    kv_at_start=_I,  # tokens in its KV cache when it last started to decode
    decode_steps_at_start=_I,  # its replica's decode count then
    growth_phase=_I,  # decode count, modulo `growth_steps`, at which it needs more blocks
    prefill_left=_I,  # prompt tokens still to compute in the current prefill
    prefill_done=_I,  # tokens already in the KV cache in the current prefill, prefix hits included
    kv_source=_I,  # FROM_PREFILL, FROM_POOL or FROM_HOST
    hashes_held=_I,  # leading prefix hashes that it uses at present
    blocks=_I,  # KV blocks held, shared ones included; while it decodes, those held when it started
    cached=_I,  # prompt tokens found in the prefix cache, summed over admissions
    preempted=_I,  # number of preemptions
    next_waiting=_I,  # next request in its replica's waiting queue
    older=_I,
    newer=_I,  # neighbours in its replica's list of admitted requests, in order of admission
    next_held=_I,  # next request in its replica's list of those whose first or last token is yet to be handed on
)

#: A replica.
REPLICA = _record(
    # rules, constant during a simulation; `perfmodel.simulator.replica_pools.policy` explains them
    role=_I,
    table=_I,  # index of its step-time table
    static_batching=_B,
    mixed_steps=_B,  # prefill and decode tokens share steps
    chunked_prefill=_B,
    token_budget=_I,  # max_num_batched_tokens
    max_num_seqs=_I,
    block_tokens=_I,  # tokens per KV block
    step_tokens=_I,  # tokens that a decode step computes per sequence: 1, or 1 and the drafts that it verifies
    growth=_F,  # mean tokens that a decode step yields per sequence
    growth_blocks=_I,  # KV blocks that a sequence takes at a time as it grows ...
    growth_steps=_I,  # ... every so many decode steps
    total_blocks=_I,
    watermark=_I,  # blocks kept free at admission
    headroom=_F,  # share of `tokens_to_make` kept free at admission
    swaps=_B,  # preemption swaps to host memory; otherwise it recomputes
    swap_time_per_token=_F,  # s to copy one token of KV to or from host memory
    prefix_cache=_B,
    blocks_per_hash=_I,  # KV blocks that one prefix hash stands for
    front_end_time=_F,  # s per request
    tokenize_time=_F,  # s per token of its prompt
    front_end_serial=_B,
    prompts_together=_I,  # prompts that have to wait before the first of them begins beside decodes
    hold_steps=_I,  # decode steps that the first of them waits at most
    schedules_ahead=_B,  # the step after the running one is planned already
    hands_on_late=_B,  # clients get the tokens of a step when the next one ends
    stream_time=_F,  # s per token of the process that streams all answers, one token after the other; 0: no limit
    link_latency=_F,  # s per transfer to the decode pool
    link_time_per_token=_F,  # s per token of KV
    # the run under way
    boundary=_F,  # when the run ends, or when the first waiting request of an idle replica becomes ready
    busy=_B,
    seen=_F,  # requests that were ready by then can be admitted at the boundary
    start=_F,
    step=_F,  # duration of its first step
    slope=_F,  # how much longer each further step takes than the one before
    steps=_I,
    prompt_tokens=_I,  # prompt tokens in it
    decoding=_B,  # whether sequences decode in it
    log_row=_I,
    # sequences and queue
    decode_steps=_I,  # decode count
    active_seqs=_I,  # sequences that make tokens
    batch_seqs=_I,  # sequences that the kernels process; static batches keep finished ones
    context_tokens=_F,  # KV tokens of the `batch_seqs` sequences
    running=_I,  # requests admitted and not yet complete
    waiting=_I,
    queue_head=_I,
    queue_tail=_I,
    oldest=_I,
    newest=_I,  # ends of the list of admitted requests
    partial_prefill=_I,  # request whose prompt is partly computed, or -1
    ending_prefills=_I,  # number of requests whose prefill ends with the run under way
    hold_end=_I,  # decode count at which prompts are held back no longer, or -1
    held=_I,  # first of the requests whose first or last token was made just now and is yet to be handed on, or -1
    stream_free_at=_F,  # when that process has streamed all tokens made so far
    streamed_at=_F,  # and when, on average, those of the step that has just ended
    free_blocks=_I,
    tokens_to_make=_I,  # output tokens that running requests have still to make
    last_decode_end=_F,  # end of the last step with decodes
    front_end_free_at=_F,
    link_free_at=_F,
    outstanding=_I,  # requests routed to this replica and not complete
    outstanding_tokens=_I,  # their prompt tokens
    # prefix cache
    lru_first=_I,
    lru_last=_I,  # list of nodes that no request uses, least recently used first
    first_empty_node=_I,  # head of the list of nodes without a hash
    evictable_nodes=_I,  # length of the least-recently-used list
)

#: A node of the prefix cache: a resident hash, how many running requests use it, and its neighbours in the list of
#: unused nodes.
NODE = _record(hash=np.int32, users=np.int32, before=np.int32, behind=np.int32)

#: Counters of the loop itself.
LOOP = _record(
    router=_I,  # code of the routing rule
    min_match_share=_F,  # thresholds of the prefix-aware rule, see `perfmodel.simulator.Affinity`
    uneven_requests=_F,
    uneven_ratio=_F,
    pending_events=_I,  # size of the heap `Arrays.events`
    next_arrival=_I,  # next request whose arrival time was given
    next_closed_loop=_I,  # next request that the completion of another one triggers
    turn=_I,
    turn_decode=_I,  # round-robin positions, for arrivals and for hand-overs
    seed=np.uint64,  # state of the random number generator
    logged_runs=_I,
    logged_stints=_I,
    finished=_I,
    processed_events=_I,
    think=_F,  # s between the completion of a user's request and that user's next one
)

#: An arrival that depends on other requests: the next of a closed loop, or KV on its way to a decode replica.
EVENT = _record(time=_F, request=_I)

#: Log: `steps` consecutive steps of a replica from time `start`; step j (from 0) takes step + j * slope seconds.
RUN = _record(
    start=_F,
    step=_F,
    slope=_F,
    count=_I,  # decode count before the run; -1: nothing decodes in it
    steps=np.int32,
    active=np.int32,  # sequences that make tokens
    prompt=np.int32,  # prompt tokens per step
    batch=np.int32,  # sequences that the kernels process in decodes; static batches keep finished ones
    keys=_F,  # keys that each prompt token attends to, on average; 0: no prompt
    context=_F,  # KV tokens of the `batch` sequences, with those of the first step
    waiting=np.int32,
    running=np.int32,
    used=np.int32,  # blocks in use; cached blocks that nobody uses do not count
    replica=np.int32,
)

#: Log: a stint of decoding. From decode count `count` on, `request` makes one token per decode step.
STINT = _record(
    time=_F,  # end of the prefill before it; NaN: no prefill here, the KV came from the prefill pool or from the host
    last=_F,  # time of the request's last token before that prefill
    count=_I,
    made=_I,  # tokens that the request had made when the stint began
    request=np.int32,
    replica=np.int32,
)

#: A step-time table: lengths of its axes, and where its axes and values begin in one array of numbers; see
#: `perfmodel.simulator.replica_pools.table.StepTable`.
TABLE = _record(
    total=_I,
    tokens=_I,
    keys=_I,
    seqs=_I,
    context=_I,
    some_tokens=_I,
    some_seqs=_I,
    at_total=_I,
    at_tokens=_I,
    at_keys=_I,
    at_seqs=_I,
    at_context=_I,
    at_some_tokens=_I,
    at_some_seqs=_I,
    dense=_I,
    prompt=_I,
    decode=_I,
    shared=_I,
    floor=_I,
    crowd=_I,
    take_in=_I,
    cut=_I,
)
