"""Build the state of a simulation before its first event, as arrays for the compiled loop."""

from __future__ import annotations

import math
from dataclasses import asdict

import numpy as np
from numpy.typing import NDArray

from hwdb import InputError
from perfmodel.simulator.kernel import records, state
from perfmodel.simulator.kernel.steptime import UNBOUNDED_STEPS
from perfmodel.simulator.replica_pools.policy import MAX_SEQS, Affinity, Policy, Pool
from perfmodel.simulator.replica_pools.table import stacked
from perfmodel.simulator.request_traffic.requests import Traffic, Whole

_ROLES = {"both": records.BOTH, "prefill": records.PREFILL, "decode": records.DECODE}
#: Token budget of a policy that has none: more than any step holds, and a whole number for the loop.
_UNBOUNDED_TOKENS = 1 << 40
#: Memory that the tables of prefix hashes may take (4 bytes per hash and replica). Chosen: 1 GiB.
_MAX_HASH_BYTES = 1 << 30
#: Decode steps for which a sequence takes KV blocks at a time where it drafts. Chosen: a fraction of an output.
LOOKAHEAD_STEPS = 8
#: Rows that a log has beyond what a quiet simulation needs. Chosen: enough that small simulations never enlarge it.
_SPARE_RUNS, _SPARE_STINTS = 4096, 64


def initial_arrays(
    traffic: Traffic, pools: tuple[Pool, ...], kept: Whole, reserved: Whole, loop: NDArray[np.void]
) -> state.Arrays:
    """Build the state of the compiled loop before the first event.

    kept: row numbers of the requests that can be served. reserved: (R,) KV tokens that each of all R requests reserves
    at admission. loop: as `opening_loop` returns it.
    """
    requests, hash_ids = _requests(traffic, kept, reserved)
    requests["output"] = pools[-1].emission.steps(traffic.output_tokens, traffic.seed)[kept]
    replicas = _replicas(pools, traffic, len(kept))
    count, most = len(replicas), int(replicas["max_num_seqs"].max())
    nodes, node_of_hash = state.nodes(replicas, int(hash_ids.max()) + 1 if len(hash_ids) else 0)
    tables, values = stacked([p.table for p in pools])
    decodes = replicas["role"] == records.DECODE
    return state.Arrays(
        requests=requests,
        replicas=replicas,
        completions=np.zeros((count, most), np.int64),
        ending_prefills=np.zeros((count, most), np.int64),
        block_growth=np.zeros((count, int(replicas["growth_steps"].max())), np.int64),
        nodes=nodes,
        node_of_hash=node_of_hash,
        hash_ids=hash_ids,
        entry_replicas=np.flatnonzero(~decodes),
        decode_replicas=np.flatnonzero(decodes),
        loop=loop,
        events=np.zeros(len(kept), records.EVENT),
        tables=tables,
        values=values,
        runs=np.zeros(2 * len(kept) + _SPARE_RUNS, records.RUN),
        stints=np.zeros(len(kept) + 4 * most + _SPARE_STINTS, records.STINT),
    )


def opening_loop(traffic: Traffic, offered: int, router: str, seed: int, affinity: Affinity) -> NDArray[np.void]:
    """Return the counters of the loop before the first event, with the router and its thresholds.

    offered: requests that will be served. seed: of the router's random draws.
    """
    loop = state.loop(router=router, opening=traffic.concurrency, offered=offered, think=traffic.think, seed=seed)
    for name, value in asdict(affinity).items():
        loop[name] = value
    return loop


def _requests(traffic: Traffic, kept: Whole, reserved: Whole) -> tuple[NDArray[np.void], NDArray[np.int32]]:
    """Return the records of the kept requests, and the prefix hashes of all requests.

    kept: row numbers of the requests that can be served. reserved: (R,) KV tokens that each of all requests reserves.
    """
    requests = state.requests(len(kept))
    requests["prompt"] = traffic.input_tokens[kept]
    requests["reserved_tokens"] = reserved[kept]
    requests["arrival"] = traffic.arrival[kept]
    if traffic.concurrency:
        requests["arrival"] = np.where(np.arange(len(kept)) < traffic.concurrency, 0.0, np.inf)
    prefixes = traffic.prefixes
    if prefixes is None:
        return requests, np.zeros(0, np.int32)
    requests["hash_begin"], requests["hash_end"] = prefixes.offsets[kept], prefixes.offsets[kept + 1]
    return requests, prefixes.hashes.astype(np.int32)


def _replicas(pools: tuple[Pool, ...], traffic: Traffic, count: int) -> NDArray[np.void]:
    """Return one record per replica, pool by pool; `count` is the number of requests that will be served."""
    replicas = state.replicas(sum(p.replicas for p in pools))
    at = 0
    for index, pool in enumerate(pools):
        for field, value in _rules(pool, index, traffic, count).items():
            replicas[field][at : at + pool.replicas] = value
        at += pool.replicas
    replicas["free_blocks"] = replicas["total_blocks"]
    hashes = 0 if traffic.prefixes is None else int(traffic.prefixes.hashes.max(initial=-1)) + 1
    bytes_per_hash = np.dtype(np.int32).itemsize
    if replicas["prefix_cache"].any() and bytes_per_hash * len(replicas) * hashes > _MAX_HASH_BYTES:
        raise InputError(
            f"{traffic.name}: {hashes:,} prefix hashes on {len(replicas)} replicas are too many to track; "
            "simulate fewer replicas or part of the trace, or turn the prefix cache off"
        )
    return replicas


def _growth(pool: Pool) -> dict[str, float]:
    """Return the fields of a replica's record that say how its sequences grow per decode step.

    A sequence takes so many blocks at a time that it needs more only every few steps, as engines allocate ahead for
    drafts (vLLM's lookahead slots).
    """
    emission, block = pool.emission, pool.policy.kv_block
    blocks = 1 if not emission.drafts else max(-(-LOOKAHEAD_STEPS * (1 + emission.drafts) // block), 1)
    return {
        "step_tokens": 1 + emission.drafts,
        "growth": emission.mean,
        "growth_blocks": blocks,
        "growth_steps": max(round(blocks * block / emission.mean), 1),
    }


def _rules(pool: Pool, index: int, traffic: Traffic, count: int) -> dict[str, float]:
    """Return the fields of a replica's record that stay constant during the simulation.

    index: position of the pool, and of its step table. count: number of all requests.
    """
    policy, blocks, link = pool.policy, pool.kv_blocks, pool.link
    blocks_per_hash = _blocks_per_hash(pool, traffic)
    swaps = policy.preemption == "swap"
    return {
        "role": _ROLES[pool.role],
        "table": index,
        "static_batching": policy.batching == "static",
        "mixed_steps": not policy.prefill_first,
        "chunked_prefill": policy.chunked,
        "token_budget": _token_budget(policy),
        "max_num_seqs": _max_num_seqs(policy, blocks, count, 1 + pool.emission.drafts),
        "block_tokens": policy.kv_block,
        **_growth(pool),
        "total_blocks": blocks,
        "watermark": int(policy.watermark * blocks),
        "headroom": policy.headroom,
        "swaps": swaps,
        "swap_time_per_token": pool.kv_bytes / pool.swap_bandwidth if swaps else 0.0,
        "prefix_cache": blocks_per_hash > 0,
        "blocks_per_hash": max(blocks_per_hash, 1),
        "front_end_time": policy.request_time,
        "tokenize_time": policy.tokenize_time,
        "front_end_serial": policy.serial_front_end,
        **_hold(pool),
        "schedules_ahead": policy.schedules_ahead,
        "hands_on_late": policy.hands_on_late and pool.role != "prefill",
        "stream_time": policy.streaming_token if pool.role == "both" else 0.0,
        "link_latency": link.latency if link else 0.0,
        "link_time_per_token": pool.kv_bytes / link.bandwidth if link else 0.0,
    }


def _hold(pool: Pool) -> dict[str, int]:
    """Return the fields of a replica's record that say how long prompts are held back for others."""
    policy = pool.policy
    return {
        "prompts_together": policy.prompts_together if pool.role == "both" else 1,
        "hold_steps": UNBOUNDED_STEPS if math.isnan(policy.hold_steps) else int(policy.hold_steps),
    }


def _token_budget(policy: Policy) -> int:
    """Return the most tokens per step as a whole number, with `_UNBOUNDED_TOKENS` for a policy without a limit."""
    return int(min(policy.max_num_batched_tokens, _UNBOUNDED_TOKENS))


def _max_num_seqs(policy: Policy, blocks: int, count: int, step_tokens: int) -> int:
    """Return how many sequences can run at once.

    Each needs a KV block and, where steps mix prompts and decodes, its tokens of the step's budget. blocks: KV blocks
    of the replica. count: number of requests. step_tokens: tokens of a sequence in a decode step.
    """
    budget = np.inf if policy.prefill_first else _token_budget(policy) / step_tokens
    return max(int(min(policy.max_num_seqs, blocks, count, MAX_SEQS, budget)), 1)


def _blocks_per_hash(pool: Pool, traffic: Traffic) -> int:
    """Return how many KV blocks one prefix hash stands for; 0 where the replicas of `pool` share no prefixes."""
    policy, prefixes = pool.policy, traffic.prefixes
    if prefixes is None or not policy.prefix_cache or pool.role == "decode" or policy.batching == "static":
        return 0
    if prefixes.tokens % policy.kv_block:
        raise InputError(
            f"{traffic.name}: a prefix hash stands for {prefixes.tokens} tokens, which KV blocks of {policy.kv_block} "
            f"tokens do not divide; set kv_block to a divisor of {prefixes.tokens}"
        )
    return prefixes.tokens // policy.kv_block
