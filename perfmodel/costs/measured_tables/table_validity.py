"""Decide which measured tables are valid on a device: those measured at the device's rated peaks and bandwidths.

A table stores utilisation relative to the rated figures of the measured device. If a user's file changes such a figure,
the table is no longer valid for the device: `Profiled` skips it, and `Calibrated` rescales it.
"""

from __future__ import annotations

from dataclasses import replace

from hwdb import Device, Record
from hwdb.devicefile import CEILINGS, same, varied
from perfmodel.costs.measured_tables.lookup import Choice
from perfmodel.dtypes import FALLBACK
from perfmodel.profiles import FAMILY, Measured, Profile, reference, store


def agrees(device: Device, measured: Measured, family: str) -> bool:
    """Return whether the constants of a table of operator family `family` equal the rated numbers of `device`.

    Compared are the link bandwidth for collectives, memory bandwidth for elementwise operators, else it and the peak.
    """
    now, then = reference(device, measured.variant), measured.reference
    if FAMILY[family].link:
        return same(float(now.link), float(then.link))
    peak = family == "elementwise" or same(float(now.peak), float(then.peak))  # its bound has no arithmetic
    return peak and same(float(now.bandwidth), float(then.bandwidth))


def holds(device: Device, profile: Profile, choice: Choice, family: str) -> bool:
    """Return whether a table of a profile (`choice`) prices `device` as it is, without rescaling.

    A profile of the device's name in the folder of its own file was measured on it. Any other profile was measured on a
    device that the file is a variant of; then that device's measured ceilings and link topology have to be equal too.
    """
    if not agrees(device, choice.measured, family):
        return False
    home = home_of(device, profile)
    return home is None or unchanged(device, home, choice, family)


def home_of(device: Device, profile: Profile) -> Device | None:
    """Return the device that a profile was measured on, if `device` is a variant of it; None if that is `device`."""
    named = [kin for kin in device.lineage if kin.name == profile.device]
    home = next((kin for kin in named if beside(kin, profile)), named[-1] if named else device)
    return None if home is device else home


def unchanged(device: Device, home: Device, choice: Choice, family: str) -> bool:
    """Return whether everything that a table measured on the device `home` depends on is the same on `device`.

    That is link topology and bandwidth for collectives, else rated and measured bandwidth and peaks.
    """
    if FAMILY[family].link:
        return device.link.topology == home.link.topology and same(device.link.bandwidth, home.link.bandwidth)
    types = () if family == "elementwise" else {choice.wanted.act, choice.measured.variant.act} - {""}
    rated = ["memory.bandwidth", *(f"peak.{t}" for t in types)]
    return all(same(device.si(f), home.si(f)) for r in rated for f in (r, CEILINGS[r]))


def restored(device: Device, measured: Measured) -> Device:
    """Return `device` with the rated peak and bandwidths that a measured table is relative to.

    Measured ceilings of the device keep their share of the rated values.
    """
    then, source = measured.reference, "constants of the measured table"
    figures = {"memory.bandwidth": (float(then.bandwidth), "B/s")}
    act = measured.variant.act or "bf16"
    rated = next((t for t in (act, *FALLBACK[act]) if device.peak(t) == device.peak(t)), "")
    if rated:
        figures[f"peak.{rated}"] = (float(then.peak), "FLOP/s")
    records = {**device.records, **{f: Record(v, u, "derived", source) for f, (v, u) in figures.items() if v == v}}
    if then.link == then.link:
        records["link.bandwidth"] = Record(float(then.link), "B/s", "derived", source)
    link = replace(device.link, bandwidth=float(then.link))
    return varied(replace(device, records=records, link=link), device, ())


def beside(device: Device, profile: Profile) -> bool:
    """Return whether a profile lies in the folder that the file of `device` was read from."""
    places = store.beside(device)
    return any(path.parent.parent in places for files in profile.files.values() for path in files.values())
