"""Speed of the search: a million candidates on one core, against the same functions called row by row.

    python benchmarks/search_speed.py [--candidates 1000000] [--costs roofline|profiled|both] [--order space|random]
                                      [--part 1]

`--order random` shuffles the candidates, as a caller's own list may be; `--part 8` scores every eighth batch of them.
"One row alone" is a call of `estimate` on one candidate that was not asked for before; "the same again" finds its steps
kept. Prints a Markdown table of CPU seconds and a line on peak memory. One thread; nothing is written.
"""

from __future__ import annotations

import argparse
import os
import resource
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_name, "1")

import numpy as np  # noqa: E402 - after the thread limits

from hwdb import devices  # noqa: E402
from perfmodel import Deployments, Workload, estimate, model  # noqa: E402
from perfmodel.costs import Roofline, default  # noqa: E402
from perfmodel.dtypes import FORMAT_CODE  # noqa: E402
from search import SCORE, Exhaustive, Legal, SearchSpace, pareto, ranked  # noqa: E402
from search.searchers.exhaustive import CHUNK  # noqa: E402

MODEL = "meta-llama/Llama-3.1-70B"
#: The same request under three kinds of load, from the fastest to estimate to the slowest.
LOADS: Mapping[str, Mapping[str, Any]] = {
    "static batch of 16": {"arrival": "static", "concurrency": 16},
    "16 in flight": {"arrival": "closed", "concurrency": 16},
    "1 request/s": {"arrival": "open", "rate": 1.0},
}
ROWS_ALONE = 30
#: Seed of a random order.
SEED = 1


def space(wanted: int) -> Legal:
    """At least `wanted` legal candidates: devices of nodes, layouts, token budgets, sequences, formats."""
    offered = tuple(d for d in devices() if d.link.peers >= 8 and d.memory > 24e9)
    base = SearchSpace(
        model(MODEL),
        offered,
        ep=(1,),
        dp=(1,),
        max_num_batched_tokens=(1024.0, 2048.0, 4096.0, 8192.0, 16384.0),
        weight=tuple(FORMAT_CODE[f] for f in ("bf16", "fp8", "int8", "int4")),
        kv=tuple(FORMAT_CODE[f] for f in ("bf16", "fp8")),
    )
    one = len(base.legal())
    seqs = tuple(float(s) for s in range(8, 8 + 8 * -(-wanted // one), 8))
    return replace(base, max_num_seqs=seqs).legal()


def score_of(work: Workload, costs: Any) -> Callable[[Deployments], dict[str, np.ndarray]]:
    """Function from candidates to the columns of the Pareto front and the ranking, at 1 USD per device and hour."""
    spec = model(MODEL)

    def score(candidates: Deployments) -> dict[str, np.ndarray]:
        found = estimate(spec, work, candidates, costs=costs)
        cost = found.devices / (found.output_rate * 3600.0) * 1e6
        return {
            SCORE: np.where(found.fits, cost, np.inf),
            "usd_per_million_tokens": cost,
            "usd_per_hour": found.devices,
            "devices": found.devices,
            "ttft_ms": found.mean(found.ttft) * 1e3,
            "tpot_ms": found.mean(found.tpot) * 1e3,
            "output_tok_s": found.output_rate,
        }

    return score


def timed(call: Callable[[], Any]) -> tuple[float, Any]:
    """(CPU seconds, result)."""
    start = time.process_time()
    result = call()
    return time.process_time() - start, result


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--candidates", type=int, default=1_000_000)
    parser.add_argument("--costs", choices=("roofline", "profiled", "both"), default="both")
    parser.add_argument("--order", choices=("space", "random"), default="space")
    parser.add_argument("--part", type=int, default=1, help="score every so many batches of candidates")
    asked = parser.parse_args()
    seconds, legal = timed(lambda: space(asked.candidates))
    index = legal.index[: asked.candidates]
    index = index[np.arange(len(index)) // CHUNK % asked.part == 0]
    count = len(index)
    legal = replace(legal, index=np.random.default_rng(SEED).permutation(index) if asked.order == "random" else index)
    size = f"{count:,} of {legal.space.size:,} combinations in {asked.order} order"
    print(f"{MODEL}: {size}, rules applied in {seconds:.1f} s\n")
    head = ("load", "costs", "all, s", "each, us", "one row alone, ms", "the same again, ms", "ratio")
    print(f"| {' | '.join((*head, 'front and ranking, s', 'on the front'))} |")
    print("|---|---|---|---|---|---|---|---|---|")
    models = {"roofline": Roofline(), "profiled": default()}
    for name in models if asked.costs == "both" else (asked.costs,):
        for load, given in LOADS.items():
            score = score_of(Workload.from_lengths(1000, 200, **given), models[name])
            score(legal.deployments(slice(0, None, max(count // 4096, 1))))  # load the tables of every device
            total, found = timed(partial(Exhaustive().search, legal, score))
            rows = [legal.deployments(slice(i, i + 1)) for i in range(ROWS_ALONE)]
            alone = timed(partial(_one_by_one, score, rows))[0] / ROWS_ALONE
            again = timed(partial(_one_by_one, score, rows[:1] * ROWS_ALONE))[0] / ROWS_ALONE
            after, front = timed(partial(_front, found.scores))
            each = total / count
            print(
                f"| {load} | {name} | {total:.1f} | {each * 1e6:.2f} | {alone * 1e3:.1f} | {again * 1e3:.2f} "
                f"| {alone / each:,.0f} | {after:.1f} | {front} |",
                flush=True,
            )
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9
    print(f"\nPeak memory of the process: {peak:.2f} GB")


def _one_by_one(score: Callable[[Deployments], Any], rows: list[Deployments]) -> None:
    """Score rows in a call of its own for each."""
    for row in rows:
        score(row)


def _front(scores: Mapping[str, np.ndarray]) -> int:
    fits = np.isfinite(scores[SCORE])
    ranked(scores, "usd_per_million_tokens", fits)
    table = [scores[c][fits] for c in ("usd_per_million_tokens", "ttft_ms", "tpot_ms")]
    return int(pareto([scores["output_tok_s"][fits], *table], largest=[True]).sum())


if __name__ == "__main__":
    main()
