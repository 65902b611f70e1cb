"""Corrected: what a serving engine's kernels take over the stand-alone ones that the other models price.

An engine runs its own kernels between others, with cold caches, fused or split; one factor for each kind of limit
(arithmetic, memory, links, launches), by engine and where known by device or kind of device, says how much longer a
pass really takes. The factors are fitted on measured serving runs by `benchmarks/fit_serving.py`; without an entry they
are 1.
"""

from __future__ import annotations

import tomllib
from dataclasses import dataclass, replace
from functools import cache
from importlib.resources import files
from typing import Any

import numpy as np

from hwdb import Device
from perfmodel.costs.roofline import BOUNDS, LINK_FAMILIES, bound
from perfmodel.demand import Array, Cost, CostModel, Demand
from perfmodel.hardware import Hardware


@cache
def _table() -> dict[tuple[str, str], tuple[float, ...]]:
    entries: list[dict[str, Any]] = tomllib.loads(
        files("perfmodel.costs").joinpath("corrections.toml").read_text()
    ).get("correction", [])
    return {(e["engine"], e.get("device", e.get("kind", ""))): tuple(float(e[b]) for b in BOUNDS) for e in entries}


def factors(engine: str, device: Device) -> tuple[float, ...]:
    """Factors by `BOUNDS` of an engine on a device: their own, else on its kind of device, else on any, else 1."""
    table = _table()
    known = ((engine, place) for place in (device.name, device.kind, "") if (engine, place) in table)
    return next((table[key] for key in known), (1.0,) * len(BOUNDS))


@dataclass(frozen=True)
class Corrected:
    """Another cost model's times, multiplied by the factors of `engine` on each device."""

    model: CostModel
    engine: str

    def cost(self, demand: Demand, hardware: Hardware) -> Cost:
        """Time of one call on each row of `hardware`; basis, spread and bound are the inner model's."""
        inner = self.model.cost(demand, hardware)
        table: Array = np.array([factors(self.engine, d) for d in hardware.devices])
        if np.all(table == 1.0):
            return inner
        time = inner.time * table[hardware.index, inner.bound]
        if demand.family not in LINK_FAMILIES and np.any(table < 1.0):
            # no factor makes a kernel faster than its device
            time = np.maximum(time, bound(demand, hardware).time)
        return replace(inner, time=time)
