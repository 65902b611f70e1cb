"""Read the `[limits]` and `[site]` tables of a scenario: bounds on the whole plan, and the site that it runs at."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

from hwdb import InputError
from hwdb.tomlfile import Table
from perfmodel.power import SUPPLIES
from perfmodel.unit_factors import WATTS_PER_KW
from search.scenario.workload import relay

#: What a limit on power may bound: the mean draw at the load, or the rated power (power limits of devices, and hosts).
POWER_BASES = ("mean", "rated")
#: Largest `spare_nodes` that is read. Chosen: more is taken for a typing error.
MAX_SPARE_NODES = 100
#: Share of the capacity of a replica that a load with a rate may use where the scenario does not say. Chosen: the
#: closed form and the simulator agree below it, and waits grow steeply above it (docs/closed-form.md, open loops).
MOST_USED = 0.8
#: Largest power usage effectiveness that is read. Chosen: more is taken for a typing error.
MAX_PUE = 5


@dataclass(frozen=True)
class Limits:
    """Bounds on the whole plan; inf where there is none.

    power: watts at the site's meter. power_basis: what it bounds, one of `POWER_BASES`. spare_nodes: number
    of nodes, any of them, that may fail with every SLO still kept. confidence: least probability that each SLO bound
    holds. utilisation: most of the request rate within the SLOs that a load with a rate may use. utilisation_stated:
    whether the scenario gives it; where it does not, a plan that has no choice may use more. rack: watts that the nodes
    of a rack may be rated for together, cooling apart.
    """

    usd_per_hour: float = math.inf
    power: float = math.inf
    devices: float = math.inf
    nodes: float = math.inf
    spare_nodes: int = 0
    confidence: float = 0.5
    power_basis: str = "mean"
    utilisation: float = MOST_USED
    utilisation_stated: bool = False
    rack: float = math.inf

    @property
    def beyond_usual(self) -> bool:
        """Return True where replicas are used to their full capacity because nothing else meets the request."""
        return not self.utilisation_stated and self.utilisation > MOST_USED


@dataclass(frozen=True)
class Site:
    """The site that a plan runs at: its overhead and its electricity.

    pue: power usage effectiveness. usd_per_kwh, gco2_per_kwh: price and carbon (gCO2e) of electricity, NaN unknown.
    gco2_hours: carbon of each hour of the day, (24,), () where only the mean is known. carbon: where the figure comes
    from, in words. embodied_kg: kg CO2e of making one device with its part of the server, NaN unknown. psu: 80 PLUS
    level of the power supplies of servers, "" for those that nodes usually have.
    """

    pue: float = 1.0
    usd_per_kwh: float = math.nan
    gco2_per_kwh: float = math.nan
    gco2_hours: tuple[float, ...] = ()
    carbon: str = ""
    embodied_kg: float = math.nan
    psu: str = ""


def read_limits(table: Table) -> Limits:
    """Read the `[limits]` table; a bound that is absent is inf."""
    limits = Limits(
        usd_per_hour=table.number("usd_per_hour", math.inf, above=0),
        power=table.number("power_kw", math.inf, above=0) * WATTS_PER_KW,
        power_basis=table.text("power_basis", Limits.power_basis, choices=POWER_BASES),
        devices=table.number("devices", math.inf, least=1),
        nodes=table.number("nodes", math.inf, least=1),
        spare_nodes=table.whole("spare_nodes", 0, most=MAX_SPARE_NODES),
        confidence=table.number("confidence", Limits.confidence, least=0, most=1),
        utilisation=table.number("utilisation", Limits.utilisation, above=0, most=1),
        utilisation_stated="utilisation" in table,
        rack=table.number("rack_kw", math.inf, above=0) * WATTS_PER_KW,
    )
    table.done()
    return limits


def read_site(table: Table, folder: Path) -> Site:
    """Read the `[site]` table; the file of hours is relative to `folder`."""
    stated = table.number("gco2_per_kwh", math.nan, least=0)
    place, hours = table.text("electricity_grid", ""), table.text("gco2_by_hour", "")
    key = "gco2_by_hour" if hours else "electricity_grid"
    mean, by_hour, words = relay(table, key, carbon_of, stated, place, str(folder / hours) if hours else "")
    site = Site(
        pue=table.number("pue", Site.pue, least=1, most=MAX_PUE),
        usd_per_kwh=table.number("usd_per_kwh", math.nan, least=0),
        gco2_per_kwh=mean,
        gco2_hours=by_hour,
        carbon=words,
        embodied_kg=table.number("embodied_kg_per_device", math.nan, least=0),
        psu=table.text("psu", "", choices=("", *SUPPLIES)),
    )
    table.done()
    return site


def carbon_of(stated: float, place: str, hours: str) -> tuple[float, tuple[float, ...], str]:
    """Return (mean gCO2e per kWh, that of each hour of the day, where they come from) of what is given.

    stated: the user's figure, NaN for none. place: name of a grid, or of a region in the file of hours. hours: path of
    that file. "" for what is not given; at most one source of figures may be.
    """
    if not math.isnan(stated) and (place or hours):
        raise InputError("gco2_per_kwh is given too; give one of gco2_per_kwh, electricity_grid and gco2_by_hour")
    if hours:
        from hwdb import read_grid_hours

        by_hour = read_grid_hours(hours, place)
        mean = math.fsum(by_hour) / len(by_hour)
        where = f"{Path(hours).name}{place and f', {place}'}"
        return mean, by_hour, f"{mean:.4g} gCO2e per kWh, {min(by_hour):.4g} to {max(by_hour):.4g} by hour ({where})"
    if place:
        from hwdb import grid

        known = grid(place)
        return known.gco2_per_kwh, (), known.words
    return stated, (), "" if math.isnan(stated) else f"{stated:g} gCO2e per kWh, given by the user"
