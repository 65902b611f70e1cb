"""Read the `[hardware]` table of a scenario: which devices and nodes are on offer, at which price, how many of each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from hwdb import OWN_HARDWARE, Hwdb, UnknownName, load
from hwdb.tomlfile import Table
from search.scenario.workload import relay

#: Kinds of price; `cheapest` is the lowest of all kinds.
PRICES = ("on_demand", "reserved", "spot", "cheapest")


@dataclass(frozen=True)
class Offer:
    """Hardware on offer.

    devices, nodes: names in the hardware database. stock: devices on hand by name; a device that is absent has no
    limit. prices: the kind of price that counts. usd_per_hour: the user's own price of one device by name, which
    overrides the database. folders: further folders of the hardware database.
    """

    devices: tuple[str, ...]
    nodes: tuple[str, ...] = ()
    stock: Mapping[str, float] = field(default_factory=dict)
    prices: str = "on_demand"
    usd_per_hour: Mapping[str, float] = field(default_factory=dict)
    folders: tuple[str, ...] = ()


def read_offer(top: Table, folder: Path, more_folders: tuple[str, ...] = ()) -> Offer:
    """Read the `[hardware]` table of the scenario `top`; folders that it names are relative to `folder`.

    The devices of the nodes on offer join the devices. more_folders: further folders of the hardware database.
    """
    table = top.table("hardware", {})
    folders = (*(str(folder / f) for f in table.texts("folders", ())), *more_folders)
    database: Hwdb = relay(table, "folders", load, folders)
    nodes = table.texts("nodes", ())
    of_nodes = [relay(table, "nodes", database.node, n).device for n in nodes]
    named = table.texts("devices", ())
    for name in named:
        if name not in database.names():
            raise table.error("devices", str(UnknownName("device", name, database.names(), OWN_HARDWARE)))
    devices = tuple(dict.fromkeys([*named, *of_nodes]))
    if "hardware" in top and not devices and "fleet" not in top:
        raise table.error("", 'nothing is on offer; give devices = ["h100-sxm"] or nodes')
    known = (*database.names(), *_devices_of_fleet_options(top))
    offer = Offer(
        devices=devices,
        nodes=nodes,
        stock=_by_device(table, "stock", known),
        prices=table.text("prices", Offer.prices, choices=PRICES),
        usd_per_hour=_by_device(table, "usd_per_hour", known),
        folders=folders,
    )
    table.done()
    return offer


def _devices_of_fleet_options(top: Table) -> list[str]:
    """List the devices that the options of the fleet name.

    Stock and prices may name them without the database knowing them.
    """
    fleet = top.values.get("fleet")
    options = fleet.get("option", []) if isinstance(fleet, dict) else []
    return [str(o.get("device", "")) for o in options if isinstance(o, dict)] if isinstance(options, list) else []


def _by_device(table: Table, key: str, known: tuple[str, ...]) -> dict[str, float]:
    """Read the inner table `key`: a number of at least 0 per device; empty where the key is absent."""
    if key not in table:
        table.get(key, None)
        return {}
    inner = table.table(key)
    values = {}
    for name in inner.keys():  # noqa: SIM118 - a Table is no mapping
        if name not in known:
            raise inner.error(name, str(UnknownName("device", name, known)))
        values[name] = inner.number(name, least=0)
    return values
