"""Experts with weights of 4 bits whose kernels were not made for the device: the least time that they take.

Where a device multiplies no numbers of 4 bits, kernels expand the weights to 16 bits first. How fast they do so is a
matter of the release: with instructions of an older architecture they miss most of the peak, and with tiles that nobody
chose for the device most of the memory bandwidth. A release may also have kernels made for a format and leave them
out for some models, which then run a reference kernel. All three are settings of an engine (`weight_only_experts`,
`integer_experts`, `reference_experts`).
"""

from __future__ import annotations

import numpy as np

from hwdb import Device
from perfmodel import equations as eq
from perfmodel.arrays import Array
from perfmodel.costs.engine_effects.model_levels import plain_architecture
from perfmodel.costs.rooflines.roofline import Bound
from perfmodel.dtypes import FORMAT_BYTES, FORMAT_NAMES
from perfmodel.engines import Engine
from perfmodel.hardware import Hardware
from perfmodel.operators import Demand

#: Bytes per weight above which a kernel counts as 16-bit and as 8-bit. Chosen between 2, 1 and 0.5 bytes, block scales
#: included.
BYTES_16, BYTES_8 = 1.5, 0.9
#: (FORMATS,) whether weights of a format are floating-point numbers of less than 8 bits.
FLOATS = np.isin(FORMAT_NAMES, ("fp4", "mxfp4"))
#: Matrices from `hidden` to `inner`: all mixtures that are published with integer weights are gated.
_GATED = 2.0


def least_time(demand: Demand, hardware: Hardware, engine: Engine, limits: Bound) -> Array:
    """Return the least seconds per call of experts of 4 bits that `engine` expands to 16, else 0; (N,) or (C, N).

    limits: by the device alone. See `Engine.weight_only_experts` and `Engine.integer_experts`.
    """
    if demand.family != "grouped_gemm" or not (engine.weight_only_experts or engine.integer_experts):
        return np.zeros(())
    weight = np.asarray(demand.shape["weight"]).astype(int)
    wide = FORMAT_BYTES[np.asarray(demand.compute).astype(int)] > BYTES_16
    expanded = (FORMAT_BYTES[weight] <= BYTES_8) & wide
    least = np.where(expanded, limits.compute / _shares(engine.weight_only_experts, hardware), 0.0)
    slow = expanded & ~FLOATS[weight] & (_shares(engine.integer_experts, hardware) < 1.0)
    return np.fmax(least, np.where(slow, _reading(demand, hardware, engine), 0.0)) if slow.any() else np.asarray(least)


def reference_time(demand: Demand, hardware: Hardware, engine: Engine, architecture: str) -> Array:
    """Return the further seconds per call of experts that run a reference kernel of `engine`, else 0; () or (N,).

    architecture: of the model that is served; "" where it is not known, whose experts take no longer then. See
    `Engine.reference_experts`.
    """
    known = plain_architecture(architecture)
    if demand.family != "grouped_gemm" or not engine.reference_experts or known in ("", *engine.native_experts):
        return np.zeros(())
    weight = np.asarray(demand.shape["weight"]).astype(int)
    times = dict(engine.reference_experts)
    extra = np.array([times.get(chip_word(device), 0.0) for device in hardware.devices])[hardware.index]
    return np.asarray(np.where(FLOATS[weight], extra, 0.0))


def _reading(demand: Demand, hardware: Hardware, engine: Engine) -> Array:
    """Return the seconds that reading and expanding the touched experts' weights takes, (N,) or (C, N)."""
    of = demand.shape
    touched = eq.popular_experts_touched(of["experts"], of["top_k"], of["tokens"]) / of["ep"]
    width = FORMAT_BYTES[np.asarray(of["weight"]).astype(int)]
    inner = np.ceil(np.asarray(of["inter"], float) / of["tp"])
    moved = eq.grouped_gemm_bytes(0.0, touched, of["hidden"], inner, _GATED, act_bytes=0.0, weight_bytes=width)
    return np.asarray(moved / (hardware.bandwidth * _shares(engine.integer_experts, hardware)))


def _shares(by_architecture: tuple[tuple[str, float], ...], hardware: Hardware) -> Array:
    """Return the share of each row's architecture ("CDNA3" of "CDNA3 gfx942"), 1 where none is given; (N,)."""
    known = dict(by_architecture)
    return np.array([known.get(chip_word(device), 1.0) for device in hardware.devices])[hardware.index]


def chip_word(device: Device) -> str:
    """Return the first word of a device's architecture, by which engine files name it ("CDNA3" of "CDNA3 gfx942")."""
    return device.arch.partition(" ")[0]
