"""The `[adapters]` and `[offload]` tables of a scenario: low-rank adapters, and what lies in host memory."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from hwdb import Hwdb
from hwdb.tomlfile import Table
from perfmodel import ModelSpec
from perfmodel.deployment import check_experts, deployments, hosted
from perfmodel.hardware import WHERE, Host, host_figures
from perfmodel.models import Adapters, check_rank
from search.scenario.workload import relay

#: Figures of a host that a scenario may state: key -> (field of `Host`, what one of the key is in SI).
FIGURES = {
    "host_link_gbs": ("link", 1e9),
    "host_memory_gb": ("memory", 1e9),
    "host_memory_gbs": ("bandwidth", 1e9),
    "host_tflops": ("flops", 1e12),
}


@dataclass(frozen=True)
class Offload:
    """Shares to try, of what may lie in host memory, and the host behind each device."""

    weights: tuple[float, ...] = (0.0,)
    experts: tuple[float, ...] = (0.0,)
    kv: tuple[float, ...] = (0.0,)
    host: Host = field(default_factory=Host)

    @property
    def axes(self) -> dict[str, tuple[float, ...]]:
        """The shares as axes of a search space."""
        return {"host_weights": self.weights, "host_experts": self.experts, "host_kv": self.kv}


def read_adapters(top: Table, model: ModelSpec | None) -> Adapters | None:
    """The adapters that requests of `model` (None: not known yet) use; None without an `[adapters]` table."""
    if "adapters" not in top:
        return None
    table = top.table("adapters")
    made: Adapters = relay(
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
        beyond = made.rank > model.hidden or "targets" not in table
        relay(table, "rank" if beyond else "targets", check_rank, made, model)
    return made


def read_offload(top: Table, hwdb: Hwdb, nodes: tuple[str, ...]) -> Offload:
    """What lies in host memory; nothing without an `[offload]` table.

    Host memory that is not stated is that of the least generous of `nodes`, shared by its devices.
    """
    table = top.table("offload", {})
    shares = {name: _shares(table, name) for name in ("weights", "experts", "kv")}
    stated = {at: table.number(key, above=0) * unit for key, (at, unit) in FIGURES.items() if key in table}
    memory = min((n.si("host.memory") / n.count for n in map(hwdb.node, nodes)), default=float("nan"))
    found = {"memory": memory, **_cpu(table, hwdb), **stated}
    where = table.text("where", "stream", choices=WHERE)
    host = relay(table, "prefetch", Host, **found, where=where, prefetch=table.flag("prefetch", False))
    table.done(also=tuple(FIGURES))
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
    """Raise `InputError` with its place where too little is known of the host of one of `devices`, or experts of a
    dense `model` (None: not known yet) are to lie there."""
    if not devices:
        return
    table, cards = top.table("offload", {}), [hwdb.device(name) for name in devices]
    most = {name: max(shares) for name, shares in offload.axes.items()}
    every = deployments(cards, device=np.arange(len(cards)), host=offload.host, adapters=adapters, **most)
    if model is not None:
        relay(table, "experts", check_experts, every, model)
    relay(table, "where" if offload.host.where == "compute" else "", hosted, every)


def _shares(table: Table, key: str) -> tuple[float, ...]:
    values = table.numbers(key, (0.0,), least=0)
    if max(values) > 1:
        raise table.error(key, f"{max(values):g} is no share; give 0 (none) to 1 (all in host memory)")
    return values


def _cpu(table: Table, hwdb: Hwdb) -> dict[str, float]:
    sockets = table.number("sockets", 1.0, above=0)
    if "host" not in table:
        return {}
    cpu = relay(table, "host", hwdb.device, table.text("host"))
    found: dict[str, float] = relay(table, "host", host_figures, cpu, sockets)
    return found
