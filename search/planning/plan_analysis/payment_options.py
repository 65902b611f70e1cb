"""Compare the ways to pay for one candidate of a plan: rent by kind of price, own, or an API by the token instead.

Every way serves the same requests: those of the plan's load for the share `utilisation` of the hours. Hardware is paid
for in all hours; an API is paid per request. Where they cost the same is solved, not searched:

- against the API: fixed + u used = u 3600 rate usd_per_request, for the utilisation u;
- rent that ends with the load (on demand, spot, stopped when idle) against owning: u rent = own(u);
- rent in all hours against owning: the months after which the savings have paid the capital back.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, TypedDict, cast

import numpy as np

from hwdb import PRICE_KINDS
from perfmodel import Estimates
from perfmodel.arrays import NAN, Array, Index
from perfmodel.money import (
    HOURS_PER_MONTH,
    HOURS_PER_YEAR,
    capital_per_year,
    least_utilisation,
    months_to_pay_back,
    per_request,
    split,
)
from perfmodel.unit_factors import SECONDS_PER_HOUR
from search.planning.evaluation.columns import power_columns
from search.planning.money.account import api_usd, hourly_usd, mean_tokens
from search.planning.money.prices import Tariff, tariff
from search.planning.plan_table.cost_range import shares_at

if TYPE_CHECKING:
    from search.planning.plan_making.ranked_plan import Plan
    from search.scenario import Money

#: Kinds of rent that end when the load ends.
BY_THE_HOUR = ("on_demand", "spot")
#: Utilisation that stands for none.
IDLE = 1e-12
#: How the two ways besides rent are called.
OWN, API = "own", "API"


class PaymentRow(TypedDict, total=False):
    """One way to pay as a flat row, in the order of the columns; NaN where a column does not apply.

    way: its name. usd_per_hour, usd_per_month, usd_per_request, and USD per million input, cached and output tokens: at
    the utilisation of the plan. api_break_even_utilisation: least utilisation at which the way costs less than the API
    (inf: never, above 1: beyond what the candidate serves); api_break_even_rps: the mean request rate there.
    own_break_even_utilisation: that from which owning costs less than this rent stopped when idle.
    own_pay_back_months: after which owning has paid itself back against this rent in all hours. price: its source.
    """

    way: str
    usd_per_hour: float
    usd_per_month: float
    usd_per_request: float
    input_usd_per_million: float
    cached_usd_per_million: float
    output_usd_per_million: float
    api_break_even_utilisation: float
    api_break_even_rps: float
    own_break_even_utilisation: float
    own_pay_back_months: float
    price: str


@dataclass(frozen=True)
class Way:
    """One way to pay. idle, full: USD per hour of a deployment without load, and with the load of the plan."""

    name: str
    idle: float
    full: float
    price: str

    def usd_per_hour(self, utilisation: float) -> float:
        """Return USD per hour where the load is there for a share of the hours."""
        return self.idle + utilisation * (self.full - self.idle)


@dataclass(frozen=True)
class Deployed:
    """A candidate of a plan: its estimates, and (device type, devices per replica, replicas) of each pool."""

    found: Estimates
    pools: tuple[tuple[Index, Array, Array], ...]
    devices: tuple[str, ...]

    @property
    def rate(self) -> float:
        """Return the requests/s that it serves at the load of the plan."""
        return float(self.found.request_rate[0])


def ways_to_pay(plan: Plan, number: int) -> list[PaymentRow]:
    """Return one flat row per way to pay for candidate `number`, the cheapest first; every row has all columns."""
    money, one = plan.scenario.money, _deployed(plan, number)
    ways = list(_ways(plan, one))
    own = next((way for way in ways if way.name == OWN), None)
    work, api = plan.scorer.target.workload, api_usd(plan.scorer.target.workload, plan.scenario.money)
    shares = shares_at(plan, [number], one.found)
    rows: list[PaymentRow] = []
    for way in ways:
        usd = per_request(way.usd_per_hour(money.utilisation), one.found.request_rate, money.utilisation)
        tokens = split(usd, shares.prefill, shares.cached_part, mean_tokens(work))
        kinds = (float(tokens.input[0]), float(tokens.cached[0]), float(tokens.output[0]))
        even = least_utilisation(way.idle, way.full - way.idle, one.rate, api)
        rows.append(
            {
                **_row(way.name, way.usd_per_hour(money.utilisation), float(usd[0]), kinds),
                "api_break_even_utilisation": even,
                "api_break_even_rps": even * one.rate,
                **_against_own(way, own, plan, one),
                "price": way.price,
            }
        )
    if api == api:
        hourly = api * SECONDS_PER_HOUR * one.rate * money.utilisation
        rows.append({**_row(API, hourly, api, money.api), "price": "given by the user"})
    return sorted(map(_completed, rows), key=lambda row: row["usd_per_hour"])


def _completed(row: PaymentRow) -> PaymentRow:
    """Return the row with all columns, in their order; NaN for those that it lacks."""
    return cast(PaymentRow, {**dict.fromkeys(PaymentRow.__annotations__, NAN), **row})


def _row(way: str, hourly: float, usd_per_request: float, by_kind: tuple[float, float, float]) -> PaymentRow:
    """Return the columns that every way has."""
    return {
        "way": way,
        "usd_per_hour": hourly,
        "usd_per_month": hourly * HOURS_PER_MONTH,
        "usd_per_request": usd_per_request,
        "input_usd_per_million": by_kind[0],
        "cached_usd_per_million": by_kind[1],
        "output_usd_per_million": by_kind[2],
    }


def _deployed(plan: Plan, number: int) -> Deployed:
    """Return what candidate `number` consists of."""
    pools = tuple((p.device, p.devices_per_replica, p.replicas) for p in plan.pools(number))
    return Deployed(plan.estimates(number), pools, plan.device_names(number))


def _ways(plan: Plan, one: Deployed) -> Iterator[Way]:
    """Yield the ways to pay whose prices are known: rent at the user's price or by kind, and own."""
    scenario = plan.scenario
    stated = {name: usd for name, usd in scenario.offer.usd_per_hour.items() if name in one.devices}
    rented = replace(scenario.money, bought={})
    if len(stated) == len(one.devices):
        yield _way("rent", _tariff(plan, "on_demand", rented, stated), plan, one)
    database = scenario.hardware()
    for kind in PRICE_KINDS:
        if all(any(p.kind == kind for p in database.prices(name)) for name in one.devices):
            yield _way(f"rent {kind.replace('_', ' ')}", _tariff(plan, kind, rented, {}), plan, one)
    if all(name in scenario.money.bought for name in one.devices):
        yield _way(OWN, _tariff(plan, "on_demand", scenario.money, {}), plan, one)


def _tariff(plan: Plan, kind: str, money: Money, stated: Mapping[str, float]) -> Tariff:
    """Look up the devices of the plan at prices of one kind."""
    offer = plan.scenario.offer
    names = tuple(d.name for d in plan.scorer.tariff.devices)
    supply = plan.scenario.site.psu
    return tariff(plan.scenario.hardware(), names, offer.nodes, kind, stated, money=money, supply=supply)


def _way(name: str, prices: Tariff, plan: Plan, one: Deployed) -> Way:
    """Price the candidate at `prices`, without load and with the load of the plan."""
    bill, site, terms = (
        prices.bill(*one.pools, caps=(NAN,) * len(one.pools)),
        plan.scenario.site,
        prices.money.ownership,
    )
    power = power_columns(one.found, prices, bill, site)
    ready = power_columns(one.found, prices, bill, site, utilisation=IDLE)["mean_power_w"]
    told = dict.fromkeys(prices.price[i] for i, d in enumerate(prices.devices) if d.name in one.devices)
    return Way(
        name=name,
        idle=float(hourly_usd(bill, ready, site, terms)[0]),
        full=float(hourly_usd(bill, power["power_w"], site, terms)[0]),
        price="; ".join(told),
    )


def _against_own(way: Way, own: Way | None, plan: Plan, one: Deployed) -> PaymentRow:
    """Return where owning costs what a rent costs: the utilisation, and the months in which it pays itself back."""
    if own is None or way.name == OWN:
        return {}
    utilisation = plan.scenario.money.utilisation
    used = way.full - (own.full - own.idle)
    capital, annuity = _capital(plan, one)
    saved = way.usd_per_hour(utilisation) - (own.usd_per_hour(utilisation) - annuity)
    by_the_hour = way.name == "rent" or way.name.removeprefix("rent ").replace(" ", "_") in BY_THE_HOUR
    return {
        "own_break_even_utilisation": (own.idle / used if used > 0 else np.inf) if by_the_hour else NAN,
        "own_pay_back_months": months_to_pay_back(capital, saved * HOURS_PER_MONTH),
    }


def _capital(plan: Plan, one: Deployed) -> tuple[float, float]:
    """Return (USD that the devices of a candidate cost to buy, USD per hour that repay them over their life)."""
    money, prices = plan.scenario.money, plan.scorer.tariff
    terms, capital, annuity = money.ownership, 0.0, 0.0
    for pool in one.pools:
        usd, count = money.bought[prices.devices[int(pool[0][0])].name], float(prices.billed(*pool)[0])
        capital += usd * count
        annuity += capital_per_year(usd, terms.life_years, terms.residual, terms.interest) / HOURS_PER_YEAR * count
    return capital, annuity
