"""Price operators from measured tables of the device itself."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from hwdb import Device
from perfmodel.arrays import Array, Mask, as_slice, common_shape
from perfmodel.costs.cost import Cost
from perfmodel.costs.measured_tables import lookup, table_validity
from perfmodel.costs.measured_tables.intervals import spread_of
from perfmodel.hardware import Hardware
from perfmodel.operators import Demand
from perfmodel.profiles import FAMILY, ShapeBatch, Variant, store
from perfmodel.vocabulary import BASIS_CODE

#: Load of experts in mixture-of-experts layers: exponent of a power law. Chosen: 1.01, the milder of the two skews that
#: were measured.
ROUTING = "1.01"
#: Share of the arithmetic peak that fused elementwise operators reach at most (assumed: no matrix units).
ELEMENTWISE_PEAK_SHARE = 0.5
#: Tables that were chosen, by what was asked; devices and profiles are told apart as objects, which the entry keeps, so
#: that no other object gets the identity of one of them.
_CHOSEN: dict[tuple[object, ...], tuple[Device, store.Profile, list[lookup.Choice]]] = {}
#: Most choices that are kept. Chosen: a search asks for fewer.
_MOST_CHOSEN = 4096


@dataclass(frozen=True)
class Profiled:
    """Cost model that reads measured tables of the device itself.

    The time is NaN where a device, family or format was not measured, or where the device's file no longer has the
    numbers that the table was measured at.

    framework: serving framework whose kernels are priced ('' any); tables of others stand in for missing ones.
    routing: "0" for balanced experts, else the exponent of the power law. folders: further folders of profiles.
    shared: operator families whose kernels are libraries that all frameworks call, so that the fastest table of the
    device applies.
    """

    framework: str = ""
    routing: str = ROUTING
    folders: tuple[Path, ...] = ()
    shared: tuple[str, ...] = ()

    def cost(self, demand: Demand, hardware: Hardware) -> Cost:
        """Return the time of one call on each row of `hardware`; arrays that broadcast to the demand's shape."""
        count = len(hardware.index)
        found = [(n, d, self._profiles(d, demand.family)) for n, d in enumerate(hardware.devices)]
        total = empty(demand_shape(demand, hardware) if any(profiles for _, _, profiles in found) else ())
        for number, device, profiles in found:
            if not profiles:
                continue
            mine = hardware.index == number
            for want, rows in formats(demand, mine, count, self.routing):
                act = lookup.effective(want.act, device) if want.act else ""
                wanted = Variant(want.stored, act, want.routing)
                every = (self._choices(device, profile, demand.family, wanted) for profile in profiles)
                for choice in next((choices for choices in every if choices), []):
                    _fill(total, choice, demand, rows, hardware)
        return total

    def _profiles(self, device: Device, family: str) -> list[store.Profile]:
        """Return profiles with tables of `family`: the device's own, then those of devices that it is a variant of."""
        every = (store.load(kin.name, (*self.folders, *store.beside(kin))) for kin in device.lineage)
        return [profile for profile in every if profile is not None and family in profile.files]

    def _choices(self, device: Device, profile: store.Profile, family: str, want: Variant) -> list[lookup.Choice]:
        """Return the tables of a profile that price `family` on `device`, without those measured at other numbers.

        want: formats and routing asked for. Which tables fit is said in `lookup.fitting`.
        """
        key = (id(device), id(profile), family, want, self.framework, self.shared)
        kept = _CHOSEN.get(key)
        if kept is None:
            found = lookup.fitting(profile, family, want, self.framework, self.shared)
            found = [*found, *lookup.over_the_rack(device, profile, family, want, self.framework)]
            kept = device, profile, [c for c in found if table_validity.holds(device, profile, c, family)]
            if len(_CHOSEN) >= _MOST_CHOSEN:
                _CHOSEN.clear()
            _CHOSEN[key] = kept
        return kept[2]


def demand_shape(demand: Demand, hardware: Hardware) -> tuple[int, ...]:
    """Return the shape of a demand's cost: that of its arrays broadcast against the candidates (rows of `hardware`)."""
    columns = (np.shape(v) for v in demand.shape.values())
    return common_shape(np.shape(demand.moved), np.shape(demand.message), *columns, hardware.index.shape)


def empty(shape: tuple[int, ...]) -> Cost:
    """Return a cost of shape `shape` without any price: time and spread NaN, basis unknown."""
    return Cost(
        time=np.full(shape, np.nan),
        basis=np.full(shape, BASIS_CODE["unknown"], np.int8),
        spread=np.full(shape, np.nan),
        bound=np.zeros(shape, np.int8),
    )


def formats(demand: Demand, mine: Mask, count: int, routing: str) -> Iterator[tuple[Variant, Mask]]:
    """Yield each variant (formats and routing) that rows of one device ask for, with the mask of those rows, (N,).

    mine: (N,) mask of the rows of the device. count: N. routing: see `Profiled`.
    """
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


def _fill(total: Cost, choice: lookup.Choice, demand: Demand, rows: Mask, hardware: Hardware) -> None:
    """Write the times by the table `choice` for `rows` (mask, (N,)) into `total`, where it has none or a longer one."""
    family = FAMILY[demand.family]
    some = as_slice(rows)
    shape = lookup.take(lookup.coordinates(demand), some, len(rows))
    priced = lookup.price(choice, ShapeBatch(family, shape))
    time = priced.time
    if family.link:
        time = np.where(shape.get("span", shape["group"]) <= hardware.peers[some], time, np.nan)
        time = np.where(np.asarray(shape["group"]) > choice.beyond, time, np.nan)
    elif demand.family == "elementwise":
        time = np.maximum(time, arithmetic(demand, hardware, rows))
    basis = np.where(np.isnan(time), BASIS_CODE["unknown"], priced.basis).astype(np.int8)
    target = (..., some)
    better = np.isnan(total.time[target]) | (time < total.time[target])
    found = Cost(time=time, basis=basis, spread=spread_of(demand.family, basis), bound=priced.bound)
    every_better = bool(better.all())
    for name in ("time", "basis", "spread", "bound"):
        held, new = getattr(total, name), getattr(found, name)
        held[target] = new if every_better else np.where(better, new, held[target])


def arithmetic(demand: Demand, hardware: Hardware, rows: Mask) -> Array:
    """Return the least seconds per call that the arithmetic of a fused elementwise operator takes.

    rows: (N,) mask of the candidates that the result is for; 0 where the operator has no arithmetic.
    """
    flop = np.asarray(demand.flop, float)
    if not np.any(flop):
        return np.zeros(())
    compute = np.broadcast_to(np.asarray(demand.compute), rows.shape)[rows]
    peak = hardware.peak[rows][np.arange(len(compute)), compute]
    flop = flop if flop.ndim == 0 or flop.shape[-1] != len(rows) else flop[..., rows]
    return np.asarray(flop / (ELEMENTWISE_PEAK_SHARE * peak))
