"""Scenario files: what is to be served, on what, within which bounds. A TOML file in, plain frozen data out.

`load_scenario` computes nothing but the length classes of a trace; every mistake is named with file, line, key, value
and way out. The keys are described in `docs/scenarios.md`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hwdb import Hwdb, InputError, UnknownName, load
from hwdb.tomlfile import Table, read_toml
from perfmodel import Engine, Slo, Workload, engine
from perfmodel import model as model_of
from perfmodel.dtypes import COMPUTE, storage
from perfmodel.engines import spellings, ways
from perfmodel.models import Adapters
from perfmodel.vocabulary import FORMER_NAMES
from search.scenario.deployment import Offload, check_offload, read_adapters, read_offload
from search.scenario.fleet import FleetSpec, read_fleet
from search.scenario.inventory import Inventory
from search.scenario.workload import WORKLOAD_KEYS, Request, read_request, read_slo, relay, wholes

#: What a plan may be ranked by: column name -> whether less is better.
OBJECTIVES = {
    "usd_per_hour": True,
    "usd_per_million_tokens": True,
    "devices": True,
    "power_w": True,
    "energy_j_per_token": True,
    "output_tok_s_per_device": False,
    "request_rate": False,
    "ttft_ms": True,
    "tpot_ms": True,
    "e2e_ms": True,
}
PRICES = ("on_demand", "reserved", "spot", "cheapest")
MODES = ("colocated", "disaggregated")
SEARCHERS = ("exhaustive", "optuna")


@dataclass(frozen=True)
class Offer:
    """Hardware on offer. devices, nodes: names in hwdb; stock: devices at most, by name.

    prices: kind of price that counts, `cheapest` of all; usd_per_hour: own prices of one device, by name, which win.
    folders: further hwdb folders.
    """

    devices: tuple[str, ...]
    nodes: tuple[str, ...] = ()
    stock: Mapping[str, float] = field(default_factory=dict)
    prices: str = "on_demand"
    usd_per_hour: Mapping[str, float] = field(default_factory=dict)
    folders: tuple[str, ...] = ()


@dataclass(frozen=True)
class Choices:
    """Bounds of the search; empty means the search's own range.

    tp, pp, ep, dp, cp: degrees of parallelism; inf in ep spreads experts over all devices that share a layer.
    max_num_batched_tokens, max_num_seqs, concurrency: a replica. weight, act, kv: number formats. modes: colocated, disaggregated.
    power_cap: W a device. finalists: how many are checked by simulation.
    """

    tp: tuple[int, ...] = ()
    pp: tuple[int, ...] = ()
    ep: tuple[float, ...] = ()
    dp: tuple[int, ...] = ()
    cp: tuple[int, ...] = ()
    max_num_batched_tokens: tuple[int, ...] = ()
    max_num_seqs: tuple[int, ...] = ()
    concurrency: tuple[int, ...] = ()
    weight: tuple[str, ...] = ()
    act: tuple[str, ...] = ()
    kv: tuple[str, ...] = ()
    modes: tuple[str, ...] = ("colocated",)
    power_cap: tuple[float, ...] = ()
    searcher: str = "exhaustive"
    trials: int = 1000
    finalists: int = 5
    seed: int = 0


@dataclass(frozen=True)
class Limits:
    """Bounds on the whole plan; infinite where there is none. power: W. spare_nodes: any so many may fail.

    confidence: least chance that the objectives hold.
    """

    usd_per_hour: float = math.inf
    power: float = math.inf
    devices: float = math.inf
    nodes: float = math.inf
    spare_nodes: int = 0
    confidence: float = 0.5


@dataclass(frozen=True)
class Site:
    """Where it runs: power usage effectiveness, price of electricity (USD/kWh) and carbon (gCO2e/kWh), NaN unknown."""

    pue: float = 1.0
    usd_per_kwh: float = math.nan
    gco2_per_kwh: float = math.nan


@dataclass(frozen=True)
class Scenario:
    """A whole scenario. model is "" and request None where only `[fleet]` is given."""

    path: str
    title: str
    model: str
    request: Request | None
    slo: Slo
    offer: Offer
    choices: Choices
    engine: Engine
    minimise: str
    limits: Limits
    site: Site = field(default_factory=Site)
    fleet: FleetSpec | None = None
    adapters: Adapters | None = None
    offload: Offload = field(default_factory=Offload)

    @property
    def workload(self) -> Workload:
        """What is asked; `InputError` when the scenario has no `[workload]`."""
        if self.request is None or not self.model:
            raise InputError(f"{self.path}: [model] and [workload] are missing; add them, or use the fleet command")
        return self.request.workload

    @property
    def lower_is_better(self) -> bool:
        """Whether the objective is minimised rather than maximised."""
        return OBJECTIVES[self.minimise]

    def hardware(self) -> Hwdb:
        """The hardware database with the scenario's own folders."""
        return load(self.offer.folders)

    def inventory(self) -> Inventory:
        """Limits and stock as the fleet program reads them."""
        return Inventory(
            stock=dict(self.offer.stock),
            power=self.limits.power,
            budget=self.limits.usd_per_hour,
            nodes=self.limits.nodes,
            spare_nodes=self.limits.spare_nodes,
        )


def load_scenario(path: str | Path, folders: Iterable[str | Path] = ()) -> Scenario:
    """The scenario in the TOML file at `path`; `InputError` names file, line, key, value and way out.

    folders: hardware folders beside those that the file names.
    """
    return read_scenario(read_toml(path, "scenario", FORMER_NAMES), Path(path).parent, folders)


def read_scenario(top: Table, folder: Path, folders: Iterable[str | Path] = ()) -> Scenario:
    """The scenario that `top` holds; file names in it are relative to `folder`."""
    title = top.text("title", Path(top.file).stem)
    top.text("note", "")
    slo = read_slo(top.table("slo", {}))
    model, request = _model(top, folder), None
    if "workload" in top:
        table = top.table("workload")
        request = read_request(table, folder)
        table.done(also=WORKLOAD_KEYS)
    offer = _offer(top, folder, tuple(str(f) for f in folders))
    objective = top.table("objective", {})
    spec, database = model_of(model) if model else None, load(offer.folders)
    made = Scenario(
        path=top.file,
        title=title,
        model=model,
        request=request,
        slo=slo,
        offer=offer,
        choices=_choices(top.table("search", {})),
        engine=_engine(top.table("engine", {}), folder),
        minimise=objective.text("rank_by", "usd_per_hour", choices=tuple(OBJECTIVES)),
        limits=_limits(top.table("limits", {})),
        site=_site(top.table("site", {})),
        fleet=_fleet(top, folder, slo, model, offer),
        adapters=read_adapters(top, spec),
        offload=read_offload(top, database, offer.nodes),
    )
    check_offload(top, made.offload, database, model=spec, devices=offer.devices, adapters=made.adapters)
    objective.done()
    top.done(also=("workload", "fleet", "hardware", "model"))
    if made.fleet is None and (not model or request is None or not offer.devices):
        lacking = [n for n in ("model", "workload", "hardware") if n not in top]
        raise top.error(
            "", f"[{'], ['.join(lacking)}] missing; a plan needs model, workload and hardware, or a [fleet]"
        )
    return made


def _model(top: Table, folder: Path) -> str:
    if "model" not in top:
        return ""
    table = top.table("model")
    name = table.text("name") if "config" not in table else ""
    config = table.text("config", "")
    table.done(also=("name",))
    if config:
        path = folder / config
        if not path.is_file():
            raise table.error("config", f"no file {str(path)!r}; give the path of a config.json")
        return str(path)
    relay(table, "name", model_of, name)
    return name


def _offer(top: Table, folder: Path, more: tuple[str, ...] = ()) -> Offer:
    table = top.table("hardware", {})
    folders = (*(str(folder / f) for f in table.texts("folders", ())), *more)
    database: Hwdb = relay(table, "folders", load, folders)
    nodes = table.texts("nodes", ())
    held = [relay(table, "nodes", database.node, n).device for n in nodes]
    named = table.texts("devices", ())
    for name in named:
        if name not in database.names():
            raise table.error("devices", str(UnknownName("device", name, database.names())))
    devices = tuple(dict.fromkeys([*named, *held]))
    if "hardware" in top and not devices and "fleet" not in top:
        raise table.error("", 'nothing is on offer; give devices = ["h100-sxm"] or nodes')
    known = (*database.names(), *_table_devices(top))
    made = Offer(
        devices=devices,
        nodes=nodes,
        stock=_by_device(table, "stock", known, least=0),
        prices=table.text("prices", "on_demand", choices=PRICES),
        usd_per_hour=_by_device(table, "usd_per_hour", known, least=0),
        folders=folders,
    )
    table.done()
    return made


def _table_devices(top: Table) -> list[str]:
    """Devices that options of the fleet name, which stock and prices may name too."""
    fleet = top.values.get("fleet")
    options = fleet.get("option", []) if isinstance(fleet, dict) else []
    return [str(o.get("device", "")) for o in options if isinstance(o, dict)] if isinstance(options, list) else []


def _by_device(table: Table, key: str, known: tuple[str, ...], least: float) -> dict[str, float]:
    if key not in table:
        table.get(key, None)
        return {}
    inner = table.table(key)
    values = {}
    for name in inner.keys():  # noqa: SIM118 - a Table is no mapping
        if name not in known:
            raise inner.error(name, str(UnknownName("device", name, known)))
        values[name] = inner.number(name, least=least)
    return values


def _choices(table: Table) -> Choices:
    whole = {
        k: wholes(table, k) for k in ("tp", "pp", "dp", "cp", "max_num_batched_tokens", "max_num_seqs", "concurrency")
    }
    formats: dict[str, tuple[str, ...]] = {}
    for key in ("weight", "kv"):
        formats[key] = tuple(relay(table, key, storage, name).name for name in table.texts(key, ()))
    acts = table.texts("act", ())
    for key, given, allowed in (("act", acts, COMPUTE), ("modes", table.texts("modes", ("colocated",)), MODES)):
        for name in given:
            if name not in allowed:
                raise table.error(key, f"unknown value {name!r}; choose from {', '.join(allowed)}")
    defaults = Choices()
    made = Choices(
        **whole,
        ep=_experts(table),
        weight=formats["weight"],
        kv=formats["kv"],
        act=acts,
        modes=table.texts("modes", ("colocated",)),
        power_cap=table.numbers("power_cap_w", (), least=1),
        searcher=table.text("searcher", defaults.searcher, choices=SEARCHERS),
        trials=table.whole("trials", defaults.trials, least=1),
        finalists=table.whole("finalists", defaults.finalists, least=0),
        seed=table.whole("seed", 0),
    )
    table.done()
    return made


def _experts(table: Table) -> tuple[float, ...]:
    """Degrees of expert parallelism: whole numbers, or "all" for every device that shares a layer."""
    values = table.get("ep", [])
    items = values if isinstance(values, list) else [values]
    plain = [v for v in items if v != "all"]
    wrong = next((v for v in plain if isinstance(v, bool) or not isinstance(v, int) or v < 1), None)
    if wrong is not None:
        raise table.error("ep", f'{wrong!r} is no degree; give whole numbers of 1 or more, or "all"')
    return tuple(math.inf if v == "all" else float(v) for v in items)


#: Settings of the engine that a scenario may change: key -> Engine field. The engine's own words for them serve too.
ENGINE_KEYS = {
    "max_num_batched_tokens": "max_num_batched_tokens",
    "max_num_seqs": "max_num_seqs",
    "chunked_prefill": "chunked_prefill",
    "prefix_cache": "prefix_cache",
    "gpu_memory_utilization": "gpu_memory_utilization",
    "graph_capture": "graph_capture",
    "overlap_scheduling": "overlap_scheduling",
    "overlap": "overlap",
    "overlap_share": "overlap_share",
}


def _engine(table: Table, folder: Path) -> Engine:
    name = table.text("name", "vllm")
    if name.endswith(".toml"):
        name = str(folder / name)
    made: Engine = relay(table, "name", engine, name, table.text("version", ""))
    words = {word: key for word, key in made.own_words if key in ENGINE_KEYS}
    spelled = spellings(table, words)
    changes: dict[str, Any] = {}
    for key, setting in ENGINE_KEYS.items():
        written = spelled.get(key, key)
        if written in table:
            changes[setting] = _setting(table, written, key)
    table.done(also=(*ENGINE_KEYS, *words))
    made = made.configured(**changes) if changes else made
    if "overlap_share" in changes and made.overlap == "none":
        raise table.error("overlap_share", f"nothing overlaps; add overlap, one of {', '.join(ways()[1:])}")
    return made


def _setting(table: Table, written: str, key: str) -> float | bool | str:
    """The value of engine setting `key`, which the table spells `written`."""
    if key == "overlap":
        return table.text(written, choices=ways())
    if key in ("max_num_batched_tokens", "max_num_seqs"):
        return float(table.whole(written, least=1))
    if key in ("gpu_memory_utilization", "overlap_share"):
        return table.number(written, above=0, most=1)
    return table.flag(written)


def _limits(table: Table) -> Limits:
    made = Limits(
        usd_per_hour=table.number("usd_per_hour", math.inf, above=0),
        power=table.number("power_kw", math.inf, above=0) * 1e3,
        devices=table.number("devices", math.inf, least=1),
        nodes=table.number("nodes", math.inf, least=1),
        spare_nodes=table.whole("spare_nodes", 0, most=100),
        confidence=table.number("confidence", 0.5, least=0, most=1),
    )
    table.done()
    return made


def _site(table: Table) -> Site:
    made = Site(
        pue=table.number("pue", 1.0, least=1, most=5),
        usd_per_kwh=table.number("usd_per_kwh", math.nan, least=0),
        gco2_per_kwh=table.number("gco2_per_kwh", math.nan, least=0),
    )
    table.done()
    return made


def _fleet(top: Table, folder: Path, slo: Slo, model: str, offer: Offer) -> FleetSpec | None:
    if "fleet" not in top:
        return None
    return read_fleet(top.table("fleet"), folder, slo, model, tuple(load(offer.folders).names()))
