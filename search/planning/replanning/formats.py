"""Say what a narrower number format would change, where the scenario does not list it.

A narrower format changes the answers of the model, so that a plan never takes it unasked. The plan is made again with
it, and one sentence says what it would cost.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from hwdb import PerfmodelError
from perfmodel.dtypes import FORMAT_CODE, FORMAT_NAMES
from perfmodel.models import UNQUANTISED
from search.planning.configuration.quantised import (
    ONLINE_ENGINES,
    ONLINE_FORMAT,
    in_order,
    needs_checkpoint,
    weights_on,
)
from search.planning.plan_making.planner import plan as plan_of
from search.planning.plan_making.planner import scorer_of
from search.planning.replanning.concurrent_plans import plan_concurrently
from search.scenario import RANKINGS

if TYPE_CHECKING:
    from search.planning.evaluation.scoring import Scorer
    from search.planning.operating_point.sizing import Asks
    from search.planning.plan_making.ranked_plan import Plan
    from search.scenario import Scenario
    from search.searchers import Progress

#: Format that is offered for unquantised weights.
OFFERED = ONLINE_FORMAT
#: Formats of the KV cache that are tried with it (vLLM and SGLang docs, "Quantized KV Cache").
KV_FORMATS = ("bf16", "fp8")
#: Least gain that is worth a sentence, as a share of the value of the ranking. Chosen: the error of a price.
LEAST_GAIN = 0.02
#: Rankings in dollars -> what they are per.
_DOLLARS = {
    "usd_per_hour": "per hour",
    "usd_per_million_tokens": "per M output tokens",
    "usd_per_million_total_tokens": "per M tokens in and out",
}


def plan_and_narrower(
    scenario: Scenario, shown: Callable[[Plan], object], *, progress: Progress | None = None, command: str = ""
) -> tuple[Plan, Plan | None]:
    """Make the plan of a scenario together with the one in `OFFERED`, in common batches, which cost little more.

    Returns both; None in place of the second where it does not apply, or several engines are compared.

    Args:
        shown: called with the first plan, for what of it is estimated in common batches too.
        progress: called with (done, total).
        command: noted in the manifest.
    """
    scorer = scorer_of(scenario)
    other = None if scenario.more_engines else _narrower(scenario, scorer)
    if other is None:
        return plan_of(scenario, progress=progress, command=command), None

    def own(asks: Asks) -> Plan:
        """Make the plan of the scenario, and what is shown of it."""
        found = plan_of(scenario, progress=progress, command=command, before=replace(scorer.target, asks=asks))
        shown(found)
        return found

    def narrower(asks: Asks) -> Plan | None:
        """Make the plan in the narrower format; None where there is none."""
        try:
            return plan_of(other, before=replace(scorer.target, asks=asks))
        except PerfmodelError:
            return None

    found, beside = plan_concurrently([own, narrower])
    return found, beside


def format_offer(plan: Plan, progress: Progress | None = None, found: Plan | None = None) -> str:
    """Say what fp8 weights would cost, in one sentence with the lines that try them; "" where they do not apply.

    progress: called with (done, total). found: the plan with them, where it was made (`plan_and_narrower`).
    """
    tried = _narrower(plan.scenario, plan.scorer)
    if tried is None:
        return ""
    if found is None:
        try:
            found = plan_of(tried, costs=plan.scorer.target.costs, progress=progress)
        except PerfmodelError:  # nothing is legal in that format
            return ""
    return _sentence(plan, found) if found.feasible else ""


def _narrower(scenario: Scenario, scorer: Scorer) -> Scenario | None:
    """Return the scenario with `OFFERED` weights; None where they do not apply.

    They apply where the scenario lists no weight format, the model is stored in 16 bit, the engine quantises such
    models as it loads them, and a device on offer multiplies fp8.
    """
    choices, target = scenario.choices, scorer.target
    devices = tuple(d.name for d in scorer.tariff.devices if np.isfinite(d.peak(OFFERED)))
    own = target.model.weight_format
    if choices.weight or own not in UNQUANTISED or target.engine.family not in ONLINE_ENGINES or not devices:
        return None
    narrower = replace(choices, weight=(OFFERED,), kv=choices.kv or KV_FORMATS, pp=choices.pp or (1,))
    return replace(scenario, choices=narrower, more_engines=(), offer=replace(scenario.offer, devices=devices))


def checkpoint_offer(plan: Plan) -> str:
    """Say which quantised checkpoints could be tried too, with the line that tries them; "" where there are none.

    They are not estimated: whether they exist, and how well they answer, is not known here.
    """
    target = plan.scorer.target
    if plan.scenario.choices.weight:
        return ""
    runs = [weights_on(target.model, target.engine, device) for device in plan.scorer.tariff.devices]
    needed = needs_checkpoint(target.model, target.engine)
    names = [FORMAT_NAMES[code] for code in in_order(runs) if code in needed]
    if not names:
        return ""
    listed = f"{', '.join(names[:-1])} or {names[-1]}" if len(names) > 1 else names[0]
    return f'Checkpoints quantised to {listed} are not tried; [search] weight = "auto" tries what each device runs.'


def _sentence(plan: Plan, found: Plan) -> str:
    """Compare the plan with the one in narrower formats; "" where that gains less than `LEAST_GAIN`."""
    column = plan.scorer.rank_by
    values, less = found.columns[column], RANKINGS[column]
    before = float(plan.columns[column][plan.best]) if plan.feasible else np.nan
    chosen = found.best
    for number in found.order[: int(found.qualifies.sum())].tolist():
        if not _narrow_cache(found, number) and _gain(values[number], values[chosen], less) > -LEAST_GAIN:
            chosen = number  # as good with the model's own KV cache
            break
    if not np.isfinite(values[chosen]) or _gain(float(values[chosen]), before, less) < LEAST_GAIN:
        return ""  # without a price, for one, there is nothing to compare
    both, kv = (" and KV cache", ', kv = ["bf16", "fp8"]') if _narrow_cache(found, chosen) else ("", "")
    instead = f" in place of {_told(column, before)}" if np.isfinite(before) else ""
    text = f"fp8 weights{both} would give {_told(column, float(values[chosen]))}{instead} ({found.name(chosen)})"
    return f'{text}: check the quality of the answers, and add [search] weight = ["bf16", "fp8"]{kv}'


def _gain(value: float, against: float, less_is_better: bool) -> float:
    """Return by what share `value` is better than `against`, below 0 where it is worse; inf against an unknown one."""
    if not np.isfinite(against) or against == 0:
        return np.inf
    change = float(value / against - 1.0)
    return -change if less_is_better else change


def _narrow_cache(plan: Plan, number: int) -> bool:
    """Return True where candidate `number` keeps its KV cache in the offered format."""
    one = plan.pair(number).decode if plan.disaggregated(number) else plan.deployment(number)
    return bool(int(one.kv[0]) == FORMAT_CODE[OFFERED])


def _told(column: str, value: float) -> str:
    """Write the value of a ranking with its name, money in dollars.

    >>> _told("usd_per_million_tokens", 1.075), _told("power_w", 1600.0)
    ('$1.07 per M output tokens', 'power_w 1,600')
    """
    return f"${value:,.2f} {_DOLLARS[column]}" if column in _DOLLARS else f"{column} {value:,.4g}"
