"""Lower bound of a decode step: the time to read the weights of one token once. The 80 % ranges end there.

The widths of the ranges are learned from errors and may reach below what is physically possible. Every decode step
reads the weights that one token needs from device memory, which takes at least their bytes over the memory bandwidth.
"""

from __future__ import annotations

import numpy as np

from perfmodel.arrays import Array
from perfmodel.deployment import Sharding
from perfmodel.hardware import Hardware
from perfmodel.operators import Step, operators

#: Families of operators that read weights.
READS_WEIGHTS = ("gemm", "grouped_gemm")


def least_step(sharding: Sharding, hardware: Hardware) -> Array:
    """Return the least seconds of a decode step of the busiest devices, (N,); NaN where a figure is not known.

    That is the time to read the weights of one token once, without what the last cache of a device may hold, at the
    rated bandwidth, or at the measured one where that is higher. Pipeline stages run one after the other.
    """
    read = np.zeros(len(hardware.index))
    for demand in operators(sharding, Step(decode_seqs=1.0, decode_context=1.0)):
        if demand.family in READS_WEIGHTS:
            read = read + np.where(demand.count > 0, demand.count * demand.moved, 0.0)
    held = np.nan_to_num([d.l2 for d in hardware.devices])[hardware.index] * sharding.pp  # 0 where none is known
    highest = np.array([np.fmax(d.bandwidth, d.measured("memory_bandwidth")) for d in hardware.devices])
    return np.asarray(np.maximum(read - held, 0.0) / highest[hardware.index])


def sooner(least: Array, estimate: Array) -> Array:
    """Return the lowest factor on an estimate that the bound `least` allows, (N,): 0 to 1; 0 where it is unknown."""
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = np.asarray(least / estimate)
    return np.clip(np.nan_to_num(ratio, nan=0.0, posinf=1.0), 0.0, 1.0)
