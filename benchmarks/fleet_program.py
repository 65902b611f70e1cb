"""Time the fleet program: `python -m benchmarks.fleet_program` prints how seconds grow with each dimension.

The first row is ten models on 12 device types over 24 periods, with stock, power, one spare node and three price
kinds. Each other row has one dimension a quarter, or four times, of it. All figures are drawn with a seed.
Stock and power are at least those of a fleet that serves everything, so that every row has a solution. Each row has a
time limit of its own.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from hwdb import Infeasible
from perfmodel.arrays import Array
from search.fleet import FleetProblem, fleet_plan
from search.scenario import Inventory, Option, Supply

#: Gap and time limit of a row. The aim: within 1 % in 60 s.
GAP, TIME_LIMIT_S = 0.01, 60.0
#: Factor by which each dimension grows.
GROWTH = 4
#: Price of a reserved and of a spot device, relative to one on demand. Chosen: about what clouds ask for a year ahead.
RESERVED, SPOT = 0.6, 0.4


@dataclass(frozen=True)
class Size:
    """Dimensions of an instance.

    classes: per model. spare: nodes that may fail. kinds: of price: 1 for one price per device, 2 on demand and
    reserved, 3 spot too, 4 owned too. load: mean replicas per model. stocked: devices of limited stock.
    """

    models: int = 10
    devices: int = 12
    periods: int = 24
    classes: int = 1
    spare: int = 1
    kinds: int = 3
    load: float = 12.0
    stocked: int = 1000


def instance(size: Size, seed: int = 0) -> FleetProblem:
    """Return a random fleet of a size: each model runs on each device, at a price per request that varies by half."""
    random = np.random.default_rng(seed)
    price = np.sort(random.uniform(0.5, 8.0, size.devices))
    models, devices, per = size.models, size.devices, size.classes
    fit = price * np.exp(random.normal(0, 0.35, (models, devices)))
    options = tuple(
        Option(f"m{m} on d{d}", f"d{d}", 1.0, float(price[d]), 150.0 + 90.0 * float(price[d]), model=f"m{m}")
        for m in range(models)
        for d in range(devices)
    )
    speed = np.zeros((models * devices, models * per))
    for m in range(models):
        rows, columns = slice(m * devices, (m + 1) * devices), slice(m * per, (m + 1) * per)
        speed[rows, columns] = fit[m][:, None] * np.exp(random.normal(0, 0.4, (devices, per)))
    day = 0.6 + 0.4 * np.sin(2 * np.pi * (np.arange(size.periods) / size.periods + random.random((models * per, 1))))
    best = speed.max(axis=0)  # the quickest device of each class
    rate = (best * size.load / per * np.exp(random.normal(0, 0.6, models * per)))[:, None] * day
    each = models * size.load
    supplies = [Supply(f"d{d}", "on_demand", float(p)) for d, p in enumerate(price)] * (size.kinds > 1)
    supplies += [Supply(f"d{d}", "reserved", float(p) * RESERVED) for d, p in enumerate(price)] * (size.kinds > 1)
    supplies += [
        Supply(f"d{d}", "spot", float(p) * SPOT, lost_share=0.5, most=each / 4) for d, p in enumerate(price)
    ] * (size.kinds > 2)
    supplies += [Supply(f"d{d}", "owned", 0.05 * float(p), most=2.0) for d, p in enumerate(price)] * (size.kinds > 3)
    stock = {f"d{d}": float(np.ceil(each * random.uniform(0.1, 0.5))) for d in range(devices)}
    watts = np.array([o.power for o in options])
    replicas = witness(rate, speed, stock, size)
    for d in range(devices):
        stock[f"d{d}"] = max(stock[f"d{d}"], float(replicas[d::devices].sum()))
    stock = {d: n for i, (d, n) in enumerate(stock.items()) if i < size.stocked}
    power = max(float(2.0 * each * watts.mean()), float(watts @ replicas))
    inventory = Inventory(stock=stock, power=power, spare_nodes=size.spare, supplies=tuple(supplies))
    return FleetProblem(
        options,
        tuple(f"m{m} class {c}" for m in range(models) for c in range(per)),
        rate.T,
        speed,
        hours=np.full(size.periods, 24.0 / size.periods),
        inventory=inventory,
        elastic=True,
    )


def witness(rate: Array, speed: Array, stock: Mapping[str, float], size: Size) -> Array:
    """Return replicas of each option, (O,), that serve every class at its peak after every failure.

    rate: (C, P) requests/s. speed: (O, C) of one replica. stock: devices of each type. Each model takes what is left of
    its quickest devices, with as many spare replicas of each as may fail. Where the stock does not suffice, the rest is
    on its quickest device: an instance whose stock and power are at least those of this fleet is feasible.
    """
    left, found = np.array(list(stock.values())), np.zeros(len(speed))
    for m in range(size.models):
        columns = slice(m * size.classes, (m + 1) * size.classes)
        options = np.arange(m * size.devices, (m + 1) * size.devices)
        load = (rate[columns].max(axis=1) / speed[options, columns]).sum(axis=1)  # replicas for all of the model
        part, order = 1.0, np.argsort(load)
        for d in order:
            count = min(left[d], np.ceil(part * load[d]) + size.spare)
            if part > 0 and count > size.spare:
                part -= (count - size.spare) / load[d]
                left[d] -= count
                found[options[d]] += count
        found[options[order[0]]] += np.ceil(max(part, 0.0) * load[order[0]]) + size.spare * (part > 0)
    return found


def rows(base: Size) -> list[tuple[str, Size]]:
    """Return the sizes that are timed: the base, then each dimension smaller and larger."""
    found = [("base", base)]
    for name in ("models", "devices", "periods", "classes"):
        now = getattr(base, name)
        sizes = sorted({max(now // GROWTH, 1), now * GROWTH} - {now})
        found += [(f"{name} {n}", replace(base, **{name: n})) for n in sizes]
    found += [(f"stock of {n}", replace(base, stocked=n)) for n in (0, base.devices // GROWTH)]
    found += [(f"price kinds {n}", replace(base, kinds=n)) for n in (1, 2, GROWTH)]
    found += [(f"spare nodes {n}", replace(base, spare=n)) for n in (0, 2, GROWTH)]
    found += [("load 48", replace(base, load=base.load * GROWTH)), ("static", base)]
    return found


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default="", help="rows whose name contains this")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--time-limit", type=float, default=TIME_LIMIT_S)
    chosen = parser.parse_args()
    print(f"{'row':20} {'options':>7} {'periods':>7} {'seconds':>8} {'CPU s':>7} {'gap %':>7} {'USD/h':>10}")
    for name, size in rows(Size()):
        if chosen.only not in name:
            continue
        for seed in range(chosen.seeds):
            problem = replace(instance(size, seed), elastic=name != "static")
            start, used = time.perf_counter(), time.process_time()
            try:
                found = fleet_plan(problem, time_limit=chosen.time_limit, gap=GAP)
            except Infeasible as error:  # also a row that found no fleet within its time
                print(f"{name:20} {time.perf_counter() - start:8.1f} s: {error}", flush=True)
                continue
            taken, used = time.perf_counter() - start, time.process_time() - used
            shape = f"{len(problem.options):7} {problem.periods:7}"
            print(
                f"{name:20} {shape} {taken:8.1f} {used:7.1f} {100 * found.gap:7.2f} {found.usd_per_hour:10.2f}",
                flush=True,
            )


if __name__ == "__main__":
    main()
