"""Read a scenario: what to serve, on what hardware, within which bounds. A TOML file becomes plain frozen data.

`load_scenario` computes nothing but the length classes of a trace. Every mistake is reported with file, line, key,
value and remedy. The keys are described in `docs/scenarios.md`.
"""

from __future__ import annotations

import math
import shlex
from collections.abc import Iterable, Mapping
from copy import deepcopy
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hwdb import Hwdb, InputError, UnknownKey, load
from hwdb.tomlfile import Table, read_toml
from perfmodel import Engine, ModelSpec, Slo, Workload, glossary
from perfmodel import model as model_of
from perfmodel.deployment import ExpertRouting, HandOver
from perfmodel.models import Adapters
from perfmodel.vocabulary import FORMER_NAMES
from search.scenario.calibration import read_calibration
from search.scenario.choices import Choices, read_choices
from search.scenario.deployment import Offload, check_offload, read_adapters, read_hand_over, read_offload, read_routing
from search.scenario.engine import read_engines
from search.scenario.growth import Growth, read_growth
from search.scenario.limits import Limits, Site, read_limits, read_site
from search.scenario.model import read_model
from search.scenario.money import Money, read_money, refuse_free_power
from search.scenario.offer import Offer, read_offer
from search.scenario.rankings import CARBON, MOST_SERVED, RANKINGS, read_ranking
from search.scenario.speculation import Drafting, read_drafting
from search.scenario.workload import WORKLOAD_KEYS, Request, read_request, read_slo

if TYPE_CHECKING:
    from search.scenario.fleet_spec import FleetSpec
    from search.scenario.inventory import Inventory

#: What messages call a scenario that no file holds: one of a mapping, and one of a command line.
STATED, COMMAND_LINE = "scenario", "command line"


@dataclass(frozen=True)
class Scenario:
    """A whole scenario. model is "" and request is None where the file has only a `[fleet]`.

    request: the workload and where it comes from. offer: the hardware. choices: what to try. minimise: the ranking, a
    key of `RANKINGS`. fleet: request classes and options of the fleet program. allow_long_context: whether requests may
    exceed the context of the model. more_engines: engines that a plan is also made with, to take the best.
    described: the model where its sizes are stated in place of a name. money: what is owned, and what an API charges.
    hand_over: how KV cache moves between pools. drafting: how tokens are drafted (speculative decoding).
    """

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
    money: Money = field(default_factory=Money)
    fleet: FleetSpec | None = None
    adapters: Adapters | None = None
    routing: ExpertRouting = field(default_factory=ExpertRouting)
    offload: Offload = field(default_factory=Offload)
    hand_over: HandOver = field(default_factory=HandOver)
    drafting: Drafting = field(default_factory=Drafting)
    allow_long_context: bool = False
    more_engines: tuple[Engine, ...] = ()
    described: ModelSpec | None = None
    growth: Growth | None = None

    @property
    def engines(self) -> tuple[Engine, ...]:
        """Return the engines that a plan is made with: the first, and those to take the best of."""
        return (self.engine, *self.more_engines)

    def with_engines(self, engines: Iterable[Engine]) -> Scenario:
        """Return the same scenario with other engines, at least one."""
        first, *more = engines
        return replace(self, engine=first, more_engines=tuple(more))

    def model_called(self, name: str) -> ModelSpec:
        """Return the model of that name: the one whose sizes the scenario states, else the one of the catalogue."""
        own = self.described
        return own if own is not None and name == own.name else model_of(name)

    @property
    def readings(self) -> list[str]:
        """Return what names were taken for that are no names of the catalogue or the database, a sentence each."""
        options, classes = (self.fleet.options, self.fleet.classes) if self.fleet else ((), ())
        names = dict.fromkeys(name for name in (self.model, *(c.model for c in classes)) if name)
        models = [spec.reading for spec in map(self.model_called, names) if spec.base]
        devices = [*self.offer.readings.values(), *(o.reading for o in options)]
        return list(dict.fromkeys(text for text in (*models, *devices) if text))

    @property
    def workload(self) -> Workload:
        """Return the workload; raise `InputError` when the scenario has no `[model]` or no `[workload]`."""
        if self.request is None or not self.model:
            raise InputError(f"{self.path}: [model] and [workload] are missing; add them, or use the fleet command")
        return self.request.workload

    @property
    def lower_is_better(self) -> bool:
        """Return True where the best candidate has the least of the ranking's column, rather than the most."""
        return RANKINGS[self.minimise]

    def hardware(self) -> Hwdb:
        """Load the hardware database, with the scenario's own folders."""
        return load(self.offer.folders)

    def inventory(self) -> Inventory:
        """Return limits and stock in the form that the fleet program reads."""
        from search.scenario.inventory import Inventory

        return Inventory(
            stock=dict(self.offer.stock),
            power=self.limits.power,
            budget=self.limits.usd_per_hour,
            nodes=self.limits.nodes,
            spare_nodes=self.limits.spare_nodes,
        )


#: Table of a scenario that may be written as one value -> the key that the value then stands for.
_SHORT = {"model": "name", "engine": "name", "hardware": "devices"}
_SHORT_TYPES: Mapping[str, tuple[type, ...]] = {"model": (str,), "engine": (str, list), "hardware": (str, list)}


def load_scenario(
    path: str | Path | Mapping[str, Any],
    folders: Iterable[str | Path] = (),
    changes: Mapping[str, Mapping[str, Any]] | None = None,
) -> Scenario:
    """Read the scenario in the TOML file at `path`, or that of a mapping with the tables of such a file.

    folders: of the hardware database in addition to those that the file names. changes: table -> key -> value,
    which replace what the file says; None takes a key out. Raises `InputError` with file, line, key, value and remedy.

    >>> asked = {"model": {"name": "Qwen3-32B"}, "workload": {"dataset": "azure-conv-2023"}}
    >>> load_scenario(asked | {"hardware": {"devices": ["h100-sxm"]}}).offer.devices
    ('h100-sxm',)
    """
    if isinstance(path, Mapping):
        top, folder = Table(deepcopy(dict(path)), STATED, former=FORMER_NAMES), Path()
    else:
        if Path(path).suffix != ".toml" and not Path(path).exists():  # most likely the name of a model
            text = f"write one with perfmodel plan {shlex.quote(str(path))} --save FILE.toml"
            raise InputError(f"{path}: no such scenario; give the path of an existing TOML file, or {text}")
        top, folder = read_toml(path, "scenario", FORMER_NAMES), Path(path).parent
    top.values = with_changes(top.values, changes or {})
    return read_scenario(top, folder, folders)


def _in_full(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the tables of a scenario with those in full that are written as one value: `model = "Qwen3-8B"`.

    >>> _in_full({"model": "Qwen3-8B", "hardware": ["h100-sxm"]})
    {'model': {'name': 'Qwen3-8B'}, 'hardware': {'devices': ['h100-sxm']}}
    """
    short = {k: v for k, v in values.items() if isinstance(v, _SHORT_TYPES.get(k, ()))}
    return dict(values) | {k: {_SHORT[k]: v} for k, v in short.items()}


def with_changes(values: Mapping[str, Any], changes: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Return the tables of a scenario with `changes` (table -> key -> value) in them; None takes a key out.

    What is no table stays as it is, for the reader to refuse.
    """
    merged = _in_full(values)
    for table, keys in changes.items():
        own = merged.get(table, {})
        if isinstance(own, dict):
            merged[table] = {key: value for key, value in {**own, **keys}.items() if value is not None}
    return merged


def _misplaced(error: UnknownKey, top: Table) -> InputError:
    """Return `error`, with the table that the key belongs in where another table of a scenario has it.

    Of a table that is not known, its keys are looked up. The word of another tool is told with its name here. A table
    that resembles one that has its keys is left as it is. Where another table has the key, both are told: the keys that
    it resembles (`power_w` in [limits]: `power_kw`), and that table (`usd_per_month` in [limits]: [fleet]).
    """
    written = top.values.get(error.key)
    here = [f"here it is {name!r}" for name in _elsewhere(error)]
    keys = list(written) if isinstance(written, dict) else [error.key]
    homes = {
        key: [place for entry in glossary.entries() if entry.name == key for place in entry.places if place[0] == "["]
        for key in keys
    }
    if error.near and any(repr(place.strip("[]")) in str(error) for places in homes.values() for place in places):
        return error
    told = [f"{key!r} belongs in {' or '.join(dict.fromkeys(places))}" for key, places in homes.items() if places]
    if error.near and told and not here:
        return InputError(f"{error} {', '.join(told)}")
    told = (here if error.near else []) or told or here
    return InputError(f"{error.problem}; {', '.join(told)}") if told else error


def _elsewhere(error: UnknownKey) -> list[str]:
    """Return the key that says here what an unknown key says in other tools, in a list; [] where there is none.

    The place in the error tells the table, such as [workload].
    """
    meant = glossary.elsewhere().get(glossary.plain(error.key), ())
    return [entry.name for entry in meant if any(place in error.problem for place in entry.places if place[0] == "[")]


def read_scenario(top: Table, folder: Path, folders: Iterable[str | Path] = ()) -> Scenario:
    """Read the scenario in the table `top`; file names in it are relative to `folder`.

    folders: of the hardware database, in addition to those that it names. An unknown key that another table has is told
    with that table.
    """
    top.values = _in_full(top.values)
    try:
        return _read(top, folder, folders)
    except UnknownKey as error:
        raise _misplaced(error, top) from None


def _read(top: Table, folder: Path, folders: Iterable[str | Path]) -> Scenario:
    """Do as `read_scenario`, without looking for a better table of an unknown key."""
    slo, asked = read_slo(top.table("slo", {})), read_model(top, folder)
    offer = read_offer(top, folder, tuple(map(str, folders)))
    database, model = load(offer.folders), asked.name
    spec = asked.described or (model_of(model) if model else None)
    engines = _engines(top, folder, spec.name if spec else "")
    minimise = read_ranking(objective := top.table("objective", {}))
    site, money = read_site(top.table("site", {}), folder), read_money(top.table("money", {}), database, offer.devices)
    scenario = Scenario(
        path=top.file,
        title=top.text("title", Path(top.file).stem),
        model=model,
        request=_request(top, folder, fills=minimise in MOST_SERVED),
        slo=slo,
        offer=offer,
        choices=read_choices(top.table("search", {})),
        engine=engines[0],
        minimise=minimise,
        limits=read_limits(top.table("limits", {})),
        site=site,
        money=money,
        fleet=_fleet(top, folder, slo, model, database),
        **_how(top, spec),
        offload=read_offload(top, database, offer.nodes),
        allow_long_context=asked.allow_long_context,
        described=asked.described,
        growth=read_growth(top),
    ).with_engines(engines)
    check_offload(top, scenario.offload, database, model=spec, devices=offer.devices, adapters=scenario.adapters)
    objective.done()
    top.text("note", "")
    top.done(also=("workload", "fleet", "hardware", "model"))
    _check_complete(top, scenario)
    return scenario


def _fleet(top: Table, folder: Path, slo: Slo, model: str, database: Hwdb) -> FleetSpec | None:
    """Return the `[fleet]` of a scenario; None without one, whose reader most commands never load."""
    if "fleet" not in top:
        return None
    from search.scenario.fleet import Defaults, read_fleet

    return read_fleet(top, Defaults(folder, slo, model, database))


def _how(top: Table, spec: ModelSpec | None) -> dict[str, Any]:
    """Return how the model is served, by field of a scenario: adapters, experts, pools, drafts."""
    return {
        "adapters": read_adapters(top, spec),
        "routing": read_routing(top, spec),
        "hand_over": read_hand_over(top),
        "drafting": read_drafting(top),
    }


def _engines(top: Table, folder: Path, model: str) -> tuple[Engine, ...]:
    """Return the engines of `[engine]`, each with what the files of `[calibration]` say of its systems for a model."""
    own = read_calibration(top.table("calibration", {}), folder)
    return tuple(one.adjusted_by(own, model) for one in read_engines(top.table("engine", {}), folder))


def refused_for_fleets(scenario: Scenario) -> tuple[str, str, str] | None:
    """Return (table, key, why) of a setting that no fleet is planned with; None where there is none."""
    if scenario.more_engines:
        return "engine", "name", "a fleet is planned with one engine; name one"
    if scenario.limits.power_basis != Limits.power_basis:
        return "limits", "power_basis", "the power of fleet options is their mean draw; leave power_basis out"
    if math.isfinite(scenario.limits.rack):
        return "limits", "rack_kw", "a fleet is not planned by racks; leave rack_kw out"
    return None


def _request(top: Table, folder: Path, *, fills: bool) -> Request | None:
    """Read the `[workload]` table of the scenario `top`; None without one.

    fills: True where the ranking asks for as much as the hardware serves.
    """
    if "workload" not in top:
        return None
    table = top.table("workload")
    request = read_request(table, folder, fills=fills)
    table.done(also=WORKLOAD_KEYS)
    return request


def _check_complete(top: Table, scenario: Scenario) -> None:
    """Raise `InputError` where the file describes neither a plan nor a fleet, lacks a figure, or has more than a fleet
    is planned with.
    """
    plannable = scenario.model and scenario.request is not None and scenario.offer.devices
    if scenario.fleet is None and not plannable:
        missing = "], [".join(n for n in ("model", "workload", "hardware") if n not in top)
        raise top.error("", f"[{missing}] missing; a plan needs model, workload and hardware, or a [fleet]")
    refuse_free_power(top.file, scenario.money, scenario.site.usd_per_kwh)
    if scenario.minimise == CARBON and math.isnan(scenario.site.gco2_per_kwh) and not _green(scenario.fleet):
        where = "[site]" if scenario.fleet is None or not scenario.fleet.terms.regions else "[site] or each region"
        told = f"carbon needs {where} electricity_grid, gco2_by_hour or gco2_per_kwh; add one"
        raise top.table("objective", {}).error("rank_by", told)
    refused = refused_for_fleets(scenario) if scenario.fleet is not None else None
    if refused is not None:
        table, key, told = refused
        raise top.table(table).error(key, told)


def _green(fleet: FleetSpec | None) -> bool:
    """Return whether the carbon of the electricity of every option of a fleet is known without that of the site."""
    if fleet is None:
        return False
    known = {r.name for r in fleet.terms.regions if not math.isnan(r.gco2_per_kwh)}
    return all(o.terms.region in known or not math.isnan(o.terms.gco2_per_kwh) for o in fleet.options)
