"""Corrected: what a serving engine's kernels take over the stand-alone ones that the other models price.

An engine runs its own kernels between others, with cold caches, fused or split, and not always those that the tables
timed. A factor for each kind of limit (arithmetic, memory, links, launches) times one for each kind of kernel, by
engine and where known by device or kind of device, says how much longer a call really takes. The factors are fitted on
measured serving runs by `perfmodel.calibration`; without an entry they are 1.
"""

from __future__ import annotations

import tomllib
from dataclasses import dataclass, replace
from functools import cache
from importlib.resources import files
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hwdb import Device
from perfmodel.arrays import Array
from perfmodel.costs.cost import Cost, CostModel
from perfmodel.costs.roofline import bound
from perfmodel.dtypes import FORMAT_BYTES
from perfmodel.hardware import Hardware
from perfmodel.operators import Demand
from perfmodel.vocabulary import BOUNDS, LINK_FAMILIES

#: Kinds of kernel; GEMMs and experts by the bits of a weight, which decide the library and its kernel.
KERNELS = (
    "gemm_16",
    "gemm_8",
    "gemm_4",
    "experts_16",
    "experts_8",
    "experts_4",
    "attention",
    "recurrent",
    "elementwise",
    "collective",
)
_BY_BITS = {"gemm": 0, "grouped_gemm": 3}
#: Bytes a weight from which a kernel counts as one of 16 and of 8 bits.
_BYTES_16, _BYTES_8 = 1.5, 0.9


def kernel(demand: Demand) -> NDArray[np.intp]:
    """Index into `KERNELS` of each row of a demand; () or (N,)."""
    if demand.family in _BY_BITS:
        width = FORMAT_BYTES[np.asarray(demand.shape["weight"]).astype(int)]
        return _BY_BITS[demand.family] + np.where(width > _BYTES_16, 0, np.where(width > _BYTES_8, 1, 2))
    if demand.family in LINK_FAMILIES:
        return np.array(KERNELS.index("collective"))
    start = demand.family.partition("_")[0]
    return np.array(KERNELS.index({"mla": "attention"}.get(start, start)))


def combined(by_bound: Array, by_kernel: Array) -> Array:
    """Factors (BOUNDS, KERNELS) out of those of each."""
    return np.asarray(by_bound)[:, None] * np.asarray(by_kernel)[None, :]


@cache
def _table() -> dict[tuple[str, str], Array]:
    entries: list[dict[str, Any]] = tomllib.loads(
        files("perfmodel.costs").joinpath("corrections.toml").read_text()
    ).get("correction", [])
    return {
        (e["engine"], e.get("device", e.get("kind", ""))): combined(
            np.array([float(e[b]) for b in BOUNDS]), np.array([float(e.get(k, 1.0)) for k in KERNELS])
        )
        for e in entries
    }


def factors(engine: str, device: Device) -> Array:
    """Factors (BOUNDS, KERNELS) of an engine on a device: its own, else of the one it varies, else of its kind, else of
    any, else 1."""
    table = _table()
    places = (*(kin.name for kin in device.lineage), device.kind, "")
    known = ((engine, place) for place in places if (engine, place) in table)
    return next((table[key] for key in known), np.ones((len(BOUNDS), len(KERNELS))))


@dataclass(frozen=True)
class EngineFactors:
    """Another cost model's times, multiplied by the factors of `engine` on each device."""

    model: CostModel
    engine: str

    def cost(self, demand: Demand, hardware: Hardware) -> Cost:
        """Time of one call on each row of `hardware`; basis, spread and bound are the inner model's."""
        inner = self.model.cost(demand, hardware)
        table: Array = np.array([factors(self.engine, d) for d in hardware.devices])
        if np.all(table == 1.0):
            return inner
        time = inner.time * table[hardware.index, inner.bound, kernel(demand)]
        if demand.family not in LINK_FAMILIES and np.any(table < 1.0):
            # no factor makes a kernel faster than its device
            time = np.maximum(time, bound(demand, hardware).time)
        return replace(inner, time=time)
