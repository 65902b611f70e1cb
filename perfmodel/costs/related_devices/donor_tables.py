"""Compute times on a device that was not measured from the tables of donors: measured devices that resemble it.

`calibrated` chooses the donors of a device and their weights.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import NamedTuple

import numpy as np

from hwdb import Device
from perfmodel.arrays import Array, Codes, Index, Mask, common_shape
from perfmodel.costs.cost import Cost
from perfmodel.costs.measured_tables import lookup
from perfmodel.costs.measured_tables.profiled import arithmetic, one_after_another
from perfmodel.costs.related_devices.distance import PLAIN, Ceilings, ceilings
from perfmodel.costs.rooflines.roofline import bound as physical
from perfmodel.hardware import Hardware
from perfmodel.operators import Demand
from perfmodel.profiles import FAMILY, Reference, ShapeBatch, Variant
from perfmodel.vocabulary import BASIS_CODE, LAUNCH_BOUND

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

    @property
    def variant(self) -> Variant:
        """The formats asked for, or those of the table where none were asked for."""
        return self.choice.wanted if self.choice.wanted.act else self.choice.measured.variant


def by_device(donors: Sequence[Donor]) -> list[tuple[Donor, ...]]:
    """Return donors, nearest first, with all tables of one device together."""
    return [tuple(tables) for _, tables in groupby(donors, key=lambda donor: id(donor.device))]


@dataclass(frozen=True)
class Loan:
    """Holds what candidates of one device borrow from one donor.

    tables: the donor with each of its tables. rank: how many donors of the device are nearer. rows: numbers of the
    candidates. weight: of the donor for the device. top: ceilings of the device; home: those of the device that it is a
    variant of. order: 1 where the device is better than the donor in all figures, -1 where it is lesser, else 0.
    """

    tables: tuple[Donor, ...]
    rank: int
    rows: Index
    weight: float
    top: Ceilings
    home: Ceilings
    order: int


def settle(total: Cost, loans: Sequence[Loan], demand: Demand, hardware: Hardware) -> None:
    """Write the weighted geometric mean of the donors' times, at least the device's roofline bound, into `total`."""
    lent, own = [n for n in loans if not n.tables[0].own], [n for n in loans if n.tables[0].own]
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


class Carried(NamedTuple):
    """Hold what a donor says of N calls on other devices.

    time: seconds per call. limit: what limits the call. inside: whether the table holds the shape. own: seconds that
    were measured on the donor itself in the formats asked for, NaN where none were.
    """

    time: Array
    limit: Codes
    inside: Mask
    own: Array

    def over(self, count: int) -> Carried:
        """Return the same of `count` calls, also what holds for all of them."""
        shape = common_shape(self.time.shape, (count,))
        time, limit, inside, own = (np.broadcast_to(values, shape) for values in self)
        return Carried(time, limit, inside, own)  # type: ignore[arg-type]

    def taken(self, some: slice) -> Carried:
        """Return what is said of some calls, which may be written to."""
        time, limit, inside, own = (np.array(values[..., some]) for values in self)
        return Carried(time, limit, inside, own)  # type: ignore[arg-type]


def _lent(loans: Sequence[Loan], demand: Demand, count: int) -> Carried:
    """Return what donors say of the rows of all loans, one loan after another; the shortest time where a donor has
    several tables.

    count: N, the number of candidates.
    """
    turns = range(max(len(loan.tables) for loan in loans))
    parts = [(turn, number) for turn in turns for number, loan in enumerate(loans) if turn < len(loan.tables)]
    rows, part = one_after_another([loans[number].rows for _, number in parts])
    tables, which = _different([loans[number].tables[turn] for turn, number in parts], part)
    shape = lookup.take(lookup.coordinates(demand), rows, count)
    tops = [_figures([getattr(loans[number], kind) for _, number in parts], part) for kind in ("top", "home")]
    changed = np.array([loans[number].top != loans[number].home for _, number in parts])
    asked = ShapeBatch(FAMILY[demand.family], shape, which)
    found = carried(tables, tops[0], asked, tops[1] if changed.any() else None)
    found = found.over(sum(len(loans[number].rows) for _, number in parts))
    if len(turns) == 1:
        return found
    return _shortest(found, [(number, len(loans[number].rows)) for _, number in parts], len(loans))


def _different(donors: Sequence[Donor], part: Index) -> tuple[list[Donor], Index]:
    """Return the donors without those of an equal table, and the number of each row's; part: number in `donors`."""
    numbers: dict[tuple[object, ...], int] = {}
    keys = [(id(d.device), d.choice.wanted, id(d.choice.measured)) for d in donors]
    different = {numbers.setdefault(key, len(numbers)): donor for key, donor in zip(keys, donors, strict=True)}
    if len(different) == 1:
        return list(donors[:1]), np.zeros((), np.intp)
    return list(different.values()), np.array([numbers[key] for key in keys])[part]


def _figures(tops: Sequence[Ceilings], part: Index) -> Reference:
    """Return the ceilings of each row's device; tops: of each part. part: number of the part of each row."""
    compute, memory, link = np.array([[top.compute, top.memory, top.link] for top in tops]).T
    return Reference(compute[part], memory[part], link[part])


def _shortest(found: Carried, parts: Sequence[tuple[int, int]], count: int) -> Carried:
    """Return the shortest time of each row of some loans, of equal ones the first.

    found: what is said of the rows of several parts, one after another: of all loans, then of those that have further
    tables. parts: number of the loan of each part, and how many rows it has. count: how many loans there are.
    """
    ends = np.cumsum([size for _, size in parts]).tolist()
    best = found.taken(slice(0, ends[count - 1]))
    for (number, size), end in list(zip(parts, ends, strict=True))[count:]:
        first, more = (..., slice(ends[number] - size, ends[number])), found.taken(slice(end - size, end))
        faster = more.time < best.time[first]
        for name, values in more._asdict().items():
            mine = getattr(best, name)
            mine[first] = np.where(faster, values, mine[first])
    return best


def _averaged(total: Cost, loans: Sequence[Loan], demand: Demand) -> Array:
    """Return the seconds by all donors, as weighted mean of their logarithms; NaN where there is no donor.

    A call takes no less than it was measured to take on a better device, and no more than on a lesser one, where these
    do not contradict each other. Also writes what limits the call by the donor of the largest weight into
    `total.bound`. The nearest donor comes first in each row's sums, so that they do not depend on the other rows.
    """
    loans = sorted(loans, key=lambda loan: loan.rank)
    found = _lent(loans, demand, total.time.shape[-1])
    ranks = 1 + loans[-1].rank
    logarithm, weights = np.zeros((2, ranks, *total.time.shape))
    limits = np.zeros((ranks, *total.time.shape), np.int8)
    least, most = np.zeros(total.time.shape), np.full(total.time.shape, np.inf)
    start = 0
    for rank, some in groupby(loans, key=lambda loan: loan.rank):
        mine = list(some)
        rows, part = one_after_another([loan.rows for loan in mine])
        stop = start + sum(len(loan.rows) for loan in mine)
        time, limit, inside, own = (values[..., start:stop] for values in found)
        lent, order = (np.array([getattr(loan, name) for loan in mine])[part] for name in ("weight", "order"))
        target, start = (..., rows), stop
        if np.any(order):
            least[target] = np.where((order < 0) & (own > least[target]), own, least[target])
            most[target] = np.where((order > 0) & (own < most[target]), own, most[target])
        weight = np.where(inside, lent, lent * OUTSIDE_WEIGHT)
        logarithm[rank][target] = weight * np.log(np.maximum(time, MIN_TIME))
        weights[rank][target], limits[rank][target] = weight, limit
    heaviest = weights.argmax(axis=0)[None]
    known = weights.max(axis=0) > 0
    total.bound[...] = np.where(known, np.take_along_axis(limits, heaviest, 0)[0], total.bound)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = np.exp(logarithm.sum(axis=0) / weights.sum(axis=0))
    within = np.where(least <= most, np.minimum(np.maximum(mean, least), most), mean)
    return np.where(known, within, np.nan)


def _fastest(total: Cost, loans: Sequence[Loan], demand: Demand) -> Array:
    """Return the seconds by the fastest table of the device itself; NaN where it has none.

    Also writes what limits the call into `total.bound`.
    """
    least = np.full(total.time.shape, np.nan)
    found, (rows, _) = _lent(loans, demand, total.time.shape[-1]), one_after_another([loan.rows for loan in loans])
    least[..., rows], total.bound[..., rows] = found.time, found.limit
    return least


def _within_node(time: Array, demand: Demand, hardware: Hardware) -> Array:
    """Return times of a device's own tables with NaN for collectives over more devices than a node has.

    Fused elementwise operators take at least their arithmetic.
    """
    if FAMILY[demand.family].link:
        return np.where(np.asarray(demand.shape.get("span", demand.shape["group"])) <= hardware.peers, time, np.nan)
    if demand.family == "elementwise":
        return np.maximum(time, arithmetic(demand, hardware, slice(None)))
    return time


def _bounded(time: Array, demand: Demand, hardware: Hardware) -> Array:
    """Raise times to the least that the device itself allows; NaN for collectives over more devices than a node has."""
    if FAMILY[demand.family].link or demand.family == "elementwise":
        return _within_node(time, demand, hardware)
    # a small kernel of a fast donor is launch and cache; on a slow device its bytes still have to stream
    return np.maximum(time, physical(demand, hardware).time)


def carried(donors: Sequence[Donor], here: Reference, asked: ShapeBatch, home: Reference | None = None) -> Carried:
    """Convert times of donors to N other devices.

    Derived: the donor's time above
    its floor is scaled by the ratio of the physical bounds on both devices; the floor (launch, latency) stays. Of the
    device itself with other figures all time is scaled, down to the floor: so a call takes no longer on the faster of
    two such devices, whichever factor of an engine applies to it.

    Args:
        donors: measured devices, each with a table; either all are the device itself, or none is.
        here: ceilings of the other devices, (N,) each.
        asked: the shapes, of the operator family of the tables, and the number of the donor of each.
        home: ceilings of the devices that the others are variants of, (N,) each, where any is a variant; what was
            measured on the donor then changes as their time does.
    """
    choices, variants = [donor.choice for donor in donors], [donor.variant for donor in donors]
    priced, own = lookup.price(choices, asked), [choice.priced for choice in choices]
    top = _figures([ceilings(d.device, v.act or PLAIN) for d, v in zip(donors, own, strict=True)], asked.which)
    if donors[0].own:  # the same device with other figures: its table says what limits a call
        then = [choice.measured.reference for choice in choices]
        rated = _figures([Ceilings(float(r.peak), float(r.bandwidth), float(r.link)) for r in then], asked.which)
        here, top = _as_rated(rated, here, top), rated
    there = asked.seconds(own, top)
    least, limit = asked.bound(variants, here)
    floor = np.minimum(priced.time, asked.each([donor.floor for donor in donors]))
    with np.errstate(invalid="ignore", divide="ignore"):
        ratio = np.where(there > 0, least / there, 1.0)
    limit = np.where(priced.bound == LAUNCH_BOUND, priced.bound, limit)
    work = priced.time * ratio if donors[0].own else floor + (priced.time - floor) * ratio
    beyond = asked.each([choice.beyond for choice in choices])
    if np.any(beyond):
        work = np.where((np.asarray(asked.shape["group"]) > beyond) | (beyond == 0.0), work, np.inf)
    inside = priced.basis < BASIS_CODE["extrapolated"]
    own_time = np.where(inside, priced.time, np.nan)
    if home is not None:
        at_home = asked.bound(variants, home)[0]
        change = np.where(at_home > 0, least / np.where(at_home > 0, at_home, 1.0), 1.0)
        own_time = np.where(change == 1.0, own_time, floor + (own_time - floor) * change)
    return Carried(np.maximum(work, floor), limit, inside, own_time)


def _as_rated(then: Reference, here: Reference, top: Reference) -> Reference:
    """Return the ceilings of a device with other figures, relative to its rated figures.

    A table is relative to rated figures, and so are the limits by which engine factors are chosen.

    Args:
        then: rated figures of the device as measured.
        here: ceilings of the device with other figures, (N,) each.
        top: ceilings of the device as measured.
    """
    return Reference(
        then.peak * here.peak / top.peak,
        then.bandwidth * here.bandwidth / top.bandwidth,
        then.link * here.link / top.link,
    )
