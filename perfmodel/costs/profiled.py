"""Profiled: operator times from measured tables of the device itself."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hwdb import Device
from perfmodel.arrays import Array
from perfmodel.costs import lookup, rated
from perfmodel.costs.cost import Cost
from perfmodel.costs.intervals import spread_of
from perfmodel.hardware import Hardware
from perfmodel.operators import Demand
from perfmodel.profiles import FAMILY, Variant, store
from perfmodel.vocabulary import BASIS_CODE

#: Expert load of routed layers: power law of exponent 1.01, the milder of the two skews that were measured.
ROUTING = "1.01"


@dataclass(frozen=True)
class Profiled:
    """Cost model of measured tables; NaN where a device, family or format was not measured, or where a figure of the
    device is no longer the one that it was measured at.

    framework: serving framework whose kernels are meant ('' any); others stand in for what it lacks.
    routing: "0" for balanced experts, else the exponent of the power law. folders: places with further profiles.
    shared: families whose kernels the frameworks share as libraries, so that the fastest measured on the device serves
    in any of them.
    """

    framework: str = ""
    routing: str = ROUTING
    folders: tuple[Path, ...] = ()
    shared: tuple[str, ...] = ()

    def cost(self, demand: Demand, hardware: Hardware) -> Cost:
        """Time of one call on each row of `hardware`; arrays that broadcast to the demand's shape."""
        count = len(hardware.index)
        shape = demand_shape(demand, hardware)
        answer = empty(shape)
        for number, device in enumerate(hardware.devices):
            profiles = self._profiles(device, demand.family)
            if not profiles:
                continue
            mine = hardware.index == number
            for want, rows in formats(demand, mine, count, self.routing):
                act = lookup.effective(want.act, device) if want.act else ""
                wanted = Variant(want.stored, act, want.routing)
                every = (self._choices(device, profile, demand.family, wanted) for profile in profiles)
                for choice in next((found for found in every if found), []):
                    _fill(answer, choice, demand, rows, hardware)
        return answer

    def _profiles(self, device: Device, family: str) -> list[store.Profile]:
        """Profiles with tables of `family`: the device's own first, then those of the devices that it varies."""
        every = (store.load(kin.name, (*self.folders, *store.beside(kin))) for kin in device.lineage)
        return [profile for profile in every if profile is not None and family in profile.files]

    def _choices(self, device: Device, profile: store.Profile, family: str, want: Variant) -> list[lookup.Choice]:
        """The table that fits best; where kernels are `shared`, those of other frameworks that fit as well. None that
        was measured at other figures than the device's."""
        return [c for c in self._fitting(profile, family, want) if rated.holds(device, profile, c, family)]

    def _fitting(self, profile: store.Profile, family: str, want: Variant) -> list[lookup.Choice]:
        first = lookup.choose(profile, family, want, self.framework)
        if first is None:
            return []
        if family not in self.shared:
            return [first]
        others = (lookup.choose(profile, family, want, name) for name in profile.frameworks(family, self.framework))
        found = {id(c.measured): c for c in others if c is not None and c.gap <= first.gap}
        return [first, *(c for key, c in found.items() if key != id(first.measured))]


def demand_shape(demand: Demand, hardware: Hardware) -> tuple[int, ...]:
    """Shape of the answer: the demand's arrays broadcast against the candidates."""
    columns = (np.shape(v) for v in demand.shape.values())
    return np.broadcast_shapes(np.shape(demand.moved), np.shape(demand.message), *columns, hardware.index.shape)


def empty(shape: tuple[int, ...]) -> Cost:
    """An answer that knows nothing."""
    unknown = np.full(shape, BASIS_CODE["unknown"], np.int8)
    return Cost(np.full(shape, np.nan), unknown, np.full(shape, np.nan), np.zeros(shape, np.int8))


def formats(
    demand: Demand, mine: NDArray[np.bool_], count: int, routing: str
) -> Iterator[tuple[Variant, NDArray[np.bool_]]]:
    """Each variant that rows of a device ask for, and those rows (N,)."""
    codes, names = lookup.wanted(demand, routing)
    if codes.ndim == 0 or codes.shape[-1] != count:
        if mine.any():
            yield Variant(*names[int(codes.reshape(-1)[0])]), mine
        return
    codes = codes.reshape(-1, count)[0]
    for code, name in names.items():
        rows = mine & (codes == code)
        if rows.any():
            yield Variant(*name), rows


def _fill(answer: Cost, choice: lookup.Choice, demand: Demand, rows: NDArray[np.bool_], hardware: Hardware) -> None:
    """Put what `choice` says of `rows` into `answer`, where it knows nothing faster yet."""
    family = FAMILY[demand.family]
    count = len(rows)
    every = bool(rows.all())
    shape = lookup.take(lookup.coordinates(demand), None if every else rows, count)
    priced = lookup.price(choice, family, shape)
    time = priced.time
    if family.link:
        time = np.where(shape["group"] <= hardware.peers[rows], time, np.nan)
    elif demand.family == "elementwise":
        time = np.maximum(time, arithmetic(demand, hardware, rows))
    basis = np.where(np.isnan(time), BASIS_CODE["unknown"], priced.basis).astype(np.int8)
    target = (..., slice(None) if every else rows)
    better = np.isnan(answer.time[target]) | (time < answer.time[target])
    pairs: list[tuple[NDArray[Any], NDArray[Any]]] = [
        (answer.time, time),
        (answer.basis, basis),
        (answer.spread, spread_of(demand.family, basis)),
        (answer.bound, priced.bound),
    ]
    for held, value in pairs:
        held[target] = np.where(better, value, held[target])


def arithmetic(demand: Demand, hardware: Hardware, rows: NDArray[np.bool_]) -> Array:
    """Seconds at half of peak that a fused elementwise operator with arithmetic needs at least."""
    flop = np.asarray(demand.flop, float)
    if not np.any(flop):
        return np.zeros(())
    compute = np.broadcast_to(np.asarray(demand.compute), rows.shape)[rows]
    peak = hardware.peak[rows][np.arange(len(compute)), compute]
    flop = flop if flop.ndim == 0 or flop.shape[-1] != len(rows) else flop[..., rows]
    return flop / (0.5 * peak)
