"""Time of a collective from the links that carry it.

Message convention, in bytes: all-reduce: the vector each device holds; all-gather and reduce-scatter: the full vector
after gathering (before scattering); all-to-all: what one device sends in all; p2p: what is sent, between two of
`group` devices that lie next to one another. Bandwidths are a direction and a device.
"""

from __future__ import annotations

import numpy as np

from perfmodel import equations as eq
from perfmodel.arrays import Array
from perfmodel.hardware import Hardware, group_link
from perfmodel.operators import Demand


def collective_time(demand: Demand, hardware: Hardware, efficiency: Array | float = 1.0) -> Array:
    """Seconds of one call: the best algorithm a library would choose at this size and topology."""
    group = np.asarray(demand.shape["group"], float)
    message = np.asarray(demand.message, float)
    # two ends that lie in one node use the links of a pair
    ends = np.where(group <= hardware.peers, np.minimum(group, 2.0), group)
    links = group_link(hardware, ends if demand.family == "p2p" else group)
    bandwidth = links.bandwidth * efficiency
    if demand.family == "all_reduce":
        twice = eq.exchange_time(message, group, bandwidth, links.latency, links.hops, 2.0)
        tree = eq.tree_time(message, group, bandwidth, links.latency, 2.0)
        shot = eq.one_shot_time(message, group, bandwidth, links.latency)
        routed = np.where(links.routed, np.minimum(twice, tree), twice)
        return np.where(links.linked, np.minimum(routed, shot), routed)
    if demand.family in ("all_gather", "reduce_scatter"):
        return eq.exchange_time(message, group, bandwidth, links.latency, links.hops, 1.0)
    if demand.family == "all_to_all":
        return eq.all_to_all_time(message, group, bandwidth, links.latency, links.distance)
    return np.where(group > 1, links.latency + message / bandwidth, 0.0)
