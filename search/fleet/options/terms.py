"""Put the terms of a scenario's fleet into the input of the program: supplies, starts, risks, worlds, objective."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields, replace
from typing import TYPE_CHECKING

import numpy as np

from hwdb import InputError
from perfmodel.arrays import Array
from perfmodel.power import energy_kwh, energy_usd
from search.fleet.accounting.account import intensities
from search.fleet.options.regions import RegionTerms, in_region, shorter
from search.fleet.problem_data.problem import FleetProblem, World
from search.fleet.replicas.layout_set import rate_and_watts
from search.fleet.replicas.modelled import Modelled
from search.planning import Tariff, tariff
from search.scenario import DEFAULT_RANKING, FleetOption, FleetSpec, Option, Supply, TermsOfUse, device_type

if TYPE_CHECKING:
    from search.scenario import Scenario

#: What a scenario ranks by -> what its fleet is planned for. Other rankings leave it at the least cost.
OBJECTIVE_OF = {
    "usd_per_hour": "cost",
    "devices": "devices",
    "power_w": "power",
    "gco2_per_million_tokens": "carbon",
    "output_tok_s": "traffic",
    "request_rate_rps": "traffic",
}


def on_terms(made: Sequence[Option], option: FleetOption, starts: Sequence[tuple[float, str]]) -> tuple[Option, ...]:
    """Return the options of the program that a scenario's option became, with its terms.

    starts: (hours, basis) of the start-up of each.
    """
    told = {f.name: getattr(option.terms, f.name) for f in fields(TermsOfUse) if f.name != "parts"}
    if option.terms.parts:
        told |= {
            "parts": option.terms.parts,
            "devices": float(sum(option.terms.parts.values())),
            "device": " + ".join(option.terms.parts),
        }
        told |= {"part_nodes": dict.fromkeys(option.terms.parts, 1.0), "nodes": float(len(option.terms.parts))}
    told = {name: value for name, value in told.items() if name not in ("region", "start_up_h")}
    timed = [replace(o, start_up_h=h, start_up_basis=basis) for o, (h, basis) in zip(made, starts, strict=True)]
    return tuple(in_region(replace(o, **told), option.terms.region) for o in timed)


def with_terms(
    problem: FleetProblem, scenario: Scenario, spec: FleetSpec, modelled: Modelled, spreads: Array
) -> FleetProblem:
    """Return the problem with what the scenario asks of the fleet as a whole.

    modelled: what the options run. spreads: (O,) log standard deviation of the throughput of each option.
    """
    terms, hours = spec.terms, np.asarray(problem.hours, dtype=float)
    inventory = replace(
        problem.inventory,
        mean_budget=terms.mean_budget,
        carbon=terms.carbon,
        spare=terms.spare,
        spare_domains=terms.spare_domains,
        supplies=tuple(_priced(s, scenario, problem) for s in terms.supplies),
        stock={**problem.inventory.stock, **RegionTerms(terms.regions).stock()},
    )
    unknown = [n for n in terms.spare if not any(n in o.pools for o in problem.options)]
    if unknown:
        raise InputError(f"{scenario.path}: [fleet] spare: no option stands on or in {unknown[0]!r}; name a device")
    return replace(
        problem,
        inventory=inventory,
        objective=OBJECTIVE_OF.get(scenario.minimise, "cost") if scenario.fleet is not None else "cost",
        remarks=(*problem.remarks, *_unranked(scenario), *RegionTerms(terms.regions).remarks(spec)),
        gco2_per_kwh=intensities(scenario.site, hours),
        region_gco2=RegionTerms(terms.regions).grids(hours),
        network=RegionTerms(terms.regions).network(spec.classes),
        horizon_h=terms.horizon_h,
        time_limit_s=terms.time_limit_s,
        gap=terms.gap,
        worlds=(
            *problem.worlds,
            *cases_of(problem, spec, modelled),
            *draws(problem, spreads, terms.draws, scenario.choices.seed),
        ),
        worlds_kept=terms.worlds_kept,
    )


def _unranked(scenario: Scenario) -> tuple[str, ...]:
    """Return a remark where the scenario ranks by what no fleet is planned for; else nothing."""
    ranking = scenario.minimise
    if ranking in OBJECTIVE_OF and (scenario.fleet is not None or ranking == DEFAULT_RANKING):
        return ()
    known = f"; a fleet is ranked by {', '.join(OBJECTIVE_OF)}" if ranking not in OBJECTIVE_OF else ""
    return (f"the fleet is the one of least cost: rank_by = {ranking!r} plays no part in it{known}",)


def cases_of(problem: FleetProblem, spec: FleetSpec, modelled: Modelled) -> tuple[World, ...]:
    """Return the cases that the fleet has to survive, each as a world.

    A modelled replica is asked what it serves within the SLOs at the longer outputs, used to the full. The throughput
    of any other option is divided by the factor: assumed, it makes as many tokens per second as before.
    """
    found = []
    for case in spec.terms.cases:
        speed = np.nan_to_num(problem.throughput) / case.output_factor
        for o, option in enumerate(problem.options):
            placed = modelled.placed.get((option.name, option.model))
            for c in np.nonzero(problem.serves()[o])[0] if placed is not None else ():
                work = modelled.workloads[c]
                if work is not None and placed is not None:
                    longer = work.at(output_tokens=work.output_tokens * case.output_factor, arrival="open", rate=1.0)
                    bounds = shorter(modelled.slos[c], problem.round_trip(option, problem.classes[c]))
                    target = replace(modelled.targets[option.model], workload=longer, slo=bounds or modelled.slos[c])
                    speed[o, c] = rate_and_watts(target, placed)[0][0]
        stated = bool(np.allclose(speed * case.output_factor, np.nan_to_num(problem.throughput), rtol=1e-12))
        found.append(World(case.name, speed, True, case.output_factor if stated else np.nan))
    return tuple(found)


def spreads_of(spec: FleetSpec, counts: Sequence[int]) -> Array:
    """Return the log standard deviation of the throughput of each option of the program, (O,).

    counts: how many of them each option of the scenario became.
    """
    own = np.array([o.terms.throughput_spread for o in spec.options])
    return np.repeat(np.where(np.isnan(own), spec.terms.throughput_spread, own), counts)


def draws(problem: FleetProblem, spreads: Array, count: int, seed: int) -> tuple[World, ...]:
    """Draw worlds of the throughput: options on one device type are faster or slower together.

    spreads: (O,) log standard deviations; where all are 0 there is nothing to draw. count: of worlds. seed: of the
    draws. Half of the variance is common to all options, a quarter to those on one device, a quarter an option's own.
    """
    if not spreads.any():
        return ()
    random = np.random.default_rng(seed)
    types = [device_type(o.device) for o in problem.options]
    names = list(dict.fromkeys(types))
    on = np.array([names.index(t) for t in types])
    common = random.standard_normal((count, 1))
    device, own = random.standard_normal((count, len(names))), random.standard_normal((count, len(on)))
    normal = np.sqrt(0.5) * common + 0.5 * device[:, on] + 0.5 * own
    factor = np.exp(spreads * normal)
    return tuple(World(f"draw {i + 1}", problem.throughput * f[:, None]) for i, f in enumerate(factor))


def _priced(supply: Supply, scenario: Scenario, problem: FleetProblem) -> Supply:
    """Return a supply with its price: the scenario's, else that of the hardware database for its kind.

    It is that of a node where the device is paid by the node.
    """
    database, offer = scenario.hardware(), scenario.offer
    if supply.device not in problem.device_names:
        told = f"{scenario.path}: [[fleet.supply]] {supply.name}: no option stands on {supply.device}"
        elsewhere = [n for n in problem.device_names if device_type(n) == device_type(supply.device)]
        raise InputError(told + (f", but on {', '.join(elsewhere)}; give the region" if elsewhere else ""))
    device = device_type(supply.device)
    if device not in database.names():
        return supply
    kind = supply.kind if supply.kind != "owned" else "on_demand"
    bill = tariff(database, (device,), offer.nodes, kind, {}, supply=scenario.site.psu)
    price = supply.usd_per_hour
    if np.isnan(price):
        usual = _usual(supply, float(bill.usd_per_hour[0]), problem.options, scenario)
        price = _electricity(supply, scenario, bill) if supply.kind == "owned" else usual
        told = bill.price[0]
        if supply.kind != "owned" and (np.isnan(price) or "for want of" in told):
            where = f"{scenario.path}: [[fleet.supply]] {supply.name}"
            raise InputError(f"{where}: the hardware database has no such price; add usd_per_hour of a device")
    per_node = float(bill.per_node[0]) if supply.device in problem.by_node else 1.0
    most, least = supply.most / per_node, supply.least / per_node
    return replace(supply, usd_per_hour=price * per_node, most=most, least=least)


def _usual(supply: Supply, usd: float, options: Sequence[Option], scenario: Scenario) -> float:
    """Return USD per hour of a device of a supply where it stands. usd: the price without a region."""
    regions = scenario.fleet.terms.regions if scenario.fleet is not None else ()
    here = RegionTerms(regions).called(next((o.region for o in options if supply.device in o.devices_of), ""))
    own = here.usd_per_hour.get(device_type(supply.device), usd * here.price_factor)
    return float(own if supply.kind == "on_demand" else usd * here.price_factor)


def _electricity(supply: Supply, scenario: Scenario, bill: Tariff) -> float:
    """Return USD per hour of the electricity of one owned device at its power limit."""
    usd, site = scenario.site.usd_per_kwh, scenario.site
    if np.isnan(usd):
        where = f"{scenario.path}: [[fleet.supply]] {supply.name}"
        raise InputError(f"{where}: owned devices take electricity; give [site] usd_per_kwh, or usd_per_hour here")
    return float(energy_usd(energy_kwh(float(bill.device_limit[0]) * site.pue, 1.0), usd))
