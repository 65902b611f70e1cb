"""A small study over a made-up service, as a process that tests kill: `python study_driver.py URL TRIALS SECONDS JOBS`.

It prints one JSON object: what became of each trial, and how many replays this process made.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from contextlib import closing
from typing import Any

from made_up_service import service

from perfmodel.workload import Objective, Slo
from search.studies import Budget, Executor, Run, Storage, executor_of, read_axis
from search.studies.objectives import aims_of
from search.studies.storage import quiet
from search.studies.tuning import trials_of

AXES = tuple(
    read_axis(text)
    for text in (
        "router=round_robin,least_loaded,join_shortest_queue",
        "max_num_batched_tokens=512:16384:6:log",
        "max_num_seqs=16:512:6:log",
    )
)
SLO = Slo((Objective("tpot", "mean", 0.05),))
REQUESTS, SHORT = 1000, 125


def study(
    url: str,
    trials: int,
    *,
    shared: Mapping[str, Any] | None = None,
    executor: Executor | None = None,
    budget: Budget | None = None,
    objectives: tuple[str, ...] = ("ttft_ms_p99", "output_tok_s"),
    on_batch: Any = None,
) -> dict[str, Any]:
    """Run or resume the study until it has `trials` trials; return its trials and what this run took."""
    chosen = budget or Budget(trials=trials, batch=4)
    with quiet():
        asked = trials_of(AXES, aims_of(objectives, SLO), chosen, Storage(url, "made-up", True), {"of": "made-up"})
        with closing(asked), closing((executor or executor_of()).start(service, shared or {})) as workers:
            run = Run(asked, workers, chosen, lambda task, figures: figures, REQUESTS, SHORT)
            run.go(on_batch)
            rows = [[t.number, t.state.name, t.user_attrs, t.values] for t in asked.known()]
    return {"rows": rows, "replays": run.replays, "lost": workers.lost}


if __name__ == "__main__":
    where, count, pause, jobs = sys.argv[1], int(sys.argv[2]), float(sys.argv[3]), int(sys.argv[4])
    print(json.dumps(study(where, count, shared={"seconds": pause}, executor=executor_of(jobs=jobs))))
