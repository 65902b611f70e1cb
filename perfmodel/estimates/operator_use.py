"""Estimate single operators that run back to back on one device: time, watts, joules, each with its range."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hwdb import Device
from perfmodel.arrays import NAN, Array, Mask
from perfmodel.costs import default
from perfmodel.dtypes import COMPUTE_BYTES
from perfmodel.hardware import Hardware, hardware_of
from perfmodel.operators import Demand
from perfmodel.power import (
    Activity,
    is_beyond_evidence,
    is_known,
    kernel_share,
    mean_power,
    power_spread,
    slowdown,
    use_of,
)
from perfmodel.power import demanded_power as demanded
from perfmodel.vocabulary import BASES, BOUNDS, COMPUTE_BOUND, MEMORY_BOUND, MOVED, SENT, WORK

#: Share of the power limit that products of matrices bound by arithmetic draw where none like them were measured: the
#: median of bf16 GEMMs of 1,000 to 4,000 tokens is .99 (H200), .98 (B200), .96 (GB200), of nvfp4 and fp8 .87 to .98, at
#: 36 to 70 % of the peak (NVIDIA AIConfigurator, Apache-2.0, @095f58a).
ARITHMETIC_SHARE = 0.97
#: What the basis of watts says of a power limit below all of the evidence.
BEYOND = "limit lower than any measured, extrapolated"


@dataclass(frozen=True)
class OperatorUse:
    """Hold what N operators take, (N,) each.

    time: seconds per call. watts: mean of one device while it runs nothing else. joules: per call, of all `devices`
    that take part. spreads: log half-widths of 80 % intervals by name: time, watts, joules. basis, bound: words. flop,
    moved: per call and device. power_basis: what the watts rest on, in words.
    limit: power limit in force, W.
    """

    time: Array
    watts: Array
    joules: Array
    devices: Array
    spreads: dict[str, Array]
    basis: list[str]
    bound: list[str]
    flop: Array
    moved: Array
    power_basis: list[str]
    limit: float


def operator_use(demand: Demand, device: Device, power_cap: float = NAN) -> OperatorUse:
    """Estimate operators on a device, (N,): each runs back to back, so that nothing but its kernels takes time.

    Watts are those of measured kernels where some like them were. Else products of matrices that arithmetic binds sit
    near the limit, and other watts follow from the work per second as in a serving step (`perfmodel.power`), whose
    constants are fitted on serving runs. The range of joules joins those of time and watts, taken for independent.

    power_cap: power limit set on the device, W; NaN for its own.
    """
    count = len(demand.count)
    hardware = hardware_of([device], np.zeros(count, dtype=np.intp)).capped(np.full(count, power_cap))
    cost = default().cost(demand, hardware)
    time, bound = np.broadcast_to(cost.time, (count,)), np.broadcast_to(cost.bound, (count,))
    ones = np.ones(count)
    whole = Activity(busy=ones, kernels=ones, use=use_of(hardware, _work(demand, count) / time))
    drawn = _drawn(demand, device, hardware, whole, near_limit=(bound == COMPUTE_BOUND) & (demand.family == "gemm"))
    longer = slowdown(hardware, drawn.demanded, ones * (bound == COMPUTE_BOUND), ones * (bound == MEMORY_BOUND))
    time, spread = time * longer, np.broadcast_to(cost.spread, (count,))
    devices = np.broadcast_to(np.asarray(demand.shape.get("group", 1.0), dtype=float), (count,))
    return OperatorUse(
        time=time,
        watts=drawn.watts,
        joules=time * drawn.watts * devices,
        devices=devices,
        spreads={"time": spread, "watts": drawn.spread, "joules": np.hypot(spread, drawn.spread)},
        basis=[BASES[int(code)] for code in np.broadcast_to(cost.basis, (count,))],
        bound=[BOUNDS[int(code)] for code in bound],
        flop=np.broadcast_to(demand.flop, (count,)),
        moved=np.broadcast_to(demand.moved, (count,)),
        power_basis=drawn.basis,
        limit=float(hardware.tdp[0]),
    )


@dataclass(frozen=True)
class _Drawn:
    """Hold what N operators draw, (N,) each: W without and with the limit in force, log half-width, basis in words."""

    demanded: Array
    watts: Array
    spread: Array
    basis: list[str]


def _drawn(demand: Demand, device: Device, hardware: Hardware, whole: Activity, *, near_limit: Mask) -> _Drawn:
    """Return what operators draw back to back: as measured kernels do, else by what they do.

    near_limit: whether an operator that was not measured draws `ARITHMETIC_SHARE`, (N,).
    """
    count = len(demand.count)
    kv = np.ravel(np.asarray(demand.shape.get("kv_bytes", COMPUTE_BYTES[np.ravel(demand.compute)[0]])))[0]
    work = np.broadcast_to(demand.flop, (count,)), np.broadcast_to(demand.moved, (count,))
    share, half_width, source = kernel_share(device, demand.family, round(8 * float(kv)), work)
    measured = np.isfinite(share)
    at_limit = near_limit & ~measured
    share = np.where(at_limit, ARITHMETIC_SHARE, share)
    own = np.where(np.isfinite(share), share * hardware.rated_tdp, demanded(hardware, whole))
    words = f"serving runs of {device.arch if is_known(device) else 'other architectures'}", "kernels of other devices"
    beyond = f"; {BEYOND}" if is_beyond_evidence(hardware).any() else ""
    bases = [f"kernels of {source}" if one else words[int(two)] for one, two in zip(measured, at_limit, strict=True)]
    return _Drawn(
        demanded=own,
        watts=np.where(np.isfinite(share), np.fmin(own, hardware.tdp), mean_power(hardware, whole)),
        spread=np.where(measured, half_width, power_spread(hardware)),
        basis=[basis + beyond for basis in bases],
    )


def _work(demand: Demand, count: int) -> Array:
    """Return the work of one call as `WORK` lists it, (5, N)."""
    work = np.zeros((len(WORK), count))
    width = np.select([COMPUTE_BYTES >= 2.0, COMPUTE_BYTES >= 1.0], [0, 1], 2)
    work[width[np.broadcast_to(demand.compute, (count,))], np.arange(count)] = demand.flop
    work[MOVED], work[SENT] = demand.moved, demand.message
    return work
