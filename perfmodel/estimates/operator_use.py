"""Estimate single operators that run back to back on one device: time, watts, joules, each with its range."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hwdb import Device
from perfmodel.arrays import NAN, Array
from perfmodel.costs import default
from perfmodel.dtypes import COMPUTE_BYTES
from perfmodel.hardware import hardware_of
from perfmodel.operators import Demand
from perfmodel.power import Activity, is_known, mean_power, power_spread, slowdown, use_of
from perfmodel.power import demanded_power as demanded
from perfmodel.vocabulary import BASES, BOUNDS, COMPUTE_BOUND, MEMORY_BOUND, MOVED, SENT, WORK


@dataclass(frozen=True)
class OperatorUse:
    """Hold what N operators take, (N,) each.

    time: seconds per call. watts: mean of one device while it runs nothing else. joules: per call, of all `devices`
    that take part. spreads: log half-widths of 80 % intervals by name: time, watts, joules. basis, bound: words. flop,
    moved: per call and device. power_basis: what the watts rest on, in words.
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
    power_basis: str


def operator_use(demand: Demand, device: Device, power_cap: float = NAN) -> OperatorUse:
    """Estimate operators on a device, (N,): each runs back to back, so that nothing but its kernels takes time.

    Watts follow from the work per second as in a serving step (`perfmodel.power`), whose constants are fitted on
    serving runs and not on single kernels; the range of joules joins those of time and watts, taken for independent.

    power_cap: power limit set on the device, W; NaN for its own.
    """
    count = len(demand.count)
    hardware = hardware_of([device], np.zeros(count, dtype=np.intp)).capped(np.full(count, power_cap))
    cost = default().cost(demand, hardware)
    time, bound = np.broadcast_to(cost.time, (count,)), np.broadcast_to(cost.bound, (count,))
    ones = np.ones(count)
    whole = Activity(busy=ones, kernels=ones, use=use_of(hardware, _work(demand, count) / time))
    longer = slowdown(
        hardware, demanded(hardware, whole), ones * (bound == COMPUTE_BOUND), ones * (bound == MEMORY_BOUND)
    )
    watts = mean_power(hardware, whole)
    time, spread, of_power = time * longer, np.broadcast_to(cost.spread, (count,)), power_spread(hardware)
    devices = np.broadcast_to(np.asarray(demand.shape.get("group", 1.0), dtype=float), (count,))
    return OperatorUse(
        time=time,
        watts=watts,
        joules=time * watts * devices,
        devices=devices,
        spreads={"time": spread, "watts": of_power, "joules": np.hypot(spread, of_power)},
        basis=[BASES[int(code)] for code in np.broadcast_to(cost.basis, (count,))],
        bound=[BOUNDS[int(code)] for code in bound],
        flop=np.broadcast_to(demand.flop, (count,)),
        moved=np.broadcast_to(demand.moved, (count,)),
        power_basis=f"serving runs of {device.arch if is_known(device) else 'other architectures'}",
    )


def _work(demand: Demand, count: int) -> Array:
    """Return the work of one call as `WORK` lists it, (5, N)."""
    work = np.zeros((len(WORK), count))
    width = np.select([COMPUTE_BYTES >= 2.0, COMPUTE_BYTES >= 1.0], [0, 1], 2)
    work[width[np.broadcast_to(demand.compute, (count,))], np.arange(count)] = demand.flop
    work[MOVED], work[SENT] = demand.moved, demand.message
    return work
