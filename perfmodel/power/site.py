"""Convert watts of devices and hosts to watts at the meter of the data center, and those to kWh, CO2 and money.

Every function broadcasts; columns are (N,), one value per candidate deployment.
"""

from __future__ import annotations

import numpy as np

from perfmodel.arrays import Array
from perfmodel.unit_factors import SECONDS_PER_HOUR, TOKENS_PER_MILLION, WATTS_PER_KW

Amount = Array | float

#: Joules per token that make one kWh per million tokens: 3.6e6 J per kWh / 1e6 tokens.
JOULES_PER_TOKEN_AT_ONE_KWH = 3.6
#: Token rates below this (tokens/s) count as this: a deployment that produces nothing costs very much, not infinity.
LEAST_TOKEN_RATE = 1e-12


def site_power(device_watts: Amount, devices: Amount, host_watts: Amount, pue: Amount) -> Array:
    """Return the watts at the meter of the data center: (device_watts * devices + host_watts) * pue.

    Args:
        device_watts: mean watts of one device.
        devices: devices of the deployment.
        host_watts: watts of all its hosts (CPUs, fans, network cards), devices excluded.
        pue: power usage effectiveness, total power over power of the IT equipment (ISO/IEC 30134-2); at least 1.

    >>> round(float(site_power(500.0, 8.0, 1000.0, 1.2)), 6)
    6000.0
    """
    return (np.asarray(device_watts) * devices + host_watts) * pue


def energy_kwh(watts: Amount, hours: Amount) -> Array:
    """Return the energy in kWh of `watts` drawn over `hours`.

    >>> float(energy_kwh(6000.0, 24.0))
    144.0
    """
    return np.asarray(watts) * hours / WATTS_PER_KW


def energy_per_token(watts: Amount, tokens_per_s: Amount) -> Array:
    """Return the joules per token of a deployment that draws `watts` and produces `tokens_per_s`.

    >>> float(energy_per_token(6000.0, 2000.0))
    3.0
    """
    return np.asarray(watts) / np.maximum(tokens_per_s, LEAST_TOKEN_RATE)


def kwh_per_million_tokens(joules_per_token: Amount) -> Array:
    """Convert joules per token to kWh per million tokens: one joule per token is 1 / 3.6 kWh per million tokens.

    >>> float(kwh_per_million_tokens(3.6))
    1.0
    """
    return np.asarray(joules_per_token) / JOULES_PER_TOKEN_AT_ONE_KWH


def carbon_g(kwh: Amount, g_per_kwh: Amount) -> Array:
    """Return the grams of CO2 equivalent emitted for `kwh` from a grid that emits `g_per_kwh`.

    Where `kwh` is per million tokens, so is the result.

    >>> float(carbon_g(144.0, 400.0))
    57600.0
    """
    return np.asarray(kwh) * g_per_kwh


def energy_usd(kwh: Amount, usd_per_kwh: Amount) -> Array:
    """Return the USD for `kwh` at a tariff of `usd_per_kwh`; where `kwh` is per million tokens, so is the result.

    >>> round(float(energy_usd(144.0, 0.25)), 6)
    36.0
    """
    return np.asarray(kwh) * usd_per_kwh


def per_million_tokens(amount_per_hour: Amount, tokens_per_s: Amount) -> Array:
    """Convert an amount per hour (USD, kWh, gCO2) to the same per million tokens, at `tokens_per_s` produced.

    >>> round(float(per_million_tokens(36.0, 1000.0)), 9)
    10.0
    """
    tokens_per_hour = SECONDS_PER_HOUR * np.maximum(tokens_per_s, LEAST_TOKEN_RATE)
    return np.asarray(amount_per_hour) / tokens_per_hour * TOKENS_PER_MILLION
