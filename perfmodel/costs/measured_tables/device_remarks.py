"""Collect what a reader should know of a device before trusting its estimates: odd values, changes by a user's file."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hwdb import PEAKS, Device
from hwdb.devicefile import CEILINGS, same
from perfmodel.arrays import Index
from perfmodel.costs.measured_tables import table_validity
from perfmodel.hardware import no_worse
from perfmodel.profiles import store

#: Column of `predict` for devices whose file has numbers that no profile was measured at.
REMARK = "device_remark"
#: Measured quantity -> what a remark calls it.
_MEASURED = {"memory_bandwidth": "memory bandwidth", "gemm.bf16": "bf16 GEMM", "gemm.fp16": "fp16 GEMM"}
#: Share by which a better device measured worse from which a remark says so. Chosen: benchmarks differ by as much.
LEAST_AGAINST = 0.1
#: Numeric quantities of a device file that measured tables are relative to, or are rescaled by.
_FIGURES = ("memory.bandwidth", *(f"peak.{t}" for t in PEAKS), "link.bandwidth")


def remarks(device: Device) -> list[str]:
    """Return remarks on one device, one sentence each; [] for a device as shipped and under its own name."""
    return [*([device.reading] if device.reading else []), *_profile_remarks(device), *device.remarks()]


def remarks_of(devices: Iterable[Device]) -> list[str]:
    """Return remarks on several devices and on pairs of them, each sentence once."""
    several = list(devices)
    own = [remark for device in several for remark in remarks(device)]
    pairs = (_against_order(one, other) for one in several for other in several if no_worse(one, other))
    return list(dict.fromkeys([*own, *(sentence for pair in pairs for sentence in pair)]))


def _against_order(better: Device, lesser: Device) -> Iterator[str]:
    """Yield a sentence for each quantity in which a device that is better by its rated figures measured worse."""
    for key, what in _MEASURED.items():
        mine, theirs = better.measured(key), lesser.measured(key)
        if mine < theirs * (1.0 - LEAST_AGAINST):
            yield (
                f"{better.name} is rated no lower than {lesser.name} in any figure, but {what} measured "
                f"{_figure(better, f'measured.{key}')} on it and {_figure(lesser, f'measured.{key}')} there: "
                "estimates follow the measurements"
            )


def remark_column(devices: Sequence[Device], index: Index) -> dict[str, NDArray[Any]]:
    """Return the table column `REMARK` with the remarks on the device of each row; {} where no device has a remark.

    index: (N,) each row's device as index into `devices`, -1 for none.
    """
    found = np.array(["; ".join(remarks(device)) for device in devices] + [""], dtype=object)
    return {REMARK: found[index]} if found.any() else {}


def _profile_remarks(device: Device) -> list[str]:
    """Return a sentence for each difference between the device and the nearest measured profile.

    That is the device's own, else that of the nearest device that it is a variant of.
    """
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
    """Yield the device as it was when `profile` was measured.

    For a variant of another device that is the other device. Where the device's own file was changed since, it is the
    device with the numbers that each table was measured at, once for each table that no longer agrees with the file.
    """
    home = table_validity.home_of(device, profile)
    if home is not None:
        yield home
        return
    for family, frameworks in profile.files.items():
        for framework in frameworks:
            for table in profile.tables(family, framework):
                if not table_validity.agrees(device, table, family):
                    yield table_validity.restored(device, table)


def _changed(device: Device, before: Device, whose: str) -> Iterator[str]:
    """Yield a sentence for each quantity in which `device` differs from `before`, the device as it was measured.

    whose: what the sentence calls the profile.
    """
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
    """Return the value of a numeric quantity of a device file with its unit, as text; "unknown" where it has none."""
    record = device.records.get(figure)
    return "unknown" if record is None else f"{record.number:g} {record.unit}"
