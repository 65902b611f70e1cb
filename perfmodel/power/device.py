"""Estimate the watts of a device by what it does: a share for being ready, one for running kernels, energy by work.

A device that runs kernels for a share `kernels` of the time and does work that would take the shares `use` at its rated
peaks draws, in shares of its power limit,

    ready + sum over kinds of step of busy h (1 - exp(-x / h)),   h = head - ready,
    x = (running kernels + sum of c use) / busy,      use / busy to the power `narrow` for FLOP of 8 and 4 bits,

and in no kind of step more than its limit. Steps that compute prompts are one kind, those that only decode the other,
as the first may reach the limit while the second do not. `ready` is what a server draws between requests: a context is
loaded and clocks are up. The weights c are energies: c times the limit over the peak is joules per FLOP or per byte.
Arithmetic and memory share the clocks and the regulator, so that their watts do not add up near the limit; the
exponential bends the sum. Kernels for narrow operands draw much at a small share of their peak, which decodes of
experts reach, and little more at a large one. The constants are fitted on published serving runs, those of running
kernels and of bytes moved by architecture, else by kind of memory (`power.toml`). Watts are those of the meter of the
runs: the board of a PCIe card, the module (SXM, OAM) of a server, the GPU's part of a chip that holds CPU cores as well
(GB10).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from importlib.resources import files

import numpy as np

from hwdb import Device
from hwdb.tomlfile import Table, read_toml
from perfmodel.arrays import Array, zero_if_unknown
from perfmodel.hardware import Hardware
from perfmodel.power.activity import Activity
from perfmodel.vocabulary import MOVED, SENT, WORK

#: Kinds of device memory, by a word of their name; the first that fits.
MEMORY_KINDS = ("LPDDR", "GDDR", "HBM", "DDR")
#: Share of `busy` below which a device counts as this busy: avoids dividing by zero.
_LEAST_BUSY = 1e-9
#: Kinds of work whose units are for operands below 16 bits.
_NARROW = [WORK.index("flop_8"), WORK.index("flop_4")]


@dataclass(frozen=True)
class Constants:
    """Hold the constants of `power.toml`, all as shares of the power limit.

    ready: drawn while a server waits for requests. head: what the bent sum tends to. narrow: power of the use of the
    units for 8 and 4 bits. running: added while kernels run.
    work: (5,) added at the rated peak of each kind of work (`WORK`). factors: by architecture or kind of memory, what
    `running` and the bytes of `work` are multiplied by. idle: of a device without a process. spreads: log half-widths
    of 80 % intervals of watts and of joules, on architectures with and without runs.
    """

    ready: float
    head: float
    narrow: float
    running: float
    work: tuple[float, ...]
    factors: dict[str, tuple[float, float]]
    idle: float
    spreads: dict[str, tuple[float, float]]


def memory_kind(device: Device) -> str:
    """Return the kind of memory of a device, one of `MEMORY_KINDS`, "" where none fits."""
    return next((kind for kind in MEMORY_KINDS if kind in device.memory_type), "")


@cache
def constants() -> Constants:
    """Read the constants from `power.toml`."""
    table = read_toml(str(files("perfmodel.power").joinpath("power.toml")), "table of power constants")
    share, spreads = table.table("share_of_limit"), table.table("spread")
    return Constants(
        ready=share.number("ready", above=0.0, most=1.0),
        head=share.number("head", above=1.0),
        narrow=share.number("narrow", above=0.0, most=1.0),
        running=share.number("running", least=0.0),
        work=tuple(share.number(name, least=0.0) for name in WORK),
        factors=_factors(table),
        idle=table.table("idle_share").number("value", above=0.0, most=1.0),
        spreads={name: (part.number("watts"), part.number("joules")) for name, part in _parts(spreads)},
    )


def _parts(table: Table) -> list[tuple[str, Table]]:
    return [(name, table.table(name)) for name in ("known", "unknown")]


def _factors(table: Table) -> dict[str, tuple[float, float]]:
    """Read the factors of `running` and of bytes by architecture and by kind of memory."""
    lines = [*table.tables("memory"), *table.tables("architecture")]
    return {t.text("name"): (t.number("running", least=0.0), t.number("moved", least=0.0)) for t in lines}


def is_known(device: Device) -> bool:
    """Return whether the architecture of a device has runs with measured watts behind its constants."""
    return chip(device) in constants().factors


def chip(device: Device) -> str:
    """Return the architecture of the accelerator of a device, without the CPU that some have beside it."""
    return device.arch.split(" + ")[0]


def weights(hardware: Hardware) -> tuple[Array, Array]:
    """Return the shares of the limit of each device that running kernels, (N,), and work at peak add, (5, N)."""
    own, known = constants(), constants().factors
    table = np.array(
        [known.get(chip(d), known.get(memory_kind(d), (1.0, 1.0))) for d in hardware.devices], float
    ).reshape(-1, 2)
    factors = table[hardware.index]
    work = np.repeat(np.array(own.work)[:, None], len(factors), axis=1)
    work[MOVED] *= factors[:, 1]
    return own.running * factors[:, 0], work


def idle_power(hardware: Hardware) -> Array:
    """Return the watts of a device without a process, (N,): measured where known, else a share of the limit."""
    return np.where(np.isfinite(hardware.idle), hardware.idle, constants().idle * hardware.rated_tdp)


def ready_power(hardware: Hardware) -> Array:
    """Return the watts of a device whose server waits for requests, (N,); NaN where the power limit is not known."""
    return np.minimum(np.maximum(constants().ready * hardware.rated_tdp, zero_if_unknown(hardware.idle)), hardware.tdp)


def demanded_power(hardware: Hardware, activity: Activity) -> Array:
    """Return the mean watts that devices would draw without a limit below their rated one, (N,) or (..., N)."""
    own, (running, work) = constants(), weights(hardware)
    above: Array = np.zeros(())
    for part in activity.parts():
        use = np.array(part.use)
        use[SENT] = 0.0 if own.work[SENT] == 0 else use[SENT]
        use = counted_use(use, part.busy, own.narrow)
        weighed = np.sum(work.reshape(len(WORK), *([1] * (use.ndim - 2)), -1) * use, axis=0)
        above = above + share_above_ready(part.busy, running * part.kernels + weighed, own.ready, own.head - own.ready)
    return hardware.rated_tdp * (own.ready + above)


def counted_use(use: Array, busy: Array, narrow: float) -> Array:
    """Return shares of time at peak as watts count them, (5, ...): those of narrow FLOP to a power, within `busy`."""
    own = np.maximum(busy, _LEAST_BUSY)
    counted = np.array(use)
    counted[_NARROW] = own * (counted[_NARROW] / own) ** narrow
    return counted


def share_above_ready(busy: Array, added: Array, ready: float, head: float) -> Array:
    """Return the share of its power limit that a device draws above `ready` in steps that are alike.

    It is at its limit in them at most.

    busy: share of time with requests in flight. added: what kernels and work add before the sum bends. head: what the
    bent sum tends to, above `ready`.
    """
    busy = np.maximum(busy, _LEAST_BUSY)
    return np.asarray(busy * np.minimum(-head * np.expm1(-added / busy / head), 1.0 - ready))


def limited(demanded: Array, ready: Array, busy: Array, limit: Array) -> Array:
    """Return mean watts where `demanded` exceeds a limit that holds while requests are in flight, (N,)."""
    return np.asarray(np.minimum(np.maximum(demanded, ready), ready + busy * (limit - ready)))


def mean_power(hardware: Hardware, activity: Activity) -> Array:
    """Return the mean watts of devices by what they do, (N,); NaN where the power limit is not known.

    A limit below the rated one (`Hardware.tdp` below `Hardware.rated_tdp`) holds while requests are in flight.
    """
    ready = ready_power(hardware)
    return limited(demanded_power(hardware, activity), ready, activity.busy, hardware.tdp)


def power_doubt(hardware: Hardware) -> Array:
    """Return by how much the spread of watts is wider than on architectures that measured runs are from, (N,)."""
    return power_spread(hardware) / constants().spreads["known"][False]


def power_spread(hardware: Hardware, *, joules: bool = False) -> Array:
    """Return the log half-width of the 80 % interval of watts, or of `joules` per token, (N,).

    It is wider on architectures that no measured run is from.
    """
    known = np.array([is_known(d) for d in hardware.devices] or [False])[hardware.index]
    by_kind = constants().spreads
    return np.where(known, by_kind["known"][joules], by_kind["unknown"][joules])
