"""The link that a group of devices communicates over: bandwidth, latency, topology."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from perfmodel.arrays import Array, Mask
from perfmodel.hardware.columns import Hardware

#: Ports per device of a two-dimensional torus: two in each dimension.
_TORUS_PORTS = 4.0


@dataclass(frozen=True)
class GroupLink:
    """What a group of devices communicates over, one row per candidate. All columns are (N candidates,).

    Attributes:
        bandwidth: B/s per device in one direction.
        latency: seconds per hop.
        linked: whether any device reaches any other in one hop while all its links are in use.
        routed: whether any device reaches any other in one hop at all, if not at full speed for all pairs at once.
        hops: latencies that gathering from all others takes, from neighbour to neighbour.
        distance: links that a byte between two devices of the group crosses on average.
    """

    bandwidth: Array
    latency: Array
    linked: Mask
    routed: Mask
    hops: Array
    distance: Array


def group_link(hardware: Hardware, group: Array) -> GroupLink:
    """Return the link of groups of `group` devices (N,): the fabric of the node, or the network for larger groups.

    - Mesh: two devices share one link, so a group of g reaches (g-1)/(peers-1) of a device's bandwidth (MI300X:
      64 GB/s per peer, AMD CDNA3 white paper). Each device reaches every other one at once, as behind a switch.
    - Ring, torus (taken as two-dimensional): messages pass from neighbour to neighbour. A small group uses only the
      ports between its own devices.
    - PCIe: devices reach one another in one hop but share the bus of the host. NCCL runs rings and trees there, and
      vLLM's one-shot kernel asks for devices that are all linked.
    - A group larger than its node: bandwidth and latency are the worse of fabric and network. Where a node is a single
      device, they are those of the network.
    """
    inside = group <= hardware.peers
    fabric = np.where(inside, hardware.topology, "network")
    local = hardware.link_bandwidth * _ports_used(hardware, group)
    has_links = hardware.peers > 1
    bandwidth = np.where(has_links, np.minimum(local, hardware.net_bandwidth), hardware.net_bandwidth)
    latency = np.where(has_links, np.maximum(hardware.net_latency, hardware.link_latency), hardware.net_latency)
    hops, distance = _hops_and_distance(fabric, np.maximum(group, 1.0))
    neighbourly = np.isin(fabric, ("ring", "torus"))
    return GroupLink(
        bandwidth=np.where(inside, local, bandwidth),
        latency=np.where(inside, hardware.link_latency, latency),
        linked=np.isin(fabric, ("switch", "mesh")) | (neighbourly & (group <= 2)),
        routed=~neighbourly,
        hops=hops,
        distance=distance,
    )


def _ports_used(hardware: Hardware, group: Array) -> Array:
    """Return the share of a device's ports that lead to others of its group, (N,)."""
    neighbours = np.maximum(hardware.peers - 1.0, 1.0)
    torus_ports = np.log2(np.maximum(group, 2.0))  # 1 in a pair, 2 in a square, 3 in two squares, 4 from 16 devices on
    share = {
        "mesh": np.clip((group - 1.0) / neighbours, 1.0 / neighbours, 1.0),
        "ring": np.where(group > 2, 1.0, 1.0 / 2.0),  # two ports, of which a pair uses one
        "torus": np.clip(torus_ports / _TORUS_PORTS, 1.0 / _TORUS_PORTS, 1.0),
    }
    return np.select([hardware.topology == name for name in share], list(share.values()), 1.0)


def _hops_and_distance(fabric: NDArray[np.str_], group: Array) -> tuple[Array, Array]:
    """Return (`GroupLink.hops`, `GroupLink.distance`) of groups of `group` devices (N,).

    fabric: (N,) how the devices of the node are joined, such as "ring".

    Derived: on a ring of g, in both directions, the distances from one device to the others sum to floor(g^2/4); on a
    square torus of side a they sum to a^3/2. Gathering takes g-1 hops, on a torus a-1 in each of two dimensions. Linked
    devices and pairs are one hop apart.
    """
    others, side = np.maximum(group - 1.0, 1.0), np.sqrt(group)
    near = np.isin(fabric, ("switch", "mesh")) | (group <= 2)
    torus = fabric == "torus"
    hops = np.where(near, 1.0, np.where(torus, 2.0 * (side - 1.0), others))
    total = np.where(torus, side**3 / 2.0, np.floor(np.square(group) / 4.0))
    one_hop = near | ~np.isin(fabric, ("ring", "torus"))
    return hops, np.where(one_hop, 1.0, total / others)
