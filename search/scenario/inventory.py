"""What may be bought or is on hand: options, stock, limits."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Option:
    """One way to serve: a replica of a deployment on a device.

    devices: taken by a replica. usd_per_hour, power: of a replica, hosts included (W; NaN unknown).
    replicas_per_node: replicas that fail together when a node fails; nodes: taken by a replica (0.25: four a
    node).
    """

    name: str
    device: str
    devices: float
    usd_per_hour: float
    power: float = float("nan")
    replicas_per_node: float = 1.0
    nodes: float = 1.0


@dataclass(frozen=True)
class Inventory:
    """What may be used: devices by name, watts, USD an hour, nodes. Absent or infinite means unlimited.

    spare_nodes: how many nodes may fail at once, any of them, without losing a request's SLO. node_usd_per_hour:
    price of a whole node, by device, where devices are paid by the node; replicas on them then cost nothing else.
    """

    stock: Mapping[str, float] = field(default_factory=dict)
    power: float = float("inf")
    budget: float = float("inf")
    nodes: float = float("inf")
    spare_nodes: int = 0
    node_usd_per_hour: Mapping[str, float] = field(default_factory=dict)
