"""Experts with weights of 4 bits whose kernels were not made for the device: the least time that they take.

Where a device multiplies no numbers of 4 bits, kernels expand the weights to 16 bits first. How fast they do so is a
matter of the release: with instructions of an older architecture they miss most of the peak, and with tiles that nobody
chose for the chip they wait for memory again and again, so that a faster memory hardly helps. A release may also have
kernels made for a format and leave them out for some models, which then run a reference kernel. All three are settings
of an engine (`weight_only_experts`, `integer_experts`, `reference_experts`).
"""

from __future__ import annotations

import numpy as np

from perfmodel import equations as eq
from perfmodel.arrays import Array
from perfmodel.costs.cost import Served
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
    least = np.where(expanded, limits.compute / _by_chip(engine.weight_only_experts, hardware, 1.0), 0.0)
    rates = _by_chip(engine.integer_experts, hardware, np.inf)
    slow = expanded & ~FLOATS[weight] & np.isfinite(rates)
    return np.fmax(least, np.where(slow, _read(demand) / rates, 0.0)) if slow.any() else np.asarray(least)


def reference_time(demand: Demand, hardware: Hardware, engine: Engine, served: Served | None) -> Array:
    """Return the further seconds per call of experts that run a reference kernel of `engine`, else 0; () or (N,).

    served: the architecture of each row; experts of one that is not known, None or "", take no longer. See
    `Engine.reference_experts`.
    """
    if demand.family != "grouped_gemm" or not engine.reference_experts or served is None:
        return np.zeros(())
    better = ("", *engine.native_experts)
    slow = np.array([plain_architecture(name) not in better for name in served.architectures])[served.which]
    weight = np.asarray(demand.shape["weight"]).astype(int)
    return np.asarray(np.where(slow & FLOATS[weight], _by_chip(engine.reference_experts, hardware, 0.0), 0.0))


def _read(demand: Demand) -> Array:
    """Return the bytes of weights of the experts that a call touches, (N,) or (C, N)."""
    of = demand.shape
    touched = eq.popular_experts_touched(of["experts"], of["top_k"], of["tokens"]) / of["ep"]
    width = FORMAT_BYTES[np.asarray(of["weight"]).astype(int)]
    inner = np.ceil(np.asarray(of["inter"], float) / of["tp"])
    return eq.grouped_gemm_bytes(0.0, touched, of["hidden"], inner, _GATED, act_bytes=0.0, weight_bytes=width)


def _by_chip(values: tuple[tuple[str, float], ...], hardware: Hardware, otherwise: float) -> Array:
    """Return the value of each row's architecture, of which engine files name the first word ("CDNA3"), (N,).

    otherwise: for architectures without one.
    """
    known = dict(values)
    words = (device.arch.partition(" ")[0] for device in hardware.devices)
    return np.array([known.get(word, otherwise) for word in words])[hardware.index]
