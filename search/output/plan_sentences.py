"""Write a plan as sentences, for the terminal and for the report: the question, the recommendation, the ranking."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import numpy as np

from hwdb import counted
from perfmodel.money import HOURS_PER_MONTH
from perfmodel.power import site_power
from search.output.headings import heading
from search.output.value_format import is_known, money, number, percent, text_of
from search.planning import greatest_confidence, replicas_at_peak
from search.scenario import MOST_USED, Limits

if TYPE_CHECKING:
    from search.planning import Plan

#: What a chance is, and what it is not.
CHANCE_IS = "uncertainty of the model, not a share of requests"
#: What a limit on power is compared with, by its basis.
POWER_IS = {"mean": "mean draw", "rated": "rated power"}
#: Least chance to keep every SLO with which a plan is recommended. Chosen: about two in three.
RECOMMENDED_FROM = 0.65
#: By how much more likely a safer candidate keeps every SLO. Chosen: shows beside the errors of a chance.
SAFER_BY = 0.1
#: Largest denominator of odds in words. Chosen: odds that people say.
MOST_ODDS = 5
#: Confidence that a plan without any safer candidate is asked to be made with instead, if one exists. Chosen: four in
#: five.
SAFER_CONFIDENCE = 0.8
#: Ranks among which a plan of the most traffic names a safer candidate. Chosen: further down is much less traffic.
NEXT_RANKS = 10
#: Costs that differ by less, relative, count as the same, and the chance by which a candidate of the same cost has to
#: be surer to be named. Chosen: below what prices are known to; shows beside the errors of a chance.
SAME_COST, SURER_BY = 0.01, 0.05
#: Most devices on offer that are named one by one. Chosen: two lines of a terminal.
MOST_OFFERED = 8


def headline(plan: Plan) -> str:
    """Return the recommendation in a few sentences: what to take, cost, power, traffic, and how sure it is.

    Below a chance of `RECOMMENDED_FROM` (or of the confidence that the scenario asks for, where that is not even odds)
    to keep the SLOs it says to measure first, or which candidate is safer. Where no candidate qualifies: why, and what
    comes nearest.
    """
    if not plan.feasible:
        return plan.message
    c = {k: float(v[plan.best]) for k, v in plan.columns.items()}
    billed = int(c.get("devices_billed", c["devices"]))
    spare = f" ({billed} paid for, in whole nodes)" if billed > c["devices"] else ""
    verb = "Take" if is_sure_enough(plan, plan.best) else "Measure before you take"
    sentences = [
        f"{verb} {_candidate_in_words(plan, plan.best)}{spare}{_engine_in_words(plan)}: {_cost_and_power(c)}.",
        *([_greatest_traffic(plan, c)] if not plan.scorer.sized else _headroom(plan)),
        *_load_over_time(plan),
        *_unbounded_wait(plan),
        *_chance_in_words(plan, c["slo_chance"]),
        *_same_cost(plan),
    ]
    return " ".join(sentences)


def _cost_and_power(c: Mapping[str, float]) -> str:
    """Return the cost per hour and month and the power of a candidate in words. c: its columns."""
    hourly = c["usd_per_hour"]
    monthly = f"{float(f'{hourly * HOURS_PER_MONTH:.2g}'):,.0f}" if is_known(hourly) else ""
    cost = f"${money(hourly)} per hour (about ${monthly} per month)" if monthly else "its price is not known"
    if not is_known(c["power_w"]):
        return cost
    rated = f" ({number(c['rated_power_kw'])} kW rated)" if is_known(c["rated_power_kw"]) else ""
    return f"{cost}, {number(c['power_w'] / 1e3)} kW mean draw{rated}"


def _headroom(plan: Plan) -> list[str]:
    """Say up to which rate the best candidate keeps its SLOs, or serves; nothing where its row does not have it."""
    row = plan.row(plan.best)
    greatest, headroom = row.get("greatest_request_rate_rps"), row.get("headroom")
    if not is_known(headroom) or not is_known(greatest) or headroom == math.inf:
        return []
    more = f"{text_of('headroom', headroom)} % more than {'asked' if plan.scorer.sized_by_rate else 'at this load'}"
    does = "keeps the SLOs up to" if plan.scorer.target.slo.objectives else "serves up to"
    return [f"It {does} {counted(number(greatest), 'request/s')}, {more}{_planned_to(plan, row)}."]


def _unbounded_wait(plan: Plan) -> Iterator[str]:
    """Say that most requests wait for their first token where no SLO bounds that; nothing elsewhere."""
    row, keys = plan.row(plan.best), ("concurrency_per_replica", "running", "ttft_ms")
    known = [float(row[key]) for key in keys if is_known(row.get(key))]
    if len(known) < len(keys) or any(o.key.startswith(("ttft", "e2e")) for o in plan.scenario.slo.objectives):
        return
    flight, running, ttft = known
    if running < flight / 2.0:
        yield (
            f"Nothing bounds the time to the first token, {number(ttft / 1e3)} s here: of {number(flight)} requests in "
            f"flight per replica {number(running)} run; bound ttft_ms or e2e_ms for a plan that does not let them wait."
        )


def _planned_to(plan: Plan, row: Mapping[str, Any]) -> str:
    """Say to which share of its capacity each replica is planned; "" where the load is no rate. row: of the winner."""
    limits = plan.scenario.limits
    if not plan.scorer.sized_by_rate:
        return ""
    if not limits.beyond_usual:
        return f"; each replica is planned to at most {percent(limits.utilisation)} of its capacity"
    used = percent(min(row["utilisation"], 1.0))
    return f": it uses {used} of its capacity, because nothing on offer keeps to the usual {percent(MOST_USED)}"


def reachable_confidence(plan: Plan) -> str:
    """Say with which confidence a plan without an answer has one; "" where it does not ask for more than even odds."""
    asked = plan.scenario.limits.confidence
    if not plan.scorer.target.slo.objectives or asked <= Limits.confidence:
        return ""
    most = greatest_confidence(plan, Limits.confidence, asked)
    return f"The greatest confidence with which something qualifies is {most:g}." if most else ""


def _same_cost(plan: Plan) -> Iterator[str]:
    """Name a candidate that costs the same as the best one and is clearly surer; nothing where there is none.

    Nor where it is named already, as the safer one of a plan that is not recommended.
    """
    chance, cost = float(plan.columns["slo_chance"][plan.best]), float(plan.columns["usd_per_hour"][plan.best])
    if not plan.scorer.target.slo.objectives or not plan.scorer.sized or not is_known(cost):
        return
    found = plan.safer(chance + SURER_BY, cost * (1.0 + SAME_COST))
    if found is None or (not is_sure_enough(plan, plan.best) and found == plan.safer(chance + SAFER_BY)):
        return
    rank, candidate = found
    usd, sure = (float(plan.columns[name][candidate]) for name in ("usd_per_hour", "slo_chance"))
    yield f"Rank {rank} ({plan.name(candidate)}, ${money(usd)} per hour) costs the same and is surer: {percent(sure)}."


def _load_over_time(plan: Plan) -> Iterator[str]:
    """Say for which time of a load that changes over the day the plan is; nothing of a steady load."""
    request = plan.scenario.request
    if request is None or request.peak is None:
        return
    peak = request.peak
    mean, top = f"mean of {number(peak.mean)} requests/s", f"{number(peak.rate)} requests/s in its busiest {peak.words}"
    if request.for_peak:
        yield f"It is sized for the peak of the load, {top}, not for its {mean}; `perfmodel fleet` plans each hour."
        return
    replicas = replicas_at_peak(plan)
    needs = f", which needs {replicas:g} replicas of this configuration" if is_known(replicas) else ""
    yield f'It is sized for the {mean}, but the load has {top}{needs}: size_for = "peak" in [workload] plans for that.'


def _greatest_traffic(plan: Plan, c: Mapping[str, float]) -> str:
    """Say how much a candidate serves where no rate was asked for, and which limit keeps it from serving more."""
    rate, tokens = number(c["request_rate_rps"]), number(c["output_tok_s"])
    limits = " and ".join(_binding(plan, c))
    served = f"It serves {counted(rate, 'request/s')} ({tokens} output tok/s)"
    served += f"; the limit is {limits}." if limits else "."
    if not plan.scorer.open_loop or not plan.scorer.target.slo.objectives:
        return served
    usual = counted(number(MOST_USED * c["request_rate_rps"]), "request/s")
    return f"{served} That is all of its capacity within the SLOs; {percent(MOST_USED)} of it is {usual}."


def _binding(plan: Plan, c: Mapping[str, float]) -> Iterator[str]:
    """Name the limits of the scenario that one more replica of the best candidate would exceed. c: its columns."""
    limits, more = plan.scenario.limits, _one_more(plan, c)
    if not plan.disaggregated(plan.best):
        device = int(plan.layouts.device[plan.best])
        stock = float(plan.scorer.stock[device])
        if more["devices"] > stock:
            yield f"the stock of {number(stock)} x {plan.layouts.devices[device].name}"
    allowed = (
        ("devices", limits.devices, counted(number(limits.devices), "device")),
        ("nodes", limits.nodes, counted(number(limits.nodes), "node")),
        ("power_w", limits.power, f"{number(limits.power / 1e3)} kW of {POWER_IS[limits.power_basis]}"),
        ("usd_per_hour", limits.usd_per_hour, f"${money(limits.usd_per_hour)} per hour"),
    )
    yield from (words for column, limit, words in allowed if more[column] > limit)


def _one_more(plan: Plan, c: Mapping[str, float]) -> dict[str, float]:
    """Return devices, nodes, watts and USD per hour of the best candidate with one more replica, nodes counted whole.

    c: its columns. The watts are those that a limit bounds, mean or rated. A pair of pools grows by one worker
    of the smaller pool and, in whole workers, by as many of the other as keep their ratio.
    """
    rated = plan.scenario.limits.power_basis == "rated"
    if plan.disaggregated(plan.best):
        workers = np.array([c["prefill_workers"], c["decode_workers"]])
        factor = float(np.max(np.ceil(workers * (1.0 + 1.0 / workers.min())) / workers))
        c = {**c, "power_w": c["rated_power_kw"] * 1e3} if rated else c
        return {name: c.get(name, 0.0) * factor for name in ("devices", "nodes", "power_w", "usd_per_hour")}
    one, replicas = plan.layouts.take(np.array([plan.best])), np.array([c["replicas"] + 1.0])
    bill = plan.scorer.tariff.bill((one.device, one.devices_per_replica, replicas), caps=(one.power_cap,))
    devices = one.devices_per_replica * replicas
    drawn = c["power_w_per_device"] * devices + bill["idle_w"]
    wall = bill["rated_w"] + bill["host_w"] if rated else plan.scorer.tariff.wall(drawn, bill)
    watts = site_power(wall, 1.0, 0.0, plan.scenario.site.pue)
    return {name: float(values[0]) for name, values in {**bill, "devices": devices, "power_w": watts}.items()}


def _candidate_in_words(plan: Plan, candidate: int) -> str:
    """Name a candidate with the full title of its device: `8 x NVIDIA H100 SXM (2 replicas of 4, TP4, fp8)`."""
    name = plan.name(candidate)
    if plan.disaggregated(candidate):
        return name.replace("prefill ", "a prefill pool of ", 1).replace(" + decode ", " and a decode pool of ")
    device = plan.layouts.devices[int(plan.layouts.device[candidate])]
    devices, replicas = (int(plan.columns[c][candidate]) for c in ("devices", "replicas"))
    split = name.split(", ", 1)[1:]
    details = ", ".join([*([f"{replicas} replicas of {devices // replicas}"] if replicas > 1 else []), *split])
    return f"{devices} x {device.title}" + (f" ({details})" if details else "")


def _engine_in_words(plan: Plan) -> str:
    """Name the engine of the plan; "" where the scenario names no other."""
    return f" with {engine_title(plan)}" if plan.scenario.more_engines else ""


def engine_title(plan: Plan) -> str:
    """Return the title of the engine of a plan without its version: `vLLM`."""
    return plan.scorer.target.engine.title.split(" (")[0]


def _chance_in_words(plan: Plan, chance: float) -> list[str]:
    """Say how sure it is that every SLO holds (0 to 1), and what that means; nothing without SLOs."""
    if not plan.scorer.target.slo.objectives:
        return []
    sure = f"{percent(chance).replace('> ', 'over ').replace('< ', 'under ')} sure that this plan keeps all SLOs"
    if is_sure_enough(plan, plan.best):
        return [f"We are {sure} ({CHANCE_IS})."]
    odds = Fraction(chance).limit_denominator(MOST_ODDS)
    about = "a coin flip" if odds == Fraction(1, 2) else f"about {odds.numerator} in {odds.denominator}"
    return [f"We are only {sure}, {about} ({CHANCE_IS}): measure it first, or {_safer(plan)}."]


def is_sure_enough(plan: Plan, candidate: int) -> bool:
    """Return True where a candidate is sure enough to be taken unmeasured; always without SLOs."""
    return not plan.scorer.target.slo.objectives or bool(plan.columns["slo_chance"][candidate] >= _least_chance(plan))


def _least_chance(plan: Plan) -> float:
    """Return the least chance with which a candidate is recommended: what the scenario asks for beyond even odds."""
    asked = plan.scenario.limits.confidence
    return asked if asked > Limits.confidence else RECOMMENDED_FROM


def _safer(plan: Plan) -> str:
    """Name the next candidate in the ranking that is clearly safer, with its rank and cost, or how to ask for one."""
    found = plan.safer(float(plan.columns["slo_chance"][plan.best]) + SAFER_BY)
    if not plan.scorer.sized and (found is None or found[0] > NEXT_RANKS):
        return "plan for less traffic with a higher confidence in [limits]"
    if found is None:
        chance = float(plan.columns["slo_chance"][plan.best])
        most = greatest_confidence(plan, chance, SAFER_CONFIDENCE)
        if most > chance:
            return f"ask for more with confidence = {most:g} in [limits]"
        return "loosen the SLOs or offer other devices, because no plan within the limits is surer"
    rank, candidate = found
    c = {name: float(plan.columns[name][candidate]) for name in ("usd_per_hour", "slo_chance")}
    cost = f", ${money(c['usd_per_hour'])} per hour" if is_known(c["usd_per_hour"]) else ""
    return f"take rank {rank} ({plan.name(candidate)}{cost}), of which we are {percent(c['slo_chance'])} sure"


def odds_note(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Say how often rank 1 is the better choice than the next row, and which doubt that hangs on; nothing if alone."""
    next_one = next((row for row in rows if row["rank"] and row["rank"] > 1), None)
    if next_one is None or not is_known(next_one.get("best_beats_chance")):
        return []
    other = next((row for row in rows if row["rank"] and _hardware(row) != _hardware(rows[0])), None)
    draws = f"in {_of_100(next_one)} of 100 draws of possible errors"
    words = (
        f"Odds: rank 1, the recommendation, is the better choice than rank {next_one['rank']} {draws}{_hangs(next_one)}"
    )
    if other is not None and other is not next_one and is_known(other["best_beats_chance"]):
        words += f". Against rank {other['rank']}, the best on other devices: {_of_100(other)} of 100{_hangs(other)}"
    return [f"{words}."]


def _hardware(row: Mapping[str, Any]) -> set[str]:
    """Return the names of the devices of a row."""
    return {row["device"], row.get("prefill_device", row["device"])}


def _of_100(row: Mapping[str, Any]) -> str:
    """Return in how many of 100 draws the best candidate is the better choice than this row."""
    return f"{100.0 * row['best_beats_chance']:.0f}"


def _hangs(row: Mapping[str, Any]) -> str:
    """Say which doubts the odds of a row hang on; "" where none."""
    return f"; that hangs most on how far off these estimates are: {row['odds_hang_on']}" if row["odds_hang_on"] else ""


def price_note(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Say where the prices of the rows come from; of several prices, also which device has which. Unknown ones are not
    told."""
    used: dict[str, list[str]] = {}
    for row in rows:
        if is_known(row["usd_per_hour"]):
            devices = used.setdefault(row["price"], [])
            names = dict.fromkeys([row.get("prefill_device", row["device"]), row["device"]])
            devices += [" and ".join(names)] * (" and ".join(names) not in devices)
    if len(used) <= 1:
        return [f"Price: {words}." for words in used]
    each = [f"{', '.join(devices)}: {words}" for words, devices in used.items()]
    return [f"Prices: {'; '.join(each)}."]


def account_note(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Say what a request, and tokens by kind, of the best of the rows cost and emit; nothing where neither is known."""
    if not rows:
        return []
    row = rows[0]
    kinds = ("input", "cached", "output")
    parts = [f"${money(row[f'{kind}_usd_per_million'])} per M {kind}" for kind in kinds]
    parts = [text for kind, text in zip(kinds, parts, strict=True) if is_known(row[f"{kind}_usd_per_million"])]
    cost = f"${money(row['usd_per_request'])} per request" if is_known(row["usd_per_request"]) else ""
    split = f" ({', '.join(parts)} tokens)" if parts else ""
    grams, month = row["gco2_per_request"], row["co2_kg_per_month"]
    carbon = f"{number(grams)} gCO2e per request, {number(month)} kg per month" if is_known(grams) else ""
    sentence = "; ".join(filter(None, [cost and cost + split, carbon]))
    return [f"Rank 1: {sentence}."] * bool(sentence) + [f"Carbon: {row['carbon']}."] * bool(carbon and row["carbon"])


def power_note(plan: Plan, rows: Sequence[Mapping[str, Any]]) -> str:
    """Say what the power of a plan counts: devices alone or hosts too, and what a limit on power is compared with.

    rows: candidates that are shown; only their devices are named.
    """
    tariff, limits, pue = plan.scorer.tariff, plan.scenario.limits, plan.scenario.site.pue
    names = {str(row[column]) for row in rows for column in ("device", "prefill_device") if column in row}
    used = [i for i, device in enumerate(tariff.devices) if device.name in names]
    held = [i for i in used if tariff.node[i] and is_known(tariff.host_power[i])]
    hosts = ", ".join(f"{number(tariff.host_power[i] / 1e3)} kW per {tariff.node[i]}" for i in held)
    alone = ", ".join(tariff.devices[i].name for i in used if i not in held)
    counted_hosts = f" and what the hosts draw beside them (up to {hosts})" if hosts else ""
    way_out = "name their node in [hardware] nodes to count it and to pay whole nodes"
    without = f"; no host is counted for {alone}: {way_out}" if alone else ""
    overhead = f", times a PUE of {number(pue)}" if pue != 1.0 else ""
    whole = ", idle devices of whole nodes too" if any(tariff.node[i] for i in used) else ""
    text = f"Power: the devices' mean draw at this load{counted_hosts}{whole}{overhead}{without}"
    if not np.isfinite(limits.power):
        return f"{text}."
    bound = f"The limit of {number(limits.power / 1e3)} kW bounds the {POWER_IS[limits.power_basis]}"
    rated = f" ({number(plan.columns['rated_power_kw'][plan.best])} kW for rank 1)" if plan.feasible else ""
    if limits.power_basis == "rated":
        return f"{text}. {bound}{rated}."
    return f'{text}. {bound}, not the rated power{rated}; power_basis = "rated" in [limits] bounds that instead.'


def question(plan: Plan) -> str:
    """Return the scenario in one line: model, load, mean lengths, SLOs, devices on offer; then how a trace was read."""
    s, work = plan.scenario, plan.scorer.target.workload
    measured = s.request is not None and s.request.trace is not None  # not a number that the user typed
    rate = number(work.rate) if measured else _exact(work.rate)
    loads = {
        "open": counted(rate, "request/s"),
        "closed": counted(_exact(work.concurrency), "request in flight"),
        "static": f"batches of {counted(_exact(work.concurrency), 'request')}",
        "offline": f"{counted(_exact(work.n_requests), 'request')} at once",
        "single": "one request after the other",
    }
    load = loads.get(work.arrival, work.arrival)
    if not plan.scorer.sized:
        load = "one request in flight" if plan.scorer.least_loaded else "as much traffic as possible"
    lengths = f"{work.mean_input:,.0f} tokens in, {work.mean_output:,.0f} out"
    slo = "; ".join(f"{o.title} ≤ {_exact(o.limit * 1e3)} ms" for o in s.slo.objectives)
    stock, names = s.offer.stock, s.offer.devices
    on_hand = [f"{name} ({stock[name]:,.0f} on hand)" if name in stock else name for name in names]
    offered = ", ".join(on_hand) if len(names) <= MOST_OFFERED else f"{len(names)} devices"
    read = "".join(f". Trace: {text}" for text in (s.request.remarks if s.request is not None else ()))
    name = plan.scorer.target.model.name if s.model.endswith(".json") else s.model
    return f"{name.split('/')[-1]}, {load} of {lengths} on average; {slo or 'no SLO'}; on offer: {offered}{read}"


def _exact(value: float) -> str:
    """Write a number that the user gave with all its digits, up to six."""
    text = f"{value:,.6g}"
    return number(value) if "e" in text or "n" in text else text


def ranking_note(plan: Plan) -> str:
    """Say how many candidates were tried, how many qualify, and what they are ranked by."""
    kept, count = int(plan.qualifies.sum()), len(plan)
    incomplete = "" if plan.complete else ", not every one was tried"
    ranked = (
        f"{kept:,} of {count:,} legal candidate{'' if count == 1 else 's'} {'qualifies' if kept == 1 else 'qualify'}"
        f"{incomplete}; ranked by {heading(plan.scenario.minimise)}"
    )
    refused = [f"; {r['removed']:,} left out, such as: {r['example']}" for r in plan.removed if r["rule"] == "blocks"]
    return ranked + "".join(refused)
