"""Watts of a device from what its time is spent on, and joules a token.

A straight line in utilisation does not fit measured power (operator tables of H200, B200 and GB200 give R^2 of
0.01-0.5), so power here is by class of time: arithmetic-bound kernels sit at the limit, streaming ones draw a share of
it, links, launches and host time less. The shares are medians of kernels over 100 us.
"""

from __future__ import annotations

import tomllib
from functools import cache
from importlib.resources import files
from typing import Any

import numpy as np

from perfmodel.arrays import Array
from perfmodel.hardware import Hardware
from perfmodel.vocabulary import BOUNDS


@cache
def _table() -> dict[str, Any]:
    return tomllib.loads(files("perfmodel.power").joinpath("power.toml").read_text())


def shares() -> Array:
    """Share of the power limit drawn in each kind of time: `BOUNDS`, then host time with the device waiting. (5,)"""
    table = _table()["share_of_limit"]
    return np.array([*(table[b] for b in BOUNDS), table["host"]])


def idle_power(hardware: Hardware) -> Array:
    """Watts of a device with nothing to do: measured where known, else the median share of the limit. (N,)"""
    return np.where(np.isfinite(hardware.idle), hardware.idle, _table()["idle_share"]["value"] * hardware.tdp)


def busy_power(hardware: Hardware, bound_time: Array, host_time: Array) -> Array:
    """Mean watts of a device while it serves; NaN where the limit is not known.

    bound_time: (4, N) seconds by what limits; host_time: (N,) seconds the device waits for its host.
    """
    times = np.concatenate([bound_time, host_time[None]])
    total = times.sum(axis=0)
    weights = shares().reshape(-1, *([1] * (times.ndim - 1)))
    with np.errstate(invalid="ignore", divide="ignore"):
        share = (times * weights).sum(axis=0) / total
    return np.clip(share, 0.0, 1.0) * hardware.tdp
