"""Price experts whose shapes lie outside a table of few rows, from tables of related devices that hold more of them.

A table of some hundred rows knows the experts of a few models. Beyond them its utilisation is a guess, while a device of
the same architecture may have been measured there. The table of H20 starts at 512 columns per expert: 192 columns take
a third of what its border says, and what H200 says within a third (vLLM blog, 2026-07-06, table 1). Other operators
are left to the device's own table: their utilisation runs on smoothly past its border, and related devices were no
nearer to measured runs.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np

from hwdb import Device
from perfmodel.arrays import Mask, as_slice
from perfmodel.costs.cost import Cost
from perfmodel.costs.cost_model_choice.fallback import merge, narrowed
from perfmodel.costs.measured_tables import lookup
from perfmodel.costs.measured_tables.profiled import Profiled, demand_shape, empty, variants_of
from perfmodel.costs.related_devices.calibrated import Calibrated, donors, same_chip, scarcity
from perfmodel.costs.related_devices.donor_tables import Donor
from perfmodel.hardware import Hardware
from perfmodel.operators import Demand
from perfmodel.profiles import Variant, store
from perfmodel.vocabulary import BASIS_CODE

#: Operator family whose tables are left for those of related devices.
FAMILY_OF_EXPERTS = "grouped_gemm"
_EXTRAPOLATED = BASIS_CODE["extrapolated"]


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
            if not outdone(self.related, device, Variant(want.stored, act, want.routing)):
                continue
            chosen = np.zeros(len(hardware.index), bool)
            chosen[rows] = True
            merge(total, self._beyond(device, narrowed(demand, chosen), hardware.take(as_slice(chosen))), chosen)
        return total

    def _beyond(self, device: Device, demand: Demand, hardware: Hardware) -> Cost:
        """Return the prices by related devices of the rows of one device, NaN for shapes that its own table holds."""
        own = self.measured.cost(demand, hardware)
        outside: Mask = ~np.isnan(own.time) & (own.basis == _EXTRAPOLATED)
        if not outside.any():
            return empty(own.time.shape)
        lent = _without(self.related, device).cost(demand, hardware)
        return replace(lent, time=np.where(outside, lent.time, np.nan))


@lru_cache(maxsize=4096)
def outdone(related: Calibrated, device: Device, want: Variant) -> bool:
    """Return whether a related device is nearer to experts outside the table of `device` than that table is.

    want: formats and routing asked for.
    """
    own = _scarce(related, device)
    others = donors(_without(related, device), device, FAMILY_OF_EXPERTS, want)[:1] if own else ()
    return any(donor.distance + _few_rows(device, donor, related) < own for donor in others)


@lru_cache(maxsize=4096)
def _scarce(related: Calibrated, device: Device) -> float:
    """Return what the few rows of the device's own table of experts add to a distance; 0 without such a table."""
    profile = store.load(device.name, (*related.folders, *store.beside(device)))
    if profile is None or FAMILY_OF_EXPERTS not in profile.files or device.name in related.hidden:
        return 0.0
    return scarcity(profile, FAMILY_OF_EXPERTS)


def _few_rows(device: Device, donor: Donor, related: Calibrated) -> float:
    """Return what few rows of a donor add to its distance beyond what `donors` adds, which spares the same chip."""
    profile = store.load(donor.device.name, related.folders)
    return scarcity(profile, FAMILY_OF_EXPERTS) if profile is not None and same_chip(device, donor.device) else 0.0


def _without(related: Calibrated, device: Device) -> Calibrated:
    """Return the model without the tables of `device` itself."""
    return replace(related, hidden=related.hidden | {device.name})
