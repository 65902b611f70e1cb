"""Measures what Optuna finds in how many trials, and what accidents cost a study; writes docs/studies.md.

    python -m benchmarks.studies [--seeds 7] [--ray] [--keep FILE.json] [-o docs/studies.md]

--keep holds the rows that were measured, which take some minutes, for the next time.
--ray also starts a Ray cluster of two nodes on this machine (needs perfmodel[ray]) and kills a worker and a node of it.
Needs PostgreSQL for the rows about it; without it the page says so.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from benchmarks import studies_accidents
from search.planning import plan, space_of
from search.planning.planner import scorer_of
from search.scenario import load_scenario
from search.searchers import SCORE, OptunaSearcher
from search.studies import Axis, Budget, Executor, Run, Storage, executor_of, read_axis
from search.studies.axes import axes_of
from search.studies.objectives import Aims, aims_of
from search.studies.pruning import short_of
from search.studies.replays import bench_of, priced, replayed
from search.studies.storage import quiet
from search.studies.trials import read
from search.studies.tuning import contender_of, in_flight, numbers_of, trials_of

ROOT = Path(__file__).resolve().parents[1]
CHAT, SMALL = ROOT / "examples" / "chat-70b-h100.toml", ROOT / "examples" / "small-4090.toml"
COMMAND = "python -m benchmarks.studies --ray"
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

HEAD = f"""# What studies find, and what accidents cost

Written by `{COMMAND}`; [tuning](tuning.md) explains the command `perfmodel tune`.

"""


@dataclass(frozen=True)
class Space:
    """A space whose every point is known. name: as the page calls it. values: axis -> values to vary."""

    name: str
    scenario: Path
    changes: Mapping[str, Mapping[str, Any]]
    objective: str
    vary: tuple[str, ...]


#: Spaces of plans: the closed form knows every candidate.
PLANS = {
    "chat, cost per token": (
        CHAT,
        {
            "search": {"tp": [1, 2, 4, 8], "pp": [1, 2], "weight": ["bf16", "fp8"], "max_num_seqs": [16, 32, 64, 128]},
            "objective": {"rank_by": "usd_per_million_tokens"},
        },
    ),
    "chat, least TTFT": (
        CHAT,
        {
            "search": {
                "tp": [1, 2, 4, 8],
                "pp": [1, 2],
                "weight": ["bf16", "fp8"],
                "kv": ["bf16", "fp8"],
                "max_num_batched_tokens": [512, 1024, 2048, 4096, 8192, 16384],
                "max_num_seqs": [16, 32, 64, 128, 256, 512],
            },
            "objective": {"rank_by": "ttft_ms"},
        },
    ),
}
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


def plan_rows(seeds: int) -> list[dict[str, Any]]:
    """Return, per space of plans, how many candidates Optuna and chance score until one is near the best."""
    rows = []
    for name, (scenario, changes) in PLANS.items():
        asked = load_scenario(scenario, changes=changes)
        scorer = scorer_of(asked)
        legal = space_of(asked, scorer.target.model, scorer.tariff).legal()
        begin = time.process_time()
        table = np.asarray(scorer.score(legal.deployments(np.arange(len(legal))))[SCORE])
        seconds = time.process_time() - begin
        goal = np.min(table[np.isfinite(table)])
        near = table <= goal + (NEAR - 1.0) * abs(goal)
        tpe = [_scored(legal, table, near, seed) for seed in range(seeds)]
        chance = [int(np.argmax(np.random.default_rng(s).permutation(near))) + 1 for s in range(200)]
        rows.append(
            {
                "space": name,
                "candidates": f"{len(legal):,}",
                "within 1 %": f"{int(near.sum()):,}",
                "exhaustive, CPU s": f"{seconds:.1f}",
                "Optuna, median": _told(tpe),
                "random, median": f"{median(chance):.0f}",
                "Optuna / random": f"{median(tpe) / median(chance):.2f}",
            }
        )
        print(rows[-1], flush=True)
    return rows


class _Rows:
    """Legal candidates that stand for themselves, so that scoring is a look into a table."""

    def __init__(self, legal: Any) -> None:
        self.space, self.index, self._count = legal.space, legal.index, len(legal)

    def __len__(self) -> int:
        return self._count

    def deployments(self, rows: Any) -> Any:
        """Return the rows themselves."""
        return rows


def _scored(legal: Any, table: Any, near: Any, seed: int) -> float:
    """Return how many candidates Optuna's searcher scores until one is near the best; inf where none is."""
    scored: list[int] = []

    def score(rows: Any) -> dict[str, Any]:
        scored.extend(np.asarray(rows).tolist())
        return {SCORE: table[rows]}

    searcher = OptunaSearcher(trials=min(400, 2 * len(table)), batch=10, seed=seed)
    searcher.search(_Rows(legal), score)  # type: ignore[arg-type]
    hits = np.nonzero(near[scored])[0]
    return float(hits[0] + 1) if len(hits) else np.inf


@dataclass(frozen=True)
class Known:
    """Figures of every combination, by settings as text and requests. short: requests of a short replay."""

    axes: tuple[Axis, ...]
    aims: Aims
    figures: Mapping[tuple[str, int], dict[str, Any]]
    best: float
    short: int


def campaign(space: Space, executor: Executor) -> Known:
    """Simulate every combination of a space, in full and shortly, on the workers of `executor`."""
    made = plan(load_scenario(space.scenario, changes=space.changes))
    budget = Budget(requests=REQUESTS)
    numbers = numbers_of(made, budget)
    contenders = (contender_of(made, numbers[0], budget),)
    aims = aims_of([space.objective], made.scorer.target.slo)
    axes = axes_of(made, numbers, [read_axis(text) for text in space.vary], prefixes=False)
    bench = bench_of(made, contenders, axes, aims.wanted, 0)
    names = [axis.name for axis in axes]
    settings = [dict(zip(names, values, strict=True)) for values in product(*(a.values for a in axes))]
    short = short_of(REQUESTS, in_flight(made, numbers))
    tasks = [(one, count) for one in settings for count in (short, REQUESTS) if count]
    found = {}
    workers = executor.start(replayed, bench)
    for at, figures in workers.run(tasks):
        found[_key(*tasks[at])] = priced(made, bench, numbers, tasks[at], figures)
    workers.close()
    kept = [aims.losses(f)[0] for (_, count), f in found.items() if count == REQUESTS and aims.miss(f) <= 0]
    return Known(axes, aims, found, min(kept), short)


def _key(settings: Mapping[str, Any], count: int) -> tuple[str, int]:
    return str(sorted(settings.items())), count


def look_up(known: Mapping[tuple[str, int], dict[str, Any]], task: Any) -> dict[str, Any]:
    """Return the figures of a task that was simulated before."""
    return known[_key(*task)]


def setting_rows(seeds: int, executor: Executor) -> list[dict[str, Any]]:
    """Return, per space of settings, how many trials and replays each sampler takes until one is near the best."""
    rows = []
    for space in SETTINGS:
        known = campaign(space, executor)
        size = sum(count == REQUESTS for _, count in known.figures)
        near = [f for (_, n), f in known.figures.items() if n == REQUESTS and _near(known, f)]
        row: dict[str, Any] = {"space": space.name, "combinations": str(size), "within 1 %": str(len(near))}
        row["requests of a short replay"] = str(known.short)
        for name, sampler, short in SAMPLING:
            found = [_trials_until(known, sampler, seed, short=short) for seed in range(seeds)]
            row[f"{name}: trials"] = _told([trials for trials, _ in found])
            row[f"{name}: full replays' worth"] = _told([cost for _, cost in found])
        rows.append(row)
        print(row, flush=True)
    return rows


def _near(known: Known, figures: Mapping[str, Any]) -> bool:
    """Return whether a trial keeps the SLO and is at most 1 % worse than the best."""
    return known.aims.miss(figures) <= 0 and known.aims.losses(figures)[0] <= NEAR * known.best


def _trials_until(known: Known, sampler: str, seed: int, *, short: bool) -> tuple[float, float]:
    """Return (trials, full replays' worth of simulation) until a full replay is near the best; inf if none is."""
    budget = Budget(trials=MOST_TRIALS, sampler=sampler, seed=seed, short_first=short)
    with quiet():
        trials = trials_of(known.axes, known.aims, budget, Storage(), {"of": "known figures"})
        workers = executor_of().start(look_up, known.figures)
        Run(trials, workers, budget, lambda _, f: f, REQUESTS, known.short if short else 0).go(None)
        told = trials.known()
    seen: dict[tuple[str, str], float] = {}
    share = known.short / REQUESTS
    for trial in told:
        for rung, cost in (("short", share), ("full", 1.0)):
            if rung in trial.user_attrs:
                seen.setdefault((rung, str(sorted(trial.user_attrs["settings"].items()))), cost)
        if "full" in trial.user_attrs and _near(known, read(trial.user_attrs["full"])):
            return trial.number + 1.0, sum(seen.values())
    return np.inf, np.inf


def wide_rows(seeds: int) -> list[dict[str, Any]]:
    """Return the best of a space too wide to try all, after equal amounts of simulation, by sampler."""
    made = plan(load_scenario(WIDE.scenario, changes=WIDE.changes))
    budget = Budget(requests=REQUESTS, candidates=3)
    numbers = numbers_of(made, budget)
    contenders = tuple(contender_of(made, number, budget) for number in numbers)
    aims = aims_of([WIDE.objective], made.scorer.target.slo)
    axes = axes_of(made, numbers, [read_axis(text) for text in WIDE.vary], prefixes=False)
    bench = bench_of(made, contenders, axes, aims.wanted, 0)
    known: dict[tuple[str, int], dict[str, Any]] = {}

    def figures(_: Any, task: Any) -> dict[str, Any]:
        if _key(*task) not in known:
            known[_key(*task)] = priced(made, bench, numbers, task, replayed(bench, task))
        return known[_key(*task)]

    brief = short_of(REQUESTS, in_flight(made, numbers))
    rows, size = [], int(np.prod([len(a.values) for a in axes]))
    for name, sampler, short in SAMPLING:
        found = []
        for seed in range(seeds):
            chosen = Budget(trials=48 if short else max(SPENT), sampler=sampler, seed=seed, short_first=short)
            with quiet():
                trials = trials_of(axes, aims, chosen, Storage(), {"of": "a wide space"})
                workers = executor_of().start(figures, None)
                Run(trials, workers, chosen, lambda _, f: f, REQUESTS, brief if short else 0).go(None)
                found.append(_best_by_cost(trials.known(), aims, brief / REQUESTS))
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


def _told(values: Sequence[float]) -> str:
    """Return the median and the range of values; those that never got there as 'more'."""
    middle, low, high = median(values), min(values), max(values)
    return f"{_count(middle)} ({_count(low)} to {_count(high)})"


def _count(value: float) -> str:
    return f"{value:.0f}" if np.isfinite(value) else "never"


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return rows as a Markdown table."""
    names = list(rows[0])
    lines = [names, ["---"] * len(names), *([str(row[n]) for n in names] for row in rows)]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines) + "\n"


def measured(keep: Path | None, part: str, measure: Callable[[], Any]) -> Any:
    """Return the rows of a part of the page: those that `keep` holds, else measured now and kept."""
    known = json.loads(keep.read_text(encoding="utf-8")) if keep is not None and keep.exists() else {}
    if part not in known:
        known[part] = measure()
        if keep is not None:
            keep.write_text(json.dumps(known, indent=1), encoding="utf-8")
    return known[part]


def page(seeds: int, *, ray: bool, jobs: int, keep: Path | None = None) -> str:
    """Measure everything and return the page."""
    plans = measured(keep, "plans", lambda: plan_rows(seeds))
    settings = measured(keep, "settings", lambda: setting_rows(seeds, executor_of(jobs=jobs)))
    wide = measured(keep, "wide", lambda: wide_rows(seeds))
    accidents, notes = measured(keep, "accidents", lambda: studies_accidents.rows(SMALL, ray=ray))
    return (
        HEAD
        + f"""## Where every candidate can be scored

The closed form scores all candidates of a plan. `OptunaSearcher` proposes them in batches of 10; counted are the
candidates that it scores until one is at most 1 % worse than the best of all. Median over {seeds} seeds (least to
most), and the median of chance over 200 orders.

{table(plans)}
The closed form prices many candidates at once, so that `plan` is exhaustive by default.

## Where only the simulator knows

Every combination of the settings was simulated once, so that the best is known. Then studies without warm start look
their replays up. Counted until a trial that was replayed in full ({REQUESTS:,} requests) keeps the SLO and is at most
1 % worse than the best; batches of 8, {seeds} seeds, at most {MOST_TRIALS} trials. A short replay costs its
share of the requests.

{table(settings)}
A wider space (three layouts, replicas, router, token budget, sequences) was not tried as a whole. Least joules of the
devices per output token, within the SLO, after equal amounts of simulation, median over {seeds} seeds (least to most):

{table(wide)}
## Accidents

Each study of `{SMALL.name}` was run again with an accident in its middle, and compared, trial by trial, with the study
that ran undisturbed. *Kept*: trials that were finished before the accident and are the same in the end. *Equal*:
whether all trials in the end are those of the undisturbed study. *Replays told*: by the process that ended the study.

{table(accidents)}
{notes}"""
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=7)
    parser.add_argument("--keep", type=Path)
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--ray", action="store_true")
    parser.add_argument("-o", "--output", type=Path, default=ROOT / "docs" / "studies.md")
    given = parser.parse_args(arguments)
    given.output.write_text(page(given.seeds, ray=given.ray, jobs=given.jobs, keep=given.keep), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
