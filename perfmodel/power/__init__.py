"""Estimate power: watts of devices by what their time is spent on; kWh, CO2 and cost of a whole data center."""

from __future__ import annotations

from perfmodel.power.activity import Activity, use_of
from perfmodel.power.capping import Capping, is_beyond_evidence, is_capped, lowest_limit, slowdown, slowed
from perfmodel.power.device import (
    MEMORY_KINDS,
    chip,
    constants,
    counted_use,
    demanded_power,
    idle_power,
    is_known,
    limited,
    mean_power,
    memory_kind,
    power_doubt,
    power_spread,
    ready_power,
    share_above_ready,
)
from perfmodel.power.kernels import kernel_share, near
from perfmodel.power.limits import below_idle, refused_limit, unneeded_limit
from perfmodel.power.node import SUPPLIES, Host, check_supply, host_of, host_watts, through_supplies
from perfmodel.power.row import ServerPower, server_power
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
    "MEMORY_KINDS",
    "SUPPLIES",
    "Activity",
    "Capping",
    "Host",
    "ServerPower",
    "below_idle",
    "carbon_g",
    "check_supply",
    "chip",
    "constants",
    "counted_use",
    "demanded_power",
    "energy_kwh",
    "energy_per_token",
    "energy_usd",
    "host_of",
    "host_watts",
    "idle_power",
    "is_beyond_evidence",
    "is_capped",
    "is_known",
    "kernel_share",
    "kwh_per_million_tokens",
    "limited",
    "lowest_limit",
    "mean_power",
    "memory_kind",
    "near",
    "per_million_tokens",
    "power_doubt",
    "power_spread",
    "ready_power",
    "refused_limit",
    "server_power",
    "share_above_ready",
    "site_power",
    "slowdown",
    "slowed",
    "through_supplies",
    "unneeded_limit",
    "use_of",
]
