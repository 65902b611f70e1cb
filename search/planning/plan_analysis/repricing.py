"""Price the candidates of a plan again, without a new plan, where prices decide nothing but cost and rank.

The replicas of a candidate follow from load, SLO and limits. So other prices of devices, electricity and carbon, and
another PUE, change what the candidates cost and in which order they come, unless a limit is on cost or on power.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING

import numpy as np

from perfmodel.arrays import Array
from perfmodel.money import mixed_power
from search.planning.disaggregation.disaggregated import OF_POWER
from search.planning.evaluation.columns import cost_columns, power_columns, rated_columns, site_watts
from search.planning.evaluation.scoring import NEEDED, Scorer
from search.planning.money.account import hourly_usd
from search.planning.plan_making.planner import tariff_of
from search.planning.plan_making.ranked_plan import Plan
from search.scenario import MONEY
from search.searchers import SCORE

if TYPE_CHECKING:
    from search.scenario import Scenario

#: Parts of a scenario that say what hardware and electricity cost and emit.
PRICED = ("offer", "site", "money")
#: Columns of what would be needed that follow from prices or the PUE.
PRICED_LIMITS = ("usd_per_hour", "power_w", "rated_power_kw")


@dataclass(frozen=True)
class _Known:
    """What cost and power follow from, taken from the columns of a plan, (N,) each."""

    power: Array
    devices: Array
    output_rate: Array
    total_rate: Array


def repriced(plan: Plan, scenario: Scenario) -> Plan | None:
    """Return the plan of `scenario`, which differs from that of `plan` in prices alone; None where it must be planned.

    It is the plan that `search.plan` would make.
    """
    limits = plan.scenario.limits
    if limits.beyond_usual and replace(scenario.limits, utilisation=limits.utilisation) == limits:
        scenario = replace(scenario, limits=limits)  # that nothing keeps to the usual share is no matter of prices
    if plan.rivals or not plan.complete or not _same_but_prices(plan.scenario, scenario):
        return None
    own = plan.scenario.site
    if np.isfinite(limits.usd_per_hour) or own.psu != scenario.site.psu:
        return None
    if own.pue != scenario.site.pue and np.isfinite(limits.power):
        return None
    prices = tariff_of(scenario)
    if len(plan.pairs) and not _same_pairs(plan, scenario, prices.usd_per_hour):
        return None
    scorer = replace(plan.scorer, tariff=prices, site=scenario.site)
    columns = _columns(plan, scorer)
    dates = sorted(d for d in prices.date if d)
    told = replace(plan.manifest, prices=" to ".join(dict.fromkeys((dates[0], dates[-1]))) if dates else "")
    return replace(plan, scenario=scenario, scorer=scorer, columns=columns, manifest=told)


def _same_but_prices(one: Scenario, other: Scenario) -> bool:
    """Return True where scenarios differ in prices, the site and what is owned alone."""
    if one.request is not other.request:  # its arrays are not compared: a changed scenario keeps the request it has
        return False
    names = [f.name for f in fields(one) if f.name not in (*PRICED, "request")]
    if any(getattr(one, name) != getattr(other, name) for name in names):
        return False
    return replace(one.offer, usd_per_hour={}, prices="") == replace(other.offer, usd_per_hour={}, prices="")


def _same_pairs(plan: Plan, scenario: Scenario, usd: Array) -> bool:
    """Return True where the search for pairs of pools tries the same pairs at other prices.

    It does where its ranking has nothing to do with prices, or where every price changes by the same factor. usd: (D,)
    new price of each device type.
    """
    rank_by, before = plan.scorer.rank_by, plan.scorer.tariff
    if rank_by in OF_POWER:
        return plan.scenario.site == scenario.site
    if rank_by not in MONEY:
        return True
    if before.owned.any() or scenario.money.bought:
        return False
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = usd / before.usd_per_hour
    return bool(np.isfinite(ratio).all() and (ratio > 0).all() and np.ptp(ratio) <= 1e-12 * ratio.max())


def _columns(plan: Plan, scorer: Scorer) -> dict[str, Array]:
    """Return the columns of the plan at the prices of `scorer`."""
    c = plan.columns
    out = {**c, **_priced(c, scorer, _bill(plan, scorer, c["replicas"]))}
    more = c[f"{NEEDED}replicas"] != c["replicas"]
    needed = _needed(plan, scorer) if more.any() else out
    for name in PRICED_LIMITS:
        out[f"{NEEDED}{name}"] = np.where(more, needed[name], out[name])
    out[SCORE] = scorer.scores(out)
    return out


def _priced(c: Mapping[str, Array], scorer: Scorer, bill: Mapping[str, Array]) -> dict[str, Array]:
    """Return what follows from prices and the site, (N,) each. c: columns of the plan. bill: of the replicas shown."""
    found = _Known(c["power_w_per_device"], c["devices"], c["output_tok_s"], c["total_tok_s"])
    money, site = scorer.tariff.money, scorer.site
    power = power_columns(found, scorer.tariff, bill, site, money.utilisation)
    hourly = hourly_usd(bill, power["mean_power_w"], site, money.ownership)
    costs = cost_columns(found, hourly, money.utilisation)
    return {**bill, **power, "usd_per_hour": hourly, **costs, **rated_columns(bill, site)}


def _needed(plan: Plan, scorer: Scorer) -> dict[str, Array]:
    """Return `PRICED_LIMITS` with the replicas that would be needed, (N,) each."""
    bill = _bill(plan, scorer, plan.columns[f"{NEEDED}replicas"])
    money, site = scorer.tariff.money, scorer.site
    power = plan.columns[f"{NEEDED}power_w"] * site.pue / plan.scenario.site.pue
    mean = mixed_power(power, site_watts(bill["ready_w"], scorer.tariff, bill, site), money.utilisation)
    return {
        "usd_per_hour": hourly_usd(bill, mean, site, money.ownership),
        "power_w": power,
        "rated_power_kw": rated_columns(bill, site)["rated_power_kw"],
    }


def _bill(plan: Plan, scorer: Scorer, replicas: Array) -> dict[str, Array]:
    """Return the bill of every candidate with so many replicas, (N,) each; of pairs that of both pools."""
    count, layouts, pairs = len(plan.layouts), plan.layouts, plan.pairs
    own = (layouts.device, layouts.devices_per_replica, replicas[:count])
    first = scorer.tariff.bill(own, caps=(layouts.power_cap,))
    if not len(pairs):
        return first
    pools = [
        (pool.device, pool.devices_per_replica, plan.columns[f"{name}_workers"][count:])
        for name, pool in (("prefill", pairs.prefill), ("decode", pairs.decode))
    ]
    second = scorer.tariff.bill(*pools, caps=(pairs.prefill.power_cap, pairs.decode.power_cap))
    return {name: np.concatenate([first[name], second[name]]) for name in first}
