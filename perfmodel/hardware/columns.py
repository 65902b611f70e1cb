"""Hardware as columns: what the cost models need of each candidate's device, gathered by index.

hwdb holds facts; this module only arranges them. Efficiencies live with the cost models.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from hwdb import Device
from perfmodel.arrays import Array
from perfmodel.dtypes import COMPUTE, FALLBACK


@dataclass(frozen=True)
class Hardware:
    """One row a candidate: (N,) arrays in SI, and the devices that `index` points to.

    peak: (N, len(COMPUTE)) FLOP/s in the type that the device really uses (see `FALLBACK`); NaN where it has none.
    bandwidth: B/s of device memory. memory: bytes. link_bandwidth: B/s a direction between devices of a node, whole
    device; link_latency: s a hop. topology: how the links of a node lie, as `hwdb.Link` names it. peers: devices in a
    node's fast domain. net_bandwidth: B/s a direction a device between nodes. tdp, idle: W.
    """

    devices: tuple[Device, ...]
    index: NDArray[np.intp]
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

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the devices that `index` points to."""
        return tuple(d.name for d in self.devices)

    def take(self, rows: NDArray[np.intp] | slice) -> Hardware:
        """The given rows, as a Hardware of its own."""
        columns = {f: getattr(self, f)[rows] for f in _COLUMNS}
        return Hardware(devices=self.devices, **columns)


_COLUMNS = (
    "index",
    "peak",
    "bandwidth",
    "memory",
    "link_bandwidth",
    "link_latency",
    "topology",
    "peers",
    "net_bandwidth",
    "net_latency",
    "tdp",
    "idle",
)


@lru_cache(maxsize=512)
def _peaks(device: Device) -> tuple[float, ...]:
    rates = []
    for name in COMPUTE:
        chain = [device.peak(t) for t in (name, *FALLBACK[name])]
        rates.append(next((r for r in chain if r == r), float("nan")))
    return tuple(rates)


def hardware_of(devices: Sequence[Device], index: NDArray[np.intp]) -> Hardware:
    """Gather the columns of `devices` for candidates whose device is `index` (N,)."""

    def column(pick) -> Array:  # type: ignore[no-untyped-def]
        return np.array([pick(d) for d in devices], dtype=float)[index]

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
    )
