"""Price operators from measured tables of the device itself."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np

from hwdb import Device
from perfmodel.arrays import Array, Index, as_run, common_shape
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
        turns: dict[int, list[tuple[lookup.Choice, Index]]] = {}
        for device, want, rows in variants_of(demand, hardware, self.routing):
            profiles = self._profiles(device, demand.family)
            if not profiles:
                continue
            act = lookup.effective(want.act, device) if want.act else ""
            wanted = Variant(want.stored, act, want.routing)
            every = (self._choices(device, profile, demand.family, wanted) for profile in profiles)
            for turn, choice in enumerate(next((choices for choices in every if choices), [])):
                turns.setdefault(turn, []).append((choice, rows))
        if not turns:
            return empty(())
        total = empty(demand_shape(demand, hardware))
        _fill(total, list(turns.values()), demand, hardware)
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


def variants_of(demand: Demand, hardware: Hardware, routing: str) -> Iterator[tuple[Device, Variant, Index]]:
    """Yield each device and variant (formats and routing) that candidates ask for, with the candidates' numbers.

    routing: see `Profiled`.
    """
    codes, names = lookup.wanted(demand, routing)
    index, count = hardware.index, len(hardware.index)
    if codes.ndim == 0 or codes.shape[-1] != count:
        codes = np.broadcast_to(codes.reshape(-1)[:1], count)
    codes = codes.reshape(-1, count)[0]
    both = index * (max(names) + 1) + codes
    order = np.argsort(both, kind="stable")
    cuts = np.flatnonzero(np.diff(both[order])) + 1
    for start, stop in pairwise([0, *cuts.tolist(), count]):
        rows = order[start:stop]
        if len(rows):
            yield hardware.devices[index[rows[0]]], Variant(*names[int(codes[rows[0]])]), rows


def one_after_another(parts: Sequence[Index]) -> tuple[Index | slice, Index]:
    """Return the candidates of several parts one after another, and the number of the part of each, (M,).

    The candidates are a slice where they are one run, and the number is () where there is one part.
    """
    if len(parts) == 1:
        return as_run(parts[0]), np.zeros((), np.intp)
    return as_run(np.concatenate(parts)), np.repeat(np.arange(len(parts)), [len(part) for part in parts])


def _fill(
    total: Cost, turns: Sequence[Sequence[tuple[lookup.Choice, Index]]], demand: Demand, hardware: Hardware
) -> None:
    """Write the times by tables into `total`, of each candidate the shortest.

    turns: (table, candidates that it prices) in several turns, in each of which a candidate occurs once at most. Where
    two tables give equal times, that of the earlier turn counts.
    """
    parts = [part for turn in turns for part in turn]
    choices = [choice for choice, _ in parts]
    rows, which = one_after_another([some for _, some in parts])
    shape = lookup.take(lookup.coordinates(demand), rows, len(hardware.index))
    asked = ShapeBatch(FAMILY[demand.family], shape, which)
    found = _within_device(lookup.price(choices, asked), choices, asked, demand, hardware, rows)
    if len(turns) == 1:
        _shorten(total, found, rows)
        return
    sizes = [sum(len(some) for _, some in turn) for turn in turns]
    for stop, size in zip(np.cumsum(sizes).tolist(), sizes, strict=True):
        mine = (..., slice(stop - size, stop))
        part = Cost(found.time[mine], found.basis[mine], found.spread[mine], found.bound[mine])
        _shorten(total, part, np.arange(len(hardware.index))[rows][mine])


def _within_device(
    priced: lookup.TablePrice,
    choices: Sequence[lookup.Choice],
    asked: ShapeBatch,
    demand: Demand,
    hardware: Hardware,
    rows: Index | slice,
) -> Cost:
    """Return times by tables with NaN for collectives that a table does not hold for, and at least the arithmetic of
    fused elementwise operators.

    rows: the candidate that each time is for.
    """
    time = priced.time
    if asked.family.link:
        group = np.asarray(asked.shape["group"])
        inside = np.asarray(asked.shape.get("span", group)) <= hardware.peers[rows]
        time = np.where(inside & (group > asked.each([choice.beyond for choice in choices])), time, np.nan)
    elif demand.family == "elementwise":
        time = np.maximum(time, arithmetic(demand, hardware, rows))
    basis = np.where(np.isnan(time), BASIS_CODE["unknown"], priced.basis).astype(np.int8)
    return Cost(time=time, basis=basis, spread=spread_of(demand.family, basis), bound=priced.bound)


def _shorten(total: Cost, found: Cost, rows: Index | slice) -> None:
    """Write prices of the candidates `rows` into `total`, where it has none or a longer time."""
    target = (..., rows)
    held = total.time[target]
    better = np.isnan(held) | (found.time < held)
    every_better = bool(better.all())
    for name in ("time", "basis", "spread", "bound"):
        old, new = getattr(total, name), getattr(found, name)
        old[target] = new if every_better else np.where(better, new, old[target])


def arithmetic(demand: Demand, hardware: Hardware, rows: Index | slice) -> Array:
    """Return the least seconds per call that the arithmetic of a fused elementwise operator takes.

    rows: the candidates that the result is for; 0 where the operator has no arithmetic.
    """
    flop = np.asarray(demand.flop, float)
    if not np.any(flop):
        return np.zeros(())
    count = len(hardware.index)
    compute = np.broadcast_to(np.asarray(demand.compute), (count,))[rows]
    peak = hardware.peak[rows][np.arange(len(compute)), compute]
    flop = flop if flop.ndim == 0 or flop.shape[-1] != count else flop[..., rows]
    return np.asarray(flop / (ELEMENTWISE_PEAK_SHARE * peak))
