"""Power of devices and sites: watts by what a device's time is spent on; kWh, CO2 and cost at the meter."""

from __future__ import annotations

from perfmodel.power import device, site
from perfmodel.power.site import (
    carbon_g,
    energy_kwh,
    energy_per_token,
    energy_usd,
    kwh_per_million_tokens,
    per_million_tokens,
    site_power,
)

__all__ = [
    "carbon_g",
    "device",
    "energy_kwh",
    "energy_per_token",
    "energy_usd",
    "kwh_per_million_tokens",
    "per_million_tokens",
    "site",
    "site_power",
]
