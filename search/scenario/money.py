"""Read the `[money]` table of a scenario: what owned devices cost, how much of a plan is used, what an API charges."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields

from hwdb import Hwdb, InputError
from hwdb.tomlfile import Table
from perfmodel.money import Ownership
from search.scenario.workload import relay

#: Key that holds the prices of devices that are bought.
BOUGHT = "own_usd_per_device"
#: Prices of an API, in the order of `Money.api`.
API_KEYS = ("api_usd_per_million_input", "api_usd_per_million_cached", "api_usd_per_million_output")
#: Keys of `Ownership` that are shares, and those that are USD or counts.
SHARES = ("residual", "interest", "upkeep")
#: Keys that make a price of space together.
RACK = ("hosting_usd_per_rack_unit_month", "rack_units_per_device")
#: Most years that a device may live. Chosen: more is taken for a typing error.
MAX_LIFE_YEARS = 30.0
#: Where the price of electricity is given; only some commands have a flag for it.
POWER_PRICE = "[site] usd_per_kwh (or --usd-per-kwh, where the command has it)"


@dataclass(frozen=True)
class Money:
    """Say what of the hardware is owned, and what it is compared with.

    bought: USD of one device by name, its part of server and network included; a device that is absent is rented.
    ownership: what owned devices cost besides. utilisation: mean load over the load that a plan is sized for; hours are
    paid whether they are used or not. api: USD per million input, cached and output tokens that an API charges, NaN
    unknown.
    """

    bought: Mapping[str, float] = field(default_factory=dict)
    ownership: Ownership = field(default_factory=Ownership)
    utilisation: float = 1.0
    api: tuple[float, float, float] = (math.nan, math.nan, math.nan)


def read_money(table: Table, database: Hwdb, devices: tuple[str, ...]) -> Money:
    """Read the `[money]` table. devices: on offer; a price that is one number is that of each of them."""
    default = Ownership()
    share = {name: table.number(name, getattr(default, name), least=0, most=1) for name in SHARES}
    life = table.number("life_years", default.life_years, above=0, most=MAX_LIFE_YEARS)
    amounts = [f.name for f in fields(Ownership) if f.name not in (*SHARES, "life_years")]
    rest = {name: table.number(name, getattr(default, name), least=0) for name in amounts}
    used = table.number("utilisation", Money.utilisation, above=0, most=1)
    api = [table.number(key, math.nan, least=0) for key in API_KEYS]
    money = Money(
        bought=_bought(table, database, devices),
        ownership=Ownership(life_years=life, **share, **rest),
        utilisation=used,
        api=(api[0], api[1], api[2]),
    )
    stray = [f.name for f in fields(Ownership) if f.name in table and f.name != "life_years"]
    if stray and not money.bought:
        raise table.error(stray[0], f"is for devices that are owned; add {BOUGHT}")
    half = [key for key in RACK if key in table]
    if len(half) == 1:
        raise table.error(half[0], f"space has a price only with both of {' and '.join(RACK)}")
    table.done()
    return money


def _bought(table: Table, database: Hwdb, devices: tuple[str, ...]) -> dict[str, float]:
    """Read what devices cost that are bought: a table by device, or one number for all that are on offer."""
    if BOUGHT not in table:
        table.get(BOUGHT, None)
        return {}
    if not isinstance(table.get(BOUGHT), Mapping):
        return dict.fromkeys(devices, table.number(BOUGHT, above=0))
    inner, found = table.table(BOUGHT), {}
    for name in inner.keys():  # noqa: SIM118 - a Table is no mapping
        device = relay(inner, name, database.device, name).name
        if device in found:
            raise inner.error(name, f"{device} is given twice, in two spellings; give it once")
        found[device] = inner.number(name, above=0)
    return found


def refuse_free_power(place: str, money: Money, usd_per_kwh: float, way_out: str = POWER_PRICE) -> None:
    """Raise `InputError` where devices are owned and the price of their electricity is not known.

    place: what the message names first. way_out: where the price is given.
    """
    if money.bought and math.isnan(usd_per_kwh):
        raise InputError(
            f"{place}: owned devices ({', '.join(money.bought)}) take electricity; give {way_out}, 0 where the hosting "
            "includes it"
        )
