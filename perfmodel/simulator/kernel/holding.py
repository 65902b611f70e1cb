"""Prompts that a replica holds back while sequences decode, until more of them have come; compiled.

Engines do so with attention data parallelism, because a step of prompts takes as long as that of its fullest rank
(`perfmodel.simulator.replica_pools.policy.Policy.prompts_together`). Names as in
`perfmodel.simulator.kernel.admission`.
"""

from __future__ import annotations

import math

from perfmodel.simulator.kernel.jit import inner
from perfmodel.simulator.kernel.records import FROM_PREFILL
from perfmodel.simulator.kernel.state import Arrays


@inner
def holds_prompts(arrays: Arrays, i: int) -> bool:
    """Whether replica i holds back the prompts that wait at the boundary that it is at.

    A hold begins with the first of them for which there is room, and lasts until prompts are computed.
    """
    replica = arrays.replicas[i]
    if replica.prompts_together <= 1 or replica.active_seqs == 0 or replica.partial_prefill >= 0:
        return False
    ready, r = 0, replica.queue_head
    most = min(replica.prompts_together, replica.max_num_seqs - replica.running)
    while ready < most and r >= 0:
        if arrays.requests[r].ready > replica.seen or arrays.requests[r].kv_source != FROM_PREFILL:
            break
        ready, r = ready + 1, arrays.requests[r].next_waiting
    if ready == 0:
        replica.hold_end = -1
    elif replica.hold_end < 0:
        replica.hold_end = replica.decode_steps + replica.hold_steps
    held: bool = 0 < ready < replica.prompts_together and replica.decode_steps < replica.hold_end
    return held


@inner
def enough_ready(arrays: Arrays, i: int) -> float:
    """When as many prompts are ready as replica i holds back for each other; inf: too few wait or have room."""
    replica = arrays.replicas[i]
    if replica.waiting < replica.prompts_together or replica.max_num_seqs - replica.running < replica.prompts_together:
        return math.inf
    time, r = 0.0, replica.queue_head
    for _ in range(replica.prompts_together):
        if arrays.requests[r].kv_source != FROM_PREFILL:
            return math.inf
        time, r = max(time, arrays.requests[r].ready), arrays.requests[r].next_waiting
    return time
