"""Time of a collective from the links that carry it.

Message convention, in bytes: all-reduce: the vector each device holds; all-gather and reduce-scatter: the full vector
after gathering (before scattering); all-to-all: what one device sends in all; p2p: what is sent, between two of
`group` devices that lie next to one another. Bandwidths are a direction and a device.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from perfmodel import equations as eq
from perfmodel.demand import Array, Demand, Mask
from perfmodel.hardware import Hardware


@dataclass(frozen=True)
class Path:
    """What a group of devices talks over, (N,). bandwidth: B/s a direction a device; latency: s a hop; switched:
    whether any device reaches any other in one hop at full bandwidth."""

    bandwidth: Array
    latency: Array
    switched: Mask


def path(hardware: Hardware, group: Array) -> Path:
    """Links of a group: inside a node the fast domain, across nodes the network.

    In a full mesh a pair of devices shares one link, so g devices reach (g-1)/(peers-1) of the device's bandwidth
    (MI300X: 64 GB/s a peer, AMD CDNA3 white paper). A group larger than the node runs at the slower of both; where a
    node is a single device, over the network alone.
    """
    inside = group <= hardware.peers
    neighbours = np.maximum(hardware.peers - 1.0, 1.0)
    share = np.where(hardware.mesh, np.clip((group - 1.0) / neighbours, 1.0 / neighbours, 1.0), 1.0)
    local = hardware.link_bandwidth * share
    linked = hardware.peers > 1
    across = np.where(linked, np.minimum(local, hardware.net_bandwidth), hardware.net_bandwidth)
    far = np.where(linked, np.maximum(hardware.net_latency, hardware.link_latency), hardware.net_latency)
    latency = np.where(inside, hardware.link_latency, far)
    return Path(np.where(inside, local, across), latency, inside & ~hardware.mesh)


def collective_time(demand: Demand, hardware: Hardware, efficiency: Array | float = 1.0) -> Array:
    """Seconds of one call: the best algorithm a library would choose at this size and topology."""
    group = np.asarray(demand.shape["group"], float)
    message = np.asarray(demand.message, float)
    # two ends that lie in one node use the links of a pair
    ends = np.where(group <= hardware.peers, np.minimum(group, 2.0), group)
    links = path(hardware, ends if demand.family == "p2p" else group)
    bandwidth = links.bandwidth * efficiency
    if demand.family == "all_reduce":
        ring = eq.ring_time(message, group, bandwidth, links.latency, 2.0)
        tree = eq.tree_time(message, group, bandwidth, links.latency, 2.0)
        shot = eq.one_shot_time(message, group, bandwidth, links.latency)
        return np.minimum(np.minimum(ring, tree), np.where(links.switched, shot, np.inf))
    if demand.family in ("all_gather", "reduce_scatter"):
        ring = eq.ring_time(message, group, bandwidth, links.latency, 1.0)
        direct = links.latency + message / bandwidth * np.maximum(group - 1.0, 0.0) / np.maximum(group, 1.0)
        return np.where(links.switched, np.minimum(ring, direct), ring)
    if demand.family == "all_to_all":
        return eq.all_to_all_time(message, group, bandwidth, links.latency)
    return np.where(group > 1, links.latency + message / bandwidth, 0.0)
