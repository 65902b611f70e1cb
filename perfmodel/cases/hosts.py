"""Look up what the nodes of each row draw beside their devices, and the watts at the wall that follow."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from hwdb import Hwdb
from perfmodel.arrays import Array, Index
from perfmodel.cases.settings import Settings
from perfmodel.power import check_supply, host_of, host_watts, through_supplies


@dataclass(frozen=True)
class Hosts:
    """Hold the nodes that the devices of N rows are in.

    columns: (5, N) watts of a node beside devices at their limits, beside idle ones, and at most; devices per node;
    power limit of a device, W. NaN unknown. supply: 80 PLUS level of the power supplies, "" for those that nodes
    usually have.
    """

    columns: Array
    supply: str = ""

    def take(self, rows: Index) -> Hosts:
        """Return those of some rows."""
        return Hosts(self.columns[:, rows], self.supply)

    def wall_power(self, power: Array, devices: Array) -> Array:
        """Return the watts of whole systems at the wall, (N,): devices in use, and every node that holds one of them.

        power: watts per device, (N,). devices: in use, (N,).
        """
        loaded, idle, most, per_node, limit = self.columns
        nodes = np.ceil(devices / per_node)
        drawn = np.asarray(power * devices + nodes * host_watts(power, limit, loaded, idle))
        return through_supplies(drawn, nodes * (most + per_node * limit), self.supply)


def hosts_of(settings: Settings, database: Hwdb, supply: str = "") -> Hosts:
    """Return the nodes of each row's device.

    Of several nodes that hold the device, the first by name whose power is known counts.
    """
    check_supply(supply)
    found: dict[str, tuple[float, ...]] = {}
    for node in database.nodes():
        host = host_of(node)
        if math.isfinite(host.most) and node.device not in found:
            limit = database.device(node.device).tdp
            found[node.device] = host.loaded, host.idle, host.most, float(node.count), limit
    unknown = (math.nan,) * 5
    devices = settings.names.devices
    table = np.array([*(found.get(d.name, unknown) for d in devices.values), unknown])
    return Hosts(np.asarray(table[devices.index].T), supply)
