"""Price operators on a device that was not measured, from the tables of related devices (donors).

A donor's table says by which factor a kernel of a shape stays behind the ceilings of the donor. That factor is taken
over; the ceilings, in FLOP/s, B/s of memory and B/s over the link, are those of the device to price: measured where
hwdb has them, else its rated peak times the share that its kind of device reaches. What a kernel takes whatever its
size (launch, latency of a collective) does not scale with ceilings and is taken over as it is. The times of several
donors are averaged in the logarithm, the nearest with the largest weight. Of attention kernels that are libraries of
the vendor, which all frameworks call, the fastest table of a donor counts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path

import numpy as np

import hwdb
from hwdb import Device
from perfmodel.arrays import Index
from perfmodel.costs.cost import Cost
from perfmodel.costs.measured_tables import lookup, table_validity
from perfmodel.costs.measured_tables.intervals import UNRELATED_DEVICE, calibrated_spread
from perfmodel.costs.measured_tables.profiled import ROUTING, demand_shape, empty, variants_of
from perfmodel.costs.measured_tables.shortest_calls import shortest
from perfmodel.costs.related_devices.distance import PLAIN, architecture, ceilings_beside, device_distance, order_of
from perfmodel.costs.related_devices.donor_tables import Donor, Loan, by_device, settle
from perfmodel.hardware import Hardware
from perfmodel.operators import Demand
from perfmodel.profiles import FAMILY, Variant, store
from perfmodel.vocabulary import BASIS_CODE

# The constants below rank donors by a distance without unit. They are chosen, not fitted: the scale is set by "another
# architecture adds 1"; benchmarks/transfer.py reports the errors that result when each device is hidden in turn.

#: Donors that are averaged at most.
MAX_DONORS = 3
#: Distance over which the weight of a donor falls by a factor e.
WEIGHT_LENGTH = 0.4
#: A donor whose table has fewer rows adds `SPARSE_TABLE` to its distance per factor of ten.
MIN_DONOR_ROWS, SPARSE_TABLE = 50_000, 0.7
#: Added for a table in near formats, and for one in 16 bit, in place of the formats asked for.
NEAR_FORMAT, SUBSTITUTE_FORMAT = 0.3, 1.5
#: Log ratio up to which two rated figures are the same but for rounding.
ROUNDED = 0.02
#: Compute types whose rates are those of a chip.
_RATES = ("bf16", "fp16", "fp8", "fp4")
_CALIBRATED = BASIS_CODE["calibrated"]


@dataclass(frozen=True)
class Calibrated:
    """Cost model that uses the tables of related devices; NaN where no related device was measured.

    framework, routing, folders, shared: as for `Profiled`. hidden: names of devices whose tables may not be used.
    foreign: whether devices of another vendor or architecture may be donors, as they may for engines that run the same
    kernels on all of them.
    """

    framework: str = ""
    routing: str = ROUTING
    folders: tuple[Path, ...] = ()
    hidden: frozenset[str] = frozenset()
    foreign: bool = True
    shared: tuple[str, ...] = ()

    def cost(self, demand: Demand, hardware: Hardware) -> Cost:
        """Return the time of one call on each row of `hardware`; arrays that broadcast to the demand's shape."""
        total = empty(demand_shape(demand, hardware))
        if demand.family not in FAMILY:
            return total  # no table of any device has it
        loans: list[Loan] = []
        for device, want, rows in variants_of(demand, hardware, self.routing):
            act = lookup.effective(want.act, device) if want.act else ""
            found = by_device(self._donors(device, demand.family, Variant(want.stored, act, want.routing)))
            for rank, tables in enumerate(found):
                loans.append(_loan(device, demand.family, tables, found[0][0], (rank, rows)))
            if found:
                total.spread[..., rows] = calibrated_spread(demand.family, found[0][0].distance)
        settle(total, loans, demand, hardware)
        return total

    def _donors(self, device: Device, family: str, want: Variant) -> tuple[Donor, ...]:
        """Return the device itself if it was measured before its file was changed, else the nearest related devices.

        A number that a user changes moves the ceilings, not the choice of donors: they are those of the device that it
        is a variant of.
        """
        return itself(self, device, family, want) or donors(self, device.lineage[-1], family, want)


def _loan(device: Device, family: str, tables: tuple[Donor, ...], nearest: Donor, place: tuple[int, Index]) -> Loan:
    """Return what candidates of a device borrow from the tables of one donor.

    nearest: the nearest donor. place: how many donors are nearer than this one, and the candidates.
    """
    donor = tables[0]
    act = donor.variant.act or PLAIN
    top, home = (ceilings_beside(d, donor.device, act) for d in (device, device.lineage[-1]))
    order = order_of(device, donor.device, FAMILY[family].link)
    weight = float(np.exp((nearest.distance - donor.distance) / WEIGHT_LENGTH))
    return Loan(tables, *place, weight, top, home, order)


@lru_cache(maxsize=4096)
def donors(model: Calibrated, device: Device, family: str, want: Variant) -> tuple[Donor, ...]:
    """Return the nearest measured devices with a table of `family` in the formats asked for (`want`), nearest first."""
    candidates, link = [], FAMILY[family].link
    for name, donor, profile in _measured_of(family, model.folders):
        apart = device_distance(device, donor, link)
        if name in model.hidden or not apart < np.inf or not (model.foreign or _same_make(device, donor)):
            continue
        distance = apart + _format_gap(profile, family, want)
        distance += 0.0 if link or same_chip(device, donor) else scarcity(profile, family)
        if np.isfinite(distance):
            candidates.append((distance, name, donor, profile))
    found: list[Donor] = []
    for distance, _, donor, profile in sorted(candidates, key=lambda c: c[:2])[:MAX_DONORS]:
        # libraries are those of the vendor; the fastest experts of other chips (RTX, GB10) made runs no better
        prefills = donor.vendor == device.vendor and family in lookup.PREFILLS
        shared = model.shared if prefills or same_chip(device, donor) else ()
        choices = lookup.fitting(profile, family, want, model.framework, shared)
        for choice in choices or _substitute(profile, family, want, model):
            floor = shortest(choice.measured, family).least
            found.append(Donor(device=donor, choice=choice, distance=distance, floor=floor))
    return tuple(found)


def _measured_of(family: str, folders: tuple[Path, ...]) -> Sequence[tuple[str, Device, store.Profile]]:
    """Return (name, device, profile) of each measured device with tables of `family`, by name."""
    return _listed(family, folders) if folders else _built_in(family)  # folders may change while this process runs


@cache
def _built_in(family: str) -> Sequence[tuple[str, Device, store.Profile]]:
    """Return what `_measured_of` does of the built-in profiles."""
    return _listed(family, ())


def _listed(family: str, folders: tuple[Path, ...]) -> Sequence[tuple[str, Device, store.Profile]]:
    """Return what `_measured_of` does, read anew."""
    profiles = ((name, store.load(name, folders)) for name in store.names(folders))
    return [(name, _donor(name), p) for name, p in profiles if p is not None and family in p.files]


def _donor(name: str) -> Device:
    """Return the device that the profile called `name` was measured on: as shipped, not a user's file of that name."""
    shipped = hwdb.built_in()
    return shipped.device(name) if name in shipped.names() else hwdb.device(name)


def itself(model: Calibrated, device: Device, family: str, want: Variant) -> tuple[Donor, ...]:
    """Return the device itself as it was measured, as the only donor, where a user has changed its numbers since.

    () where it was not measured, or where its table holds without rescaling.
    """
    for kin in device.lineage:
        profile = store.load(kin.name, (*model.folders, *store.beside(kin)))
        if kin.name in model.hidden or profile is None or family not in profile.files:
            continue
        choices = lookup.fitting(profile, family, want, model.framework, model.shared)
        choices = [*choices, *lookup.over_the_rack(device, profile, family, want, model.framework)]
        if not choices:
            continue
        if any(table_validity.holds(device, profile, c, family) for c in choices):
            return ()
        before = _before(device, kin, profile, choices[0], family)
        distance = device_distance(device, before, FAMILY[family].link)
        if not distance < UNRELATED_DEVICE:
            return ()
        floors = (shortest(c.measured, family).overhead for c in choices)
        return tuple(Donor(before, c, distance, floor, own=True) for c, floor in zip(choices, floors, strict=True))
    return ()


def _before(device: Device, kin: Device, profile: store.Profile, choice: lookup.Choice, family: str) -> Device:
    """Return the device with the numbers that a table (`choice`) of the device `kin` was measured at.

    It is the device that `device` is a variant of or, where the file of `kin` was changed since, `kin` with the numbers
    of the table.
    """
    line = [k for k in device.lineage if k.name == profile.device]
    known = next((k for k in reversed(line) if table_validity.agrees(k, choice.measured, family)), None)
    return known or table_validity.restored(kin, choice.measured)


def _same_make(device: Device, other: Device) -> bool:
    """Return whether two devices are of the same vendor and architecture."""
    return device.vendor == other.vendor and architecture(device) == architecture(other)


@lru_cache(maxsize=16384)
def same_chip(device: Device, other: Device) -> bool:
    """Return whether two devices are one chip with other memory or links: equal rates in all types that both have.

    Few rows of such a device tell more than many of another, whose times have to be scaled by rates.
    """
    rates = np.array([[d.peak(name) for name in _RATES] for d in (device, other)])
    both = ~np.isnan(rates).any(axis=0)
    equal = np.abs(np.log(rates[0, both] / rates[1, both])) <= ROUNDED
    return device.arch.split("+")[0].strip() == other.arch.split("+")[0].strip() and bool(both.any() and equal.all())


def _format_gap(profile: store.Profile, family: str, want: Variant) -> float:
    """Return what other formats than `want` add to the distance of a donor; inf where none of its tables can stand in.

    Read from the profile's run.toml, so that tables of far donors are not loaded.
    """
    have = profile.variants.get(family, ())
    gap = min((lookup.distance(v, want) for v in have), default=float("inf"))
    if gap == 0.0:
        return 0.0
    if np.isfinite(gap):
        return NEAR_FORMAT
    plain = _sixteen_bit(want)
    return SUBSTITUTE_FORMAT if any(np.isfinite(lookup.distance(v, plain)) for v in have) else float("inf")


def _substitute(profile: store.Profile, family: str, want: Variant, model: Calibrated) -> list[lookup.Choice]:
    """Return the 16-bit table of a donor that has none in the formats asked for (`want`), in a list; [] without one.

    How far shapes stay behind their ceilings carries over from one format to the other.
    """
    plain = lookup.choose(profile, family, _sixteen_bit(want), model.framework)
    return [lookup.Choice(measured=plain.measured, wanted=want, worst=_CALIBRATED)] if plain is not None else []


def _sixteen_bit(want: Variant) -> Variant:
    """Return the variant with 16-bit formats in place of those of `want`."""
    return Variant("bf16", "bf16", want.routing)


def scarcity(profile: store.Profile, family: str) -> float:
    """Return what few rows in the largest table of `family` add to a donor's distance; 0 from `MIN_DONOR_ROWS` on."""
    rows = max((int(t["rows"]) for t in profile.run["table"] if t["family"] == family), default=1)
    return SPARSE_TABLE * max(float(np.log10(MIN_DONOR_ROWS / max(rows, 1))), 0.0)
