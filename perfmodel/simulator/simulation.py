"""From traffic and pools to a finished simulation: checks, arrays, the compiled loop, and what it left."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hwdb import InputError, UnknownName
from perfmodel.arrays import Array
from perfmodel.simulator.kernel import state
from perfmodel.simulator.policy import Policy, Pool
from perfmodel.simulator.requests import Traffic, Whole
from perfmodel.simulator.table import stacked

#: Called with (finished requests, requests in all) now and then.
Progress = Callable[[int, int], None]
_ROLES = {"both": state.BOTH, "prefill": state.PREFILL, "decode": state.DECODE}
_EVENTS_A_CALL = 250_000
_UNBOUNDED = 1 << 40
_MOST_SEQS = 1 << 16
_CACHE_BYTES = 1 << 30


@dataclass(frozen=True)
class Simulation:
    """What became of every request, (R,) each, in the order of the traffic; NaN or -1 where it never came to that.

    issued: when it arrived (s). admitted: when it first entered a step. first, finish: when its first and last token
    were made, or, between pools, its KV reached the decode replica, which answers. replica: where it ended;
    prefiller: where its first token was made. emitted, cached: tokens made, and prompt tokens found in the prefix
    cache. preempted: times. rejected: it could never fit. runs, stints: what every
    replica did when, and which request made tokens (`perfmodel.simulator.kernel.state`, RUN and STINT). notes: sentences a
    reader must know. events: how often the loop was entered.
    """

    traffic: Traffic
    pools: tuple[Pool, ...]
    router: str
    seed: int
    issued: Array
    admitted: Array
    first: Array
    finish: Array
    replica: Whole
    prefiller: Whole
    emitted: Whole
    cached: Whole
    preempted: Whole
    rejected: NDArray[np.bool_]
    runs: NDArray[np.void]
    stints: NDArray[np.void]
    notes: tuple[str, ...]
    events: int

    @property
    def duration(self) -> float:
        """From the first arrival to the last token, s."""
        return float(np.nanmax(self.finish) - np.nanmin(self.issued))

    @property
    def served(self) -> NDArray[np.bool_]:
        """Requests that got all their tokens. (R,)"""
        return ~self.rejected


def run(
    traffic: Traffic,
    pools: Pool | Sequence[Pool],
    *,
    router: str = "round_robin",
    seed: int = 0,
    progress: Progress | None = None,
) -> Simulation:
    """Simulate `traffic` on `pools` behind a router; the same arguments give the same answer.

    Pools are one or more of role `both`, or of roles `prefill` and `decode`. Raises `InputError` for combinations that
    mean nothing and where no request fits; single requests that do not fit are rejected and counted in `notes`.
    """
    from perfmodel.simulator.kernel import compiled

    pools = (pools,) if isinstance(pools, Pool) else tuple(pools)
    if router not in state.ROUTERS:
        raise UnknownName("router", router, state.ROUTERS)
    _check_pools(pools)
    reserve = _reserve(traffic, pools[0].policy)
    reasons = _misfits(traffic, pools, reserve)
    kept = np.flatnonzero(reasons == "")
    if not len(kept):
        raise InputError(f"{traffic.name}: none of {len(traffic)} requests can be served: {reasons[0]}")
    x = _arrays(traffic, pools, kept, reserve, router, seed)
    if progress:
        progress(0, len(kept))
    advance = compiled.advance()
    while (status := advance(x, _EVENTS_A_CALL)) != state.ALL_DONE:
        if status == state.LOG_FULL:
            x = x._replace(runs=_grown(x.runs), stints=_grown(x.stints))
        if progress:
            progress(int(x.loop["finished"][0]), len(kept))
    if progress:
        progress(len(kept), len(kept))
    return _collect(traffic, pools, router, seed, kept, reasons, x)


def _check_pools(pools: tuple[Pool, ...]) -> None:
    roles = {p.role for p in pools}
    if not pools or (roles != {"both"} and roles != {"prefill", "decode"}):
        raise InputError("pools must all have role `both`, or be `prefill` and `decode` pools; at least one of each")
    if any(p.role == "prefill" and p.link is None for p in pools):
        raise InputError("a prefill pool needs the link that carries its KV to the decode pool; give `link`")
    if len({(p.policy.admission, p.policy.batching) for p in pools}) > 1:
        raise InputError("pools of one service must share their KV admission rule and kind of batching")


def _reserve(traffic: Traffic, policy: Policy) -> Whole:
    """KV tokens set aside at admission, (R,); 0: none, blocks are added as the sequence grows."""
    whole = traffic.input_tokens + traffic.output_tokens
    if policy.admission == "contiguous" or (
        policy.batching == "static" and policy.max_model_len == policy.max_model_len
    ):
        if not policy.max_model_len >= 1:
            raise InputError("contiguous KV needs the longest sequence served; give max_model_len")
        return np.maximum(whole, int(policy.max_model_len))
    if policy.admission == "power_of_two":
        return 1 << np.ceil(np.log2(whole)).astype(np.int64)
    return whole if policy.admission == "reserve" or policy.batching == "static" else np.zeros_like(whole)


def _misfits(traffic: Traffic, pools: tuple[Pool, ...], reserve: Whole) -> NDArray[np.object_]:
    """Why each request can never be served, (R,); empty where it can."""
    reasons = np.full(len(traffic), "", object)
    whole = traffic.input_tokens + traffic.output_tokens
    for pool in pools:
        held = traffic.input_tokens if pool.role == "prefill" else whole - 1
        need = np.maximum(held, reserve)
        room = int(pool.kv_tokens) // pool.policy.kv_block * pool.policy.kv_block
        for row in np.flatnonzero((need > room) & (reasons == "")):
            reasons[row] = f"it needs {need[row]:,} tokens of KV and a replica of {pool.name} holds {room:,}"
        for row in np.flatnonzero((whole > pool.policy.max_model_len) & (reasons == "")):
            reasons[row] = f"its {whole[row]:,} tokens exceed the longest sequence, {pool.policy.max_model_len:,.0f}"
    return reasons


def _grown(log: NDArray[np.void]) -> NDArray[np.void]:
    """The log with half as much room again, and some."""
    return np.concatenate([log, np.zeros(len(log) // 2 + 4096, log.dtype)])


def _arrays(
    traffic: Traffic, pools: tuple[Pool, ...], kept: Whole, reserve: Whole, router: str, seed: int
) -> state.Arrays:
    """The state before the first event; of the requests those `kept`."""
    requests, ids = _requests(traffic, kept, reserve)
    replicas = _replicas(pools, traffic, len(kept))
    count, most = len(replicas), int(replicas["max_num_seqs"].max())
    nodes, where = state.nodes(replicas, int(ids.max()) + 1 if len(ids) else 0)
    tables, values = stacked([p.table for p in pools])
    decodes = replicas["role"] == state.DECODE
    return state.Arrays(
        requests=requests,
        replicas=replicas,
        finishing=np.zeros((count, most), np.int64),
        fresh=np.zeros((count, most), np.int64),
        growth=np.zeros((count, int(replicas["block"].max())), np.int64),
        nodes=nodes,
        where=where,
        ids=ids,
        entry=np.flatnonzero(~decodes),
        decoders=np.flatnonzero(decodes),
        loop=state.loop(router=router, opening=traffic.concurrency, offered=len(kept), think=traffic.think, seed=seed),
        events=np.zeros(len(kept), state.EVENT),
        tables=tables,
        values=values,
        runs=np.zeros(2 * len(kept) + 4096, state.RUN),
        stints=np.zeros(len(kept) + 4 * most + 64, state.STINT),
    )


def _requests(traffic: Traffic, kept: Whole, reserve: Whole) -> tuple[NDArray[np.void], NDArray[np.int32]]:
    requests = state.requests(len(kept))
    requests["prompt"], requests["output"] = traffic.input_tokens[kept], traffic.output_tokens[kept]
    requests["reserve"] = reserve[kept]
    requests["arrival"] = traffic.arrival[kept]
    if traffic.concurrency:
        requests["arrival"] = np.where(np.arange(len(kept)) < traffic.concurrency, 0.0, np.inf)
    if not traffic.hash_tokens:
        return requests, np.zeros(0, np.int32)
    requests["first_id"], requests["last_id"] = traffic.first[kept], traffic.first[kept + 1]
    return requests, traffic.hashes.astype(np.int32)


def _replicas(pools: tuple[Pool, ...], traffic: Traffic, count: int) -> NDArray[np.void]:
    """Every pool's rules, repeated for each of its replicas."""
    replicas = state.replicas(sum(p.replicas for p in pools))
    at = 0
    for index, pool in enumerate(pools):
        for field, value in _pool_rules(pool, index, traffic, count).items():
            replicas[field][at : at + pool.replicas] = value
        at += pool.replicas
    replicas["free"] = replicas["capacity"]
    hashes = int(traffic.hashes.max()) + 1 if len(traffic.hashes) else 0
    if replicas["prefix"].any() and 4 * len(replicas) * hashes > _CACHE_BYTES:
        raise InputError(
            f"{traffic.name}: {hashes:,} prefix hashes on {len(replicas)} replicas are too many to track; "
            "simulate fewer replicas or part of the trace, or turn the prefix cache off"
        )
    return replicas


def _pool_rules(pool: Pool, index: int, traffic: Traffic, count: int) -> dict[str, float]:
    policy, block = pool.policy, pool.policy.kv_block
    prefix = policy.prefix_cache and traffic.hash_tokens > 0 and pool.role != "decode" and policy.batching != "static"
    if prefix and traffic.hash_tokens % block:
        raise InputError(
            f"{traffic.name}: a prefix hash stands for {traffic.hash_tokens} tokens, which KV blocks of {block} tokens "
            f"do not divide; set kv_block to a divisor of {traffic.hash_tokens}"
        )
    blocks = int(pool.kv_tokens) // block
    budget = int(min(policy.max_num_batched_tokens, _UNBOUNDED))
    mix = not policy.prefill_first
    most = min(policy.max_num_seqs, blocks, count, _MOST_SEQS, budget if mix else np.inf)
    swap = policy.preemption == "swap"
    link = pool.link
    return {
        "role": _ROLES[pool.role],
        "table": index,
        "static": policy.batching == "static",
        "mix": mix,
        "chunk": policy.chunked,
        "budget": budget,
        "max_num_seqs": max(int(most), 1),
        "block": block,
        "capacity": blocks,
        "watermark": int(policy.watermark * blocks),
        "headroom": policy.headroom,
        "swap": swap,
        "swap_time": pool.kv_bytes / pool.swap_bandwidth if swap else 0.0,
        "prefix": prefix,
        "span": traffic.hash_tokens // block if prefix else 1,
        "front_time": policy.request_time,
        "front_serial": policy.serial_front_end,
        "link_latency": link.latency if link else 0.0,
        "link_time": pool.kv_bytes / link.bandwidth if link else 0.0,
    }


def _collect(
    traffic: Traffic,
    pools: tuple[Pool, ...],
    router: str,
    seed: int,
    kept: Whole,
    reasons: NDArray[np.object_],
    x: state.Arrays,
) -> Simulation:
    def spread(field: str, empty: float) -> Any:
        full = np.full(len(traffic), empty, x.requests[field].dtype)
        full[kept] = x.requests[field]
        return full

    stints = x.stints[: int(x.loop["stints"][0])]
    stints["request"] = kept[stints["request"]]
    times: dict[str, Any] = {f: spread(f, np.nan) for f in ("issued", "admitted", "first", "finish")}
    columns: dict[str, Any] = {f: spread(f, 0) for f in ("emitted", "cached", "preempted")}
    columns |= {f: spread(f, -1) for f in ("replica", "prefiller")}
    return Simulation(
        traffic=traffic,
        pools=pools,
        router=router,
        seed=seed,
        **times,
        **columns,
        rejected=reasons != "",
        runs=x.runs[: int(x.loop["runs"][0])],
        stints=stints,
        events=int(x.loop["events"][0]),
        notes=tuple(_rejections(traffic, reasons) + _overload(traffic, times)),
    )


def _rejections(traffic: Traffic, reasons: NDArray[np.object_]) -> list[str]:
    rows = np.flatnonzero(reasons != "")
    if not len(rows):
        return []
    return [
        f"{len(rows)} of {len(traffic)} requests rejected, as an engine would; the first, row {rows[0] + 1}: "
        f"{reasons[rows[0]]}"
    ]


def _overload(traffic: Traffic, times: dict[str, Array]) -> list[str]:
    """A sentence where an open queue kept growing while requests arrived."""
    rate = traffic.rate
    if not np.isfinite(rate):
        return []
    begin, end = traffic.arrival[0], traffic.arrival[-1]
    waiting = [int(np.sum((times["issued"] <= t) & (times["admitted"] > t))) for t in (0.5 * (begin + end), end)]
    if waiting[1] < max(0.02 * len(traffic), 8) or waiting[1] < 1.5 * waiting[0]:
        return []
    served = float(np.sum(times["finish"] <= end)) / (end - begin)
    return [
        f"beyond capacity: {rate:.3g} requests/s offered, {served:.3g}/s served while they arrived; {waiting[1]:,} "
        "still queued at the last arrival and the queue was growing, so latencies depend on the length of the "
        "trace; lower the rate or add replicas"
    ]
