"""Tell how far two devices are apart as donors of measured tables, and the most that a device reaches."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np

import hwdb
from hwdb import Device
from perfmodel.arrays import NAN
from perfmodel.costs.measured_tables import lookup
from perfmodel.costs.measured_tables.intervals import UNRELATED_DEVICE
from perfmodel.dtypes import FALLBACK
from perfmodel.hardware import device_efficiency, kept_in_order, no_worse, stated_efficiency
from perfmodel.profiles import store

# The constants below rank donors by a distance without unit. They are chosen, not fitted: the scale is set by "another
# architecture adds 1"; benchmarks/transfer.py reports the errors that result when each device is hidden in turn.

#: Added for another architecture, and for another kind of memory.
OTHER_ARCHITECTURE, OTHER_MEMORY = 1.0, 1.5
#: Added for another vendor, and for another link topology where links are compared.
OTHER_VENDOR = OTHER_TOPOLOGY = UNRELATED_DEVICE
#: Weights of the log ratios of memory bandwidths, of balances (FLOP per byte) and of link bandwidths.
BANDWIDTH_WEIGHT, BALANCE_WEIGHT, LINK_WEIGHT = 0.3, 0.3, 0.5
#: Log ratio that counts where a quantity of either device is unknown.
UNKNOWN_RATIO = 1.0
#: Kinds of device between which tables carry over within a vendor, and between vendors: GPU kernels are ports of one
#: another. Devices whose compilers build whole graphs (TPUs and the like) have kernels unlike any other's.
_ALIKE, _PORTED = ("gpu", "soc"), ("gpu",)
#: AMD's lines of GPUs. Their matrix instructions differ (MFMA on CDNA, WMMA on RDNA), so that kernels of one line are
#: ports on the other, as between vendors.
_LINES = ("CDNA", "RDNA")
#: Factor by which rated figures of siblings differ at most. Chosen: H200 NVL and SXM, MI350X and MI355X are within it.
SIBLING = 1.5
_FIGURES = ("memory.bandwidth", "peak.bf16", "power.tdp")
#: Compute type of reference where a table or demand has none.
PLAIN = "bf16"


@dataclass(frozen=True)
class Ceilings:
    """Holds the most that a device reaches: FLOP/s in one compute type, B/s of memory, B/s over its link."""

    compute: float
    memory: float
    link: float


@lru_cache(maxsize=4096)
def ceilings(device: Device, act: str) -> Ceilings:
    """Return the ceilings of `device` in compute type `act`: measured, else rated times the share of its kind.

    Where nobody measured what the device reaches, it reaches no more than a better device and no less than a lesser
    one (`kept_in_order`).
    """
    used = lookup.effective(act, device)
    own = _measured_share(device, used), _streamed_share(device)
    unmeasured = own if np.isfinite(own).all() else _shares(device, used)  # asks other devices, so only where it has to
    compute, memory = (share if np.isfinite(share) else n for share, n in zip(own, unmeasured, strict=True))
    return Ceilings(
        compute=device.peak(used) * compute,
        memory=device.bandwidth * memory,
        link=device.link.bandwidth * device_efficiency(device).link,
    )


@lru_cache(maxsize=4096)
def _shares(device: Device, act: str) -> tuple[float, float]:
    """Return the shares of its peak in `act` and of its bandwidth that a device reaches that was not measured."""
    home = device.lineage[-1]

    def known(share: Callable[[Device], float]) -> Callable[[Device], bool]:
        return lambda d: d.name in donors or bool(np.isfinite(share(d)))

    donors = store.names()  # what tables are rescaled from stays: devices unlike them borrow from it too
    computed = kept_in_order(home, lambda d: _computed(d, act), known(lambda d: _measured_share(d, act)))
    streamed = kept_in_order(home, _streamed, known(_streamed_share))
    return computed / home.peak(lookup.effective(act, home)), streamed / home.bandwidth


@lru_cache(maxsize=4096)
def _computed(device: Device, act: str) -> float:
    """Return the FLOP/s in `act` that a device reaches, whatever others do: as measured on it, else on a sibling."""
    used = lookup.effective(act, device)
    shares = (*(_measured_share(near, used) for near in (device, *siblings(device))), stated_efficiency(device).gemm)
    return device.peak(used) * next(s for s in shares if np.isfinite(s))


@lru_cache(maxsize=4096)
def _streamed(device: Device) -> float:
    """Return the B/s of memory that a device reaches, whatever others do: as measured on it, else on a sibling."""
    shares = (*(_streamed_share(near) for near in (device, *siblings(device))), stated_efficiency(device).memory)
    return device.bandwidth * next(s for s in shares if np.isfinite(s))


@lru_cache(maxsize=16384)
def ceilings_beside(device: Device, donor: Device, act: str) -> Ceilings:
    """Return the ceilings of `device` beside those of the `donor` whose table it borrows, in compute type `act`.

    Both are shares of rated figures that were measured in different ways. They stay in the order of the rated figures
    where one device is better than the other in all of them. Where nobody measured either of two siblings, they reach
    the same share, whatever is assumed of each. A device with some figures changed keeps the shares of the one that it
    is a variant of.
    """
    home = device.lineage[-1]
    if home is not device:
        own, base, kept_there = ceilings(device, act), ceilings(home, act), ceilings_beside(home, donor, act)
        compute, memory = kept_there.compute / base.compute, kept_there.memory / base.memory
        return replace(own, compute=own.compute * compute, memory=own.memory * memory)
    own, theirs, order = ceilings(device, act), ceilings(donor, act), order_of(device, donor)
    if donor in siblings(home):
        used, his = lookup.effective(act, device), lookup.effective(act, donor)
        if not any(np.isfinite(_measured_share(d, used)) for d in (device, donor, *siblings(home), *siblings(donor))):
            own = replace(own, compute=theirs.compute * device.peak(used) / donor.peak(his))
        if not any(np.isfinite(_streamed_share(d)) for d in (device, donor, *siblings(home), *siblings(donor))):
            own = replace(own, memory=theirs.memory * device.bandwidth / donor.bandwidth)
    if not order:
        return own
    kept = max if order > 0 else min
    return replace(own, compute=kept(own.compute, theirs.compute), memory=kept(own.memory, theirs.memory))


@lru_cache(maxsize=16384)
def order_of(device: Device, other: Device, link: bool = False) -> int:
    """Return 1 where `device` is better than `other` in a rated figure and worse in none, -1 for the reverse, else 0.

    link: whether links count too.
    """
    home = device.lineage[-1]
    return int(no_worse(home, other, link=link)) - int(no_worse(other, home, link=link))


@lru_cache(maxsize=4096)
def siblings(device: Device) -> tuple[Device, ...]:
    """Return the devices of the same architecture and kind of memory with nearly the same figures, nearest first.

    They stand in where nobody measured what a device reaches: an MI350X reaches no larger share of its rated figures
    than an MI355X, which is the same chip with more power. A figure that is not stated does not count.
    """
    device = device.lineage[-1]
    alike = (d for d in hwdb.built_in().devices(device.make) if d.arch == device.arch and d.name != device.name)
    near = ((_apart_in_figures(device, d), d.name, d) for d in alike if d.memory_type[:3] == device.memory_type[:3])
    return tuple(d for apart, _, d in sorted(near, key=lambda n: n[:2]) if apart <= np.log(SIBLING) + 1e-9)


def _apart_in_figures(device: Device, other: Device) -> float:
    """Return the greatest absolute log ratio of the rated figures of two devices."""
    ratios = [device.si(figure) / other.si(figure) for figure in _FIGURES]
    return max((abs(float(np.log(ratio))) for ratio in ratios if ratio > 0.0), default=0.0)


def _streamed_share(device: Device) -> float:
    """Return the measured share of the rated memory bandwidth; NaN where nobody measured it."""
    return device.measured("memory_bandwidth") / device.bandwidth


def _measured_share(device: Device, act: str) -> float:
    """Return the measured share of the arithmetic peak in compute type `act`, else in another type; NaN without any.

    The others are tried in order: 16-bit types, then the fall-backs of `act`.
    """
    types = dict.fromkeys((act, "bf16", "fp16", *FALLBACK[act]))
    measured = (device.measured(f"gemm.{name}") / device.peak(name) for name in types)
    return next((share for share in measured if not np.isnan(share)), NAN)


@lru_cache(maxsize=16384)
def device_distance(device: Device, other: Device, link: bool = False) -> float:
    """Return how far two devices are apart (no unit): 0 for equal architecture and balance of compute and bandwidth.

    It is `UNRELATED_DEVICE` or more for another vendor's GPU or AMD's other line of GPUs, inf where kernels have
    nothing in common. link: compare the links only, for tables of collectives.
    """
    kinds, ported = {device.kind, other.kind}, _maker(device) != _maker(other)
    if (len(kinds) > 1 and not kinds <= set(_ALIKE)) or (ported and not kinds <= set(_PORTED)):
        return float("inf")
    if link:
        apart = abs(np.log(device.link.bandwidth / other.link.bandwidth))
        same_topology = device.link.topology == other.link.topology
        return LINK_WEIGHT * float(apart) + (0.0 if same_topology else OTHER_TOPOLOGY)
    score = 0.0 if architecture(device) == architecture(other) else OTHER_ARCHITECTURE
    score += OTHER_VENDOR if ported else 0.0
    score += 0.0 if device.memory_type[:3] == other.memory_type[:3] else OTHER_MEMORY  # HBM, GDDR or LPDDR of any age
    with np.errstate(invalid="ignore", divide="ignore"):
        bandwidth = np.log(device.bandwidth / other.bandwidth)
        balance = np.log(ceilings(device, PLAIN).compute / ceilings(other, PLAIN).compute) - bandwidth
    return score + BANDWIDTH_WEIGHT * _apart(bandwidth) + BALANCE_WEIGHT * _apart(balance)


def _maker(device: Device) -> tuple[str, str]:
    """Return the vendor of a device and, for AMD's GPUs, their line: devices whose kernels have the same source."""
    return device.vendor, next((line for line in _LINES if device.arch.startswith(line)), "")


def _apart(log_ratio: float) -> float:
    """Return the absolute value of a log ratio, `UNKNOWN_RATIO` where it is NaN."""
    return float(np.nan_to_num(abs(log_ratio), nan=UNKNOWN_RATIO))


def architecture(device: Device) -> list[str]:
    """Return the first word of a device's architecture, in a list: ["Blackwell"] for "Blackwell sm_100"."""
    return device.arch.split()[:1]
