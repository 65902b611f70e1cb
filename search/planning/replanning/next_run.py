"""Say which single benchmark run is worth taking before the hardware of a plan is chosen, and what it is worth.

The factors on the parts of each system (a device under an engine) are uncertain: their spread is that of published
systems, or what own runs left of it (`perfmodel.user_calibration`). The scenario is planned once per draw of the
factors, with the same draws for all systems. Today's choice is the system with the least mean cost over the draws.

A run on a device reveals part of its factors (`runs`), and so part of its cost in each draw; the choice
can then differ by draw. The value of the run is the mean saving (the expected value of sample information). A draw in
which nothing on a device keeps the SLOs costs `FAILED` times the dearest draw.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from hwdb import Infeasible, InputError
from perfmodel.arrays import Array, Mask
from perfmodel.engines import PARTS, Adjustment
from perfmodel.money import HOURS_PER_MONTH
from search.planning.plan_making.planner import plan
from search.planning.replanning.runs import Draw, Run, known_of, told_by

if TYPE_CHECKING:
    from search.planning.plan_making.ranked_plan import Plan
    from search.scenario import Scenario

#: Cost of a draw in which nothing on a device qualifies, over its dearest draw. Chosen: twice the hardware serves.
FAILED = 2.0
#: Configurations of a device whose runs are compared: the plan's best there. Chosen: further ones cost more per run.
CONFIGURATIONS = 3
#: Called with (plans made, plans to make).
Progress = Callable[[int, int], None]
#: A system: the names of the devices that a candidate uses, and its engine.
System = tuple[tuple[str, ...], str]


@dataclass(frozen=True)
class RunWorth:
    """Holds what a run on one device is worth.

    device, engine: where to run. run: the configuration and the load, of one replica. told: share of what is not known
    of the device's cost that the run tells. usd: what the run costs. gain_usd_per_month: what it saves, on average.
    most_usd_per_month: what knowing the device for certain saves. chance: share of draws in which the device is in the
    cheapest choice.
    """

    device: str
    engine: str
    run: Run
    told: float
    usd: float
    gain_usd_per_month: float
    most_usd_per_month: float
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
        unpriced = dict.fromkeys(name for (names, _), usd in numbers.items() if not np.isfinite(usd) for name in names)
        text = f"no price is known for {', '.join(unpriced) or 'any device'}; give [hardware] usd_per_hour for each"
        raise InputError(f"{scenario.path}: {text}")
    random = np.random.default_rng(seed)
    costs: dict[System, list[float]] = {system: [] for system in numbers}
    drawn: list[Draw] = []
    for turn in range(draws):
        factors = draw_of(scenario, random)
        drawn.append(factors)
        seen = _winners(plan(_with_draw(scenario, factors)))
        for system in costs.keys() | seen.keys():
            costs.setdefault(system, [np.nan] * turn).append(seen.get(system, np.nan))
        if progress:
            progress(turn + 1, draws)
    table = {system: _filled(np.array(values)) for system, values in costs.items() if np.isfinite(values).any()}
    return _worth(found, table, minutes, drawn)


def draw_of(scenario: Scenario, random: np.random.Generator) -> Draw:
    """Return one draw of the log factors of each engine family on each device that a scenario offers."""
    database = scenario.hardware()
    return {
        (device.name, one.family): random.normal(middle, spread)
        for one in scenario.engines
        for device in (database.device(name) for name in scenario.offer.devices)
        for middle, spread in [known_of(one, device)]
    }


def _with_draw(scenario: Scenario, factors: Draw) -> Scenario:
    """Return the scenario with engines whose factors are those of a draw."""
    drawn = [
        Adjustment(device, family, tuple(zip(PARTS, np.exp(one).tolist(), strict=True)))
        for (device, family), one in factors.items()
    ]
    return scenario.with_engines(one.adjusted_by(drawn) for one in scenario.engines)


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
    return [(int(numbers[at]), found.device_names(int(numbers[at]))) for at in sorted(first)]


def _filled(values: Array) -> Array:
    """Return costs with draws in which nothing qualified counted as `FAILED` times the dearest."""
    return np.where(np.isfinite(values), values, FAILED * np.nanmax(values))


def _worth(found: Plan, costs: Mapping[System, Array], minutes: float, drawn: Sequence[Draw]) -> NextRuns:
    """Return what runs are worth, given the cost of each system in each draw."""
    table = np.array(list(costs.values()))
    systems = list(costs)
    least, mean = table.min(axis=0), table.mean(axis=1)
    chosen = int(np.argmin(mean))
    workload = found.scenario.workload
    lengths = tuple(float(np.sum(one * workload.share)) for one in (workload.input_tokens, workload.output_tokens))
    runs = [
        one
        for (device, engine), (there, rows) in _rows(found).items()
        for one in _worths(device, engine, costs, told_by(there, device, rows, lengths, drawn, costs), minutes)
    ]
    runs.sort(key=lambda run: (round(run.usd - run.gain_usd_per_month, 2), -run.told))
    return NextRuns(
        planned=found.row(found.best),
        choice=systems[chosen],
        chance=float((table[chosen] <= least).mean()),
        regret_usd_per_month=float((table[chosen] - least).mean()) * HOURS_PER_MONTH,
        runs=tuple(runs),
        costs=costs,
        model=found.scenario.model,
        input_tokens=lengths[0],
        output_tokens=lengths[1],
    )


def _worths(
    device: str, engine: str, costs: Mapping[System, Array], runs: Iterable[tuple[Run, float]], minutes: float
) -> Iterator[RunWorth]:
    """Yield what each run on a device is worth; nothing for a device that is in no system."""
    table = np.array(list(costs.values()))
    touched = np.array([device in devices and engine == e for devices, e in costs])
    if not touched.any():
        return
    cheapest = (table <= table.min(axis=0))[touched].any(axis=0).mean()
    for run, told in runs:
        most, gain = (_gain(table, touched, share) for share in (1.0, told))
        yield RunWorth(
            device=device,
            engine=engine,
            run=run,
            told=told,
            usd=run.usd_per_hour * minutes / 60.0,
            gain_usd_per_month=gain * HOURS_PER_MONTH,
            most_usd_per_month=most * HOURS_PER_MONTH,
            chance=float(cheapest),
        )


def _gain(table: Array, touched: Mask, told: float) -> float:
    """Return the USD per hour that knowing a share of the variance of some systems' costs saves, mean over the draws.

    table: (systems, draws). What the run tells of a cost varies by the square root of that share around its mean.
    """
    mean = table.mean(axis=1)
    known = mean[:, None] + np.where(touched[:, None], np.sqrt(told), 0.0) * (table - mean[:, None])
    return max(0.0, float(mean.min() - known.min(axis=0).mean()))  # a mean of least costs exceeds none but by rounding


def _rows(found: Plan) -> dict[tuple[str, str], tuple[Plan, list[Mapping[str, Any]]]]:
    """Return (device, engine) -> (plan, flat rows of its best colocated candidates on that device alone)."""
    out: dict[tuple[str, str], tuple[Plan, list[Mapping[str, Any]]]] = {}
    for one in (found, *found.rivals):
        engine = one.scenario.engine.name
        for number in one.order[: int(one.qualifies.sum())]:
            if one.disaggregated(int(number)):
                continue
            device = one.device_names(int(number))[0]
            _, rows = out.setdefault((device, engine), (one, []))
            if len(rows) < CONFIGURATIONS:
                rows.append(one.row(int(number)))
    return out
