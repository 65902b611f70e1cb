"""Price experts whose shapes lie outside a table of few rows, from tables of related devices that hold more of them.

A table of some hundred rows knows the experts of a few models. Beyond them its utilisation is a guess, while a device
of the same architecture may have been measured there. The table of H20 starts at 512 columns per expert: 192 columns
take a third of what its border says, and what H200 says within a third (vLLM blog, 2026-07-06, table 1). Other
operators are left to the device's own table: their utilisation runs on smoothly past its border, and related devices
were no nearer to measured runs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np

from hwdb import Device
from perfmodel.arrays import Array, Mask, as_slice
from perfmodel.costs.cost import Cost
from perfmodel.costs.cost_model_choice.fallback import merge, narrowed
from perfmodel.costs.measured_tables import lookup
from perfmodel.costs.measured_tables.profiled import Profiled, demand_shape, empty, variants_of
from perfmodel.costs.related_devices.calibrated import Calibrated, donors, same_chip, scarcity
from perfmodel.costs.related_devices.donor_tables import Donor
from perfmodel.hardware import Hardware
from perfmodel.operators import Demand
from perfmodel.profiles import FAMILY, Variant, store

#: Operator family whose tables are left for those of related devices.
FAMILY_OF_EXPERTS = "grouped_gemm"
#: How far outside the range of the sites, in logarithm, still counts as inside (1 %). Chosen.
EDGE_TOLERANCE = 0.01


@dataclass(frozen=True)
class BeyondSparse:
    """Cost model of experts outside a device's own table that a related device is nearer to; NaN for all else.

    A related device is nearer where its distance, with what its own few rows add, is less than what the rows of the
    device's table would add to the distance of a donor. measured, related: what prices all other shapes.
    """

    measured: Profiled
    related: Calibrated

    def cost(self, demand: Demand, hardware: Hardware) -> Cost:
        """Return the time of one call on each row of `hardware`; arrays that broadcast to the demand's shape."""
        total = empty(demand_shape(demand, hardware))
        if demand.family != FAMILY_OF_EXPERTS or not any(_scarce(self.related, d) for d in hardware.devices):
            return total
        for device, want, rows in variants_of(demand, hardware, self.measured.routing):
            act = lookup.effective(want.act, device) if want.act else ""
            wanted = Variant(want.stored, act, want.routing)
            if not outdone(self.related, device, wanted):
                continue
            chosen = np.zeros(len(hardware.index), bool)
            chosen[rows] = True
            merge(total, self._beyond((device, wanted), demand, hardware, chosen), chosen)
        return total

    def _beyond(self, of: tuple[Device, Variant], demand: Demand, hardware: Hardware, rows: Mask) -> Cost:
        """Return the prices by related devices of some rows, NaN for shapes that the device's own table holds.

        of: the device of the rows, and the formats and routing that they ask for. rows: which ones, (N,).
        """
        mine, there = narrowed(demand, rows), hardware.take(as_slice(rows))
        beyond = outside(self._sites(*of), lookup.coordinates(mine))
        if not beyond.any():
            return empty(demand_shape(mine, there))
        lent = _without(self.related, of[0]).cost(mine, there)
        return replace(lent, time=np.where(beyond, lent.time, np.nan))

    def _sites(self, device: Device, want: Variant) -> Array:
        """Return the sites of the device's own table for some formats, (S, d) logarithms; none where it has no such."""
        _, profile = _own_table(self.related, device)
        choice = profile and lookup.choose(profile, FAMILY_OF_EXPERTS, want, self.measured.framework)
        return choice.measured.table.sites if choice else np.zeros((0, 1))


def outside(sites: Array, shape: Mapping[str, Array | float]) -> Mask:
    """Return where the site of a shape lies outside the range of some sites, (S, d) logarithms; nowhere if S is 0."""
    if not len(sites):
        return np.zeros(1, bool)
    place = FAMILY[FAMILY_OF_EXPERTS].locate(shape)[0]
    ends = zip(place, sites.min(axis=0), sites.max(axis=0), strict=True)
    found = [(at < low - EDGE_TOLERANCE) | (at > high + EDGE_TOLERANCE) for at, low, high in ends]
    return np.atleast_1d(np.any(np.broadcast_arrays(*found), axis=0))


@lru_cache(maxsize=4096)
def outdone(related: Calibrated, device: Device, want: Variant) -> bool:
    """Return whether a related device is nearer to experts outside the table of `device` than that table is.

    want: formats and routing asked for.
    """
    own, (owner, _) = _scarce(related, device), _own_table(related, device)
    others = donors(_without(related, device), owner, FAMILY_OF_EXPERTS, want)[:1] if own else ()
    return any(donor.distance + _few_rows(owner, donor, related) < own for donor in others)


@lru_cache(maxsize=4096)
def _scarce(related: Calibrated, device: Device) -> float:
    """Return what the few rows of the device's own table of experts add to a distance; 0 without such a table."""
    _, profile = _own_table(related, device)
    return 0.0 if profile is None else scarcity(profile, FAMILY_OF_EXPERTS)


def _own_table(related: Calibrated, device: Device) -> tuple[Device, store.Profile | None]:
    """Return whose measured experts a device has: its own, or those of the device that a user changed into it.

    The device itself and None where nobody measured them.
    """
    for kin in device.lineage:
        profile = store.load(kin.name, (*related.folders, *store.beside(kin)))
        if profile is not None and FAMILY_OF_EXPERTS in profile.files and kin.name not in related.hidden:
            return kin, profile
    return device, None


def _few_rows(device: Device, donor: Donor, related: Calibrated) -> float:
    """Return what few rows of a donor add to its distance beyond what `donors` adds, which spares the same chip."""
    profile = store.load(donor.device.name, related.folders)
    return scarcity(profile, FAMILY_OF_EXPERTS) if profile is not None and same_chip(device, donor.device) else 0.0


def _without(related: Calibrated, device: Device) -> Calibrated:
    """Return the model without the tables of `device` itself, and of the devices that it was made from."""
    return replace(related, hidden=related.hidden | {kin.name for kin in device.lineage})
