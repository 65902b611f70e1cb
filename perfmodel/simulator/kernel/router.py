"""Which replica takes a request, compiled. Rules are named in `perfmodel.simulator.kernel.records.ROUTERS`.

Prefix-aware routing follows SGLang's cache-aware policy (sgl-router documentation): while loads are close, the replica
that holds most of the prompt in its prefix cache, if it holds enough; otherwise the shortest queue.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from perfmodel.simulator.kernel.jit import inner
from perfmodel.simulator.kernel.kvcache import match_prefix
from perfmodel.simulator.kernel.records import JOIN_SHORTEST_QUEUE, LEAST_LOADED, POWER_OF_TWO, RANDOM, ROUND_ROBIN
from perfmodel.simulator.kernel.state import GOLDEN_GAMMA, Arrays

#: Constants of SplitMix64, cited in `random_below`; 64-bit unsigned, so that numba does not promote them to floats.
_GAMMA = np.uint64(GOLDEN_GAMMA)
_MIX1, _MIX2 = np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)
_SHIFT_27, _SHIFT_30, _SHIFT_31 = np.uint64(27), np.uint64(30), np.uint64(31)
_SHIFT_33 = np.uint64(33)  # leaves 31 bits, which a signed integer holds


@inner
def random_below(arrays: Arrays, count: int) -> int:
    """A random whole number from 0 to `count` - 1, by SplitMix64 (Steele, Lea, Flood 2014, 10.1145/2660193.2660195)."""
    arrays.loop[0].seed += _GAMMA
    y = arrays.loop[0].seed
    y = (y ^ (y >> _SHIFT_30)) * _MIX1
    y = (y ^ (y >> _SHIFT_27)) * _MIX2
    y = y ^ (y >> _SHIFT_31)
    return int(np.int64(y >> _SHIFT_33) % count)


@inner
def _least(arrays: Arrays, among: Any, by_tokens: bool) -> int:
    """The replica in `among` with the fewest outstanding prompt tokens, or requests; the first of equal ones."""
    best: int = among[0]
    for i in among:
        here, least = arrays.replicas[i], arrays.replicas[best]
        if by_tokens:
            fewer = here.outstanding_tokens < least.outstanding_tokens
        else:
            fewer = here.outstanding < least.outstanding
        if fewer:
            best = i
    return best


@inner
def _take_turns(arrays: Arrays, among: Any, after_prefill: bool) -> int:
    """Round robin, with a turn of its own for arrivals and for hand-overs to the decode pool."""
    loop = arrays.loop[0]
    turn = loop.turn_decode if after_prefill else loop.turn
    if after_prefill:
        loop.turn_decode += 1
    else:
        loop.turn += 1
    chosen: int = among[turn % len(among)]
    return chosen


@inner
def _shorter_of_two(arrays: Arrays, among: Any) -> int:
    """The shorter queue of two replicas drawn at random (Mitzenmacher, IEEE TPDS 12(10), 2001)."""
    one: int = among[random_below(arrays, len(among))]
    two: int = among[random_below(arrays, len(among))]
    return two if arrays.replicas[two].outstanding < arrays.replicas[one].outstanding else one


@inner
def route(arrays: Arrays, r: int) -> int:
    """Replica for request r: one that takes arrivals or, once the request has its first token, one that decodes."""
    router = arrays.loop[0].router
    after_prefill = not math.isnan(arrays.requests[r].first)
    among = arrays.decode_replicas if after_prefill else arrays.entry_replicas
    only: int = among[0]
    if len(among) == 1:
        return only
    if router == ROUND_ROBIN:
        return _take_turns(arrays, among, after_prefill)
    if router == LEAST_LOADED:
        return _least(arrays, among, True)
    if router == RANDOM:
        drawn: int = among[random_below(arrays, len(among))]
        return drawn
    if router == POWER_OF_TWO:
        return _shorter_of_two(arrays, among)
    shortest = _least(arrays, among, False)
    if router == JOIN_SHORTEST_QUEUE or after_prefill:  # prefixes do not matter to a decode pool
        return shortest
    return _prefix_aware(arrays, r, shortest)


@inner
def _prefix_aware(arrays: Arrays, r: int, shortest: int) -> int:
    """The replica that has most of the prompt cached; `shortest` where queues are uneven or too little matches."""
    rule, fewest, most = arrays.loop[0], arrays.replicas[shortest].outstanding, 0
    for i in arrays.entry_replicas:
        most = max(most, arrays.replicas[i].outstanding)
    if most - fewest > rule.uneven_requests and most > rule.uneven_ratio * fewest:
        return shortest
    best, found, prompt = shortest, 0, arrays.requests[r].prompt
    for i in arrays.entry_replicas:
        replica = arrays.replicas[i]
        if not replica.prefix_cache:
            continue
        tokens = match_prefix(arrays, i, r, prompt)[0] * replica.blocks_per_hash * replica.block_tokens
        shorter = replica.outstanding < arrays.replicas[best].outstanding
        if tokens > found or (tokens == found and found > 0 and shorter):
            best, found = i, tokens
    return best if found > rule.min_match_share * prompt else shortest
