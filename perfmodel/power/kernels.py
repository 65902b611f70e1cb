"""Look up the watts of kernels that run back to back, by kind, width of their operands, FLOP and bytes.

Watts of single kernels were measured on few devices. They do not follow from achieved rates alone: kernels that wait on
arithmetic sit at the power limit at 40 as at 70 % of the peak, and of two that read memory at one rate the one with
more arithmetic draws more. So they are kept as they were measured, as shares of the power limit, one median per factor
of two in FLOP and in bytes (`kernels.csv`, made by `python -m perfmodel.fitting kernels`), and looked up between.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

import numpy as np

from hwdb import Device
from hwdb import device as built_in
from perfmodel.arrays import NAN, Array
from perfmodel.power.device import chip

#: Cells that a look-up takes the mean of, and the distance at which the weight of a cell has fallen to a quarter of
#: that of one at hand, in factors of two. Chosen by shapes left out: 1, 4 and 8 cells differ by less than 1 %.
NEAREST, NEAR = 4, 0.25
#: Distance of the nearest cell beyond which nothing is known, in factors of two. Chosen: cells are one apart.
FARTHEST = 1.5
#: How far peak and power limit of a device may lie from those of a measured one of its architecture that stands in for
#: it, as a share. Chosen: H100 SXM and H200 are the same chip; H20 and H100 PCIe are not in this respect.
LIKE = 0.2
_KEY = ("device", "family", "width")


@dataclass(frozen=True)
class KernelTable:
    """Hold the measured kernels of one device, family and width: C cells.

    place: (C, 2) log2 of FLOP and of bytes. share: of the power limit, (C,). spread: log half-width of the 80 %
    interval on shapes left out. borrowed: the same for another device of the architecture.
    """

    place: Array
    share: Array
    spread: float
    borrowed: float

    def at(self, flop: Array, moved: Array) -> Array:
        """Return the share of the power limit that kernels draw, (N,); NaN where none like them was measured."""
        asked = np.log2(np.maximum(np.stack([flop, moved], axis=-1), 1.0))
        return near(self.place, self.share, asked)


def near(place: Array, share: Array, asked: Array) -> Array:
    """Return the mean of `share` over the cells nearest to each of `asked`, (N, 2); NaN where all are far."""
    apart = np.sqrt(np.sum(np.square(asked[:, None, :] - place[None, :, :]), axis=-1))
    few = np.argsort(apart, axis=1, kind="stable")[:, :NEAREST]
    distance = np.take_along_axis(apart, few, axis=1)
    weight = 1.0 / np.square(distance + NEAR)
    mean = np.sum(share[few] * weight, axis=1) / np.sum(weight, axis=1)
    return np.where(distance[:, 0] <= FARTHEST, mean, NAN)


@cache
def tables() -> dict[tuple[str, str, int], KernelTable]:
    """Read the measured kernels, by device, family and width in bits."""
    text = files("perfmodel.power").joinpath("kernels.csv").read_text(encoding="utf-8")
    lines = list(csv.DictReader(line for line in text.splitlines() if not line.startswith("#")))
    keys = dict.fromkeys(tuple(line[name] for name in _KEY) for line in lines)
    found = {}
    for device, family, width in keys:
        mine = [line for line in lines if tuple(line[name] for name in _KEY) == (device, family, width)]
        cells = np.array([[float(line[name]) for name in ("log2_flop", "log2_bytes", "share")] for line in mine])
        spread, borrowed = (float(mine[0][name]) for name in ("spread", "borrowed"))
        found[device, family, int(width)] = KernelTable(cells[:, :2], cells[:, 2], spread, borrowed)
    return found


def kernel_share(device: Device, family: str, width: int, work: tuple[Array, Array]) -> tuple[Array, float, str]:
    """Return what kernels draw as shares of the power limit, (N,), the log half-width, and the device measured.

    Shares are NaN, and the name "", where none like them was measured.

    family: kernel family. width: bits of the operands, of the KV cache for attention. work: FLOP and bytes per call,
    (N,) each.
    """
    nothing = np.full(len(work[0]), NAN)
    own = tables().get((device.name, family, width))
    if own is not None:
        return own.at(*work), own.spread, device.name
    for name, kind, bits in tables():
        if (kind, bits) == (family, width) and is_like(device, built_in(name)):
            table = tables()[name, kind, bits]
            return table.at(*work), table.borrowed, name
    return nothing, NAN, ""


def is_like(device: Device, other: Device) -> bool:
    """Return whether kernels of one device stand for those of another: architecture, peak and power limit alike."""
    pairs = ((device.peak("bf16"), other.peak("bf16")), (device.tdp, other.tdp))
    return chip(device) == chip(other) and all(abs(mine / theirs - 1.0) <= LIKE for mine, theirs in pairs)
