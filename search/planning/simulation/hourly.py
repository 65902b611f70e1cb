"""Say what each hour of a simulated day brings: requests, latencies, the share within the SLOs, cost per token."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from perfmodel import simulator
from perfmodel.arrays import NAN, Mask
from perfmodel.unit_factors import MS_PER_S, SECONDS_PER_HOUR
from search.planning.money.prices import usd_per_million_tokens
from search.planning.simulation import verify

if TYPE_CHECKING:
    from perfmodel.simulator import Simulation, Window
    from search.planning.plan_making.ranked_plan import Plan

#: Shortest run that is shown by the hour, s. Chosen: fewer hours are no day.
LEAST_SPAN = 2 * SECONDS_PER_HOUR
#: Share of an hour at the end of a run that still belongs to the hour before. Chosen: too few requests to stand alone.
PART_OF_HOUR = 0.25
#: Latencies of a request by itself. Gaps between tokens (ITL) belong to no hour of arrival.
BY_REQUEST = ("ttft", "tpot", "e2e")


def hour_rows(plan: Plan, number: int, found: Simulation) -> list[dict[str, Any]]:
    """Return one flat row per hour of the trace that `found` replayed on candidate `number`, by the time of arrival.

    `start_h` counts from the first request. The cost is that of the whole plan, which runs all the time. [] where the
    scenario has no trace of `LEAST_SPAN` or more.
    """
    request, arrived = plan.scenario.request, found.issued - float(np.nanmin(found.issued))
    if request is None or request.trace is None or not float(np.nanmax(arrived)) >= LEAST_SPAN:
        return []
    span, kept = float(np.nanmax(arrived)), simulator.attained(found, plan.scorer.target.slo)
    count = int(np.ceil(span / SECONDS_PER_HOUR - PART_OF_HOUR))
    lengths = np.full(count, SECONDS_PER_HOUR)
    lengths[-1] = span - (count - 1) * SECONDS_PER_HOUR
    hours = np.minimum(np.floor(arrived / SECONDS_PER_HOUR), count - 1)
    return [
        _row(plan, number, found, (hours == hour, kept), {"start_h": float(hour), "length": length})
        for hour, length in enumerate(lengths.tolist())
    ]


def simulated_hours(plan: Plan, number: int, settings: verify.Settings) -> list[dict[str, Any]]:
    """Simulate each hour of a load that is stated by the hour, and return a row per hour as `hour_rows` does.

    Each rate is simulated as a load that goes on, on candidate `number` with all its replicas. [] where the scenario
    states no rates by the hour.
    """
    request = plan.scenario.request
    if request is None or request.trace is not None or not request.periods:
        return []
    known: dict[float, dict[str, Any]] = {}
    for rate in dict.fromkeys(p.mean for p in request.periods):
        known[rate] = _of_rate(plan, number, settings, rate)
    return [{"start_h": p.start / SECONDS_PER_HOUR, **known[p.mean]} for p in request.periods]


def _of_rate(plan: Plan, number: int, settings: verify.Settings, rate: float) -> dict[str, Any]:
    """Simulate candidate `number` at a steady rate in requests/s; return the row of an hour without its start."""
    usd = float(plan.columns["usd_per_hour"][number])
    if not rate > 0:
        return {"requests": 0, "request_rate_rps": 0.0, "output_tok_s": 0.0, "usd_per_hour": usd}
    target = plan.scorer.target
    steady = replace(plan.scorer, target=replace(target, workload=target.workload.at(rate=rate)))
    found = verify.replay(replace(plan, scorer=steady), number, settings)
    row = simulator.summary(found, target.slo)
    names = [*_bounded(plan), "slo_attainment"]
    return {
        "requests": round(rate * SECONDS_PER_HOUR),
        "request_rate_rps": rate,
        "output_tok_s": row["output_tok_s"],
        **{name: row.get(name, NAN) for name in names},
        "usd_per_hour": usd,
        "usd_per_million_tokens": float(usd_per_million_tokens(usd, row["output_tok_s"])),
    }


def _row(
    plan: Plan, number: int, found: Simulation, which: tuple[Mask, Mask], hour: Mapping[str, float]
) -> dict[str, Any]:
    """Return the row of an hour of a replay.

    which: (R,) requests that arrived in it, and requests within the SLOs. hour: `start_h` and `length` in seconds.
    """
    here, kept = which
    served, usd = here & found.served, float(plan.columns["usd_per_hour"][number])
    tokens = float(found.traffic.output_tokens[served].sum()) / hour["length"]
    seen = _window(found, served)
    return {
        "start_h": hour["start_h"],
        "requests": int(here.sum()),
        "request_rate_rps": float(here.sum()) / hour["length"],
        "output_tok_s": tokens,
        **{
            name: MS_PER_S * simulator.latency(found, metric, seen).at(statistic)
            for name, (metric, statistic) in _bounded(plan).items()
        },
        "slo_attainment": float(kept[here].mean()) if here.any() else NAN,
        "usd_per_hour": usd,
        "usd_per_million_tokens": float(usd_per_million_tokens(usd, tokens)) if tokens else NAN,
    }


def _bounded(plan: Plan) -> dict[str, tuple[str, str]]:
    """Return column -> (metric, statistic) of the latencies that the SLO bounds; mean TTFT and TPOT without any."""
    objectives = [(o.key, (o.metric, o.statistic)) for o in plan.scorer.target.slo.objectives]
    found = {key: names for key, names in objectives if names[0] in BY_REQUEST}
    return found or {f"{metric}_ms": (metric, "mean") for metric in BY_REQUEST[:2]}


def _window(found: Simulation, counted: Mask) -> Window:
    """Return the window in which the requests `counted`, (R,), count, whenever they end."""
    return replace(simulator.window(found, whole=True), counted=counted, asked=counted)
