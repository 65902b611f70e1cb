"""Columns of a plan that follow from the estimates of its candidates. Every column is (N,); units are in its name."""

from __future__ import annotations

import numpy as np

from perfmodel import Estimates, Slo
from perfmodel.arrays import Array
from perfmodel.estimates import chances, overall, slo_ratio
from perfmodel.power import carbon_g, energy_per_token, energy_usd, kwh_per_million_tokens, site_power
from search.planning.prices import usd_per_million_tokens
from search.scenario import Site

MS_PER_S = 1e3
BYTES_PER_GB = 1e9
#: Estimates whose 80 % interval a plan reports.
SPREADS = ("ttft", "tpot", "throughput", "power")


def cost_columns(estimates: Estimates, usd_per_hour: Array) -> dict[str, Array]:
    """Devices in use, and cost per million output tokens and per million input and output tokens."""
    return {
        "devices": estimates.devices,
        "usd_per_million_tokens": usd_per_million_tokens(usd_per_hour, estimates.output_rate),
        "usd_per_million_total_tokens": usd_per_million_tokens(usd_per_hour, estimates.total_rate),
    }


def throughput_columns(estimates: Estimates) -> dict[str, Array]:
    """Requests and tokens per second of the whole deployment."""
    return {
        "request_rate_rps": estimates.request_rate,
        "output_tok_s": estimates.output_rate,
        "total_tok_s": estimates.total_rate,
        "output_tok_s_per_device": estimates.output_rate / estimates.devices,
    }


def latency_columns(estimates: Estimates) -> dict[str, Array]:
    """Mean latencies over all requests, and sequences running per replica."""
    return {
        "ttft_ms": estimates.mean(estimates.ttft) * MS_PER_S,
        "tpot_ms": estimates.mean(estimates.tpot) * MS_PER_S,
        "e2e_ms": estimates.mean(estimates.e2e) * MS_PER_S,
        "running": estimates.running,
    }


def memory_columns(estimates: Estimates) -> dict[str, Array]:
    """Memory in use and free, per device."""
    return {
        "memory_gb_per_device": estimates.memory / BYTES_PER_GB,
        "memory_free_gb_per_device": (estimates.memory_use.capacity - estimates.memory) / BYTES_PER_GB,
    }


def power_columns(estimates: Estimates, host_watts: Array, site: Site) -> dict[str, Array]:
    """Power of a device and of the site; energy, its price and its carbon per output token, hosts and PUE included."""
    power = site_power(estimates.power, estimates.devices, host_watts, site.pue)
    energy = energy_per_token(power, estimates.output_rate)
    kwh = kwh_per_million_tokens(energy)
    return {
        "power_w_per_device": estimates.power,
        "power_w": power,
        "site_energy_j_per_output_token": energy,
        "energy_usd_per_million_tokens": energy_usd(kwh, site.usd_per_kwh),
        "gco2_per_million_tokens": carbon_g(kwh, site.gco2_per_kwh),
    }


def slo_columns(estimates: Estimates, slo: Slo, confidence: float) -> dict[str, Array]:
    """Each bounded latency; the chance that every bound holds; how far, and by which bound, the SLO is missed most.

    slo_ratio: the worst ratio of a latency to what `confidence` allows; at most 1 where the SLO is kept.
    """
    ratio, which = slo_ratio(estimates, slo, confidence)
    return {
        **{o.key: overall(estimates, o.metric, o.statistic) * MS_PER_S for o in slo.objectives},
        "slo_chance": chances(estimates, slo).min(axis=0) if slo.objectives else np.ones(len(estimates)),
        "slo_ratio": ratio,
        "worst_slo_bound": which.astype(float),
    }


def basis_columns(estimates: Estimates) -> dict[str, Array]:
    """Log half-widths of the 80 % intervals, the basis of the estimate as a code, and whether the memory suffices."""
    return {
        **{f"spread_{name}": spread for name, spread in estimates.spread.items() if name in SPREADS},
        "basis": estimates.basis.astype(float),
        "fits": estimates.fits.astype(float),
    }
