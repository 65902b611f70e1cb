"""Read on which terms a fleet is planned: supplies of devices, starts and stays of options, risks, limits on means."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from hwdb import Hwdb, InputError
from hwdb.tomlfile import Table
from perfmodel.arrays import NAN
from perfmodel.money import HOURS_PER_MONTH
from perfmodel.unit_factors import GRAMS_PER_KG, PERCENT, SECONDS_PER_HOUR
from search.scenario.inventory import SUPPLY_KINDS, Supply, TermsOfUse, placed
from search.scenario.limits import MAX_SPARE_NODES
from search.scenario.offer import device_called
from search.scenario.regions import Region, check_region

#: Draws of the throughput where the scenario gives a spread and no number of them. Chosen: a share of 95 in 100 shows.
DRAWS = 100
#: Most draws that are read. Chosen: each is one constraint per class and period.
MOST_DRAWS = 1000
#: Share of the draws that is served where the scenario does not say. Chosen: the usual one in twenty.
KEPT = 0.95
#: Relative distance from the optimum at which the solver may stop, where nothing else is asked. Chosen: below what any
#: price is known to.
DEFAULT_GAP = 1e-6
#: Seconds that one solution may take, where nothing else is asked. Chosen.
TIME_LIMIT_S = 60.0


@dataclass(frozen=True)
class OptionTerms(TermsOfUse):
    """On which terms an option of a scenario is used. start_up_h is NaN where it is not stated.

    throughput_spread: log standard deviation of the throughput of one replica, NaN for that of the fleet.
    """

    throughput_spread: float = NAN
    start_up_h: float = NAN


@dataclass(frozen=True)
class FleetCase:
    """A case that the fleet has to survive: requests whose outputs are `output_factor` times as long."""

    name: str
    output_factor: float


@dataclass(frozen=True)
class FleetTerms:
    """On which terms a fleet is planned.

    supplies: of devices; the price of one is NaN where that of the hardware database holds. mean_budget: USD per hour
    over the day. carbon: grams of CO2e per hour over the day. spare: nodes that may fail, by device or domain.
    spare_domains: domains that may fail. horizon_h: hours over which moves are spread. draws, worlds_kept: draws of the
    throughput, and the share of them that is served. throughput_spread: log standard deviation of the draws. cases: to
    be survived. time_limit_s, gap: seconds for all plans, and the relative gap at which the solver may stop. regions:
    where options stand and requests come from.
    """

    supplies: tuple[Supply, ...] = ()
    mean_budget: float = math.inf
    carbon: float = math.inf
    spare: Mapping[str, int] = field(default_factory=dict)
    spare_domains: int = 0
    horizon_h: float = HOURS_PER_MONTH
    draws: int = DRAWS
    worlds_kept: float = KEPT
    throughput_spread: float = 0.0
    cases: tuple[FleetCase, ...] = ()
    time_limit_s: float = TIME_LIMIT_S
    gap: float = DEFAULT_GAP
    regions: tuple[Region, ...] = ()


def read_option_terms(table: Table, database: Hwdb) -> OptionTerms:
    """Read on which terms one `[[fleet.option]]` is used, without its region. database: the hardware database."""
    return OptionTerms(
        parts={name: float(n) for name, n in _counts(table, "devices_of", database, least=1).items()},
        start_up_h=table.number("start_up_s", NAN, least=0) / SECONDS_PER_HOUR,
        min_stay_h=table.number("min_stay_h", 0.0, least=0),
        fixed=table.flag("fixed", False),
        availability=table.number("availability", 1.0, above=0, most=1),
        domain=table.text("domain", ""),
        current=table.whole("current", 0),
        migration_usd=table.number("migration_usd", 0.0, least=0),
        penalty_usd_per_hour=table.number("penalty_usd_per_hour", 0.0),
        gco2_per_kwh=table.number("gco2_per_kwh", NAN, least=0),
        throughput_spread=table.number("throughput_spread", NAN, least=0, most=1),
    )


def read_fleet_terms(table: Table, database: Hwdb, regions: tuple[Region, ...]) -> FleetTerms:
    """Read on which terms the `[fleet]` of a scenario is planned. database: the hardware database."""
    cases = [_case(t) for t in table.tables("case", ())]
    names = [region.name for region in regions]
    return FleetTerms(
        supplies=tuple(_supply(t, database, names) for t in table.tables("supply", ())),
        mean_budget=table.number("usd_per_month", math.inf, above=0) / HOURS_PER_MONTH,
        carbon=table.number("co2_kg_per_month", math.inf, above=0) * GRAMS_PER_KG / HOURS_PER_MONTH,
        spare=_counts(table, "spare", database, least=0, most=MAX_SPARE_NODES, places=names),
        spare_domains=table.whole("spare_domains", 0, most=MAX_SPARE_NODES),
        horizon_h=table.number("horizon_h", HOURS_PER_MONTH, above=0),
        draws=table.whole("worlds", DRAWS, least=1, most=MOST_DRAWS),
        worlds_kept=table.number("worlds_kept", KEPT, above=0, most=1),
        throughput_spread=table.number("throughput_spread", 0.0, least=0, most=1),
        cases=tuple(cases),
        time_limit_s=table.number("time_limit_s", TIME_LIMIT_S, above=0),
        gap=table.number("gap_percent", DEFAULT_GAP * PERCENT, least=0, most=PERCENT) / PERCENT,
        regions=regions,
    )


def _counts(
    table: Table, key: str, database: Hwdb, *, least: int, most: float = math.inf, places: Sequence[str] = ()
) -> dict[str, int]:
    """Read the inner table `key`: a whole number by device, at least `least`; empty where the key is absent.

    places: names that stand for themselves, such as those of regions.
    """
    if key not in table:
        table.get(key, None)
        return {}
    inner, found = table.table(key), dict[str, int]()
    for name in inner.keys():  # noqa: SIM118 - a Table is no mapping
        device = name if name in places else device_called(name, database)
        if device in found:
            raise inner.error(name, f"{device} is given twice, in two spellings; give it once")
        found[device] = inner.whole(name, least=least, most=most)
    return found


def _case(table: Table) -> FleetCase:
    """Read one `[[fleet.case]]` table."""
    found = FleetCase(name=table.text("name"), output_factor=table.number("output_factor", least=1))
    table.done()
    return found


def _supply(table: Table, database: Hwdb, regions: Sequence[str]) -> Supply:
    """Read one `[[fleet.supply]]` table. Its price is NaN where it states none and the database is asked.

    regions: names of those that the fleet has.
    """
    written, kind = table.text("device"), table.text("price_kind", choices=SUPPLY_KINDS)
    price = table.number("usd_per_hour", NAN, least=0)
    try:
        device = database.device(written).name
    except InputError as error:
        if price != price:
            raise table.error("device", str(error)) from None
        device = written
    most = table.number("most", math.inf, least=0)
    if kind == "owned" and math.isinf(most):
        raise table.error("most", "say how many devices are owned")
    spot = [k for k in ("interruptions_per_hour", "lost_share") if k in table and kind != "spot"]
    if spot:
        raise table.error(spot[0], f'only devices of price_kind = "spot" are taken back; these are {kind}')
    found = Supply(
        device=placed(device, check_region(table, "region", table.text("region", ""), regions)),
        kind=kind,
        usd_per_hour=price,
        most=most,
        least=table.number("least", 0.0, least=0, most=most),
        least_spend=table.number("least_usd_per_hour", 0.0, least=0),
        interruptions_per_hour=table.number("interruptions_per_hour", 0.0, least=0),
        lost_share=table.number("lost_share", 1.0, least=0, most=1),
    )
    table.done()
    return found
