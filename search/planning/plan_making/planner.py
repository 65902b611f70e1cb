"""Make a plan from a scenario: set up the target and the search space, search, and score."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from hwdb import InputError
from perfmodel import Deployments, ModelSpec
from perfmodel.arrays import NAN, Array
from perfmodel.costs import CostModel
from perfmodel.deployment import CP_METHOD_CODE
from perfmodel.dtypes import COMPUTE_CODE, FORMAT_CODE
from perfmodel.engines import ENGINE_VENDORS, keeps_cache_in
from search.manifest import Manifest, manifest
from search.planning.configuration.contexts import refuse_long_requests
from search.planning.configuration.quantised import caches_on, in_order, weights_on
from search.planning.disaggregation.disaggregated import matched
from search.planning.disaggregation.pools import Pairs
from search.planning.evaluation.scoring import Scorer
from search.planning.money.prices import Tariff, tariff
from search.planning.operating_point.sizing import Target
from search.planning.plan_making.ranked_plan import Plan
from search.scenario import AUTO_FORMATS
from search.searchers import SCORE, Exhaustive, Found, Progress, Searcher
from search.space import OWN_DP, PART_GROUPS, WHOLE_GROUP, SearchSpace

if TYPE_CHECKING:
    from search.scenario import Scenario

#: Engines that spread experts over a part of the devices of a layer: SGLang `--ep-size`, TensorRT-LLM
#: `moe_expert_parallel_size`. vLLM's expert parallelism takes all of them (docs, "Expert Parallel Deployment").
PART_GROUP_ENGINES = ("sglang", "trtllm")
#: What a plan takes over from the target of one of the same model, engine and devices.
OF_BEFORE = ("known", "known_of_pools", "asks")
#: Axes of numbers that a scenario may set.
NUMBER_AXES = ("tp", "pp", "ep", "dp", "cp", "kvp", "max_num_batched_tokens", "max_num_seqs", "power_cap")


def plan(
    scenario: Scenario,
    *,
    searcher: Searcher | None = None,
    costs: CostModel | None = None,
    progress: Progress | None = None,
    command: str = "",
    before: Target | None = None,
) -> Plan:
    """Make the plan for `scenario`: every legal deployment at its operating point, ranked.

    Args:
        searcher: explores the space; by default the one that the scenario names.
        costs: prices the operators; by default the engine's cost model.
        progress: called with (done, total).
        command: recorded in the manifest; by default the command line.
        before: the target of a plan of the same model, engine and devices; its steps are not priced again.

    Raises `InputError` for an impossible scenario. (Where no candidate qualifies, `Plan.message` says why instead.)
    """
    if scenario.more_engines:
        again = partial(plan, searcher=searcher, costs=costs, progress=progress, command=command)
        return _best_engine(scenario, again)
    searched = partial(_plan, searcher=searcher or searcher_of(scenario), progress=progress, command=command)
    found = searched(scenario, scorer_of(scenario, costs, before))
    if found.feasible or scenario.limits.utilisation_stated or not found.scorer.sized_by_rate:
        return found
    fuller = replace(scenario, limits=replace(scenario.limits, utilisation=1.0))
    full = searched(fuller, scorer_of(fuller, costs, found.scorer.target))
    return full if full.feasible else found


def _plan(scenario: Scenario, scorer: Scorer, *, searcher: Searcher, progress: Progress | None, command: str) -> Plan:
    """Make the plan for a scenario with one engine. Its arguments are those of `plan`, besides the scorer."""
    legal = space_of(scenario, scorer.target.model, scorer.tariff).legal()
    found = searcher.search(legal, scorer.score, progress)
    layouts, pairs, columns = _in_modes(scorer, legal.deployments(found.rows), found, scenario.choices.modes)
    return Plan(
        scenario=scenario,
        scorer=scorer,
        layouts=layouts,
        pairs=pairs,
        columns=columns,
        removed=tuple(legal.rows()),
        refused=legal.refused,
        complete=found.complete,
        manifest=_manifest(scenario, searcher, scorer.tariff, command),
    )


def _manifest(scenario: Scenario, searcher: Searcher, prices: Tariff, command: str) -> Manifest:
    """Return what a plan has to be made again with."""
    return manifest(
        scenario.path, seed=scenario.choices.seed, searcher=searcher.name, price_dates=prices.date, command=command
    )


def _best_engine(scenario: Scenario, planned: Callable[[Scenario], Plan]) -> Plan:
    """Make a plan with each engine of the scenario; return the best, with the others as its `rivals`.

    An engine under which no deployment is legal is left out; the error of the last one is raised where none is left.
    planned: makes the plan of a scenario with one engine.
    """
    plans, refused = [], None
    for engine in scenario.engines:
        try:
            plans.append(planned(replace(scenario, engine=engine, more_engines=())))
        except InputError as error:
            refused = error
    if not plans:
        raise refused or InputError(f"{scenario.path}: no engine is named")
    best, *others = sorted(plans, key=_standing)
    rest = tuple(e for e in scenario.engines if e != best.scenario.engine)
    return replace(best, scenario=replace(best.scenario, more_engines=rest), rivals=tuple(others))


def _standing(plan: Plan) -> tuple[bool, float]:
    """Return what plans of one scenario are ordered by, best first: score of the best, else by how much it misses."""
    if not len(plan):
        return True, np.inf
    first = int(plan.order[0])
    return not plan.feasible, float(plan.columns[SCORE if plan.feasible else "excess"][first])


def scorer_of(scenario: Scenario, costs: CostModel | None = None, before: Target | None = None) -> Scorer:
    """Build what scores candidates: the target, prices, limits and ranking of the scenario.

    Raises `InputError` for a confidence that cannot be met. costs: prices the operators; by default the
    engine's cost model. before: as for `plan`.
    """
    workload, limits = scenario.workload, scenario.limits
    if not 0.0 < limits.confidence < 1.0:
        value = f"{limits.confidence:g}"
        raise InputError(f"{scenario.path}: confidence {value}: no estimate is certain; give it above 0 and below 1")
    prices, spec = tariff_of(scenario), scenario.model_called(scenario.model)
    refuse_long_requests(scenario, spec)
    return Scorer(
        target=Target(
            model=spec,
            workload=workload,
            slo=scenario.slo,
            engine=scenario.engine,
            confidence=limits.confidence,
            costs=costs,
            **({} if before is None else {name: getattr(before, name) for name in OF_BEFORE}),
        ),
        tariff=prices,
        limits=limits,
        site=scenario.site,
        stock=np.array([scenario.offer.stock.get(d.name, np.inf) for d in prices.devices], dtype=float),
        rank_by=scenario.minimise,
        concurrency=tuple(float(c) for c in scenario.choices.concurrency),
        closed=scenario.request is not None and scenario.request.closed,
    )


def tariff_of(scenario: Scenario) -> Tariff:
    """Look up prices and nodes of the hardware that the scenario offers."""
    offer, shelf = scenario.offer, scenario.hardware()
    terms: dict[str, Any] = {"supply": scenario.site.psu, "money": scenario.money}
    found = tariff(shelf, offer.devices, offer.nodes, offer.prices, offer.usd_per_hour, **terms)
    return replace(found, devices=tuple(replace(d, reading=offer.readings.get(d.name, "")) for d in found.devices))


def searcher_of(scenario: Scenario) -> Searcher:
    """Build the searcher that the scenario names: Optuna, else the exhaustive one."""
    choices = scenario.choices
    if choices.searcher == "optuna":
        from search.searchers import OptunaSearcher

        return OptunaSearcher(trials=choices.trials, seed=choices.seed)
    return Exhaustive()


def space_of(scenario: Scenario, spec: ModelSpec, prices: Tariff) -> SearchSpace:
    """Build the search space of the scenario; an axis without values in the scenario takes the search's defaults.

    spec: the model. prices: the devices on offer and how many of them a node holds.
    """
    runs = _formats_run(scenario, spec, prices)
    given = _axes_of(scenario, runs)
    base = SearchSpace(
        model=spec,
        devices=prices.devices,
        stock=scenario.offer.stock,
        domain={d.name: float(n) for d, n in zip(prices.devices, prices.per_node, strict=True)},
        host=scenario.offload.host,
        adapters=scenario.adapters,
        hand_over=scenario.hand_over,
        routing=scenario.routing,
        speculation=scenario.drafting.speculation,
        pinned=frozenset(given),
        pads_shards=scenario.engine.pads_shards,
        runs=runs,
        vendors=ENGINE_VENDORS.get(scenario.engine.family, ()),
        encoder_data_parallel=scenario.engine.encoder_data_parallel,
    )
    if not spec.experts:
        given = {"dp": (1.0,), "ep": (1.0,), **given}
    elif own := frozenset({"dp", "ep"} - set(given)):
        parts = PART_GROUPS if scenario.engine.family in PART_GROUP_ENGINES else ()
        given = {"dp": OWN_DP, "ep": (1.0, WHOLE_GROUP, *parts), **given, "own_range": own}
    if WHOLE_GROUP in given.get("ep", ()) and 1.0 not in given["ep"]:
        given["ep"] = (1.0, *given["ep"])  # a layer on one device has no group to spread over
    return replace(base, **given)


def _formats_run(scenario: Scenario, spec: ModelSpec, prices: Tariff) -> dict[str, tuple[frozenset[int], ...]]:
    """Return axis (weight, kv) -> codes of the formats to try on each device, for the axes that are `AUTO_FORMATS`.

    Formats that the scenario lists besides are tried everywhere. Of a cache in formats that the engine does not have,
    those that it has are returned.
    """
    out = {}
    for axis, on in (("weight", weights_on), ("kv", caches_on)):
        listed = getattr(scenario.choices, axis)
        if AUTO_FORMATS in listed:
            named = frozenset(FORMAT_CODE[name] for name in listed if name != AUTO_FORMATS)
            out[axis] = tuple(on(spec, scenario.engine, device) | named for device in prices.devices)
    kept = {FORMAT_CODE[k] for k in scenario.choices.kv if keeps_cache_in(scenario.engine.family, k)}
    if "kv" not in out and len(kept) < len(set(scenario.choices.kv)):
        out["kv"] = (frozenset(kept),) * len(prices.devices)
    return out


def _axes_of(scenario: Scenario, runs: Mapping[str, tuple[frozenset[int], ...]]) -> dict[str, Any]:
    """Return axis -> values, for the axes on which the scenario gives values. runs: as `_formats_run` returns it."""
    c = scenario.choices
    axes: dict[str, tuple[float, ...]] = {name: tuple(float(v) for v in getattr(c, name)) for name in NUMBER_AXES}
    axes |= {
        "weight": in_order(runs["weight"]) if "weight" in runs else tuple(FORMAT_CODE[w] for w in c.weight),
        "act": tuple(COMPUTE_CODE[a] for a in c.act),
        "cp_method": tuple(CP_METHOD_CODE[m] for m in c.cp_method),
        "kv": in_order(runs["kv"]) if AUTO_FORMATS in c.kv else tuple(FORMAT_CODE[k] for k in c.kv),
        **{axis: shares for axis, shares in scenario.offload.axes.items() if any(shares)},
        **scenario.drafting.axes,
    }
    return {axis: values for axis, values in axes.items() if values}


def _in_modes(
    scorer: Scorer, layouts: Deployments, found: Found, modes: tuple[str, ...]
) -> tuple[Deployments, Pairs, dict[str, Array]]:
    """Keep the candidates of the modes that the scenario allows, and pair pools where it allows disaggregation.

    layouts, found: the colocated deployments that were tried, and their scores. modes: `colocated`, `disaggregated`, or
    both. Returns (colocated deployments, pairs of pools, columns of both).
    """
    nothing = layouts.take(slice(0))
    pairs, pair_columns = matched(scorer, layouts if "disaggregated" in modes else nothing)
    if "colocated" in modes:
        return layouts, pairs, _concatenated(found.scores, pair_columns)
    return nothing, pairs, _concatenated({k: v[:0] for k, v in found.scores.items()}, pair_columns)


def _concatenated(first: Mapping[str, Array], second: Mapping[str, Array]) -> dict[str, Array]:
    """Join the columns of two batches end to end; a batch that lacks a column gets NaN there."""
    counts = [len(next(iter(c.values()))) if c else 0 for c in (first, second)]
    names = list(dict.fromkeys([*first, *second]))
    return {
        name: np.concatenate([c.get(name, np.full(n, NAN)) for c, n in zip((first, second), counts, strict=True)])
        for name in names
    }
