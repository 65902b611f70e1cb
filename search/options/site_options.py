"""Options of `estimate` for prices, and for the site that the deployment runs at."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from math import isfinite, nan
from typing import TYPE_CHECKING, Annotated, ClassVar

import typer

from hwdb import InputError
from search.options.money_options import MoneyOptions
from search.options.words import NAME

if TYPE_CHECKING:
    from hwdb import Hwdb
    from search.scenario import Site

#: Kinds of price, as `prices` in a scenario names them.
PRICE_KINDS = ("on_demand", "reserved", "reserved_1y", "reserved_3y", "spot", "cheapest")
MAX_PUE = 5.0
#: Heading of these options in the help, whatever the group that they are part of.
SECTION = "Price and site"
_option = partial(typer.Option, rich_help_panel=SECTION)


@dataclass(frozen=True)
class SiteOptions(MoneyOptions):
    """Prices, the site, and what is owned."""

    section: ClassVar[str] = SECTION

    usd_per_hour: Annotated[
        list[str] | None,
        _option(metavar="USD", help="Your price of one device, or DEVICE=USD for one of two; repeatable."),
    ] = None
    prices: Annotated[
        str,
        _option(metavar="KIND", help="Kind of price: on_demand, reserved, reserved_1y, reserved_3y, spot, cheapest."),
    ] = "on_demand"
    node: Annotated[
        list[str] | None,
        _option(metavar=NAME, help="Node that holds the devices: whole nodes are paid, and hosts count."),
    ] = None
    pue: Annotated[float, _option(metavar="PUE", help="Power usage effectiveness of the site, 1 or more.")] = 1.0
    psu: Annotated[
        str,
        _option(
            metavar="LEVEL", help="80 PLUS level of the power supplies of --node (titanium): bronze, ..., platinum."
        ),
    ] = ""
    usd_per_kwh: Annotated[float | None, _option(metavar="USD", help="Price of electricity.")] = None
    gco2_per_kwh: Annotated[float | None, _option(metavar="G", help="Carbon intensity, grams of CO2e.")] = None
    electricity_grid: Annotated[
        str,
        _option(metavar=NAME, help="Grid whose carbon intensity counts (`hw list --grids`), or a region of a file."),
    ] = ""
    gco2_by_hour: Annotated[
        str, _option(metavar="FILE", help="CSV of carbon intensity by hour: hour,gco2_per_kwh[,region].")
    ] = ""
    embodied_kg_per_device: Annotated[
        float | None, _option(metavar="KG", help="CO2e of making one device, spread over --life-years.")
    ] = None

    def nodes(self, devices: Sequence[str], hwdb: Hwdb) -> tuple[str, ...]:
        """Return the names of the nodes that hold the devices; () where devices are rented one by one.

        devices: names of those in use. Raises `InputError` for a node that holds none of them.
        """
        for name in self.node or ():
            held = hwdb.node(name).device
            if held not in devices:
                in_use = " and ".join(devices)
                own = [node.name for one in devices for node in hwdb.nodes(one)]
                known = f"nodes with {in_use}: {', '.join(own)}" if own else f"no node with {in_use} is known"
                raise InputError(f"--node {name} holds {held}, and {in_use} is in use; {known} (hw list --nodes)")
        return tuple(self.node or ())

    def own_prices(self, devices: Sequence[str], hwdb: Hwdb) -> dict[str, float]:
        """Return the user's own prices in USD per hour of one device, by name of device.

        devices: names of those in use. hwdb: knows their other spellings. Raises `InputError` for what is no price, and
        for a device that is not in use.
        """
        if self.prices not in PRICE_KINDS:
            raise InputError(f"--prices {self.prices!r} is no kind of price; choose one of {', '.join(PRICE_KINDS)}")
        own: dict[str, float] = {}
        for text in self.usd_per_hour or ():
            written, _, amount = text.rpartition("=")
            name = _known_as(hwdb, written)
            if name and name not in devices:
                raise InputError(f"--usd-per-hour {text}: {name!r} is not in use; name one of {', '.join(devices)}")
            try:
                price = float(amount)
            except ValueError:
                price = -1.0
            if not (isfinite(price) and price >= 0.0):
                raise InputError(f"--usd-per-hour {text}: {amount!r} is no price; give USD per hour of one device")
            own |= dict.fromkeys([name] if name else devices, price)
        return own

    def site(self) -> Site:
        """Return the site: its overhead and its electricity. Raises `InputError` for an impossible overhead."""
        from perfmodel.power import check_supply
        from search.scenario import Site, carbon_of

        if not 1.0 <= self.pue <= MAX_PUE:
            raise InputError(f"--pue {self.pue:g} is impossible; give 1 (no overhead) to {MAX_PUE:g}")
        check_supply(self.psu)
        if self.psu and not self.node:
            raise InputError(f"--psu {self.psu}: hosts count only where a node holds the devices; give --node as well")
        given = {
            "usd_per_kwh": self.usd_per_kwh,
            "gco2_per_kwh": self.gco2_per_kwh,
            "embodied_kg_per_device": self.embodied_kg_per_device,
        }
        for name, value in given.items():
            if value is not None and not (isfinite(value) and value >= 0.0):
                raise InputError(f"--{name.replace('_', '-')} {value:g} is impossible; give 0 or more")
        usd, stated, made = (nan if value is None else value for value in given.values())
        mean, hours, words = carbon_of(stated, self.electricity_grid, self.gco2_by_hour)
        return Site(
            pue=self.pue,
            usd_per_kwh=usd,
            gco2_per_kwh=mean,
            gco2_hours=hours,
            carbon=words,
            embodied_kg=made,
            psu=self.psu,
        )


def _known_as(hwdb: Hwdb, device: str) -> str:
    """Return the name of the device that another spelling means; the spelling itself where it means none."""
    try:
        return hwdb.device(device).name if device else ""
    except InputError:
        return device
