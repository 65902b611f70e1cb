"""Turn a scenario into the input of the fleet program.

An option that gives its throughputs ("stated") keeps its table. For a modelled option, every layout that is legal for a
model becomes an option of its own. Its throughput of a class is the greatest rate that keeps the SLO (bisection on
columns), and its power is that of the replica at this rate. A layout that another layout of the same option beats in
price, in devices and in every class is left out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from hwdb import InputError
from perfmodel import Deployments, Estimates, model
from perfmodel.arrays import Array, Index
from perfmodel.costs import CostModel
from perfmodel.dtypes import FORMAT_CODE
from perfmodel.power import site_power
from perfmodel.workload import load_of
from search.fleet.limits import served_by_none
from search.fleet.plan import FleetPlan, fleet_plan
from search.fleet.problem import FleetProblem
from search.fleet.solve import Solver
from search.manifest import manifest
from search.planning import (
    Target,
    Tariff,
    deployment_words,
    greatest_rate,
    refuse_long_class,
    rows_of,
    space_of,
    tariff,
    tariff_of,
)
from search.scenario import FleetClass, FleetOption, FleetSpec, Inventory, Option
from search.searchers import pareto
from search.space import SearchSpace

if TYPE_CHECKING:
    from search.scenario import Scenario

#: Code of the model's own format.
OWN_FORMAT = -1


@dataclass(frozen=True)
class Layouts:
    """The L options of the fleet program that one option of the scenario becomes.

    options: (L,). throughput: (L, C) requests/s that one replica serves of each of C request classes.
    """

    options: tuple[Option, ...]
    throughput: Array


@dataclass(frozen=True)
class Modeller:
    """Makes the options of the fleet program from those of a scenario.

    spec: request classes and options of the scenario. tariff: prices and nodes of the devices. costs: cost model of the
    operators, None for the default.
    """

    scenario: Scenario
    spec: FleetSpec
    tariff: Tariff
    costs: CostModel | None

    def layouts(self, option: FleetOption) -> Layouts:
        """Return the options of the fleet program that the scenario's `option` becomes."""
        return self._stated(option) if option.throughput is not None else self._modelled(option)

    def _stated(self, option: FleetOption) -> Layouts:
        """Convert an option whose throughput is given. Its price is its own, else that of its devices."""
        devices = float(max(option.devices, 1))
        at = self._position(option.device)
        price = option.usd_per_hour
        if np.isnan(price) and at >= 0:
            price = float(self.tariff.usd_per_hour[at]) * devices
        fails_together, nodes = self._on_node(at, devices)
        made = Option(
            name=option.name,
            device=option.device,
            devices=devices,
            usd_per_hour=price,
            power=option.power,
            replicas_per_node=fails_together,
            nodes=nodes,
        )
        return Layouts(options=(made,), throughput=np.array([_stated_rates(option, self.spec)], dtype=float))

    def _modelled(self, option: FleetOption) -> Layouts:
        """Model the layouts of an option whose throughput is not given, for each of the models that it may serve."""
        served = [i for i, c in enumerate(self.spec.classes) if not option.models or c.model in option.models]
        models = dict.fromkeys(self.spec.classes[i].model for i in served)
        if not models:
            where = f"{self.scenario.path}: fleet option {option.name!r}"
            raise InputError(f"{where} may serve none of the classes; name in its models one that a class asks for")
        parts = [self._for_model(option, [i for i in served if self.spec.classes[i].model == m]) for m in models]
        return Layouts(
            options=tuple(o for p in parts for o in p.options), throughput=np.concatenate([p.throughput for p in parts])
        )

    def _for_model(self, option: FleetOption, classes: list[int]) -> Layouts:
        """Model the layouts of an option for one model, and leave out dominated ones.

        classes: positions of the request classes that this model serves.
        """
        layouts = self._space(option, self.spec.classes[classes[0]].model).legal().deployments()
        throughput, watts = self._throughput(option, classes, layouts)
        size, price = layouts.devices_per_replica, self._price(option, layouts)
        power = self._power(option, layouts, watts)
        able = np.nonzero(throughput.any(axis=1))[0]
        rates = [throughput[able, i] for i in classes]
        known_price = np.nan_to_num(price[able])  # without a price the devices alone decide
        kept = able[pareto([*rates, known_price, size[able]], largest=[True] * len(rates))]
        at = self._position(option.device)
        options = []
        for row in kept.tolist():
            fails_together, nodes = self._on_node(at, float(size[row]))
            options.append(
                Option(
                    name=f"{option.name}: {deployment_words(layouts.take(np.array([row])))}",
                    device=option.device,
                    devices=float(size[row]),
                    usd_per_hour=float(price[row]),
                    power=float(power[row]),
                    replicas_per_node=fails_together,
                    nodes=nodes,
                )
            )
        return Layouts(options=tuple(options), throughput=throughput[kept])

    def _throughput(self, option: FleetOption, classes: list[int], layouts: Deployments) -> tuple[Array, Array]:
        """Model the speed and the power of the layouts on each class.

        Returns ((L, C) requests/s of one replica by class, (L,) the most watts per device at these rates).
        """
        throughput = np.zeros((len(layouts), len(self.spec.classes)))
        watts = np.zeros(len(layouts))
        for i in classes:
            throughput[:, i], drawn = rate_and_watts(self._target(option, self.spec.classes[i]), layouts)
            watts = np.fmax(watts, drawn)
        return throughput, watts

    def _target(self, option: FleetOption, c: FleetClass) -> Target:
        """Build the task of a replica of `option` for class `c`; raise `InputError` where the class has no lengths."""
        if c.workload is None:
            where = f"{self.scenario.path}: class {c.name!r}"
            raise InputError(
                f"{where} has no lengths, which option {option.name!r} needs; add dataset or input_tokens to the class"
            )
        spec = model(c.model)
        refuse_long_class(self.scenario, c.name, c.workload, spec)
        return Target(
            model=spec,
            workload=c.workload.at(arrival="open", rate=1.0),
            slo=c.slo,
            engine=self.scenario.engine,
            confidence=self.scenario.limits.confidence,
            costs=self.costs,
        )

    def _price(self, option: FleetOption, layouts: Deployments) -> Array:
        """Return USD per hour of a replica of each layout, (L,): the option's own price, else that of its devices."""
        size = layouts.devices_per_replica
        if np.isnan(option.usd_per_hour):
            return np.asarray(size * self.tariff.usd_per_hour[self._position(option.device)])
        return np.full(len(size), option.usd_per_hour)

    def _power(self, option: FleetOption, layouts: Deployments, watts: Array) -> Array:
        """Return the watts of a replica at the site's meter, (L,).

        They are the option's own, else those of its devices and its share of a host, times the PUE. watts: (L,) per
        device.
        """
        size = layouts.devices_per_replica
        if not np.isnan(option.power):
            return np.full(len(size), option.power)
        at = self._position(option.device)
        host_watts = np.nan_to_num(self.tariff.host_power[at]) * size / self.tariff.per_node[at]
        return site_power(watts, size, host_watts, self.scenario.site.pue)

    def _space(self, option: FleetOption, name: str) -> SearchSpace:
        """Build the search space of the layouts that an option lists for model `name`.

        It has the option's one device, with its stock and its devices per node.
        """
        at, spec, offload = self._position(option.device), model(name), self.scenario.offload
        device = self.tariff.devices[at]
        axes: dict[str, Any] = {"pp": (1.0,), **offload.axes}
        axes |= {} if spec.experts else {"ep": (1.0,), "dp": (1.0,)}
        axes |= {k: tuple(float(x) for x in v) for k, v in option.layouts.items()}
        return SearchSpace(
            model=spec,
            devices=(device,),
            stock=self.scenario.offer.stock,
            domain={device.name: float(self.tariff.per_node[at])},
            pinned=frozenset(option.layouts),
            pads_shards=self.scenario.engine.pads_shards,
            encoder_data_parallel=self.scenario.engine.encoder_data_parallel,
            weight=_format_codes(option.weight),
            kv=_format_codes(option.kv),
            host=offload.host,
            adapters=self.scenario.adapters,
            **axes,
        )

    def _position(self, device: str) -> int:
        """Return the position of a device in the tariff, or -1 where the hardware database does not know it."""
        names = [d.name for d in self.tariff.devices]
        return names.index(device) if device in names else -1

    def _on_node(self, at: int, devices: float) -> tuple[float, float]:
        """Return (replicas that fail with a node, nodes per replica) for a replica of `devices` devices.

        at: position of the device in the tariff. Where it is -1 (not in the database), each replica has a node to
        itself.
        """
        if at < 0:
            return 1.0, 1.0
        failing = self.tariff.failing(np.array([at]), np.array([devices]))
        return float(failing[0]), devices / float(self.tariff.per_node[at])


def plan_fleet(
    scenario: Scenario, *, solver: Solver | None = None, costs: CostModel | None = None, command: str = ""
) -> FleetPlan:
    """Find the least-cost fleet for `scenario`, with proof of its optimality.

    It serves the scenario's `[fleet]`; without one, its workload on the hardware on offer.

    Args:
        scenario: with a `[fleet]`, or with a workload that has a request rate.
        solver: `highs` or `cbc`; by default the one that is installed.
        costs: prices the operators; by default the engine's cost model.
        command: recorded in the manifest; by default the command line.

    Raises:
        FleetInfeasible: no fleet satisfies the limits; the message says what to relax.
        InputError: the scenario lacks what a fleet needs.
    """
    problem, price_dates = fleet_problem(scenario, costs)
    found = fleet_plan(problem, solver)
    made = manifest(
        scenario.path,
        seed=scenario.choices.seed,
        solver=found.solver,
        gap=found.gap,
        price_dates=price_dates,
        command=command,
    )
    return replace(found, manifest=made)


def fleet_problem(scenario: Scenario, costs: CostModel | None = None) -> tuple[FleetProblem, tuple[str, ...]]:
    """Build the input of the fleet program from a scenario; returns (input, dates of the prices that it uses).

    Options that serve no class, or whose price is unknown, are named in the remarks of the input (see `priced`).
    """
    spec, database, offer = scenario.fleet or _fleet_of_workload(scenario), scenario.hardware(), scenario.offer
    devices = tuple(dict.fromkeys(o.device for o in spec.options))
    known = tuple(d for d in devices if d in database.names())
    bill = tariff(database, known, offer.nodes, offer.prices, offer.usd_per_hour)
    modeller = Modeller(scenario=scenario, spec=spec, tariff=bill, costs=costs)
    parts = [modeller.layouts(o) for o in spec.options]
    useless = tuple(
        f"option {o.name!r} is left out: none of its layouts serves a class within its SLO"
        for o, part in zip(spec.options, parts, strict=True)
        if not part.throughput.any()
    )
    own = {o.device for o in spec.options if np.isfinite(o.usd_per_hour)}  # the user's price is that of a replica
    node_prices = {
        d.name: float(usd * count)
        for d, usd, count, whole in zip(bill.devices, bill.usd_per_hour, bill.per_node, bill.whole, strict=True)
        if whole and d.name not in own
    }
    inventory = replace(scenario.inventory(), node_usd_per_hour=node_prices)
    options = [option for part in parts for option in part.options]
    problem = priced(_problem(spec, options, np.concatenate([part.throughput for part in parts]), inventory))
    return replace(problem, remarks=(*problem.remarks, *useless)), bill.date


def priced(problem: FleetProblem) -> FleetProblem:
    """Return the problem with prices that can be compared, and a remark that names what has none.

    Options without a known price are left out where the others serve every class. Otherwise the devices are counted in
    place of the money: each costs 1, and the result has no cost.
    """
    unknown = [o for o in problem.options if np.isnan(o.usd_per_hour)]
    if not unknown:
        return problem
    names = list(dict.fromkeys(o.device for o in unknown))
    example = ", ".join(f"{name} = ..." for name in names)
    told = (
        f"no price is known for {', '.join(names)}: give one with [hardware] usd_per_hour = {{ {example} }}, "
        "or usd_per_hour in its [[fleet.option]]"
    )
    rows = np.array([i for i, o in enumerate(problem.options) if not np.isnan(o.usd_per_hour)], dtype=np.intp)
    left = replace(problem, options=tuple(problem.options[i] for i in rows), throughput=problem.throughput[rows])
    if len(rows) and not served_by_none(left):
        return replace(left, remarks=(f"{told}; without it the fleet leaves it out",))
    counted = tuple(replace(o, usd_per_hour=o.devices) for o in problem.options)
    inventory = replace(problem.inventory, node_usd_per_hour={})
    remark = f"{told}; without it the fleet has the fewest devices, not the least cost"
    if np.isfinite(problem.inventory.budget):
        raise InputError(f"fleet: a budget is set, but {told}")
    return replace(problem, options=counted, inventory=inventory, remarks=(remark,), counts_devices=True)


def table_problem(spec: FleetSpec, inventory: Inventory) -> FleetProblem:
    """Build the input of the fleet program where every option gives its throughput.

    Raises `InputError` when an option does not.
    """
    if spec.modelled:
        raise InputError(
            f"fleet option {spec.modelled[0].name!r} has no throughput_rps; it has to be modelled (plan_fleet)"
        )
    options = [
        Option(name=o.name, device=o.device, devices=max(o.devices, 1), usd_per_hour=o.usd_per_hour, power=o.power)
        for o in spec.options
    ]
    return _problem(spec, options, np.array([_stated_rates(o, spec) for o in spec.options]), inventory)


def rate_and_watts(target: Target, layouts: Deployments) -> tuple[Array, Array]:
    """Find the greatest request rate that one replica of each layout serves within the target.

    Returns (requests/s, watts per device at that rate), (N,) each. The rate is 0, and the power NaN, where even an idle
    replica misses the SLO or where the memory does not suffice.
    """
    count = len(layouts)
    base = load_of(target.workload, count)

    def at(rows: Index, rates: Array) -> Estimates:
        """Estimate the layouts at `rows`, each at its rate in requests/s."""
        return target.estimates_of(replace(rows_of(base, rows), rate=rates), layouts.take(rows))

    rate = greatest_rate(target, at, count)
    watts = at(np.arange(count), np.where(rate > 0, rate, 1.0)).power
    return rate, np.where(rate > 0, watts, np.nan)


def _fleet_of_workload(scenario: Scenario) -> FleetSpec:
    """Make a fleet of a scenario without `[fleet]`: its workload is the only class, each device on offer an option."""
    work = scenario.workload
    if work.arrival != "open":
        raise InputError(
            f"{scenario.path}: a fleet is sized for a rate; give request_rate_rps in [workload], or a [fleet]"
        )
    bill = tariff_of(scenario)
    axes = space_of(scenario, model(scenario.model), bill)
    layouts = {k: tuple(int(v) for v in getattr(axes, k) if np.isfinite(v)) for k in ("tp", "pp", "ep", "dp")}
    only_class = FleetClass(
        name=scenario.title, rate=(work.rate,), model=scenario.model, workload=work, slo=scenario.slo
    )
    options = tuple(
        FleetOption(name=d.name, device=d.name, layouts=layouts, weight=scenario.choices.weight, kv=scenario.choices.kv)
        for d in bill.devices
    )
    return FleetSpec(classes=(only_class,), options=options)


def _stated_rates(option: FleetOption, spec: FleetSpec) -> list[float]:
    """Return the requests/s of one replica by class, in the order of the classes; 0 for a class without one."""
    return [(option.throughput or {}).get(c.name, 0.0) for c in spec.classes]


def _problem(spec: FleetSpec, options: Sequence[Option], throughput: Array, inventory: Inventory) -> FleetProblem:
    """Assemble the input of the fleet program. throughput: (O, C) requests/s of one replica of each option by class."""
    return FleetProblem(
        options=tuple(options),
        classes=tuple(c.name for c in spec.classes),
        rate=np.array([c.rate for c in spec.classes], dtype=float).T,
        throughput=throughput,
        hours=np.array(spec.hours),
        inventory=inventory,
        elastic=spec.elastic,
    )


def _format_codes(names: tuple[str, ...]) -> tuple[int, ...]:
    """Return the codes of the number formats `names`; the code of the model's own format where there are none."""
    return tuple(FORMAT_CODE[n] for n in names) or (OWN_FORMAT,)
