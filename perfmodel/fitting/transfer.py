"""Measure how far off operator times of unmeasured devices are: each measured device is hidden and predicted by others.

A hidden device is predicted from its relatives, the measured devices most like it. The spreads of the basis
`calibrated` are learned from these residuals, by family of operator and by how near the relative is.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

import hwdb
from perfmodel.arrays import Array
from perfmodel.costs import TWIN_DISTANCE, UNRELATED_DEVICE, Calibrated, Roofline, donors
from perfmodel.fitting.operator_cells import Cells, cell_costs, measured_cells, measured_tables
from perfmodel.profiles import store
from perfmodel.profiles.build import half_width, merge

#: Routing skew that is taken where a table of experts gives none: the mildest that was measured.
MILD_ROUTING = "1.01"
#: Residuals that one device contributes at most, so that well-measured devices do not dominate. Chosen.
MOST_PER_DEVICE = 3000


@dataclass(frozen=True)
class Transferred:
    """Holds one operator table of a hidden device, predicted without its own measurements.

    device, family, framework: whose table it is. relative: closest measured device, at `distance`. calibrated,
    roofline: (R,) residuals ln(predicted / measured) of both cost models.
    """

    device: str
    family: str
    framework: str
    relative: str
    distance: float
    calibrated: Array
    roofline: Array


def transferred(name: str, *, same_architecture: bool = True) -> list[Transferred]:
    """Predict every operator table of device `name` without its own measurements.

    same_architecture: whether measurements of devices of its own architecture may be used.
    """
    own = hwdb.device(name)
    hidden = {name}
    if not same_architecture:
        hidden |= {n for n in store.names() if hwdb.device(n).arch.split()[0] == own.arch.split()[0]}
    out = []
    for family, framework, item in measured_tables(name):
        model = Calibrated(framework, item.variant.routing or MILD_ROUTING, hidden=frozenset(hidden))
        cells = measured_cells(item, family)
        found = donors(model, own, family, item.variant)
        if found:
            out.append(
                Transferred(
                    device=name,
                    family=family,
                    framework=framework,
                    relative=found[0].device.name,
                    distance=found[0].distance,
                    calibrated=_residuals(cell_costs(model, own, cells).time, cells),
                    roofline=_residuals(cell_costs(Roofline(), own, cells).time, cells),
                )
            )
    return out


def measured_devices() -> tuple[str, ...]:
    """Return the names of the devices that operator tables were measured on."""
    return tuple(store.names())


def transfer_spreads(every: Iterable[Transferred]) -> dict[str, dict[str, float]]:
    """Return family of operator -> log half-widths of the calibrated basis, by distance of the relative.

    Devices weigh the same up to `MOST_PER_DEVICE` residuals each.
    """
    every = list(every)
    out: dict[str, dict[str, float]] = {}
    for family in sorted({t.family for t in every}):
        mine = [t for t in every if t.family == family]
        classes = {
            "calibrated_twin": [t for t in mine if t.distance < TWIN_DISTANCE],
            "calibrated": [t for t in mine if TWIN_DISTANCE <= t.distance < UNRELATED_DEVICE],
            "calibrated_stranger": [t for t in mine if t.distance >= UNRELATED_DEVICE],
        }
        out[family] = {k: round(half_width(_evened(found)), 4) for k, found in classes.items() if found}
    return out


def write_transfer_spreads(path: Path, spreads: dict[str, dict[str, float]]) -> None:
    """Write the spreads into `spread.toml` of a folder of profiles; the other bases in it stay."""
    merge(path, spreads)


def pooled(parts: Sequence[Array]) -> Array:
    """Join all residuals in one array; empty without any."""
    return np.concatenate(parts) if parts else np.zeros(0)


def _residuals(predicted: Array, cells: Cells) -> Array:
    """Return ln(predicted / measured) of the points with a prediction. predicted: (R,) s."""
    value = np.log(predicted / cells.time)
    return value[np.isfinite(value)]


def _evened(parts: Sequence[Transferred]) -> Array:
    """Join the residuals of all devices, a random choice of at most `MOST_PER_DEVICE` of each."""
    rng = np.random.default_rng(0)
    devices = sorted({t.device for t in parts})
    by_device = [pooled([t.calibrated for t in parts if t.device == d]) for d in devices]
    return pooled([rng.permutation(r)[:MOST_PER_DEVICE] for r in by_device])
