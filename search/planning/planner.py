"""From a scenario to a plan: lay out the space, search it, size every candidate, judge it."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from hwdb import InputError
from perfmodel import ModelSpec, model
from perfmodel.costs import CostModel
from perfmodel.dtypes import COMPUTE_CODE, FORMAT_CODE
from search.manifest import manifest
from search.planning.disaggregated import matched
from search.planning.plan import Plan
from search.planning.prices import Tariff, tariff
from search.planning.scoring import Scorer
from search.planning.sizing import Asked
from search.searchers import Array, Exhaustive, OptunaSearcher, Progress, Searcher
from search.space import WHOLE_GROUP, SearchSpace

if TYPE_CHECKING:
    from search.scenario import Scenario

NAN = float("nan")


def plan(
    scenario: Scenario,
    *,
    searcher: Searcher | None = None,
    costs: CostModel | None = None,
    progress: Progress | None = None,
    command: str = "",
) -> Plan:
    """Answer `scenario`: every legal deployment at its operating point, ranked, with what it rests on.

    searcher: what looks through the space, by default what the scenario names. costs: what prices operators.
    Raises `InputError` for what is impossible as asked; a plan in which nothing qualifies says so in `message`.
    """
    workload = scenario.workload  # raises where the scenario is a fleet only
    spec = model(scenario.model)
    if scenario.choices.power_cap:
        raise InputError(f"{scenario.path}: power_cap_w is not modelled; leave it out")
    if not 0.0 < scenario.limits.confidence < 1.0:
        value = f"{scenario.limits.confidence:g}"
        raise InputError(f"{scenario.path}: confidence {value}: no estimate is certain; give it between 0 and 1")
    bill = tariff_of(scenario)
    scorer = Scorer(
        asked=Asked(spec, workload, scenario.slo, scenario.engine, scenario.limits.confidence, costs),
        tariff=bill,
        limits=scenario.limits,
        site=scenario.site,
        stock=np.array([scenario.offer.stock.get(d.name, np.inf) for d in bill.devices], dtype=float),
        rank_by=scenario.minimise,
        concurrency=tuple(float(c) for c in scenario.choices.concurrency),
    )
    legal = space_of(scenario, spec, bill).legal()
    chosen = searcher or searcher_of(scenario)
    found = chosen.search(legal, scorer.score, progress)
    layouts = legal.deployments(found.rows)
    pairs, pair_columns = matched(
        scorer, layouts if "disaggregated" in scenario.choices.modes else layouts.take(slice(0))
    )
    columns = dict(found.scores)
    if "colocated" not in scenario.choices.modes:
        layouts, columns = layouts.take(slice(0)), {k: v[:0] for k, v in columns.items()}
    columns = _stacked(columns, pair_columns)
    return Plan(
        scenario=scenario,
        scorer=scorer,
        layouts=layouts,
        pairs=pairs,
        columns=columns,
        removed=tuple(legal.rows()),
        complete=found.complete,
        manifest=manifest(
            scenario.path, seed=scenario.choices.seed, searcher=chosen.name, price_dates=bill.date, command=command
        ),
    )


def tariff_of(scenario: Scenario) -> Tariff:
    """Prices and nodes of what the scenario offers."""
    offer = scenario.offer
    return tariff(scenario.hardware(), offer.devices, offer.nodes, offer.prices, offer.usd_per_hour)


def searcher_of(scenario: Scenario) -> Searcher:
    """The searcher that the scenario names."""
    choices = scenario.choices
    if choices.searcher == "optuna":
        return OptunaSearcher(trials=choices.trials, seed=choices.seed)
    return Exhaustive()


def space_of(scenario: Scenario, spec: ModelSpec, bill: Tariff) -> SearchSpace:
    """The space that the scenario spans: its own values where it gives some, else the search's defaults."""
    c = scenario.choices
    given = {name: tuple(float(v) for v in getattr(c, name)) for name in ("tp", "pp", "ep", "dp", "cp")}
    given["max_num_batched_tokens"] = tuple(float(v) for v in c.max_num_batched_tokens)
    given["max_num_seqs"] = tuple(float(v) for v in c.max_num_seqs)
    codes = {
        "weight": tuple(FORMAT_CODE[w] for w in c.weight),
        "act": tuple(COMPUTE_CODE[a] for a in c.act),
        "kv": tuple(FORMAT_CODE[k] for k in c.kv),
    }
    away = {axis: shares for axis, shares in scenario.offload.axes.items() if any(shares)}
    base = SearchSpace(
        spec,
        bill.devices,
        stock=scenario.offer.stock,
        domain={d.name: float(n) for d, n in zip(bill.devices, bill.per_node, strict=True)},
        host=scenario.offload.host,
        adapters=scenario.adapters,
        pinned=frozenset(name for name, values in {**given, **codes, **away}.items() if values),
    )
    if not spec.experts and not given["dp"]:
        given["dp"] = (1.0,)
    if not spec.experts and not given["ep"]:
        given["ep"] = (1.0,)
    if WHOLE_GROUP in given["ep"] and 1.0 not in given["ep"] and spec.experts:
        given["ep"] = (1.0, *given["ep"])  # a layer on one device has no group to spread over
    chosen: dict[str, Any] = {name: values for name, values in {**given, **codes, **away}.items() if values}
    return replace(base, **chosen)


def _stacked(first: dict[str, Array], second: dict[str, Array]) -> dict[str, Array]:
    """Columns end to end; NaN where one side has none."""
    counts = [len(next(iter(c.values()))) if c else 0 for c in (first, second)]
    names = list(dict.fromkeys([*first, *second]))
    return {
        name: np.concatenate([c.get(name, np.full(n, NAN)) for c, n in zip((first, second), counts, strict=True)])
        for name in names
    }
