"""Weights, experts and KV cache that lie in host memory: what a pass waits for them.

Streamed, the device reads them over its link to the host: by the kernel that needs them (vLLM's `--cpu-offload-gb` with
unified addressing), or ahead of it while others run (`prefetch`; FlexGen, arXiv:2303.06865; vLLM's prefetch offloader).
Computed, the host works on its part itself (llama.cpp `-ngl` and `--n-cpu-moe`, KTransformers), except where a batch is
so large that streaming is faster, which such engines then do (llama.cpp's op offload, from 32 tokens on).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np

from perfmodel.arrays import Array
from perfmodel.costs.cost import Cost
from perfmodel.deployment import Sharding
from perfmodel.hardware import roofline_spread
from perfmodel.operators import Demand, Step, swapped
from perfmodel.vocabulary import BASIS_CODE, LINK_BOUND


def with_waits(sharding: Sharding, step: Step, terms: Iterable[tuple[Demand, Cost]]) -> Iterator[tuple[Demand, Cost]]:
    """The priced demands of a pass, then what it waits for its host: for weights, experts and KV, and for adapters.

    A share s of a demand's work lies in host memory and takes `Hosted.time` in place of the device's t. Where the
    kernel itself reads over the link, it takes the longer of both: the pass waits s max(0, host - t) more. What is
    fetched ahead costs a pass what is left when all device work is done. Adapters hold up the pass that needs them.
    """
    host = sharding.host
    if host is None:
        yield from terms
        return
    device, reading, wait = (np.zeros_like(sharding.tp) for _ in range(3))
    for demand, cost in terms:
        yield demand, cost
        took = np.where(demand.count > 0, demand.count * cost.time, 0.0)
        mine = np.where(demand.count > 0, demand.count * host.time(demand.host_bytes, demand.flop), 0.0)
        device, reading = device + took, reading + demand.hosted * mine
        wait = wait + demand.hosted * np.maximum(mine - took, 0.0)
    left = np.maximum(reading - device, 0.0) if host.prefetch else wait
    fetched = swapped(sharding, step) / host.link
    for name, seconds in (("host_memory", left), ("adapter_fetch", fetched)):
        if np.any(seconds > 0):
            yield _waiting(name, seconds)


def _waiting(name: str, seconds: Array) -> tuple[Demand, Cost]:
    none = np.zeros_like(seconds)
    cost = Cost(
        time=seconds,
        basis=np.full(seconds.shape, BASIS_CODE["roofline"], np.int8),
        spread=np.full(seconds.shape, roofline_spread()),
        bound=np.full(seconds.shape, LINK_BOUND, np.int8),
    )
    return Demand(name, "host_link", none, none, np.where(seconds > 0, 1.0, 0.0)), cost
