"""Price context parallelism: choose how keys and queries are exchanged, and hide it behind the attention.

Source of the times below: Context Parallelism for Scalable Million-Token Inference, arXiv:2411.01783, sec. 3.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator
from dataclasses import dataclass, field, replace

import numpy as np

from perfmodel.arrays import Array
from perfmodel.costs.cost import Cost
from perfmodel.deployment import CP_METHOD_CODE, Sharding
from perfmodel.operators import Demand, exchange
from perfmodel.vocabulary import LINK_BOUND

_AUTO, _RING, _GATHER, _PASS_Q = (CP_METHOD_CODE[n] for n in ("auto", "ring", "all_gather", "pass_q"))


@dataclass
class _Layer:
    """Collect the priced demands of one kind of layer: seconds of its prefill attention, and its exchanges by name."""

    attention: Array = field(default_factory=lambda: np.zeros(1))
    parts: dict[str, tuple[Demand, Cost]] = field(default_factory=dict)

    def time(self, name: str) -> Array:
        """Return the seconds of the exchange `name` in a step, all layers; 0 where there is none."""
        if name not in self.parts:
            return np.zeros(1)
        demand, cost = self.parts[name]
        return np.where(demand.count > 0, demand.count * cost.time, 0.0)


def with_exchanges(sharding: Sharding, terms: Iterable[tuple[Demand, Cost]]) -> Iterator[tuple[Demand, Cost]]:
    """Yield the priced demands of a step, with only those exchanges of positions that run, by what of them shows.

    Derived: of ring attention over g devices, each of g rounds computes 1/g of the attention while g - 1 of them send.
    A send hides behind a round, so it adds what it is longer. Outputs that return, the sums of partial outputs, and an
    all-gather of keys hide behind nothing. Where a candidate leaves the choice open, it uses the fastest.

    terms: the demands with their cost per call, with all ways of exchanging.
    """
    if not np.any(sharding.cp > 1):
        yield from terms
        return
    layers: dict[Hashable, _Layer] = {}
    for demand, cost in terms:
        layer = layers.setdefault(demand.tag, _Layer())
        if demand.name in exchange.ALL:
            layer.parts[demand.name] = demand, cost
            continue
        if demand.tag is not None and demand.family.endswith("prefill"):
            layer.attention = layer.attention + np.where(demand.count > 0, demand.count * cost.time, 0.0)
        yield demand, cost
    for layer in layers.values():
        yield from _shown(sharding, layer)


def _shown(sharding: Sharding, layer: _Layer) -> Iterator[tuple[Demand, Cost]]:
    """Yield the exchanges of one kind of layer that run, by the seconds that they add to a step."""
    # of g rounds of attention, g - 1 have a send beside them
    beside = layer.attention * (sharding.cp - 1.0) / sharding.cp
    ring, queries = (np.maximum(layer.time(n) - beside, 0.0) for n in (exchange.RING_KV, exchange.RING_Q))
    merged = {exchange.MERGE: layer.time(exchange.MERGE)}
    ways = {
        _RING: {exchange.RING_KV: ring, **merged},
        _GATHER: {exchange.GATHER_KV: layer.time(exchange.GATHER_KV)},
        _PASS_Q: {exchange.RING_Q: queries, exchange.RETURN: layer.time(exchange.RETURN), **merged},
    }
    yield from _chosen(sharding, layer, ways)
    summed = {exchange.COMBINE: layer.time(exchange.COMBINE)}
    round_trip = {n: layer.time(n) for n in (exchange.DECODE_RING_Q, exchange.DECODE_RETURN)}
    yield from _chosen(sharding, layer, {_RING: summed, _GATHER: summed, _PASS_Q: round_trip})


def _chosen(sharding: Sharding, layer: _Layer, ways: dict[int, dict[str, Array]]) -> Iterator[tuple[Demand, Cost]]:
    """Yield the exchanges of the way that each candidate uses.

    ways: code of a way -> seconds per step of each of its exchanges.
    """
    codes = list(ways)
    totals = np.stack(np.broadcast_arrays(*(sum(parts.values(), np.zeros(1)) for parts in ways.values())))
    fastest = np.array(codes)[np.argmin(totals, axis=0)]
    used = np.where(sharding.cp_method == _AUTO, fastest, sharding.cp_method)
    seconds: dict[str, Array] = {}
    for code, parts in ways.items():
        for name, time in parts.items():
            seconds[name] = seconds.get(name, 0.0) + np.where(used == code, time, 0.0)
    for name, time in seconds.items():
        if name in layer.parts and np.any(time > 0):
            yield _term(*layer.parts[name], time)


def _term(demand: Demand, cost: Cost, seconds: Array) -> tuple[Demand, Cost]:
    """Return an exchange whose calls take `seconds` of a step together; it has no calls where they take none."""
    count = np.where(seconds > 0, demand.count, 0.0)
    time = np.where(count > 0, seconds / np.where(count > 0, count, 1.0), 0.0)
    shape = time.shape
    bound = np.broadcast_to(np.where(cost.time > 0, cost.bound, LINK_BOUND), shape).astype(np.int8)
    basis, spread = np.broadcast_to(cost.basis, shape), np.broadcast_to(cost.spread, shape)
    return replace(demand, count=count), Cost(time=time, basis=basis, spread=spread, bound=bound)
