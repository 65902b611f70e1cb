"""Price operators on a device that was not measured, from the tables of related devices (donors).

A donor's table says by which factor a kernel of a shape stays behind the ceilings of the donor. That factor is taken
over; the ceilings, in FLOP/s, B/s of memory and B/s over the link, are those of the device to price: measured where
hwdb has them, else its rated peak times the share that its kind of device reaches. What a kernel takes whatever its
size (launch, latency of a collective) does not scale with ceilings and is taken over as it is. The times of several
donors are averaged in the logarithm, the nearest with the largest weight. Of attention kernels that are libraries of
the vendor, which all frameworks call, the fastest table of a donor counts.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from types import EllipsisType

import numpy as np

import hwdb
from hwdb import Device
from perfmodel.arrays import Array, Codes, Mask, as_slice
from perfmodel.costs import lookup, rated
from perfmodel.costs.cost import Cost
from perfmodel.costs.distance import PLAIN, Ceilings, architecture, ceilings, device_distance
from perfmodel.costs.intervals import UNRELATED_DEVICE, calibrated_spread
from perfmodel.costs.profiled import ROUTING, arithmetic, demand_shape, empty, formats
from perfmodel.costs.roofline import bound as physical
from perfmodel.hardware import Hardware
from perfmodel.operators import Demand
from perfmodel.profiles import FAMILY, Asked, Reference, Variant, store
from perfmodel.vocabulary import BASIS_CODE, LAUNCH_BOUND

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
#: Factor on the weight of a donor for shapes outside its table.
OUTSIDE_WEIGHT = 0.2
#: Seconds below which no time is averaged: keeps the logarithm finite.
MIN_TIME = 1e-12
_CALIBRATED = BASIS_CODE["calibrated"]


@dataclass(frozen=True)
class Donor:
    """Holds a measured device whose table stands in for that of another device.

    choice: the table. distance: see `device_distance`, plus what formats and scarce rows add. floor: least seconds per
    call, which do not scale with ceilings. own: whether it is the device to price itself, with other figures.
    """

    device: Device
    choice: lookup.Choice
    distance: float
    floor: float
    own: bool = False


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
        count = len(hardware.index)
        total = empty(demand_shape(demand, hardware))
        if demand.family not in FAMILY:
            return total  # no table of any device has it
        loans: dict[tuple[int, Variant, Device], _Loan] = {}
        for number, device in enumerate(hardware.devices):
            mine = hardware.index == number
            if not mine.any():
                continue
            for want, rows in formats(demand, mine, count, self.routing):
                act = lookup.effective(want.act, device) if want.act else ""
                donors = self._donors(device, demand.family, Variant(want.stored, act, want.routing))
                for donor in donors:
                    weight = float(np.exp((donors[0].distance - donor.distance) / WEIGHT_LENGTH))
                    key = (id(donor.choice.measured), donor.choice.wanted, donor.device)
                    if key not in loans:
                        loans[key] = _Loan(donor, count)
                    loans[key].add(rows, weight, ceilings(device, loans[key].variant.act or PLAIN))
                if donors:
                    total.spread[..., rows] = calibrated_spread(demand.family, donors[0].distance)
        _settle(total, list(loans.values()), demand, hardware)
        return total

    def _donors(self, device: Device, family: str, want: Variant) -> tuple[Donor, ...]:
        """Return the device itself if it was measured before its file was changed, else the nearest related devices.

        A number that a user changes moves the ceilings, not the choice of donors: they are those of the device that it
        is a variant of.
        """
        return itself(self, device, family, want) or donors(self, device.lineage[-1], family, want)


class _Loan:
    """Collects the rows of all devices that one donor's table stands in for, so that each table is read once.

    weight: (N,) weight of the donor, 0 for candidates that it does not serve. compute, memory, link: (N,) ceilings of
    the candidates' devices.
    """

    def __init__(self, donor: Donor, count: int) -> None:
        """Start with the table of `donor` and no rows; count: N, the number of candidates."""
        self.donor = donor
        self.weight, self.compute, self.memory, self.link = np.zeros((4, count))

    @property
    def variant(self) -> Variant:
        """The formats asked for, or those of the table where none were asked for."""
        choice = self.donor.choice
        return choice.wanted if choice.wanted.act else choice.measured.variant

    def add(self, rows: Mask, weight: float, top: Ceilings) -> None:
        """Add `rows` (mask, (N,)) of a device with the ceilings `top`; weight: of the donor for that device."""
        some = as_slice(rows)
        self.weight[some] = weight
        self.compute[some], self.memory[some], self.link[some] = top.compute, top.memory, top.link


@lru_cache(maxsize=4096)
def donors(model: Calibrated, device: Device, family: str, want: Variant) -> tuple[Donor, ...]:
    """Return the nearest measured devices with a table of `family` in the formats asked for (`want`), nearest first."""
    candidates = []
    for name in store.names(model.folders):
        profile = store.load(name, model.folders)
        if name in model.hidden or profile is None or family not in profile.files:
            continue
        link = FAMILY[family].link
        donor = _donor(name)
        distance = device_distance(device, donor, link) + _format_gap(profile, family, want)
        distance += 0.0 if link else _scarcity(profile, family)
        if np.isfinite(distance) and (model.foreign or _same_make(device, donor)):
            candidates.append((distance, name, profile))
    found: list[Donor] = []
    for distance, name, profile in sorted(candidates, key=lambda c: c[:2])[:MAX_DONORS]:
        donor = _donor(name)
        # libraries are those of the vendor; the fastest experts of donors made measured runs of RTX and GB10 no better
        shared = model.shared if donor.vendor == device.vendor and family in lookup.PREFILLS else ()
        choices = lookup.fitting(profile, family, want, model.framework, shared)
        for choice in choices or _substitute(profile, family, want, model):
            floor = lookup.least_time(choice.measured, family)
            found.append(Donor(device=donor, choice=choice, distance=distance, floor=floor))
    return tuple(found)


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
        if not choices:
            continue
        if any(rated.holds(device, profile, c, family) for c in choices):
            return ()
        before = _before(device, kin, profile, choices[0], family)
        distance = device_distance(device, before, FAMILY[family].link)
        if not distance < UNRELATED_DEVICE:
            return ()
        floors = (lookup.overhead(c.measured, family) for c in choices)
        return tuple(Donor(before, c, distance, floor, own=True) for c, floor in zip(choices, floors, strict=True))
    return ()


def _before(device: Device, kin: Device, profile: store.Profile, choice: lookup.Choice, family: str) -> Device:
    """Return the device with the numbers that a table (`choice`) of the device `kin` was measured at.

    It is the device that `device` is a variant of or, where the file of `kin` was changed since, `kin` with the numbers
    of the table.
    """
    line = [k for k in device.lineage if k.name == profile.device]
    known = next((k for k in reversed(line) if rated.agrees(k, choice.measured, family)), None)
    return known or rated.restored(kin, choice.measured)


def _same_make(device: Device, other: Device) -> bool:
    """Return whether two devices are of the same vendor and architecture."""
    return device.vendor == other.vendor and architecture(device) == architecture(other)


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


def _scarcity(profile: store.Profile, family: str) -> float:
    """Return what few rows in the largest table of `family` add to a donor's distance; 0 from `MIN_DONOR_ROWS` on."""
    rows = max((int(t["rows"]) for t in profile.run["table"] if t["family"] == family), default=1)
    return SPARSE_TABLE * max(float(np.log10(MIN_DONOR_ROWS / max(rows, 1))), 0.0)


def _settle(total: Cost, loans: list[_Loan], demand: Demand, hardware: Hardware) -> None:
    """Average the donors' times in the logarithm, raise them to the device's bound, and write them into `total`."""
    lent, own = [n for n in loans if not n.donor.own], [n for n in loans if n.donor.own]
    if lent:
        total.time[...] = _bounded(_averaged(total, lent, demand), demand, hardware)
    if own:  # a device's own table says how far caches hold data: what it gains there stays
        np.fmin(total.time, _within_node(_fastest(total, own, demand), demand, hardware), out=total.time)
    unknown = np.isnan(total.time)
    if not unknown.any():
        total.basis[...] = _CALIBRATED
        return
    total.basis[~unknown] = _CALIBRATED
    total.spread[unknown] = np.nan


#: Weight, index of rows, seconds, what limits the call, whether the table reaches that far: see `_carried_over`.
_Lent = tuple[Array, tuple[EllipsisType, Mask | slice], Array, Codes, Mask]


def _carried_over(loans: list[_Loan], demand: Demand) -> Iterator[_Lent]:
    """Yield what each donor's table says of the rows that borrow from it.

    They are (weight of the donor, index of the rows in arrays over all rows, seconds, what limits the call, True where
    the table reaches that far).
    """
    family, shape = FAMILY[demand.family], lookup.coordinates(demand)
    asked: dict[bytes, Asked] = {}  # donors of the same devices are asked for the same shapes
    for loan in loans:
        rows = loan.weight > 0
        some, key = as_slice(rows), rows.tobytes()
        if key not in asked:
            asked[key] = Asked(family, lookup.take(shape, some, len(rows)))
        here = Reference(loan.compute[some], loan.memory[some], loan.link[some])
        time, limit, inside = carried(loan.donor, here, loan.variant, asked[key])
        yield loan.weight[some], (..., some), time, limit, inside


def _fastest_of_donors(loans: list[_Loan], demand: Demand) -> Iterator[_Lent]:
    """Yield what `_carried_over` does, once for each donor: of several tables that stand in for the same rows, the
    fastest.
    """
    by_donor: dict[tuple[Device, Variant, bytes], list[_Loan]] = {}
    for loan in loans:
        key = (loan.donor.device, loan.donor.choice.wanted, loan.weight.tobytes())
        by_donor.setdefault(key, []).append(loan)
    for tables in by_donor.values():
        first, *others = _carried_over(tables, demand)
        for other in others:
            weight, rows, time, limit, inside = first
            faster = other[2] < time
            limit, inside = np.where(faster, other[3], limit), np.where(faster, other[4], inside)
            first = weight, rows, np.where(faster, other[2], time), limit, inside
        yield first


def _averaged(total: Cost, loans: list[_Loan], demand: Demand) -> Array:
    """Return the seconds by all donors, as weighted mean of their logarithms; NaN where there is no donor.

    Also writes what limits the call by the donor of the largest weight into `total.bound`.
    """
    logarithm, weights, heaviest = (np.zeros(total.time.shape) for _ in range(3))
    for lent, target, time, limit, inside in _fastest_of_donors(loans, demand):
        weight = np.where(inside, lent, lent * OUTSIDE_WEIGHT)
        logarithm[target] += weight * np.log(np.maximum(time, MIN_TIME))
        weights[target] += weight
        total.bound[target] = np.where(weight > heaviest[target], limit, total.bound[target])
        heaviest[target] = np.maximum(weight, heaviest[target])
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(weights > 0, np.exp(logarithm / weights), np.nan)


def _fastest(total: Cost, loans: list[_Loan], demand: Demand) -> Array:
    """Return the seconds by the fastest table of the device itself; NaN where it has none.

    Also writes what limits the call into `total.bound`.
    """
    least = np.full(total.time.shape, np.nan)
    for _, target, time, limit, _ in _fastest_of_donors(loans, demand):
        least[target], total.bound[target] = time, limit
    return least


def _within_node(time: Array, demand: Demand, hardware: Hardware) -> Array:
    """Return times of a device's own tables with NaN for collectives over more devices than a node has.

    Fused elementwise operators take at least their arithmetic.
    """
    if FAMILY[demand.family].link:
        return np.where(np.asarray(demand.shape.get("span", demand.shape["group"])) <= hardware.peers, time, np.nan)
    if demand.family == "elementwise":
        return np.maximum(time, arithmetic(demand, hardware, np.ones(len(hardware.index), bool)))
    return time


def _bounded(time: Array, demand: Demand, hardware: Hardware) -> Array:
    """Raise times to the least that the device itself allows; NaN for collectives over more devices than a node has."""
    if FAMILY[demand.family].link or demand.family == "elementwise":
        return _within_node(time, demand, hardware)
    # a small kernel of a fast donor is launch and cache; on a slow device its bytes still have to stream
    return np.maximum(time, physical(demand, hardware).time)


def carried(donor: Donor, here: Reference, variant: Variant, asked: Asked) -> tuple[Array, Codes, Mask]:
    """Convert a donor's times to N other devices.

    Returns (seconds per call, what limits the call, whether the table holds the shape). Derived: the donor's time above
    its floor is scaled by the ratio of the physical bounds on both devices; the floor (launch, latency) stays. Of the
    device itself with other figures all time is scaled, down to the floor: so a call takes no longer on the faster of
    two such devices, whichever factor of an engine applies to it.

    Args:
        donor: the measured device and its table.
        here: ceilings of the other devices, (N,) each.
        variant: formats on the other devices.
        asked: the shapes, of the operator family of the table.
    """
    choice = donor.choice
    priced = lookup.price(choice, asked)
    own = choice.priced
    top = ceilings(donor.device, own.act or PLAIN)
    if donor.own:  # the same device with other figures: its table says what limits a call
        here, top = _as_rated(choice.measured.reference, here, top)
    there = asked.seconds(own, Reference(top.compute, top.memory, top.link))
    least, limit = asked.bound(variant, here)
    floor = np.minimum(priced.time, donor.floor)
    with np.errstate(invalid="ignore", divide="ignore"):
        ratio = np.where(there > 0, least / there, 1.0)
    limit = np.where(priced.bound == LAUNCH_BOUND, priced.bound, limit)
    work = priced.time * ratio if donor.own else floor + (priced.time - floor) * ratio
    return np.maximum(work, floor), limit, priced.basis < BASIS_CODE["extrapolated"]


def _as_rated(then: Reference, here: Reference, top: Ceilings) -> tuple[Reference, Ceilings]:
    """Return the ceilings of a device with other figures, and of itself as measured, relative to its rated figures.

    A table is relative to rated figures, and so are the limits by which engine factors are chosen.

    Args:
        then: rated figures of the device as measured.
        here: ceilings of the device with other figures, (N,) each.
        top: ceilings of the device as measured.
    """
    rated_here = Reference(
        then.peak * here.peak / top.compute,
        then.bandwidth * here.bandwidth / top.memory,
        then.link * here.link / top.link,
    )
    return rated_here, Ceilings(float(then.peak), float(then.bandwidth), float(then.link))
