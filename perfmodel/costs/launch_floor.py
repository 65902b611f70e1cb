"""Launched: kernels that the host launches one by one, each waiting for the next launch.

Engines capture decode passes as graphs where a device's software can; where it cannot, the device idles between short
kernels. The entries `[[host]]` of `efficiency.toml` say which engines launch so on which devices, and how long it
takes.
"""

from __future__ import annotations

import tomllib
from dataclasses import dataclass, replace
from functools import cache
from importlib.resources import files
from typing import Any

import numpy as np

from hwdb import Device
from perfmodel.costs.cost import Cost, CostModel
from perfmodel.hardware import Hardware
from perfmodel.operators import Demand
from perfmodel.vocabulary import LAUNCH_BOUND


@cache
def _entries() -> list[dict[str, Any]]:
    return list(tomllib.loads(files("perfmodel.hardware").joinpath("efficiency.toml").read_text())["host"])


def launch_time(engine: str, device: Device) -> float:
    """Seconds the host takes to launch an operator of `engine` on `device`; 0 where passes are captured."""
    found = (e["launch_us"] for e in _entries() if engine in e["engines"] and e["vendor"] == device.vendor)
    return float(next(found, 0.0)) * 1e-6


@dataclass(frozen=True)
class LaunchFloor:
    """Another cost model's times, none below a launch by the host of `engine`."""

    model: CostModel
    engine: str

    def cost(self, demand: Demand, hardware: Hardware) -> Cost:
        """Time of one call on each row of `hardware`; basis and spread are the inner model's."""
        inner = self.model.cost(demand, hardware)
        floor = np.array([launch_time(self.engine, d) for d in hardware.devices])[hardware.index]
        if not floor.any():
            return inner
        waits = inner.time < floor
        bound = np.where(waits, LAUNCH_BOUND, inner.bound).astype(np.int8)
        return replace(inner, time=np.where(waits, floor, inner.time), bound=bound)
