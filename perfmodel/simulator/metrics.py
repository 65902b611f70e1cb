"""Summarise a simulation: latencies and their percentiles, throughput, and the share that met the objectives."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from hwdb import InputError, UnknownName
from perfmodel.arrays import NAN, Array, Mask
from perfmodel.simulator.simulation import Simulation, run_durations, run_ends
from perfmodel.simulator.tokens import experience, gaps
from perfmodel.workload import METRICS, RANKS, STATISTICS, Objective, Slo

if TYPE_CHECKING:
    import pandas as pd


#: Requests from which on rates are measured in the steady part only; fewer have no steady part. Chosen.
_STEADY_REQUESTS = 100
#: The steady part begins after this share of the arrivals. Chosen: the first tenth fills the replicas.
_FILLING_SHARE = 0.1
#: Below this a run counts as taking no time, so that its share of a window is defined.
_LEAST_DURATION = 1e-300
#: Relative rounding of sums of weights, by which a percentile may miss the value that it falls on.
_ROUNDING = 1e-12


@dataclass(frozen=True)
class Distribution:
    """Holds mean and percentiles of a quantity, in its unit; NaN where no value is known."""

    mean: float
    p50: float
    p90: float
    p95: float
    p99: float

    def at(self, statistic: str) -> float:
        """Return the value of `statistic`, one of `perfmodel.workload.STATISTICS`."""
        if statistic not in STATISTICS:
            raise UnknownName("statistic", statistic, STATISTICS)
        return float(getattr(self, statistic))


def distribution(values: Array, weights: Array | None = None) -> Distribution:
    """Return mean and percentiles of `values` (any shape), each counted `weights` times; NaN values are left out.

    The p-th percentile is the least value that p percent of all values do not exceed.

    >>> distribution(np.array([1.0, 2.0, 4.0]), np.array([8.0, 1.0, 1.0]))
    Distribution(mean=1.4, p50=1.0, p90=2.0, p95=4.0, p99=4.0)
    """
    kept = np.isfinite(values)
    values = values[kept]
    weights = np.ones(len(values)) if weights is None else weights[kept]
    if not len(values):
        return Distribution(**dict.fromkeys(STATISTICS, NAN))
    order = np.argsort(values)
    total = np.cumsum(weights[order])
    places = np.searchsorted(total, np.array(list(RANKS.values())) * total[-1] * (1 - _ROUNDING))
    found = values[order][np.minimum(places, len(values) - 1)]
    percentiles = {rank: float(v) for rank, v in zip(RANKS, found, strict=True)}
    return Distribution(mean=float(np.dot(values, weights) / total[-1]), **percentiles)


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


def latency(simulation: Simulation, metric: str) -> Distribution:
    """Return the distribution of `metric`: `ttft`, `tpot`, `itl`, `e2e` or `normalised`, s.

    For `itl` (inter-token latency) each gap between tokens counts once; for the others each request.
    """
    if metric == "itl":
        return distribution(*gaps(simulation))
    if metric not in _BY_REQUEST:
        raise UnknownName("latency", metric, [*_BY_REQUEST, "itl"])
    return distribution(_BY_REQUEST[metric](simulation))


def holds(simulation: Simulation, slo: Slo) -> bool:
    """True where the simulation meets every objective and no request was rejected."""
    return not simulation.rejected.any() and all(
        latency(simulation, o.metric).at(o.statistic) <= o.limit for o in slo.objectives
    )


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


def window(simulation: Simulation) -> tuple[float, float]:
    """Return (begin, end) of the time in which rates are measured, s.

    In an open load of enough requests: from the end of the first tenth of the arrivals to the last arrival, so that
    neither the filling nor the draining of the replicas counts. Otherwise: all the time.
    """
    issued = simulation.issued[simulation.served]
    begin, end = float(np.min(issued)), float(np.nanmax(simulation.finish))
    if len(issued) >= _STEADY_REQUESTS and np.isfinite(simulation.traffic.rate):
        return float(np.sort(issued)[int(_FILLING_SHARE * len(issued))]), float(np.max(issued))
    return begin, end


def rates(simulation: Simulation) -> dict[str, float]:
    """Return events per second of the `window`: requests completed, output tokens made, prompt tokens of prompts
    computed.
    """
    begin, end = window(simulation)
    inside = (simulation.finish > begin) & (simulation.finish <= end)
    prompts = (simulation.first > begin) & (simulation.first <= end)
    tokens = _made_by(simulation, end) - _made_by(simulation, begin)
    span = end - begin
    return {
        "request_rate_rps": float(inside.sum() / span),
        "output_tok_s": float(tokens / span),
        "input_tok_s": float(simulation.traffic.input_tokens[prompts].sum() / span),
    }


def _made_by(simulation: Simulation, time: float) -> float:
    """Return the output tokens made until `time` (s).

    Counts those of prefills, and of each run of decode steps the share of its duration that has passed.
    """
    runs = simulation.runs
    steps = runs["steps"].astype(float)
    share = np.clip((time - runs["start"]) / np.maximum(run_durations(runs), _LEAST_DURATION), 0.0, 1.0)
    resumed = np.isfinite(simulation.stints["time"]) & (simulation.stints["made"] > 1)
    prefilled = np.sum(simulation.first <= time) + np.sum(simulation.stints["time"][resumed] <= time)
    return float(np.sum(runs["active"] * steps * share) + prefilled)


def goodput(simulation: Simulation, slo: Slo) -> float:
    """Return the requests per second that met every limit of `slo` (DistServe, arXiv:2401.09670)."""
    return float(attained(simulation, slo).sum() / simulation.duration)


def attainment(simulation: Simulation, slo: Slo) -> dict[str, float]:
    """Return the share of the requests of each class that met every limit of `slo`, by class name."""
    met, kind = attained(simulation, slo), simulation.traffic.kind
    return {
        name: float(met[kind == k].mean()) if np.any(kind == k) else NAN
        for k, name in enumerate(simulation.traffic.classes)
    }


def summary(simulation: Simulation, slo: Slo | None = None) -> dict[str, float]:
    """Return all results of a simulation in one flat row, with units in the names; rates are measured within the
    `window`.
    """
    served = simulation.served
    row: dict[str, float] = {
        "requests": len(simulation.traffic),
        "rejected": int(simulation.rejected.sum()),
        "duration_s": simulation.duration,
        **rates(simulation),
        "preemptions": int(simulation.preempted.sum()),
        "cached_share": float(simulation.cached.sum() / simulation.traffic.input_tokens[served].sum()),
    }
    for metric in (*METRICS, "normalised"):
        found = latency(simulation, metric)
        row |= {f"{metric}_ms": 1e3 * found.mean, **{f"{metric}_ms_{s}": 1e3 * found.at(s) for s in RANKS}}
    if slo is not None and slo.objectives:
        row["slo_attainment"] = float(attained(simulation, slo).mean())
        row["goodput_rps"] = goodput(simulation, slo)
        reader = _reader(slo)
        if reader is not None:
            seen = experience(simulation, ttft=reader[0], tpot=reader[1])
            row["fluidity_index"] = float(np.nanmean(seen.fluidity))
            row["qoe"] = float(np.nanmean(seen.quality))
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
        "emitted_tokens": simulation.emitted,
        "cached_tokens": simulation.cached,
        "preemptions": simulation.preempted,
        "rejected": simulation.rejected,
    }
    return pd.DataFrame(columns)
