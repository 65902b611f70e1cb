"""Spreads: how uncertain an operator's time is, by operator family and basis (kind of source of the time).

A spread is the log half-width of the 80 % interval, learned from measurements that were held out.
"""

from __future__ import annotations

from functools import cache

import numpy as np

from hwdb.tomlfile import read_toml
from perfmodel.arrays import Array, Codes
from perfmodel.hardware import efficiency
from perfmodel.profiles import store
from perfmodel.vocabulary import BASES

#: No interval is narrower (assumed: repeated runs of one kernel differ by about 1 %).
MIN_SPREAD = 0.01
#: Distance of the nearest donor (`related_devices.distance.device_distance`, plus what scarce rows and other formats
#: add) below which it counts as a twin of the device. Chosen between devices of one chip, which differ by less in
#: bandwidth and balance, and another architecture, which adds 1.
TWIN_DISTANCE = 0.75
#: Distance from which the nearest donor counts as unrelated. Chosen as what another vendor or link topology adds.
UNRELATED_DEVICE = 3.0
#: Keys of `spread.toml`, besides the bases, for donors nearer and farther than usual.
_TWIN, _UNRELATED = "calibrated_twin", "calibrated_stranger"


@cache
def _learned() -> dict[str, dict[str, float]]:
    """Read the log half-widths as {operator family: {basis: log half-width}}, from the first `spread.toml` found.

    The profile folders are searched in their order; {} where none has the file.
    """
    for folder in store.folders():
        path = folder / "spread.toml"
        if path.is_file():
            spread = read_toml(path, "table of spreads").table("spread")
            return {
                family: {basis: entry.number(basis) for basis in entry.keys()}  # noqa: SIM118 - a Table is no mapping
                for family, entry in ((name, spread.table(name)) for name in spread.keys())  # noqa: SIM118
            }
    return {}


@cache
def spreads(family: str) -> Array:
    """Return the log half-width of the 80 % interval of an operator family for each code of `BASES`, (BASES,).

    Where nothing was learned it is that of a roofline. A worse basis never has a narrower interval.
    """
    learned = _learned().get(family, {})
    borrowed = efficiency.roofline_spread()
    values = np.array([max(learned.get(basis, borrowed), MIN_SPREAD) for basis in BASES])
    return np.maximum.accumulate(values)


def spread_of(family: str, basis: Codes) -> Array:
    """Return the log half-width of the 80 % interval of each row, in the shape of `basis` (codes of `BASES`)."""
    return spreads(family)[basis]


@cache
def calibrated_spread(family: str, distance: float) -> float:
    """Return the log half-width of the 80 % interval of times taken over from the tables of another device, the donor.

    distance: of the two devices, without unit, see `related_devices.distance.device_distance`.
    """
    learned = _learned().get(family, {})
    related = float(spreads(family)[BASES.index("calibrated")])
    if distance < TWIN_DISTANCE:
        return min(learned.get(_TWIN, related), related)
    return max(learned.get(_UNRELATED, related), related) if distance >= UNRELATED_DEVICE else related
