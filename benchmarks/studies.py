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
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from benchmarks import studies_accidents
from benchmarks.power import table_text
from benchmarks.studies_settings import CHAT, MOST_TRIALS, NEAR, REQUESTS, ROOT, setting_rows, told, wide_rows
from search.planning import space_of
from search.planning.plan_making.planner import scorer_of
from search.scenario import load_scenario
from search.searchers import SCORE, OptunaSearcher
from search.studies import executor_of

SMALL = ROOT / "examples" / "small-4090.toml"
COMMAND = "python -m benchmarks.studies --ray"

HEAD = f"""# What studies find, and what accidents cost

Written by `{COMMAND}`; [tuning](tuning.md) explains the command `perfmodel tune`.

"""


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
                "Optuna, median": told(tpe),
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

{table_text(plans)}
The closed form prices many candidates at once, so that `plan` is exhaustive by default.

## Where only the simulator knows

Every combination of the settings was simulated once, so that the best is known. Then studies without warm start look
their replays up. Counted until a trial that was replayed in full ({REQUESTS:,} requests) keeps the SLO and is at most
1 % worse than the best; batches of 8, {seeds} seeds, at most {MOST_TRIALS} trials. A short replay costs its
share of the requests.

{table_text(settings)}
A wider space (three layouts, replicas, router, token budget, sequences) was not tried as a whole. Least joules of the
devices per output token, within the SLO, after equal amounts of simulation, median over {seeds} seeds (least to most):

{table_text(wide)}
The first 10 trials of Optuna's sampler are chance, and with batches of 8 the first 16 are. The same seed proposes the
same first 16 trials to both, so that a study of a few dozen trials gains by its short replays and by its warm start
rather than by the sampler. The sampler gains where there are hundreds of candidates and few good ones (second row of
the first table).

## Accidents

Each study of `{SMALL.name}` was run again with an accident in its middle, and compared, trial by trial, with the study
that ran undisturbed. *Kept*: trials that were finished before the accident and are the same in the end. *Equal*:
whether all trials in the end are those of the undisturbed study. *Replays told*: by the process that ended the study.

{table_text(accidents)}
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
