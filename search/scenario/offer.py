"""Read the `[hardware]` table of a scenario: which devices and nodes are on offer, at which price, how many of each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from hwdb import Hwdb, InputError, load
from hwdb.tomlfile import Table
from search.scenario.workload import relay

#: Kinds of price; `cheapest` is the lowest of all kinds.
PRICES = ("on_demand", "reserved", "reserved_1y", "reserved_3y", "spot", "cheapest")


@dataclass(frozen=True)
class Offer:
    """Hardware on offer.

    devices, nodes: names in the hardware database. stock: devices on hand by name; a device that is absent has no
    limit. prices: the kind of price that counts. usd_per_hour: the user's own price of one device by name, which
    overrides the database. folders: further folders of the hardware database. readings: what other spellings of the
    names of devices and nodes were taken for, by the device that was taken.
    """

    devices: tuple[str, ...]
    nodes: tuple[str, ...] = ()
    stock: Mapping[str, float] = field(default_factory=dict)
    prices: str = "on_demand"
    usd_per_hour: Mapping[str, float] = field(default_factory=dict)
    folders: tuple[str, ...] = ()
    readings: Mapping[str, str] = field(default_factory=dict)


def read_offer(top: Table, folder: Path, more_folders: tuple[str, ...] = ()) -> Offer:
    """Read the `[hardware]` table of the scenario `top`; folders that it names are relative to `folder`.

    The devices of the nodes on offer join the devices. more_folders: further folders of the hardware database.
    """
    table = top.table("hardware", {})
    folders = (*(str(folder / f) for f in table.texts("folders", ())), *more_folders)
    database: Hwdb = relay(table, "folders", load, folders)
    written = table.texts("nodes", ())
    nodes = [relay(table, "nodes", database.node, name) for name in written]
    named = [relay(table, "devices", database.device, name) for name in table.texts("devices", ())]
    devices = tuple(dict.fromkeys([*(d.name for d in named), *(n.device for n in nodes)]))
    taken = [(d.name, d.reading) for d in named if d.reading]
    taken += [
        (node.device, f"{name}: {node.count} x {node.device}")
        for node, name in zip(nodes, written, strict=True)
        if name not in database.node_names()
    ]
    readings = {device: "; ".join(text for d, text in taken if d == device) for device, _ in taken}
    others = _devices_of_fleet_options(top)
    offer = Offer(
        devices=devices,
        nodes=tuple(n.name for n in nodes),
        stock=by_device(table, "stock", database, others),
        prices=table.text("prices", Offer.prices, choices=PRICES),
        usd_per_hour=by_device(table, "usd_per_hour", database, others, shared=True),
        folders=folders,
        readings=readings,
    )
    table.done()
    if "hardware" in top and not devices and "fleet" not in top:
        raise table.error("", 'nothing is on offer; give devices = ["h100-sxm"] or nodes')
    return offer


def _devices_of_fleet_options(top: Table) -> list[str]:
    """List the devices that the options of the fleet name.

    Stock and prices may name them without the database knowing them.
    """
    fleet = top.values.get("fleet")
    options = fleet.get("option", []) if isinstance(fleet, dict) else []
    return [str(o.get("device", "")) for o in options if isinstance(o, dict)] if isinstance(options, list) else []


def by_device(table: Table, key: str, database: Hwdb, others: list[str], *, shared: bool = False) -> dict[str, float]:
    """Read the inner table `key`: a number of at least 0 per device; empty where the key is absent.

    A number of a node or a type of cloud instance is one of its devices: as many times as it has devices, or shared by
    them (shared: the price of an instance). others: names that may be given without being in the database.
    """
    if key not in table:
        table.get(key, None)
        return {}
    inner = table.table(key)
    values = {}
    for name in inner.keys():  # noqa: SIM118 - a Table is no mapping
        device = device_called(name, database) if name in others else relay(inner, name, database.device, name).name
        if device in values:
            raise inner.error(name, f"{device} is given twice, in two spellings; give it once")
        each = 1 if name in database.names() else (database.machine(name) or (device, 1))[1]
        values[device] = inner.number(name, least=0) * (1 / each if shared else each)
    return values


def device_called(written: str, database: Hwdb) -> str:
    """Return the name of the device that is written in any spelling, or what is written where it means no one device.

    Options with stated throughputs may stand on devices that the database lacks. Their stock, supplies and spare nodes
    are found by this name, so that all of them may spell it in their own way.
    """
    try:
        return database.device(written).name
    except InputError:
        return written
