"""Read the `[[fleet.region]]` tables of a scenario: what devices cost there, its electricity, how far users are."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from hwdb import Hwdb
from hwdb.tomlfile import Table
from perfmodel import Slo
from perfmodel.arrays import NAN
from perfmodel.unit_factors import MS_PER_S
from search.scenario.limits import carbon_of
from search.scenario.offer import by_device
from search.scenario.workload import relay

#: Latencies that a network between a user and a replica lengthens.
OVER_THE_NETWORK = ("ttft", "e2e")


@dataclass(frozen=True)
class Region:
    """A place where options stand and requests come from.

    price_factor: on the prices of devices and options there. usd_per_hour: of one device by name, in place of the
    usual price times the factor. stock: devices by name that there are at most. gco2_per_kwh, gco2_hours, carbon: of
    its electricity, as `Site` has them. latency: seconds of a round trip to other regions by name.
    """

    name: str
    price_factor: float = 1.0
    usd_per_hour: Mapping[str, float] = field(default_factory=dict)
    stock: Mapping[str, float] = field(default_factory=dict)
    gco2_per_kwh: float = NAN
    gco2_hours: tuple[float, ...] = ()
    carbon: str = ""
    latency: Mapping[str, float] = field(default_factory=dict)


def read_regions(table: Table, folder: Path, database: Hwdb, others: Sequence[str]) -> tuple[Region, ...]:
    """Read the regions of a `[fleet]`.

    folder: file names are relative to it. others: devices that prices and stock may name beside those of the database.
    """
    found = [(t, _region(t, folder, database, list(others))) for t in table.tables("region", ())]
    names = [region.name for _, region in found]
    for inner, region in found:
        if names.count(region.name) > 1:
            raise inner.error("name", f"two of [[fleet.region]] are called {region.name!r}; give each its own name")
        for other in region.latency:
            check_region(inner, "latency_ms", other, names)
    return tuple(region for _, region in found)


def _region(table: Table, folder: Path, database: Hwdb, others: list[str]) -> Region:
    """Read one `[[fleet.region]]` table."""
    stated = table.number("gco2_per_kwh", math.nan, least=0)
    place, hours = table.text("electricity_grid", ""), table.text("gco2_by_hour", "")
    key = "gco2_by_hour" if hours else "electricity_grid"
    mean, by_hour, words = relay(table, key, carbon_of, stated, place, str(folder / hours) if hours else "")
    delays = table.table("latency_ms", {})
    found = Region(
        name=table.text("name"),
        price_factor=table.number("price_factor", 1.0, above=0),
        usd_per_hour=by_device(table, "usd_per_hour", database, others, shared=True),
        stock=by_device(table, "stock", database, others),
        gco2_per_kwh=mean,
        gco2_hours=by_hour,
        carbon=words,
        latency={n: delays.number(n, least=0) / MS_PER_S for n in delays.keys()},  # noqa: SIM118 - a Table is no mapping
    )
    table.done()
    return found


def check_region(table: Table, key: str, name: str, known: Sequence[str]) -> str:
    """Return the name of a region; raise `InputError` where no `[[fleet.region]]` has it. known: those that do."""
    if name and name not in known:
        named = f"; known: {', '.join(known)}" if known else ""
        raise table.error(key, f"no [[fleet.region]] is called {name!r}; add one{named}")
    return name


def round_trip(regions: Sequence[Region], here: str, there: str) -> float:
    """Return the seconds of a round trip between two regions, either of which may state it; NaN where none does.

    It is 0 within a region that states nothing else, and where either is "": no region.

    >>> pair = (Region("a", latency={"b": 0.08}), Region("b"))
    >>> round_trip(pair, "b", "a"), round_trip(pair, "b", "b"), round_trip(pair, "", "a")
    (0.08, 0.0, 0.0)
    """
    if not here or not there:
        return 0.0
    known = {r.name: r.latency for r in regions}
    none = 0.0 if here == there else NAN
    return known[here].get(there, known[there].get(here, none))


def over_network(slo: Slo) -> bool:
    """Return whether an SLO bounds a latency that a network lengthens."""
    return any(o.metric in OVER_THE_NETWORK for o in slo.objectives)
