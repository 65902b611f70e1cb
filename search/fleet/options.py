"""A scenario as an integer program: what one replica of each layout carries of each class within its objectives.

Stated options keep their table. For a modelled one, every layout that is legal for a model becomes an option of its
own, its throughput the greatest rate at which a class's objectives hold (bisection on columns), its power that of the
replica at this rate. Layouts that another of the same option beats in price and in every class are left out.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from hwdb import InputError
from perfmodel import Deployments, Estimates, Slo, Workload, model
from perfmodel.arrays import Array
from perfmodel.costs import CostModel
from perfmodel.dtypes import FORMAT_CODE
from perfmodel.workload import load_of
from search.fleet.plan import FleetPlan, fleet_plan
from search.fleet.problem import FleetProblem
from search.fleet.program import Solver
from search.manifest import manifest
from search.planning import Target, Tariff, deployment_words, greatest, rows_of, space_of, tariff, tariff_of
from search.scenario import FleetClass, FleetOption, FleetSpec, Inventory, Option
from search.searchers import pareto
from search.space import Index, SearchSpace

if TYPE_CHECKING:
    from search.scenario import Scenario

NAN = float("nan")
#: A rate that saturates any replica, requests/s.
FLOOD = 1e6
#: The least rate tried, as a share of what saturates a replica.
TRICKLE = 1e-3


@dataclass(frozen=True)
class _Modelled:
    """Layouts of one option with what they carry: options (L,), throughput (L, C) requests/s."""

    options: tuple[Option, ...]
    throughput: Array


def plan_fleet(
    scenario: Scenario, *, solver: Solver | None = None, costs: CostModel | None = None, command: str = ""
) -> FleetPlan:
    """The least-cost fleet for `scenario`, with proof; its `[fleet]`, or its workload on the hardware on offer.

    Raises `FleetInfeasible` naming what to relax, and `InputError` where the scenario lacks what a fleet needs.
    """
    problem, dates = fleet_problem(scenario, costs)
    found = fleet_plan(problem, solver)
    made = manifest(
        scenario.path,
        seed=scenario.choices.seed,
        solver=found.solver,
        gap=found.gap,
        price_dates=dates,
        command=command,
    )
    return replace(found, manifest=made)


def fleet_problem(scenario: Scenario, costs: CostModel | None = None) -> tuple[FleetProblem, tuple[str, ...]]:
    """(the program's input, dates of the prices it uses)."""
    spec = scenario.fleet or _whole(scenario)
    names = tuple(dict.fromkeys(o.device for o in spec.options))
    known = scenario.hardware()
    listed = tuple(n for n in names if n in known.names())
    bill = tariff(known, listed, scenario.offer.nodes, scenario.offer.prices, scenario.offer.usd_per_hour)
    parts = [
        _stated(o, spec, bill) if o.throughput is not None else _modelled(o, spec, bill, scenario, costs)
        for o in spec.options
    ]
    problem = FleetProblem(
        options=tuple(option for part in parts for option in part.options),
        classes=tuple(c.name for c in spec.classes),
        rate=np.array([c.rate for c in spec.classes], dtype=float).T,
        throughput=np.concatenate([part.throughput for part in parts]),
        hours=np.array(spec.hours),
        inventory=replace(
            scenario.inventory(),
            node_usd_per_hour={
                d.name: float(usd * count)
                for d, usd, count, whole in zip(bill.devices, bill.usd_per_hour, bill.per_node, bill.whole, strict=True)
                if whole
            },
        ),
        elastic=spec.elastic,
    )
    return problem, bill.date


def _whole(scenario: Scenario) -> FleetSpec:
    """A scenario without `[fleet]`: its workload as one class, an option for each device on offer."""
    work = scenario.workload
    if work.arrival != "open":
        raise InputError(
            f"{scenario.path}: a fleet is sized for a rate; give request_rate_rps in [workload], or a [fleet]"
        )
    bill = tariff_of(scenario)
    axes = space_of(scenario, model(scenario.model), bill)
    layouts = {k: tuple(int(v) for v in getattr(axes, k) if np.isfinite(v)) for k in ("tp", "pp", "ep", "dp")}
    classes = (FleetClass(scenario.title, (work.rate,), scenario.model, work, scenario.slo),)
    options = tuple(
        FleetOption(d.name, d.name, layouts=layouts, weight=scenario.choices.weight, kv=scenario.choices.kv)
        for d in bill.devices
    )
    return FleetSpec(classes, options)


def _stated(option: FleetOption, spec: FleetSpec, bill: Tariff) -> _Modelled:
    """An option whose throughput is given; its price is its own, or that of its devices."""
    devices = float(max(option.devices, 1))
    names = [d.name for d in bill.devices]
    at = names.index(option.device) if option.device in names else -1
    price = option.usd_per_hour
    if np.isnan(price) and at >= 0:
        price = float(bill.usd_per_hour[at]) * devices
    table = [[(option.throughput or {}).get(c.name, 0.0) for c in spec.classes]]
    made = Option(option.name, option.device, devices, price, option.power, *_on_node(bill, at, devices))
    return _Modelled((made,), np.array(table, dtype=float))


def _on_node(bill: Tariff, at: int, devices: float) -> tuple[float, float]:
    """(replicas that fail with a node, nodes a replica takes); a device that hwdb does not know comes by itself."""
    if at < 0:
        return 1.0, 1.0
    index, size = np.array([at]), np.array([devices])
    return float(bill.failing(index, size)[0]), devices / float(bill.per_node[at])


def _modelled(
    option: FleetOption, spec: FleetSpec, bill: Tariff, scenario: Scenario, costs: CostModel | None
) -> _Modelled:
    served = [i for i, c in enumerate(spec.classes) if not option.models or c.model in option.models]
    models = dict.fromkeys(spec.classes[i].model for i in served)
    if not models:
        raise InputError(
            f"{scenario.path}: fleet option {option.name!r} may serve none of the classes; check its models"
        )
    parts = [
        _one_model(option, name, [i for i in served if spec.classes[i].model == name], spec, bill, scenario, costs)
        for name in models
    ]
    return _Modelled(tuple(o for p in parts for o in p.options), np.concatenate([p.throughput for p in parts]))


def _one_model(
    option: FleetOption,
    name: str,
    served: list[int],
    spec: FleetSpec,
    bill: Tariff,
    scenario: Scenario,
    costs: CostModel | None,
) -> _Modelled:
    """Layouts of one option for one model; `served` are the classes of that model."""
    at = [d.name for d in bill.devices].index(option.device)
    layouts = _space(option, name, bill, at, scenario).legal().deployments()
    throughput = np.zeros((len(layouts), len(spec.classes)))
    watts = np.zeros(len(layouts))
    for i in served:
        c = spec.classes[i]
        if c.workload is None:
            raise InputError(f"{scenario.path}: class {c.name!r} has no lengths, which option {option.name!r} needs")
        asked = _asked(name, c.workload, c.slo, scenario, costs)
        throughput[:, i], drawn = most_rate(asked, layouts)
        watts = np.fmax(watts, drawn)
    size = layouts.devices_per_replica
    price = size * bill.usd_per_hour[at] if np.isnan(option.usd_per_hour) else np.full(len(size), option.usd_per_hour)
    host = np.nan_to_num(bill.host_power[at]) * size / bill.per_node[at]
    power = (watts * size + host) * scenario.site.pue if np.isnan(option.power) else np.full(len(size), option.power)
    keep = np.nonzero(throughput.any(axis=1))[0]
    carried = [throughput[keep, i] for i in served]
    keep = keep[pareto([*carried, price[keep], size[keep]], largest=[True] * len(carried))]
    made = tuple(
        Option(
            f"{option.name}: {deployment_words(layouts.take(np.array([r])))}",
            option.device,
            float(size[r]),
            float(price[r]),
            float(power[r]),
            *_on_node(bill, at, float(size[r])),
        )
        for r in keep.tolist()
    )
    return _Modelled(made, throughput[keep])


def _asked(name: str, workload: Workload, slo: Slo, scenario: Scenario, costs: CostModel | None) -> Target:
    work = workload.at(arrival="open", rate=1.0)
    return Target(model(name), work, slo, scenario.engine, scenario.limits.confidence, costs)


def _space(option: FleetOption, name: str, bill: Tariff, at: int, scenario: Scenario) -> SearchSpace:
    """The layouts that an option lists for a model, its device's stock and node in mind."""
    device = bill.devices[at]
    spec = model(name)
    axes: dict[str, tuple[float, ...]] = {k: tuple(float(x) for x in v) for k, v in option.layouts.items()}
    if not spec.experts:
        axes = {"ep": (1.0,), "dp": (1.0,), **axes}
    formats = {k: tuple(FORMAT_CODE[f] for f in getattr(option, k)) or (-1,) for k in ("weight", "kv")}
    return SearchSpace(
        spec,
        (device,),
        stock=scenario.offer.stock,
        domain={device.name: float(bill.per_node[at])},
        pinned=frozenset(option.layouts),
        weight=formats["weight"],
        kv=formats["kv"],
        tp=axes.get("tp", SearchSpace.tp),
        pp=axes.get("pp", (1,)),
        ep=axes.get("ep", SearchSpace.ep),
        dp=axes.get("dp", SearchSpace.dp),
        host_weights=scenario.offload.weights,
        host_experts=scenario.offload.experts,
        host_kv=scenario.offload.kv,
        host=scenario.offload.host,
        adapters=scenario.adapters,
    )


def most_rate(target: Target, layouts: Deployments) -> tuple[Array, Array]:
    """(requests/s, W a device) of one replica of each layout at the greatest rate that keeps the objectives. (N,)

    0 requests/s where even an idle replica misses them, or where memory does not suffice.
    """
    count = len(layouts)
    base = load_of(target.workload, count)

    def at(rows: Index, values: Array) -> Estimates:
        return target.estimates_of(replace(rows_of(base, rows), rate=values), layouts.take(rows))

    everyone = np.arange(count)
    flooded = at(everyone, np.full(count, FLOOD))
    able = np.nonzero(flooded.fits)[0]
    ceiling = flooded.request_rate
    rate = np.zeros(count)
    rate[able] = np.nan_to_num(
        greatest(lambda rows, v: target.met_by(at(able[rows], v)), ceiling[able] * TRICKLE, ceiling[able])
    )
    watts = at(everyone, np.where(rate > 0, rate, ceiling * TRICKLE)).power
    return rate, np.where(rate > 0, watts, np.nan)


def table_problem(fleet: FleetSpec, inventory: Inventory) -> FleetProblem:
    """The program's input when every option states its throughput; `InputError` when one does not."""
    if fleet.modelled:
        raise InputError(f"fleet option {fleet.modelled[0].name!r} has no throughput_rps; it has to be modelled")
    table = [[(o.throughput or {}).get(c.name, 0.0) for c in fleet.classes] for o in fleet.options]
    made = [Option(o.name, o.device, max(o.devices, 1), o.usd_per_hour, o.power) for o in fleet.options]
    return FleetProblem(
        options=tuple(made),
        classes=tuple(c.name for c in fleet.classes),
        rate=np.array([c.rate for c in fleet.classes]).T,
        throughput=np.array(table),
        hours=np.array(fleet.hours),
        inventory=inventory,
        elastic=fleet.elastic,
    )
