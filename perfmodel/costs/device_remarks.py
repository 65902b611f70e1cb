"""What a reader should know of a device before trusting estimates of it: odd figures, changes by a user's file."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hwdb import PEAKS, Device
from hwdb.devicefile import CEILINGS, same
from perfmodel.arrays import Index
from perfmodel.costs import rated
from perfmodel.profiles import store

#: Column of `predict` for devices whose file states figures that no profile was measured at.
REMARK = "device_remark"
#: Figures that measured tables are relative to, or are rescaled by.
_FIGURES = ("memory.bandwidth", *(f"peak.{t}" for t in PEAKS), "link.bandwidth")


def remarks(device: Device) -> list[str]:
    """Remarks on one device, one sentence each; [] for a device as shipped."""
    return [*_profile_remarks(device), *device.remarks()]


def remarks_of(devices: Iterable[Device]) -> list[str]:
    """Remarks on several devices, each sentence once."""
    return list(dict.fromkeys(remark for device in devices for remark in remarks(device)))


def remark_column(devices: Sequence[Device], index: Index) -> dict[str, NDArray[Any]]:
    """The column `REMARK` (N,) of rows whose device is `index` (-1 for none); {} where no device has a remark."""
    found = np.array(["; ".join(remarks(device)) for device in devices] + [""], dtype=object)
    return {REMARK: found[index]} if found.any() else {}


def _profile_remarks(device: Device) -> list[str]:
    """What differs between the device and the nearest measured profile."""
    if device.base is None and not store.beside(device):
        return []
    for kin in device.lineage:
        profile = store.load(kin.name, store.beside(kin))
        if profile is not None:
            whose = "the measured profile" if kin.name == device.name else f"the measured profile of {kin.name}"
            found = (_changed(device, before, whose) for before in _measured(device, profile))
            return list(dict.fromkeys(sentence for sentences in found for sentence in sentences))
    return []


def _measured(device: Device, profile: store.Profile) -> Iterator[Device]:
    """The device that a profile was measured on. Where the device's own file was changed since: the device with the
    figures of each table that no longer agrees."""
    home = rated.home_of(device, profile)
    if home is not None:
        yield home
        return
    for family, frameworks in profile.files.items():
        for framework in frameworks:
            for table in profile.tables(family, framework):
                if not rated.agrees(device, table, family):
                    yield rated.restored(device, table)


def _changed(device: Device, before: Device, whose: str) -> Iterator[str]:
    """A sentence for each figure that differs from what a profile was measured at."""
    for figure in _FIGURES:
        moved = not same(device.si(figure), before.si(figure))
        ceiling = CEILINGS.get(figure, figure)
        changed = figure if moved else ceiling
        if moved or not same(device.si(ceiling), before.si(ceiling)):
            yield (
                f"{device.name}: {changed} is {_figure(device, changed)}, {whose} was taken at "
                f"{_figure(before, changed)}: its tables are rescaled (basis calibrated)"
            )
    if device.link.topology != before.link.topology:
        yield (
            f"{device.name}: link.topology is {device.link.topology}, {whose} was taken on {before.link.topology}: "
            "its tables of collectives do not apply"
        )


def _figure(device: Device, figure: str) -> str:
    record = device.records.get(figure)
    return "unknown" if record is None else f"{record.number:g} {record.unit}"
