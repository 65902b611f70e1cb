"""Tell how far two devices are apart as donors of measured tables, and the most that a device reaches."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from hwdb import Device
from perfmodel.arrays import NAN
from perfmodel.costs import lookup
from perfmodel.costs.intervals import UNRELATED_DEVICE
from perfmodel.dtypes import FALLBACK
from perfmodel.hardware import device_efficiency

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
    """Return the ceilings of `device` in compute type `act`: measured, else rated times the share of its kind."""
    reached = device_efficiency(device)
    used = lookup.effective(act, device)
    own, stream = _measured_share(device, used), device.measured("memory_bandwidth")
    return Ceilings(
        compute=device.peak(used) * (reached.gemm if np.isnan(own) else own),
        memory=device.bandwidth * reached.memory if np.isnan(stream) else stream,
        link=device.link.bandwidth * reached.link,
    )


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
