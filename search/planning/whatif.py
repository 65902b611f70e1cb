"""Make the plan again with one thing changed at a time, and estimate the chance that today's answer would still do."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from hwdb import PerfmodelError
from perfmodel import Slo, Workload
from perfmodel.arrays import NAN
from perfmodel.estimates import chances
from search.planning.planner import plan as plan_of
from search.planning.ranked_plan import Plan
from search.searchers import Progress

if TYPE_CHECKING:
    from search.scenario import Scenario

# chosen: steps that are large enough to change an answer, and small enough to happen.
PRICE_UP, PRICE_DOWN = 1.2, 0.8
LOAD_UP, LOAD_DOWN = 2.0, 0.5
LENGTHS_UP = 2.0
#: The looser bound is the inverse of the tighter one.
SLO_TIGHTER, SLO_LOOSER = 0.8, 1.25
CACHED_SHARE = 0.5
HIGH_CONFIDENCE = 0.9
WEIGHT_FORMATS = ("bf16", "fp8", "int4")


@dataclass(frozen=True)
class Change:
    """One thing that may turn out differently. name: in words. make: turns the scenario into what it would be then."""

    name: str
    make: Callable[[Scenario], Scenario]


def changes(plan: Plan) -> list[Change]:
    """List the changes that make sense for this plan.

    They concern the prices, load, lengths, SLO, weight formats, a failed node, and the winner's hardware.
    """
    s, work, types = plan.scenario, plan.scorer.target.workload, _device_types(plan)
    found = []
    if any(np.isfinite(plan.scorer.tariff.usd_per_hour[i]) for i in types):
        found += [
            Change("its price + 20 %", _with_prices(plan, PRICE_UP)),
            Change("its price − 20 %", _with_prices(plan, PRICE_DOWN)),
        ]
    if plan.scorer.sized and work.arrival in ("open", "closed"):
        found += [
            Change("load × 2", lambda s: _with_workload(s, lambda w: _loaded(w, LOAD_UP))),
            Change("load ÷ 2", lambda s: _with_workload(s, lambda w: _loaded(w, LOAD_DOWN))),
        ]
    found += _length_changes()
    if s.slo.objectives:
        found += _slo_changes()
    found += [_weight_format(name) for name in WEIGHT_FORMATS]
    if s.limits.spare_nodes == 0:
        found.append(Change("one node may fail", lambda s: replace(s, limits=replace(s.limits, spare_nodes=1))))
    used = [plan.scorer.tariff.devices[i].name for i in types]
    others = tuple(d for d in s.offer.devices if d not in used)
    if others:
        without = f"without {' and '.join(used)}"
        found.append(Change(without, lambda s: replace(s, offer=replace(s.offer, devices=others))))
    return found


def what_if(plan: Plan, progress: Progress | None = None) -> list[dict[str, Any]]:
    """Plan again for each change and return one flat row per change.

    A row holds the new answer, its cost against today's, and the chance that today's answer would hold. Raises
    `Infeasible` when the plan itself has no answer.
    """
    tried = changes(plan)
    rows = []
    for done, row in enumerate(_rows(plan, tried), start=1):
        rows.append(row)
        if progress:
            progress(done, len(tried))
    return rows


def _length_changes() -> list[Change]:
    """List the changes of prompt and output lengths, and of the cached share of a prompt."""

    def longer_outputs(w: Workload) -> Workload:
        return replace(w, output_tokens=w.output_tokens * LENGTHS_UP)

    def longer_inputs(w: Workload) -> Workload:
        return replace(w, input_tokens=w.input_tokens * LENGTHS_UP)

    def cached(w: Workload) -> Workload:
        return replace(w, prefix_hit=np.full(1, CACHED_SHARE))

    return [
        Change("outputs × 2", lambda s: _with_workload(s, longer_outputs)),
        Change("inputs × 2", lambda s: _with_workload(s, longer_inputs)),
        Change("half of each prompt cached", lambda s: _with_workload(s, cached)),
    ]


def _slo_changes() -> list[Change]:
    """List the changes of the SLO: tighter, looser, and kept with a higher probability."""

    def surer(s: Scenario) -> Scenario:
        return replace(s, limits=replace(s.limits, confidence=HIGH_CONFIDENCE))

    return [
        Change("SLO 20 % tighter", lambda s: _with_slo_times(s, SLO_TIGHTER)),
        Change("SLO 20 % looser", lambda s: _with_slo_times(s, SLO_LOOSER)),
        Change("SLO kept with 90 % chance", surer),
    ]


def _weight_format(name: str) -> Change:
    """Return the change that stores the weights in the format `name`."""
    return Change(f"{name} weights", lambda s: replace(s, choices=replace(s.choices, weight=(name,))))


def _with_workload(scenario: Scenario, change: Callable[[Workload], Workload]) -> Scenario:
    """Return the scenario with its workload changed by `change`; the same scenario where it has no workload."""
    request = scenario.request
    if request is None:
        return scenario
    return replace(scenario, request=replace(request, workload=change(request.workload)))


def _loaded(work: Workload, factor: float) -> Workload:
    """Return the workload with its rate and concurrency multiplied by `factor`; at least 1 request stays in flight."""
    return replace(work, rate=work.rate * factor, concurrency=np.maximum(np.round(work.concurrency * factor), 1.0))


def _with_slo_times(scenario: Scenario, factor: float) -> Scenario:
    """Return the scenario with every bound of its SLO multiplied by `factor`."""
    slo = Slo(tuple(replace(o, limit=o.limit * factor) for o in scenario.slo.objectives))
    return replace(scenario, slo=slo)


def _with_prices(plan: Plan, factor: float) -> Callable[[Scenario], Scenario]:
    """Return a function that multiplies the prices of the devices that the winner uses by `factor` in a scenario."""
    prices = plan.scorer.tariff
    own = {prices.devices[i].name: float(prices.usd_per_hour[i]) * factor for i in _device_types(plan)}
    return lambda s: replace(s, offer=replace(s.offer, usd_per_hour={**s.offer.usd_per_hour, **own}))


def _device_types(plan: Plan) -> list[int]:
    """Return the positions, in the tariff, of the device types that the winner uses, each once."""
    if not plan.disaggregated(plan.best):
        return [int(plan.deployment(plan.best).device[0])]
    pair = plan.pair(plan.best)
    return list(dict.fromkeys([int(pair.prefill.device[0]), int(pair.decode.device[0])]))


def _rows(plan: Plan, tried: list[Change]) -> Iterator[dict[str, Any]]:
    """Plan again for each change, and yield its row; an impossible change yields the reason as its answer."""
    today = float(plan.columns["usd_per_hour"][plan.best])
    name = plan.name(plan.best)
    for change in tried:
        try:
            changed = plan_of(change.make(plan.scenario), costs=plan.scorer.target.costs)
        except PerfmodelError as error:
            yield _row(change.name, str(error))
            continue
        chance = _chance_of_today(plan, changed)
        if not changed.feasible:
            nearest = changed.message.split("Nearest is ")[-1].split("; or ")[0]
            yield _row(change.name, f"nothing on offer meets it; {nearest}", chance=chance)
            continue
        c = {k: float(v[changed.best]) for k, v in changed.columns.items()}
        answer = changed.name(changed.best)
        yield _row(
            change.name,
            "the same" if answer == name else answer,
            usd_per_hour=c["usd_per_hour"],
            change_percent=100.0 * (c["usd_per_hour"] / today - 1.0),
            power_w=c["power_w"],
            slo_chance=c["slo_chance"] if changed.scenario.slo.objectives else NAN,
            chance=chance,
        )


def _chance_of_today(plan: Plan, changed: Plan) -> float:
    """Return the chance that today's winner, unchanged, keeps the changed SLO.

    0 where it does not fit or is overloaded. NaN for pairs of pools, without an SLO, and where the workload gives no
    demand.
    """
    slo, best = changed.scenario.slo, plan.best
    if plan.disaggregated(best) or not slo.objectives or not changed.scorer.sized:
        return NAN
    found = changed.scorer.target.estimates(plan.deployment(best))
    if found.saturated[0] or not found.fits[0]:
        return 0.0
    return float(chances(found, slo).min())


def _row(name: str, answer: str, *, chance: float = NAN, **figures: float) -> dict[str, Any]:
    """Build one flat row of the table; columns of numbers that are not given are NaN.

    chance: the chance that today's answer would hold, unchanged.
    """
    known = dict.fromkeys(("usd_per_hour", "change_percent", "power_w", "slo_chance"), NAN) | figures
    return {"what_if": name, "answer": answer, **known, "chance_if_nothing_changes": chance}
