"""Name the devices on hand that a fleet leaves idle, what they draw, and what they cost by the user's own price."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from hwdb import Hwdb
from perfmodel.arrays import NAN
from perfmodel.hardware import hardware_of
from perfmodel.power import idle_power
from search.scenario import Inventory, device_type


@dataclass(frozen=True)
class Idle:
    """Devices of one type on hand that serve nothing in the busiest period. They are no part of the fleet's totals.

    devices: their number. on_hand: of all. power: watts of all idle ones while they are switched on, NaN unknown.
    usd_per_hour: of all idle ones by the price that the scenario states, NaN where it states none.
    """

    device: str
    devices: float
    on_hand: float
    power: float
    usd_per_hour: float


def idle_devices(
    used: Mapping[str, float], inventory: Inventory, database: Hwdb, own: Mapping[str, float]
) -> tuple[Idle, ...]:
    """List the devices on hand that a fleet does not use, in the order of the stock.

    used: devices in use by the names of the stock. own: prices per device and hour that the scenario states.
    """
    found = []
    for name, stock in inventory.stock.items():
        left = stock - used.get(name, 0.0)
        if not np.isfinite(stock) or left <= 0:
            continue
        each = NAN
        device = device_type(name)
        if device in database.names():
            each = float(idle_power(hardware_of([database.device(device)], np.zeros(1, dtype=np.intp)))[0])
        found.append(Idle(name, left, stock, left * each, left * own.get(device, NAN)))
    return tuple(found)
