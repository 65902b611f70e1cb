"""The `[fleet]` section of a scenario: request classes, the options that may serve them, periods of the day.

Two forms mix freely. An option with `throughput_rps` states what one replica serves of each class within the SLO: a
plain table, as measured or as printed elsewhere. An option without it names a device and layouts, and its throughput
is modelled from the classes' models, lengths and objectives.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from hwdb import UnknownName
from hwdb.tomlfile import Table
from perfmodel import Slo, Workload
from perfmodel import model as model_of
from search.scenario.workload import LENGTHS, WORKLOAD_KEYS, read_request, read_slo, relay, wholes

NAN = float("nan")
#: Parallel layouts that a modelled option may list.
LAYOUTS = ("tp", "pp", "ep", "dp")


@dataclass(frozen=True)
class FleetClass:
    """One class of requests. rate: (P,) requests/s in each period.

    model: what serves it, "" in table form. workload: its lengths (rate 1), None in table form. slo: its objectives,
    the scenario's where it states none.
    """

    name: str
    rate: tuple[float, ...]
    model: str = ""
    workload: Workload | None = None
    slo: Slo = field(default_factory=Slo)


@dataclass(frozen=True)
class FleetOption:
    """One way to serve. throughput: requests/s of one replica by class name, None where it is to be modelled.

    device: name in hwdb (any name in table form). devices: taken by a replica, 0 where the layout says so. models:
    those it may serve, empty for all. layouts: values of tp, pp, ep, dp to try; weight, kv: formats to try.
    usd_per_hour: of a replica, NaN where hwdb's price holds. power: W of a replica, NaN where modelled or unknown.
    """

    name: str
    device: str
    devices: int = 0
    usd_per_hour: float = NAN
    power: float = NAN
    throughput: Mapping[str, float] | None = None
    models: tuple[str, ...] = ()
    layouts: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    weight: tuple[str, ...] = ()
    kv: tuple[str, ...] = ()


@dataclass(frozen=True)
class FleetSpec:
    """Classes, options and periods. hours: (P,) length of each period; elastic: replicas change between periods."""

    classes: tuple[FleetClass, ...]
    options: tuple[FleetOption, ...]
    hours: tuple[float, ...] = (1.0,)
    elastic: bool = False

    @property
    def modelled(self) -> tuple[FleetOption, ...]:
        """Options whose throughput has to be modelled."""
        return tuple(o for o in self.options if o.throughput is None)


def read_fleet(table: Table, folder: Path, slo: Slo, model: str, devices: tuple[str, ...]) -> FleetSpec:
    """The `[fleet]` table. slo, model: the scenario's own, for classes that state none. devices: known to hwdb."""
    hours = table.numbers("hours", (1.0,))
    if min(hours) <= 0:
        raise table.error("hours", f"{min(hours):g} h is no period; give hours above 0")
    elastic = table.flag("elastic", False)
    classes = [_class(t, folder, slo, model, len(hours)) for t in table.tables("class")]
    options = [_option(t, [c.name for c in classes], devices) for t in table.tables("option")]
    table.done()
    for rows, what in ((classes, "class"), (options, "option")):
        seen = [r.name for r in rows]
        twice = next((n for n in seen if seen.count(n) > 1), "")
        if twice:
            raise table.error(what, f"two of [[fleet.{what}]] are called {twice!r}; give each its own name")
    spec = FleetSpec(tuple(classes), tuple(options), hours, elastic)
    _modellable(table, spec)
    return spec


def _class(table: Table, folder: Path, slo: Slo, model: str, periods: int) -> FleetClass:
    rate = table.numbers("request_rate_rps", least=0)
    if len(rate) not in (1, periods):
        raise table.error("request_rate_rps", f"{len(rate)} rates for {periods} periods; give one for all or one each")
    named = table.text("model", model) if "model" in table or model else ""
    if "model" in table:
        relay(table, "model", model_of, named)
    own = read_slo(table.table("slo")) if "slo" in table else slo
    workload = read_request(table, folder, load=False).workload if any(k in table for k in LENGTHS) else None
    made = FleetClass(table.text("name"), rate * periods if len(rate) == 1 else rate, named, workload, own)
    table.done(also=WORKLOAD_KEYS)
    return made


def _option(table: Table, classes: list[str], devices: tuple[str, ...]) -> FleetOption:
    stated = _throughput(table, classes) if "throughput_rps" in table else None
    device = table.text("device")
    if stated is None and device not in devices:
        raise table.error("device", str(UnknownName("device", device, devices)))
    price = table.number("usd_per_hour", NAN, least=0)
    if stated is not None and price != price and device not in devices:
        raise table.error("", f"no price for {device!r}, which hwdb does not know; add usd_per_hour of a replica")
    models = table.texts("models", ())
    for model in models:
        relay(table, "models", model_of, model)
    layouts = {k: wholes(table, k) for k in LAYOUTS if k in table}
    made = FleetOption(
        name=table.text("name", device),
        device=device,
        devices=table.whole("devices", 0, least=1),
        usd_per_hour=price,
        power=table.number("power_w", NAN, above=0),
        throughput=stated,
        models=models,
        layouts=layouts,
        weight=table.texts("weight", ()),
        kv=table.texts("kv", ()),
    )
    table.done(also=LAYOUTS)
    return made


def _throughput(table: Table, classes: list[str]) -> dict[str, float]:
    """Requests/s by class: a table by name, or a list in the order of the classes. What is left out is 0."""
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


def _modellable(table: Table, spec: FleetSpec) -> None:
    """Every class of a fleet with modelled options needs a model and lengths."""
    if not spec.modelled:
        return
    for c in spec.classes:
        lacking = [n for n, v in (("model", c.model), ("dataset or input_tokens", c.workload)) if not v]
        if lacking:
            raise table.error(
                "class",
                f"class {c.name!r} lacks {' and '.join(lacking)}, which option "
                f"{spec.modelled[0].name!r} needs to be modelled; add them or give the option throughput_rps",
            )
