"""Estimate power: watts of devices by what their time is spent on; kWh, CO2 and cost of a whole data center."""

from __future__ import annotations

from perfmodel.power.device import busy_power, idle_power, mean_power
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
    "busy_power",
    "carbon_g",
    "energy_kwh",
    "energy_per_token",
    "energy_usd",
    "idle_power",
    "kwh_per_million_tokens",
    "mean_power",
    "per_million_tokens",
    "site_power",
]
