"""Write a plan as sentences, for the terminal and for the report: the question, the recommendation, the ranking."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from perfmodel.power import site_power
from search.output.headings import heading
from search.output.value_format import is_known, money, number, percent, text_of

if TYPE_CHECKING:
    from search.planning import Plan

#: Hours of a mean month: 8,760 hours of a year over 12.
HOURS_PER_MONTH = 730.0
#: What a chance is, and what it is not.
CHANCE_IS = "uncertainty of the model, not a share of requests"


def headline(plan: Plan) -> str:
    """Return the recommendation in a few sentences: what to take, cost, power, traffic, and how sure it is.

    Where no candidate qualifies: why, and what comes nearest.
    """
    if not plan.feasible:
        return plan.message
    c = {k: float(v[plan.best]) for k, v in plan.columns.items()}
    billed = int(c.get("devices_billed", c["devices"]))
    spare = f" ({billed} paid for, in whole nodes)" if billed > c["devices"] else ""
    sentences = [
        f"Take {_candidate_in_words(plan, plan.best)}{spare}: {_cost_and_power(c)}.",
        *([_greatest_traffic(plan, c)] if not plan.scorer.sized else _headroom(plan.row(plan.best))),
        *_chance_in_words(plan, c["slo_chance"]),
    ]
    return " ".join(sentences)


def _cost_and_power(c: Mapping[str, float]) -> str:
    """Return the cost per hour and month and the power of a candidate in words. c: its columns."""
    hourly = c["usd_per_hour"]
    monthly = f"{float(f'{hourly * HOURS_PER_MONTH:.2g}'):,.0f}" if is_known(hourly) else ""
    cost = f"${money(hourly)} per hour (about ${monthly} per month)" if monthly else "its price is not known"
    return cost + (f", {number(c['power_w'] / 1e3)} kW" if is_known(c["power_w"]) else "")


def _headroom(row: Mapping[str, Any]) -> list[str]:
    """Say up to which rate a candidate keeps its SLOs; nothing where its row does not have it."""
    greatest, headroom = row.get("greatest_request_rate_rps"), row.get("headroom")
    if not is_known(headroom) or not is_known(greatest) or headroom == math.inf:
        return []
    more = f"{text_of('headroom', headroom)} % more than asked"
    return [f"It keeps the SLOs up to {number(greatest)} requests/s, {more}."]


def _greatest_traffic(plan: Plan, c: Mapping[str, float]) -> str:
    """Say how much a candidate serves where no rate was asked for, and which limit keeps it from serving more."""
    rate, tokens = number(c["request_rate_rps"]), number(c["output_tok_s"])
    limits = " and ".join(_binding(plan, c))
    return f"It serves {rate} requests/s ({tokens} output tok/s)" + (f"; the limit is {limits}." if limits else ".")


def _binding(plan: Plan, c: Mapping[str, float]) -> Iterator[str]:
    """Name the limits of the scenario that one more replica of the best candidate would exceed. c: its columns."""
    limits, more = plan.scenario.limits, _one_more(plan, c)
    if not plan.disaggregated(plan.best):
        device = int(plan.layouts.device[plan.best])
        stock = float(plan.scorer.stock[device])
        if more["devices"] > stock:
            yield f"the stock of {number(stock)} x {plan.layouts.devices[device].name}"
    allowed = (
        ("devices", limits.devices, f"{number(limits.devices)} devices"),
        ("nodes", limits.nodes, f"{number(limits.nodes)} nodes"),
        ("power_w", limits.power, f"{number(limits.power / 1e3)} kW of power"),
        ("usd_per_hour", limits.usd_per_hour, f"${money(limits.usd_per_hour)} per hour"),
    )
    yield from (words for column, limit, words in allowed if more[column] > limit)


def _one_more(plan: Plan, c: Mapping[str, float]) -> dict[str, float]:
    """Return devices, nodes, watts and USD per hour of the best candidate with one more replica, nodes counted whole.

    c: its columns. A pair of pools grows in proportion.
    """
    if plan.disaggregated(plan.best):
        factor = 1.0 + c.get("devices_per_replica", c["devices"]) / c["devices"]
        return {name: c.get(name, 0.0) * factor for name in ("devices", "nodes", "power_w", "usd_per_hour")}
    one, replicas = plan.layouts.take(np.array([plan.best])), np.array([c["replicas"] + 1.0])
    bill = plan.scorer.tariff.bill((one.device, one.devices_per_replica, replicas))
    devices = one.devices_per_replica * replicas
    watts = site_power(np.array([c["power_w_per_device"]]), devices, bill["host_w"], plan.scenario.site.pue)
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


def _chance_in_words(plan: Plan, chance: float) -> list[str]:
    """Say how sure it is that every SLO holds (0 to 1), and what that means; nothing without SLOs."""
    if not plan.scorer.target.slo.objectives:
        return []
    words = percent(chance).replace("> ", "over ").replace("< ", "under ")
    return [f"We are {words} sure that this plan keeps all SLOs ({CHANCE_IS})."]


def question(plan: Plan) -> str:
    """Return the scenario in one line: model, load, mean lengths, SLOs, devices on offer."""
    s, work = plan.scenario, plan.scorer.target.workload
    loads = {"open": f"{_exact(work.rate)} requests/s", "closed": f"{_exact(work.concurrency)} requests in flight"}
    load = loads.get(work.arrival, work.arrival)
    if not plan.scorer.sized:
        load = "one request in flight" if plan.scorer.least_loaded else "as much traffic as possible"
    lengths = f"{work.mean_input:,.0f} tokens in, {work.mean_output:,.0f} out"
    slo = "; ".join(f"{o.title} ≤ {_exact(o.limit * 1e3)} ms" for o in s.slo.objectives)
    offered = ", ".join(s.offer.devices)
    return f"{s.model.split('/')[-1]}, {load} of {lengths} on average; {slo or 'no SLO'}; on offer: {offered}"


def _exact(value: float) -> str:
    """Write a number that the user gave with all its digits, up to six."""
    text = f"{value:,.6g}"
    return number(value) if "e" in text or "n" in text else text


def ranking_note(plan: Plan) -> str:
    """Say how many candidates were tried, how many qualify, and what they are ranked by."""
    kept = int(plan.qualifies.sum())
    incomplete = "" if plan.complete else ", not every one was tried"
    ranked = (
        f"{kept:,} of {len(plan):,} legal candidates qualify{incomplete}; ranked by {heading(plan.scenario.minimise)}"
    )
    refused = [f"; {r['removed']:,} left out, such as: {r['example']}" for r in plan.removed if r["rule"] == "blocks"]
    return ranked + "".join(refused)
