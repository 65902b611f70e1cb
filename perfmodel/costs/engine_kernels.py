"""Kernels of engines that bring their own: multiplications whose arithmetic depends on how weights are stored.

llama.cpp unpacks blocks of quantised weights while it multiplies them. On CPU cores formats that look values up in
tables take several times the work of plain ones, so that decoding in 2 bits is bound by arithmetic; on GPUs prompts run
at a fraction of what 16-bit libraries reach. Rates are data with sources in `own_kernels.toml`; the roofline answers
for whatever is not listed there.
"""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

import numpy as np

from hwdb import Device
from perfmodel.arrays import Array
from perfmodel.costs.cost import Cost
from perfmodel.costs.profiled import demand_shape
from perfmodel.dtypes import FORMAT_NAMES
from perfmodel.hardware import Hardware, efficiency_of, roofline_spread
from perfmodel.operators import Demand
from perfmodel.vocabulary import BASIS_CODE, COMPUTE_BOUND, MEMORY_BOUND

#: Tokens that share one unpacked weight at most; between one and so many the rate goes over from single to prompt.
TILE = 8.0
_GEMM = ("gemm", "grouped_gemm")
_ATTENTION = ("attention_prefill", "attention_decode", "mla_prefill", "mla_decode")


@dataclass(frozen=True)
class Rates:
    """What an engine's kernels reach on a device: FLOP/s (prompt, single by format code; attention), NaN where unknown;
    shares of rate and stream bandwidth left to experts."""

    prompt: Array
    single: Array
    attention: float
    experts: float
    experts_stream: float


@cache
def _entries() -> list[dict[str, Any]]:
    return list(tomllib.loads(files("perfmodel.costs").joinpath("own_kernels.toml").read_text())["engine"])


@cache
def rates(engine: str, device: Device) -> Rates:
    """Rates of `engine` on `device`, from the first entry for its kind and vendor."""
    none: dict[str, Any] = {"kernel": []}
    entry = next((e for e in _entries() if engine in e["names"] and _meant(e, device)), none)
    dotted = 1.0 if np.isfinite(device.peak("int8")) else entry.get("undotted", 1.0)
    prompt, single = np.full((2, len(FORMAT_NAMES)), np.nan)
    for kernel in entry["kernel"]:
        codes = [FORMAT_NAMES.index(name) for name in kernel["formats"]]
        top = _yardstick(device, kernel.get("of", "vector")) * dotted
        prompt[codes], single[codes] = kernel["prompt"] * top, kernel["single"] * top
    attention = entry.get("attention", np.nan) * _yardstick(device, "vector")
    return Rates(prompt, single, attention, entry.get("experts", 1.0), entry.get("experts_stream", 1.0))


def _meant(entry: dict[str, Any], device: Device) -> bool:
    return device.kind in entry["kinds"] and entry.get("vendor", device.vendor) == device.vendor


def _yardstick(device: Device, of: str) -> float:
    """FLOP/s of the vector units in fp32, or of 16-bit products with 16-bit sums: half of the 8-bit rate where a
    device is slower with wider sums (GeForce)."""
    if of == "vector":
        return device.peak("fp32")
    return float(np.nanmax([device.peak("fp16"), device.peak("int8") / 2.0]))


@dataclass(frozen=True)
class EngineKernels:
    """Cost model of `engine`'s own kernels; NaN on devices and for formats without a rate."""

    engine: str

    def cost(self, demand: Demand, hardware: Hardware) -> Cost:
        """Time of one call on each row of `hardware`; arrays that broadcast to the demand's shape."""
        shape = demand_shape(demand, hardware)
        time, limit = np.full(shape, np.nan), np.full(shape, MEMORY_BOUND, np.int8)
        if demand.family in (*_GEMM, *_ATTENTION):
            share = efficiency_of(hardware)
            rate, stream = _pace(demand, [rates(self.engine, d) for d in hardware.devices], hardware)
            compute = demand.flop / rate
            moving = demand.moved / (hardware.bandwidth * share.memory * stream)
            known = np.maximum(compute, moving) + share.launch
            time = np.broadcast_to(np.where(np.isnan(rate), np.nan, known), shape)
            limit = np.where(np.broadcast_to(compute > moving, shape), COMPUTE_BOUND, limit).astype(np.int8)
        basis = np.where(np.isnan(time), BASIS_CODE["unknown"], BASIS_CODE["roofline"]).astype(np.int8)
        return Cost(time, basis, np.full(shape, roofline_spread()), limit)


def _pace(demand: Demand, found: list[Rates], hardware: Hardware) -> tuple[Array, Array | float]:
    """(FLOP/s, share of the stream bandwidth) of a demand on each row."""
    row, shape = hardware.index, demand.shape
    if demand.family in _ATTENTION:
        return np.array([r.attention for r in found])[row], 1.0
    weight = np.asarray(shape["weight"], int)
    prompt, single = (np.array([getattr(r, k) for r in found])[row, weight] for k in ("prompt", "single"))
    if demand.family == "gemm":
        return tiled(prompt, single, shape["m"]), 1.0
    # tokens that an expert sees: all of them over those experts that any token picks
    tokens = np.maximum(np.asarray(shape["tokens"], float) * shape["top_k"] / shape["experts"], 1.0)
    experts, stream = (np.array([getattr(r, k) for r in found])[row] for k in ("experts", "experts_stream"))
    return tiled(prompt, single, tokens) * experts, stream


def tiled(prompt: Array | float, single: Array | float, tokens: Array | float) -> Array:
    """Rate where `tokens` share a weight: unpacking is paid once for up to `TILE` of them, so times add.

    >>> float(tiled(2.0, 0.5, 1.0)), float(tiled(2.0, 0.5, 8.0)), float(tiled(2.0, 0.5, 64.0))
    (0.5, 2.0, 2.0)
    """
    share = np.clip(tokens, 1.0, TILE)
    unpacking = (TILE / share - 1.0) / (TILE - 1.0)
    return np.asarray(1.0 / (1.0 / prompt + (1.0 / single - 1.0 / prompt) * unpacking))
