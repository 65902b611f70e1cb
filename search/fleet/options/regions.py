"""What a region changes of its options: prices, the carbon of electricity, and the network on the way to users.

A round trip between the region of a class and that of a replica is a constant on top of TTFT and E2E, whatever the
statistic. So an option is modelled with bounds that are shorter by it, and serves no class of which it takes up a
bound: throughput[o,c] = 0 where latency[region of o, region of c] >= a bound of class c on TTFT or E2E.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from perfmodel import Slo
from perfmodel.arrays import Array, Index, Mask
from perfmodel.unit_factors import MS_PER_S
from search.fleet.accounting.account import intensities
from search.fleet.accounting.idle import Idle, idle_devices
from search.fleet.problem_data.problem import FleetProblem
from search.scenario import (
    OVER_THE_NETWORK,
    FleetClass,
    FleetOption,
    FleetSpec,
    Option,
    Region,
    Site,
    placed,
    round_trip,
)

if TYPE_CHECKING:
    from search.planning import Tariff
    from search.scenario import Scenario


@dataclass(frozen=True)
class RegionTerms:
    """The regions of a fleet."""

    regions: tuple[Region, ...] = ()

    def called(self, name: str) -> Region:
        """Return the region of that name; one that changes nothing for ""."""
        return next((r for r in self.regions if r.name == name), Region(""))

    def slo(self, option: FleetOption, c: FleetClass) -> Slo | None:
        """Return the SLO of a class without the network between it and an option; None where nothing is left of it."""
        return shorter(c.slo, self.seconds(option.terms.region, c.region))

    def seconds(self, here: str, there: str) -> float:
        """Return the seconds of a round trip between two regions; 0 where no SLO asks for an unknown one."""
        return float(np.nan_to_num(round_trip(self.regions, here, there)))

    def reached(self, option: FleetOption, classes: Sequence[FleetClass]) -> Mask:
        """Return the classes that the network leaves time to serve, (C,)."""
        return np.array([self.slo(option, c) is not None for c in classes], dtype=bool)

    def device_usd(self, option: FleetOption, device: str, usual: float) -> float:
        """Return USD per hour of one device where an option stands. usual: its price without a region."""
        here = self.called(option.terms.region)
        return float(here.usd_per_hour.get(device, usual * here.price_factor))

    def network(self, classes: Sequence[FleetClass]) -> dict[tuple[str, str], float]:
        """Return the seconds of a round trip by (region of an option, name of a class)."""
        return {(r.name, c.name): self.seconds(r.name, c.region) for r in self.regions for c in classes}

    def grids(self, hours: Array) -> dict[str, Array]:
        """Return gCO2e per kWh of each period by region, (P,) each, where it is known. hours: of the periods."""
        sites = {r.name: Site(gco2_per_kwh=r.gco2_per_kwh, gco2_hours=r.gco2_hours) for r in self.regions}
        return {name: g for name, site in sites.items() if not np.isnan(g := intensities(site, hours)).any()}

    def site(self, site: Site) -> Site:
        """Return a site that says where the carbon of each region comes from, too."""
        told = [site.carbon, *(f"{r.carbon} in region {r.name}" for r in self.regions if r.carbon)]
        return replace(site, carbon="; ".join(filter(None, told)))

    def stock(self) -> dict[str, float]:
        """Return the devices on hand of each region, by the names that they are counted by."""
        return {placed(device, r.name): n for r in self.regions for device, n in r.stock.items()}

    def remarks(self, spec: FleetSpec) -> tuple[str, ...]:
        """Say which classes are too far from a region."""
        texts: list[str] = []
        for region in dict.fromkeys(o.terms.region for o in spec.options if o.terms.region):
            far = [c for c in spec.classes if shorter(c.slo, self.seconds(region, c.region)) is None]
            texts += [
                f"region {region} serves no request of {c.name}: a round trip of "
                f"{self.seconds(region, c.region) * MS_PER_S:g} ms takes up its bound on TTFT or E2E"
                for c in far
            ]
        return tuple(texts)


def shorter(slo: Slo, seconds: float) -> Slo | None:
    """Return an SLO whose bounds on TTFT and E2E are shorter by some seconds; None where one is 0 or less.

    >>> round(shorter(Slo.of(ttft_ms=300.0, tpot_ms=50.0), 0.1).limit("ttft"), 6)
    0.2
    """
    if not seconds:
        return slo
    left = [o.limit - seconds if o.metric in OVER_THE_NETWORK else o.limit for o in slo.objectives]
    if any(limit <= 0 for limit in left):
        return None
    return Slo(tuple(replace(o, limit=limit) for o, limit in zip(slo.objectives, left, strict=True)))


def in_region(option: Option, region: str) -> Option:
    """Return an option of the program whose devices are counted in a region."""
    return replace(
        option,
        region=region,
        device=placed(option.device, region),
        parts={placed(d, region): n for d, n in option.parts.items()},
        part_nodes={placed(d, region): n for d, n in option.part_nodes.items()},
    )


def node_prices(
    abroad: RegionTerms, spec: FleetSpec, bill: Tariff, per_node: Array, own: frozenset[str]
) -> dict[str, float]:
    """Return USD per hour of a whole node by the name that its devices are counted by, where they are paid by the node.

    per_node: (D,) of each device of the tariff without a region. own: devices whose replicas have a price of their own.
    """
    usual: Mapping[str, float] = {
        d.name: float(usd) for d, usd, whole in zip(bill.devices, per_node, bill.whole, strict=True) if whole
    }
    count = {d.name: float(n) for d, n in zip(bill.devices, bill.per_node, strict=True)}
    owned = {d.name for d, is_owned in zip(bill.devices, bill.owned, strict=True) if is_owned}
    out = {}
    for option in spec.options:
        for device in filter(None, (option.device, option.prefill_device)):
            if device in usual and placed(device, option.terms.region) not in own:
                one = usual[device] / count[device]
                price = one if device in owned else abroad.device_usd(option, device, one)
                out[placed(device, option.terms.region)] = price * count[device]
    return out


def stock_left(problem: FleetProblem, replicas: Index, scenario: Scenario) -> tuple[Idle, ...]:
    """Return the devices on hand that some replicas leave idle in their fullest period. replicas: (O, P)."""
    used = {name: float((problem.stocked(name) @ replicas).max()) for name in problem.inventory.stock}
    return idle_devices(used, problem.inventory, scenario.hardware(), scenario.offer.usd_per_hour)
