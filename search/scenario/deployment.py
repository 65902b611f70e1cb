"""Read the `[adapters]`, `[experts]`, `[offload]` and `[pools]` tables of a scenario."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, cast

import numpy as np

from hwdb import Hwdb
from hwdb.tomlfile import Table
from perfmodel import ModelSpec
from perfmodel.arrays import NAN
from perfmodel.deployment import (
    ALL_TO_ALLS,
    BALANCERS,
    PLACES,
    ExpertRouting,
    HandOver,
    Place,
    check_experts,
    check_routing,
    deployments,
    hosted,
)
from perfmodel.hardware import WHERE, Host, Where, host_figures
from perfmodel.models import Adapters, check_rank
from search.scenario.workload import relay

#: Numeric quantities of a host that a scenario may give: key -> (field of `Host`, SI units per unit of the key).
HOST_KEYS = {
    "host_link_gbs": ("link", 1e9),
    "host_memory_gb": ("memory", 1e9),
    "host_memory_gbs": ("bandwidth", 1e9),
    "host_tflops": ("flops", 1e12),
}


@dataclass(frozen=True)
class Offload:
    """What may be kept in host memory, and the host behind each device.

    weights, experts, kv: shares of the weights, experts and KV cache to try (0: none, 1: all). host: link, memory and
    arithmetic of the host, per device.
    """

    weights: tuple[float, ...] = (0.0,)
    experts: tuple[float, ...] = (0.0,)
    kv: tuple[float, ...] = (0.0,)
    host: Host = field(default_factory=Host)

    @property
    def axes(self) -> dict[str, tuple[float, ...]]:
        """Return the shares to try by the name of their axis in the search space."""
        return {"host_weights": self.weights, "host_experts": self.experts, "host_kv": self.kv}


def read_adapters(top: Table, model: ModelSpec | None) -> Adapters | None:
    """Read the LoRA adapters that requests use; None without an `[adapters]` table.

    model: the model that the adapters have to suit; None when not yet known.
    """
    if "adapters" not in top:
        return None
    table = top.table("adapters")
    adapters: Adapters = relay(
        table,
        "",
        Adapters,
        rank=table.whole("rank", least=1),
        count=table.whole("count", 1, least=1),
        resident=table.whole("resident", 0),
        zipf=table.number("zipf", 0.0, least=0),
        targets=table.texts("targets", Adapters.targets),
    )
    table.done()
    if model is not None:
        rank_is_wrong = adapters.rank > model.hidden or "targets" not in table
        relay(table, "rank" if rank_is_wrong else "targets", check_rank, adapters, model)
    return adapters


def read_hand_over(top: Table) -> HandOver:
    """Read how KV cache moves between pools; what follows from the devices without a `[pools]` table."""
    table = top.table("pools", {})
    stated: dict[str, float] = {}
    if "kv_link_gbs" in table:
        stated["bandwidth"] = table.number("kv_link_gbs", above=0.0) * 1e9
    if "hand_over_ms" in table:
        stated["delay"] = table.number("hand_over_ms", least=0.0) * 1e-3
    place = cast("Place", table.text("kv_link", "auto", choices=PLACES))
    layerwise = table.flag("layerwise", False)
    table.done(also=("kv_link_gbs", "hand_over_ms"))
    return HandOver(place=place, layerwise=layerwise, **stated)


def read_routing(top: Table, model: ModelSpec | None) -> ExpertRouting:
    """Read the `[experts]` table: how tokens reach experts and how evenly these are loaded; the defaults without one.

    model: the model, which has to have experts; None when not yet known.
    """
    table = top.table("experts", {})
    routing: ExpertRouting = relay(
        table,
        "redundant" if "redundant" in table else "",
        ExpertRouting,
        all_to_all=table.text("all_to_all", "auto", choices=ALL_TO_ALLS),
        balancer=table.text("balancer", "auto", choices=BALANCERS),
        redundant=table.whole("redundant", 0),
        imbalance=table.number("imbalance", NAN, least=1),
    )
    table.done()
    if model is not None and "experts" in top:
        relay(table, "", check_routing, model, routing)
    return routing


def read_offload(top: Table, hwdb: Hwdb, nodes: tuple[str, ...]) -> Offload:
    """Read what is kept in host memory; nothing without an `[offload]` table.

    nodes: names of the nodes on offer. Where the scenario does not give the host's memory, each device gets its share
    of the memory of the node that has the least.
    """
    table = top.table("offload", {})
    shares = {name: _shares(table, name) for name in ("weights", "experts", "kv")}
    stated = {at: table.number(key, above=0) * unit for key, (at, unit) in HOST_KEYS.items() if key in table}
    memory = min((n.si("host.memory") / n.count for n in map(hwdb.node, nodes)), default=NAN)
    figures = {"memory": memory, **_cpu_figures(table, hwdb), **stated}
    if "flops" in stated:
        figures.pop("matrix_flops", None)  # a stated rate is that of the units that the engine uses
    where = cast("Where", table.text("where", "stream", choices=WHERE))
    host = relay(table, "prefetch", Host, **figures, where=where, prefetch=table.flag("prefetch", False))
    table.done(also=tuple(HOST_KEYS))
    return Offload(**shares, host=host)


def check_offload(
    top: Table,
    offload: Offload,
    hwdb: Hwdb,
    *,
    model: ModelSpec | None,
    devices: tuple[str, ...],
    adapters: Adapters | None,
) -> None:
    """Raise `InputError` where a host quantity is missing, or where a dense model offloads experts.

    A host quantity is a number that offloading needs of a device's host, such as its memory in bytes. devices: names of
    the devices on offer. model: None when not yet known.
    """
    if not devices:
        return
    table, cards = top.table("offload", {}), [hwdb.device(name) for name in devices]
    largest: dict[str, Any] = {name: max(shares) for name, shares in offload.axes.items()}
    each_device = deployments(cards, device=np.arange(len(cards)), host=offload.host, adapters=adapters, **largest)
    if model is not None:
        relay(table, "experts", check_experts, each_device, model)
    relay(table, "where" if offload.host.where == "compute" else "", hosted, each_device)


def _shares(table: Table, key: str) -> tuple[float, ...]:
    """Read a list of shares between 0 (none) and 1 (all in host memory); 0 alone where the key is absent."""
    values = table.numbers(key, (0.0,), least=0)
    if max(values) > 1:
        raise table.error(key, f"{max(values):g} is no share; give 0 (none) to 1 (all in host memory)")
    return values


def _cpu_figures(table: Table, hwdb: Hwdb) -> dict[str, float]:
    """Look up memory, bandwidth and arithmetic of the CPU that the key `host` names; returned by field of `Host`."""
    sockets = table.number("sockets", 1.0, above=0)
    if "host" not in table:
        return {}
    cpu = relay(table, "host", hwdb.device, table.text("host"))
    figures: dict[str, float] = relay(table, "host", host_figures, cpu, sockets)
    return figures
