"""The simulator on measured serving runs: predictions as `benchmarks/accuracy.py --peer simulator=FILE` scores them.

    python benchmarks/simulated_cases.py CASES.csv [--split test] [--dataset NAME] [--most 500] -o simulated.csv

Colocated rows without speculative decoding are replayed: closed loops with their opening burst (ten requests a user
where the case does not say), batches, single streams, random arrivals, offline batches. Lengths are drawn as `isl_dist`
says: fixed, uniform around the mean, else log-normal.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from hwdb import PerfmodelError, load
from perfmodel import simulator
from perfmodel.batch import Group, Prediction
from perfmodel.casetable import cases_of
from perfmodel.costs import default
from perfmodel.deployment import Deployments
from perfmodel.load import Load
from perfmodel.simulator import StepTable, Traffic

#: Spread of the logarithm of natural lengths (ShareGPT's prompts 1.2, answers 0.8; Azure conversations 0.9 and 0.8).
NATURAL = 0.8
MOST_REQUESTS = 3000
METRICS = ("ttft_ms", "ttft_ms_p50", "ttft_ms_p90", "ttft_ms_p99", "tpot_ms", "tpot_ms_p50", "tpot_ms_p99",
           "itl_ms_p50", "itl_ms_p99", "e2e_ms", "output_tok_s")  # fmt: skip


def lengths(mean: float, count: int, how: str, generator: np.random.Generator) -> np.ndarray:
    """`count` lengths of the given mean."""
    kind, _, bounds = how.partition(":")
    if kind == "uniform" and bounds:
        low, high = (float(b) for b in bounds.split("-"))
        values = generator.uniform(2 * low / (low + high), 2 * high / (low + high), count) * mean
    elif kind in ("", "fixed"):
        values = np.full(count, mean)
    else:
        values = generator.lognormal(np.log(mean) - 0.5 * NATURAL**2, NATURAL, count)
    return np.maximum(np.round(values), 1)


def traffic(mode: str, demand: Load, j: int, how: str, replicas: float) -> Traffic:
    """The requests of one case."""
    generator = np.random.default_rng(0)
    users = max(int(demand.concurrency[j]), 1) if mode in ("closed", "static", "single") else 0
    waves = {"static": 1.0, "single": 8.0}.get(mode, float(demand.waves[j]))
    count = int(np.clip(waves * users, users, max(MOST_REQUESTS, 3 * users))) if users else MOST_REQUESTS
    if mode in ("offline", "open"):
        asked = float(demand.n_requests[j])
        count = int(min(asked if np.isfinite(asked) else MOST_REQUESTS * replicas, 50_000))
    columns = [lengths(float(v[0, j]), count, how, generator) for v in (demand.input, demand.output)]
    if mode == "open":
        return simulator.traffic(*columns, arrival=simulator.arrivals(float(demand.rate[j]), count, seed=0))
    return simulator.traffic(*columns, concurrency=users if mode in ("closed", "single") else 0)


def together(parts: list[Traffic]) -> Traffic:
    """All requests at once: what a step table for all of them must reach."""
    columns = (np.concatenate([getattr(p, f) for p in parts]) for f in ("input_tokens", "output_tokens"))
    return simulator.traffic(*columns)


def replayed(group: Group, demand: Load, placed: Deployments, shapes: list[str]) -> dict[int, dict[str, Any]]:
    """Simulated figures of a group's rows; rows of one layout share a step table."""
    costs, out = default(group.engine.family, group.engine.name), {}
    layouts: dict[tuple[float, ...], list[int]] = defaultdict(list)
    for j in range(len(group.rows)):
        one = placed.take(np.array([j]))
        layouts[
            tuple(float(getattr(one, c)[0]) for c in ("device", "tp", "pp", "ep", "dp", "weight", "act", "kv"))
        ].append(j)
    for rows in layouts.values():
        offers = {j: traffic(group.mode, demand, j, shapes[j], float(placed.replicas[j])) for j in rows}
        table: StepTable | None = None
        for j, requests in offers.items():
            one = placed.take(np.array([j]))
            try:
                if table is None:
                    table = simulator.pool(
                        group.spec, one, group.engine, together([*offers.values()]), costs=costs
                    ).table
                pool = simulator.pool(group.spec, one, group.engine, requests, costs=costs, table=table)
                found = simulator.summary(simulator.run(requests, pool, router="join_shortest_queue"))
            except PerfmodelError as problem:
                out[j] = {"error": str(problem)}
                continue
            out[j] = {m: found[m] for m in METRICS} | {"error": ""}
            total = found["output_tok_s"] * (1 + float(demand.input[0, j] / demand.output[0, j]))
            out[j] |= {"total_tok_s": total, "req_s": found["request_rate"]}
    return out


def main() -> None:
    """Replay the cases and write their predictions."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cases", type=Path)
    parser.add_argument("--split", default="test")
    parser.add_argument("--dataset", default="")
    parser.add_argument("--most", type=int, default=0, help="replay a random sample of so many rows")
    parser.add_argument("-o", "--output", type=Path, required=True)
    chosen = parser.parse_args()
    cases = pd.read_csv(chosen.cases, dtype=str, keep_default_na=False)
    keep = (cases.split == chosen.split) & (cases.spec_decode == "") & (cases.prefill_workers == "")
    keep &= cases.trust.isin(["A", "B"]) & ((cases.dataset == chosen.dataset) | (chosen.dataset == ""))
    picked = cases[keep]
    if chosen.most and len(picked) > chosen.most:
        picked = picked.sample(chosen.most, random_state=0)
    picked = picked.reset_index(drop=True)
    prediction = Prediction(cases_of(picked.copy()), load())
    rows: list[dict[str, Any]] = []
    for group in prediction.groups():
        demand, placed = prediction.prepare(group)
        if placed is not None:
            found = replayed(group, demand, placed, picked.isl_dist[group.rows].tolist())
            rows += [{"case_id": picked.case_id[group.rows[j]], **figures} for j, figures in found.items()]
        print(f"{len(rows)} of {len(picked)}", end="\r", flush=True)
    pd.DataFrame(rows).to_csv(chosen.output, index=False)
    print(f"{chosen.output}: {len(rows)} of {len(picked)} rows")


if __name__ == "__main__":
    main()
