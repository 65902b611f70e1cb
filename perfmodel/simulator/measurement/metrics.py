"""Summarise a simulation: latencies and their percentiles, throughput, and the share that met the objectives."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from hwdb import InputError, UnknownName
from perfmodel.arrays import NAN, Array, Mask
from perfmodel.simulator.measurement.distributions import Distribution, distribution
from perfmodel.simulator.measurement.power_use import power_summary
from perfmodel.simulator.measurement.tokens import experience, gaps
from perfmodel.simulator.measurement.window import Window, window
from perfmodel.simulator.request_traffic.requests import Whole
from perfmodel.simulator.simulation import Simulation, run_ends
from perfmodel.simulator.stationarity.steady import SLICES, margin
from perfmodel.unit_factors import MS_PER_S
from perfmodel.workload import METRICS, STATISTICS, Objective, Slo

if TYPE_CHECKING:
    import pandas as pd

#: Figures that grow with the length of a run whose queue grows without end.
_OF_THE_QUEUE = ("ttft_ms", "e2e_ms", "normalised_ms", "slo_attainment", "goodput_rps", "fluidity_index", "qoe")


def ttft(simulation: Simulation) -> Array:
    """Return the time to first token of each request: from arrival to the first token, s. (R,)"""
    return simulation.first - simulation.issued


def tpot(simulation: Simulation) -> Array:
    """Return the time per output token of each request, s: mean gap between its tokens; NaN for a single token. (R,)"""
    more = simulation.traffic.output_tokens - 1.0
    return (simulation.finish - simulation.first) / np.where(more > 0, more, np.nan)


def e2e(simulation: Simulation) -> Array:
    """Return the end-to-end latency of each request: from arrival to the last token, s. (R,)"""
    return simulation.finish - simulation.issued


def normalised(simulation: Simulation) -> Array:
    """Return the end-to-end latency per output token of each request, s (normalized latency of Orca, OSDI 2022)."""
    return e2e(simulation) / simulation.traffic.output_tokens


_BY_REQUEST = {"ttft": ttft, "tpot": tpot, "e2e": e2e, "normalised": normalised}


def latency(simulation: Simulation, metric: str, seen: Window | None = None) -> Distribution:
    """Return the distribution of `metric`: `ttft`, `tpot`, `itl`, `e2e` or `normalised`, s, over the window `seen`.

    For `itl` (inter-token latency) each gap between tokens within the window counts once; for the others each request
    that ends in it. seen: None for the window of the run.
    """
    values, weights, _ = _samples(simulation, metric, seen or window(simulation))
    return distribution(values, weights)


def margins(simulation: Simulation, metric: str, seen: Window | None = None) -> Distribution:
    """Return the half widths of the 95 % intervals of `latency`, s; NaN where the run is too short to tell, or finite.

    The intervals come from the same statistics of successive time slices of the window.
    """
    seen = seen or window(simulation)
    if not seen.steady:
        return Distribution(**dict.fromkeys(STATISTICS, NAN))
    values, weights, place = _samples(simulation, metric, seen)
    whole = distribution(values, weights)
    order = np.argsort(place, kind="stable")
    bounds = np.searchsorted(place[order], np.arange(1, SLICES))
    split = np.split(order, bounds)
    parts = [distribution(values[rows], None if weights is None else weights[rows]) for rows in split]
    return Distribution(**{s: margin(whole.at(s), np.fromiter((p.at(s) for p in parts), float)) for s in STATISTICS})


def _samples(simulation: Simulation, metric: str, seen: Window) -> tuple[Array, Array | None, Whole]:
    """Return (values in s, how often each counts, time slice of each) of a metric within the window; (n,) each.

    None for how often: once.
    """
    if metric == "itl":
        values, weights, times = gaps(simulation)
        place = seen.slices_of(times) if seen.steady else np.zeros(len(times), np.int64)
        return values[place >= 0], weights[place >= 0], place[place >= 0]
    if metric not in _BY_REQUEST:
        raise UnknownName("latency", metric, [*_BY_REQUEST, "itl"])
    values = _BY_REQUEST[metric](simulation)[seen.counted]
    return values, None, seen.slices[seen.counted]


def holds(simulation: Simulation, slo: Slo, seen: Window | None = None) -> bool:
    """Return whether the queue is stable, no request was rejected, and every objective is met within the window."""
    seen = seen or window(simulation)
    if unstable(simulation) or simulation.rejected.any():
        return False
    return all(latency(simulation, o.metric, seen).at(o.statistic) <= o.limit for o in slo.objectives)


def unstable(simulation: Simulation) -> bool:
    """Return whether a stationary load is more than the deployment serves, so that its queue grows without end."""
    return simulation.warm_up is not None and simulation.warm_up.unstable


def attained(simulation: Simulation, slo: Slo) -> Mask:
    """True for requests that stay within every limit of `slo`. (R,)

    Each request is judged by itself, so the statistic of an objective (mean, percentile) does not matter. The limit on
    ITL applies to the longest gap of a request. Rejected requests do not stay within it.
    """
    met = simulation.served.copy()
    for objective in slo.objectives:
        values = _values(simulation, objective)
        met &= ~(values > objective.limit)
    return met


def _values(simulation: Simulation, objective: Objective) -> Array:
    """Return the quantity that an objective limits, one value per request, s. (R,)"""
    if objective.metric == "itl":
        return experience(simulation, ttft=1.0, tpot=1.0).longest
    if objective.metric not in _BY_REQUEST:
        raise UnknownName("latency", objective.metric, [*_BY_REQUEST, "itl"])
    return _BY_REQUEST[objective.metric](simulation)


def rates(simulation: Simulation, seen: Window | None = None, slo: Slo | None = None) -> dict[str, float]:
    """Return rates per second, all of the requests that end within the window, so that one basis holds for all.

    They are `request_rate_rps`, `output_tok_s` and `input_tok_s` (the tokens of those requests) and, with objectives,
    `goodput_rps`, the requests that met every limit (DistServe, arXiv:2401.09670). With `_ci95`: the half width of the
    95 % interval, NaN for a run that is measured as a whole.
    """
    seen = seen or window(simulation)
    traffic = simulation.traffic
    amounts = {
        "request_rate_rps": np.ones(len(traffic)),
        "output_tok_s": traffic.output_tokens.astype(float),
        "input_tok_s": traffic.input_tokens.astype(float),
    }
    if slo is not None and slo.objectives:
        amounts["goodput_rps"] = attained(simulation, slo).astype(float)
    found = {}
    for name, amount in amounts.items():
        found[name] = float(amount[seen.counted].sum()) / seen.span
        found[f"{name}_ci95"] = NAN
        if seen.steady:
            parts: Array = np.bincount(seen.slices[seen.counted], amount[seen.counted], SLICES).astype(float)
            found[f"{name}_ci95"] = margin(found[name], parts * (SLICES / seen.span))
    return found


def goodput(simulation: Simulation, slo: Slo, seen: Window | None = None) -> float:
    """Return the requests per second that met every limit of `slo`, of those that end within the window."""
    seen = seen or window(simulation)
    return float((attained(simulation, slo) & seen.counted).sum() / seen.span)


def attainment(simulation: Simulation, slo: Slo, seen: Window | None = None) -> dict[str, float]:
    """Return the share of the requests of each class that met every limit of `slo`, by class name."""
    seen = seen or window(simulation)
    met, kind = attained(simulation, slo), simulation.traffic.kind
    chosen = [seen.asked & (kind == k) for k in range(len(simulation.traffic.classes))]
    names = simulation.traffic.classes
    return {name: float(met[rows].mean()) if rows.any() else NAN for name, rows in zip(names, chosen, strict=True)}


def summary(
    simulation: Simulation, slo: Slo | None = None, seen: Window | None = None, *, paced: bool = True
) -> dict[str, float]:
    """Return all results of a simulation in one flat row, with units in the names, all over one window.

    `_ci95` after a name: half width of the 95 % interval. Latencies that hold the queue, and what follows from them,
    are NaN where a load without end is more than the deployment serves: they would grow with the length of the run.
    seen: None for the window of the run. paced: also how readers experience the pace of tokens.
    """
    seen = seen or window(simulation)
    row = _run_columns(simulation, seen) | rates(simulation, seen, slo)
    for metric in (*METRICS, "normalised"):
        found, known = latency(simulation, metric, seen), margins(simulation, metric, seen)
        for statistic in STATISTICS:
            name = f"{metric}_ms" if statistic == "mean" else f"{metric}_ms_{statistic}"
            row |= {name: MS_PER_S * found.at(statistic), f"{name}_ci95": MS_PER_S * known.at(statistic)}
    if slo is not None and slo.objectives:
        row |= _slo_columns(simulation, slo, seen, paced=paced)
    row |= power_summary(simulation, seen)
    if seen.steady and unstable(simulation):
        row |= {name: NAN for name in row if name.startswith(_OF_THE_QUEUE)}
    return row


def _run_columns(simulation: Simulation, seen: Window) -> dict[str, float]:
    """Return what was run and which part of it is measured, and counts over the requests that count."""
    counted, last = seen.counted, float(np.nanmax(simulation.finish))
    prompts = float(simulation.traffic.input_tokens[counted].sum())
    grows = simulation.warm_up.growth if simulation.warm_up else None
    return {
        "requests": len(simulation.traffic),
        "rejected": int(simulation.rejected.sum()),
        "duration_s": simulation.duration,
        "measured_requests": int(counted.sum()),
        "warm_up_s": seen.begin - float(np.nanmin(simulation.issued)),
        "window_s": seen.span,
        "drain_s": last - seen.end,
        "queue_growth_rps": grows.rate if grows else NAN,
        "queue_growth_rps_ci95": grows.margin if grows else NAN,
        "preemptions": int(simulation.preempted[counted].sum()),
        "cached_share": float(simulation.cached[counted].sum()) / prompts if prompts else NAN,
    }


def _slo_columns(simulation: Simulation, slo: Slo, seen: Window, *, paced: bool) -> dict[str, float]:
    """Return the share of requests that met every limit, and how a reader of that pace experienced the tokens."""
    row = {"slo_attainment": float(attained(simulation, slo)[seen.asked].mean())}
    reader = _reader(slo)
    if paced and reader is not None:
        felt = experience(simulation, ttft=reader[0], tpot=reader[1])
        row["fluidity_index"] = float(np.nanmean(felt.fluidity[seen.counted]))
        row["qoe"] = float(np.nanmean(felt.quality[seen.counted]))
    return row


def _reader(slo: Slo) -> tuple[float, float] | None:
    """Return (seconds to the first token, seconds per further token) that the objectives limit; None if one is not."""
    first = [o.limit for o in slo.objectives if o.metric == "ttft"]
    token = [o.limit for o in slo.objectives if o.metric in ("itl", "tpot")]
    return (min(first), min(token)) if first and token else None


def occupancy(simulation: Simulation, points: int = 200) -> dict[str, Array]:
    """Return columns over time, (points,) each: `time_s`, requests `waiting` and `running`, and `kv_share`, KV blocks
    in use.

    Requests and blocks are summed over all replicas. They are those of the moment when the run of steps in progress was
    planned.
    """
    if points < 1:
        raise InputError(f"points is {points}; give at least 1")
    runs = simulation.runs
    end = run_ends(runs)
    time = np.linspace(runs["start"].min(), end.max(), points, endpoint=False)
    totals = {"waiting": np.zeros(points), "running": np.zeros(points), "used": np.zeros(points)}
    for i in np.unique(runs["replica"]):
        mine = np.flatnonzero(runs["replica"] == i)
        at = mine[np.maximum(np.searchsorted(runs["start"][mine], time, side="right") - 1, 0)]
        busy = (runs["start"][at] <= time) & (time < end[at])
        for name, total in totals.items():
            total += np.where(busy, runs[name][at], 0)
    blocks = sum(p.kv_blocks * p.replicas for p in simulation.pools)
    return {
        "time_s": time,
        "waiting": totals["waiting"],
        "running": totals["running"],
        "kv_share": totals["used"] / blocks,
    }


def frame(simulation: Simulation) -> pd.DataFrame:
    """Return a table with one row per request, with units in the column names."""
    import pandas as pd

    traffic = simulation.traffic
    columns: dict[str, object] = {
        "request": np.arange(len(traffic)),
        "class": np.array(traffic.classes, object)[traffic.kind],
        "arrival_s": simulation.issued,
        "input_tokens": traffic.input_tokens,
        "output_tokens": traffic.output_tokens,
        "replica": simulation.replica,
        "prefill_replica": simulation.prefiller,
        "queue_ms": 1e3 * (simulation.admitted - simulation.issued),
    }
    columns |= {f"{m}_ms": 1e3 * of(simulation) for m, of in _BY_REQUEST.items()}
    columns |= {
        "finish_s": simulation.finish,
        "emitted_tokens": np.where(simulation.emitted > 0, traffic.output_tokens, 0),
        "cached_tokens": simulation.cached,
        "preemptions": simulation.preempted,
        "rejected": simulation.rejected,
    }
    return pd.DataFrame(columns)
