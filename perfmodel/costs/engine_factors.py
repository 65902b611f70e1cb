"""Engine factors: how much longer a serving engine's kernels take than stand-alone ones that the other models price.

An engine runs its own kernels between others, with cold caches, fused or split, and not always those that the tables
timed. A factor for each kind of limit (arithmetic, memory, links, launches) times one for each kind of kernel, by
engine and where known by device or kind of device, says how much longer a call really takes. The factors are fitted on
measured serving runs by `perfmodel.calibration`; without an entry they are 1.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import numpy as np

from hwdb import Device
from hwdb.tomlfile import Table, read_toml
from perfmodel.arrays import Array, Index
from perfmodel.costs.cost import Cost, CostModel
from perfmodel.costs.lookup import LAUNCH_SHARE, LAUNCH_TIME
from perfmodel.costs.roofline import Bound, bound
from perfmodel.dtypes import FORMAT_BYTES
from perfmodel.engines import Engine
from perfmodel.hardware import Hardware, hardware_of
from perfmodel.operators import Demand
from perfmodel.vocabulary import BOUNDS, COMPUTE_BOUND, EXPERT_ALL_TO_ALL, LAUNCH_BOUND, LINK_FAMILIES, MEMORY_BOUND

TABLE = Path(__file__).with_name("corrections.toml")
#: Kinds of kernel; GEMMs and experts by bits per weight, which decide library and kernel.
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
#: Operator family with weights -> index of its 16-bit kind in `KERNELS`; 8 and 4 bits follow.
_FIRST_BY_BITS = {"gemm": KERNELS.index("gemm_16"), "grouped_gemm": KERNELS.index("experts_16")}
#: Bytes per weight above which a kernel counts as 16-bit and as 8-bit. Chosen between 2, 1 and 0.5 bytes, block scales
#: included.
_BYTES_16, _BYTES_8 = 1.5, 0.9


def kernel(demand: Demand) -> Index:
    """Return the kind of kernel that each row of a demand runs, as index into `KERNELS`; () or (N,)."""
    if demand.family in _FIRST_BY_BITS:
        width = FORMAT_BYTES[np.asarray(demand.shape["weight"]).astype(int)]
        by_bits = np.where(width > _BYTES_16, 0, np.where(width > _BYTES_8, 1, 2))
        return np.asarray(_FIRST_BY_BITS[demand.family] + by_bits)
    if demand.family in LINK_FAMILIES:
        return np.array(KERNELS.index("collective"))
    kind = demand.family.partition("_")[0]
    return np.array(KERNELS.index("attention" if kind == "mla" else kind))


def combined(by_bound: Array, by_kernel: Array) -> Array:
    """Multiply the factors of what limits a call, (BOUNDS,), by those of its kind of kernel, (KERNELS,).

    Returns a table (BOUNDS, KERNELS).
    """
    return np.asarray(by_bound)[:, None] * np.asarray(by_kernel)[None, :]


def shared_factors(engine: str, kind: str) -> Array:
    """Return the fitted factors (BOUNDS + KERNELS,) that devices of a kind share under an engine.

    They are those of the engine on the kind of device, else of the engine on any device, else 1.
    """
    fitted = _fitted()
    ones: Array = np.ones(len(BOUNDS) + len(KERNELS))
    return fitted.get((engine, kind), fitted.get((engine, ""), ones))


@cache
def _fitted() -> dict[tuple[str, str], Array]:
    """Read the table as {(engine, device or kind of device or ""): factors (BOUNDS + KERNELS,)}; "" is any device."""
    top = read_toml(TABLE, "table of engine factors")
    return dict(_entry(table) for table in top.tables("correction"))


@cache
def _table() -> dict[tuple[str, str], Array]:
    """Return the factors of `_fitted` by limit and kind of kernel, (BOUNDS, KERNELS)."""
    return {place: combined(f[: len(BOUNDS)], f[len(BOUNDS) :]) for place, f in _fitted().items()}


def _entry(table: Table) -> tuple[tuple[str, str], Array]:
    """Read one `[[correction]]`: ((engine, device or kind of device or ""), factors (BOUNDS + KERNELS,))."""
    place = table.text("device", table.text("kind", ""))
    by_bound = [table.number(b, above=0) for b in BOUNDS]
    by_kernel = [table.number(k, 1.0, above=0) for k in KERNELS]
    table.number("values", 0.0, least=0)  # measured values behind the entry, for readers
    key = (table.text("engine"), place)
    table.done()
    return key, np.array([*by_bound, *by_kernel])


def factors(engine: str, device: Device) -> Array:
    """Return the factors (BOUNDS, KERNELS) of an engine on a device, from the closest entry that there is.

    It is that of the device, else of the device that it is a variant of, else of its kind, else that of the engine on
    any device; without an entry every factor is 1.
    """
    table = _table()
    places = (*(kin.name for kin in device.lineage), device.kind, "")
    known = ((engine, place) for place in places if (engine, place) in table)
    return next((table[key] for key in known), np.ones((len(BOUNDS), len(KERNELS))))


@dataclass(frozen=True)
class EngineFactors:
    """Cost model that multiplies the times of `model` by the factors of `engine` on each device, and by the user's own.

    An engine that runs kernels of its own has limits that `model` alone knows.
    """

    model: CostModel
    engine: Engine

    def cost(self, demand: Demand, hardware: Hardware) -> Cost:
        """Return the time of one call on each row of `hardware`; basis, spread and bound are those of `model`."""
        inner = self.model.cost(demand, hardware)
        # the fitted factors of collectives come from runs with those of libraries: a user's own alone hold for experts'
        find = self._own if demand.family == EXPERT_ALL_TO_ALL else self._factors
        table: Array = np.array([find(d) for d in hardware.devices])
        if np.all(table == 1.0):
            return inner
        time = inner.time * table[hardware.index, inner.bound, kernel(demand)]
        if demand.family in LINK_FAMILIES:
            launched = np.minimum(inner.time, LAUNCH_TIME) * table[hardware.index, LAUNCH_BOUND, kernel(demand)]
            return replace(inner, time=np.maximum(time, launched))
        limits = bound(demand, hardware)
        if self.engine.kernel_source != "own":  # what limits kernels of its own is not what limits a library's
            fitted = _as_fitted(demand, hardware, limits)
            time = _factored(inner, fitted, table[hardware.index, :, kernel(demand)])
        if np.any(table < 1.0):
            time = np.maximum(time, limits.time)  # no factor makes a kernel faster than its device
        return replace(inner, time=time)

    def _factors(self, device: Device) -> Array:
        """Return the factors (BOUNDS, KERNELS) on `device`: those fitted on published runs times the user's own."""
        return factors(self.engine.name, device) * self._own(device)

    def _own(self, device: Device) -> Array:
        """Return the user's own factors on `device`, (BOUNDS, KERNELS)."""
        own = np.array([self.engine.factor(device, part) for part in BOUNDS])
        return np.repeat(own[:, None], len(KERNELS), axis=1)


def _as_fitted(demand: Demand, hardware: Hardware, limits: Bound) -> Bound:
    """Return the limits of calls on the devices that the factors were fitted on, (N,) or (C, N).

    A device with some figures changed runs the same kernels as the one that it is a variant of: its factors are those
    of that device. So what a user makes faster takes no longer. limits: those on `hardware` itself.
    """
    homes = tuple(device.lineage[-1] for device in hardware.devices)
    return limits if homes == hardware.devices else bound(demand, hardware_of(homes, hardware.index))


def _factored(inner: Cost, limits: Bound, factor: Array) -> Array:
    """Return the seconds of calls that arithmetic, memory or a launch limits, (N,) or (C, N).

    Derived: a call takes the longer of its launch and its work. As it grows its work comes to bind in place of the
    launch, and its time must not fall there though the factors differ. So the factor of launches applies to what of the
    time a launch may take, the factor of work to at most l / `LAUNCH_SHARE`, where l is the bound, and the longer of
    the two binds.

    Args:
        inner: seconds by the tables.
        limits: least seconds by arithmetic and by memory.
        factor: (N, BOUNDS) by what limits the call.
    """
    time, least = inner.time, np.nan_to_num(limits.time)
    begun = np.where(time < LAUNCH_TIME, np.minimum(time, least / LAUNCH_SHARE), time)
    launched = np.minimum(time, LAUNCH_TIME) * factor[..., LAUNCH_BOUND]
    return np.maximum(begun * _of_work(limits, factor), launched)


def _of_work(limits: Bound, factor: Array) -> Array:
    """Return the factor of a call that no launch limits, (N,) or (C, N).

    Derived: arithmetic takes its factor times as long, and so does memory traffic, and the longer of the two binds. So
    the factor of work is that of what limits the call, and passes into the other where the two times are close: a call
    never gets shorter as it grows, nor on a slower memory.

    Args:
        limits: least seconds by arithmetic and by memory.
        factor: (N, BOUNDS) by what limits the call.
    """
    compute, memory = np.nan_to_num(limits.compute), np.nan_to_num(limits.memory)
    longer = np.maximum(compute * factor[..., COMPUTE_BOUND], memory * factor[..., MEMORY_BOUND])
    whole = np.maximum(compute, memory)
    return np.where(whole > 0, longer / np.where(whole > 0, whole, 1.0), factor[..., MEMORY_BOUND])
