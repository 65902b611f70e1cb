"""Replay the load of a study on a candidate with the settings of a trial; what workers are sent and what they do."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from hwdb import InputError
from perfmodel import Deployments, Engine, ModelSpec, Slo
from perfmodel.costs import CostModel
from perfmodel.simulator import Affinity, StepTable, Traffic
from search.planning import hourly_usd, usd_per_million_tokens
from search.studies.objectives import figures_of
from search.studies.settings import (
    AFFINITY,
    CANDIDATE,
    COUNTS,
    ROUTER,
    SHARES,
    SWITCHES,
    USUAL_ROUTER,
    WORKERS,
    Axis,
    Value,
)

if TYPE_CHECKING:
    from search.planning import Plan

#: Devices on hand that a shortage is compared with where there are none.
LEAST_STOCK = 0.5
#: What a worker is asked: the settings of a trial, and how many requests to replay.
Task = tuple[Mapping[str, Value], int]


@dataclass(frozen=True)
class Contender:
    """One candidate of a study. decode, prefill: its pools, as `simulate` takes them. traffic: what it is offered."""

    name: str
    decode: Deployments
    prefill: Deployments | None
    traffic: Traffic


@dataclass(frozen=True)
class Bench:
    """What every trial of a study shares; it is sent to each worker once.

    contenders: candidates by rank, from 1. widest: largest value of each count that the study varies, to which step
    times are tabulated once. wanted: names of the figures to return. seed: of the router's draws.
    """

    model: ModelSpec
    engine: Engine
    slo: Slo
    contenders: tuple[Contender, ...]
    widest: Mapping[str, float]
    wanted: tuple[str, ...]
    seed: int
    costs: CostModel | None = None
    tables: dict[Any, tuple[StepTable, ...]] = field(default_factory=dict, compare=False, repr=False)

    def __getstate__(self) -> dict[str, Any]:
        """Leave out the step tables, which each worker makes for itself."""
        return {**self.__dict__, "tables": {}}

    def layouts(self, settings: Mapping[str, Value]) -> tuple[Contender, Deployments, Deployments | None]:
        """Return (contender, decode pool, prefill pool) of a trial; raise `InputError` where no worker is left."""
        one = self.contenders[rank_of(settings) - 1]
        more = [int(settings.get(name, 0)) for name in WORKERS]
        return one, *_pools(one, _counts(settings), *more)


def rank_of(settings: Mapping[str, Value]) -> int:
    """Return the rank of the candidate of a trial among those of its study, from 1."""
    return int(settings.get(CANDIDATE, 1))


def _counts(settings: Mapping[str, Value]) -> dict[str, float]:
    """Return the settings of a trial that count something."""
    return {name: float(settings[name]) for name in COUNTS if name in settings}


def _pools(
    one: Contender, counts: Mapping[str, float], more: int = 0, more_prefill: int = 0
) -> tuple[Deployments, Deployments | None]:
    """Return (decode pool, prefill pool) of a candidate with other limits of the engine, and with more workers."""
    decode = _with(one.decode, counts, more)
    return decode, None if one.prefill is None else _with(one.prefill, counts, more_prefill)


def _with(pool: Deployments, counts: Mapping[str, float], more: int) -> Deployments:
    """Return a pool (one row) with other limits of the engine, and with `more` workers."""
    workers = pool.replicas + more
    if workers[0] < 1:
        raise InputError(f"{more} workers beside {pool.replicas[0]:.0f} leave none; give more")
    limits: dict[str, Any] = {name: np.full(1, value) for name, value in counts.items()}
    return replace(pool, replicas=workers, **limits)


def bench_of(
    plan: Plan, contenders: tuple[Contender, ...], axes: tuple[Axis, ...], wanted: tuple[str, ...], seed: int
) -> Bench:
    """Return what every trial of a study shares."""
    target = plan.scorer.target
    widest = {a.name: float(max(a.values)) for a in axes if a.name in COUNTS}
    return Bench(target.model, target.engine, target.slo, contenders, widest, wanted, seed, target.costs)


def replayed(bench: Bench, task: Task) -> dict[str, Any]:
    """Simulate one trial and return its figures; where its settings cannot run, `problem` says why instead."""
    from perfmodel import simulator

    settings, count = task
    try:
        one, decode, prefill = bench.layouts(settings)
        engine = _engine(bench.engine, settings)
        whole = one.traffic
        pools = simulator.pools_of(
            bench.model,
            decode,
            whole,
            engine=engine,
            prefill=prefill,
            costs=bench.costs,
            tables=_tables(bench, settings),
        )
        found = simulator.run(
            whole.take(min(count, len(whole))),
            pools,
            router=str(settings.get(ROUTER, USUAL_ROUTER)),
            seed=bench.seed,
            affinity=Affinity(**{name: float(settings[name]) for name in AFFINITY if name in settings}),
        )
    except InputError as error:
        return {"problem": str(error), "overload": 1.0}
    return figures_of(found, bench.wanted, bench.slo)


def _engine(engine: Engine, settings: Mapping[str, Value]) -> Engine:
    """Return the engine with the settings of a trial that are its own."""
    changes = {name: settings[name] for name in (*SWITCHES, *SHARES) if name in settings}
    return engine.changed(**changes) if changes else engine


def _tables(bench: Bench, settings: Mapping[str, Value]) -> tuple[StepTable, ...]:
    """Return step times that reach as far as any trial on the same layout needs, one table per pool.

    They are made once per worker process and layout. Where a step is cut into micro-batches, which depend on the token
    budget, each budget has tables of its own. Empty where the layout does not fit with the largest limits: then each
    trial makes its own.
    """
    from perfmodel import simulator

    rank = rank_of(settings)
    one = bench.contenders[rank - 1]
    cut = any(pool is not None and pool.pp[0] * pool.dp[0] > 1 for pool in (one.decode, one.prefill))
    own = _counts(settings)
    limits = own if cut else {**own, **bench.widest}
    key = (rank, tuple(sorted(limits.items())))
    if key not in bench.tables:
        decode, prefill = _pools(one, limits)
        try:
            pools = simulator.pools_of(
                bench.model, decode, one.traffic, engine=bench.engine, prefill=prefill, costs=bench.costs
            )
            bench.tables[key] = tuple(pool.table for pool in pools)
        except InputError:
            bench.tables[key] = ()
    return bench.tables[key]


def priced(plan: Plan, bench: Bench, numbers: tuple[int, ...], task: Task, figures: dict[str, Any]) -> dict[str, Any]:
    """Return the figures of a trial with its devices, its cost and its share of the limits of the scenario.

    Figures of settings that cannot run stay as they are. The power of a device is that of the plan. numbers: the
    candidates of the study, by rank from 1.
    """
    if "problem" in figures:
        return figures
    settings, _ = task
    _, decode, prefill = bench.layouts(settings)
    scorer, number = plan.scorer, numbers[rank_of(settings) - 1]
    pools = [decode] if prefill is None else [prefill, decode]
    bill = scorer.tariff.bill(
        *((p.device, p.devices_per_replica, p.replicas) for p in pools), caps=tuple(p.power_cap for p in pools)
    )
    held = [(int(p.device[0]), float(p.devices_per_replica[0] * p.replicas[0])) for p in pools]
    devices = sum(count for _, count in held)
    scale = devices / float(plan.columns["devices"][number])
    usd = float(
        hourly_usd(bill, plan.columns["mean_power_w"][[number]] * scale, scorer.site, scorer.tariff.money.ownership)[0]
    )
    limits, shares = scorer.limits, [devices / scorer.limits.devices, float(bill["nodes"][0]) / scorer.limits.nodes]
    shares += [usd / limits.usd_per_hour, float(plan.columns["power_w"][number]) * scale / limits.power]
    for device in {device for device, _ in held}:
        shares.append(sum(count for d, count in held if d == device) / max(float(scorer.stock[device]), LEAST_STOCK))
    known = [share for share in shares if share == share]
    money = {"usd_per_hour": usd, "usd_per_million_tokens": float(usd_per_million_tokens(usd, figures["output_tok_s"]))}
    return {**figures, **money, "devices": devices, "share_of_limits": max(known, default=0.0)}
