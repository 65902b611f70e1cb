"""The simulator's state as records in plain arrays: what the compiled loop reads and writes. No behaviour here.

R requests, N replicas, M sequences at most a replica, B tokens at most a KV block. Times are seconds, lengths tokens,
KV in blocks. One record a request or replica keeps what is used together close together, and calls cheap.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

#: Codes of a replica's `role`, and of routers.
BOTH, PREFILL, DECODE = 0, 1, 2
ROUTERS = ("round_robin", "least_loaded", "join_shortest_queue", "prefix_aware", "random", "power_of_two")

#: What a call of the compiled loop returns.
LOG_FULL, MORE, ALL_DONE = 0, 1, 2

_F, _I, _B = np.float64, np.int64, np.bool_


def _record(**fields: Any) -> np.dtype[np.void]:
    return np.dtype(list(fields.items()), align=True)


REQUEST = _record(
    prompt=_I,
    output=_I,
    reserve=_I,  # KV tokens set aside at admission; 0: blocks as the sequence grows
    first_id=_I,
    last_id=_I,  # its prefix hashes are ids[first_id:last_id]
    arrival=_F,  # offered; inf where a finished request triggers it
    issued=_F,  # when it really arrived
    ready=_F,  # when the scheduler may see it
    admitted=_F,  # first time in a step
    first=_F,
    finish=_F,  # ends of the steps that made its first and last tokens
    last=_F,  # time of its last token known when it last joined or left the decoding
    replica=_I,  # where it is or was last
    prefiller=_I,  # replica of its first token
    emitted=_I,  # tokens made (while it decodes: before it joined)
    stored=_I,  # tokens of KV when it last began to decode
    joined=_I,  # its replica's decode count then
    phase=_I,  # decode count modulo block at which it grows
    todo=_I,  # prompt tokens left in this prefill
    done=_I,  # tokens of KV so far in this prefill
    at_hand=_I,  # 0 needs a prefill; its KV comes 1 from the prefill pool, 2 from the host
    refs=_I,  # prefix hashes it holds
    blocks=_I,  # KV blocks held, shared ones included (while it decodes: when it joined)
    cached=_I,  # prompt tokens found in the cache, summed over admissions
    preempted=_I,  # times
    after=_I,  # next in its replica's waiting queue
    older=_I,
    newer=_I,  # neighbours in its replica's list of running requests
)

REPLICA = _record(
    # rules, constant; see `perfmodel.simulator.policy`
    role=_I,
    table=_I,
    static=_B,
    mix=_B,
    chunk=_B,
    budget=_I,
    max_num_seqs=_I,
    block=_I,
    capacity=_I,
    watermark=_I,
    headroom=_F,
    swap=_B,
    swap_time=_F,  # s a token moved to or from the host
    prefix=_B,
    span=_I,  # KV blocks a prefix hash stands for
    front_time=_F,
    front_serial=_B,
    link_latency=_F,
    link_time=_F,  # s a transfer, s a token of KV
    # what it is doing
    due=_F,  # end of the run under way, or when an idle replica's next request is ready
    busy=_B,
    start=_F,  # begin of the run under way
    step=_F,
    slope=_F,
    steps=_I,  # its first step takes `step` s, each further one `slope` longer
    tokens=_I,  # prompt tokens in it
    decoding=_B,  # whether sequences decode in it
    row=_I,  # of it in the log
    count=_I,  # decode steps made so far
    active=_I,  # sequences that make tokens
    slots=_I,  # sequences the kernels see (static batches keep finished ones)
    context=_I,  # their tokens of KV, summed
    running=_I,  # admitted, not finished
    waiting=_I,
    head=_I,
    tail=_I,  # queue
    oldest=_I,
    newest=_I,  # running list
    partial=_I,  # request whose prompt is half done, or -1
    fresh=_I,  # requests whose prompt ends with the run under way
    free=_I,  # blocks
    owed=_I,  # tokens that running requests have still to make
    last_token=_F,  # end of the last step with decodes
    front=_F,
    link=_F,  # when the front end and the link are free
    outstanding=_I,  # requests routed here and not gone
    load=_I,  # their prompt tokens
    # prefix cache
    first_idle=_I,
    last_idle=_I,  # unused nodes, least recently used first
    empty=_I,  # first of the nodes without a hash
    idle=_I,  # nodes that may be evicted
)

#: Prefix cache: a resident hash, how many running requests hold it, its neighbours in the list of unused nodes.
NODE = _record(name=np.int32, users=np.int32, before=np.int32, behind=np.int32)

LOOP = _record(
    router=_I,
    pending=_I,  # size of the heap of events
    next=_I,  # next request that arrives by itself
    users=_I,  # next request that a closed loop issues
    turn=_I,
    turn_decode=_I,  # round robin
    seed=np.uint64,
    runs=_I,
    stints=_I,
    finished=_I,
    events=_I,
    think=_F,  # s between an answer and the user's next request
)

#: An arrival that depends on others.
EVENT = _record(time=_F, request=_I)

#: Log: `steps` steps of a replica from `start`, the j-th taking step + j * slope.
RUN = _record(
    start=_F,
    step=_F,
    slope=_F,
    count=_I,  # decode count before it; -1: nothing decodes
    steps=np.int32,
    active=np.int32,
    prompt=np.int32,
    waiting=np.int32,
    running=np.int32,
    used=np.int32,  # blocks in use, cached but unused ones not counted
    replica=np.int32,
)

#: Log: from decode count `count` on, a request makes one token a decode step, having `made` tokens by then.
STINT = _record(
    time=_F,  # end of the prefill that made the last of those; NaN: none, its KV came from elsewhere
    last=_F,  # time of the last token before that prefill
    count=_I,
    made=_I,
    request=np.int32,
    replica=np.int32,
)

#: Step-time tables: sizes of axes and where axes and values begin in one array; see `perfmodel.simulator.table`.
TABLE = _record(
    tokens=_I,
    keys=_I,
    seqs=_I,
    context=_I,
    at_tokens=_I,
    at_keys=_I,
    at_seqs=_I,
    at_context=_I,
    base=_I,
    prompt=_I,
    decode=_I,
    floor=_I,
)


class Arrays(NamedTuple):
    """All of the state."""

    requests: Any  # REQUEST (R,)
    replicas: Any  # REPLICA (N,)
    finishing: Any  # int64 (N, M): heap of (decode count at finish << 32 | request)
    fresh: Any  # int64 (N, M): requests whose prompt ends with the run under way
    growth: Any  # int64 (N, B): sequences that need a block when decode count modulo block is this
    nodes: Any  # NODE (N, K)
    where: Any  # int32 (N, H): node of a hash, -1 absent
    ids: Any  # int32: prefix hashes of all requests
    entry: Any  # int64: replicas that take arrivals
    decoders: Any  # int64: replicas that take over after a prefill elsewhere
    loop: Any  # LOOP (1,)
    events: Any  # EVENT (R,)
    tables: Any  # TABLE (T,)
    values: Any  # float64
    runs: Any  # RUN
    stints: Any  # STINT


def requests(count: int) -> np.ndarray:
    """`count` requests before they arrive; the offered columns are the caller's to fill."""
    made = np.zeros(count, REQUEST)
    for field in ("issued", "ready", "admitted", "first", "finish", "last"):
        made[field] = np.nan
    for field in ("replica", "prefiller", "after", "older", "newer"):
        made[field] = -1
    return made


def replicas(count: int) -> np.ndarray:
    """`count` idle replicas; the rules are the caller's to fill, `free` with them."""
    made = np.zeros(count, REPLICA)
    for field in ("head", "tail", "oldest", "newest", "partial", "first_idle", "last_idle"):
        made[field] = -1
    made["due"] = np.inf
    return made


def nodes(replica: np.ndarray, hashes: int) -> tuple[np.ndarray, np.ndarray]:
    """Empty prefix caches, (N, K) nodes and (N, H) places; of size one where no replica keeps any."""
    used = bool(replica["prefix"].any()) and hashes > 0
    size = int((replica["capacity"] // replica["span"]).max()) + 1 if used else 1
    made = np.full((len(replica), size), -1, np.int32).astype(NODE)
    made["users"] = 0
    made["behind"] = np.arange(1, size + 1)
    made["behind"][:, -1] = -1
    return made, np.full((len(replica), hashes if used else 1), -1, np.int32)


def loop(*, router: str, opening: int, offered: int, think: float, seed: int) -> np.ndarray:
    """Counters before the first event; a closed loop has issued its `opening` requests (0: an open one)."""
    made = np.zeros(1, LOOP)
    made["router"], made["think"] = ROUTERS.index(router), think
    made["users"] = opening or offered
    made["seed"] = (seed * 0x9E3779B97F4A7C15 + 1) & 0xFFFFFFFFFFFFFFFF
    return made
