"""Options for money: what owned devices cost, how much of them is used, and what an API charges by the token."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import typer

from hwdb import InputError
from hwdb.tomlfile import Table

if TYPE_CHECKING:
    from hwdb import Hwdb
    from search.scenario import Money

#: Heading of these options in the help, whatever the group that they are part of.
SECTION = "Own, rent or API"
USD, SHARE, YEARS = "USD", "SHARE", "YEARS"
_option = partial(typer.Option, rich_help_panel=SECTION)


class Flags(Table):
    """The flags of a command as a table; messages name a flag in place of a key."""

    def place(self, key: str = "") -> str:
        """Return the flag whose value is in `key`."""
        return f"--{(self.path[0] if self.path else key)!s}".replace("_", "-")


@dataclass(frozen=True)
class MoneyOptions:
    """What is owned, how much of it is used, and what an API charges. None for what is not given."""

    section: ClassVar[str] = SECTION

    own_usd_per_device: Annotated[
        list[str] | None,
        _option(metavar=USD, help="Price of one device that you buy, server included; or DEVICE=USD; repeatable."),
    ] = None
    life_years: Annotated[float | None, _option(metavar=YEARS, help="Years that owned devices live (4).")] = None
    residual: Annotated[float | None, _option(metavar=SHARE, help="Share of the price that a sale brings (0).")] = None
    interest: Annotated[float | None, _option(metavar=SHARE, help="Interest per year on what is bought (0).")] = None
    upkeep: Annotated[float | None, _option(metavar=SHARE, help="Maintenance per year, of the price (0).")] = None
    hosting_usd_per_kw_month: Annotated[
        float | None, _option(metavar=USD, help="Hosting per kW of rated power and month (0).")
    ] = None
    hosting_usd_per_rack_unit_month: Annotated[
        float | None, _option(metavar=USD, help="Hosting per rack unit and month (0).")
    ] = None
    rack_units_per_device: Annotated[float | None, _option(metavar="U", help="Rack units of one device.")] = None
    staff_usd_per_month: Annotated[float | None, _option(metavar=USD, help="Staff of the whole deployment (0).")] = None
    utilisation: Annotated[
        float | None, _option(metavar=SHARE, help="Mean load over the planned load (1); all hours are paid.")
    ] = None
    api_usd_per_million_input: Annotated[
        float | None, _option(metavar=USD, help="What an API charges for input tokens.")
    ] = None
    api_usd_per_million_cached: Annotated[
        float | None, _option(metavar=USD, help="What it charges for cached input tokens.")
    ] = None
    api_usd_per_million_output: Annotated[
        float | None, _option(metavar=USD, help="What it charges for output tokens.")
    ] = None

    def given(self) -> dict[str, Any]:
        """Return the values of the options that are given, by the key of `[money]` of the same name."""
        names = [f.name for f in fields(MoneyOptions)]
        found = {name: getattr(self, name) for name in names if getattr(self, name) is not None}
        if self.own_usd_per_device:
            found["own_usd_per_device"] = _prices(self.own_usd_per_device)
        return {name: value for name, value in found.items() if value != []}

    def money(self, hwdb: Hwdb, devices: Sequence[str]) -> Money:
        """Return what the options say of money. devices: in use, for a price that names none."""
        from search.scenario import read_money

        return read_money(Flags(self.given(), ""), hwdb, tuple(devices))


def _prices(texts: Sequence[str]) -> float | dict[str, float]:
    """Read prices: one number for all devices, or a number by device."""
    found: dict[str, float] = {}
    for text in texts:
        name, _, amount = text.rpartition("=")
        try:
            found[name] = float(amount)
        except ValueError:
            raise InputError(f"--own-usd-per-device {text}: {amount!r} is no price; give USD of one device") from None
    if "" in found and len(found) > 1:
        raise InputError("--own-usd-per-device: one price for all and one by device exclude each other; name devices")
    return found.get("", found)
