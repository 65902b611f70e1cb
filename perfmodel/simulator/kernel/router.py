"""Which replica takes a request, compiled. Codes are positions in `perfmodel.simulator.kernel.state.ROUTERS`.

Prefix-aware routing follows SGLang's cache-aware policy (sgl-router documentation): while loads are close, the replica
that holds most of the prompt, if it holds enough; otherwise the shortest queue.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from perfmodel.simulator.kernel.jit import inner
from perfmodel.simulator.kernel.kvcache import match
from perfmodel.simulator.kernel.state import Arrays

#: SGLang router defaults: share of the prompt that must match; loads are uneven beyond both bounds.
MATCH_SHARE = 0.3
UNEVEN_REQUESTS = 64
UNEVEN_RATIO = 1.5

_GAMMA = np.uint64(0x9E3779B97F4A7C15)
_MIX1, _MIX2 = np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)
_S30, _S27, _S31, _S33 = np.uint64(30), np.uint64(27), np.uint64(31), np.uint64(33)


@inner
def draw(x: Arrays, count: int) -> int:
    """A whole number below `count`, by SplitMix64 (Steele, Lea, Flood 2014, doi:10.1145/2660193.2660195)."""
    x.loop[0].seed += _GAMMA
    y = x.loop[0].seed
    y = (y ^ (y >> _S30)) * _MIX1
    y = (y ^ (y >> _S27)) * _MIX2
    y = y ^ (y >> _S31)
    return int(np.int64(y >> _S33) % count)


@inner
def _least_loaded(x: Arrays, among: Any) -> int:
    best = among[0]
    for i in among:
        if x.replicas[i].load < x.replicas[best].load:
            best = i
    return best


@inner
def _shortest(x: Arrays, among: Any) -> int:
    best = among[0]
    for i in among:
        if x.replicas[i].outstanding < x.replicas[best].outstanding:
            best = i
    return best


@inner
def route(x: Arrays, r: int) -> int:
    """Replica for request r: among those that take arrivals or, once it has its first token, those that decode."""
    z, first = x.loop[0], x.requests[r].first
    after_prefill = first == first
    among = x.decoders if after_prefill else x.entry
    count = len(among)
    if count == 1:
        return among[0]
    if z.router == 0:
        turn = z.turn_decode if after_prefill else z.turn
        if after_prefill:
            z.turn_decode += 1
        else:
            z.turn += 1
        return among[turn % count]
    if z.router == 1:
        return _least_loaded(x, among)
    if z.router == 4:
        return among[draw(x, count)]
    if z.router == 5:
        one, two = among[draw(x, count)], among[draw(x, count)]
        return two if x.replicas[two].outstanding < x.replicas[one].outstanding else one
    shortest = _shortest(x, among)
    if z.router == 2 or after_prefill:
        return shortest
    return _prefix_aware(x, r, shortest)


@inner
def _prefix_aware(x: Arrays, r: int, shortest: int) -> int:
    fewest, most = x.replicas[shortest].outstanding, 0
    for i in x.entry:
        most = max(most, x.replicas[i].outstanding)
    if most - fewest > UNEVEN_REQUESTS and most > UNEVEN_RATIO * fewest:
        return shortest
    best, found, prompt = shortest, 0, x.requests[r].prompt
    for i in x.entry:
        s = x.replicas[i]
        if not s.prefix:
            continue
        tokens = match(x, i, r, prompt)[0] * s.span * s.block
        if tokens > found or (tokens == found and found > 0 and s.outstanding < x.replicas[best].outstanding):
            best, found = i, tokens
    return best if found > MATCH_SHARE * prompt else shortest
