"""What if: the plan made again with one thing changed, and what today's answer would be worth then."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from hwdb import PerfmodelError
from perfmodel import Slo, Workload
from perfmodel.estimates import chances
from search.planning.plan import Plan
from search.searchers import Progress

if TYPE_CHECKING:
    from search.scenario import Scenario

NAN = float("nan")


@dataclass(frozen=True)
class Change:
    """One thing that may come otherwise. make: the scenario as it would be then."""

    name: str
    make: Callable[[Scenario], Scenario]


def _work(scenario: Scenario, change: Callable[[Workload], Workload]) -> Scenario:
    request = scenario.request
    return (
        scenario if request is None else replace(scenario, request=replace(request, workload=change(request.workload)))
    )


def _bounds(scenario: Scenario, factor: float) -> Scenario:
    slo = Slo(tuple(replace(o, limit=o.limit * factor) for o in scenario.slo.objectives))
    return replace(scenario, slo=slo)


def _load(work: Workload, factor: float) -> Workload:
    return replace(work, rate=work.rate * factor, concurrency=np.maximum(np.round(work.concurrency * factor), 1.0))


def _price(plan: Plan, factor: float) -> Callable[[Scenario], Scenario]:
    """Prices of the devices in the answer, times `factor`."""
    used = [int(i) for i in _devices(plan)]
    bill = plan.scorer.tariff
    own = {bill.devices[i].name: float(bill.usd_per_hour[i]) * factor for i in used}
    return lambda s: replace(s, offer=replace(s.offer, usd_per_hour={**s.offer.usd_per_hour, **own}))


def _devices(plan: Plan) -> list[int]:
    best = plan.best
    one = plan.pair(best) if plan.disaggregated(best) else None
    columns = [plan.deployment(best).device] if one is None else [one.prefill.device, one.decode.device]
    return list(dict.fromkeys(int(c[0]) for c in columns))


def changes(plan: Plan) -> list[Change]:
    """What to try for this plan, only what makes sense for it."""
    s, work = plan.scenario, plan.scorer.asked.workload
    found = []
    if any(np.isfinite(plan.scorer.tariff.usd_per_hour[i]) for i in _devices(plan)):
        found += [Change("its price + 20 %", _price(plan, 1.2)), Change("its price − 20 %", _price(plan, 0.8))]
    if plan.scorer.sized and work.arrival in ("open", "closed"):
        found += [
            Change("load × 2", lambda s: _work(s, lambda w: _load(w, 2.0))),
            Change("load ÷ 2", lambda s: _work(s, lambda w: _load(w, 0.5))),
        ]
    found += [
        Change("outputs × 2", lambda s: _work(s, lambda w: replace(w, output_tokens=w.output_tokens * 2.0))),
        Change("inputs × 2", lambda s: _work(s, lambda w: replace(w, input_tokens=w.input_tokens * 2.0))),
        Change("half of each prompt cached", lambda s: _work(s, lambda w: replace(w, prefix_hit=np.full(1, 0.5)))),
    ]
    if s.slo.objectives:
        found += [
            Change("SLO 20 % tighter", lambda s: _bounds(s, 0.8)),
            Change("SLO 20 % looser", lambda s: _bounds(s, 1.25)),
            Change("SLO kept with 90 % chance", lambda s: replace(s, limits=replace(s.limits, confidence=0.9))),
        ]
    found += [_format(name) for name in ("bf16", "fp8", "int4")]
    if s.limits.spare_nodes == 0:
        found.append(Change("one node may fail", lambda s: replace(s, limits=replace(s.limits, spare_nodes=1))))
    names = [plan.scorer.tariff.devices[i].name for i in _devices(plan)]
    left = tuple(d for d in s.offer.devices if d not in names)
    if left:
        found.append(
            Change(f"without {' and '.join(names)}", lambda s: replace(s, offer=replace(s.offer, devices=left)))
        )
    return found


def _format(name: str) -> Change:
    return Change(f"{name} weights", lambda s: replace(s, choices=replace(s.choices, weight=(name,))))


def what_if(plan: Plan, progress: Progress | None = None) -> list[dict[str, Any]]:
    """One flat row a change: the new answer, its cost against today's, and the chance that today's answer would hold.

    Raises `Infeasible` when the plan itself has no answer.
    """
    tried = changes(plan)
    rows = []
    for done, row in enumerate(_rows(plan, tried), start=1):
        rows.append(row)
        if progress:
            progress(done, len(tried))
    return rows


def _rows(plan: Plan, tried: list[Change]) -> Iterator[dict[str, Any]]:
    from search.planning.planner import plan as make

    today = {k: float(v[plan.best]) for k, v in plan.columns.items()}
    name = plan.name(plan.best)
    for change in tried:
        try:
            then = make(change.make(plan.scenario), costs=plan.scorer.asked.costs)
        except PerfmodelError as error:
            yield _row(change.name, str(error))
            continue
        kept = _kept(plan, then)
        if not then.feasible:
            yield _row(change.name, f"nothing on offer meets it; {_short(then.message)}", kept=kept)
            continue
        c = {k: float(v[then.best]) for k, v in then.columns.items()}
        answer = then.name(then.best)
        rise = 100.0 * (c["usd_per_hour"] / today["usd_per_hour"] - 1.0)
        yield _row(
            change.name,
            "the same" if answer == name else answer,
            usd_per_hour=c["usd_per_hour"],
            change_percent=rise,
            power_w=c["power_w"],
            slo_chance=c["slo_chance"] if then.scenario.slo.objectives else NAN,
            kept=kept,
        )


def _short(message: str) -> str:
    return message.split("Nearest is ")[-1].split("; or ")[0]


def _kept(plan: Plan, then: Plan) -> float:
    """Chance that today's hardware, as it is laid out today, keeps the changed objectives; 0 where it overflows."""
    slo, best = then.scenario.slo, plan.best
    if plan.disaggregated(best) or not slo.objectives or not then.scorer.sized:
        return NAN
    found = then.scorer.asked.estimates(plan.deployment(best))
    if found.saturated[0] or not found.fits[0]:
        return 0.0
    return float(chances(found, slo).min())


def _row(name: str, answer: str, *, kept: float = NAN, **figures: float) -> dict[str, Any]:
    known = dict.fromkeys(("usd_per_hour", "change_percent", "power_w", "slo_chance"), NAN) | figures
    return {"what_if": name, "answer": answer, **known, "chance_if_nothing_changes": kept}
