"""Compute the time of a collective from the links that carry it.

Convention of message sizes, in bytes: all-reduce: the vector that each device holds; all-gather and reduce-scatter: the
full vector, after gathering or before scattering; all-to-all: what one device sends in total; p2p: what is sent between
two neighbours among `group` devices. Bandwidths are per direction and device.
"""

from __future__ import annotations

import numpy as np

from perfmodel import equations as eq
from perfmodel.arrays import Array
from perfmodel.hardware import Hardware, group_link
from perfmodel.operators import Demand


def collective_time(demand: Demand, hardware: Hardware, efficiency: Array | float = 1.0) -> Array:
    """Return the seconds per call of a collective, by the fastest algorithm that a library would choose for it.

    demand: a collective; its shape has `group`, the number of devices, and `span`, the devices among which they lie,
    where that is more. efficiency: share of the rated link bandwidth,
    (N,). The choice depends on message size and topology.
    """
    group = np.asarray(demand.shape["group"], float)
    message = np.asarray(demand.message, float)
    # two neighbours within a node communicate over the links of a pair
    pair = np.where(group <= hardware.peers, np.minimum(group, 2.0), group)
    links = group_link(hardware, pair if demand.family == "p2p" else np.asarray(demand.shape.get("span", group), float))
    bandwidth = links.bandwidth * efficiency
    if demand.family == "all_reduce":
        exchange = eq.exchange_time(message, group, bandwidth, links.latency, links.hops, 2.0)
        tree = eq.tree_time(message, group, bandwidth, links.latency, 2.0)
        one_shot = eq.one_shot_time(message, group, bandwidth, links.latency)
        routed = np.where(links.routed, np.minimum(exchange, tree), exchange)
        return np.where(links.linked, np.minimum(routed, one_shot), routed)
    if demand.family in ("all_gather", "reduce_scatter"):
        return eq.exchange_time(message, group, bandwidth, links.latency, links.hops, 1.0)
    if demand.family == "all_to_all":
        return eq.all_to_all_time(message, group, bandwidth, links.latency, links.distance)
    return np.where(group > 1, links.latency + message / bandwidth, 0.0)
