"""Compute times on a device that was not measured from the tables of donors: measured devices that resemble it.

`calibrated` chooses the donors of a device and their weights.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from types import EllipsisType
from typing import NamedTuple

import numpy as np

from hwdb import Device
from perfmodel.arrays import Array, Codes, Index, Mask, as_slice
from perfmodel.costs.cost import Cost
from perfmodel.costs.measured_tables import lookup
from perfmodel.costs.measured_tables.profiled import arithmetic
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


class DonorRows:
    """Collects all candidates that are priced from the tables of one donor, so that each table is read once.

    donors: the donor with each of its tables. weight: (N,) weight of the donor, 0 for candidates that it does not
    serve. rank: (N,) how many donors are nearer. order: (N,) 1 where the candidate's device is better than the donor in
    all figures, -1 where it is lesser, else 0. compute, memory, link: (N,) ceilings of the candidates' devices. home:
    (3, N) those of the devices that they are variants of.
    """

    def __init__(self, donors: tuple[Donor, ...], count: int) -> None:
        """Start with no rows; count: N, the number of candidates."""
        self.donors = donors
        self.weight, self.compute, self.memory, self.link = np.zeros((4, count))
        self.rank: Index = np.zeros(count, np.intp)
        self.order: Codes = np.zeros(count, np.int8)
        self.home = np.zeros((3, count))

    def add(self, rows: Mask, rank: int, weight: float, tops: tuple[Ceilings, Ceilings], order: int) -> None:
        """Add `rows` (mask, (N,)) of a device; rank, weight: of the donor for that device.

        tops: ceilings of the device, and of the one that it is a variant of. order: 1 where the device is better than
        the donor in all figures, -1 where it is lesser, else 0.
        """
        some = as_slice(rows)
        self.rank[some], self.weight[some], self.order[some] = rank, weight, order
        top, home = tops
        self.compute[some], self.memory[some], self.link[some] = top.compute, top.memory, top.link
        self.home[:, some] = np.array([[home.compute], [home.memory], [home.link]])


def settle(total: Cost, loans: Sequence[DonorRows], demand: Demand, hardware: Hardware) -> None:
    """Write the weighted geometric mean of the donors' times, at least the device's roofline bound, into `total`."""
    lent, own = [n for n in loans if not n.donors[0].own], [n for n in loans if n.donors[0].own]
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


#: Index of rows in arrays over all rows, and what the donor says of them: see `_lent`.
_Lent = tuple[tuple[EllipsisType, Mask | slice], "Carried"]


def _lent(loans: Sequence[DonorRows], demand: Demand) -> Iterator[tuple[DonorRows, _Lent]]:
    """Yield the times by each donor of the candidates that it prices; the shortest where it has several tables."""
    family, shape = FAMILY[demand.family], lookup.coordinates(demand)
    asked: dict[bytes, ShapeBatch] = {}  # donors of the same devices are asked for the same shapes
    for loan in loans:
        rows = loan.weight > 0
        some, key = as_slice(rows), rows.tobytes()
        if key not in asked:
            asked[key] = ShapeBatch(family, lookup.take(shape, some, len(rows)))
        here = Reference(loan.compute[some], loan.memory[some], loan.link[some])
        home = Reference(*loan.home[:, some])
        now = np.array([here.peak, here.bandwidth, here.link])
        changed = None if np.array_equal(now, loan.home[:, some], equal_nan=True) else home
        best = carried(loan.donors[0], here, loan.donors[0].variant, asked[key], changed)
        for donor in loan.donors[1:]:
            other = carried(donor, here, donor.variant, asked[key], changed)
            faster = other.time < best.time
            best = Carried(
                time=np.where(faster, other.time, best.time),
                limit=np.where(faster, other.limit, best.limit),
                inside=np.where(faster, other.inside, best.inside),
                own=np.where(faster, other.own, best.own),
            )
        yield loan, ((..., some), best)


def _averaged(total: Cost, loans: Sequence[DonorRows], demand: Demand) -> Array:
    """Return the seconds by all donors, as weighted mean of their logarithms; NaN where there is no donor.

    A call takes no less than it was measured to take on a better device, and no more than on a lesser one, where these
    do not contradict each other. Also writes what limits the call by the donor of the largest weight into
    `total.bound`. The nearest donor comes first in each row's sums, so that they do not depend on the other rows.
    """
    ranks = 1 + max(int(loan.rank.max()) for loan in loans)
    logarithm, weights = np.zeros((2, ranks, *total.time.shape))
    limits = np.zeros((ranks, *total.time.shape), np.int8)
    least, most = np.zeros(total.time.shape), np.full(total.time.shape, np.inf)
    for loan, (target, (time, limit, inside, own)) in _lent(loans, demand):
        lent, rank, order = loan.weight[target[1]], loan.rank[target[1]], loan.order[target[1]]
        if order.any():
            least[target] = np.where((order < 0) & (own > least[target]), own, least[target])
            most[target] = np.where((order > 0) & (own < most[target]), own, most[target])
        weight = np.where(inside, lent, lent * OUTSIDE_WEIGHT)
        weighted = weight * np.log(np.maximum(time, MIN_TIME))
        first, last = int(rank.min()), int(rank.max())
        for turn in range(first, last + 1):
            for sums, values in ((logarithm, weighted), (weights, weight), (limits, limit)):
                mine = sums[turn]
                mine[target] = values if first == last else np.where(rank == turn, values, mine[target])
    heaviest = weights.argmax(axis=0)[None]
    known = weights.max(axis=0) > 0
    total.bound[...] = np.where(known, np.take_along_axis(limits, heaviest, 0)[0], total.bound)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = np.exp(logarithm.sum(axis=0) / weights.sum(axis=0))
    within = np.where(least <= most, np.minimum(np.maximum(mean, least), most), mean)
    return np.where(known, within, np.nan)


def _fastest(total: Cost, loans: Sequence[DonorRows], demand: Demand) -> Array:
    """Return the seconds by the fastest table of the device itself; NaN where it has none.

    Also writes what limits the call into `total.bound`.
    """
    least = np.full(total.time.shape, np.nan)
    for _, (target, found) in _lent(loans, demand):
        least[target], total.bound[target] = found.time, found.limit
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


class Carried(NamedTuple):
    """Hold what a donor says of N calls on other devices.

    time: seconds per call. limit: what limits the call. inside: whether the table holds the shape. own: seconds that
    were measured on the donor itself in the formats asked for, NaN where none were.
    """

    time: Array
    limit: Codes
    inside: Mask
    own: Array


def carried(
    donor: Donor, here: Reference, variant: Variant, asked: ShapeBatch, home: Reference | None = None
) -> Carried:
    """Convert a donor's times to N other devices.

    Derived: the donor's time above
    its floor is scaled by the ratio of the physical bounds on both devices; the floor (launch, latency) stays. Of the
    device itself with other figures all time is scaled, down to the floor: so a call takes no longer on the faster of
    two such devices, whichever factor of an engine applies to it.

    Args:
        donor: the measured device and its table.
        here: ceilings of the other devices, (N,) each.
        variant: formats on the other devices.
        asked: the shapes, of the operator family of the table.
        home: ceilings of the devices that the others are variants of, (N,) each, where any is a variant; what was
            measured on the donor then changes as their time does.
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
    if choice.beyond:
        work = np.where(np.asarray(asked.shape["group"]) > choice.beyond, work, np.inf)
    inside = priced.basis < BASIS_CODE["extrapolated"]
    own_time = np.where(inside, priced.time, np.nan)
    if home is not None:
        base = asked.bound(variant, home)[0]
        own_time = floor + (own_time - floor) * np.where(base > 0, least / np.where(base > 0, base, 1.0), 1.0)
    return Carried(np.maximum(work, floor), limit, inside, own_time)


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
