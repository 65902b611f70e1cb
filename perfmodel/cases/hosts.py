"""Look up what the nodes of each row draw beside their devices."""

from __future__ import annotations

import numpy as np

from hwdb import Hwdb
from perfmodel.arrays import Array
from perfmodel.cases.settings import Settings


def host_power(settings: Settings, database: Hwdb) -> Array:
    """Return (watts of a node beside its devices, devices per node) of each row's device, (2, R); NaN unknown.

    Of several nodes that hold the device, the first by name whose power is known counts.
    """
    found: dict[str, tuple[float, float]] = {}
    for node in database.nodes():
        if np.isfinite(node.host_power) and node.device not in found:
            found[node.device] = node.host_power, float(node.count)
    unknown = (np.nan, np.nan)
    devices = settings.names.devices
    table = np.array([*(found.get(d.name, unknown) for d in devices.values), unknown])
    return np.asarray(table[devices.index].T)


def wall_power(power: Array, devices: Array, host: Array) -> Array:
    """Return the watts of whole systems, (N,): devices, and every node that holds one of them.

    power: watts per device, (N,). devices: in use, (N,). host: watts of a node, and devices per node, (2, N).
    """
    return np.asarray(power * devices + host[0] * np.ceil(devices / host[1]))
