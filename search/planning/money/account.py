"""Keep the account of deployments: what an hour, a month, a request and a token of each kind cost and emit."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from perfmodel import Estimates, Workload
from perfmodel.arrays import Array, Index
from perfmodel.money import HOURS_PER_MONTH, HOURS_PER_YEAR, Ownership, per_request, request_at_api, split, time_share
from perfmodel.power import carbon_g, energy_kwh, energy_usd, site_power
from perfmodel.unit_factors import GRAMS_PER_KG
from perfmodel.workload import Load
from search.planning.money.prices import Tariff
from search.scenario import Money, Site


def hourly_usd(bill: Mapping[str, Array], mean_watts: Array, site: Site, terms: Ownership) -> Array:
    """Return USD per hour of deployments, (N,): rent, or what owning costs with electricity and staff.

    Electricity is part of every rent. Where only a part of the devices is owned, so is that part of the power.

    bill: (N,) `usd_per_hour`, `devices_billed`, `devices_owned` of the whole deployment. mean_watts: (N,) at the meter.
    """
    owned = np.asarray(bill["devices_owned"], dtype=float)
    if not owned.any():
        return np.asarray(bill["usd_per_hour"])
    power = energy_usd(energy_kwh(mean_watts, 1.0), site.usd_per_kwh) * owned / bill["devices_billed"]
    return np.asarray(bill["usd_per_hour"] + np.where(owned > 0, power + terms.staff_usd_per_hour, 0.0))


def dearest(tariff: Tariff, site: Site, pool: tuple[Index, Array, Array], *, staff: bool = True) -> Array:
    """Return the most USD per hour that (device, size, replicas) may cost, (N,): owned devices at their power limits.

    It is no less than the price at the load, so that a budget that is filled holds: hosts count at their most, or with
    the losses of worse power supplies, whichever is more. staff: whether staff counts.
    """
    bill, terms = tariff.bill(pool), tariff.money.ownership
    terms = terms if staff else replace(terms, staff_usd_per_month=0.0)
    most = np.maximum(bill["rated_w"] + bill["host_w"], tariff.wall(bill["rated_w"], bill))
    return hourly_usd(bill, site_power(most, 1.0, 0.0, site.pue), site, terms)


@dataclass(frozen=True)
class Shares:
    """Say who pays for a request, (N,) each: the share of prefill, and of it the part of cached tokens."""

    prefill: Array
    cached_part: Array


def without_cached(load: Load) -> Load:
    """Return the load whose prompts consist of the tokens alone that the prefix cache does not serve."""
    return replace(load, input=load.new, hit=np.zeros_like(load.hit))


def mean_tokens(work: Workload) -> tuple[float, float, float]:
    """Return the tokens of a mean request: input tokens that are computed, cached ones, output tokens."""
    new = float(np.sum(np.maximum(work.input_tokens * (1.0 - work.prefix_hit), 1.0) * work.share))
    return new, max(work.mean_input - new, 0.0), work.mean_output


def shares_of(found: Estimates, alone: Estimates, work: Workload, of_prefill_pool: Array | None = None) -> Shares:
    """Return who pays for the requests of deployments.

    found, alone: estimates of the workload, and of the same without its cached tokens (`without_cached`).
    of_prefill_pool: (N,) share of the money that goes to a pool of prefill workers; None where there is none.
    """
    new, cached, output = mean_tokens(work)
    with np.errstate(divide="ignore", invalid="ignore"):
        seconds, without = new / found.rates.prompts, new / alone.rates.prompts
        share = time_share(seconds, output / found.rates.decode)
        part = np.clip(1.0 - without / seconds, 0.0, 1.0) if cached > 0 else np.zeros(len(found))
    return Shares(prefill=share if of_prefill_pool is None else of_prefill_pool, cached_part=part)


def account_columns(
    found: Estimates, columns: Mapping[str, Array], shares: Shares, work: Workload, site: Site, money: Money
) -> dict[str, Array]:
    """Return what a request, a month and a million tokens of each kind cost and emit, (N,) each.

    columns: (N,) `usd_per_hour`, `mean_power_w` and `devices_billed` of the whole deployment.
    """
    usd = per_request(columns["usd_per_hour"], found.request_rate, money.utilisation)
    by_kind = split(usd, shares.prefill, shares.cached_part, mean_tokens(work))
    hourly_g = carbon_g(energy_kwh(columns["mean_power_w"], 1.0), site.gco2_per_kwh)
    made_g = site.embodied_kg * GRAMS_PER_KG * columns["devices_billed"]
    made_g = made_g / (money.ownership.life_years * HOURS_PER_YEAR)
    return {
        "input_usd_per_million": by_kind.input,
        "cached_usd_per_million": by_kind.cached,
        "output_usd_per_million": by_kind.output,
        "usd_per_request": usd,
        "usd_per_month": np.asarray(columns["usd_per_hour"] * HOURS_PER_MONTH),
        "api_usd_per_request": np.full(len(found), api_usd(work, money)),
        "gco2_per_request": per_request(hourly_g, found.request_rate, money.utilisation),
        "co2_kg_per_month": np.asarray(hourly_g * HOURS_PER_MONTH / GRAMS_PER_KG),
        "embodied_gco2_per_request": per_request(made_g, found.request_rate, money.utilisation),
    }


def api_usd(work: Workload, money: Money) -> float:
    """Return USD of a mean request at the prices of the API; NaN where one that counts is not given."""
    return request_at_api(mean_tokens(work), money.api)
