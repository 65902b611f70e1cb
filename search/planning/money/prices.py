"""Look up prices, nodes and hosts of the devices on offer, by device type, and compute the cost of a token."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from hwdb import Device, Hwdb, Node, Price
from perfmodel.arrays import NAN, Array, Index, Mask
from perfmodel.hardware import hardware_of
from perfmodel.power import Host, host_of, host_watts, idle_power, per_million_tokens, ready_power, through_supplies
from search.scenario import Money

#: Written in a price file in place of one provider's name.
UNNAMED_PROVIDERS = ("", "various", "any")
#: Kind of a price by commitment; `reserved_1y` and the like say how long.
RESERVED = "reserved"
#: Where nothing is owned.
RENTED = Money()
#: First word of the source of a price where the device is owned.
OWNED = "owned"


@dataclass(frozen=True)
class Tariff:
    """The device types on offer and what each costs. Arrays are (D,), one value per device type.

    usd_per_hour: price of one device, NaN unknown; of an owned one without its electricity and without staff
    (`account.hourly_usd`). price: source of that price, in words. date: date of the price, ""
    for the user's own. per_node: devices of a node. node: name of the node that holds them, "" where devices are rented
    one by one. host_power: most watts that a node takes besides its devices, NaN unknown. host_loaded, host_idle: what
    it takes beside devices at their limits, and beside idle ones. supply: 80 PLUS level of its power supplies, "" for
    those that nodes usually have. money: what is owned, and how much of a plan is used.

    The methods take N candidates: `device` (N,) is a position among the types, `size` (N,) devices per replica, and
    `replicas` (N,) their number.
    """

    devices: tuple[Device, ...]
    usd_per_hour: Array
    price: tuple[str, ...]
    date: tuple[str, ...]
    per_node: Array
    node: tuple[str, ...]
    host_power: Array
    host_loaded: Array
    host_idle: Array
    supply: str = ""
    money: Money = field(default_factory=Money)

    @cached_property
    def owned(self) -> Mask:
        """Return (D,) booleans: True for devices that are bought, and so rented from nobody."""
        return np.array([p.startswith(OWNED) for p in self.price], dtype=bool)

    @cached_property
    def device_ready(self) -> Array:
        """Return the watts of one device whose server waits for requests, (D,); NaN unknown."""
        return ready_power(hardware_of(self.devices, np.arange(len(self.devices))))

    @cached_property
    def whole(self) -> Mask:
        """Return (D,) booleans: True where devices are rented by the whole node."""
        return np.array([bool(name) for name in self.node], dtype=bool)

    @cached_property
    def device_limit(self) -> Array:
        """Return the power limit of one device (TDP), (D,) watts; NaN unknown."""
        return np.array([d.tdp for d in self.devices], dtype=float)

    @cached_property
    def device_idle(self) -> Array:
        """Return the watts of one device that has nothing to do, (D,); NaN unknown."""
        return idle_power(hardware_of(self.devices, np.arange(len(self.devices))))

    def nodes(self, device: Index, size: Array, replicas: Array) -> Array:
        """Return the nodes that hold the replicas, (N,). Small replicas share a node; a large one takes several."""
        per_node = self.per_node[device]
        on_one_node = np.maximum(np.floor(per_node / size), 1.0)
        return np.where(size <= per_node, np.ceil(replicas / on_one_node), replicas * np.ceil(size / per_node))

    def nodes_per_replica(self, device: Index, size: Array) -> Array:
        """Return the nodes that a replica takes, (N,), a fraction where a node holds several whole replicas."""
        per_node = self.per_node[device]
        on_one_node = np.maximum(np.floor(per_node / size), 1.0)
        return np.where(size <= per_node, 1.0 / on_one_node, np.ceil(size / per_node))

    def failing(self, device: Index, size: Array) -> Array:
        """Return the replicas that go down with one node, (N,).

        They are all that the node holds where devices are rented by the node, else one. Assumed: devices rented one by
        one are on different nodes.
        """
        on_one_node = np.maximum(np.floor(self.per_node[device] / size), 1.0)
        return np.where(self.whole[device], on_one_node, 1.0)

    def billed(self, device: Index, size: Array, replicas: Array) -> Array:
        """Return the devices paid for, (N,): whole nodes where devices are rented by the node, else those in use."""
        nodes = self.nodes(device, size, replicas)
        return np.where(self.whole[device], nodes * self.per_node[device], size * replicas)

    def hourly(self, device: Index, size: Array, replicas: Array) -> Array:
        """Return USD per hour of the devices paid for, (N,)."""
        return self.billed(device, size, replicas) * self.usd_per_hour[device]

    def host_columns(self, device: Index, nodes: Array) -> dict[str, Array]:
        """Return the watts of the hosts of so many nodes, (N,): `host_w` at most, `host_loaded_w`, `host_idle_w`.

        They are 0 where hosts are unknown. `tdp_w`: the power limits of all devices of those nodes.
        """
        counted = np.where(np.isfinite(self.host_power[device]), nodes, 0.0)
        hosts = {"host_w": self.host_power, "host_loaded_w": self.host_loaded, "host_idle_w": self.host_idle}
        columns = {name: np.nan_to_num(watts[device]) * counted for name, watts in hosts.items()}
        return {**columns, "tdp_w": self.device_limit[device] * self.per_node[device] * counted}

    def wall(self, device_watts: Array, hosts: Mapping[str, Array]) -> Array:
        """Return the watts at the wall of nodes whose devices draw `device_watts` together, (N,).

        hosts: their `host_columns`, or sums of them.
        """
        beside = host_watts(device_watts, hosts["tdp_w"], hosts["host_loaded_w"], hosts["host_idle_w"])
        drawn = np.asarray(device_watts + beside)
        most = hosts["tdp_w"] + hosts["host_w"]
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.where(most > 0, through_supplies(drawn, most, self.supply), drawn)

    def idle_watts(self, device: Index, size: Array, replicas: Array) -> Array:
        """Return the watts of the devices that are paid for, in whole nodes, and not in use, (N,)."""
        idle = self.billed(device, size, replicas) - size * replicas
        return np.where(idle > 0, idle * self.device_idle[device], 0.0)

    def limits(self, device: Index, cap: Array | float = NAN) -> Array:
        """Return the power limit of each device, (N,) watts. cap: limit set on it, NaN for its own."""
        return np.fmin(self.device_limit[device], cap)

    def rated_watts(self, device: Index, size: Array, replicas: Array, cap: Array | float = NAN) -> Array:
        """Return the sum of the power limits of the devices, (N,) watts, hosts not included; NaN unknown.

        Where whole nodes are paid for, all devices of the nodes count: idle ones may be put to use at any time. cap:
        limit set on each device, W, NaN for its own.
        """
        return self.limits(device, cap) * self.billed(device, size, replicas)

    def bill(
        self, *pools: tuple[Index, Array, Array], caps: tuple[Array | float, ...] = (NAN, NAN)
    ) -> dict[str, Array]:
        """Return the columns `nodes`, `devices_billed`, `devices_owned`, `usd_per_hour`, `idle_w`, `ready_w`,
        `rated_w` and `host_columns`, (N,) each.

        They are of N candidates, and sums over the pools of each. pools: (device, size, replicas) of each, (N,) each.
        caps: power limits set on the devices of each pool, W, NaN for their own.
        """
        columns: dict[str, Callable[[Index, Array, Array], Array]] = {
            "nodes": self.nodes,
            "devices_billed": self.billed,
            "usd_per_hour": self.hourly,
            "idle_w": self.idle_watts,
            "devices_owned": lambda *pool: self.billed(*pool) * self.owned[pool[0]],
            "ready_w": lambda device, size, replicas: size * replicas * self.device_ready[device],
        }
        rated = [self.rated_watts(*pool, cap) for pool, cap in zip(pools, caps, strict=False)]
        out = {name: np.asarray(sum(of(*pool) for pool in pools)) for name, of in columns.items()}
        hosts = [self.host_columns(device, self.nodes(device, size, n)) for device, size, n in pools]
        out |= {name: np.asarray(sum(h[name] for h in hosts)) for name in hosts[0]}
        return {**out, "rated_w": np.asarray(sum(rated))}


def usd_per_million_tokens(usd_per_hour: Array | float, tokens_per_s: Array | float) -> Array:
    """Return USD per million tokens, at full use of every hour, of what costs `usd_per_hour` and makes `tokens_per_s`.

    >>> round(float(usd_per_million_tokens(36.0, 1000.0)), 9)
    10.0
    """
    return per_million_tokens(usd_per_hour, tokens_per_s)


def tariff(
    hwdb: Hwdb,
    devices: tuple[str, ...],
    nodes: tuple[str, ...],
    kind: str,
    own: Mapping[str, float],
    *,
    way_out: str = "",
    supply: str = "",
    money: Money = RENTED,
) -> Tariff:
    """Look up prices and nodes of `devices`.

    Args:
        hwdb: the hardware database.
        devices: names of the device types.
        nodes: names of the nodes on offer. A device is rented by the node when one of them holds it (the first that
            does); otherwise it is rented singly.
        kind: the kind of price that counts, or `cheapest`. Where no price of that kind is known, the cheapest of
            another kind is used, and `Tariff.price` says so.
        own: the user's price of one device, by name; it overrides the database and `money`, which says what is owned.
        way_out: how an unknown price is given, by default in a scenario (`unpriced`).
        supply: 80 PLUS level of the power supplies of nodes, "" for what they usually have.
    """
    types = tuple(hwdb.device(d) for d in devices)
    held = _held(types, tuple(hwdb.node(n) for n in nodes))
    host = np.nan_to_num(held["host_power"]) / held["per_node"]
    rates = [
        _owned(money, d, watts) if d.name in money.bought and name not in own else _rate(name, hwdb, kind, own, way_out)
        for name, d, watts in zip(devices, types, host.tolist(), strict=True)
    ]
    return Tariff(
        devices=types,
        usd_per_hour=np.array([usd for usd, _, _ in rates]),
        price=tuple(words for _, words, _ in rates),
        date=tuple(date for _, _, date in rates),
        **held,
        supply=supply,
        money=money,
    )


def _held(types: tuple[Device, ...], nodes: tuple[Node, ...]) -> dict[str, Any]:
    """Return the fields of a `Tariff` that say which of `nodes` holds each device type, with how much of a host."""
    node_of = {node.device: node for node in reversed(nodes)}
    of = [node_of.get(d.name) for d in types]
    hosts = [host_of(node) if node else Host() for node in of]
    return {
        "per_node": np.array([float(n.count if n else max(d.link.peers, 1)) for n, d in zip(of, types, strict=True)]),
        "node": tuple(node.name if node else "" for node in of),
        "host_power": np.array([h.most for h in hosts]),
        "host_loaded": np.array([h.loaded for h in hosts]),
        "host_idle": np.array([h.idle for h in hosts]),
    }


def unpriced(device: str, way_out: str = "") -> str:
    """Say that no price of `device` is known, and how to give one.

    way_out: how a price is given, by default in a scenario.
    """
    return (
        f"no price is known for {device}: give one with {way_out or f'[hardware] usd_per_hour = {{ {device} = ... }}'}"
    )


def _owned(money: Money, device: Device, host_watts: float) -> tuple[float, str, str]:
    """Compute the price of a device that is bought; returns (USD per hour, source in words, "").

    host_watts: its part of the power of a host.
    """
    usd, terms = money.bought[device.name], money.ownership
    words = f"{OWNED}: {usd:g} USD over {terms.life_years:g} years, {terms.residual:.0%} left".replace("%", " %")
    return terms.usd_per_hour(usd, device.tdp + host_watts), f"{words}, with electricity and hosting", ""


def _rate(device: str, hwdb: Hwdb, kind: str, own: Mapping[str, float], way_out: str) -> tuple[float, str, str]:
    """Choose the price of one device; returns (USD per hour, source in words, date).

    A price in `own` (the user's, by device name) comes first, then the lowest of the wanted `kind`, then of other
    commitments where one is wanted, then the lowest of any kind. NaN without a known price.
    """
    if device in own:
        return float(own[device]), "given in the scenario", ""
    offers = hwdb.prices(device)
    wanted = [p for p in offers if kind in ("cheapest", p.kind)]
    if kind.startswith(RESERVED):  # a commitment of another or unknown length is nearer than none
        wanted = wanted or [p for p in offers if kind == RESERVED and p.kind.startswith(RESERVED)]
    pool: list[Price] = wanted or [p for p in offers if p.kind.startswith(RESERVED) and kind.startswith(RESERVED)]
    pool = pool or offers
    if not pool:
        return NAN, unpriced(device, way_out), ""
    best = min(pool, key=lambda p: p.usd_per_hour)
    instead = "" if wanted else f", for want of {kind.replace('_', ' ')}"
    assumed = ", assumed" if best.assumed else ""
    words = f"{best.kind.replace('_', ' ')}{instead}, {_offered_by(best)}, {best.date}{assumed} ({best.source})"
    return best.usd_per_hour, words, best.date


def _offered_by(price: Price) -> str:
    """Say in words who offers a price, and where: `by RunPod in any region`."""
    who = "several providers" if price.provider in UNNAMED_PROVIDERS else price.provider
    where = "any region" if price.region in ("", "any") else price.region
    return f"by {who} in {where}"
