"""The link that a group of devices shares: bandwidth, latency, topology."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from perfmodel.arrays import Array, Mask
from perfmodel.hardware.columns import Hardware


@dataclass(frozen=True)
class GroupLink:
    """What a group of devices talks over, (N,). bandwidth: B/s a direction a device; latency: s a hop.

    linked: whether any device reaches any other in one hop while all its links are in use; routed: whether in one hop
    at all, if not at full speed for all pairs at once. hops: latencies of gathering from all others, neighbour by
    neighbour. distance: links that a byte between two of the group crosses in the mean.
    """

    bandwidth: Array
    latency: Array
    linked: Mask
    routed: Mask
    hops: Array
    distance: Array


def group_link(hardware: Hardware, group: Array) -> GroupLink:
    """Links of a group: inside a node the fast domain, across nodes the network.

    In a full mesh a pair of devices shares one link, so g devices reach (g-1)/(peers-1) of the device's bandwidth
    (MI300X: 64 GB/s a peer, AMD CDNA3 white paper), but each reaches every other at once, as behind a switch. Round a
    ring or torus (taken as two-dimensional) messages pass from neighbour to neighbour, and a small group uses only the
    ports between its own. Cards on a host's bus reach one another in one hop, but share it: NCCL runs rings and trees
    there, and vLLM's one-shot kernel asks for devices that are all linked. A group larger than the node runs at the
    slower of both; where a node is a single device, over the network alone.
    """
    inside = group <= hardware.peers
    fabric = np.where(inside, hardware.topology, "network")
    local = hardware.link_bandwidth * _ports(hardware, group)
    has_links = hardware.peers > 1
    across = np.where(has_links, np.minimum(local, hardware.net_bandwidth), hardware.net_bandwidth)
    far = np.where(has_links, np.maximum(hardware.net_latency, hardware.link_latency), hardware.net_latency)
    hops, distance = _travel(fabric, np.maximum(group, 1.0))
    fixed = np.isin(fabric, ("ring", "torus"))
    return GroupLink(
        bandwidth=np.where(inside, local, across),
        latency=np.where(inside, hardware.link_latency, far),
        linked=np.isin(fabric, ("switch", "mesh")) | (fixed & (group <= 2)),
        routed=~fixed,
        hops=hops,
        distance=distance,
    )


def _ports(hardware: Hardware, group: Array) -> Array:
    """Share of a device's links that lead to others of its group. (N,)"""
    neighbours = np.maximum(hardware.peers - 1.0, 1.0)
    share = {
        "mesh": np.clip((group - 1.0) / neighbours, 1.0 / neighbours, 1.0),
        "ring": np.where(group > 2, 1.0, 0.5),
        "torus": np.clip(np.log2(np.maximum(group, 2.0)) / 4.0, 0.25, 1.0),  # 1 of 4 ports in a pair, 2 in a square
    }
    return np.select([hardware.topology == name for name in share], list(share.values()), 1.0)


def _travel(fabric: NDArray[np.str_], group: Array) -> tuple[Array, Array]:
    """(`GroupLink.hops`, `GroupLink.distance`) of a group.

    Round a ring of g, both ways, the distances to the others sum to floor(g^2/4); on a square torus of side a they sum
    to a^3/2. Gathering takes g-1 hops, or a-1 a dimension. Linked devices and pairs are one hop apart.
    """
    others, side = np.maximum(group - 1.0, 1.0), np.sqrt(group)
    near = np.isin(fabric, ("switch", "mesh")) | (group <= 2)
    square = fabric == "torus"
    hops = np.where(near, 1.0, np.where(square, 2.0 * (side - 1.0), others))
    far = np.where(square, side**3 / 2.0, np.floor(np.square(group) / 4.0)) / others
    return hops, np.where(near | ~np.isin(fabric, ("ring", "torus")), 1.0, far)
