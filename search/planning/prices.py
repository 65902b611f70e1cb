"""What devices cost and how they come: prices, nodes and hosts of the hardware on offer, as columns by device."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hwdb import Device, Hwdb, Price

Array = NDArray[np.float64]
Index = NDArray[np.intp]


@dataclass(frozen=True)
class Tariff:
    """The devices on offer and what each costs; all arrays (D,).

    usd_per_hour: of one device, NaN unknown. price: where that comes from, in words. date: of the price ("" own).
    per_node: devices of a node. whole: rented by the node. host_power: W of a node besides its devices, NaN unknown.
    """

    devices: tuple[Device, ...]
    usd_per_hour: Array
    price: tuple[str, ...]
    date: tuple[str, ...]
    per_node: Array
    whole: NDArray[np.bool_]
    host_power: Array

    def nodes(self, device: Index, size: Array, replicas: Array) -> Array:
        """Nodes that hold `replicas` of `size` devices each; small replicas share a node, large ones take several."""
        per_node = self.per_node[device]
        on_one = np.maximum(np.floor(per_node / size), 1.0)
        return np.where(size <= per_node, np.ceil(replicas / on_one), replicas * np.ceil(size / per_node))

    def failing(self, device: Index, size: Array) -> Array:
        """Replicas of `size` devices that one failing node takes along: all it holds, where they come as nodes.

        Devices rented one by one are taken to lie on nodes of their own.
        """
        on_one = np.maximum(np.floor(self.per_node[device] / size), 1.0)
        return np.where(self.whole[device], on_one, 1.0)

    def billed(self, device: Index, size: Array, replicas: Array) -> Array:
        """Devices paid for: whole nodes where they come as nodes, else those in use."""
        nodes = self.nodes(device, size, replicas)
        return np.where(self.whole[device], nodes * self.per_node[device], size * replicas)

    def hourly(self, device: Index, size: Array, replicas: Array) -> Array:
        """USD an hour of the devices billed."""
        return self.billed(device, size, replicas) * self.usd_per_hour[device]


def tariff(hwdb: Hwdb, devices: tuple[str, ...], nodes: tuple[str, ...], kind: str, own: Mapping[str, float]) -> Tariff:
    """Prices and nodes of `devices`. kind: of price that counts, or `cheapest`; own: prices of a device, which win.

    Where no price of `kind` is known, the cheapest of another kind stands in, and `price` says so. The first node of
    `nodes` that holds a device decides how it comes; without one, devices are paid one by one.
    """
    found = tuple(hwdb.device(d) for d in devices)
    held = {node.device: node for node in reversed([hwdb.node(n) for n in nodes])}
    rates = [_rate(name, hwdb, kind, own) for name in devices]
    return Tariff(
        devices=found,
        usd_per_hour=np.array([r[0] for r in rates]),
        price=tuple(r[1] for r in rates),
        date=tuple(r[2] for r in rates),
        per_node=np.array([float(held[d.name].count if d.name in held else max(d.link.peers, 1)) for d in found]),
        whole=np.array([d.name in held for d in found]),
        host_power=np.array([held[d.name].host_power if d.name in held else np.nan for d in found]),
    )


def _rate(device: str, hwdb: Hwdb, kind: str, own: Mapping[str, float]) -> tuple[float, str, str]:
    """(USD an hour of one device, where from, date)."""
    if device in own:
        return float(own[device]), "given in the scenario", ""
    offers = hwdb.prices(device)
    wanted = [p for p in offers if kind in ("cheapest", p.kind)]
    pool: list[Price] = wanted or offers
    if not pool:
        return float("nan"), "no price known", ""
    best = min(pool, key=lambda p: p.usd_per_hour)
    instead = "" if wanted else f", for want of {kind.replace('_', ' ')}"
    guessed = ", assumed" if best.assumed else ""
    words = (
        f"{best.kind.replace('_', ' ')}{instead}, {best.provider} {best.region}, {best.date}{guessed} ({best.source})"
    )
    return best.usd_per_hour, words, best.date
