"""Calibrated: operator times of a device that was not measured, carried over from measured relatives.

A relative's table says how far a kernel of a shape stays behind the ceilings of its device. That excess factor is taken
over; the ceilings, in FLOP/s, B/s and B/s over the link, are the device's own: measured where hwdb has them, else its
rated peak times the share that its kind of device reaches. What a kernel takes whatever its size (launch, latency of a
collective) does not scale with ceilings and is carried over as it is. Several relatives are averaged in the logarithm,
the nearest with the most weight.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

import hwdb
from hwdb import Device
from perfmodel.arrays import Array
from perfmodel.costs import lookup, rated
from perfmodel.costs.cost import Cost
from perfmodel.costs.intervals import UNRELATED_DEVICE, calibrated_spread
from perfmodel.costs.profiled import ROUTING, arithmetic, demand_shape, empty, formats
from perfmodel.costs.roofline import bound as physical
from perfmodel.dtypes import FALLBACK
from perfmodel.hardware import Hardware, device_efficiency
from perfmodel.operators import Demand
from perfmodel.profiles import FAMILY, Family, Reference, Variant, bound, store
from perfmodel.vocabulary import BASIS_CODE

#: Relatives that are averaged, and how fast their weight falls with their distance.
RELATIVES, REACH = 3, 0.4
#: What another vendor or link topology adds to the distance.
FAR = UNRELATED_DEVICE
#: A table of fewer rows than this makes a relative less welcome, by so much a factor of ten.
PLENTY, SCARCITY = 50_000, 0.7
#: What it adds to the distance that a relative lacks the formats asked for, or only has near ones.
OTHER_FORMAT, NEAR_FORMAT = 1.5, 0.3
#: Weight of a relative for shapes beyond its table.
BEYOND = 0.2
#: Kinds between which tables carry over within a vendor, and those whose kernels are ports of one another from vendor
#: to vendor. What compiles whole graphs for a machine of its own has nothing in common with others.
_ALIKE, _PORTED = ("gpu", "soc"), ("gpu",)
_CALIBRATED = BASIS_CODE["calibrated"]


@dataclass(frozen=True)
class Ceilings:
    """What a device reaches at best: FLOP/s in a compute type, B/s of memory, B/s over its link."""

    compute: float
    memory: float
    link: float


@lru_cache(maxsize=4096)
def ceilings(device: Device, act: str) -> Ceilings:
    """Ceilings of `device` in compute type `act`: measured, else the rated peak times its kind's share."""
    reached = device_efficiency(device)
    used = lookup.effective(act, device)
    own = _share(device, used)
    compute = device.peak(used) * (own if own == own else reached.gemm)
    stream = device.measured("memory_bandwidth")
    memory = stream if stream == stream else device.bandwidth * reached.memory
    return Ceilings(compute, memory, device.link.bandwidth * reached.link)


def _share(device: Device, act: str) -> float:
    """Measured share of peak, in the type itself or in a 16-bit one; NaN where none was measured."""
    for name in dict.fromkeys((act, "bf16", "fp16", *FALLBACK[act])):
        share = device.measured(f"gemm.{name}") / device.peak(name)
        if share == share:
            return share
    return float("nan")


def device_distance(device: Device, other: Device, link: bool = False) -> float:
    """How far two devices are apart: 0 for the same architecture and balance, from `FAR` on for another vendor's GPU,
    inf for strangers."""
    kinds = {device.kind, other.kind}
    if (len(kinds) > 1 and not kinds <= set(_ALIKE)) or (device.vendor != other.vendor and not kinds <= set(_PORTED)):
        return float("inf")
    if link:
        apart = abs(np.log(device.link.bandwidth / other.link.bandwidth))
        return 0.5 * float(apart) + (0.0 if device.link.topology == other.link.topology else FAR)
    score = 0.0 if device.arch.split()[:1] == other.arch.split()[:1] else 1.0
    score += 0.0 if device.vendor == other.vendor else FAR
    score += 0.0 if device.memory_type[:3] == other.memory_type[:3] else 1.5
    with np.errstate(invalid="ignore", divide="ignore"):
        size = abs(np.log(device.bandwidth / other.bandwidth))
        ridge = abs(
            np.log(ceilings(device, "bf16").compute / ceilings(other, "bf16").compute)
            - np.log(device.bandwidth / other.bandwidth)
        )
    return score + 0.3 * float(np.nan_to_num(abs(size), nan=1.0)) + 0.3 * float(np.nan_to_num(abs(ridge), nan=1.0))


@dataclass(frozen=True)
class Donor:
    """A measured device that stands in: its table, how far away it is, and the least time its kernels take."""

    device: Device
    choice: lookup.Choice
    distance: float
    floor: float


@dataclass(frozen=True)
class Calibrated:
    """Cost model of relatives; NaN where no measured device is related.

    framework, routing, folders: as for `Profiled`. hidden: names of devices whose tables may not be used. foreign:
    whether devices of another vendor or architecture stand in, as they may for engines that run the same kernels
    on all of them.
    """

    framework: str = ""
    routing: str = ROUTING
    folders: tuple[Path, ...] = ()
    hidden: frozenset[str] = frozenset()
    foreign: bool = True

    def cost(self, demand: Demand, hardware: Hardware) -> Cost:
        """Time of one call on each row of `hardware`; arrays that broadcast to the demand's shape."""
        count = len(hardware.index)
        answer = empty(demand_shape(demand, hardware))
        jobs: dict[tuple[int, Variant, Device], _Job] = {}
        for number, device in enumerate(hardware.devices):
            mine = hardware.index == number
            if not mine.any():
                continue
            for want, rows in formats(demand, mine, count, self.routing):
                act = lookup.effective(want.act, device) if want.act else ""
                wanted = Variant(want.stored, act, want.routing)
                # a stated figure moves the ceilings, not the choice of who stands in
                found = itself(self, device, demand.family, wanted) or relatives(
                    self, device.lineage[-1], demand.family, wanted
                )
                for relative in found:
                    weight = float(np.exp((found[0].distance - relative.distance) / REACH))
                    key = (id(relative.choice.measured), relative.choice.wanted, relative.device)
                    job = jobs.setdefault(key, _Job(relative, count))
                    job.add(rows, weight, ceilings(device, job.variant.act or "bf16"))
                if found:
                    answer.spread[..., rows] = calibrated_spread(demand.family, found[0].distance)
        _settle(answer, list(jobs.values()), demand, hardware)
        return answer


class _Job:
    """One relative's table and the rows of all devices that it stands in for: each relative is read once.

    weight, compute, memory, link: (N,) of the candidates; weight 0 where it is not asked.
    """

    def __init__(self, relative: Donor, count: int) -> None:
        self.relative = relative
        self.weight, self.compute, self.memory, self.link = np.zeros((4, count))

    @property
    def variant(self) -> Variant:
        """Formats asked for, or the table's own."""
        choice = self.relative.choice
        return choice.wanted if choice.wanted.act else choice.measured.variant

    def add(self, rows: NDArray[np.bool_], weight: float, top: Ceilings) -> None:
        """Ask for `rows` (N,) of a device with the ceilings `top`."""
        self.weight[rows] = weight
        self.compute[rows], self.memory[rows], self.link[rows] = top.compute, top.memory, top.link


@lru_cache(maxsize=4096)
def relatives(model: Calibrated, device: Device, family: str, want: Variant) -> tuple[Donor, ...]:
    """The nearest measured devices that have a table of the family in the formats asked for, nearest first."""
    candidates = []
    for name in store.names(model.folders):
        profile = store.load(name, model.folders)
        if name in model.hidden or profile is None or family not in profile.files:
            continue
        link = FAMILY[family].link
        donor = _donor(name)
        far = device_distance(device, donor, link) + _format_gap(profile, family, want)
        far += 0.0 if link else _scarcity(profile, family)
        if np.isfinite(far) and (model.foreign or _same_make(device, donor)):
            candidates.append((far, name, profile))
    found: list[Donor] = []
    for far, name, profile in sorted(candidates, key=lambda c: c[:2])[:RELATIVES]:
        choice = lookup.choose(profile, family, want, model.framework) or _substitute(profile, family, want, model)
        if choice is not None:
            found.append(Donor(_donor(name), choice, far, lookup.least_time(choice.measured, family)))
    return tuple(found)


def _donor(name: str) -> Device:
    """The device that a profile called `name` was measured on, whatever a user's file of that name says."""
    shipped = hwdb.built_in()
    return shipped.device(name) if name in shipped.names() else hwdb.device(name)


def itself(model: Calibrated, device: Device, family: str, want: Variant) -> tuple[Donor, ...]:
    """The device itself as it was measured, before a user stated another figure: the one relative that counts; ()
    where it was not measured, or where its table holds as it is."""
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
        far = device_distance(device, before, FAMILY[family].link)
        if not far < FAR:
            return ()
        return (Donor(before, choice, far, lookup.overhead(choice.measured, family)),)
    return ()


def _before(device: Device, kin: Device, profile: store.Profile, choice: lookup.Choice, family: str) -> Device:
    """The device with the figures that a table of `kin` was measured at: the one which `device` varies, or, where its
    own file was changed since, that file with the figures of the table."""
    line = [k for k in device.lineage if k.name == profile.device]
    known = next((k for k in reversed(line) if rated.agrees(k, choice.measured, family)), None)
    return known or rated.restored(kin, choice.measured)


def _same_make(device: Device, other: Device) -> bool:
    return device.vendor == other.vendor and device.arch.split()[:1] == other.arch.split()[:1]


def _format_gap(profile: store.Profile, family: str, want: Variant) -> float:
    """What formats add to the distance: read from run.toml, so that tables of far relatives are not loaded."""
    have = [Variant.parse(k) for t in profile.run["table"] if t["family"] == family for k in t["variants"]]
    gap = min((lookup.distance(v, want) for v in have), default=float("inf"))
    if gap == 0.0:
        return 0.0
    if np.isfinite(gap):
        return NEAR_FORMAT
    plain = Variant("bf16", "bf16", want.routing)
    return OTHER_FORMAT if any(np.isfinite(lookup.distance(v, plain)) for v in have) else float("inf")


def _substitute(profile: store.Profile, family: str, want: Variant, model: Calibrated) -> lookup.Choice | None:
    """A table in 16 bit where the relative has none in the type asked for: its excess factors still tell the shape."""
    plain = lookup.choose(profile, family, Variant("bf16", "bf16", want.routing), model.framework)
    return plain and lookup.Choice(plain.measured, want, _CALIBRATED)


def _scarcity(profile: store.Profile, family: str) -> float:
    rows = max((int(t["rows"]) for t in profile.run["table"] if t["family"] == family), default=1)
    return SCARCITY * max(float(np.log10(PLENTY / max(rows, 1))), 0.0)


def _settle(answer: Cost, jobs: list[_Job], demand: Demand, hardware: Hardware) -> None:
    """Average what the relatives say, in the logarithm, and write it into `answer`."""
    family, shape = FAMILY[demand.family], lookup.coordinates(demand)
    logarithm, total, heaviest = (np.zeros(answer.time.shape) for _ in range(3))
    for job in jobs:
        rows = job.weight > 0
        target = (..., slice(None) if rows.all() else rows)
        part = lookup.take(shape, None if rows.all() else rows, len(rows))
        here = Reference(job.compute[rows], job.memory[rows], job.link[rows])
        time, limit, inside = carried(job.relative, here, job.variant, family, part)
        weight = np.where(inside, job.weight[rows], job.weight[rows] * BEYOND)
        logarithm[target] += weight * np.log(np.maximum(time, 1e-12))
        total[target] += weight
        answer.bound[target] = np.where(weight > heaviest[target], limit, answer.bound[target])
        heaviest[target] = np.maximum(weight, heaviest[target])
    with np.errstate(invalid="ignore", divide="ignore"):
        time = np.where(total > 0, np.exp(logarithm / total), np.nan)
    if family.link:
        time = np.where(np.asarray(shape["group"]) <= hardware.peers, time, np.nan)
    elif demand.family == "elementwise":
        time = np.maximum(time, arithmetic(demand, hardware, np.ones(len(hardware.index), bool)))
    else:  # a small kernel of a fast relative is launch and cache; on a slow device its bytes still have to stream
        time = np.maximum(time, physical(demand, hardware).time)
    known = ~np.isnan(time)
    answer.time[...] = time
    answer.basis[known] = _CALIBRATED
    answer.spread[~known] = np.nan


def carried(
    relative: Donor, here: Reference, variant: Variant, family: Family, shape: Mapping[str, Array]
) -> tuple[Array, NDArray[np.int8], NDArray[np.bool_]]:
    """(seconds at the ceilings `here`, what binds, whether the relative's table holds the shape): the relative's time
    beyond its floor, scaled by the ratio of the bounds."""
    choice = relative.choice
    priced = lookup.price(choice, family, shape)
    own = choice.priced
    top = ceilings(relative.device, own.act or "bf16")
    there, _ = bound(family, shape, own, Reference(top.compute, top.memory, top.link))
    least, limit = bound(family, shape, variant, here)
    floor = np.minimum(priced.time, relative.floor)
    with np.errstate(invalid="ignore", divide="ignore"):
        ratio = np.where(there > 0, least / there, 1.0)
    limit = np.where(priced.bound == lookup.LAUNCH, lookup.LAUNCH, limit).astype(np.int8)
    return floor + (priced.time - floor) * ratio, limit, priced.basis < BASIS_CODE["extrapolated"]
