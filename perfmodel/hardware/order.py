"""Order devices by their facts: which devices are no worse than another in any figure, and run the same software.

A device that is better or equal in every figure serves no slower than the lesser one. Where nobody measured one of the
two, what it reaches is kept within this order (`kept_in_order`); where both were measured, measurement stands.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, lru_cache

import numpy as np

import hwdb
from hwdb import Device
from perfmodel.arrays import Array, Mask

#: Figures that count in every comparison: rates of the compute types that engines with kernels of libraries run,
#: memory, and the power that clocks depend on.
_FIGURES = ("peak.bf16", "peak.fp16", "peak.fp8", "peak.fp4", "memory.bandwidth", "memory.capacity", "power.tdp")
#: Figures that count too where an engine brings kernels of its own, which use vector units and 8-bit integers.
_OWN_KERNELS = ("peak.fp32", "peak.int8")
#: Figures of links.
_LINK = ("link.bandwidth",)


def no_worse(device: Device, other: Device, *, own_kernels: bool = False, link: bool = False) -> bool:
    """Return whether `device` is better than `other` in one figure and worse in none; links count with `link` only.

    Only devices of one vendor, kind, chip generation and kind of memory are compared; a figure that `other` does not
    state does not count. own_kernels: whether rates of vector units and of 8-bit integers count too.

    >>> no_worse(hwdb.device("a100-sxm-80gb"), hwdb.device("a100-sxm-40gb"))
    True
    >>> no_worse(hwdb.device("h100-sxm"), hwdb.device("h200-sxm"))
    False
    """
    if device.name == other.name or _line(device) != _line(other):
        return False
    if link and not _link_no_worse(device, other):
        return False
    figures = (*_FIGURES, *(_OWN_KERNELS if own_kernels else ()), *(_LINK if link else ()))
    mine, theirs = (np.array([d.si(figure) for figure in figures]) for d in (device, other))
    return bool(_dominates(mine, theirs))


def _dominates(mine: Array, theirs: Array) -> Mask:
    """Return whether no known figure of `theirs` is above that of `mine`, and one is below it; (..., figures)."""
    none_worse = (np.isnan(theirs) | (mine >= theirs)).all(axis=-1)
    return np.asarray(none_worse & (mine > theirs).any(axis=-1))


def _link_no_worse(device: Device, other: Device) -> bool:
    """Return whether the link of `device` has the topology of that of `other`, and no longer latency or fewer peers."""
    mine, theirs = device.link, other.link
    return mine.topology == theirs.topology and mine.latency <= theirs.latency and mine.peers >= theirs.peers


def _line(device: Device) -> tuple[str, ...]:
    """Return what devices have in common that run the same kernels: vendor, kind, generation and kind of memory.

    NVIDIA's generations with the same name and kind of memory do; AMD and others name chips that have kernels of their
    own behind it.
    """
    words = device.arch.partition("(")[0].partition("+")[0].split()
    generation = words[0] if device.vendor == "NVIDIA" else " ".join(words)
    return device.vendor, device.kind, generation, device.memory_type[:3]


@cache
def _in_line(line: tuple[str, ...], make: str) -> tuple[Device, ...]:
    """Return the shipped devices that are compared with each other; make: `Device.make` of all of these."""
    return tuple(device for device in hwdb.built_in().devices(make) if _line(device) == line)


@lru_cache(maxsize=4096)
def better_and_lesser(device: Device) -> tuple[tuple[Device, ...], tuple[Device, ...]]:
    """Return the shipped devices that are better or equal in every figure than `device`, and those that are lesser.

    A device with some figures changed is compared as the one that it is a variant of.
    """
    home = device.lineage[-1]
    others = [d for d in _in_line(_line(home), home.make) if d.name != home.name]
    mine = np.array([home.si(figure) for figure in _FIGURES])
    figures = np.array([[d.si(figure) for figure in _FIGURES] for d in others]).reshape(-1, len(_FIGURES))
    better, lesser = _dominates(figures, mine), _dominates(mine, figures)
    return tuple(others[i] for i in np.flatnonzero(better)), tuple(others[i] for i in np.flatnonzero(lesser))


def kept_in_order(device: Device, value: Callable[[Device], float], known: Callable[[Device], bool]) -> float:
    """Return `value` of a device, kept between the values of better and of lesser devices where it is not known itself.

    Derived: the greatest of what the device is taken to reach and what lesser devices reach, but at most what a better
    device is known to reach. So any two devices of which one is not known lie in their order.

    Args:
        device: the device.
        value: what a device reaches, more is better; NaN where nothing is said.
        known: whether it was measured on a device.
    """
    own = value(device)
    if known(device) or np.isnan(own):
        return own

    def at_most(d: Device) -> float:
        """Return the value of a device, where it is not known at most the least known one of a better device."""
        better = () if known(d) else better_and_lesser(d)[0]
        return float(np.fmin.reduce([value(d), *(value(b) for b in better if known(b))]))

    lesser = [at_most(d) for d in better_and_lesser(device)[1]]
    most = [value(d) for d in better_and_lesser(device)[0] if known(d)]
    return float(np.fmin.reduce([np.fmax.reduce([own, *lesser]), *most]))
