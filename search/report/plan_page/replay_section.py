"""Replay the recommendation request by request, and show it beside the closed form: distributions, and over time."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from hwdb import PerfmodelError
from perfmodel import simulator
from perfmodel.arrays import Array
from perfmodel.estimates import overall
from perfmodel.unit_factors import MS_PER_S
from perfmodel.workload import RANKS
from search.output import heading
from search.planning import verify
from search.report.chart_drawing.charts import Figure, Points, Titles
from search.report.chart_drawing.curve_charts import Limits, Style, distribution, lines
from search.report.page_parts.html_page import Section, Table
from search.report.plan_page.plan_charts import LATENCIES

if TYPE_CHECKING:
    from perfmodel.simulator import Simulation
    from search.planning import Plan

#: Requests that are replayed: per replica, at least, at most. Chosen: a second of computing.
PER_REPLICA, LEAST_REPLAYED, MOST_REPLAYED = 100, 800, 3000
#: Durations of the longest request that are replayed. Chosen: a shorter replay ends before the long answers of its
#: second half do, and so shows too few tokens.
DURATIONS_REPLAYED = 3.0
#: Points of a curve over time.
MOMENTS = 240
#: Latency of each request of a replay, s, by metric.
OF_REQUESTS = {"ttft": simulator.ttft, "tpot": simulator.tpot}
#: Why the watts of the chart and of the table differ.
OF_POWER = (
    " The power chart is of the devices alone, under the dashed sum of their limits; the table adds hosts and site."
)


def replay_section(plan: Plan) -> tuple[Section, dict[str, Figure]] | None:
    """Return the section of the replay of the winner, and its charts; None where it cannot be replayed."""
    settings = verify.Settings(count=_count(plan), paced=False)
    try:
        found = verify.replay(plan, plan.best, settings)
        row = verify.row(plan, plan.best, found, settings)
    except PerfmodelError:
        return None
    values = {metric: MS_PER_S * of(found) for metric, of in OF_REQUESTS.items()}
    figures = {f"replay-{m}": _latencies(plan, m, v) for m, v in values.items() if np.isfinite(v).any()}
    figures |= _over_time(plan, found)
    rows = _beside(plan, row)
    section = Section(
        id="replay",
        short="Replay",
        title="What requests see: a replay beside the closed form",
        lead=f"{int(found.served.sum()):,} requests were replayed step by step on the recommendation. The plan itself "
        "rests on the closed form; where the two differ, so may your benchmark. perfmodel simulate replays more."
        + (OF_POWER if "replay-power" in figures else ""),
        charts=list(figures),
        tables=[Table(rows, ["figure", "closed_form", "simulated", "limit"], id="replayed")],
        notes=[str(row["remark"])] if row.get("remark") else [],
    )
    return section, figures


def _count(plan: Plan) -> int:
    """Return how many requests to replay: some for each replica, and as many as several of the longest request span."""
    replicas, work = float(sum(pool.replicas[0] for pool in plan.pools(plan.best))), plan.scorer.target.workload
    row = plan.row(plan.best)
    longest = (row["ttft_ms"] + float(np.max(work.output_tokens)) * row["tpot_ms"]) / MS_PER_S
    spanned = np.nan_to_num(DURATIONS_REPLAYED * row["request_rate_rps"] * longest, nan=0.0)
    return int(np.clip(max(PER_REPLICA * replicas, spanned), LEAST_REPLAYED, MOST_REPLAYED))


def _latencies(plan: Plan, metric: str, values: Array) -> Figure:
    """Draw the share of requests within a latency: of the replay, and the percentiles of the closed form.

    values: of each request of the replay, ms.
    """
    estimated = plan.estimates(plan.best)
    closed = [MS_PER_S * float(overall(estimated, metric, rank)[0]) for rank in RANKS]
    series = {
        "replay": distribution(values),
        "closed form": Points(closed, [100.0 * share for share in RANKS.values()]),
    }
    limits = [MS_PER_S * o.limit for o in plan.scenario.slo.objectives if o.metric == metric]
    titles = Titles(f"Requests within a {LATENCIES[metric]}", x=f"{metric.upper()}, ms", y="requests, %")
    figure = lines(series, titles, Limits(x=limits), Style(percent=True))
    figure["data"][1]["mode"] = "lines+markers"
    return figure


def _over_time(plan: Plan, found: Simulation) -> dict[str, Figure]:
    """Draw queue and batch, KV cache and watts over the time of the replay."""
    over = simulator.occupancy(found, MOMENTS)
    time = over["time_s"] - over["time_s"][0]
    requests = {
        "running": Points(time.tolist(), over["running"].tolist()),
        "waiting": Points(time.tolist(), over["waiting"].tolist()),
    }
    cache = {"KV cache": Points(time.tolist(), (100.0 * over["kv_share"]).tolist())}
    stairs = Style(steps=True)
    figures = {
        "replay-requests": lines(requests, Titles("Requests over time", x="s", y="requests"), None, stairs),
        "replay-kv": lines(cache, Titles("KV cache in use", x="s", y="% of all blocks"), None, Style(percent=True)),
    }
    watts = simulator.power_series(found)
    if watts:
        moments, at = np.unique(watts["time_s"], return_inverse=True)
        total = np.bincount(at, watts["power_w_per_device"] * watts["devices"]) / 1e3
        drawn = {"devices": Points(moments.tolist(), total.tolist())}
        rated = float(plan.columns["rated_w"][plan.best]) / 1e3
        limits = Limits(y=[rated]) if np.isfinite(rated) else None
        figures["replay-power"] = lines(drawn, Titles("Power of the devices", x="s", y="kW"), limits)
    return figures


def _beside(plan: Plan, row: dict[str, Any]) -> list[dict[str, Any]]:
    """Return rows of the closed form beside the replay: each figure that the SLO bounds, then the throughput."""
    estimated = plan.row(plan.best)
    bounds = {o.key: o.limit * MS_PER_S for o in plan.scenario.slo.objectives}
    names = dict.fromkeys([*bounds, "ttft_ms", "tpot_ms", "e2e_ms", "output_tok_s", "power_w"])
    return [
        {
            "figure": heading(name),
            "closed_form": estimated.get(name, np.nan),
            "simulated": row.get(name, np.nan),
            "limit": bounds.get(name, np.nan),
        }
        for name in names
    ]
