"""Keep the account of a fleet: what its requests cost and emit, hour by hour of the day."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from perfmodel.arrays import Array
from perfmodel.money import HOURS_PER_MONTH
from perfmodel.power import carbon_g, energy_kwh
from perfmodel.unit_factors import GRAMS_PER_KG, HOURS_PER_DAY, SECONDS_PER_HOUR
from search.scenario import Site

if TYPE_CHECKING:
    from search.fleet.accounting.fleet import FleetPlan

#: Steps per hour in which a period is cut to weigh the hours of the day. Chosen: periods are rarely cut finer.
STEPS_PER_HOUR = 12


def account(fleet: FleetPlan) -> dict[str, float]:
    """Return the totals of a fleet: cost per month and request, CO2 per month and request; NaN unknown."""
    problem = fleet.problem
    hours = problem.hours
    requests = float(hours @ problem.rate.sum(axis=1)) * SECONDS_PER_HOUR
    grams = float(hours @ hourly_grams(fleet))
    total, length = fleet.usd_per_hour * float(hours.sum()), float(hours.sum())
    return {
        "fleet_usd_per_month": fleet.usd_per_hour * HOURS_PER_MONTH,
        "fleet_usd_per_request": total / requests,
        "fleet_co2_kg_per_month": grams / length * HOURS_PER_MONTH / GRAMS_PER_KG,
        "fleet_gco2_per_request": grams / requests,
    }


def hourly_grams(fleet: FleetPlan) -> Array:
    """Return the grams of CO2e per hour that the fleet emits in each period, (P,); NaN where power is not known."""
    site = intensities(fleet.site, fleet.problem.hours)
    each = np.where(np.isnan(fleet.problem.gco2), site, fleet.problem.gco2)
    used = fleet.watts != 0  # the carbon of an option that is not used plays no part; unknown watts do
    return np.asarray(np.where(used, carbon_g(energy_kwh(fleet.watts, 1.0), each), 0.0).sum(axis=0))


def intensities(site: Site, hours: Array) -> Array:
    """Return gCO2e per kWh of each period, (P,). hours: their lengths; the first begins at hour 0 of the day.

    >>> intensities(Site(gco2_hours=(100.0,) * 12 + (300.0,) * 12), np.array([12.0, 6.0, 12.0])).tolist()
    [100.0, 300.0, 200.0]
    """
    if not site.gco2_hours:
        return np.full(len(hours), site.gco2_per_kwh)
    by_hour, ends = np.asarray(site.gco2_hours), np.cumsum(hours)
    out = []
    for start, end in zip(ends - hours, ends, strict=True):
        count = max(round((end - start) * STEPS_PER_HOUR), 1)
        middles = start + (np.arange(count) + 0.5) * (end - start) / count
        out.append(by_hour[middles.astype(int) % HOURS_PER_DAY].mean())
    return np.asarray(out)
