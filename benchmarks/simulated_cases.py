"""Replays measured serving runs in the simulator: predictions that `benchmarks/accuracy.py` scores.

    python -m benchmarks.simulated_cases CASES.csv [--split test] [--dataset NAME] [--minutes 10] -o simulated.csv

Rows without speculative decoding are replayed: closed loops with their opening burst (ten requests per user where the
case does not say), static batches, single streams, random arrivals, offline batches, and disaggregated serving where
the case names prefill and decode workers. Lengths are drawn as `isl_dist` says: fixed, uniform around the mean,
otherwise log-normal. Rows of one layout share a step table. Layouts of the page's headline source come first, then all
others, each in random order, so that an unfinished replay is a fair sample. A further call continues it, or starts
again when the code, the data or the constants have changed.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import os
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from benchmarks.accuracy_tables import SILICON
from hwdb import Hwdb, PerfmodelError, load
from perfmodel import simulator
from perfmodel.cases import Group, Settings, aggregated, cases_of, group_load, group_pools, groups_of, settle
from perfmodel.costs import default
from perfmodel.deployment import Deployments
from perfmodel.simulator import Pool, StepTable, Traffic
from perfmodel.workload import Load, output_quantile

ROOT = Path(__file__).resolve().parents[1]
MOST_REQUESTS = 3000
METRICS = (
    "ttft_ms",
    "ttft_ms_p50",
    "ttft_ms_p90",
    "ttft_ms_p99",
    "tpot_ms",
    "tpot_ms_p50",
    "tpot_ms_p90",
    "tpot_ms_p99",
    "itl_ms_p50",
    "itl_ms_p99",
    "e2e_ms",
    "e2e_ms_p99",
    "output_tok_s",
)
COLUMNS = ("case_id", *METRICS, "total_tok_s", "req_s", "error", "made_with")
#: Columns of a case that make up its layout: rows that agree in all of them share a step table.
LAYOUT = (
    "model",
    "device",
    "n_devices",
    "engine",
    "engine_version",
    "weight_dtype",
    "act_dtype",
    "kv_dtype",
    "mode",
    "tp",
    "pp",
    "ep",
    "dp_attention",
    "prefill_workers",
    "prefill_tp",
    "prefill_ep",
    "prefill_dp",
    "decode_workers",
    "decode_tp",
    "decode_ep",
    "decode_dp",
)
#: Files that simulated figures depend on: a change in any of them makes kept figures stale.
_SOURCES = (
    "perfmodel/**/*.py",
    "perfmodel/**/*.toml",
    "hwdb/**/*.toml",
    "data/profiles/**/*.*",
    "benchmarks/simulated_cases.py",
)


def lengths(mean: float, spread: float, count: int, how: str, generator: np.random.Generator) -> np.ndarray:
    """`count` lengths of the given mean; `how` is a cell of `isl_dist`. spread: `Load.prompt_spread`."""
    kind, _, bounds = how.partition(":")
    if kind == "uniform" and bounds:
        low, high = (float(b) for b in bounds.split("-"))
        values = generator.uniform(2 * low / (low + high), 2 * high / (low + high), count) * mean
    elif kind in ("", "fixed"):
        values = np.full(count, mean)
    else:
        values = generator.lognormal(np.log(mean) - 0.5 * spread**2, spread, count)
    return np.maximum(np.round(values), 1)


def answer_lengths(
    mean: float, cv: float, most: float, count: int, how: str, generator: np.random.Generator
) -> np.ndarray:
    """`count` output lengths of the given mean. Natural ones follow the Weibull law of `perfmodel.workload`, cut at
    `most` tokens; `how` is a cell of `isl_dist`. cv: `Load.length_cv`."""
    if how.partition(":")[0] in ("", "fixed", "uniform"):
        return lengths(mean, 0.0, count, how, generator)
    drawn = output_quantile(np.array(mean), np.array(cv), generator.random(count), np.array(most))
    return np.clip(np.round(drawn * mean / float(drawn.mean())), 1, most)


def traffic(mode: str, demand: Load, j: int, how: str, replicas: float) -> Traffic:
    """The requests of case `j` of a group. how: its cell of `isl_dist`. replicas: of the pool that decodes."""
    generator = np.random.default_rng(0)
    users = max(int(demand.concurrency[j]), 1) if mode in ("closed", "static", "single") else 0
    requests_per_client = {"static": 1.0, "single": 8.0}.get(mode, float(demand.requests_per_client[j]))
    count = int(np.clip(requests_per_client * users, users, max(MOST_REQUESTS, 3 * users))) if users else MOST_REQUESTS
    if mode in ("offline", "open"):
        asked = float(demand.n_requests[j])
        count = int(min(asked if np.isfinite(asked) else MOST_REQUESTS * replicas, 50_000))
    columns = [
        lengths(float(demand.input[0, j]), float(demand.prompt_spread[j]), count, how, generator),
        answer_lengths(
            float(demand.output[0, j]), float(demand.length_cv[j]), float(demand.longest[j]), count, how, generator
        ),
    ]
    if mode == "open":
        gaps = simulator.arrivals(float(demand.rate[j]), count, seed=0, cv=float(demand.cv[j]))
        return simulator.traffic(*columns, arrival=gaps)
    return simulator.traffic(*columns, concurrency=users if mode in ("closed", "single") else 0)


def together(parts: Iterable[Traffic]) -> Traffic:
    """All requests as one traffic that arrives as its parts do, which a step table for all of them must cover.

    How they arrive matters to steps: an engine whose server shares its process streams no tokens in batch use.
    """
    kept = [*parts]
    columns = (np.concatenate([getattr(p, f) for p in kept]) for f in ("input_tokens", "output_tokens"))
    users = max(p.concurrency for p in kept)
    arrival = None if users else np.sort(np.concatenate([p.arrival for p in kept]))
    return simulator.traffic(*columns, arrival=arrival, concurrency=users)


def stages(settings: Settings, group: Group, load: Load) -> list[tuple[str, Deployments]]:
    """(role, one row per case) of the pools that serve a group's rows; role: both, or prefill and decode."""
    if not group.pooled:
        return [("both", aggregated(settings, group, load))]
    prefill, decode = group_pools(settings, group)
    return [
        ("prefill", replace(prefill.worker, replicas=prefill.workers)),
        ("decode", replace(decode.worker, replicas=decode.workers)),
    ]


def replayed(settings: Settings, group: Group, shapes: list[str]) -> dict[int, dict[str, Any]]:
    """Simulated figures of a group's rows, by row of the group. shapes: spread of lengths of each row (`isl_dist`)."""
    demand = group_load(settings, group)
    roles = stages(settings, group, demand)
    layouts: dict[tuple[float, ...], list[int]] = defaultdict(list)
    for j in range(len(group.rows)):
        codes = ("device", "tp", "pp", "ep", "dp", "weight", "act", "kv")
        layouts[tuple(float(getattr(d, c)[j]) for _, d in roles for c in codes)].append(j)
    out: dict[int, dict[str, Any]] = {}
    for rows in layouts.values():
        copies = roles[-1][1].replicas
        offers = {j: traffic(group.mode, demand, j, shapes[j], float(copies[j])) for j in rows}
        tables: dict[str, StepTable] = {}
        for j, requests in offers.items():
            try:
                out[j] = simulated(group, [(r, d.take(np.array([j]))) for r, d in roles], requests, offers, tables)
            except PerfmodelError as problem:
                out[j] = {"error": str(problem)}
                continue
            out[j]["total_tok_s"] = out[j]["output_tok_s"] * (1 + float(demand.input[0, j] / demand.output[0, j]))
    return out


def simulated(
    group: Group,
    roles: list[tuple[str, Deployments]],
    requests: Traffic,
    offers: dict[int, Traffic],
    tables: dict[str, StepTable],
) -> dict[str, Any]:
    """Figures of one case.

    Args:
        group: the group that the case belongs to.
        roles: (role, deployment) of each pool.
        requests: the requests of the case.
        offers: requests of all cases of its layout, which step tables must cover.
        tables: step tables of the layout by role, filled when first needed.
    """
    costs = default(group.engine)

    def pool(role: Any, row: Deployments, load: Traffic) -> Pool:
        known = tables.get(role)
        return simulator.pool(group.spec, row, group.engine, load, costs=costs, role=role, table=known)

    for role, row in roles:
        if role not in tables:
            tables[role] = pool(role, row, together(offers.values())).table
    pools = [pool(role, row, requests) for role, row in roles]
    found = simulator.summary(simulator.run(requests, pools, router="join_shortest_queue"))
    return {m: found[m] for m in METRICS} | {"req_s": found["request_rate_rps"], "error": ""}


def answers(cases: pd.DataFrame, database: Hwdb) -> list[dict[str, Any]]:
    """Replay a few rows (of one layout, for speed); a row of `COLUMNS` without `made_with` for each."""
    settings = settle(cases_of(cases.reset_index(drop=True)), database)
    ids, shapes = cases.case_id.tolist(), cases.isl_dist.tolist()
    found: dict[int, dict[str, Any]] = {}
    for group in groups_of(settings):
        try:
            part = replayed(settings, group, [shapes[i] for i in group.rows])
        except PerfmodelError as problem:
            part = {j: {"error": str(problem)} for j in range(len(group.rows))}
        found |= {int(group.rows[j]): figures for j, figures in part.items()}
    refused = {i: {"error": str(e)} for i, e in enumerate(settings.cases.error) if e}
    return [{"case_id": ids[i], **figures} for i, figures in sorted((refused | found).items())]


@cache
def _database() -> Hwdb:
    return load()


def _work(part: pd.DataFrame) -> list[dict[str, Any]]:
    return answers(part, _database())


def made_with() -> str:
    """Digest of everything that simulated figures depend on."""
    digest = hashlib.sha256()
    for pattern in _SOURCES:
        for path in sorted(ROOT.glob(pattern)):
            if path.is_file() and "__pycache__" not in path.parts:
                digest.update(path.relative_to(ROOT).as_posix().encode() + path.read_bytes())
    return digest.hexdigest()[:16]


def units(cases: pd.DataFrame, seed: int = 0) -> list[pd.DataFrame]:
    """The rows by layout: layouts in random order, those with rows of the headline source first."""
    parts = [part for _, part in cases.groupby([c for c in LAYOUT if c in cases.columns], sort=True)]
    shuffled = [parts[i] for i in np.random.default_rng(seed).permutation(len(parts))]
    return sorted(shuffled, key=lambda part: "dataset" not in part or SILICON not in set(part.dataset))


def _finished(parts: list[pd.DataFrame], jobs: int, deadline: float) -> Iterator[list[dict[str, Any]]]:
    """Figures of the parts as they become ready; no part is started after the deadline."""
    with ProcessPoolExecutor(jobs, initializer=os.nice, initargs=(10,)) as workers:
        pending: set[Future[list[dict[str, Any]]]] = set()
        waiting = iter(parts)
        while True:
            while len(pending) < jobs + 1 and time.monotonic() < deadline and (part := next(waiting, None)) is not None:
                pending.add(workers.submit(_work, part))
            if not pending:
                return
            done, pending = wait(pending, return_when=FIRST_COMPLETED)
            yield from (future.result() for future in done)


def kept(path: Path, stamp: str) -> set[str]:
    """Cases that the file at `path` has figures of; a file made with another `stamp` is started again."""
    if path.exists():
        before = pd.read_csv(path, dtype=str, keep_default_na=False)
        if list(before.columns) == list(COLUMNS) and set(before.made_with) <= {stamp}:
            return set(before.case_id)
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerow(COLUMNS)
    return set()


def replay(cases: pd.DataFrame, path: Path, *, minutes: float = 10.0, jobs: int = 2) -> int:
    """Replay `cases` for some minutes, adding to the CSV file `path`; returns how many rows it holds in the end."""
    stamp, begin = made_with(), time.monotonic()
    done = kept(path, stamp)
    left = cases[~cases.case_id.isin(done) & (cases.spec_decode == "")]
    count, whole = len(done), len(done) + len(left)
    with path.open("a", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS, restval="")
        for rows in _finished(units(left), jobs, begin + 60 * minutes):
            writer.writerows({**row, "made_with": stamp} for row in rows)
            file.flush()
            count += len(rows)
            print(f"simulated {count} of {whole} rows, {(time.monotonic() - begin) / 60:.1f} min", end="\r", flush=True)
    print(f"simulated {count} of {whole} rows, {(time.monotonic() - begin) / 60:.1f} min: {path}")
    return count


def main() -> None:
    """Replay the cases and write their predictions."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cases", type=Path)
    parser.add_argument("--split", default="test")
    parser.add_argument("--dataset", default="")
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("-o", "--output", type=Path, required=True)
    chosen = parser.parse_args()
    cases = pd.read_csv(chosen.cases, dtype=str, keep_default_na=False)
    keep = (cases.split == chosen.split) & cases.trust.isin(["A", "B"])
    keep &= (cases.dataset == chosen.dataset) | (chosen.dataset == "")
    replay(cases[keep], chosen.output, minutes=chosen.minutes, jobs=chosen.jobs)


if __name__ == "__main__":
    main()
