"""Compute the time of a collective from the links that carry it.

Convention of message sizes, in bytes: all-reduce: the vector that each device holds; all-gather and reduce-scatter: the
full vector, after gathering or before scattering; all-to-all: what one device sends in total; p2p: what is sent between
two neighbours among `group` devices. Bandwidths are per direction and device.
"""

from __future__ import annotations

import numpy as np

from perfmodel import equations as eq
from perfmodel.arrays import Array
from perfmodel.hardware import GroupLink, Hardware, group_link
from perfmodel.operators import Demand

#: Collectives whose data pass through all devices of a node in turn.
RINGS = ("all_reduce", "all_gather", "reduce_scatter")


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
    span = np.asarray(demand.shape.get("span", group), float)
    links = group_link(hardware, pair if demand.family == "p2p" else span)
    bandwidth = links.bandwidth * efficiency
    if demand.family in RINGS:
        bandwidth = _of_rings(hardware, group, span, links) * efficiency
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


def _of_rings(hardware: Hardware, group: Array, span: Array, links: GroupLink) -> Array:
    """Return the rate, in bytes/s per device, of a collective that passes its data through all devices, (N,).

    Within a node it is that of the links. Derived for several nodes: as many rings as devices of the group share a node
    leave it through as many network ports, each with its part of the message (NCCL, channels of src/graph), so a node
    passes on what all its ports carry, and no device more than its own fabric does. All-to-alls and sends leave through
    the port of the device itself.

    group: devices that take part. span: devices among which they lie. links: those of the span.
    """
    together = np.clip(hardware.peers * group / span, 1.0, group)
    carried = np.minimum(hardware.link_bandwidth, hardware.net_bandwidth * together)
    several = (span > hardware.peers) & (hardware.peers > 1)
    return np.where(several, np.maximum(carried, links.bandwidth), links.bandwidth)
