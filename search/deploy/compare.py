"""Compare what runs with what a plan would run for the same load on the same kind of device."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hwdb import counted
from hwdb.tomlfile import Table
from perfmodel import Engine, Slo, Workload
from perfmodel import model as model_of
from perfmodel.estimates import chance as chance_of
from perfmodel.models import UNQUANTISED
from search.deploy.launch import SERVE, Launch
from search.planning import ONLINE_ENGINES, ONLINE_FORMAT, plan
from search.scenario import Scenario, read_scenario

if TYPE_CHECKING:
    from search.planning import Plan

#: Parts of a fleet in words, for ratios that have a word of their own.
FRACTIONS = {0.5: "half the devices", 0.25: "a quarter of the devices", 0.75: "three quarters of the devices"}
#: Chance from which what runs keeps the SLO rather than not: a plan of more devices then has headroom, not latency.
LIKELY = 0.5
#: Arrivals that a plan can be made for.
PLANNED = ("open", "closed")


@dataclass(frozen=True)
class Comparison:
    """A deployment beside the plan for its load.

    plan: the plan. row: its best candidate, {} where nothing qualifies. sentence: both in words. odds: chance, 0 to 1,
    that the candidate carries the load and keeps the SLO; NaN for a load without a rate and without bounds. changes:
    settings that the candidate has otherwise, in words.
    """

    plan: Plan
    row: dict[str, Any]
    sentence: str
    odds: float = float("nan")
    changes: str = ""


def compared(
    launch: Launch,
    workload: Workload,
    slo: Slo,
    engine: Engine,
    *,
    chance: float,
    confidence: float = 0.5,
    folders: Iterable[str | Path] = (),
) -> Comparison | None:
    """Compare a deployment with the plan of fewest devices for its load; None for a load that no plan is made for.

    chance: that the deployment keeps every bound of `slo`, NaN without bounds. confidence: least chance that the plan
    keeps each bound with. folders: of the user's own hardware files.
    """
    if workload.arrival not in PLANNED:
        return None
    scenario = scenario_of(launch, confidence, folders)
    assert scenario.request is not None
    request = replace(scenario.request, workload=workload)
    found = plan(replace(scenario, request=request, slo=slo, engine=engine))
    row = found.row(found.best) if found.feasible else {}
    odds = _odds(found, row) if row else float("nan")
    sentence = _sentence(launch, row, (chance, odds), bool(slo.objectives))
    return Comparison(found, row, sentence, odds, _changes(launch, row))


#: Settings that a comparison names where they differ.
COMPARED = ("replicas", "tp", "pp", "ep", "dp", "cp", "weight", "kv", "max_num_batched_tokens", "max_num_seqs")


def _changes(launch: Launch, row: dict[str, Any]) -> str:
    """Return the settings of a deployment with one pool that a plan's row has otherwise: `tp 8 -> 4; kv bf16 -> fp8`.

    A limit that the deployment leaves to the engine is not compared.
    """
    if not row or len(launch.pools) > 1 or row.get("mode") == "disaggregated":
        return ""
    told = []
    for name in COMPARED:
        mine, other = getattr(launch.main, name), row.get(name)
        other = int(other) if isinstance(other, float) and other == other else other
        if mine is not None and other is not None and other == other and mine != other:
            told.append(f"{name} {mine} -> {other}")
    return "; ".join(told)


def _odds(plan: Plan, row: dict[str, Any]) -> float:
    """Return the chance that a plan's best candidate carries its load and keeps the SLO; NaN where neither is asked.

    The load is carried where the demand, as a share of the estimated capacity, stays below one; the capacity is as
    uncertain as the throughput.
    """
    kept = row.get("slo_chance")
    used = row.get("utilisation")
    known = [float(kept)] if kept is not None and kept == kept else []
    if used is not None and used > 0:
        spread = plan.estimates(plan.best).half_width("throughput")
        known.append(float(chance_of(np.array([used]), 1.0, spread)[0]))
    return min(known, default=float("nan"))


def in_hundred(chance: float) -> str:
    """Return a chance as a count of a hundred, `, 81 in 100`; "" for one that is not known. Never 0 and never 100."""
    return f", {min(max(round(100 * chance), 1), 99)} in 100" if chance == chance else ""


def scenario_of(launch: Launch, confidence: float, folders: Iterable[str | Path] = ()) -> Scenario:
    """Return the scenario that asks for the fewest devices of the kinds in use; its load is a placeholder."""
    own = model_of(launch.model).weight_format
    formats = sorted({launch.main.weight, own} | ({ONLINE_FORMAT} if _online(launch, own) else set()))
    pooled = any(pool.role != SERVE for pool in launch.pools)
    values = {
        "title": "what runs",
        "model": {"name": launch.model, "allow_long_context": True},
        "workload": {"input_tokens": 1024, "output_tokens": 256, "concurrency": 1},
        "hardware": {"devices": sorted({pool.device for pool in launch.pools})},
        "search": {
            "weight": formats,
            "kv": sorted({launch.main.kv, model_of(launch.model).kv_format}),
            "modes": ["colocated", "disaggregated"] if pooled else ["colocated"],
        },
        "objective": {"rank_by": "devices"},
        "limits": {"confidence": confidence},
    }
    return read_scenario(Table(values, "--from"), Path(), folders)


def _online(launch: Launch, own: str) -> bool:
    """Return whether the engine quantises the model to fp8 as it loads it."""
    from hwdb import load

    multiplies = load().device(launch.main.device).peak(ONLINE_FORMAT) > 0
    return launch.engine in ONLINE_ENGINES and own in UNQUANTISED and bool(multiplies)


def words_of(launch: Launch) -> str:
    """Return a deployment in words: `1 x 8 h100-sxm, TP8, bf16`."""
    parts = []
    for pool in launch.pools:
        degrees = [f"{k.upper()}{getattr(pool, k)}" for k in ("tp", "pp", "ep", "dp", "cp") if getattr(pool, k) > 1]
        role = "" if pool.role == SERVE else f"{pool.role} "
        parts.append(", ".join([f"{role}{pool.replicas} x {pool.devices} {pool.device}", *degrees, pool.weight]))
    return " + ".join(parts)


def _sentence(launch: Launch, row: dict[str, Any], chances: tuple[float, float], bounded: bool) -> str:
    """Return both in words: what runs, what the plan would run, on how many devices, and the odds of each.

    chances: of what runs, and of the plan. bounded: whether there is an SLO.
    """
    runs, mine = words_of(launch), sum(p.devices * p.replicas for p in launch.pools)
    sure = f"{in_hundred(chances[0])} to keep the SLO" if bounded and chances[0] == chances[0] else ""
    keeps = " and keeps the SLO" if bounded else ""
    if not row:
        return f"You run {runs}{sure}; no layout of this device serves the load{keeps}; try another."
    other, best = row["candidate"], int(row["devices"])
    if row["kv"] == launch.main.kv:  # it is named where it differs only
        other = other.replace(f", KV {row['kv']}", "")
    if row["weight"] not in other:
        other += f", {row['weight']}"
    plan_sure = in_hundred(chances[1])
    if best >= mine:
        kept = "the headroom that plans keep" if chances[0] >= LIKELY else "the SLO kept"
        more = "" if best == mine else f"; with {kept} it takes {other} ({best} devices{plan_sure})"
        return f"You run {runs}{sure}; the plan serves the same load on no fewer devices{more}."
    share = FRACTIONS.get(best / mine, f"{counted(best, 'device')} in place of {mine}")
    return f"You run {runs}{sure}; {other} serves the same load{keeps} on {share}{plan_sure}{_unbounded(row, bounded)}."


def _unbounded(row: dict[str, Any], bounded: bool) -> str:
    """Return the latencies of a plan that nothing bounds, which may be far longer; "" where there is an SLO."""
    known = [f"{metric.upper()} of {row[key]:.3g} ms" for metric in ("ttft", "tpot") if row.get(key := f"{metric}_ms")]
    return f", at a mean {' and '.join(known)}: bound them to keep yours" if known and not bounded else ""
