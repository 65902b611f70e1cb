"""Price operators on a device that was not measured, from the tables of related devices (donors).

A donor's table says by which factor a kernel of a shape stays behind the ceilings of the donor. That factor is taken
over; the ceilings, in FLOP/s, B/s of memory and B/s over the link, are those of the device to price: measured where
hwdb has them, else its rated peak times the share that its kind of device reaches. What a kernel takes whatever its
size (launch, latency of a collective) does not scale with ceilings and is taken over as it is. The times of several
donors are averaged in the logarithm, the nearest with the largest weight.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np

import hwdb
from hwdb import Device
from perfmodel.arrays import NAN, Array, Codes, Mask
from perfmodel.costs import lookup, rated
from perfmodel.costs.cost import Cost
from perfmodel.costs.intervals import UNRELATED_DEVICE, calibrated_spread
from perfmodel.costs.profiled import ROUTING, arithmetic, demand_shape, empty, formats
from perfmodel.costs.roofline import bound as physical
from perfmodel.dtypes import FALLBACK
from perfmodel.hardware import Hardware, device_efficiency
from perfmodel.operators import Demand
from perfmodel.profiles import FAMILY, Family, Reference, Variant, bound, store
from perfmodel.vocabulary import BASIS_CODE, LAUNCH_BOUND

# The constants below rank donors by a distance without unit. They are chosen, not fitted: the scale is set by "another
# architecture adds 1"; benchmarks/transfer.py reports the errors that result when each device is hidden in turn.

#: Donors that are averaged at most.
MAX_DONORS = 3
#: Distance over which the weight of a donor falls by a factor e.
WEIGHT_LENGTH = 0.4
#: Added for another architecture, and for another kind of memory.
OTHER_ARCHITECTURE, OTHER_MEMORY = 1.0, 1.5
#: Added for another vendor, and for another link topology where links are compared.
OTHER_VENDOR = OTHER_TOPOLOGY = UNRELATED_DEVICE
#: Weights of the log ratios of memory bandwidths, of balances (FLOP per byte) and of link bandwidths.
BANDWIDTH_WEIGHT, BALANCE_WEIGHT, LINK_WEIGHT = 0.3, 0.3, 0.5
#: Log ratio that counts where a quantity of either device is unknown.
UNKNOWN_RATIO = 1.0
#: A donor whose table has fewer rows adds `SPARSE_TABLE` to its distance per factor of ten.
MIN_DONOR_ROWS, SPARSE_TABLE = 50_000, 0.7
#: Added for a table in near formats, and for one in 16 bit, in place of the formats asked for.
NEAR_FORMAT, SUBSTITUTE_FORMAT = 0.3, 1.5
#: Factor on the weight of a donor for shapes outside its table.
OUTSIDE_WEIGHT = 0.2
#: Seconds below which no time is averaged: keeps the logarithm finite.
MIN_TIME = 1e-12
#: Kinds of device between which tables carry over within a vendor, and between vendors: GPU kernels are ports of one
#: another. Devices whose compilers build whole graphs (TPUs and the like) have kernels unlike any other's.
_ALIKE, _PORTED = ("gpu", "soc"), ("gpu",)
#: Compute type of reference where a table or demand has none.
_PLAIN = "bf16"
_CALIBRATED = BASIS_CODE["calibrated"]


@dataclass(frozen=True)
class Ceilings:
    """Holds the most that a device reaches: FLOP/s in one compute type, B/s of memory, B/s over its link."""

    compute: float
    memory: float
    link: float


@lru_cache(maxsize=4096)
def ceilings(device: Device, act: str) -> Ceilings:
    """Return the ceilings of `device` in compute type `act`: measured, else rated times the share of its kind."""
    reached = device_efficiency(device)
    used = lookup.effective(act, device)
    own, stream = _measured_share(device, used), device.measured("memory_bandwidth")
    return Ceilings(
        compute=device.peak(used) * (reached.gemm if np.isnan(own) else own),
        memory=device.bandwidth * reached.memory if np.isnan(stream) else stream,
        link=device.link.bandwidth * reached.link,
    )


def _measured_share(device: Device, act: str) -> float:
    """Return the measured share of the arithmetic peak in compute type `act`, else in another type; NaN without any.

    The others are tried in order: 16-bit types, then the fall-backs of `act`.
    """
    types = dict.fromkeys((act, "bf16", "fp16", *FALLBACK[act]))
    measured = (device.measured(f"gemm.{name}") / device.peak(name) for name in types)
    return next((share for share in measured if not np.isnan(share)), NAN)


def device_distance(device: Device, other: Device, link: bool = False) -> float:
    """Return how far two devices are apart (no unit): 0 for equal architecture and balance of compute and bandwidth.

    It is `UNRELATED_DEVICE` or more for another vendor's GPU, inf where kernels have nothing in common. link: compare
    the links only, for tables of collectives.
    """
    kinds = {device.kind, other.kind}
    if (len(kinds) > 1 and not kinds <= set(_ALIKE)) or (device.vendor != other.vendor and not kinds <= set(_PORTED)):
        return float("inf")
    if link:
        apart = abs(np.log(device.link.bandwidth / other.link.bandwidth))
        same_topology = device.link.topology == other.link.topology
        return LINK_WEIGHT * float(apart) + (0.0 if same_topology else OTHER_TOPOLOGY)
    score = 0.0 if _architecture(device) == _architecture(other) else OTHER_ARCHITECTURE
    score += 0.0 if device.vendor == other.vendor else OTHER_VENDOR
    score += 0.0 if device.memory_type[:3] == other.memory_type[:3] else OTHER_MEMORY  # HBM, GDDR or LPDDR of any age
    with np.errstate(invalid="ignore", divide="ignore"):
        bandwidth = np.log(device.bandwidth / other.bandwidth)
        balance = np.log(ceilings(device, _PLAIN).compute / ceilings(other, _PLAIN).compute) - bandwidth
    return score + BANDWIDTH_WEIGHT * _apart(bandwidth) + BALANCE_WEIGHT * _apart(balance)


def _apart(log_ratio: float) -> float:
    """Return the absolute value of a log ratio, `UNKNOWN_RATIO` where it is NaN."""
    return float(np.nan_to_num(abs(log_ratio), nan=UNKNOWN_RATIO))


def _architecture(device: Device) -> list[str]:
    """Return the first word of a device's architecture, in a list: ["Blackwell"] for "Blackwell sm_100"."""
    return device.arch.split()[:1]


@dataclass(frozen=True)
class Donor:
    """Holds a measured device whose table stands in for that of another device.

    choice: the table. distance: see `device_distance`, plus what formats and scarce rows add. floor: least seconds per
    call, which do not scale with ceilings.
    """

    device: Device
    choice: lookup.Choice
    distance: float
    floor: float


@dataclass(frozen=True)
class Calibrated:
    """Cost model that uses the tables of related devices; NaN where no related device was measured.

    framework, routing, folders: as for `Profiled`. hidden: names of devices whose tables may not be used. foreign:
    whether devices of another vendor or architecture may be donors, as they may for engines that run the same kernels
    on all of them.
    """

    framework: str = ""
    routing: str = ROUTING
    folders: tuple[Path, ...] = ()
    hidden: frozenset[str] = frozenset()
    foreign: bool = True

    def cost(self, demand: Demand, hardware: Hardware) -> Cost:
        """Return the time of one call on each row of `hardware`; arrays that broadcast to the demand's shape."""
        count = len(hardware.index)
        total = empty(demand_shape(demand, hardware))
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
                    loan = loans.setdefault(key, _Loan(donor, count))
                    loan.add(rows, weight, ceilings(device, loan.variant.act or _PLAIN))
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
        self.weight[rows] = weight
        self.compute[rows], self.memory[rows], self.link[rows] = top.compute, top.memory, top.link


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
        choice = lookup.choose(profile, family, want, model.framework) or _substitute(profile, family, want, model)
        if choice is not None:
            floor = lookup.least_time(choice.measured, family)
            found.append(Donor(device=_donor(name), choice=choice, distance=distance, floor=floor))
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
        choice = lookup.choose(profile, family, want, model.framework)
        if choice is None:
            continue
        if rated.holds(device, profile, choice, family):
            return ()
        before = _before(device, kin, profile, choice, family)
        distance = device_distance(device, before, FAMILY[family].link)
        if not distance < UNRELATED_DEVICE:
            return ()
        floor = lookup.overhead(choice.measured, family)
        return (Donor(device=before, choice=choice, distance=distance, floor=floor),)
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
    return device.vendor == other.vendor and _architecture(device) == _architecture(other)


def _format_gap(profile: store.Profile, family: str, want: Variant) -> float:
    """Return what other formats than `want` add to the distance of a donor; inf where none of its tables can stand in.

    Read from the profile's run.toml, so that tables of far donors are not loaded.
    """
    have = [Variant.parse(k) for t in profile.run["table"] if t["family"] == family for k in t["variants"]]
    gap = min((lookup.distance(v, want) for v in have), default=float("inf"))
    if gap == 0.0:
        return 0.0
    if np.isfinite(gap):
        return NEAR_FORMAT
    plain = _sixteen_bit(want)
    return SUBSTITUTE_FORMAT if any(np.isfinite(lookup.distance(v, plain)) for v in have) else float("inf")


def _substitute(profile: store.Profile, family: str, want: Variant, model: Calibrated) -> lookup.Choice | None:
    """Return the 16-bit table of a donor that has none in the formats asked for (`want`), or None without one.

    How far shapes stay behind their ceilings carries over from one format to the other.
    """
    plain = lookup.choose(profile, family, _sixteen_bit(want), model.framework)
    return plain and lookup.Choice(measured=plain.measured, wanted=want, worst=_CALIBRATED)


def _sixteen_bit(want: Variant) -> Variant:
    """Return the variant with 16-bit formats in place of those of `want`."""
    return Variant("bf16", "bf16", want.routing)


def _scarcity(profile: store.Profile, family: str) -> float:
    """Return what few rows in the largest table of `family` add to a donor's distance; 0 from `MIN_DONOR_ROWS` on."""
    rows = max((int(t["rows"]) for t in profile.run["table"] if t["family"] == family), default=1)
    return SPARSE_TABLE * max(float(np.log10(MIN_DONOR_ROWS / max(rows, 1))), 0.0)


def _settle(total: Cost, loans: list[_Loan], demand: Demand, hardware: Hardware) -> None:
    """Average the donors' times in the logarithm, raise them to the device's bound, and write them into `total`."""
    time = _bounded(_averaged(total, loans, demand), demand, hardware)
    known = ~np.isnan(time)
    total.time[...] = time
    total.basis[known] = _CALIBRATED
    total.spread[~known] = np.nan


def _averaged(total: Cost, loans: list[_Loan], demand: Demand) -> Array:
    """Return the seconds by all donors, as weighted mean of their logarithms; NaN where there is no donor.

    Also writes what limits the call by the donor of the largest weight into `total.bound`.
    """
    family, shape = FAMILY[demand.family], lookup.coordinates(demand)
    logarithm, weights, heaviest = (np.zeros(total.time.shape) for _ in range(3))
    for loan in loans:
        rows = loan.weight > 0
        target = (..., slice(None) if rows.all() else rows)
        part = lookup.take(shape, None if rows.all() else rows, len(rows))
        here = Reference(loan.compute[rows], loan.memory[rows], loan.link[rows])
        time, limit, inside = carried(loan.donor, here, loan.variant, family, part)
        weight = np.where(inside, loan.weight[rows], loan.weight[rows] * OUTSIDE_WEIGHT)
        logarithm[target] += weight * np.log(np.maximum(time, MIN_TIME))
        weights[target] += weight
        total.bound[target] = np.where(weight > heaviest[target], limit, total.bound[target])
        heaviest[target] = np.maximum(weight, heaviest[target])
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(weights > 0, np.exp(logarithm / weights), np.nan)


def _bounded(time: Array, demand: Demand, hardware: Hardware) -> Array:
    """Raise times to the least that the device itself allows; NaN for collectives over more devices than a node has."""
    if FAMILY[demand.family].link:
        return np.where(np.asarray(demand.shape["group"]) <= hardware.peers, time, np.nan)
    if demand.family == "elementwise":
        return np.maximum(time, arithmetic(demand, hardware, np.ones(len(hardware.index), bool)))
    # a small kernel of a fast donor is launch and cache; on a slow device its bytes still have to stream
    return np.maximum(time, physical(demand, hardware).time)


def carried(
    donor: Donor, here: Reference, variant: Variant, family: Family, shape: Mapping[str, Array]
) -> tuple[Array, Codes, Mask]:
    """Convert a donor's times to N other devices.

    Returns (seconds per call, what limits the call, whether the table holds the shape). Derived: the donor's time above
    its floor is scaled by the ratio of the physical bounds on both devices; the floor (launch, latency) stays.

    Args:
        donor: the measured device and its table.
        here: ceilings of the other devices, (N,) each.
        variant: formats on the other devices.
        family: operator family of the table.
        shape: coordinates of the family, (N,) or () each.
    """
    choice = donor.choice
    priced = lookup.price(choice, family, shape)
    own = choice.priced
    top = ceilings(donor.device, own.act or _PLAIN)
    there, _ = bound(family, shape, own, Reference(top.compute, top.memory, top.link))
    least, limit = bound(family, shape, variant, here)
    floor = np.minimum(priced.time, donor.floor)
    with np.errstate(invalid="ignore", divide="ignore"):
        ratio = np.where(there > 0, least / there, 1.0)
    limit = np.where(priced.bound == LAUNCH_BOUND, LAUNCH_BOUND, limit).astype(np.int8)
    return floor + (priced.time - floor) * ratio, limit, priced.basis < BASIS_CODE["extrapolated"]
