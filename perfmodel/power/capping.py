"""Estimate how much longer a step takes under a power limit below what it would draw.

The limiter lowers the clock of the cores until power meets the limit. Above a static part that no clock lowers, power
goes with clock x voltage^2, and voltage with the clock down to a floor: first the cube of the clock, then the clock.
Arithmetic takes time as 1 / clock. Reading memory hardly does until the cores can no longer keep the memory busy.
Kernels of a step draw more or less than its mean, so that some are slowed before others. Time on links, and time in
which a device waits for its host, does not change.

The constants are fitted on two sweeps of the limit, `[capping]` of `power.toml`; those say how far limits were lowered.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from importlib.resources import files

import numpy as np

from hwdb.tomlfile import read_toml
from perfmodel.arrays import Array, Mask
from perfmodel.hardware import Hardware
from perfmodel.power.device import chip, constants

#: Bisections that find a clock. Chosen: 2^-20 of the range.
_HALVINGS = 20
#: Watts of kernels around the mean of their step, in parts of the width `kernels`.
_SPREAD = (-1.0, -0.5, 0.0, 0.5, 1.0)


@dataclass(frozen=True)
class Capping:
    """Hold the constants of `[capping]`.

    static: share of the rated limit that no clock lowers, by architecture; `ready` for others. voltage: clock below
    which voltage stays. clock: lowest clock. memory: clock below which cores no longer keep the memory busy; sharpness
    of that bend. kernels: how far watts of kernels lie from the mean of their step. lowest: lowest share of the rated
    limit in the evidence. All clocks are shares of the clock without a limit.
    """

    static: dict[str, float]
    voltage: float
    clock: float
    memory: float
    sharpness: float
    kernels: float
    lowest: float


@cache
def capping() -> Capping:
    """Read the constants from `power.toml`."""
    table = read_toml(str(files("perfmodel.power").joinpath("power.toml")), "table of power constants").table("capping")
    own = table.tables("static", [])
    names = ("voltage", "clock", "memory", "sharpness", "kernels", "lowest")
    return Capping(
        static={t.text("name"): t.number("value", above=0.0, most=1.0) for t in own},
        **{name: table.number(name, least=0.0) for name in names},
    )


def clock_of(own: Capping, demanded: Array, limit: Array, static: Array) -> Array:
    """Return the clock at which a device meets a power limit, as a share of the clock without one.

    demanded, limit, static: watts, or shares of one limit, that broadcast together.
    """
    low, high = (
        np.broadcast_to(c, np.broadcast_shapes(*map(np.shape, (demanded, limit, static)))) for c in (own.clock, 1.0)
    )
    for _ in range(_HALVINGS):
        middle = (low + high) / 2.0
        over = static + (demanded - static) * middle * np.square(np.maximum(middle, own.voltage)) > limit
        low, high = np.where(over, low, middle), np.where(over, middle, high)
    return np.where(demanded > limit, low, 1.0)


def longer(own: Capping, arithmetic: Array, memory: Array, clock: Array) -> Array:
    """Return how many times as long a step takes at a lower clock.

    arithmetic, memory: shares of its time that are bound by arithmetic and by memory; the rest does not change.
    """
    bend = (1.0 + (own.memory / clock) ** own.sharpness) / (1.0 + own.memory**own.sharpness)
    slower = bend ** (1.0 / own.sharpness)
    return np.asarray(1.0 + arithmetic * (1.0 / clock - 1.0) + memory * (slower - 1.0))


def is_capped(hardware: Hardware) -> Mask:
    """Return whether the power limit of each device is below its rated one, (N,)."""
    return np.asarray(hardware.tdp < hardware.rated_tdp)


def lowest_limit() -> float:
    """Return the lowest limit that was measured, as a share of the rated one."""
    return capping().lowest


def is_beyond_evidence(hardware: Hardware) -> Mask:
    """Return whether a limit is lower than any that was measured, (N,)."""
    return np.asarray(hardware.tdp < capping().lowest * hardware.rated_tdp)


def slowed(own: Capping, watts: tuple[Array, Array, Array], arithmetic: Array, memory: Array) -> Array:
    """Return how many times as long a step takes by the constants `own`, without regard to whether it is capped.

    Args:
        own: the constants.
        watts: what the step draws without a limit, the limit, and the static part, or shares of one rated limit.
        arithmetic, memory: shares of the time of the step bound by arithmetic and by memory.
    """
    demanded, limit, static = watts
    above = np.maximum(demanded - static, 0.0)
    clocks = [clock_of(own, static + above * (1.0 + own.kernels * part), limit, static) for part in _SPREAD]
    return np.asarray(np.mean([longer(own, arithmetic, memory, clock) for clock in clocks], axis=0))


def slowdown(hardware: Hardware, demanded: Array, arithmetic: Array, memory: Array) -> Array:
    """Return how many times as long a step takes under the power limit of each device; 1 where it draws less, (..., N).

    Args:
        hardware: the devices, with `tdp` the limit in force.
        demanded: watts that the step draws without a lower limit, (..., N).
        arithmetic, memory: shares of its time bound by arithmetic and by memory, (..., N).
    """
    own, ready = capping(), constants().ready
    static = np.array([own.static.get(chip(d), ready) for d in hardware.devices])[hardware.index] * hardware.rated_tdp
    slower = slowed(own, (demanded, hardware.tdp, static), arithmetic, memory)
    return np.where(is_capped(hardware) & np.isfinite(slower), slower, 1.0)
