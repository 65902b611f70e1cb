"""Every constraint of the fleet program against brute force: all fleets of small instances, counted by hand."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import combinations, combinations_with_replacement, product
from typing import Any

import numpy as np
import pytest

from search import FleetInfeasible, FleetProblem, Inventory, Option, fleet_plan
from search.fleet import World
from search.fleet.decomposition.split import relaxed
from search.fleet.integer_program import levels
from search.scenario import Supply

#: Instances of each kind.
EACH = 11
EPS = 1e-7
INF = float("inf")


@dataclass
class Fleets:
    """N fleets of two options over P periods. replicas, spot: (N, 2, P). cost and the like: (N,)."""

    replicas: np.ndarray
    spot: np.ndarray
    cost: np.ndarray
    served: np.ndarray
    usage: dict[str, tuple[float, np.ndarray]]
    fits: np.ndarray
    worlds_missed: np.ndarray


def enumerated(problem: FleetProblem, most: int) -> tuple[np.ndarray, np.ndarray]:
    """All fleets of up to `most` replicas of each option and period, and of their replicas on spot devices."""
    periods = problem.periods if problem.elastic else 1
    counts = np.array(list(product(range(most + 1), repeat=2 * periods)), dtype=float).reshape(-1, 2, periods)
    for o, option in enumerate(problem.options):
        if option.fixed:
            counts = counts[(counts[:, o] == counts[:, o, :1]).all(axis=1)]
    counts = np.repeat(counts, problem.periods // periods, axis=2)
    on_spot = [
        any(s.kind == "spot" and s.device == o.device for s in problem.inventory.supplies) for o in problem.options
    ]
    if not any(on_spot):
        return counts, np.zeros_like(counts)
    assert problem.periods == 1
    both = [
        (c, (i, j))
        for c in counts
        for i in range(int(c[0, 0]) * on_spot[0] + 1)
        for j in range(int(c[1, 0]) * on_spot[1] + 1)
    ]
    return np.array([c for c, _ in both]), np.array([s for _, s in both], dtype=float)[:, :, None]


def carries(load: np.ndarray, left: np.ndarray) -> np.ndarray:
    """Whether N fleets carry a load. load: (2, C) replicas of each option that a class alone takes, inf for none. left:
    (N, 2) replicas. Two options share classes as a knapsack does: the first takes what it is best at."""
    able = np.isfinite(load)
    if not able.any(axis=0).all():
        return np.zeros(len(left), dtype=bool)
    first = left[:, 0] - load[0, able[0] & ~able[1]].sum()
    second = left[:, 1] - load[1, able[1] & ~able[0]].sum()
    ok = first >= -EPS
    shared = [c for c in np.nonzero(able.all(axis=0))[0] if load[:, c].any()]
    for c in sorted(shared, key=lambda c: load[0, c] / load[1, c]):
        part = np.clip(first / load[0, c], 0.0, 1.0)
        first, second = first - part * load[0, c], second - (1.0 - part) * load[1, c]
    return ok & (second >= -EPS)


def load_of(problem: FleetProblem, throughput: np.ndarray, t: int, factor: float = 1.0) -> np.ndarray:
    serves = np.nan_to_num(problem.throughput) > 0
    speed = np.where(serves, np.nan_to_num(throughput), 0.0)
    rate = problem.rate[t] * factor
    with np.errstate(divide="ignore", invalid="ignore"):
        found = np.where(speed > 0, rate / speed, INF)
    return np.where((rate == 0) & serves, 0.0, found)


def of_each_model(problem: FleetProblem) -> list[np.ndarray]:
    """The classes of each model, where both replicas serve several models at once; else all classes together."""
    if not problem.options[0].together:
        return [np.arange(len(problem.classes))]
    return [np.array([c for c, m in enumerate(problem.class_models) if m == name]) for name in "mn"]


def losses(problem: FleetProblem) -> Iterator[Callable[[np.ndarray, np.ndarray], np.ndarray]]:
    """What every failure leaves of (N, 2) replicas, (N, 2) of them on spot."""
    inventory, options = problem.inventory, problem.options
    pools = [((0, 1), inventory.spare_nodes)]
    pools += [
        (tuple(i for i, o in enumerate(options) if n in (o.device, o.region, o.domain)), k)
        for n, k in inventory.spare.items()
    ]
    for members, k in pools:
        for lost in combinations_with_replacement(members, k) if k else ():
            taken = np.array([lost.count(o) * options[o].replicas_per_node for o in (0, 1)])
            yield lambda r, s, taken=taken: np.maximum(r - taken, 0.0)  # type: ignore[misc]
    domains = [d for d in dict.fromkeys(o.domain for o in options) if d]
    for names in combinations(domains, min(inventory.spare_domains, len(domains))) if inventory.spare_domains else ():
        kept = np.array([o.domain not in names for o in options], dtype=float)
        yield lambda r, s, kept=kept: r * kept  # type: ignore[misc]
    for supply in inventory.supplies:
        if supply.kind == "spot":
            on = np.array([o.device == supply.device for o in options]) * supply.lost_share
            yield lambda r, s, on=on: r - on * s  # type: ignore[misc]


def least_rent(problem: FleetProblem, device: str, need: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The least rent of a device without its spot part, (N,), and in the fullest period. need: (N, P) devices."""
    supplies = [s for s in problem.inventory.supplies if s.device == device and s.kind != "spot"]
    share = problem.hours / problem.hours.sum()
    by_period = sorted((s for s in supplies if s.kind != "reserved"), key=lambda s: s.usd_per_hour)
    best, top = np.full(len(need), INF), np.full(len(need), INF)
    reserved = next((s for s in supplies if s.kind == "reserved"), Supply(device, "reserved", 0.0, most=0.0))
    for level in np.arange(reserved.least, min(reserved.most, max(need.max(), reserved.least)) + 1):
        paid = level * reserved.usd_per_hour
        rent = np.full(need.shape, paid)
        left = np.maximum(need - level, 0.0)
        for s in by_period:
            taken = np.maximum(np.minimum(left, s.most), s.least)
            rent, left = rent + taken * s.usd_per_hour, np.maximum(left - taken, 0.0)
        unspent = max(reserved.least_spend - paid, 0.0)
        total = np.where((left > EPS).any(axis=1), INF, rent @ share + unspent)
        better = total < best
        best, top = np.where(better, total, best), np.where(better, rent.max(axis=1) + unspent, top)
    return best, top


def judged(problem: FleetProblem, most: int) -> Fleets:
    """All fleets with what they cost, use and serve."""
    r, s = enumerated(problem, most)
    options, inventory, share = problem.options, problem.inventory, problem.hours / problem.hours.sum()
    rented = {x.device for x in inventory.supplies}
    starts = np.maximum(r - np.roll(r, 1, axis=2), 0.0)
    waits = np.array([o.start_up_h for o in options])
    cost, hourly = np.zeros(len(r)), np.zeros((len(r), problem.periods))
    for o, option in enumerate(options):
        paid = not rented.intersection(option.devices_of) and option.device not in inventory.node_usd_per_hour
        price = option.usd_per_hour if paid else 0.0
        hourly += price * r[:, o]
        lent = {x.device: x.usd_per_hour for x in inventory.supplies if x.kind == "on_demand"}
        rent = price + sum(n * lent.get(d, 0.0) for d, n in option.devices_of.items() if d in rented)
        cost += rent * waits[o] * starts[:, o].sum(axis=1) / problem.hours.sum()
        cost += np.maximum(r[:, o].max(axis=1) - option.current, 0.0) * option.migration_usd / problem.horizon_h
    nodes = np.zeros(hourly.shape)
    for device in problem.device_names:
        held = sum(o.nodes_of.get(device, 0.0) * r[:, i] for i, o in enumerate(options))
        if device in inventory.node_usd_per_hour:
            held = np.ceil(held - EPS)
            hourly += held * inventory.node_usd_per_hour[device]
        nodes += held
    cost += hourly @ share
    budget, fits = hourly.max(axis=1), np.ones(len(r), dtype=bool)
    for device in rented:
        used = sum(o.devices_of.get(device, 0.0) * (r - s)[:, i] for i, o in enumerate(options))
        rent, top = least_rent(problem, device, used)
        cost, budget, fits = cost + rent, budget + top, fits & np.isfinite(rent)
        spot = next((x for x in inventory.supplies if x.kind == "spot" and x.device == device), None)
        if spot is not None:
            lent = sum(o.devices_of.get(device, 0.0) * s[:, i] for i, o in enumerate(options))
            cost, fits = cost + spot.usd_per_hour * (lent @ share), fits & (lent <= spot.most).all(axis=1)
    taken = r + waits_before(problem, starts)
    watts = np.array([o.power for o in options])
    usage = {
        "power": (inventory.power, np.einsum("o,not->nt", watts, taken).max(axis=1)),
        "budget": (inventory.budget, budget),
        "nodes": (inventory.nodes, nodes.max(axis=1)),
        "mean_budget": (inventory.mean_budget, cost),
    }
    for device, stock in inventory.stock.items():  # that of a device counts those of all regions
        here = [{d: n for d, n in o.devices_of.items() if (d + " @ ").startswith(device + " @ ")} for o in options]
        each = np.array([sum(found.values()) for found in here])
        usage[f"stock[{device}]"] = (stock, np.einsum("o,not->nt", each, taken).max(axis=1))
    grams = grams_of(problem)
    usage["carbon"] = (inventory.carbon, np.einsum("o,ot,not,t->n", watts, np.nan_to_num(grams), r, share) / 1e3)
    usage["watts"] = (INF, np.einsum("o,not,t->n", watts, r, share))
    usage["devices"] = (INF, np.einsum("o,not,t->n", np.array([o.devices for o in options]), r, share))
    fits &= stays(problem, r, starts)
    served, missed = serving(problem, r, s)
    return Fleets(r, s, cost, served, usage, fits, missed)


def grams_of(problem: FleetProblem) -> np.ndarray:
    """gCO2e per kWh of each option and period, (2, P): its own, its region's, the site's."""
    grams = np.tile(np.broadcast_to(problem.gco2_per_kwh, (problem.periods,)), (2, 1))
    for o, option in enumerate(problem.options):
        if option.region in problem.region_gco2:
            grams[o] = problem.region_gco2[option.region]
        if not np.isnan(option.gco2_per_kwh):
            grams[o] = option.gco2_per_kwh
    return grams


def waits_before(problem: FleetProblem, starts: np.ndarray) -> np.ndarray:
    """Replicas that start during each period, (N, 2, P): they serve from a later one."""
    out = np.zeros_like(starts)
    for o, option in enumerate(problem.options):
        for t in range(problem.periods):
            left, before = option.start_up_h, 1
            while left > EPS and before < problem.periods:
                out[:, o, t - before] += starts[:, o, t]
                left, before = left - problem.hours[t - before], before + 1
    return out


def stays(problem: FleetProblem, r: np.ndarray, starts: np.ndarray) -> np.ndarray:
    """Whether every start is kept its least time, (N,): no period holds fewer than started within that time before."""
    ok, edge = np.ones(len(r), dtype=bool), np.concatenate([[0.0], np.cumsum(problem.hours)])
    for o, option in enumerate(problem.options):
        if option.min_stay_h >= problem.hours.sum():
            ok &= (r[:, o] == r[:, o, :1]).all(axis=1)
        for t in range(problem.periods):
            since = (edge[t] - edge[:-1]) % problem.hours.sum()
            young = since < option.min_stay_h - EPS
            ok &= starts[:, o][:, young].sum(axis=1) <= r[:, o, t] + EPS
    return ok


def serving(problem: FleetProblem, r: np.ndarray, s: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(N,) the factor on the demand that is served, bisected where it is asked for, else 1 or 0; (N,) worlds missed."""
    up = np.array([o.availability for o in problem.options])
    often = {x.device: x.interruptions_per_hour for x in problem.inventory.supplies if x.kind == "spot"}
    down = np.array([1.0 - 1.0 / (1.0 + often.get(o.device, 0.0) * o.start_up_h) for o in problem.options])

    def ok(
        factor: np.ndarray | float, throughput: np.ndarray, left: Callable[[np.ndarray, np.ndarray], np.ndarray]
    ) -> np.ndarray:
        out = np.ones(len(r), dtype=bool)
        for t in range(problem.periods):
            scale = np.reshape(factor, (-1, 1)) if np.ndim(factor) else 1.0
            have = left(r[:, :, t], s[:, :, t]) / np.maximum(scale, EPS)
            load = load_of(problem, throughput, t)
            for mine in of_each_model(problem):
                out &= carries(load[:, mine], have)
        return out

    def running(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        return a * up - b * down

    def good(factor: np.ndarray | float) -> np.ndarray:
        out = ok(factor, problem.throughput, running)
        for left in losses(problem):
            out &= ok(factor, problem.throughput, left)
        for world in problem.worlds:
            if world.must:
                out &= ok(factor, world.throughput, running)
        return out

    missed = sum((~ok(1.0, w.throughput, running)).astype(int) for w in problem.worlds if not w.must)
    missed = np.zeros(len(r), dtype=int) + missed
    if problem.objective != "traffic":
        return good(1.0).astype(float), missed
    low, high = np.zeros(len(r)), np.full(len(r), 64.0)
    for _ in range(45):
        middle = (low + high) / 2
        enough = good(middle)
        low, high = np.where(enough, middle, low), np.where(enough, high, middle)
    return low, missed


def value(problem: FleetProblem, fleets: Fleets) -> np.ndarray:
    """The objective of every fleet, (N,); less is better."""
    share = problem.hours / problem.hours.sum()
    penalty = np.array([o.penalty_usd_per_hour for o in problem.options])
    return {
        "cost": fleets.cost + np.einsum("o,not,t->n", penalty, fleets.replicas, share),
        "traffic": -fleets.served,
        "power": fleets.usage["watts"][1],
        "carbon": fleets.usage["carbon"][1],
        "devices": fleets.usage["devices"][1],
    }[problem.objective]


# -------------------------------------------------------------------------------- instances

KINDS = (
    "free", "stock", "power", "budget", "nodes", "by_node", "spare", "two_spare", "pool", "domain", "spot", "reserved",
    "commitment", "owned", "start", "stay", "fixed", "move", "mean_budget", "carbon_limit", "worlds", "case",
    "availability", "pair", "traffic", "least_power", "least_carbon", "penalty", "mixed",
    "together", "together_spare", "regions", "region_stock", "region_carbon", "region_nodes",
    "many_spare", "spare_of_each", "one_beside_two", "commitment_budget",
)  # fmt: skip


def base(rng: np.random.Generator, periods: int = 1, classes: int = 0) -> FleetProblem:
    classes = classes or int(rng.integers(1, 4))
    options = tuple(
        Option(
            f"o{i}",
            f"d{i}",
            float(rng.integers(1, 4)),
            float(rng.uniform(1, 9)),
            float(rng.uniform(100, 900)),
            replicas_per_node=float(rng.integers(1, 3)),
        )
        for i in range(2)
    )
    throughput = rng.uniform(0.6, 3.0, (2, classes))
    if classes > 1 and rng.random() < 0.4:
        throughput[int(rng.integers(2)), int(rng.integers(classes))] = rng.choice([0.0, np.nan])
    rate = rng.uniform(0.2, 1.6, (periods, classes)) / classes * 1.6
    return FleetProblem(
        options, tuple("abc"[:classes]), rate, throughput, hours=rng.integers(2, 12, periods).astype(float)
    )


def with_inventory(problem: FleetProblem, **changes: object) -> FleetProblem:
    return replace(problem, inventory=replace(problem.inventory, **changes))  # type: ignore[arg-type]


def each_option(problem: FleetProblem, **changes: list[object]) -> FleetProblem:
    told = [{k: v[i] for k, v in changes.items()} for i in range(2)]
    return replace(problem, options=tuple(replace(o, **c) for o, c in zip(problem.options, told, strict=True)))  # type: ignore[arg-type]


def instance(kind: str, seed: int) -> tuple[FleetProblem, int]:
    """A random instance of a kind, and how many replicas of an option are enough to enumerate."""
    rng = np.random.default_rng([KINDS.index(kind), seed])
    one, day = base(rng), replace(base(rng, 2), elastic=True)
    lit = {f"d{i}": float(rng.integers(0, 5)) for i in range(2)}
    longer = replace(base(rng, 3, int(rng.integers(1, 3))), elastic=True)
    longer = replace(longer, rate=longer.rate * 0.8)
    rented = tuple(Supply(f"d{i}", "on_demand", float(rng.uniform(1, 4))) for i in range(2))
    lease = Supply(
        "d0", "reserved", float(rng.uniform(0.3, 2.0)), most=float(rng.integers(1, 6)), least=float(rng.integers(2))
    )
    draws = tuple(World(f"w{i}", one.throughput * np.exp(rng.normal(0, 0.25, (2, 1)))) for i in range(6))
    spot = Supply("d0", "spot", 0.4, 6.0, lost_share=float(rng.choice([0.5, 1.0])), interruptions_per_hour=0.3)
    owned = (Supply("d0", "owned", 0.2, most=2.0), replace(rented[0], most=4.0), rented[1])
    spending = replace(lease, least_spend=float(rng.uniform(0, 6)))
    zones = each_option(one, domain=["east", rng.choice(["west", ""])])
    dirty = replace(day, gco2_per_kwh=np.array([30.0, 400.0]))
    moving = replace(each_option(day, current=[1, 2], migration_usd=[40.0, 90.0]), horizon_h=24.0)
    pairs = each_option(one, parts=[{"d0": 1.0, "d1": 2.0}, {}], devices=[3.0, 1.0])
    stays_long = each_option(longer, min_stay_h=[float(rng.integers(3, 16)), 30.0], start_up_h=[0.1, 0.0])
    halves, most_money = each_option(one, nodes=[0.5, 0.25]), float(rng.uniform(9, 30))
    abused = replace(one, worlds=(World("abuse", one.throughput / 3, must=True),))
    made: dict[str, tuple[FleetProblem, int, dict[str, object]]] = {
        "free": (day, 5, {}),
        "stock": (one, 6, {"stock": lit}),
        "power": (one, 6, {"power": float(rng.uniform(100, 1500))}),
        "budget": (one, 6, {"budget": float(rng.uniform(1, 12))}),
        "nodes": (each_option(one, nodes=[0.5, 1.0]), 6, {"nodes": float(rng.choice([0.5, 1.0, 1.5, 3.0]))}),
        "by_node": (halves, 7, {"node_usd_per_hour": {"d0": 6.0, "d1": 9.0}}),
        "spare": (one, 8, {"spare_nodes": 1, "stock": {"d0": float(rng.integers(2, 12))}}),
        "two_spare": (one, 9, {"spare_nodes": 2, "power": float(rng.uniform(700, 3500))}),
        "pool": (one, 9, {"spare": {"d0": 2, "d1": int(rng.integers(2))}, "stock": lit}),
        "domain": (zones, 6, {"spare_domains": 1, "stock": {"d0": lit["d0"]}}),
        "spot": (
            each_option(one, start_up_h=[0.2, 0.1]),
            5,
            {"supplies": (*rented, spot), "stock": {"d0": 3.0, "d1": lit["d1"]}},
        ),
        "reserved": (day, 4, {"supplies": (lease, replace(rented[0], most=1.0), replace(rented[1], most=lit["d1"]))}),
        "commitment": (day, 4, {"supplies": (*rented, spending)}),
        "owned": (day, 4, {"supplies": owned}),
        "start": (each_option(longer, start_up_h=[2.5, 0.5]), 3, {"stock": {"d0": 4.0}, "power": 2400.0}),
        "stay": (stays_long, 3, {"power": float(rng.uniform(500, 2000))}),
        "fixed": (each_option(day, fixed=[True, False]), 5, {}),
        "move": (moving, 4, {}),
        "mean_budget": (day, 4, {"mean_budget": float(rng.uniform(2, 14))}),
        "carbon_limit": (dirty, 4, {"carbon": float(rng.uniform(20, 300))}),
        "worlds": (replace(one, worlds=draws, worlds_kept=float(rng.choice([0.5, 0.8, 1.0]))), 7, {"stock": lit}),
        "case": (abused, 9, {"power": float(rng.uniform(700, 3500))}),
        "availability": (each_option(one, availability=[0.7, 0.95]), 7, {"stock": lit}),
        "pair": (pairs, 6, {"stock": {"d0": 2.0, "d1": float(rng.integers(2, 8))}}),
        "traffic": (
            replace(one, objective="traffic"),
            6,
            {"stock": {"d0": 6.0, "d1": 5.0}, "budget": most_money, "spare_nodes": int(rng.integers(2))},
        ),
        "least_power": (replace(day, objective="power"), 5, {}),
        "least_carbon": (replace(each_option(dirty, gco2_per_kwh=[np.nan, 100.0]), objective="carbon"), 5, {}),
        "penalty": (each_option(one, penalty_usd_per_hour=[float(rng.uniform(-0.9, 4)), 0.0]), 6, {}),
        "mixed": (
            each_option(day, start_up_h=[0.5, 0.0], replicas_per_node=[1.0, 1.0]),
            4,
            {"supplies": (*rented, lease), "spare_nodes": 1, "stock": {"d0": 9.0}, "power": 6000.0},
        ),
    }
    both = replace(base(rng, 1, 3), class_models=("m", "n", "m"))
    both = each_option(both, together=[("m", "n"), ("m", "n")], availability=[0.9, 1.0])
    made["together"] = (both, 6, {"stock": lit})
    made["together_spare"] = (replace(both, worlds=draws[:0]), 8, {"spare_nodes": 1, "power": 2500.0})
    made |= of_regions(rng, one, day)
    single = base(rng, 1, 1)
    made["many_spare"] = (single, 10, {"spare_nodes": 3, "spare": {"d0": 1}, "power": float(rng.uniform(2e3, 6e3))})
    made["spare_of_each"] = (
        each_option(single, replicas_per_node=[1.0, 1.0]),
        7,
        {"spare": {"d0": 2, "d1": 2}, "supplies": (*rented, replace(spot, most=4.0))},
    )
    made["one_beside_two"] = (each_option(single, domain=["east"] * 2), 9, {"spare": {"d0": 2, "east": 1}})
    made["commitment_budget"] = (one, 6, {"supplies": (*rented, spending), "budget": float(rng.uniform(1, 12))})
    problem, most, inventory = made[kind]
    return with_inventory(problem, **inventory), most


def of_regions(rng: np.random.Generator, one: FleetProblem, day: FleetProblem) -> dict[str, tuple[Any, int, Any]]:
    """Instances whose two options are one device in two regions, each with its price, electricity, stock and nodes."""
    places = {"device": ["d @ east", "d @ west"], "region": ["east", "west"]}
    here, hourly = each_option(one, **places), each_option(day, **places)
    far = np.where(rng.random(here.throughput.shape) < 0.4, 0.0, here.throughput)  # too far to serve in time
    grids = {"east": np.array([20.0, 500.0]), "west": rng.uniform(20, 500, 2)}
    stock = {"d": float(rng.integers(1, 9)), "d @ east": float(rng.integers(0, 4))}
    nodes = {"d @ east": 6.0, "d @ west": 7.0}
    green = replace(hourly, region_gco2=grids, gco2_per_kwh=np.array([900.0, np.nan]), objective="carbon")
    return {
        "regions": (replace(here, throughput=far), 7, {"stock": stock}),
        "region_stock": (here, 8, {"stock": stock, "spare": {"east": 1}}),
        "region_carbon": (green, 4, {"stock": {"d": float(rng.integers(3, 12))}}),
        "region_nodes": (each_option(here, nodes=[0.5, 0.5]), 7, {"node_usd_per_hour": nodes, "stock": stock}),
    }


def eased(problem: FleetProblem) -> dict[str, list[tuple[float, FleetProblem]]]:
    """Ways to ease each case that is no limit, the least change first: (new value, problem)."""
    inventory = problem.inventory
    out = {
        name: [(n, with_inventory(problem, **{name: n})) for n in range(getattr(inventory, name) - 1, -1, -1)]
        for name in ("spare_nodes", "spare_domains")
    }
    for pool, k in inventory.spare.items():
        fewer = [{**inventory.spare, pool: n} for n in range(k - 1, -1, -1)]
        out[f"spare[{pool}]"] = [(s[pool], with_inventory(problem, spare=s)) for s in fewer]
    for world in problem.worlds:
        if world.must:
            out[f"case[{world.name}]"] = [(0, replace(problem, worlds=()))]
    return out


def possible(problem: FleetProblem, fleets: Fleets, within: np.ndarray) -> bool:
    """Whether a fleet within the limits serves a problem that differs in its cases only."""
    served, missed = serving(problem, fleets.replicas, fleets.spot)
    return bool((fleets.fits & within & (served > 0) & (missed <= problem.may_miss)).any())


def named_rightly(problem: FleetProblem, fleets: Fleets, told: FleetInfeasible) -> None:
    """Every limit that alone makes a fleet possible is named, with the least value that does; and none else is."""
    serves = fleets.fits & (fleets.served > 0) & (fleets.worlds_missed <= problem.may_miss)
    within = {n: u <= b + EPS for n, (b, u) in fleets.usage.items() if np.isfinite(b)}
    said = {n: c for r in told.relaxations if len(r.limits) == 1 for n, c in r.limits.items()}
    bound = np.all(list(within.values()) or [np.ones(len(serves), dtype=bool)], axis=0)
    for name, ways in eased(problem).items():
        enough = next((n for n, other in ways if possible(other, fleets, bound)), None)
        assert said.get(name, (0, None))[1] == enough, (name, enough, said)
    if any(not w.must for w in problem.worlds):
        missed = fleets.worlds_missed[fleets.fits & (fleets.served > 0) & bound]
        kept = 1.0 - missed.min() / len(problem.worlds) if len(missed) else None
        assert said.get("chance", (0, None))[1] == (None if kept is None else pytest.approx(kept))
    for name in within:
        others = serves & np.all(
            [w for n, w in within.items() if n != name] or [np.ones(len(serves), dtype=bool)], axis=0
        )
        if others.any():
            assert name in said, (name, said)
            assert said[name][1] == pytest.approx(fleets.usage[name][1][others].min(), rel=1e-5)
        else:
            assert name not in said, (name, said)


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_constraint_agrees_with_brute_force(kind: str) -> None:
    outcomes = []
    for seed in range(EACH):
        problem, most = instance(kind, seed)
        fleets = judged(problem, most)
        good = fleets.fits & (fleets.served > 0) & (fleets.worlds_missed <= problem.may_miss)
        for bound, used in fleets.usage.values():
            good &= used <= bound + EPS
        if not good.any():
            with pytest.raises(FleetInfeasible) as told:
                fleet_plan(problem)
            named_rightly(problem, fleets, told.value)
            outcomes.append(False)
            continue
        found, best = fleet_plan(problem), value(problem, fleets)[good].min()
        share = problem.hours / problem.hours.sum()
        watts = np.array([o.power * n for o, n in zip(problem.options, found.replicas, strict=True)])
        penalty = np.array([o.penalty_usd_per_hour for o in problem.options])
        mine = {
            "cost": found.usd_per_hour + float(penalty @ found.replicas @ share),
            "traffic": -found.served,
            "power": float((watts @ share).sum()),
            "carbon": float((watts * grams_of(problem) @ share).sum()) / 1e3,
        }[problem.objective]
        assert mine == pytest.approx(best, rel=2e-5), (kind, seed)
        assert found.gap <= 1e-5
        outcomes.append(True)
    assert any(outcomes), "no instance has a fleet"


@pytest.mark.parametrize("kind", ["spare", "two_spare", "pool", "spot", "mixed"])
def test_levels_of_the_worst_failure_change_no_optimum(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(levels, "LEAST_SIZE", 1)
    test_every_kind_of_constraint_agrees_with_brute_force(kind)


@pytest.mark.parametrize("seed", range(6))
def test_levels_raise_the_bound_of_the_linear_program_and_keep_the_fleet(
    seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Five options on spot and other devices, of which nodes fail; one level only for odd seeds."""
    rng = np.random.default_rng(seed)
    price, on = rng.uniform(1, 4, 5), range(5)
    supplies = [Supply(f"d{d}", "on_demand", float(price[d])) for d in on]
    supplies += [Supply(f"d{d}", "spot", float(price[d]) / 2, lost_share=0.5, most=4.0) for d in on[:3]]
    problem = with_inventory(
        FleetProblem(
            tuple(Option(f"o{d}", f"d{d}", 1.0, 1.0) for d in on),
            ("x",),
            rng.uniform(4, 8, (1, 1)),
            rng.uniform(0.7, 1.4, (5, 1)) * price[:, None],
        ),
        supplies=tuple(supplies),
        spare_nodes=1 + seed // 4,
    )
    plain, loose = fleet_plan(problem), relaxed(problem)
    monkeypatch.setattr(levels, "LEAST_SIZE", 1)
    monkeypatch.setattr(levels, "MOST_LEVELS", 1 if seed % 2 else 8)
    assert fleet_plan(problem).usd_per_hour == pytest.approx(plain.usd_per_hour, rel=2e-6)
    gain = relaxed(problem) - loose
    assert gain > 1e-3 if seed % 2 == 0 else gain > -1e-6
    assert loose + gain <= plain.usd_per_hour + 1e-6


@pytest.mark.parametrize("seed", range(4))
def test_a_fleet_that_stays_the_same_survives_its_cases_in_every_period(seed: int) -> None:
    """Two models that are busiest in different periods: each alone at its busiest hour, and both over the day."""
    rng = np.random.default_rng(seed)
    options = tuple(Option(f"o{i}", f"d{i}", 1.0, float(rng.uniform(1, 3))) for i in range(4))
    speed = np.kron(np.eye(2), np.ones((2, 1))) * rng.uniform(0.5, 2.0, (4, 1))
    rate = np.array([[5.0, 1.0], [1.0, 6.0], [3.0, 3.0]]) * rng.uniform(0.8, 1.2, (3, 2))
    day = FleetProblem(
        options, ("x", "y"), rate, speed, hours=np.ones(3), inventory=Inventory(spare_nodes=1 + seed % 2)
    )
    apart = [
        fleet_plan(replace(day.without_throughput(np.arange(2) != c), rate=day.rate * (np.arange(2) == c)[None]))
        for c in range(2)
    ]
    assert fleet_plan(day).usd_per_hour == pytest.approx(sum(one.usd_per_hour for one in apart))
