"""Measures what samplers find in spaces of settings, where only the simulator knows; rows of docs/studies.md."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import product
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

import numpy as np

from search.planning import plan
from search.scenario import load_scenario
from search.studies import Axis, Budget, Executor, Run, Storage, executor_of, read_axis
from search.studies.axes import axes_of
from search.studies.objectives import Aims, aims_of
from search.studies.pruning import short_of
from search.studies.replays import Bench, Task, bench_of, priced, replayed
from search.studies.storage import quiet
from search.studies.trials import read
from search.studies.tuning import contender_of, in_flight, numbers_of, trials_of

if TYPE_CHECKING:
    import optuna

ROOT = Path(__file__).resolve().parents[1]
CHAT = ROOT / "examples" / "chat-70b-h100.toml"
#: A result counts as found from here on: at most 1 % worse than the best of all.
NEAR = 1.01
#: Trials after which a sampler is given up, and requests of a full replay.
MOST_TRIALS, REQUESTS = 96, 1000

#: Samplers that are compared: name, sampler, whether short replays come first.
SAMPLING = (
    ("Optuna, full replays", "tpe", False),
    ("Optuna, short replays first", "tpe", True),
    ("random, full replays", "random", False),
)
#: Amounts of simulation at which samplers are compared, in full replays.
SPENT = (8, 16, 24)


@dataclass(frozen=True)
class Space:
    """A space of settings. name: as the page calls it. changes: to the scenario. vary: settings with their values."""

    name: str
    scenario: Path
    changes: Mapping[str, Mapping[str, Any]]
    objective: str
    vary: tuple[str, ...]


#: Spaces of settings: only the simulator knows. Rates near what the planned replicas serve, where settings matter.
SETTINGS = (
    Space(
        "vLLM, p99 of TTFT",
        CHAT,
        {"workload": {"request_rate_rps": 16}},
        "ttft_ms_p99",
        ("more_replicas=0", "max_num_batched_tokens=256:16384:7:log", "max_num_seqs=16:512:6:log"),
    ),
    Space(
        "SGLang, p99 of E2E",
        CHAT,
        {"workload": {"request_rate_rps": 16}, "engine": {"name": "sglang"}},
        "e2e_ms_p99",
        (
            "more_replicas=0",
            "max_num_batched_tokens=1024:8192:4:log",
            "max_num_seqs=16:512:6:log",
            "admission_headroom=0,0.1,0.4",
        ),
    ),
)

#: A space too wide to try all of it: three layouts, replicas, routers and limits at once.
WIDE = Space("chat, energy per output token", CHAT, {}, "energy_j_per_output_token", ())


@dataclass(frozen=True)
class Replays:
    """What all replays of a space share. price: adds the cost to figures. short: requests of a short replay."""

    axes: tuple[Axis, ...]
    aims: Aims
    bench: Bench
    price: Callable[[Task, dict[str, Any]], dict[str, Any]]
    short: int


def replays_of(space: Space, candidates: int = 1) -> Replays:
    """Plan the scenario of a space and return what the replays of its best candidates share."""
    made = plan(load_scenario(space.scenario, changes=space.changes))
    budget = Budget(requests=REQUESTS, candidates=candidates)
    numbers = numbers_of(made, budget)
    contenders = tuple(contender_of(made, number, budget) for number in numbers)
    aims = aims_of([space.objective], made.scorer.target.slo)
    axes = axes_of(made, numbers, [read_axis(text) for text in space.vary], prefixes=False)
    bench = bench_of(made, contenders, axes, aims.wanted, 0)
    short = short_of(REQUESTS, in_flight(made, numbers))
    return Replays(axes, aims, bench, partial(priced, made, bench, numbers), short)


def studied(
    of: Replays, budget: Budget, work: Callable[[Any, Task], dict[str, Any]]
) -> Sequence[optuna.trial.FrozenTrial]:
    """Return the trials of a study in memory. work: takes None and a task, and returns priced figures."""
    with quiet():
        trials = trials_of(of.axes, of.aims, budget, Storage(), {"of": "a benchmark"})
        workers = executor_of().start(work, None)
        Run(trials, workers, budget, lambda _, f: f, REQUESTS, of.short if budget.short_first else 0).go(None)
        return trials.known()


@dataclass(frozen=True)
class Known:
    """Figures of every combination of a space, by settings as text and requests. best: least loss within the SLO."""

    of: Replays
    figures: Mapping[tuple[str, int], dict[str, Any]]
    best: float


def campaign(space: Space, executor: Executor) -> Known:
    """Simulate every combination of a space, in full and shortly, on the workers of `executor`."""
    of = replays_of(space)
    names = [axis.name for axis in of.axes]
    settings = [dict(zip(names, values, strict=True)) for values in product(*(a.values for a in of.axes))]
    tasks = [(one, count) for one in settings for count in (of.short, REQUESTS) if count]
    found = {}
    workers = executor.start(replayed, of.bench)
    for at, figures in workers.run(tasks):
        found[_key(*tasks[at])] = of.price(tasks[at], figures)
    workers.close()
    kept = [of.aims.losses(f)[0] for (_, count), f in found.items() if count == REQUESTS and of.aims.miss(f) <= 0]
    return Known(of, found, min(kept))


def _key(settings: Mapping[str, Any], count: int) -> tuple[str, int]:
    return str(sorted(settings.items())), count


def setting_rows(seeds: int, executor: Executor) -> list[dict[str, Any]]:
    """Return, per space of settings, how many trials and replays each sampler takes until one is near the best."""
    rows = []
    for space in SETTINGS:
        known = campaign(space, executor)
        size = sum(count == REQUESTS for _, count in known.figures)
        near = [f for (_, n), f in known.figures.items() if n == REQUESTS and _near(known, f)]
        row: dict[str, Any] = {"space": space.name, "combinations": str(size), "within 1 %": str(len(near))}
        row["requests of a short replay"] = str(known.of.short)
        for name, sampler, short in SAMPLING:
            found = [_trials_until(known, sampler, seed, short=short) for seed in range(seeds)]
            row[f"{name}: trials"] = told([trials for trials, _ in found])
            row[f"{name}: full replays' worth"] = told([cost for _, cost in found])
        rows.append(row)
        print(row, flush=True)
    return rows


def _near(known: Known, figures: Mapping[str, Any]) -> bool:
    """Return whether a trial keeps the SLO and is at most 1 % worse than the best."""
    return known.of.aims.miss(figures) <= 0 and known.of.aims.losses(figures)[0] <= NEAR * known.best


def _trials_until(known: Known, sampler: str, seed: int, *, short: bool) -> tuple[float, float]:
    """Return (trials, full replays' worth of simulation) until a full replay is near the best; inf if none is."""
    budget = Budget(trials=MOST_TRIALS, sampler=sampler, seed=seed, short_first=short)
    found = studied(known.of, budget, lambda _, task: known.figures[_key(*task)])
    seen: dict[tuple[str, str], float] = {}
    share = known.of.short / REQUESTS
    for trial in found:
        for rung, cost in (("short", share), ("full", 1.0)):
            if rung in trial.user_attrs:
                seen.setdefault((rung, str(sorted(trial.user_attrs["settings"].items()))), cost)
        if "full" in trial.user_attrs and _near(known, read(trial.user_attrs["full"])):
            return trial.number + 1.0, sum(seen.values())
    return np.inf, np.inf


def wide_rows(seeds: int) -> list[dict[str, Any]]:
    """Return the best of a space too wide to try all, after equal amounts of simulation, by sampler."""
    of = replays_of(WIDE, candidates=3)
    known: dict[tuple[str, int], dict[str, Any]] = {}

    def figures(_: Any, task: Any) -> dict[str, Any]:
        if _key(*task) not in known:
            known[_key(*task)] = of.price(task, replayed(of.bench, task))
        return known[_key(*task)]

    rows, size = [], int(np.prod([len(a.values) for a in of.axes]))
    for name, sampler, short in SAMPLING:
        found = []
        for seed in range(seeds):
            chosen = Budget(trials=48 if short else max(SPENT), sampler=sampler, seed=seed, short_first=short)
            found.append(_best_by_cost(studied(of, chosen, figures), of.aims, of.short / REQUESTS))
        row: dict[str, Any] = {"space": WIDE.name, "combinations": f"{size:,}", "sampler": name}
        for spent in SPENT:
            best = [min((loss for cost, loss in one if cost <= spent), default=np.inf) for one in found]
            row[f"best after {spent} full replays' worth"] = f"{median(best):.4g} ({min(best):.4g} to {max(best):.4g})"
        rows.append(row)
        print(row, flush=True)
    return rows


def _best_by_cost(trials: Sequence[Any], aims: Aims, share: float) -> list[tuple[float, float]]:
    """Return (full replays' worth spent so far, loss) of each trial that keeps the SLO in a full replay.

    share: of a full replay that a short one costs.
    """
    spent, out = 0.0, []
    for trial in trials:
        spent += share * ("short" in trial.user_attrs) + ("full" in trial.user_attrs)
        if "full" in trial.user_attrs:
            figures = read(trial.user_attrs["full"])
            if aims.miss(figures) <= 0:
                out.append((spent, aims.losses(figures)[0]))
    return out


def told(values: Sequence[float]) -> str:
    """Return the median and the range of values; those that never got there as 'more'."""
    middle, low, high = median(values), min(values), max(values)
    return f"{_count(middle)} ({_count(low)} to {_count(high)})"


def _count(value: float) -> str:
    return f"{value:.0f}" if np.isfinite(value) else "never"
