"""Price any operator by a roofline: a launch plus the longer of arithmetic and memory traffic.

The shares of peak and bandwidth that are reached are borrowed from measured devices.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from perfmodel import equations as eq
from perfmodel.arrays import Array
from perfmodel.costs.cost import Cost
from perfmodel.costs.rooflines.collectives import collective_time
from perfmodel.hardware import Efficiency, Hardware, efficiency_of, roofline_spread
from perfmodel.operators import Demand
from perfmodel.vocabulary import (
    BASIS_CODE,
    COMPUTE_BOUND,
    LAUNCH_BOUND,
    LINK_BOUND,
    LINK_FAMILIES,
    MEMORY_BOUND,
    PICKED_PREFILL,
)

#: Operator family -> field of `Efficiency` that holds its share of the arithmetic peak.
_COMPUTE_SHARE = {
    "gemm": "gemm",
    "grouped_gemm": "gemm",
    "attention_prefill": "attention",
    "attention_decode": "attention",
    "mla_prefill": "attention",
    "mla_decode": "attention",
    PICKED_PREFILL: "attention",
    "recurrent_prefill": "attention",
    "recurrent_decode": "attention",
    "elementwise": "attention",
}
#: Families that stream the KV cache, at a share of the memory bandwidth of its own.
_READS_KV = ("attention_decode", "mla_decode")


class Bound(NamedTuple):
    """Holds the least seconds per call by arithmetic alone, by memory traffic alone, and in all (the larger), (N,)."""

    compute: Array
    memory: Array
    time: Array


def bound(
    demand: Demand, hardware: Hardware, *, compute_share: Array | float = 1.0, memory_share: Array | float = 1.0
) -> Bound:
    """Return the least seconds per call of an operator without communication on each row of `hardware`, (N,).

    compute_share, memory_share: shares of rated peak and bandwidth that are reached; with 1 no measured time may lie
    below the bound.
    """
    compute = np.asarray(demand.compute)
    peak = hardware.peak[np.arange(len(hardware.index)), compute] * compute_share
    bandwidth = hardware.bandwidth * memory_share
    return Bound(
        compute=eq.least_time(demand.flop, peak=peak),
        memory=eq.least_time(moved=demand.moved, bandwidth=bandwidth),
        time=eq.least_time(demand.flop, demand.moved, peak=peak, bandwidth=bandwidth),
    )


@dataclass(frozen=True)
class Roofline:
    """Cost model that needs only rated peaks and efficiencies borrowed from measured devices of the same kind.

    shares: efficiencies of each row; None for the priors of `perfmodel/hardware/efficiency.toml`.
    """

    shares: Efficiency | None = None

    def cost(self, demand: Demand, hardware: Hardware) -> Cost:
        """Return the time of one call on each row of `hardware`; NaN where a needed number of the device is unknown."""
        share = self.shares or efficiency_of(hardware)
        shape = np.broadcast_shapes(np.shape(demand.flop), np.shape(demand.message), hardware.index.shape)
        if demand.family in LINK_FAMILIES:
            time = collective_time(demand, hardware, share.link) + share.launch
            limit = np.full(shape, LINK_BOUND, np.int8)
        else:
            limits = bound(
                demand,
                hardware,
                compute_share=getattr(share, _COMPUTE_SHARE[demand.family]),
                memory_share=share.kv if demand.family in _READS_KV else share.memory,
            )
            work = limits.time
            time = work + share.launch
            limit = np.where(
                work < share.launch, LAUNCH_BOUND, np.where(limits.compute > limits.memory, COMPUTE_BOUND, MEMORY_BOUND)
            ).astype(np.int8)
        return Cost(
            time=np.broadcast_to(time, shape),
            basis=np.full(shape, BASIS_CODE["roofline"], np.int8),
            spread=np.full(shape, roofline_spread()),
            bound=np.broadcast_to(limit, shape),
        )
