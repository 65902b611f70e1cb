"""The state of a simulation as arrays that the compiled loop reads and writes; empty arrays to start from."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from perfmodel.simulator.kernel.records import LOOP, NODE, REPLICA, REQUEST, ROUTERS

#: SplitMix64's increment, the golden ratio in 64 bits (Steele, Lea, Flood 2014, doi:10.1145/2660193.2660195).
GOLDEN_GAMMA = 0x9E3779B97F4A7C15
_64_BITS = (1 << 64) - 1


class Arrays(NamedTuple):
    """The whole state. Types are record types of `perfmodel.simulator.kernel.records`.

    R requests, N replicas, M most sequences per replica, B most tokens per KV block, K nodes per prefix cache, H prefix
    hashes, T step-time tables.
    """

    requests: Any  # REQUEST (R,)
    replicas: Any  # REPLICA (N,)
    completions: Any  # int64 (N, M): per replica a heap of (decode count at completion << 32 | request)
    ending_prefills: Any  # int64 (N, M): requests whose prefill ends with the run under way
    block_growth: Any  # int64 (N, B): sequences that need another block when decode count modulo block size is this
    nodes: Any  # NODE (N, K)
    node_of_hash: Any  # int32 (N, H): node of a resident hash, -1 where it is absent
    hash_ids: Any  # int32: prefix hashes of all requests, one request after the other
    entry_replicas: Any  # int64: replicas that take arrivals
    decode_replicas: Any  # int64: replicas that take over after a prefill elsewhere
    loop: Any  # LOOP (1,)
    events: Any  # EVENT (R,): heap, earliest first
    tables: Any  # TABLE (T,)
    values: Any  # float64: axes and values of all tables
    runs: Any  # RUN: log
    stints: Any  # STINT: log


def requests(count: int) -> NDArray[np.void]:
    """`count` requests before they arrive. The caller fills in lengths, arrivals, hashes and reservations."""
    made = np.zeros(count, REQUEST)
    for field in ("issued", "ready", "admitted", "first", "finish", "last_token"):
        made[field] = np.nan
    for field in ("replica", "prefiller", "next_waiting", "older", "newer", "next_held"):
        made[field] = -1
    return made


def replicas(count: int) -> NDArray[np.void]:
    """`count` idle replicas. The caller fills in the rules and `free_blocks`."""
    made = np.zeros(count, REPLICA)
    for field in ("queue_head", "queue_tail", "oldest", "newest", "partial_prefill", "held", "lru_first", "lru_last"):
        made[field] = -1
    made["hold_end"] = -1
    made["boundary"] = np.inf
    return made


def nodes(replica: NDArray[np.void], hashes: int) -> tuple[NDArray[np.void], NDArray[np.int32]]:
    """Empty prefix caches of all replicas: nodes (N, K) and the node of each hash (N, H).

    K and H are 1 where no replica has a prefix cache or requests carry no hashes.
    """
    used = bool(replica["prefix_cache"].any()) and hashes > 0
    size = int((replica["total_blocks"] // replica["blocks_per_hash"]).max()) + 1 if used else 1
    made = np.full((len(replica), size), -1, np.int32).astype(NODE)
    made["users"] = 0
    made["behind"] = np.arange(1, size + 1)
    made["behind"][:, -1] = -1
    return made, np.full((len(replica), hashes if used else 1), -1, np.int32)


def loop(*, router: str, opening: int, offered: int, think: float, seed: int) -> NDArray[np.void]:
    """Counters before the first event.

    `opening` requests of a closed loop arrive at once, one per user; 0: arrivals of all `offered` requests are given.
    """
    made = np.zeros(1, LOOP)
    made["router"], made["think"] = ROUTERS.index(router), think
    made["next_closed_loop"] = opening or offered
    made["seed"] = (seed * GOLDEN_GAMMA + 1) & _64_BITS
    return made
