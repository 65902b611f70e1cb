"""Read the `[fleet]` table of a scenario: request classes, the options that may serve them, periods of the day.

An option comes in one of two forms, which mix freely. A stated option has `throughput_rps`: the requests/s that one
replica serves of each class within the SLO, measured or printed elsewhere. A modelled option names a device and
layouts; its throughput follows from the model, lengths and SLO of each class.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from hwdb import Hwdb, InputError
from hwdb.tomlfile import Table
from perfmodel import Slo
from perfmodel import model as model_of
from perfmodel.arrays import NAN
from perfmodel.unit_factors import SECONDS_PER_HOUR
from perfmodel.workload import Period
from search.scenario.fleet_spec import AUTO_BUCKETS, FleetClass, FleetOption, FleetSpec, check_fleet
from search.scenario.inventory import placed
from search.scenario.load_shape import BY_HOUR, stated_by_hour
from search.scenario.regions import check_region, read_regions
from search.scenario.terms import read_fleet_terms, read_option_terms
from search.scenario.workload import CLASS_KEYS, LENGTHS, Request, read_request, read_slo, relay, wholes

#: Most requests/s of a class. Chosen: numbers of replicas stay below 1e9, above which solvers lose the last digit.
MOST_RATE = 1e9
#: Most periods of a day or week. Chosen: the hours of a week.
MOST_PERIODS = 168

#: Most buckets by prompt, and by output length. Chosen: more than any study of mixes uses.
MOST_BUCKETS = 64

#: Degrees of parallelism that a modelled option may list.
LAYOUTS = ("tp", "pp", "ep", "dp")
#: Keys of options of two kinds: pairs of pools, and replicas of several models.
OWN_KEYS = ("prefill_device", "prefill_tp", "together")


@dataclass(frozen=True)
class Defaults:
    """Values that `[fleet]` takes from the rest of the scenario.

    folder: file names are relative to it. slo, model: for classes that have none. database: the hardware database.
    """

    folder: Path
    slo: Slo
    model: str
    database: Hwdb


def read_fleet(top: Table, defaults: Defaults) -> FleetSpec | None:
    """Read the `[fleet]` table of the scenario `top`; None without one."""
    if "fleet" not in top:
        return None
    table = top.table("fleet")
    hours = table.numbers("hours", (1.0,))
    if len(hours) > MOST_PERIODS:
        raise table.error("hours", f"{len(hours)} periods are too many; give at most {MOST_PERIODS}")
    if min(hours) <= 0:
        raise table.error("hours", f"{min(hours):g} h is no period; give hours above 0")
    if "option" not in table:
        table.values = {**table.values, "option": _offered(top, table, defaults.database)}
    tables, named = table.tables("class"), [str(t.values.get("device", "")) for t in table.tables("option")]
    regions = read_regions(table, defaults.folder, defaults.database, named)
    places = [region.name for region in regions]
    read = [_class(t, defaults, len(hours) if "hours" in table else 0, places) for t in tables]
    shared = _shared_hours(table, [(c.name, periods) for c, periods in read])
    hours = shared or hours
    elastic = table.flag("elastic", False)
    classes = tuple(replace(c, rate=c.rate * len(hours) if len(c.rate) == 1 else c.rate) for c, _ in read)
    names = [c.name for c in classes]
    options = tuple(o for t in table.tables("option") for o in _in_regions(t, names, defaults.database, places))
    terms = read_fleet_terms(table, defaults.database, regions)
    table.done()
    _check_unique(table, "class", names)
    _check_unique(table, "option", [o.name for o in options])
    scaled = bool(shared) and "elastic" not in table
    spec = FleetSpec(classes=classes, options=options, hours=hours, elastic=elastic, scaled=scaled, terms=terms)
    check_fleet(table, spec)
    return spec


def _offered(top: Table, table: Table, database: Hwdb) -> list[dict[str, str]]:
    """Return an option for each device that `[hardware]` of the scenario `top` offers, in any layout.

    Raises `InputError` of the `[fleet]` in `table` where nothing is offered.
    """
    hardware = top.table("hardware", {})
    named = [*hardware.texts("devices", ()), *hardware.table("stock", {}).values]
    named += [database.node(name).device for name in hardware.texts("nodes", ())]
    found = dict.fromkeys(database.device(name).name for name in named)
    if not found:
        raise table.error("", "nothing may serve; offer devices in [hardware], or give [[fleet.option]]")
    return [{"name": name, "device": name} for name in found]


def _check_unique(table: Table, what: str, names: Sequence[str]) -> None:
    """Raise `InputError` where two classes or two options have the same name. what: `class` or `option`."""
    twice = next((n for n in names if names.count(n) > 1), "")
    if twice:
        raise table.error(what, f"two of [[fleet.{what}]] are called {twice!r}; give each its own name")


def _shared_hours(table: Table, found: Sequence[tuple[str, tuple[Period, ...]]]) -> tuple[float, ...]:
    """Return the length in hours of the periods that the classes' own loads have; () where they have none.

    found: name and periods of each class. Raises `InputError` where two classes have different periods, and where the
    fleet states `hours` beside them.
    """
    known = [(name, tuple(p.length for p in periods)) for name, periods in found if periods]
    if not known:
        return ()
    first, lengths = known[0]
    if "hours" in table:
        text = f"the load of class {first!r} has {len(lengths)} periods of its own"
        raise table.error("hours", f"{text}; leave hours out, or give the class a request_rate_rps per period")
    other = next((n for n, ls in known if len(ls) != len(lengths) or not np.allclose(ls[:-1], lengths[:-1])), None)
    if other is not None:
        count = len(dict(known)[other])
        text = f"classes {first!r} and {other!r} have {len(lengths)} and {count} periods"
        raise table.error("class", f"{text}; give traces of equal length, or rate_by_hour with as many hours")
    return tuple(length / SECONDS_PER_HOUR for length in lengths)


def _rates(table: Table, request: Request | None, periods: int) -> tuple[tuple[float, ...], tuple[Period, ...]]:
    """Read how many requests/s of a class arrive: stated, by the hour, else as its trace or data set shows.

    request: the lengths of the class, None where it has none. periods: number of those that the fleet states, 0 where
    it states none. Returns (rates, (1,) or one per period; periods of the load, () where the fleet's own count).
    """
    if "request_rate_rps" in table:
        if BY_HOUR in table:
            raise table.error(BY_HOUR, "request_rate_rps and rate_by_hour contradict each other; give one")
        rate, least = table.numbers("request_rate_rps", least=0), max(periods, 1)
        if len(rate) not in (1, least):
            text = f"{len(rate)} rates for {least} periods"
            raise table.error("request_rate_rps", f"{text}; give one for all or one each")
        return rate, ()
    shown, single = (request.periods, request.rate) if request is not None else ((), NAN)
    if BY_HOUR in table and request is None:
        timing = stated_by_hour(table)
        shown, single = timing.periods, timing.rate
    if not (shown or np.isfinite(single)):
        text = "nothing says how many requests arrive"
        raise table.error("", f"{text}; give request_rate_rps, rate_by_hour or a trace with arrival times")
    return tuple(p.rate for p in shown) or (single,), shown


def _class(
    table: Table, defaults: Defaults, periods: int, regions: Sequence[str]
) -> tuple[FleetClass, tuple[Period, ...]]:
    """Read one `[[fleet.class]]` table; returns it and the periods that its load has by itself.

    periods: number of periods that the fleet states, 0 where it states none. regions: names of those that it has.
    """
    model = table.text("model", defaults.model) if "model" in table or defaults.model else ""
    if "model" in table:
        relay(table, "model", model_of, model)
    has_lengths = any(k in table for k in LENGTHS)
    request = read_request(table, defaults.folder, load=False) if has_lengths else None
    rate, shown = _rates(table, request, periods)
    if max(rate) > MOST_RATE:
        wrong = f"{max(rate):g} requests/s are more than the {MOST_RATE:g} that the integer program can count"
        key = "request_rate_rps" if "request_rate_rps" in table else BY_HOUR
        raise table.error(key, f"{wrong}; give a part of the demand and multiply")
    found = FleetClass(
        name=table.text("name"),
        rate=rate,
        model=model,
        workload=request.workload if request is not None else None,
        slo=read_slo(table.table("slo")) if "slo" in table else defaults.slo,
        remarks=request.remarks if request is not None else (),
        buckets=_buckets(table, has_lengths=has_lengths),
        region=check_region(table, "region", table.text("region", ""), regions),
    )
    table.done(also=CLASS_KEYS)
    return found, shown


def _buckets(table: Table, *, has_lengths: bool) -> tuple[int, int] | tuple[()] | str:
    """Read into how many buckets a class is cut: `auto`, one number for both lengths, or one each; () for none.

    has_lengths: whether the class says how long its requests are.
    """
    if table.get("buckets", None) is None:
        return ()
    if not has_lengths:
        raise table.error("buckets", "only requests of known length are cut; add dataset, trace or input_tokens")
    if isinstance(table.get("buckets"), str):
        return table.text("buckets", choices=(AUTO_BUCKETS,))
    counts = table.numbers("buckets", least=1)
    if len(counts) > 2 or any(n != int(n) or n > MOST_BUCKETS for n in counts):
        text = (
            f"give {AUTO_BUCKETS!r}, or one or two whole numbers up to {MOST_BUCKETS}, by prompt and by output length"
        )
        raise table.error("buckets", f"{list(counts)} is no cut; {text}")
    return (int(counts[0]), int(counts[-1]))


def _in_regions(table: Table, classes: list[str], database: Hwdb, regions: Sequence[str]) -> list[FleetOption]:
    """Read one `[[fleet.option]]` table; returns the option in each of its regions.

    It is named by the region where there are several. regions: names of those that the fleet has. The other arguments
    are those of `_option`.
    """
    names = table.texts("region", ())
    for name in names:
        check_region(table, "region", name, regions)
    one = _option(table, classes, database)
    if not names:
        return [one]
    return [
        replace(one, name=placed(one.name, name if len(names) > 1 else ""), terms=replace(one.terms, region=name))
        for name in names
    ]


def _option(table: Table, classes: list[str], database: Hwdb) -> FleetOption:
    """Read one `[[fleet.option]]` table. classes: names of the request classes. database: the hardware database."""
    stated = _throughput(table, classes) if "throughput_rps" in table else None
    device, reading = _device(table, database, needed=stated is None)
    price = table.number("usd_per_hour", NAN, least=0)
    if stated is not None and price != price and device not in database.names():
        raise table.error("", f"no price for {device!r}, which hwdb does not know; add usd_per_hour of a replica")
    models = table.texts("models", ())
    for model in models:
        relay(table, "models", model_of, model)
    option = FleetOption(
        name=table.text("name", device),
        device=device,
        reading=reading,
        devices=table.whole("devices", 0, least=1),
        usd_per_hour=price,
        power=table.number("power_w", NAN, above=0),
        throughput=stated,
        models=models,
        layouts={k: wholes(table, k) for k in LAYOUTS if k in table},
        weight=table.texts("weight", ()),
        kv=table.texts("kv", ()),
        terms=read_option_terms(table, database),
        prefill_device=_prefill(table, database, stated=stated is not None),
        prefill_tp=wholes(table, "prefill_tp") if "prefill_tp" in table else (),
        together=_together(table),
    )
    if option.terms.parts and stated is None:
        raise table.error("devices_of", "an option on several devices states its throughput; add throughput_rps")
    table.done(also=(*LAYOUTS, *OWN_KEYS))
    return option


def _together(table: Table) -> tuple[str, ...]:
    """Return the models that one replica of an option serves at once; () for one model."""
    if "together" not in table:
        return ()
    idle = next((k for k in ("prefill_device", "models") if k in table), "")
    if idle:
        raise table.error("together", f"it goes without {idle}; leave one of them out")
    names = table.texts("together")
    for name in names:
        relay(table, "together", model_of, name)
    if len(set(names)) < len(names) or len(names) == 1:
        raise table.error("together", f"{list(names)} are not several models; name two or more, each once")
    return names


def _prefill(table: Table, database: Hwdb, *, stated: bool) -> str:
    """Return the device that prefills, where an option is a pair of pools; "" for a colocated one.

    stated: True where the option states its throughput.
    """
    if "prefill_device" not in table:
        if "prefill_tp" in table:
            raise table.error("prefill_tp", "only goes with prefill_device; add it, or leave this out")
        return ""
    idle = next((k for k in ("throughput_rps", "usd_per_hour", "power_w") if k in table), "")
    if stated or idle:
        raise table.error("prefill_device", f"the pools are modelled, and {idle} is stated; leave one of them out")
    return relay(table, "prefill_device", database.device, table.text("prefill_device")).name


def _device(table: Table, database: Hwdb, *, needed: bool) -> tuple[str, str]:
    """Return the device of an option, and what another spelling was taken for.

    needed: False where the option states its throughput, so that it may name a device that the database lacks.
    """
    written = table.text("device")
    try:
        found = database.device(written)
    except InputError as error:
        if needed:
            raise table.error("device", str(error)) from None
        return written, ""
    return found.name, found.reading


def _throughput(table: Table, classes: list[str]) -> dict[str, float]:
    """Read the requests/s by class: a table by name, or a list in the order of the classes. A class left out gets 0."""
    value = table.get("throughput_rps")
    if isinstance(value, dict):
        inner = table.table("throughput_rps")
        found = {name: inner.number(name, least=0) for name in classes if name in inner}
        inner.done(also=classes)
        return found
    rates = table.numbers("throughput_rps", least=0)
    if len(rates) != len(classes):
        raise table.error("throughput_rps", f"{len(rates)} rates for {len(classes)} classes; give one each, in order")
    return dict(zip(classes, rates, strict=True))
