"""Answer in plain sentences what to buy, what would change that, and what it costs to be sure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from hwdb import counted
from perfmodel.money import HOURS_PER_MONTH
from search.output import heading, is_sure_enough, money, number, percent
from search.report.page_parts.html_page import Answer, Section, Table
from search.scenario import MONEY
from search.whatif import SAME, SURER

if TYPE_CHECKING:
    from search.planning import Plan

#: Candidates that the recommendation is compared with.
COMPARED = 3
#: Chance that counts as sure.
SURE = 0.9
#: Chance by which a dearer candidate must be surer to be named. Chosen: less is within the error of the chance.
STEP = 0.05
#: Minutes of a benchmark whose price is named. Chosen: long enough for a steady state.
MINUTES = 30.0
#: Most changes that are named in a sentence.
MOST_NAMED = 6
#: Least change of the cost that is worth naming, percent.
NAMED_PERCENT = 5.0


def brief_section(plan: Plan, rows: Sequence[Mapping[str, Any]], what_ifs: Sequence[Mapping[str, Any]]) -> Section:
    """Return the first section of the page. rows: candidates, best first. what_ifs: rows of `what_if`."""
    ranked = [row for row in rows if row["rank"]]
    answers = [
        Answer("What would you buy?", [summary(plan, ranked[0])]),
        _change(plan, what_ifs),
        Answer("What does it cost to be sure?", _sure(plan, what_ifs)),
    ]
    others = [_why_not(plan, ranked[0], row) for row in ranked[1 : 1 + COMPARED]]
    tables = [
        Table(others, ["rank", "candidate", "why_not"], title="Why this and not the next?", wide=("why_not",), id="why")
    ]
    return Section(
        id="brief", short="In short", title="In short", lead="", answers=answers, tables=tables if others else []
    )


def monthly(usd: float) -> str:
    """Return what an hourly price is per month, in words."""
    return f"${float(f'{usd * HOURS_PER_MONTH:.2g}'):,.0f} per month"


def summary(plan: Plan, row: Mapping[str, Any]) -> str:
    """Say in two sentences what to take and what it costs, then what it delivers and how sure that is.

    row: of the recommended candidate.
    """
    devices = " and ".join(plan.device_names(plan.best))
    billed, used, usd = int(row["devices_billed"]), int(row["devices"]), row["usd_per_hour"]
    cost = f"for ${money(usd)} per hour, about {monthly(usd)}" if usd == usd else "whose price is not known"
    whole = f" (whole nodes; {used} of them work)" if billed > used else ""
    verb = "own" if _owned(plan) else "rent"
    verb = verb.capitalize() if is_sure_enough(plan, plan.best) else f"Measure before you {verb}"
    rate, tokens = number(row["request_rate_rps"]), number(row["output_tok_s"])
    serves = f"They serve {rate} requests per second ({tokens} output tokens/s)"
    first = f"{verb} {billed} {devices}{whole}, run as {plan.name(plan.best)}, {cost}."
    if not plan.scenario.slo.objectives:
        return f"{first} {serves}; no SLO was asked for."
    bounds = " and ".join(f"{o.title} ≤ {number(o.limit * 1e3)} ms" for o in plan.scenario.slo.objectives)
    return f"{first} {serves} and keep {bounds} with a chance of {percent(row['slo_chance'])}."


def _owned(plan: Plan) -> bool:
    """Return True where all devices of the winner are owned."""
    return all(plan.scorer.tariff.owned[i] for i in plan.device_types(plan.best))


def _change(plan: Plan, what_ifs: Sequence[Mapping[str, Any]]) -> Answer:
    """Name the changes that call for something else, those that do not, and the price from which a rival wins."""
    known = [r for r in what_ifs if r["usd_per_hour"] == r["usd_per_hour"]]
    other = [r for r in known if r["answer"] != SAME and abs(r["change_percent"]) >= NAMED_PERCENT]
    none = [r["what_if"] for r in what_ifs if r not in known and r["answer"] != SAME]
    same = [r["what_if"] for r in what_ifs if r["answer"] == SAME]
    points = [
        f"{r['what_if']}: take {r['answer']} for ${money(r['usd_per_hour'])} per hour ({r['change_percent']:+.0f} %)"
        for r in sorted(other, key=lambda r: -abs(r["change_percent"]))[:MOST_NAMED]
    ]
    points += [f"{len(other) - MOST_NAMED} more: see the what-ifs"] if len(other) > MOST_NAMED else []
    points += [f"{'; '.join(none[:MOST_NAMED])}: nothing on offer would do"] if none else []
    points += _break_even_prices(plan)
    points += [f"the answer stays the same with: {'; '.join(same[:MOST_NAMED])}"] if same else []
    says = ["With one of these changes the answer would be another:"] if points else ["Nothing that was tried."]
    return Answer("What would change your mind?", says, points)


def _break_even_prices(plan: Plan) -> list[str]:
    """Say below which price of its device each rival of another device would cost as little as the winner."""
    if plan.scorer.rank_by not in MONEY:
        return []
    tariff, c, said = plan.scorer.tariff, plan.columns, []
    own, seen = set(plan.device_types(plan.best)), set[int]()
    for n in plan.order[: int(plan.qualifies.sum())].tolist():
        types = plan.device_types(n)
        if len(types) != 1 or types[0] in own | seen or tariff.owned[types[0]]:
            continue
        seen.add(types[0])
        price = float(tariff.usd_per_hour[types[0]])
        least = price * float(c["usd_per_hour"][plan.best] / c["usd_per_hour"][n])
        if np.isfinite(least) and least < price:
            name = tariff.devices[types[0]].name
            said.append(
                f"a price of {name} of ${money(least)} per device and hour (now ${money(price)}): it costs no more"
            )
        if len(seen) == COMPARED:
            break
    return said


def _sure(plan: Plan, what_ifs: Sequence[Mapping[str, Any]]) -> list[str]:
    """Say what a higher chance costs, and what a benchmark of one replica costs before signing."""
    said, row = [], plan.row(plan.best)
    chance, usd = row["slo_chance"], row["usd_per_hour"]
    if plan.scenario.slo.objectives:
        surer = next((r for r in what_ifs if r["what_if"] == SURER), None)
        if chance >= SURE:
            said.append(f"It is {percent(chance)} sure already.")
        elif surer is not None and surer["usd_per_hour"] == surer["usd_per_hour"]:
            more, answer = surer["usd_per_hour"] - usd, row["candidate"] if surer["answer"] == SAME else surer["answer"]
            each = f", with each SLO alone at {percent(SURE)} or more" if surer["slo_chance"] < SURE else ""
            said.append(
                f"To go from {percent(chance)} to {percent(surer['slo_chance'])}{each}, by more hardware, take "
                f"{answer}: ${money(surer['usd_per_hour'])} per hour, {monthly(more)} more "
                f"({surer['change_percent']:+.0f} %)."
            )
        else:
            said.append(f"No hardware on offer is {percent(SURE)} sure: only a measurement can tell.")
        said += _cheaper_steps(plan, np.inf if surer is None else surer["usd_per_hour"])
    price = _price_of_a_replica(plan)
    if price == price:
        what = "the pair of pools" if plan.disaggregated(plan.best) else "one replica"
        said.append(
            f"To be sure by measuring, benchmark {what} {_load_to_try(plan, row)} "
            f"before you sign: {MINUTES:.0f} minutes of it, {_billed_as(plan)}, cost "
            f"about ${money(price * MINUTES / 60.0)}. The run shows whether the SLOs are kept; perfmodel calibrate "
            f"reads it and gives the new chance of every candidate, perfmodel next says which run is worth its price."
        )
    return said or ["No SLO and no price was given, so there is nothing to be sure of."]


def _load_to_try(plan: Plan, row: Mapping[str, Any]) -> str:
    """Return the load of one replica in words: requests in flight of a closed loop, else requests per second."""
    request = plan.scenario.request
    if request is not None and request.workload.arrival == "closed" and np.isfinite(request.workload.concurrency):
        return f"with {counted(number(row['concurrency_per_replica']), 'request in flight')}"
    return f"at {number(row['request_rate_rps_per_replica'])} requests per second"


def _cheaper_steps(plan: Plan, most_usd: float) -> list[str]:
    """Name the candidates that are surer than the winner and cost less than `most_usd` per hour, each cheaper one less.

    Only those that are surer by at least `STEP` are worth naming.
    """
    c, best = plan.columns, plan.best
    ranked = plan.order[: int(plan.qualifies.sum())]
    usd, chance = c["usd_per_hour"][ranked], c["slo_chance"][ranked]
    said, reached = [], float(c["slo_chance"][best])
    for i in np.lexsort((-chance, usd)):
        if not usd[i] < most_usd or chance[i] < reached + STEP:
            continue
        reached, more = float(chance[i]), float(usd[i] - c["usd_per_hour"][best])
        price = f"{monthly(more)} more" if more > 0 else "no more"
        said.append(f"{plan.name(int(ranked[i]))}, {percent(reached)} sure for {price}")
    return [f"Cheaper steps on the way: {'; '.join(said[:COMPARED])}."] if said else []


def _billed_as(plan: Plan) -> str:
    """Say what is paid during a benchmark: its start too, and whole nodes where devices are offered so."""
    by_node = plan.scorer.tariff.whole[list(plan.device_types(plan.best))].any()
    return "paid by the node and with its start" if by_node else "with its start"


def _price_of_a_replica(plan: Plan) -> float:
    """Return USD per hour of one replica of the winner, or of its pair of pools; NaN where not known."""
    tariff = plan.scorer.tariff
    if plan.disaggregated(plan.best):
        return float(plan.columns["usd_per_hour"][plan.best])
    one = [tariff.billed(d.device, d.devices_per_replica, np.ones(1)) for d in plan.pools(plan.best)]
    return float(sum(n[0] * tariff.usd_per_hour[d.device[0]] for n, d in zip(one, plan.pools(plan.best), strict=True)))


def _why_not(plan: Plan, best: Mapping[str, Any], row: Mapping[str, Any]) -> dict[str, Any]:
    """Return a row that says by what a candidate is worse than the best, and how sure that is."""
    parts, rank_by = [], plan.scorer.rank_by
    more = row["usd_per_hour"] / best["usd_per_hour"] - 1.0 if best["usd_per_hour"] else np.nan
    if more == more:
        words = (
            "costs the same" if abs(more) < 5e-4 else f"costs {100 * abs(more):.0f} % {'more' if more > 0 else 'less'}"
        )
        parts.append(f"{words} (${money(row['usd_per_hour'])} per hour)")
    if rank_by not in MONEY and row.get(rank_by, np.nan) == row.get(rank_by, np.nan):
        parts.append(f"{heading(rank_by)} {number(row[rank_by])} against {number(best[rank_by])}")
    if plan.scenario.slo.objectives:
        parts.append(f"keeps every SLO with {percent(row['slo_chance'])} against {percent(best['slo_chance'])}")
    parts.append(f"draws {number(row['power_w'] / 1e3)} kW against {number(best['power_w'] / 1e3)} kW")
    beats = row.get("best_beats_chance", np.nan)
    if beats == beats:
        parts.append(
            f"counting possible errors, the recommendation is the better choice in {100 * beats:.0f} of 100 draws"
        )
    return {"rank": row["rank"], "candidate": row["candidate"], "why_not": "; ".join(parts)}
