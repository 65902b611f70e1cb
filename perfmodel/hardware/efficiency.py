"""Efficiency priors: the shares of rated peak and bandwidth that a roofline assumes a device to reach.

They come from `efficiency.toml` and serve where no table of measurements does.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np

from hwdb import Device
from hwdb.tomlfile import Table, read_toml
from perfmodel.arrays import Array
from perfmodel.hardware.columns import Hardware
from perfmodel.hardware.order import kept_in_order

_MICROSECOND = 1e-6


class DeviceEfficiency(NamedTuple):
    """The shares of its rated peak and bandwidth that kernels reach on one device, and a kernel's least duration.

    Attributes:
        gemm, attention: shares of the arithmetic peak, for large GEMMs and for prefill attention.
        memory: share of memory bandwidth that streaming kernels reach.
        link: share of link bandwidth that large messages reach.
        launch_us: shortest duration of a kernel in a captured graph, microseconds.
        kv: share of memory bandwidth that decode attention reaches.
    """

    gemm: float
    attention: float
    memory: float
    link: float
    launch_us: float
    kv: float


_FIGURES = DeviceEfficiency._fields


@dataclass(frozen=True)
class Efficiency:
    """`DeviceEfficiency` of the device of each candidate, as columns (N candidates,); `launch` is in seconds."""

    gemm: Array
    attention: Array
    memory: Array
    link: Array
    launch: Array
    kv: Array


@dataclass(frozen=True)
class _Prior:
    """One entry `[[prior]]` of `efficiency.toml`.

    It gives assumed shares of peak and bandwidth for devices that match a name pattern or are of one of the kinds.
    """

    names: tuple[str, ...]
    kinds: tuple[str, ...]
    figures: Mapping[str, float]

    def matches(self, device: Device) -> bool:
        """Return whether the entry holds for a device, or names a device that it is a variant of."""
        by_name = any(fnmatchcase(kin.name, pattern) for kin in device.lineage for pattern in self.names)
        return by_name or device.kind in self.kinds


@dataclass(frozen=True)
class _Priors:
    """The content of `efficiency.toml`, except the table of engines that launch kernels from the host.

    `perfmodel.costs` reads that table.
    """

    spread: float
    entries: tuple[_Prior, ...]


@cache
def _priors() -> _Priors:
    """Read `efficiency.toml`, once."""
    top = read_toml(Path(__file__).with_name("efficiency.toml"), "table of efficiencies")
    spread = top.table("spread")
    value = spread.number("value", above=0.0)
    spread.text("source")
    spread.done()
    entries = tuple(_read_prior(entry) for entry in top.tables("prior"))
    top.done(also=("host",))
    return _Priors(spread=value, entries=entries)


def _read_prior(entry: Table) -> _Prior:
    """Read one entry `[[prior]]`."""
    prior = _Prior(
        names=entry.texts("names", ()),
        kinds=entry.texts("kinds", ()),
        figures={key: entry.number(key, above=0.0) for key in _FIGURES if key in entry},
    )
    entry.text("source")
    entry.done(also=_FIGURES)
    return prior


def roofline_spread() -> float:
    """Return the half-width of the 80 % interval of a roofline estimate with these priors, as a natural logarithm."""
    return _priors().spread


@cache
def device_efficiency(device: Device) -> DeviceEfficiency:
    """Return the shares of its rated peak and bandwidth that one device is assumed to reach.

    Each share comes from the first prior that matches the device and gives it. Three exceptions: `memory` is the share
    measured on the device, where there is one; where no prior gives `kv`, decode attention is taken to stream the KV
    cache as any other kernel streams memory; and a device that was not measured, and that no prior names alone,
    reaches no more than a better device and no less than a lesser one (`kept_in_order`).
    """
    stated, home = stated_efficiency(device), device.lineage[-1]
    kept = {name: _share_in_order(home, name) for name in _RATED if not _is_known(device, name)}
    return stated._replace(**{name: share for name, share in kept.items() if np.isfinite(share)})


def _share_in_order(device: Device, name: str) -> float:
    """Return the share called `name` of a device, kept between those of better and lesser devices; NaN if unrated."""

    def reached(d: Device) -> float:
        return float(getattr(stated_efficiency(d), name)) * d.si(_RATED[name])

    return kept_in_order(device, reached, lambda d: _is_known(d, name)) / device.si(_RATED[name])


#: Share -> the figure of the device that it is a share of.
_RATED = {"gemm": "peak.bf16", "attention": "peak.bf16", "memory": "memory.bandwidth", "kv": "memory.bandwidth"}


@cache
def _is_known(device: Device, figure: str) -> bool:
    """Return whether a share was measured on a device, or stated for it alone and not for a group of devices."""
    entries = [prior for prior in _priors().entries if prior.matches(device)]
    giving = next((prior for prior in entries if figure in prior.figures), None)
    if figure == "kv" and giving is None:
        return _is_known(device, "memory")
    measured = figure == "memory" and device.measured("memory_bandwidth") <= device.bandwidth
    return measured or (giving is not None and device.name in giving.names)


@cache
def stated_efficiency(device: Device) -> DeviceEfficiency:
    """Return the shares that the priors and a measured bandwidth state for one device, whatever other devices reach."""
    matching = [prior.figures for prior in _priors().entries if prior.matches(device)]
    known = {figure: next(p[figure] for p in matching if figure in p) for figure in _FIGURES if figure != "kv"}
    measured = device.measured("memory_bandwidth") / device.bandwidth
    if measured <= 1.0:  # a higher one was measured on another make of the device; NaN where nobody measured
        known["memory"] = measured
    known["kv"] = next((p["kv"] for p in matching if "kv" in p), known["memory"])
    return DeviceEfficiency(**known)


def efficiency_of(hardware: Hardware) -> Efficiency:
    """Return the assumed efficiency of the device in each row of `hardware`."""
    table = np.array([device_efficiency(d) for d in hardware.devices])[hardware.index]
    gemm, attention, memory, link, launch_us, kv = table.T
    launch = launch_us * _MICROSECOND
    return Efficiency(gemm=gemm, attention=attention, memory=memory, link=link, launch=launch, kv=kv)
