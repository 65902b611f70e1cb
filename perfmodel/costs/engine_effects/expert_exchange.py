"""Price the all-to-alls of kernels made for routed experts: two levels of links, normal and low-latency kernels.

Normal kernels send a token once to each node that holds any of its experts, and from there over the links of the node
once to each device that does. Low-latency kernels send it straight to the device of each expert, once per expert. What
the kernels reach of the links is that of measured ones.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from perfmodel import equations as eq
from perfmodel.arrays import Array, Mask
from perfmodel.costs.cost import Cost, CostModel
from perfmodel.costs.measured_tables.profiled import demand_shape
from perfmodel.hardware import Hardware
from perfmodel.operators import Demand
from perfmodel.vocabulary import BASIS_CODE, EXPERT_ALL_TO_ALL, LAUNCH_BOUND, LINK_BOUND


@dataclass(frozen=True)
class Reach:
    """Hold what kernels reach: shares of the rated network and of the links of a node, and seconds of an empty call.

    alone: the seconds within a node; apart: those between nodes.
    """

    network: float
    links: float
    alone: float
    apart: float


#: Measured: aiconfigurator-core 0.12.0 (Apache-2.0), DeepEP under SGLang 0.5.6 and 0.5.12 on H100 with 400 Gb/s a
#: device; hidden 7168, top-8, 20 to 24 multiprocessors. Slopes between 4,096 and 16,384 tokens: 39 to 47 GB/s over the
#: network on 2 and 4 nodes, 290 and 313 GB/s over NVLink on one. H800 (deepseek-ai/DeepEP docs/legacy.md @0297fc8): 43
#: to 45 GB/s; NVLink of Blackwell (README.md, version 2, 24 multiprocessors): 0.63 to 0.66 of the rated bandwidth.
#: Seconds: transmission and notification of one token.
NORMAL = Reach(network=0.9, links=0.66, alone=35e-6, apart=100e-6)
#: Measured: the same sources, 128 to 256 tokens on 2, 4 and 8 nodes: 46 to 49 GB/s; on one node 240 and 203 GB/s, on
#: GB200 450 and 580. Seconds: intercepts of the lines through 128 and 256 tokens.
LOW_LATENCY = Reach(network=0.94, links=0.52, alone=13e-6, apart=28e-6)
#: Log half-width of the 80 % interval. Measured: the lines above against the tables from 1 to 16,384 tokens; but 8
#: nodes with normal kernels, which took two to three times as long on that network.
SPREAD = 0.3
#: Share of the seconds of an empty call in a call from which that limits it (chosen: half).
_LATENCY_SHARE = 0.5


@dataclass(frozen=True)
class ExpertExchange:
    """Cost model of all-to-alls of expert kernels; every other operator is priced by `model`."""

    model: CostModel

    def cost(self, demand: Demand, hardware: Hardware) -> Cost:
        """Return the time of one call on each row of `hardware`; NaN where a link of the device is unknown."""
        if demand.family != EXPERT_ALL_TO_ALL:
            return self.model.cost(demand, hardware)
        shape = demand_shape(demand, hardware)
        quick = np.asarray(demand.shape["low_latency"], float) > 0
        time, latency = _seconds(demand, hardware, quick)
        waiting = np.broadcast_to(latency > _LATENCY_SHARE * time, shape)
        return Cost(
            time=np.broadcast_to(time, shape),
            basis=np.full(shape, BASIS_CODE["calibrated"], np.int8),
            spread=np.full(shape, SPREAD),
            bound=np.where(waiting, LAUNCH_BOUND, LINK_BOUND).astype(np.int8),
        )


def _seconds(demand: Demand, hardware: Hardware, quick: Mask) -> tuple[Array, Array]:
    """Return (seconds of a call, those of them that an empty call takes); quick: where kernels are of low latency."""
    group = np.asarray(demand.shape["group"], float)
    near_ranks = np.minimum(np.maximum(hardware.peers, 1.0), group)
    apart = group > near_ranks
    far, near = (
        np.where(quick, direct, relayed)
        for direct, relayed in zip(_direct(demand, near_ranks), _relayed(demand, near_ranks), strict=True)
    )
    share = {name: np.where(quick, getattr(LOW_LATENCY, name), getattr(NORMAL, name)) for name in vars(NORMAL)}
    latency = np.where(apart, share["apart"], share["alone"])
    net, links = hardware.net_bandwidth * share["network"], hardware.link_bandwidth * share["links"]
    time = eq.scattered_time(far, near, net, links, latency)
    return time, np.where(np.isnan(time), np.nan, latency)


def _direct(demand: Demand, near_ranks: Array) -> tuple[Array, Array]:
    """Return the bytes that the busiest device takes from other nodes and from its own, by low-latency kernels."""
    group = np.asarray(demand.shape["group"], float)
    copies = demand.message * demand.shape["imbalance"]
    return copies * (1.0 - near_ranks / group), copies * (near_ranks - 1.0) / group


def _relayed(demand: Demand, near_ranks: Array) -> tuple[Array, Array]:
    """Return the bytes that the busiest device takes from other nodes and over its own links, by normal kernels.

    A node's load is the sum of its devices', whose differences average out.
    """
    shape = demand.shape
    nodes = np.asarray(shape["group"], float) / near_ranks
    limited = float(np.max(shape["picks"])), int(np.max(shape["groups"])), int(np.max(shape["top_groups"]))
    reached = eq.places_reached(nodes, *limited) * (1.0 - 1.0 / nodes)
    of_node = 1.0 + (shape["imbalance"] - 1.0) / np.sqrt(near_ranks)
    ranks = eq.places_reached(shape["group"], *limited) * (1.0 - 1.0 / near_ranks)
    return demand.message * reached * of_node, demand.message * ranks * shape["imbalance"]
