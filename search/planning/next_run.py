"""Say which single benchmark run is worth taking before the hardware of a plan is chosen, and what it is worth.

The factors on the parts of each system (a device under an engine) are known to a spread, that of published systems or
what own runs left of it (`perfmodel.feedback`). The scenario is planned once per draw of the factors, the same draws
for all systems. The choice today has the least mean cost over the draws. A run on a device tells its factors: with it,
the choice is made knowing what that device costs in each draw. The mean of what this saves is the most that the run can
be worth, as runs do not tell everything. A draw in which nothing on a device keeps the SLOs counts with `FAILED` times
the dearest draw.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from hwdb import Infeasible, InputError
from perfmodel.arrays import Array
from perfmodel.engines import PARTS, Adjustment, Engine, adjustment_on
from search.planning.planner import plan

if TYPE_CHECKING:
    from hwdb import Device
    from search.planning.ranked_plan import Plan
    from search.scenario import Scenario

#: Cost of a draw in which nothing on a device qualifies, over its dearest draw. Chosen: twice the hardware serves.
FAILED = 2.0
HOURS_PER_MONTH = 730.0
#: Called with (plans made, plans to make).
Progress = Callable[[int, int], None]
#: A system: the names of the devices that a candidate uses, and its engine.
System = tuple[tuple[str, ...], str]


@dataclass(frozen=True)
class RunWorth:
    """Holds what a run on one device is worth.

    device, engine: where to run. row: the plan's best candidate there, a flat row; the run is one replica of it under
    its part of the load. usd: what the run costs. gain_usd_per_month: what it saves at most, on average. chance: share
    of draws in which the device is in the cheapest choice.
    """

    device: str
    engine: str
    row: Mapping[str, Any]
    usd: float
    gain_usd_per_month: float
    chance: float

    @property
    def pays(self) -> bool:
        """Return whether a month of what the run saves is more than the run costs."""
        return self.gain_usd_per_month > self.usd


@dataclass(frozen=True)
class NextRuns:
    """Holds the choice of today and what runs are worth, best first.

    planned: the plan's winner with the likeliest factors, a flat row. choice: the system of least mean cost. chance:
    share of draws in which it is the cheapest. regret_usd_per_month: what the choice costs per month beyond the
    cheapest, mean over the draws. costs: system -> (draws,) USD per hour. model, input_tokens, output_tokens: what is
    served, tokens as means.
    """

    planned: Mapping[str, Any]
    choice: System
    chance: float
    regret_usd_per_month: float
    runs: tuple[RunWorth, ...]
    costs: Mapping[System, Array]
    model: str
    input_tokens: float
    output_tokens: float


def next_runs(
    scenario: Scenario, *, draws: int = 12, minutes: float = 10.0, seed: int = 0, progress: Progress | None = None
) -> NextRuns:
    """Plan `scenario` once per draw, and return what a run on each device of its best candidates is worth.

    minutes: how long a run takes. Raises `Infeasible` where nothing qualifies, `InputError` without prices.
    """
    found = plan(scenario)
    if not found.feasible:
        raise Infeasible(found.message)
    numbers = _winners(found)
    if not all(np.isfinite(list(numbers.values()))) or not numbers:
        raise InputError(f"{scenario.path}: a device has no known price; give [hardware] usd_per_hour for each")
    random = np.random.default_rng(seed)
    costs: dict[System, list[float]] = {system: [] for system in numbers}
    for turn in range(draws):
        seen = _winners(plan(_drawn(scenario, random)))
        for system in costs.keys() | seen.keys():
            costs.setdefault(system, [np.nan] * turn).append(seen.get(system, np.nan))
        if progress:
            progress(turn + 1, draws)
    table = {system: _filled(np.array(values)) for system, values in costs.items() if np.isfinite(values).any()}
    return _worth(found, table, minutes)


def _drawn(scenario: Scenario, random: np.random.Generator) -> Scenario:
    """Return the scenario with engines whose factors are drawn, on every device that it offers."""
    database = scenario.hardware()
    devices = [database.device(name) for name in scenario.offer.devices]
    engines = [_with_draw(one, devices, random) for one in (scenario.engine, *scenario.more_engines)]
    return replace(scenario, engine=engines[0], more_engines=tuple(engines[1:]))


def _with_draw(engine: Engine, devices: Sequence[Device], random: np.random.Generator) -> Engine:
    """Return an engine with one draw of the factors on each device, around what own runs say where there are some."""
    from perfmodel.feedback import priors

    prior = dict(zip(PARTS, priors().factors, strict=True))
    drawn = []
    for device in devices:
        own = adjustment_on(device, engine.adjustments)
        spreads = prior | (dict(own.spreads) if own else {})
        middle = {part: own.factor(part) if own else 1.0 for part in PARTS}
        factors = tuple((part, middle[part] * float(np.exp(random.normal(0.0, spreads[part])))) for part in PARTS)
        drawn.append(Adjustment(device.name, engine.family, factors))
    return engine.adjusted_by(drawn)


def _winners(found: Plan) -> dict[System, float]:
    """Return system -> least USD per hour among the candidates that qualify, under each engine of the plan."""
    out: dict[System, float] = {}
    for one in (found, *found.rivals):
        for number, devices in _first_of_each(one):
            out[devices, one.scenario.engine.name] = float(one.columns["usd_per_hour"][number])
    return out


def _first_of_each(found: Plan) -> list[tuple[int, tuple[str, ...]]]:
    """Return (number, names of its devices) of the cheapest candidate that qualifies on each device or pair of them."""
    numbers = found.order[: int(found.qualifies.sum())]
    numbers = numbers[np.argsort(found.columns["usd_per_hour"][numbers], kind="stable")]
    apart = numbers >= len(found.layouts)
    kinds = np.full((len(numbers), 2), -1)
    kinds[~apart, 0] = found.layouts.device[numbers[~apart]]
    pairs = found.pairs.take(numbers[apart] - len(found.layouts))
    kinds[apart] = np.stack([pairs.prefill.device, pairs.decode.device], axis=1) if apart.any() else kinds[apart]
    _, first = np.unique(kinds, axis=0, return_index=True)
    return [(int(numbers[at]), _devices_of(found, int(numbers[at]))) for at in sorted(first)]


def _devices_of(found: Plan, number: int) -> tuple[str, ...]:
    """Return the names of the devices that a candidate uses, each once."""
    pools = found.pool_deployments(number) if found.disaggregated(number) else (found.deployment(number),)
    return tuple(dict.fromkeys(pool.devices[int(pool.device[0])].name for pool in pools))


def _filled(values: Array) -> Array:
    """Return costs with draws in which nothing qualified counted as `FAILED` times the dearest."""
    return np.where(np.isfinite(values), values, FAILED * np.nanmax(values))


def _worth(found: Plan, costs: Mapping[System, Array], minutes: float) -> NextRuns:
    """Return what runs are worth, given the cost of each system in each draw."""
    table = np.array(list(costs.values()))
    systems = list(costs)
    least, mean = table.min(axis=0), table.mean(axis=1)
    chosen = int(np.argmin(mean))
    cheapest = table <= least
    rows = _rows(found)
    runs = []
    for device, engine in dict.fromkeys((d, engine) for devices, engine in systems for d in devices):
        touched = np.array([device in devices and engine == e for devices, e in systems])
        if (device, engine) not in rows:
            continue
        known = np.where(touched[:, None], table, mean[:, None]).min(axis=0).mean()
        row = rows[device, engine]
        runs.append(
            RunWorth(
                device=device,
                engine=engine,
                row=row,
                usd=float(row["usd_per_hour"]) / max(float(row["replicas"]), 1.0) * minutes / 60.0,
                gain_usd_per_month=float(mean[chosen] - known) * HOURS_PER_MONTH,
                chance=float(cheapest[touched].any(axis=0).mean()),
            )
        )
    runs.sort(key=lambda run: run.usd - run.gain_usd_per_month)
    regret = float((table[chosen] - least).mean()) * HOURS_PER_MONTH
    workload = found.scenario.workload
    return NextRuns(
        planned=found.row(found.best),
        choice=systems[chosen],
        chance=float(cheapest[chosen].mean()),
        regret_usd_per_month=regret,
        runs=tuple(runs),
        costs=costs,
        model=found.scenario.model,
        input_tokens=float(np.sum(workload.input_tokens * workload.share)),
        output_tokens=float(np.sum(workload.output_tokens * workload.share)),
    )


def _rows(found: Plan) -> dict[tuple[str, str], Mapping[str, Any]]:
    """Return (device, engine) -> the flat row of the best colocated candidate on that device alone."""
    return {
        (devices[0], one.scenario.engine.name): one.row(number)
        for one in (found, *found.rivals)
        for number, devices in _first_of_each(one)
        if not one.disaggregated(number)
    }
