"""Define the `[fleet]` table of a scenario: request classes, options, periods; and check that they belong together."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from hwdb.tomlfile import Table
from perfmodel import Slo, Workload
from perfmodel.arrays import NAN
from search.scenario.regions import over_network, round_trip
from search.scenario.terms import FleetTerms, OptionTerms

#: Cut of a class that is left to the search.
AUTO_BUCKETS = "auto"


@dataclass(frozen=True)
class FleetClass:
    """One class of requests. rate: (P,) requests/s in each of P periods.

    model: the model that serves it, "" where every option gives its throughput. workload: its lengths, at a rate of 1
    request/s; None where every option gives its throughput. slo: the scenario's where the class has none. remarks: what
    the reader of its trace assumed or left out. buckets: number by prompt and by output length into which it is cut,
    `auto` for as many as pay off, () for none. region: where its requests come from, "" for next to every replica.
    """

    name: str
    rate: tuple[float, ...]
    model: str = ""
    workload: Workload | None = None
    slo: Slo = field(default_factory=Slo)
    remarks: tuple[str, ...] = ()
    buckets: tuple[int, int] | tuple[()] | str = ()
    region: str = ""


@dataclass(frozen=True)
class FleetOption:
    """One way to serve requests: a device, its layouts, and what a replica costs and serves.

    device: name in the hardware database; any name where the throughput is given. devices: per replica, 0 where the
    layout decides. usd_per_hour: of a replica, NaN where the database's price holds. power: watts of a replica, NaN
    where modelled or unknown. throughput: requests/s of one replica by class name, None where it is to be modelled.
    models: those that it may serve, empty for all. layouts: values of tp, pp, ep, dp to try. weight, kv: formats to
    try. reading: what another spelling of the device was taken for, "" where its name was given. terms: on which it is
    used. prefill_device, prefill_tp: device and tp of the workers that prefill, where the option is a pair of pools and
    `device` decodes; "" for a colocated one. together: models that one replica serves at once, () for one model.
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
    reading: str = ""
    terms: OptionTerms = field(default_factory=OptionTerms)
    prefill_device: str = ""
    prefill_tp: tuple[int, ...] = ()
    together: tuple[str, ...] = ()


@dataclass(frozen=True)
class FleetSpec:
    """The `[fleet]` table as read: request classes, options and P periods.

    hours: (P,) length of each period. elastic: True where options and replicas may change between periods. scaled: True
    where the options of the least-cost static fleet are kept, and their replicas follow the load. terms: on which the
    fleet is planned.
    """

    classes: tuple[FleetClass, ...]
    options: tuple[FleetOption, ...]
    hours: tuple[float, ...] = (1.0,)
    elastic: bool = False
    scaled: bool = False
    terms: FleetTerms = field(default_factory=FleetTerms)

    @property
    def modelled(self) -> tuple[FleetOption, ...]:
        """Return the options whose throughput has to be modelled."""
        return tuple(o for o in self.options if o.throughput is None)


def check_fleet(table: Table, spec: FleetSpec) -> None:
    """Raise `InputError` where classes and options of a fleet do not belong together. table: `[fleet]`."""
    _check_modellable(table, spec)
    _check_together(table, spec)
    _check_latencies(table, spec)


def _check_modellable(table: Table, spec: FleetSpec) -> None:
    """Raise `InputError` where an option is to be modelled and a class lacks a model or lengths."""
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


def _check_together(table: Table, spec: FleetSpec) -> None:
    """Raise `InputError` where an option serves a model together with others that no class asks for, or classes whose
    model is not said."""
    asked = {c.model for c in spec.classes}
    for option in (o for o in spec.options if o.together):
        unknown = [name for name in option.together if name not in asked]
        if unknown:
            raise table.error(
                "option", f"no class asks for {unknown[0]!r}, which option {option.name!r} serves together"
            )
        if "" in asked:
            raise table.error("class", f"option {option.name!r} serves several models; give every class its model")


def _check_latencies(table: Table, spec: FleetSpec) -> None:
    """Raise `InputError` where a class with a bound on TTFT or E2E may be served from a region that is not said to be
    how far away."""
    for c in (c for c in spec.classes if over_network(c.slo)):
        for here in dict.fromkeys(o.terms.region for o in spec.options):
            if np.isnan(round_trip(spec.terms.regions, here, c.region)):
                text = f"class {c.name!r} bounds TTFT or E2E, and nothing says how far {c.region!r} is from {here!r}"
                raise table.error("region", f"{text}; add latency_ms = {{ {c.region} = 80 }} to the region {here!r}")
