"""What a simulation shows: latencies, their percentiles, throughput, and how much of it met its objectives."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from hwdb import InputError, UnknownName
from perfmodel.arrays import Array
from perfmodel.simulator.simulation import Simulation
from perfmodel.simulator.tokens import experience, gaps
from perfmodel.workload import RANKS, STATISTICS, Objective, Slo

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Distribution:
    """Mean and percentiles of a quantity, in its unit; NaN where there is none."""

    mean: float
    p50: float
    p90: float
    p95: float
    p99: float

    def at(self, statistic: str) -> float:
        """The value called `statistic` (mean, p50, p90, p95 or p99)."""
        if statistic not in STATISTICS:
            raise UnknownName("statistic", statistic, STATISTICS)
        return float(getattr(self, statistic))


def distribution(values: Array, weights: Array | None = None) -> Distribution:
    """Mean and percentiles of `values` (any shape), each counted `weights` times; NaN values are left out. The p-th
    percentile is the least value that p percent of the whole do not exceed.

    >>> distribution(np.array([1.0, 2.0, 4.0]), np.array([8.0, 1.0, 1.0]))
    Distribution(mean=1.4, p50=1.0, p90=2.0, p95=4.0, p99=4.0)
    """
    kept = np.isfinite(values)
    values = values[kept]
    weights = np.ones(len(values)) if weights is None else weights[kept]
    if not len(values):
        return Distribution(*[float("nan")] * 5)
    order = np.argsort(values)
    total = np.cumsum(weights[order])
    places = np.searchsorted(total, np.array(list(RANKS.values())) * total[-1] * (1 - 1e-12))
    found = values[order][np.minimum(places, len(values) - 1)]
    return Distribution(float(np.dot(values, weights) / total[-1]), *(float(v) for v in found))


def ttft(simulation: Simulation) -> Array:
    """Arrival to first token, s. (R,)"""
    return simulation.first - simulation.issued


def tpot(simulation: Simulation) -> Array:
    """Mean time of a token after the first, s; NaN for answers of one token. (R,)"""
    more = simulation.traffic.output_tokens - 1.0
    return (simulation.finish - simulation.first) / np.where(more > 0, more, np.nan)


def e2e(simulation: Simulation) -> Array:
    """Arrival to last token, s. (R,)"""
    return simulation.finish - simulation.issued


def normalised(simulation: Simulation) -> Array:
    """End-to-end latency a token of the answer, s (Orca, OSDI 2022). (R,)"""
    return e2e(simulation) / simulation.traffic.output_tokens


_BY_REQUEST = {"ttft": ttft, "tpot": tpot, "e2e": e2e, "normalised": normalised}


def latency(simulation: Simulation, metric: str) -> Distribution:
    """Distribution of ttft, tpot, itl (every gap between tokens counts once), e2e or normalised latency, s."""
    if metric == "itl":
        return distribution(*gaps(simulation))
    if metric not in _BY_REQUEST:
        raise UnknownName("latency", metric, [*_BY_REQUEST, "itl"])
    return distribution(_BY_REQUEST[metric](simulation))


def holds(simulation: Simulation, slo: Slo) -> bool:
    """Whether every objective holds, and no request was turned away."""
    return not simulation.rejected.any() and all(
        latency(simulation, o.metric).at(o.statistic) <= o.limit for o in slo.objectives
    )


def attained(simulation: Simulation, slo: Slo) -> NDArray[np.bool_]:
    """Which requests by themselves stay within every limit of `slo`, whatever its statistics; ITL by the longest gap.
    Rejected requests do not. (R,)"""
    met = simulation.served.copy()
    for objective in slo.objectives:
        values = _values(simulation, objective)
        met &= ~(values > objective.limit)
    return met


def _values(simulation: Simulation, objective: Objective) -> Array:
    if objective.metric == "itl":
        return experience(simulation, ttft=1.0, tpot=1.0).longest
    if objective.metric not in _BY_REQUEST:
        raise UnknownName("latency", objective.metric, [*_BY_REQUEST, "itl"])
    return _BY_REQUEST[objective.metric](simulation)


def window(simulation: Simulation) -> tuple[float, float]:
    """When rates are measured, s: all the time, or, where requests come by themselves, from the tenth part of the
    arrivals to the last, so that neither filling nor draining counts."""
    issued = simulation.issued[simulation.served]
    begin, end = float(np.min(issued)), float(np.nanmax(simulation.finish))
    if len(issued) >= 100 and np.isfinite(simulation.traffic.rate):
        return float(np.sort(issued)[len(issued) // 10]), float(np.max(issued))
    return begin, end


def rates(simulation: Simulation) -> dict[str, float]:
    """`request_rate` (answers finished), `output_tok_s` and `input_tok_s` (prompts done) within the `window`."""
    begin, end = window(simulation)
    inside = (simulation.finish > begin) & (simulation.finish <= end)
    prompts = (simulation.first > begin) & (simulation.first <= end)
    tokens = _made_by(simulation, end) - _made_by(simulation, begin)
    span = end - begin
    return {
        "request_rate": float(inside.sum() / span),
        "output_tok_s": float(tokens / span),
        "input_tok_s": float(simulation.traffic.input_tokens[prompts].sum() / span),
    }


def _made_by(simulation: Simulation, time: float) -> float:
    """Tokens made until `time`: first ones, and of each run the share of its steps that had ended."""
    runs = simulation.runs
    steps = runs["steps"].astype(float)
    span = runs["step"] * steps + runs["slope"] * 0.5 * steps * (steps - 1)
    share = np.clip((time - runs["start"]) / np.maximum(span, 1e-300), 0.0, 1.0)
    resumed = np.isfinite(simulation.stints["time"]) & (simulation.stints["made"] > 1)
    prefilled = np.sum(simulation.first <= time) + np.sum(simulation.stints["time"][resumed] <= time)
    return float(np.sum(runs["active"] * steps * share) + prefilled)


def goodput(simulation: Simulation, slo: Slo) -> float:
    """Requests/s that met every limit of `slo` (DistServe, arXiv:2401.09670)."""
    return float(attained(simulation, slo).sum() / simulation.duration)


def attainment(simulation: Simulation, slo: Slo) -> dict[str, float]:
    """Share of each class's requests that met every limit of `slo`, by class name."""
    met, kind = attained(simulation, slo), simulation.traffic.kind
    return {
        name: float(met[kind == k].mean()) if np.any(kind == k) else float("nan")
        for k, name in enumerate(simulation.traffic.classes)
    }


def summary(simulation: Simulation, slo: Slo | None = None) -> dict[str, float]:
    """Every figure in one flat row, units in the names. Rates are those of `window`."""
    served = simulation.served
    row: dict[str, float] = {
        "requests": len(simulation.traffic),
        "rejected": int(simulation.rejected.sum()),
        "duration_s": simulation.duration,
        **rates(simulation),
        "preemptions": int(simulation.preempted.sum()),
        "cached_share": float(simulation.cached.sum() / simulation.traffic.input_tokens[served].sum()),
    }
    for metric in ("ttft", "tpot", "itl", "e2e", "normalised"):
        found = latency(simulation, metric)
        row |= {f"{metric}_ms": 1e3 * found.mean, **{f"{metric}_ms_{s}": 1e3 * found.at(s) for s in RANKS}}
    if slo is not None and slo.objectives:
        row["slo_attainment"] = float(attained(simulation, slo).mean())
        row["goodput"] = goodput(simulation, slo)
        reader = _reader(slo)
        if reader:
            seen = experience(simulation, ttft=reader[0], tpot=reader[1])
            row["fluidity_index"] = float(np.nanmean(seen.fluidity))
            row["qoe"] = float(np.nanmean(seen.quality))
    return row


def _reader(slo: Slo) -> tuple[float, float] | None:
    """(first token, each further token) that the objectives promise a reader, where they promise both."""
    first = [o.limit for o in slo.objectives if o.metric == "ttft"]
    token = [o.limit for o in slo.objectives if o.metric in ("itl", "tpot")]
    return (min(first), min(token)) if first and token else None


def occupancy(simulation: Simulation, points: int = 200) -> dict[str, Array]:
    """Over time: `time_s`, requests `waiting` and `running`, and `kv_share` of all replicas' blocks in use, as they
    stood when the step under way at that time was planned. (points,) each"""
    if points < 1:
        raise InputError(f"points is {points}; give at least 1")
    runs = simulation.runs
    steps = runs["steps"].astype(float)
    end = runs["start"] + runs["step"] * steps + runs["slope"] * (0.5 * steps * (steps - 1))
    time = np.linspace(runs["start"].min(), end.max(), points, endpoint=False)
    totals = {"waiting": np.zeros(points), "running": np.zeros(points), "used": np.zeros(points)}
    for i in np.unique(runs["replica"]):
        mine = np.flatnonzero(runs["replica"] == i)
        at = mine[np.maximum(np.searchsorted(runs["start"][mine], time, side="right") - 1, 0)]
        busy = (runs["start"][at] <= time) & (time < end[at])
        for name, total in totals.items():
            total += np.where(busy, runs[name][at], 0)
    blocks = sum(int(p.kv_tokens) // p.policy.kv_block * p.replicas for p in simulation.pools)
    return {
        "time_s": time,
        "waiting": totals["waiting"],
        "running": totals["running"],
        "kv_share": totals["used"] / blocks,
    }


def frame(simulation: Simulation) -> pd.DataFrame:
    """One row a request, units in the names."""
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
