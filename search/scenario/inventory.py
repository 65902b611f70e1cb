"""Define the supply side of a fleet: options that may be rented, stock, limits."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from perfmodel.arrays import NAN


@dataclass(frozen=True)
class Option:
    """One way to serve, as the fleet program sees it: a replica of a deployment on a device.

    devices: per replica. usd_per_hour, power (watts, NaN unknown): of a replica, hosts included. replicas_per_node:
    replicas that fail together when a node fails. nodes: per replica (0.25: four replicas on one node). model: that a
    replica runs, "" where the throughput is stated. most_used: share of its capacity that its throughput is.
    """

    name: str
    device: str
    devices: float
    usd_per_hour: float
    power: float = NAN
    replicas_per_node: float = 1.0
    nodes: float = 1.0
    model: str = ""
    most_used: float = 1.0


@dataclass(frozen=True)
class Inventory:
    """What a fleet may use; whatever is absent or inf is unlimited.

    stock: devices by name. power: watts. budget: USD per hour. spare_nodes: number of nodes, any of them, that may
    fail at once with every request still served within its SLO. node_usd_per_hour: price of a whole node by device,
    where devices are paid by the node; a replica on such a device has no price of its own.
    """

    stock: Mapping[str, float] = field(default_factory=dict)
    power: float = float("inf")
    budget: float = float("inf")
    nodes: float = float("inf")
    spare_nodes: int = 0
    node_usd_per_hour: Mapping[str, float] = field(default_factory=dict)
