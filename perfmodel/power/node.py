"""Estimate the watts of a whole node by what its devices draw: CPUs, memory, network cards, fans and power supplies.

A host draws some watts while its devices wait, and more as they draw more: fans follow the heat, CPUs and network cards
the requests. Between the two the model is a straight line in the watts of the devices. Figures are those at the wall,
with the losses of the supplies that nodes of this kind have (80 PLUS Titanium); worse supplies draw more.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hwdb import InputError, Node
from perfmodel.arrays import NAN, Array

#: Share of the nameplate of a host (most of the system less its devices) that it draws beside devices at their limits.
#: From: 8 x H100 HGX node of 10.2 kW draws 8.48 kW at most with devices near 8 x 700 W (Latif et al.,
#: arXiv:2412.08602, 2024): (8.48 - 5.6) / (10.2 - 5.6).
NAMEPLATE_SHARE = 0.63
#: Share of what a host draws beside busy devices that it draws while they wait. Assumed: the hosts of the database
#: whose idle power is given have .40 to .48.
IDLE_SHARE = 0.4
#: Efficiency of power supplies at 10, 20, 50 and 100 % of their load, by level: 80 PLUS, 230 V internal redundant
#: (plugloadsolutions.com); the programme states 10 % for titanium alone, for others the loss at 20 % is kept.
SUPPLY_LOADS = (0.1, 0.2, 0.5, 1.0)
SUPPLIES = {
    "bronze": (0.73, 0.81, 0.85, 0.81),
    "silver": (0.79, 0.85, 0.89, 0.85),
    "gold": (0.82, 0.88, 0.92, 0.88),
    "platinum": (0.85, 0.90, 0.94, 0.91),
    "titanium": (0.90, 0.94, 0.96, 0.91),
}
#: Supplies of which the figures of nodes hold the losses.
USUAL_SUPPLY = "titanium"
#: Rated power of all supplies of a node over the most that it draws. Assumed: 1 + 1 or N + N redundancy.
SUPPLY_RATIO = 2.0


@dataclass(frozen=True)
class Host:
    """Hold the watts of a node besides its devices: at their most (nameplate), beside devices at their limits, idle.

    They are NaN where unknown.
    """

    most: float = NAN
    loaded: float = NAN
    idle: float = NAN

    def slope(self, device_watts: float) -> float:
        """Return the watts that the host adds per watt of its devices. device_watts: their limits, summed."""
        return (self.loaded - self.idle) / device_watts


def host_of(node: Node) -> Host:
    """Return the watts of the host of a node. A nameplate is more than what is drawn; assumed figures are what is."""
    most = node.host_power
    record = node.records.get("host.power")
    loaded = most * (NAMEPLATE_SHARE if record is not None and record.kind in ("derived", "rated") else 1.0)
    idle = node.idle if np.isfinite(node.idle) else IDLE_SHARE * loaded
    return Host(most=most, loaded=loaded, idle=min(idle, loaded))


def host_watts(device_watts: Array, limits: Array, loaded: Array, idle: Array) -> Array:
    """Return the watts of hosts beside devices that draw `device_watts` of their `limits`, all summed, W.

    loaded, idle: of the hosts beside devices at their limits, and beside idle ones. NaN limits count as reached.

    >>> float(host_watts(350.0, 700.0, 400.0, 200.0))
    300.0
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        share = np.asarray(device_watts) / limits
    return np.asarray(idle + (np.asarray(loaded) - idle) * np.clip(np.nan_to_num(share, nan=1.0), 0.0, 1.0))


def check_supply(level: str) -> None:
    """Raise `InputError` for a level of power supplies that is not known; "" is the usual one."""
    if level and level not in SUPPLIES:
        raise InputError(f"power supplies of level {level!r} are unknown; give one of {', '.join(SUPPLIES)}")


def efficiency(level: str, load: Array | float) -> Array:
    """Return the efficiency of power supplies of an 80 PLUS level, 0 to 1. load: share of their rated power.

    >>> round(float(efficiency("titanium", 0.35)), 3)
    0.95
    """
    check_supply(level)
    return np.asarray(np.interp(load, SUPPLY_LOADS, SUPPLIES[level]))


def through_supplies(wall: Array | float, most: Array | float, level: str) -> Array:
    """Return the watts at the wall with power supplies of `level`, from those with the usual ones, which "" stands for.

    most: the most that the node draws, W, which its supplies are sized by.
    """
    if not level:
        return np.asarray(wall)
    load = np.asarray(wall) / (np.asarray(most) * SUPPLY_RATIO)
    return np.asarray(wall * efficiency(USUAL_SUPPLY, load) / efficiency(level, load))
