"""Say which power limits a device cannot keep, or does not need: no more than it draws idle, or more than its own."""

from __future__ import annotations

import numpy as np

from hwdb import Device
from perfmodel.hardware import hardware_of
from perfmodel.power.device import idle_power


def below_idle(device: str, limit: float, idle: float) -> str:
    """Say that a limit is no more than what a device draws idle; "" where it is more, or the idle power is unknown.

    device: its name. limit, idle: W.
    """
    if not limit <= idle:
        return ""
    return f"a power limit of {limit:g} W is not above the {idle:.0f} W that {device} draws idle; give a higher limit"


def refused_limit(device: Device, limit: float) -> str:
    """Say why a device cannot keep a power limit, W; "" where it can, where it is NaN, or where nothing is known."""
    return below_idle(device.name, limit, float(idle_power(hardware_of([device], np.zeros(1, dtype=np.intp)))[0]))


def unneeded_limit(device: Device, limit: float) -> str:
    """Say that a limit, W, is above the device's own, which then holds; "" elsewhere."""
    if not limit > device.tdp:
        return ""
    return f"a power limit of {limit:g} W is above the {device.tdp:g} W of {device.name}, which holds instead"
