"""A plan in words and small tables: the answer first, then what it rests on. Used by the terminal and the report."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from search.output.tables import heading, money, number, percent
from search.planning import memory_of, terms_of

if TYPE_CHECKING:
    from search.fleet import FleetPlan
    from search.planning import Plan

#: A gap below which a solver's answer counts as the optimum.
PROVEN = 1e-6
#: How the families of operators are called when they are summed up.
GROUPS = {
    "gemm": "GEMM",
    "grouped_gemm": "experts",
    "attention_prefill": "attention",
    "attention_decode": "attention",
    "mla_prefill": "attention",
    "mla_decode": "attention",
    "recurrent_prefill": "recurrence",
    "recurrent_decode": "recurrence",
    "elementwise": "elementwise",
    "host": "host",
    "host_link": "host_memory",
}


def headline(plan: Plan) -> str:
    """The answer in one sentence: what to take, how many, cost, power, chance to keep the SLOs."""
    if not plan.feasible:
        return plan.message
    c = {k: float(v[plan.best]) for k, v in plan.columns.items()}
    billed = int(c.get("devices_billed", c["devices"]))
    spare = f" ({billed} paid for, in whole nodes)" if billed > c["devices"] else ""
    cost = [f"${money(c['usd_per_hour'])} an hour"] if c["usd_per_hour"] == c["usd_per_hour"] else []
    power = [f"{number(c['power_w'] / 1e3)} kW"] if c["power_w"] == c["power_w"] else []
    figures = ", ".join([*cost, *power])
    answer = f"Take {what(plan, plan.best)}{spare}"
    return f"{answer}{': ' if figures else ''}{figures}{_chance(plan, c['slo_chance'])}."


def what(plan: Plan, candidate: int) -> str:
    """A candidate in words that say what each number counts."""
    name = plan.name(candidate)
    if plan.disaggregated(candidate):
        return name.replace("prefill ", "a prefill pool of ", 1).replace(" + decode ", " and a decode pool of ")
    device = plan.layouts.devices[int(plan.layouts.device[candidate])]
    devices, replicas = (int(plan.columns[c][candidate]) for c in ("devices", "replicas"))
    layout = name.split(", ", 1)[1:]
    details = [f"{replicas} replicas of {devices // replicas}" if replicas > 1 else "", *layout]
    told = ", ".join(d for d in details if d)
    return f"{devices} x {device.title}" + (f" ({told})" if told else "")


def _chance(plan: Plan, chance: float) -> str:
    if not plan.scorer.target.slo.objectives:
        return ""
    words = percent(chance).replace("> ", "over ").replace("< ", "under ")
    return f", keeping every SLO with {words} probability"


def question(plan: Plan) -> str:
    """What was asked, in one line."""
    s, work = plan.scenario, plan.scorer.target.workload
    loads = {"open": f"{work.rate:g} requests/s", "closed": f"{work.concurrency:g} requests in flight"}
    load = loads.get(work.arrival, work.arrival)
    if work.arrival == "closed" and work.concurrency != work.concurrency:
        load = "as many requests as a replica can take"
    lengths = (
        f"{float(work.input_tokens @ work.share):,.0f} tokens in, {float(work.output_tokens @ work.share):,.0f} out"
    )
    slo = "; ".join(f"{_name(o.metric, o.statistic)} ≤ {o.limit * 1e3:g} ms" for o in s.slo.objectives) or "no SLO"
    offered = ", ".join(s.offer.devices)
    return f"{s.model.split('/')[-1]}, {load} of {lengths} on average; {slo}; on offer: {offered}"


def _name(metric: str, statistic: str) -> str:
    return f"{metric.upper()} {statistic}" if statistic != "mean" else f"mean {metric.upper()}"


def columns(plan: Plan) -> list[str]:
    """What a table of candidates shows: the rate only where candidates differ in it, means where no SLO is set."""
    asked = [o.key for o in plan.scenario.slo.objectives] or ["ttft_ms", "tpot_ms"]
    rates = plan.columns["output_tok_s"][plan.order[:20]]
    rate = ["output_tok_s"] if rates.max() > 1.01 * rates.min() else []
    misses = ["reason"] if not plan.qualifies.all() else []
    cost = ["usd_per_hour", "usd_per_million_tokens"]
    chance = ["slo_chance"] if plan.scenario.slo.objectives else []
    return ["rank", "candidate", *cost, *asked, *rate, "power_kw", *chance, "basis", *misses]


def in_kilowatts(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The rows with `power_kw` and its range beside watts."""
    return [{**row, **{f"power_kw{end}": row[f"power_w{end}"] / 1e3 for end in ("", "_lo", "_hi")}} for row in rows]


def tally(plan: Plan) -> str:
    """How many candidates there were, and how many qualified."""
    kept = int(plan.qualifies.sum())
    complete = "" if plan.complete else ", not every one was tried"
    return f"{kept} of {len(plan)} legal candidates qualify{complete}; ranked by {heading(plan.scenario.minimise)}"


def group(family: str) -> str:
    """The heading under which an operator family is summed up."""
    return GROUPS.get(family, "communication")


def time_rows(terms: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Share of each pass by kind of operator, a row a phase; the shares of a row sum to 100."""
    out = []
    for phase in dict.fromkeys(t["phase"] for t in terms):
        mine = [t for t in terms if t["phase"] == phase]
        shares: dict[str, float] = {}
        for t in mine:
            shares[group(t["family"])] = shares.get(group(t["family"]), 0.0) + t["share_percent"]
        total = sum(t["time_us"] for t in mine) / 1e3
        largest = dict(sorted(shares.items(), key=lambda item: -item[1]))
        out.append({"pass": phase, "pass_ms": total, **{f"{k}_percent": v for k, v in largest.items()}})
    return out


def memory_rows(plan: Plan) -> list[dict[str, Any]]:
    """What lies in a device of the winner, one row."""
    return [{"memory": "one device", **memory_of(plan)}]


def show(plan: Plan, rows: Sequence[dict[str, Any]]) -> None:
    """Print a plan for a reader at a terminal."""
    from search.output import tables as present

    present.say(question(plan))
    present.say(headline(plan), strong=True)
    remarks = dict.fromkeys(row["remark"] for row in rows if row.get("remark"))
    notes = [tally(plan), f"price: {rows[0]['price']}", *remarks]
    present.show(in_kilowatts(rows), columns=columns(plan), bare=["usd_per_million_tokens"], notes=notes)
    present.show(time_rows(terms_of(plan)), title="Where the time goes (mean prompt, then one step of decoding)")
    present.show(memory_rows(plan), title="Where the memory goes")


def fleet_rows(fleet: FleetPlan) -> list[dict[str, Any]]:
    """A row an option, class and period in use; the totals of the fleet stand in every row."""
    totals = {"fleet_usd_per_hour": fleet.usd_per_hour, "fleet_power_w": fleet.power, "gap_percent": 100.0 * fleet.gap}
    return [{**row, **totals, "solver": fleet.solver} for row in fleet.rows()]


def fleet_headline(fleet: FleetPlan) -> str:
    """The fleet in one sentence, with the proof."""
    devices = ", ".join(f"{number(count)} x {name}" for name, count in fleet.devices.items())
    power = f", {number(fleet.power / 1e3)} kW" if fleet.power == fleet.power else ""
    proof = "proven least" if fleet.gap <= PROVEN else f"proven within {100.0 * fleet.gap:.2g} % of the least"
    return f"Take {devices}: ${money(fleet.usd_per_hour)} an hour{power}; {proof} cost."


def show_fleet(fleet: FleetPlan) -> None:
    """Print a fleet for a reader at a terminal."""
    from search.output import tables as present

    held = [f"without the limit on {b.name}, ${money(b.saving)} an hour less" for b in fleet.binding]
    present.say(fleet_headline(fleet), strong=True)
    present.show(fleet.rows(), notes=[f"solver: {fleet.solver}, gap {100.0 * fleet.gap:.2g} %", *held])
