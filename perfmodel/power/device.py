"""Estimate the watts of a device by what its time is spent on.

A straight line in utilisation does not fit measured power (operator tables of H200, B200 and GB200 give R^2 of
0.01-0.5), so power here is by class of time: arithmetic-bound kernels draw the power limit, streaming ones a share of
it, links, launches and host time less. The shares are medians of kernels over 100 us (`power.toml`).
"""

from __future__ import annotations

from functools import cache
from importlib.resources import files

import numpy as np

from hwdb.tomlfile import read_toml
from perfmodel.arrays import Array
from perfmodel.hardware import Hardware
from perfmodel.vocabulary import BOUNDS


@cache
def _shares() -> tuple[tuple[float, ...], float]:
    """Read shares of the power limit from `power.toml`: (drawn in each class of time, drawn with nothing to do)."""
    table = read_toml(str(files("perfmodel.power").joinpath("power.toml")), "table of power shares")
    busy = table.table("share_of_limit")
    drawn = tuple(busy.number(kind, above=0.0, most=1.0) for kind in (*BOUNDS, "host"))
    return drawn, table.table("idle_share").number("value", above=0.0, most=1.0)


def shares() -> Array:
    """Return the share of the power limit drawn in each class of time, (5,).

    The classes are `BOUNDS` (what limits the device), then host time, in which the device waits.
    """
    return np.array(_shares()[0])


def idle_power(hardware: Hardware) -> Array:
    """Return the watts of an idle device, (N,): measured where known, else the median share of the power limit."""
    return np.where(np.isfinite(hardware.idle), hardware.idle, _shares()[1] * hardware.tdp)


def busy_power(hardware: Hardware, bound_time: Array, host_time: Array) -> Array:
    """Return the mean watts of a device while it serves, (N,); NaN where the power limit is not known.

    Args:
        hardware: the devices.
        bound_time: device seconds by what limits them (`BOUNDS`), (4, N).
        host_time: seconds the device waits for its host, (N,).
    """
    times = np.concatenate([bound_time, host_time[None]])
    total = times.sum(axis=0)
    weights = shares().reshape(-1, *([1] * (times.ndim - 1)))
    with np.errstate(invalid="ignore", divide="ignore"):
        share = (times * weights).sum(axis=0) / total
    return np.asarray(np.clip(share, 0.0, 1.0) * hardware.tdp)


def mean_power(hardware: Hardware, bound_time: Array, host_time: Array, busy_share: Array) -> Array:
    """Return the mean watts of a device, (N,): `busy_power` while it serves, `idle_power` for the rest of the time.

    Args:
        hardware: the devices.
        bound_time: device seconds by what limits them (`BOUNDS`), (4, N).
        host_time: seconds the device waits for its host, (N,).
        busy_share: share of the wall time that device and host seconds together make, 0 to 1, (N,).
    """
    return busy_share * busy_power(hardware, bound_time, host_time) + (1.0 - busy_share) * idle_power(hardware)
