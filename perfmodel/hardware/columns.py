"""Hardware as columns: what the cost models need of each candidate's device, gathered by index.

hwdb holds the facts; this module only arranges them. What kernels reach of them is in `perfmodel.hardware.efficiency`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from hwdb import Device
from perfmodel.arrays import NAN, Array, Index, Mask
from perfmodel.dtypes import COMPUTE, FALLBACK

#: Devices whose peaks are kept in memory; more than the database and a large search space hold.
_CACHED_DEVICES = 512


@dataclass(frozen=True)
class Hardware:
    """Numeric quantities of the device of each candidate, as columns of N rows. In SI units, NaN where unknown.

    Attributes:
        devices: the devices that `index` points to.
        index: (N,) device of each row.
        peak: (N, len(COMPUTE)) FLOP/s in the type that the device really computes in (see `FALLBACK`); NaN where it has
            none.
        bandwidth: (N,) B/s of device memory.
        memory: (N,) bytes of device memory.
        link_bandwidth: (N,) B/s in one direction between devices of a node, all ports of a device together.
        link_latency: (N,) seconds per hop within a node.
        topology: (N,) how the devices of a node are joined, as `hwdb.Link` names it.
        peers: (N,) devices that the fabric of a node joins.
        net_bandwidth: (N,) B/s per device in one direction between nodes.
        net_latency: (N,) seconds per hop between nodes.
        tdp, idle: (N,) power limit and idle power of a device, W.
        rated_tdp: (N,) power limit that the device's peaks are rated at, W; above `tdp` where the limit is lowered.
    """

    devices: tuple[Device, ...]
    index: Index
    peak: Array
    bandwidth: Array
    memory: Array
    link_bandwidth: Array
    link_latency: Array
    topology: NDArray[np.str_]
    peers: Array
    net_bandwidth: Array
    net_latency: Array
    tdp: Array
    idle: Array
    rated_tdp: Array

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the devices that `index` points to."""
        return tuple(d.name for d in self.devices)

    def capped(self, watts: Array) -> Hardware:
        """Return the devices with a power limit of `watts` set on each, (N,); NaN, or above its own: its own."""
        return replace(self, tdp=np.fmin(self.tdp, watts)) if np.isfinite(watts).any() else self

    def take(self, rows: Index | Mask | slice) -> Hardware:
        """Return the given rows."""
        columns = {f.name: getattr(self, f.name)[rows] for f in fields(self) if f.name != "devices"}
        return Hardware(devices=self.devices, **columns)

    def narrowed(self) -> Hardware:
        """Return the same without devices that have no row."""
        used = np.bincount(self.index, minlength=len(self.devices)) > 0
        if used.all():
            return self
        devices = tuple(device for device, there in zip(self.devices, used.tolist(), strict=True) if there)
        return replace(self, devices=devices, index=(np.cumsum(used) - 1)[self.index])


@lru_cache(maxsize=_CACHED_DEVICES)
def _peaks(device: Device) -> tuple[float, ...]:
    """Return the FLOP/s of each type of `COMPUTE`: of the type itself, or of the first type that it falls back to."""
    return tuple(
        next((rate for t in (name, *FALLBACK[name]) if (rate := device.peak(t)) == rate), NAN) for name in COMPUTE
    )


def rated_tdp(device: Device) -> float:
    """Return the power limit in W that the device's peaks are rated at.

    A device file that varies another one with the same peaks and lowers its TDP describes the same device under a lower
    power limit.
    """
    base = device.base
    if base is None or not base.tdp > device.tdp:
        return device.tdp
    same = all(old == new or new != new for old, new in zip(_peaks(base), _peaks(device), strict=True))
    return rated_tdp(base) if same and base.bandwidth == device.bandwidth else device.tdp


def hardware_of(devices: Sequence[Device], index: Index) -> Hardware:
    """Gather the columns of `devices` for candidates. `index` (N,) gives each candidate's position in `devices`."""

    def column(figure: Callable[[Device], float]) -> Array:
        return np.array([figure(d) for d in devices], dtype=float)[index]

    return Hardware(
        devices=tuple(devices),
        index=index,
        peak=np.array([_peaks(d) for d in devices])[index],
        bandwidth=column(lambda d: d.bandwidth),
        memory=column(lambda d: d.memory),
        link_bandwidth=column(lambda d: d.link.bandwidth),
        link_latency=column(lambda d: d.link.latency),
        topology=np.array([d.link.topology for d in devices])[index],
        peers=column(lambda d: d.link.peers),
        net_bandwidth=column(lambda d: d.net.bandwidth),
        net_latency=column(lambda d: d.net.latency),
        tdp=column(lambda d: d.tdp),
        idle=column(lambda d: d.idle),
        rated_tdp=column(rated_tdp),
    )
