"""Compute how long a step waits for weights, experts and KV cache that lie in host memory.

Streamed, the device reads them over its link to the host: by the kernel that needs them (vLLM's `--cpu-offload-gb` with
unified addressing), or ahead of it while others run (`prefetch`; FlexGen, arXiv:2303.06865; vLLM's prefetch offloader).
Computed, the host processes its part itself (llama.cpp `-ngl` and `--n-cpu-moe`, KTransformers), except for batches so
large that streaming is faster; such engines then stream (llama.cpp's op offload, from 32 tokens on).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np

from perfmodel.arrays import Array
from perfmodel.costs.cost import Cost
from perfmodel.deployment import Sharding
from perfmodel.hardware import roofline_spread
from perfmodel.operators import Demand, Step, adapter_bytes_fetched
from perfmodel.vocabulary import BASIS_CODE, LINK_BOUND


def with_waits(sharding: Sharding, step: Step, terms: Iterable[tuple[Demand, Cost]]) -> Iterator[tuple[Demand, Cost]]:
    """Yield the priced demands of a step, then its waits for the host: for weights, experts, KV cache and adapters.

    terms: the demands of `step` with the cost per call of each.

    A share s of a demand's work lies in host memory and takes `Hosted.time` in place of the device's time t. Where the
    kernel itself reads over the link, it takes the longer of both, so the step waits s * max(0, host time - t) more;
    where operands are copied before the kernel starts, all of s * host time. Where data are fetched ahead, the step
    waits for what is left of the fetch when all device work is done. A step waits for the adapters that it needs.
    """
    host = sharding.host
    if host is None:
        yield from terms
        return
    device, reading, wait = (np.zeros_like(sharding.tp) for _ in range(3))
    for demand, cost in terms:
        yield demand, cost
        on_device = np.where(demand.count > 0, demand.count * cost.time, 0.0)
        experts = demand.shape["weight"] if demand.family == "grouped_gemm" else None
        alone = host.time(demand.host_bytes, demand.flop, experts=experts)
        on_host = np.where(demand.count > 0, demand.count * alone, 0.0)
        device, reading = device + on_device, reading + demand.hosted * on_host
        beside = on_device if host.where == "compute" or not host.habits.copied_first else 0.0
        wait = wait + demand.hosted * np.maximum(on_host - beside, 0.0)
    left = np.maximum(reading - device, 0.0) if host.prefetch else wait
    fetched = adapter_bytes_fetched(sharding, step) / host.link
    for name, seconds in (("host_memory", left), ("adapter_fetch", fetched)):
        if np.any(seconds > 0):
            yield _waiting(name, seconds)


def _waiting(name: str, seconds: Array) -> tuple[Demand, Cost]:
    """Return a demand called `name` that stands for a wait of `seconds` (N,) per step, with its cost."""
    none = np.zeros_like(seconds)
    cost = Cost(
        time=seconds,
        basis=np.full(seconds.shape, BASIS_CODE["roofline"], np.int8),
        spread=np.full(seconds.shape, roofline_spread()),
        bound=np.full(seconds.shape, LINK_BOUND, np.int8),
    )
    count = np.where(seconds > 0, 1.0, 0.0)
    return Demand(name=name, family="host_link", flop=none, moved=none, count=count), cost
