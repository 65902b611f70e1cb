"""Write a plan as sentences and small tables, for the terminal and for the report."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from search.output.headings import heading
from search.output.row_printer import print_rows
from search.output.table_fit import Layout
from search.output.terminal import print_text
from search.output.value_format import money, number, percent

if TYPE_CHECKING:
    from search.planning import Plan

#: Heading under which the time of each operator family is summed; other families are communication.
OPERATOR_GROUPS = {
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
#: Candidates whose throughputs decide whether a table shows throughput at all: the best so many.
COMPARED_CANDIDATES = 20
#: Throughput is shown where the highest exceeds the lowest by more than this factor (chosen: visible in 3 digits).
SHOWN_RATE_RATIO = 1.01
STEP_TIMES_TITLE = "Where the time goes (prefill of the mean prompt, then one decode step)"


def headline(plan: Plan) -> str:
    """Return the recommendation in one sentence: hardware, count, cost, power, chance that every SLO holds.

    Where no candidate qualifies: why, and what comes nearest.
    """
    if not plan.feasible:
        return plan.message
    c = {k: float(v[plan.best]) for k, v in plan.columns.items()}
    billed = int(c.get("devices_billed", c["devices"]))
    spare = f" ({billed} paid for, in whole nodes)" if billed > c["devices"] else ""
    cost = [f"${money(c['usd_per_hour'])} per hour"] if c["usd_per_hour"] == c["usd_per_hour"] else []
    power = [f"{number(c['power_w'] / 1e3)} kW"] if c["power_w"] == c["power_w"] else []
    figures = ", ".join([*cost, *power])
    hardware = f"Take {_candidate_in_words(plan, plan.best)}{spare}"
    return f"{hardware}{': ' if figures else ''}{figures}{_chance_in_words(plan, c['slo_chance'])}."


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


def _chance_in_words(plan: Plan, chance: float) -> str:
    """Return the end of a sentence with the probability (0 to 1) of keeping every SLO; "" without SLOs."""
    if not plan.scorer.target.slo.objectives:
        return ""
    words = percent(chance).replace("> ", "over ").replace("< ", "under ")
    return f", keeping every SLO with {words} probability"


def question(plan: Plan) -> str:
    """Return the scenario in one line: model, load, mean lengths, SLOs, devices on offer."""
    s, work = plan.scenario, plan.scorer.target.workload
    loads = {"open": f"{work.rate:g} requests/s", "closed": f"{work.concurrency:g} requests in flight"}
    load = loads.get(work.arrival, work.arrival)
    if work.arrival == "closed" and work.concurrency != work.concurrency:
        load = "as many requests as a replica can take"
    lengths = f"{work.mean_input:,.0f} tokens in, {work.mean_output:,.0f} out"
    slo = "; ".join(f"{_bound_name(o.metric, o.statistic)} ≤ {o.limit * 1e3:g} ms" for o in s.slo.objectives)
    offered = ", ".join(s.offer.devices)
    return f"{s.model.split('/')[-1]}, {load} of {lengths} on average; {slo or 'no SLO'}; on offer: {offered}"


def _bound_name(metric: str, statistic: str) -> str:
    """Name a bounded metric with its statistic: "TTFT p99", "mean TPOT"."""
    return f"{metric.upper()} {statistic}" if statistic != "mean" else f"mean {metric.upper()}"


def candidate_columns(plan: Plan) -> list[str]:
    """Return the columns of a table of candidates.

    The bounded metrics are shown (mean TTFT and TPOT without SLOs), the throughput only where it differs between
    candidates, and the reason only where a candidate does not qualify.
    """
    bounded = [o.key for o in plan.scenario.slo.objectives] or ["ttft_ms", "tpot_ms"]
    rates = plan.columns["output_tok_s"][plan.order[:COMPARED_CANDIDATES]]
    rate = ["output_tok_s"] if rates.max() > SHOWN_RATE_RATIO * rates.min() else []
    reason = ["reason"] if not plan.qualifies.all() else []
    cost = ["usd_per_hour", "usd_per_million_tokens"]
    chance = ["slo_chance"] if plan.scenario.slo.objectives else []
    return ["rank", "candidate", *cost, *bounded, *rate, "power_kw", *chance, "basis", *reason]


def with_kilowatts(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the rows with `power_kw`, `power_kw_lo` and `power_kw_hi` added to the same columns in watts."""
    return [{**row, **{f"power_kw{end}": row[f"power_w{end}"] / 1e3 for end in ("", "_lo", "_hi")}} for row in rows]


def ranking_note(plan: Plan) -> str:
    """Say how many candidates were tried, how many qualify, and what they are ranked by."""
    kept = int(plan.qualifies.sum())
    incomplete = "" if plan.complete else ", not every one was tried"
    return f"{kept} of {len(plan)} legal candidates qualify{incomplete}; ranked by {heading(plan.scenario.minimise)}"


def operator_group(family: str) -> str:
    """Return the heading under which the times of an operator family are summed."""
    return OPERATOR_GROUPS.get(family, "communication")


def step_time_rows(terms: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return one row per phase (prefill, decode): time of the step, and percent of it per group of operators."""
    rows = []
    for phase in dict.fromkeys(t["phase"] for t in terms):
        operators = [t for t in terms if t["phase"] == phase]
        shares: dict[str, float] = {}
        for t in operators:
            group = operator_group(t["family"])
            shares[group] = shares.get(group, 0.0) + t["share_percent"]
        total = sum(t["time_us"] for t in operators) / 1e3
        largest_first = dict(sorted(shares.items(), key=lambda item: -item[1]))
        rows.append({"step": phase, "step_ms": total, **{f"{k}_percent": v for k, v in largest_first.items()}})
    return rows


def print_plan(plan: Plan, rows: Sequence[dict[str, Any]]) -> None:
    """Print a plan: the question, the recommendation, the candidates, and where time and memory go.

    rows: of the plan (`Plan.rows`), best candidate first.
    """
    from search.planning import memory_of, terms_of

    print_text(question(plan))
    print_text(headline(plan), bold=True)
    remarks = dict.fromkeys(row["remark"] for row in rows if row.get("remark"))
    notes = [ranking_note(plan), f"price: {rows[0]['price']}", *remarks]
    candidates = Layout(columns=candidate_columns(plan), without_range=["usd_per_million_tokens"], notes=notes)
    print_rows(with_kilowatts(rows), layout=candidates)
    print_rows(step_time_rows(terms_of(plan)), layout=Layout(title=STEP_TIMES_TITLE))
    memory = {"memory": "one device", **memory_of(plan)}
    print_rows([memory], layout=Layout(title="Where the memory of a device goes"))
