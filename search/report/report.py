"""The report of a plan: one offline page with the recommendation, the alternatives, and where everything goes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from perfmodel.costs import remarks_of
from perfmodel.estimates import chances, overall
from search.output import columns, group, headline, in_kilowatts, money, number, percent, question, tally, time_rows
from search.planning import memory_of, terms_of, what_if
from search.report import charts
from search.report.page import Chip, Fact, Goal, Page, Section, Table, render

if TYPE_CHECKING:
    from search.planning import Plan
    from search.searchers import Progress

#: Candidates listed and drawn at most; of more, the best by rank.
LISTED, DRAWN = 60, 1500
#: Operators below this share of their pass are left out, percent.
WORTH = 2.0
#: Where the limit stands on a track, in percent of it.
LIMIT_AT = 72.0
OPERATORS = ("phase", "operator", "calls", "time_us", "share_percent", "bound", "peak_share_percent", "basis")
WHAT_IF = ("what_if", "answer", "usd_per_hour", "change_percent", "power_w", "slo_chance", "chance_if_nothing_changes")


def render_report(plan: Plan, progress: Progress | None = None) -> str:
    """The page of `plan` as HTML. Where nothing qualifies, it says what is nearest and what to relax."""
    return render(page(plan, progress))


def page(plan: Plan, progress: Progress | None = None) -> Page:
    """What the page of `plan` holds."""
    rows = plan.rows(LISTED, 5)
    found: dict[str, Any] = {}
    sections = []
    if plan.feasible:
        terms, tried = terms_of(plan), what_if(plan, progress)
        found = {**_front(plan), **_goes(plan, terms), **_devices(plan), **_changes(tried)}
        sections = [
            _objectives(plan),
            _options(plan, found),
            _inside(terms),
            _elsewhere(found),
            _otherwise(tried, found),
        ]
    sections += [_candidates(plan, rows), _origin(plan)]
    return Page(
        title=plan.scenario.title,
        question=question(plan),
        headline=headline(plan),
        feasible=plan.feasible,
        version=plan.manifest.version,
        chips=_chips(plan) if plan.feasible else [Chip("nothing qualifies", "bad")],
        facts=_facts(rows[0]) if plan.feasible else [],
        sections=[s for s in sections if s is not None],
        charts=found,
    )


# ------------------------------------------------------------------------------------------------- the top of the page


def _tone(chance: float) -> str:
    return "good" if chance >= 0.8 else "warn" if chance >= 0.5 else "bad"


def _chips(plan: Plan) -> list[Chip]:
    row = plan.row(plan.best)
    told = []
    if plan.scenario.slo.objectives:
        told.append(Chip(f"every SLO kept: {percent(row['slo_chance'])}", _tone(row["slo_chance"])))
    told.append(Chip(f"rests on: {row['basis']}", "warn" if row["basis"] in ("roofline", "extrapolated") else ""))
    told.append(Chip(tally(plan)))
    assumed = "assumed" in row["price"] or "for want of" in row["price"]
    return [*told, Chip(f"prices {plan.manifest.prices}", "warn" if assumed else "")] if plan.manifest.prices else told


def _facts(row: Mapping[str, Any]) -> list[Fact]:
    free = row["memory_free_gb_per_device"]
    million = f"${money(row['usd_per_million_tokens'])} a million output tokens"
    facts = [
        Fact("Cost", f"${money(row['usd_per_hour'])}", "/h", million),
        Fact(
            "Power",
            number(row["power_w"] / 1e3),
            "kW",
            f"{number(row['site_energy_j_per_output_token'])} J an output token",
        ),
        Fact(
            "Throughput", number(row["output_tok_s"]), "tok/s", f"{number(row['request_rate_rps'])} requests a second"
        ),
        Fact("First token", number(row["ttft_ms"]), "ms", _range(row, "ttft_ms")),
        Fact("Each token", number(row["tpot_ms"]), "ms", _range(row, "tpot_ms")),
        Fact("Memory", number(row["memory_gb_per_device"]), "GB", f"a device; {number(free)} GB free"),
    ]
    return [f for f in facts if "–" not in f.value]


def _range(row: Mapping[str, Any], column: str) -> str:
    return f"mean; 80 % range {number(row[f'{column}_lo'])} to {number(row[f'{column}_hi'])}"


# ------------------------------------------------------------------------------------------------------------ sections


def _objectives(plan: Plan) -> Section | None:
    objectives = plan.scenario.slo.objectives
    if not objectives:
        return None
    found = plan.estimates(plan.best)
    kept = chances(found, plan.scenario.slo)[:, 0]
    goals = []
    for objective, chance in zip(objectives, kept, strict=True):
        value = float(overall(found, objective.metric, objective.statistic)[0])
        goals.append(
            _goal(
                objective.metric,
                objective.statistic,
                value,
                objective.limit,
                float(chance),
                float(found.spread[objective.metric][0]),
            )
        )
    return Section(
        id="objectives",
        short="SLOs",
        title="Does it keep the SLOs?",
        goals=goals,
        lead="The bar is the 80 % range of the estimate and the dark mark its centre; the red line is the limit.",
    )


def _goal(metric: str, statistic: str, value: float, limit: float, chance: float, spread: float) -> Goal:
    low, high = value * np.exp(-spread), value * np.exp(spread)
    left, right = (min(100.0, LIMIT_AT * v / limit) for v in (low, high))
    says = f"{number(value * 1e3)} ms ({number(low * 1e3)}–{number(high * 1e3)}) of {number(limit * 1e3)} ms"
    return Goal(
        name=f"{metric.upper()} {statistic}",
        middle=min(100.0, LIMIT_AT * value / limit),
        limit=LIMIT_AT,
        says=says,
        verdict=percent(chance),
        tone=_tone(chance),
        range=(left, max(right - left, 0.5)),
    )


def _front(plan: Plan) -> dict[str, Any]:
    """Cost (energy, where no price is known) against TTFT and TPOT of all that qualify, coloured by device."""
    drawn = plan.order[: min(int(plan.qualifies.sum()), DRAWN)]
    priced = bool(np.isfinite(plan.columns["usd_per_million_tokens"][drawn]).any())
    what, x = ("Cost", "$ a million output tokens") if priced else ("Energy", "J an output token")
    cost = plan.columns["usd_per_million_tokens" if priced else "site_energy_j_per_output_token"]
    out = {}
    for column, title in (("ttft_ms", "time to first token"), ("tpot_ms", "time per output token")):
        groups: dict[str, tuple[list[float], list[float], list[str]]] = {}
        for n in drawn.tolist():
            xs, ys, labels = groups.setdefault(_device(plan, n), ([], [], []))
            xs.append(float(cost[n]))
            ys.append(float(plan.columns[column][n]))
            labels.append(plan.name(n))
        out[f"front-{column}"] = charts.scatter(
            groups,
            _staircase(cost[drawn], plan.columns[column][drawn]),
            (float(cost[plan.best]), float(plan.columns[column][plan.best])),
            title=f"{what} against {title}",
            x=x,
            y=f"mean {column[:4].upper()}, ms",
        )
    return out


def _known(rows: Sequence[Mapping[str, Any]], names: Sequence[str]) -> list[str]:
    """The columns in which at least one row has something to show."""
    return [c for c in names if any(number(row.get(c)) not in ("–", "") for row in rows)]


def _device(plan: Plan, candidate: int) -> str:
    if not plan.disaggregated(candidate):
        return plan.layouts.devices[int(plan.layouts.device[candidate])].name
    pair = plan.pair(candidate)
    used = [d.devices[int(d.device[0])].name for d in (pair.prefill, pair.decode)]
    return " + ".join(dict.fromkeys(used)) + ", two pools"


def _staircase(x: np.ndarray, y: np.ndarray) -> tuple[list[float], list[float]]:
    """The points that nothing beats in both, by rising x."""
    order = np.lexsort((y, x))
    best = np.minimum.accumulate(y[order])
    kept = order[(y[order] <= best) & (np.diff(best, prepend=np.inf) < 0)]
    return x[kept].tolist(), y[kept].tolist()


def _options(plan: Plan, found: Mapping[str, Any]) -> Section:
    return Section(
        id="options",
        short="Options",
        title="What else was on the table",
        lead=f"Each point keeps every SLO and limit; down and to the left is better. {tally(plan)}.",
        charts=[name for name in found if name.startswith("front-")],
    )


def _goes(plan: Plan, terms: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Shares of the two passes by kind of operator, and what lies in the memory of a device."""
    phases = list(dict.fromkeys(t["phase"] for t in terms))
    shares: dict[str, list[float]] = {}
    for t in terms:
        bar = shares.setdefault(group(t["family"]).replace("_", " "), [0.0] * len(phases))
        bar[phases.index(t["phase"])] += t["share_percent"]
    held = {k: v for k, v in memory_of(plan).items() if k != "host_gb"}
    inside = {k.removesuffix("_gb").replace("kv", "KV cache"): v for k, v in held.items()}
    free = inside.pop("free")
    return {
        "time": charts.stacked(phases, shares, title="Where the time of a pass goes", x="share of the pass, %"),
        "memory": charts.stacked(
            ["a device"],
            {k: [v] for k, v in inside.items()},
            title="Where the memory goes",
            x="GB",
            limit=sum(inside.values()) + free,
        ),
    }


def _inside(terms: Sequence[dict[str, Any]]) -> Section:
    passes = "; ".join(f"a {r['pass']} pass takes {number(r['pass_ms'])} ms" for r in time_rows(terms))
    title = f"Operators that take {WORTH:g} % of their pass or more"
    largest = [t for t in sorted(terms, key=lambda t: -t["share_percent"]) if t["share_percent"] >= WORTH]
    return Section(
        id="time",
        short="Time",
        title="Where the time and the memory go",
        charts=["time", "memory"],
        lead=f"For the recommended configuration: {passes}. The dashed line is what the engine may use of a device.",
        tables=[Table(largest, OPERATORS, title=title, sortable=True, id="operators")],
    )


def _devices(plan: Plan) -> dict[str, Any]:
    """The best of each device that qualifies: cost of a million tokens with its range."""
    best: dict[str, int] = {}
    for n in plan.order[: int(plan.qualifies.sum())].tolist():
        best.setdefault(_device(plan, n), n)
    names = list(best)[:20]
    rows = [plan.row(best[name]) for name in names]
    if len(rows) < 2 or not any(r["usd_per_million_tokens"] == r["usd_per_million_tokens"] for r in rows):
        return {}
    value, low, high = ([r[f"usd_per_million_tokens{s}"] for r in rows] for s in ("", "_lo", "_hi"))
    return {
        "devices": charts.ranged_bars(
            names,
            value,
            low,
            high,
            title="The best configuration of each kind of hardware",
            x="$ a million output tokens",
            chosen=_device(plan, plan.best),
        )
    }


def _elsewhere(found: Mapping[str, Any]) -> Section | None:
    if "devices" not in found:
        return None
    return Section(
        id="cost",
        short="Cost",
        title="What it costs elsewhere",
        charts=["devices"],
        lead="Bars reach the estimate, whiskers its 80 % range; each keeps every SLO and limit.",
    )


def _changes(tried: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    moved = [r for r in tried if abs(r["change_percent"]) >= 0.5]
    if not moved:
        return {}
    names, change = [r["what_if"] for r in moved], [r["change_percent"] for r in moved]
    return {"whatif": charts.tornado(names, change, title="Change of the bill", x="change in $ an hour, %")}


def _otherwise(tried: Sequence[dict[str, Any]], found: Mapping[str, Any]) -> Section:
    return Section(
        id="whatif",
        short="What if",
        title="What if",
        charts=[n for n in ("whatif",) if n in found],
        lead="Each row plans again with one thing changed. The last column is the chance that today's answer, left as "
        "it is, would still keep the SLOs.",
        tables=[Table(tried, _known(tried, WHAT_IF), wide=("answer",), id="changes")],
    )


def _candidates(plan: Plan, rows: Sequence[dict[str, Any]]) -> Section:
    shown = list(dict.fromkeys([*columns(plan), "devices", "output_tok_s", "memory_gb_per_device"]))
    shown = [c for c in shown if c != "reason"] + [c for c in shown if c == "reason"]
    told, best = in_kilowatts(rows), len([r for r in rows if r["rank"]])
    lead = f"The best {best}" if best < plan.qualifies.sum() else "All that qualify"
    misses = len(rows) - best
    return Section(
        id="candidates",
        short="Candidates",
        title="Candidates",
        lead=f"{lead}{f', then the {misses} nearest misses (rank 0) with the reason' if misses else ''}. "
        "Click a heading to sort.",
        tables=[Table(told, _known(told, shown), sortable=True, wide=("reason",), chosen=("rank", 1), id="table")],
    )


def _origin(plan: Plan) -> Section:
    made = {k: v for k, v in plan.manifest.row().items() if k != "command" and v not in ("", None) and v == v}
    prices = list(
        dict.fromkeys(
            f"{d.name}: {p}" for d, p in zip(plan.scorer.tariff.devices, plan.scorer.tariff.price, strict=True)
        )
    )
    removed = [f"{r['removed']:,} layouts left out, for example {r['example']}" for r in plan.removed]
    return Section(
        id="origin",
        short="Origin",
        title="Where this comes from",
        command=plan.manifest.command,
        lead="This command makes the page again; the hashes say from which data.",
        terms=[(k.replace("_", " "), str(v)) for k, v in made.items()],
        notes=[*prices, *remarks_of(plan.scorer.tariff.devices), *removed],
    )
