"""Compute the columns of a plan that follow from the estimates of its candidates.

Every function returns name -> array (N,), one value per candidate. Units are in the names.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import numpy as np

from perfmodel import Estimates, Slo
from perfmodel.arrays import Array
from perfmodel.estimates import joint_chance, overall, slo_ratio
from perfmodel.money import mixed_power
from perfmodel.power import carbon_g, energy_per_token, energy_usd, kwh_per_million_tokens, site_power
from perfmodel.unit_factors import MS_PER_S, WATTS_PER_KW
from search.planning.money.prices import Tariff, usd_per_million_tokens
from search.scenario import Limits, Site

BYTES_PER_GB = 1e9
#: Share by which the power of a rack may be exceeded by rounding.
ROUNDING = 1e-9


class Loaded(Protocol):
    """What costs and power of candidates follow from, (N,) each: estimates, or columns that were made of them."""

    @property
    def power(self) -> Array:
        """Watts of one device."""

    @property
    def devices(self) -> Array:
        """Devices in use."""

    @property
    def output_rate(self) -> Array:
        """Output tokens per second."""

    @property
    def total_rate(self) -> Array:
        """Input and output tokens per second."""


def cost_columns(estimates: Loaded, usd_per_hour: Array, utilisation: float = 1.0) -> dict[str, Array]:
    """Return the devices in use, and USD per million output tokens and per million input and output tokens.

    usd_per_hour: (N,) price of the whole deployment. utilisation: mean load over the load of the estimate; hours are
    paid whether they are used or not.
    """
    return {
        "devices": estimates.devices,
        "usd_per_million_tokens": usd_per_million_tokens(usd_per_hour, estimates.output_rate * utilisation),
        "usd_per_million_total_tokens": usd_per_million_tokens(usd_per_hour, estimates.total_rate * utilisation),
    }


def throughput_columns(estimates: Estimates, replicas: Array) -> dict[str, Array]:
    """Return requests and tokens per second of the whole deployment, of one replica, and of one device.

    replicas: (N,) of the deployment; decode workers where it has pools.
    """
    return {
        "request_rate_rps": estimates.request_rate,
        "request_rate_rps_per_replica": estimates.request_rate / replicas,
        "output_tok_s": estimates.output_rate,
        "total_tok_s": estimates.total_rate,
        "output_tok_s_per_device": estimates.output_rate / estimates.devices,
    }


def concurrency_columns(estimates: Estimates, columns: Mapping[str, Array]) -> dict[str, Array]:
    """Return the mean requests in flight per replica: as the load states them, else by Little's law.

    In pools, `concurrency_per_replica` counts requests that decode, per decode worker, and
    `prefill_concurrency_per_replica` those before their first token, per prefill worker.
    columns: (N,) `replicas` and `concurrency_per_replica` (NaN where the load states none), and `prefill_workers` of
    pools.
    """
    ttft, e2e = estimates.mean(estimates.ttft), estimates.mean(estimates.e2e)
    with np.errstate(invalid="ignore"):  # both are infinite where the pools are saturated
        decoding = e2e - ttft
    stated, replicas = columns["concurrency_per_replica"], columns["replicas"]
    workers = columns.get("prefill_workers")
    if workers is None:
        return {"concurrency_per_replica": np.where(np.isnan(stated), estimates.request_rate * e2e / replicas, stated)}
    return {
        "concurrency_per_replica": estimates.request_rate * decoding / replicas,
        "prefill_concurrency_per_replica": estimates.request_rate * ttft / workers,
    }


def latency_columns(estimates: Estimates) -> dict[str, Array]:
    """Return TTFT, TPOT and end-to-end latency as means over all requests, and the sequences running per replica."""
    return {
        "ttft_ms": estimates.mean(estimates.ttft) * MS_PER_S,
        "tpot_ms": overall(estimates, "tpot", "mean") * MS_PER_S,
        "e2e_ms": estimates.mean(estimates.e2e) * MS_PER_S,
        "running": estimates.running,
    }


def memory_columns(estimates: Estimates) -> dict[str, Array]:
    """Return the memory in use and the memory free, in GB per device."""
    return {
        "memory_gb_per_device": estimates.memory / BYTES_PER_GB,
        "memory_free_gb_per_device": (estimates.memory_use.capacity - estimates.memory) / BYTES_PER_GB,
    }


def site_watts(devices: Array, tariff: Tariff, bill: Mapping[str, Array], site: Site) -> Array:
    """Return the watts at the site's meter of deployments whose devices draw `devices` watts together, (N,).

    They include hosts, idle devices of nodes that are paid whole, power supplies and the PUE. tariff, bill: the nodes
    of the whole deployment, as `Tariff.bill` has them.
    """
    return site_power(tariff.wall(devices + bill["idle_w"], bill), 1.0, 0.0, site.pue)


def power_columns(
    estimates: Loaded, tariff: Tariff, bill: Mapping[str, Array], site: Site, utilisation: float = 1.0
) -> dict[str, Array]:
    """Return the power of one device and of the site, and the energy, energy price and carbon per output token.

    All but the power of one device are those of `site_watts`. Power and joules are those at the load of the estimate;
    energy price, carbon and `mean_power_w` are means over all hours: in those without load the devices wait for
    requests (`ready_w`) and the hosts draw what they draw beside such devices.

    tariff, bill: the nodes of the whole deployment, as `Tariff.bill` has them. site: its PUE, and the price and carbon
    of a kWh. utilisation: share of the hours with load.
    """
    power = site_watts(estimates.power * estimates.devices, tariff, bill, site)
    mean = mixed_power(power, site_watts(bill["ready_w"], tariff, bill, site), utilisation)
    kwh = kwh_per_million_tokens(energy_per_token(mean, estimates.output_rate * utilisation))
    return {
        "power_w_per_device": estimates.power,
        "power_w": power,
        "mean_power_w": mean,
        "site_energy_j_per_output_token": energy_per_token(power, estimates.output_rate),
        "energy_usd_per_million_tokens": energy_usd(kwh, site.usd_per_kwh),
        "gco2_per_million_tokens": carbon_g(kwh, site.gco2_per_kwh),
    }


def rated_columns(bill: Mapping[str, Array], site: Site) -> dict[str, Array]:
    """Return the rated power of the site and the part of the hosts, in kW: what power has to be provisioned for.

    The rated power is that of all devices, idle ones of whole nodes too, at their power limits, and of the hosts that
    are counted at their most, at the meter of the site. The part of the hosts is NaN where none is counted, because
    devices are offered without their node. bill: (N,) `rated_w` and `host_w` of the whole deployment. site: for its
    PUE.
    """
    hosts = np.where(bill["host_w"] > 0, bill["host_w"], np.nan)
    return {
        "rated_power_kw": site_power(bill["rated_w"], 1.0, bill["host_w"], site.pue) / WATTS_PER_KW,
        "host_power_kw": hosts * site.pue / WATTS_PER_KW,
    }


def node_watts(bill: Mapping[str, Array]) -> Array:
    """Return the watts that one node is rated for, mean over the nodes of a plan, (N,): devices at their limits, host.

    NaN for devices that are rented singly. bill: (N,) as `Tariff.bill` has it.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        each = (bill["rated_w"] + bill["host_w"]) / bill["nodes"]
    return np.where(bill["host_w"] > 0, each, np.nan)


def rack_columns(bill: Mapping[str, Array], limits: Limits) -> dict[str, Array]:
    """Return the nodes that a rack holds and the racks of a plan, (N,) each; {} where racks are not limited.

    Both are NaN for devices that are rented singly, and where a node is more than a rack allows.
    """
    if not np.isfinite(limits.rack):
        return {}
    held = np.floor(limits.rack / node_watts(bill) * (1.0 + ROUNDING))
    held = np.where(held >= 1, held, np.nan)
    return {"nodes_per_rack": held, "racks": np.ceil(bill["nodes"] / held)}


def slo_columns(estimates: Estimates, slo: Slo, confidence: float) -> dict[str, Array]:
    """Return the columns that compare each candidate with the SLO.

    They are each latency that the SLO bounds (ms); slo_chance, the chance that all bounds hold together; slo_ratio, the
    worst ratio of a latency to what `confidence` (least probability that a bound holds) allows, at most 1 where the SLO
    is kept; and worst_slo_bound, the position of that bound among the objectives.
    """
    ratio, which = slo_ratio(estimates, slo, confidence)
    return {
        **{o.key: overall(estimates, o.metric, o.statistic) * MS_PER_S for o in slo.objectives},
        "slo_chance": joint_chance(estimates, slo),
        "slo_ratio": ratio,
        "worst_slo_bound": which.astype(float),
    }


def basis_columns(estimates: Estimates) -> dict[str, Array]:
    """Return how far the estimates can be trusted, and whether the memory suffices (`fits`, 1 or 0).

    basis: the basis of the estimate as a code.
    """
    return {"basis": estimates.basis.astype(float), "fits": estimates.fits.astype(float)}


def memory_over(c: Mapping[str, Array]) -> Array:
    """Return the memory that the fullest device of each candidate takes over what is usable, (N,). c: columns."""
    used = c["memory_gb_per_device"]
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(used / (used + c["memory_free_gb_per_device"]))
