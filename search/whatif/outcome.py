"""Compare the answer of a changed plan with that of the plan before, as flat rows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from hwdb import Infeasible, PerfmodelError
from perfmodel.arrays import NAN
from perfmodel.estimates import joint_chance
from search.planning import Plan

#: Figures of a row, in their order.
WHAT_IF_FIGURES = (
    "usd_per_hour",
    "change_percent",
    "devices",
    "devices_change",
    "power_w",
    "power_change_percent",
    "slo_chance",
)
#: Further figures of the answer that a row of a change has.
ANSWER_FIGURES = ("usd_per_million_tokens", "ttft_ms", "tpot_ms", "e2e_ms", "output_tok_s", "request_rate_rps")
SAME = "the same"


def outcome_row(name: str, before: Plan, changed: Plan) -> dict[str, Any]:
    """Return what a change does as one flat row: the new answer, and what it costs against that of `before`.

    name: of the change. Where nothing meets the changed request, the answer says what is nearest. Without an answer
    before, there is nothing that changes.
    """
    chance = _chance_of_today(before, changed) if before.feasible else NAN
    if not changed.feasible:
        nearest = changed.message.split("Nearest is ")[-1].split("; or ")[0]
        return _row(name, f"nothing on offer meets it; {nearest}", chance=chance)
    now = _best(before) if before.feasible else {}
    then, answer = _best(changed), changed.name(changed.best)
    same = before.feasible and answer == before.name(before.best)
    return _row(
        name,
        SAME if same else answer,
        change_percent=change_percent(then, now, "usd_per_hour"),
        devices_change=then["devices"] - now.get("devices", NAN),
        power_change_percent=change_percent(then, now, "power_w"),
        **_figures(changed, then),
        chance=chance,
    )


def as_planned(plan: Plan) -> dict[str, Any]:
    """Return the row of the plan itself, which the rows of changes are compared with.

    Raises `Infeasible` where it has no answer.
    """
    if not plan.feasible:
        raise Infeasible(plan.message)
    figures = _figures(plan, _best(plan))
    return _row("as planned", plan.name(plan.best), chance=figures["slo_chance"], **figures)


def refused_row(name: str, reason: str) -> dict[str, Any]:
    """Return the row of a change that cannot be planned. reason: why."""
    return _row(name, reason)


def _best(plan: Plan) -> dict[str, float]:
    """Return the columns of the best candidate of a plan."""
    return {k: float(v[plan.best]) for k, v in plan.columns.items()}


def _figures(plan: Plan, columns: Mapping[str, float]) -> dict[str, float]:
    """Return the figures of the answer of a plan. columns: of its best candidate."""
    bounded = [o.key for o in plan.scenario.slo.objectives if o.key not in ANSWER_FIGURES]
    names = ("usd_per_hour", "devices", "power_w", *ANSWER_FIGURES, *bounded)
    chance = columns["slo_chance"] if plan.scenario.slo.objectives else NAN
    return {name: columns[name] for name in names} | {"slo_chance": chance}


def _chance_of_today(plan: Plan, changed: Plan) -> float:
    """Return the chance that today's winner, unchanged, keeps the changed SLO.

    0 where it does not fit or is overloaded. NaN for pairs of pools, without an SLO, where the workload gives no
    demand, and where it cannot run the changed model.
    """
    slo, best = changed.scenario.slo, plan.best
    if plan.disaggregated(best) or not slo.objectives or not changed.scorer.sized:
        return NAN
    placed, database = plan.deployment(best), changed.scenario.hardware()
    try:
        now = replace(placed, devices=tuple(database.device(d.name) for d in placed.devices))
        found = changed.scorer.target.estimates(now)
    except PerfmodelError:
        return NAN
    if found.saturated[0] or not found.fits[0]:
        return 0.0
    return float(joint_chance(found, slo)[0])


def change_percent(then: Mapping[str, float], now: Mapping[str, float], column: str) -> float:
    """Return the change of a column in percent of what it is now; NaN where that is 0 or not known."""
    return 100.0 * (then[column] / now[column] - 1.0) if now.get(column) else NAN


def _row(name: str, answer: str, *, chance: float = NAN, **figures: float) -> dict[str, Any]:
    """Build one flat row of the table; columns of numbers that are not given are NaN.

    chance: the chance that today's answer would hold, unchanged.
    """
    known = dict.fromkeys(WHAT_IF_FIGURES, NAN) | figures
    return {"what_if": name, "answer": answer, **known, "chance_if_nothing_changes": chance}
