"""Turn a scenario into the input of the fleet program, and plan its fleet."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from hwdb import Infeasible, InputError
from perfmodel.arrays import Array
from perfmodel.costs import CostModel, StepCache
from perfmodel.unit_factors import SECONDS_PER_HOUR
from search.fleet.checks.mix import tightened
from search.fleet.checks.operating import at_load, output_at_load
from search.fleet.integer_program.solve import Solver
from search.fleet.options.buckets import CUTS, WORTH, cut, has_auto, relaxed_cost
from search.fleet.options.layouts import Modeller
from search.fleet.options.left_out import left_out
from search.fleet.options.regions import RegionTerms, node_prices, stock_left
from search.fleet.options.terms import on_terms, spreads_of, with_terms
from search.fleet.problem_data.limits import served_by_none, supplied
from search.fleet.problem_data.problem import FleetProblem
from search.fleet.replicas.layout_set import models_named
from search.fleet.replicas.modelled import Modelled
from search.fleet.replicas.starts import start_ups, told_of_starts
from search.fleet.solution.day import due_at, over_the_day
from search.fleet.solution.longer_bounds import longer_bounds
from search.fleet.solution.plan import UNTRIED, FleetInfeasible, FleetPlan
from search.manifest import manifest
from search.planning import Tariff, dearest, tariff, tariff_of
from search.scenario import (
    AUTO_BUCKETS,
    FleetClass,
    FleetOption,
    FleetSpec,
    Inventory,
    Option,
    Site,
    placed,
    refused_for_fleets,
)

if TYPE_CHECKING:
    from search.scenario import Scenario

#: Share of the time limit that the program has in any case, where modelling its options takes longer than the limit.
SOLVING_TIME = 0.2
#: Share of the time that is left for each solution of a fleet whose mixes may have to be tightened.
MIX_TIME = 0.7


def plan_fleet(
    scenario: Scenario,
    *,
    solver: Solver | None = None,
    costs: CostModel | None = None,
    command: str = "",
    time_limit: float | None = None,
    gap: float | None = None,
) -> FleetPlan:
    """Find the least-cost fleet for `scenario`, with proof of its optimality.

    It serves the scenario's `[fleet]`; without one, its workload on the hardware on offer, hour by hour where its load
    changes over the day.

    Args:
        scenario: with a `[fleet]`, or with a workload that has a request rate.
        solver: `highs` or `cbc`; by default the one that is installed.
        costs: prices the operators; by default the engine's cost model.
        command: recorded in the manifest; by default the command line.
        time_limit: seconds for the answer, with the modelling of the options; by default the scenario's
            `time_limit_s`.
        gap: relative distance from the optimum at which the solver may stop; by default the scenario's `gap_percent`.

    Raises:
        FleetInfeasible: no fleet satisfies the limits; the message says what to relax.
        InputError: the scenario lacks what a fleet needs.
    """
    start, effort = time.monotonic(), {"time_limit_s": time_limit, "gap": gap}
    steps: dict[str, StepCache] = {}

    def made(one: Scenario) -> Prepared:
        """Return the input of the program, whose answer is due."""
        prepared = _with_effort(prepare(one, costs, steps), effort)
        seconds = prepared.problem.time_limit_s
        due = max(start + seconds, time.monotonic() + SOLVING_TIME * seconds)
        return replace(prepared, problem=replace(prepared.problem, due=due))

    prepared, found = _solved_or_told(scenario, solver, made)
    return _told(scenario, prepared, due_at(with_load(found, prepared.modelled), math.inf), command)


def _solved_or_told(
    scenario: Scenario, solver: Solver | None, made: Callable[[Scenario], Prepared]
) -> tuple[Prepared, FleetPlan]:
    """Do as `_solved`; where no fleet is possible, the error has the bounds of SLOs that may be longer instead."""
    try:
        return _solved(scenario, solver, made)
    except FleetInfeasible as error:
        raise _with_bounds(error, scenario, made, solver) from None


def _with_bounds(
    error: FleetInfeasible, scenario: Scenario, made: Callable[[Scenario], Prepared], solver: Solver | None
) -> FleetInfeasible:
    """Return the error for a scenario that no fleet satisfies, with the bounds of SLOs that may be longer instead."""
    due = made(scenario).problem.due
    ways, late = longer_bounds(scenario, lambda one: made(one).problem, due, solver)
    known = late and UNTRIED not in error.remarks
    remarks = (*error.remarks, UNTRIED) if known else error.remarks
    return FleetInfeasible(error.message, (*error.relaxations, *ways), remarks)


def _told(scenario: Scenario, prepared: Prepared, found: FleetPlan, command: str) -> FleetPlan:
    """Return a fleet with what it rests on, what it leaves idle, and where it stands. command: see `plan_fleet`."""
    told = manifest(
        scenario.path,
        seed=scenario.choices.seed,
        solver=found.solver,
        gap=found.gap,
        price_dates=prepared.dates,
        command=command,
    )
    more: dict[str, Any] = {"modelled": prepared.modelled, "options_stay": prepared.spec.scaled}
    idle = stock_left(found.problem, found.replicas, scenario)
    site = RegionTerms(prepared.spec.terms.regions).site(scenario.site)
    return replace(found, manifest=told, idle=idle, site=site, **more)


def _with_effort(prepared: Prepared, effort: Mapping[str, Any]) -> Prepared:
    """Return the input with the fields of the problem in `effort` that are not None."""
    asked = {name: value for name, value in effort.items() if value is not None}
    return replace(prepared, problem=replace(prepared.problem, **asked))


def _solved(
    scenario: Scenario, solver: Solver | None, made: Callable[[Scenario], Prepared]
) -> tuple[Prepared, FleetPlan]:
    """Find the fleet of a scenario.

    Where none leaves as much capacity free as is usual, and the scenario does not ask for it, it is one that is used to
    the full. made: builds the input of the program. Raises what `plan_fleet` does.
    """
    prepared = made(scenario)
    try:
        return prepared, _of_mixes(prepared, solver)
    except Infeasible as error:
        if scenario.limits.utilisation_stated or all(o.most_used == 1.0 for o in prepared.problem.options):
            raise
        fuller = made(replace(scenario, limits=replace(scenario.limits, utilisation=1.0)))
        usual = f"{scenario.limits.utilisation:.0%}".replace("%", " %")
        text = f"no fleet within the limits keeps to {usual} of its capacity: this one may be used to all of it"
        fuller = replace(fuller, problem=replace(fuller.problem, remarks=(*fuller.problem.remarks, text)))
        try:
            return fuller, _of_mixes(fuller, solver)
        except Infeasible:
            raise _at_usual(error, usual) from None


def _at_usual(error: Infeasible, usual: str) -> Infeasible:
    """Return the error of a fleet that keeps capacity free as usual, which says so. usual: the share that is used."""
    if not isinstance(error, FleetInfeasible):
        return error
    text = f"for replicas that are used to {usual} of what they serve; used to all of it, less is enough"
    return FleetInfeasible(error.message, error.relaxations, (text, *error.remarks))


def _of_mixes(prepared: Prepared, solver: Solver | None) -> FleetPlan:
    """Find the fleet of a problem whose replicas serve the mixes of classes that they are given."""
    found, told = tightened(
        prepared.problem,
        prepared.modelled,
        lambda p: over_the_day(p.within(MIX_TIME), solver, scaled=prepared.spec.scaled),
    )
    return replace(found, problem=replace(found.problem, remarks=(*found.problem.remarks, *told)))


def with_load(found: FleetPlan, modelled: Modelled) -> FleetPlan:
    """Return the fleet, and those beside it, with power and the chance of the SLOs at the load of each period."""

    def judged(one: FleetPlan) -> FleetPlan:
        """Return the same fleet with what it does at its load."""
        done = at_load(one, modelled)
        return replace(
            one,
            power_at_load=done.power,
            slo_chance=done.chance,
            output_rate=output_at_load(one, modelled),
            power_spread=done.power_spread,
        )

    scaled, static = (None if one is None else judged(one) for one in (found.scaled, found.static))
    return replace(judged(found), scaled=scaled, static=static)


@dataclass(frozen=True)
class Prepared:
    """A scenario as the fleet program reads it.

    spec: the fleet of the scenario. dates: of the prices. modelled: what the options run.
    """

    problem: FleetProblem
    spec: FleetSpec
    dates: tuple[str, ...]
    modelled: Modelled


def fleet_problem(scenario: Scenario, costs: CostModel | None = None) -> tuple[FleetProblem, tuple[str, ...]]:
    """Build the input of the fleet program from a scenario; returns (input, dates of the prices that it uses)."""
    prepared = prepare(scenario, costs)
    return prepared.problem, prepared.dates


def prepare(scenario: Scenario, costs: CostModel | None = None, steps: dict[str, StepCache] | None = None) -> Prepared:
    """Build the input of the fleet program from a scenario, with what its options run.

    Options that serve no class, or whose price is unknown, are named in the remarks of the input (see `priced`).
    steps: costs of steps that were priced before, by model; those of this call are added.
    """
    spec = scenario.fleet or _fleet_of_workload(scenario)
    steps = {} if steps is None else steps
    if not has_auto(spec):
        return _prepared(scenario, cut(spec, CUTS[0]), costs, steps)
    tried: list[tuple[float, Prepared, tuple[int, int]]] = []
    for cuts in CUTS:
        made = _prepared(scenario, cut(spec, cuts), costs, steps)
        tried.append((relaxed_cost(made.problem), made, cuts))
        if len(tried) > 1 and not abs(tried[-1][0] / tried[-2][0] - 1.0) >= WORTH:
            break
    return _least_cut(spec, tried)


def _least_cut(spec: FleetSpec, tried: Sequence[tuple[float, Prepared, tuple[int, int]]]) -> Prepared:
    """Return the fleet of the cheapest cut that was tried, with a remark on it. tried: cost, fleet and cut of each."""
    costs = np.array([cost for cost, *_ in tried])
    best = int(np.argmax(costs <= costs.min() * (1.0 + WORTH)))  # the coarsest within 1 %
    _, found, (inputs, outputs) = tried[best]
    names = ", ".join(c.name for c in spec.classes if c.buckets == AUTO_BUCKETS)
    count = len(found.spec.classes)
    text = f"{names}: cut into {inputs} x {outputs} buckets by prompt and output length, {count} classes in all"
    last, finest = tried[-1][2], costs[-1]
    if best + 1 == len(tried):
        text += "; that is the finest that was tried"
    elif np.isfinite(finest):
        more = 100.0 * (finest / costs[best] - 1.0)
        text += f"; with {last[0]} x {last[1]} the cost changes by {more:+.1f} %"
    else:
        text += f"; with {last[0]} x {last[1]} no option serves some bucket within the SLO by itself"
    return replace(found, problem=replace(found.problem, remarks=(*found.problem.remarks, text)))


def _prepared(scenario: Scenario, spec: FleetSpec, costs: CostModel | None, steps: dict[str, StepCache]) -> Prepared:
    """Do as `prepare` for classes that are cut already. steps: costs of steps that were priced before, by model."""
    database, offer = scenario.hardware(), scenario.offer
    devices = tuple(dict.fromkeys(d for o in spec.options for d in (o.device, o.prefill_device) if d))
    known = tuple(d for d in devices if d in database.names())
    terms: dict[str, Any] = {"money": scenario.money, "supply": scenario.site.psu}
    bill = tariff(database, known, offer.nodes, offer.prices, offer.usd_per_hour, **terms)
    modeller = Modeller(scenario=scenario, spec=spec, tariff=bill, costs=costs, known=steps)
    parts = models_named(modeller.layouts())
    useless = left_out(modeller, parts)
    own = [placed(o.device, o.terms.region) for o in spec.options if np.isfinite(o.usd_per_hour)]  # that of a replica
    per_node = node_prices(modeller.abroad, spec, bill, _per_node(bill, scenario.site), frozenset(own))
    inventory = replace(scenario.inventory(), node_usd_per_hour=per_node)
    options = [
        made
        for o, part in zip(spec.options, parts, strict=True)
        for made in on_terms(part.options, o, start_ups(part, o, scenario))
    ]
    joined = (spec.elastic or spec.scaled) and len(spec.hours) > 1
    late = told_of_starts(options, joined=joined or any(s.interruptions_per_hour for s in spec.terms.supplies))
    problem = _problem(spec, options, np.concatenate([part.throughput for part in parts]), inventory)
    spreads = spreads_of(spec, [len(part.options) for part in parts])
    modelled = modeller.modelled(parts)
    problem = priced(with_terms(problem, scenario, spec, modelled, spreads))
    staff = scenario.money.ownership.staff_usd_per_month
    beside = (f"staff ({staff:g} USD per month) is not part of the cost of a fleet",) if staff else ()
    if scenario.money.utilisation != 1.0:
        beside = (*beside, "utilisation of [money] plays no part in a fleet: its hours have loads of their own")
    problem = replace(problem, remarks=(*problem.remarks, *useless, *beside, *late, *scenario.readings))
    return Prepared(problem=problem, spec=spec, dates=bill.date, modelled=modelled)


def _per_node(bill: Tariff, site: Site) -> Array:
    """Return USD per hour of a whole node of each device type, (D,).

    An owned node counts with the electricity of all its devices and its host at their most.
    """
    return dearest(bill, site, (np.arange(len(bill.devices)), bill.per_node, np.ones(len(bill.devices))), staff=False)


def priced(problem: FleetProblem) -> FleetProblem:
    """Return the problem with prices that can be compared, and a remark that names what has none.

    Options without a known price are left out where the others serve every class. Otherwise the devices are counted in
    place of the money: each costs 1, and the result has no cost.
    """
    rented = supplied(problem)
    unknown = [o for o in problem.options if np.isnan(o.usd_per_hour) and not rented.intersection(o.devices_of)]
    if not unknown:
        return problem
    names = list(dict.fromkeys(o.device for o in unknown))
    example = ", ".join(f"{name} = ..." for name in names)
    text = (
        f"no price is known for {', '.join(names)}: give one with [hardware] usd_per_hour = {{ {example} }}, "
        "or usd_per_hour in its [[fleet.option]]"
    )
    rows = np.array([i for i, o in enumerate(problem.options) if o not in unknown], dtype=np.intp)
    left = problem.of_options(rows)
    if len(rows) and not served_by_none(left):
        return replace(left, remarks=(*left.remarks, f"{text}; without it the fleet leaves it out"))
    counted = tuple(replace(o, usd_per_hour=o.devices) for o in problem.options)
    inventory = replace(problem.inventory, node_usd_per_hour={})
    remark = f"{text}; without it the fleet has the fewest devices, not the least cost"
    if np.isfinite(problem.inventory.budget):
        raise InputError(f"fleet: a budget is set, but {text}")
    return replace(
        problem, options=counted, inventory=inventory, remarks=(*problem.remarks, remark), counts_devices=True
    )


def _fleet_of_workload(scenario: Scenario) -> FleetSpec:
    """Make a fleet of a scenario without `[fleet]`: its workload is the only class, each device on offer an option."""
    work = scenario.workload
    if work.arrival != "open":
        raise InputError(
            f"{scenario.path}: a fleet is sized for a rate; give request_rate_rps in [workload], or a [fleet]"
        )
    refused = refused_for_fleets(scenario)
    if refused is not None:
        table, key, told = refused
        raise InputError(f"{scenario.path}: [{table}] {key}: {told}")
    request = scenario.request
    periods = request.periods if request is not None and request.for_peak else ()
    only_class = FleetClass(
        name=scenario.title,
        rate=tuple(p.rate for p in periods) or (work.rate,),
        model=scenario.model,
        workload=work,
        slo=scenario.slo,
        remarks=request.remarks if request is not None else (),
    )
    options = tuple(FleetOption(name=d.name, device=d.name) for d in tariff_of(scenario).devices)
    hours = tuple(p.length / SECONDS_PER_HOUR for p in periods) or (1.0,)
    return FleetSpec(classes=(only_class,), options=options, hours=hours, scaled=bool(periods))


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
        class_models=tuple(c.model for c in spec.classes),
        remarks=tuple(f"trace of {c.name}: {text}" for c in spec.classes for text in c.remarks),
    )
