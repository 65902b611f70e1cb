"""Borrowed efficiencies: which shares of peak and bandwidth a roofline may assume on a device."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cache
from importlib.resources import files
from typing import Any

import numpy as np

from hwdb import Device
from perfmodel.arrays import Array
from perfmodel.hardware.columns import Hardware

FIGURES = ("gemm", "attention", "memory", "link", "launch_us", "kv")


@dataclass(frozen=True)
class Efficiency:
    """Columns (N,): shares of arithmetic peak (gemm, attention), of memory and link bandwidth; launch floor in s; share
    of memory bandwidth that decode attention reaches (kv)."""

    gemm: Array
    attention: Array
    memory: Array
    link: Array
    launch: Array
    kv: Array


@cache
def _table() -> dict[str, Any]:
    return tomllib.loads(files("perfmodel.hardware").joinpath("efficiency.toml").read_text())


def roofline_spread() -> float:
    """Log half-width of the 80 % interval of a roofline with borrowed efficiencies."""
    return float(_table()["spread"]["value"])


@cache
def shares(device: Device) -> tuple[float, ...]:
    """The figures of `FIGURES` for a device: of memory the share measured on it, else, as for the others, the first
    prior that matches it and states the figure. Where none states `kv`, KV entries stream as anything else."""
    matching = [p for p in _table()["prior"] if _matches(p, device)]
    streamed = device.measured("memory_bandwidth") / device.bandwidth
    known = {f: next(p[f] for p in matching if f in p) for f in FIGURES if f != "kv"}
    if streamed <= 1.0:  # a measurement above what is rated belongs to another make of the device
        known["memory"] = streamed
    known["kv"] = next((p["kv"] for p in matching if "kv" in p), known["memory"])
    return tuple(known[f] for f in FIGURES)


def _matches(prior: dict[str, Any], device: Device) -> bool:
    by_name = any(fnmatchcase(kin.name, pattern) for kin in device.lineage for pattern in prior.get("names", ()))
    return by_name or device.kind in prior.get("kinds", ())


def efficiency_of(hardware: Hardware) -> Efficiency:
    """Gather the shares of each row's device."""
    table = np.array([shares(d) for d in hardware.devices])[hardware.index]
    gemm, attention, memory, link, launch_us, kv = table.T
    return Efficiency(gemm=gemm, attention=attention, memory=memory, link=link, launch=launch_us * 1e-6, kv=kv)
