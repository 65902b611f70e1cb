"""Check a plan by simulation: simulate its finalists step by step, and compare them with the analytic estimates."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from hwdb import Infeasible, InputError
from perfmodel import simulator
from perfmodel.arrays import NAN
from perfmodel.deployment import Deployments
from perfmodel.power import energy_per_token, site_power
from perfmodel.simulator import Capacity, Simulation, Traffic
from perfmodel.unit_factors import MS_PER_S
from perfmodel.workload import DEFAULT_REQUESTS_PER_CLIENT, Slo
from search.planning.money.prices import usd_per_million_tokens
from search.planning.plan_making.ranked_plan import Plan
from search.searchers import Progress

#: Columns of `verify` that appear twice: estimated, under their own name, and simulated, with `simulated_` before it.
FIGURES = ("ttft_ms", "ttft_ms_p90", "ttft_ms_p99", "tpot_ms", "tpot_ms_p90", "tpot_ms_p99", "e2e_ms", "output_tok_s")


@dataclass(frozen=True)
class Settings:
    """Settings of a simulation.

    count: requests to simulate, 0 for as many as the precision needs. precision: half width of the 95 % intervals to
    aim at, as a share of each figure. whole: measure the whole run, warm-up and drain included. router: how requests
    are assigned to replicas. seed: of the random draws. nearest: simulate the nearest misses where nothing qualifies.
    paced: also say how readers experience the pace of tokens.
    """

    count: int = 0
    precision: float = simulator.PRECISION
    whole: bool = False
    router: str = "join_shortest_queue"
    seed: int = 0
    nearest: bool = False
    paced: bool = True


def finalists(plan: Plan, most: int) -> list[int]:
    """Return the numbers of the best `most` qualifying candidates with different names, best first.

    Where none qualifies, they are the nearest misses.
    """
    names: dict[str, int] = {}
    ranked = plan.order[: int(plan.qualifies.sum())] if plan.feasible else plan.order
    for number in ranked.tolist():
        if len(names) == most:
            break
        names.setdefault(plan.name(number), number)
    return list(names.values())


def chosen(plan: Plan, rank: int, settings: Settings) -> int:
    """Return the number of the finalist of rank `rank` (from 1).

    Raises `Infeasible` when nothing qualifies and `settings.nearest` is not set, and `InputError` when the plan has
    fewer finalists.
    """
    if not plan.feasible and not settings.nearest:
        raise Infeasible(f"{plan.message} (--nearest replays it all the same)")
    found = finalists(plan, rank)
    if len(found) < rank:
        raise InputError(f"rank {rank} is beyond the {len(found)} candidates of different layout; give a lower rank")
    return found[rank - 1]


def pools_of(plan: Plan, number: int) -> tuple[Deployments, Deployments | None]:
    """Return the pools of a candidate, with their replicas, as (decode pool, prefill pool).

    The prefill pool is None where the candidate is colocated: its one deployment does both.
    """
    if not plan.disaggregated(number):
        return plan.deployment(number), None
    prefill, decode = plan.pool_deployments(number)
    return decode, prefill


def requests(plan: Plan, number: int, settings: Settings | None = None) -> Traffic:
    """Return the requests to simulate for a candidate: the scenario's trace, or else draws from its workload.

    A trace without times of arrival gives the lengths of a stated rate or of clients, whose arrivals are drawn. Of an
    open load they are the first of as many as the precision needs.
    """
    settings = settings or Settings()
    request = plan.scenario.request
    work, count = plan.scorer.workload_of(float(plan.columns["offered"][number])), settings.count
    if request is not None and request.trace is not None and (plan.scorer.sized or work.arrival == "open"):
        trace = request.read_trace()
        if np.isfinite(trace.rate) or work.arrival not in ("open", "closed"):
            return simulator.offered(trace if plan.scorer.sized else trace.at_rate(work.rate), count=count)
    decode, prefill = pools_of(plan, number)
    replicas = float(decode.replicas[0] + (prefill.replicas[0] if prefill is not None else 0.0))
    if settings.whole and work.arrival == "closed" and not math.isfinite(work.n_requests):
        # a whole run is a finite one: that of the closed form, unless its number of requests is given
        work = work.at(n_requests=count or DEFAULT_REQUESTS_PER_CLIENT * work.concurrency)
    if not count and work.arrival == "open":
        count = int(max(simulator.COUNT, simulator.COUNT_REPLICA * replicas))
    return simulator.offered(work, count=count, seed=settings.seed)


def replay(
    plan: Plan, number: int, settings: Settings | None = None, *, progress: Progress | None = None
) -> Simulation:
    """Simulate candidate `number` of `plan` under the scenario's load."""
    decode, prefill = pools_of(plan, number)
    return replay_on(plan, number, settings or Settings(), decode, prefill, progress=progress)


def replay_on(
    plan: Plan,
    number: int,
    settings: Settings,
    decode: Deployments,
    prefill: Deployments | None,
    *,
    progress: Progress | None = None,
) -> Simulation:
    """Simulate the load of candidate `number` of `plan` on given pools; `prefill` is None for a colocated one."""
    drawn = requests(plan, number, settings)
    return simulator.simulate(
        plan.scorer.target.model,
        decode,
        drawn,
        slo=plan.scorer.target.slo,
        prefill=prefill,
        engine=plan.scorer.target.engine,
        costs=plan.scorer.target.costs,
        router=settings.router,
        seed=settings.seed,
        count=len(drawn) if settings.whole else settings.count,
        precision=settings.precision,
        progress=progress,
    )


def capacity(plan: Plan, number: int, settings: Settings | None = None) -> Capacity:
    """Find, by simulation, the highest request rate that candidate `number` serves within the SLO."""
    settings = settings or Settings()
    decode, prefill = pools_of(plan, number)
    return simulator.capacity(
        plan.scorer.target.model,
        decode,
        requests(plan, number, settings),
        plan.scorer.target.slo,
        prefill=prefill,
        engine=plan.scorer.target.engine,
        costs=plan.scorer.target.costs,
        router=settings.router,
        seed=settings.seed,
    )


def row(plan: Plan, number: int, found: Simulation, settings: Settings | None = None) -> dict[str, Any]:
    """Convert the simulation `found` of candidate `number` to a flat row, all of it over one measurement window.

    Of each latency that the SLO limits it also has the limit, the closed form's value, and whether the limit is kept.
    """
    settings = settings or Settings()
    slo, seen = plan.scorer.target.slo, simulator.window(found, whole=settings.whole)
    figures = simulator.summary(found, slo, seen, paced=settings.paced)
    wide = [] if settings.whole else _wide_intervals(found, slo, settings.precision)
    notes = [*found.notes, *_part_of_trace(plan, found), *wide, *_burst(plan, steady=seen.steady)]
    notes += plan.scenario.readings
    return {
        "candidate": plan.name(number),
        "engine": plan.scorer.target.engine.name,
        "router": found.router,
        "measured": seen.basis,
        **figures,
        "meets": simulator.holds(found, slo, seen),
        **_beside_the_closed_form(plan, number, figures),
        **simulator.usage(found, seen),
        **_costs(plan, number, figures["output_tok_s"]),
        **_site_power(plan, number, figures),
        "remark": "; ".join(notes),
    }


def _part_of_trace(plan: Plan, found: Simulation) -> list[str]:
    """Say which part of the scenario's trace was replayed, and its rate beside that of the closed form."""
    request = plan.scenario.request
    if request is None or request.trace is None:
        return []
    whole, played, last = len(request.read_trace()), len(found.traffic), float(np.max(found.issued))
    if played >= whole or not last > 0:
        return []
    rate = plan.scorer.target.workload.rate
    beside = f", and not at the {rate:.3g} requests/s of the closed form" if math.isfinite(rate) else ""
    return [
        f"only the first {played:,} of {whole:,} requests of the trace were replayed, which come at "
        f"{played / last:.3g} requests/s{beside}; --requests {whole} replays all"
    ]


def _burst(plan: Plan, *, steady: bool) -> list[str]:
    """Say what the closed form counts in a closed loop without a number of requests, and a steady window does not."""
    work = plan.scorer.target.workload
    if work.arrival != "closed" or work.n_requests == work.n_requests or not steady:
        return []
    return [
        f"the closed form counts the start, when all clients send at once, as one of {DEFAULT_REQUESTS_PER_CLIENT:g} "
        "requests per client; the simulated figures leave it out"
    ]


def _costs(plan: Plan, number: int, output_tok_s: float) -> dict[str, float]:
    """Return what candidate `number` costs per hour, and per million tokens at the simulated output rate."""
    usd = float(plan.columns["usd_per_hour"][number])
    return {"usd_per_hour": usd, "usd_per_million_tokens": float(usd_per_million_tokens(usd, output_tok_s))}


def _site_power(plan: Plan, number: int, figures: Mapping[str, float]) -> dict[str, float]:
    """Return the mean watts at the meter of the site, hosts and cooling included, and the joules per output token."""
    bill = {name: plan.columns[name][number] for name in ("idle_w", "tdp_w", "host_w", "host_loaded_w", "host_idle_w")}
    devices = np.asarray(figures.get("devices_power_w", NAN)) + bill["idle_w"]
    watts = site_power(plan.scorer.tariff.wall(devices, bill), 1.0, 0.0, plan.scenario.site.pue)
    joules = energy_per_token(watts, figures["output_tok_s"])
    return {"power_w": float(watts), "site_energy_j_per_output_token": float(joules)}


def _beside_the_closed_form(plan: Plan, number: int, figures: Mapping[str, float]) -> dict[str, Any]:
    """Return, of each latency that the SLO limits, the limit, the closed form's value and whether the limit is kept."""
    estimated, columns = plan.row(number), {}
    for o in plan.scorer.target.slo.objectives:
        columns[f"{o.key}_limit"] = MS_PER_S * o.limit
        columns[f"closed_form_{o.key}"] = estimated.get(o.key, NAN)
        columns[f"{o.key}_kept"] = bool(figures[o.key] <= MS_PER_S * o.limit)
    return columns


def _wide_intervals(found: Simulation, slo: Slo, precision: float) -> list[str]:
    """Say which figures of a stationary load are known less well than asked for."""
    if found.warm_up is not None and not (found.warm_up.settled or found.warm_up.unstable):
        return []  # the run says itself that it is too short
    wide = simulator.imprecise(found, slo, precision)
    return [f"not known to ±{100 * precision:g} %: {', '.join(wide)}; simulate more requests"] if wide else []


def verify(plan: Plan, most: int = 0, *, seed: int = 0, progress: Progress | None = None) -> list[dict[str, Any]]:
    """Simulate the finalists of `plan` and return one flat row each, estimated and simulated values side by side.

    most: number of finalists; 0 for as many as the scenario says. Each column of `FIGURES`, and each latency that the
    SLO bounds, appears as estimated and, with `simulated_` before its name, as simulated. `simulated_meets`: True where
    every SLO bound held in the simulation.
    """
    best = finalists(plan, most or plan.scenario.choices.finalists)
    rows = []
    for done, number in enumerate(best):
        if progress:
            progress(done, len(best))
        rows.append(_side_by_side(plan, number, row(plan, number, replay(plan, number, Settings(seed=seed)))))
    return rows


def _side_by_side(plan: Plan, number: int, simulated: Mapping[str, Any]) -> dict[str, Any]:
    """Join the estimated and the simulated columns of one candidate. simulated: its row from `row`."""
    estimated = plan.row(number)
    out = {"candidate": plan.name(number), "qualifies": estimated["qualifies"], "simulated_meets": simulated["meets"]}
    for name in dict.fromkeys([*(o.key for o in plan.scorer.target.slo.objectives), *FIGURES]):
        out |= {name: estimated.get(name, NAN), f"simulated_{name}": simulated.get(name, NAN)}
    return {**out, "slo_attainment": simulated.get("slo_attainment", NAN), "remark": simulated["remark"]}


def columns(plan: Plan) -> list[str]:
    """Name the columns of `verify` that a terminal shows.

    They are each latency that the SLO bounds, estimated and simulated, the throughput, the share of requests that keep
    every bound, and whether the simulation meets the SLO.
    """
    names = [o.key for o in plan.scorer.target.slo.objectives] or ["ttft_ms", "tpot_ms"]
    pairs = [c for name in names for c in (name, f"simulated_{name}")]
    throughput = ["output_tok_s", "simulated_output_tok_s"]
    return ["candidate", *pairs, *throughput, "slo_attainment", "simulated_meets", "remark"]


def simulated(
    plan: Plan,
    rank: int,
    settings: Settings | None = None,
    *,
    capacity_too: bool = False,
    log: Path | None = None,
    trace: Path | None = None,
    progress: Progress | None = None,
) -> tuple[dict[str, Any], int, Simulation]:
    """Simulate the finalist of rank `rank` (from 1); return it as a flat row, its number, and the simulation.

    capacity_too: also find the highest rate within the SLO. log, trace: files to write the requests and the events to.
    Raises `Infeasible` when nothing qualifies and `settings.nearest` is not set, and `InputError` when the plan has
    fewer finalists, or a file cannot be written.
    """
    settings = settings or Settings()
    number = chosen(plan, rank, settings)
    found = replay(plan, number, settings, progress=progress)
    made = row(plan, number, found, settings)
    if plan.scenario.request is not None and plan.scenario.request.remarks:
        made["trace_remark"] = "; ".join(plan.scenario.request.remarks)
    if capacity_too:
        most = capacity(plan, number, settings)
        made |= {"capacity_rps": most.rate, "capacity_rps_ci95_low": most.low, "capacity_rps_ci95_high": most.high}
    if log is not None:
        simulator.write_requests(found, log)
    if trace is not None:
        simulator.write_trace(found, trace)
    return made, number, found
