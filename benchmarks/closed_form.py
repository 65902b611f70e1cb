"""The closed form against the simulator over a grid of 200 scenarios: where they agree, and where they part.

    python benchmarks/closed_form.py [-o grid.csv]

Four deployments x lengths x loads; prints bias (median of estimate over simulation) and spread (80 % of ratios within)
by kind of load, and the worst scenarios. Both rest on the same step costs, so every difference is queueing or batching.
"""

from __future__ import annotations

import argparse
import itertools
from pathlib import Path
from typing import Any

import numpy as np

import hwdb
import perfmodel
from perfmodel import Deployments, ModelSpec, Workload, simulator

#: (model, device, layout, engine)
DEPLOYMENTS = (
    ("meta-llama/Llama-3.1-8B", "h100-sxm", {}, "vllm"),
    ("meta-llama/Llama-3.1-70B", "h100-sxm", {"tp": 4}, "sglang"),
    ("Qwen/Qwen3-30B-A3B", "a100-sxm-80gb", {"tp": 2}, "trtllm"),
    ("meta-llama/Llama-3.1-8B", "rtx-4090", {}, "vllm-v0"),
)
#: (input, output) tokens: one class, or several with a spread.
LENGTHS: tuple[tuple[list[float], list[float]], ...] = (
    ([1024], [128]), ([256], [512]), ([4000], [200]), ([128, 1000, 3000], [400, 200, 100]),
    ([200, 800, 2400, 400], [50, 200, 400, 800]),
)  # fmt: skip
#: Closed loops by users, open loops by share of the closed loop's throughput, offline batches by requests.
CLOSED, OPEN, OFFLINE = (1, 8, 32, 128), (0.2, 0.4, 0.6, 0.75, 0.9), (200,)
METRICS = ("ttft", "tpot", "e2e", "output_tok_s")


def scenarios(spec: ModelSpec, row: Deployments, engine: str) -> list[tuple[str, float, Workload]]:
    """(kind, level, workload) of every load on every length."""
    made: list[tuple[str, float, Workload]] = []
    for inputs, outputs in LENGTHS:
        lengths: dict[str, Any] = {"input_tokens": inputs, "output_tokens": outputs,
                                   "share": np.full(len(inputs), 1 / len(inputs))}  # fmt: skip
        made += [("closed", n, Workload(**lengths, arrival="closed", concurrency=n)) for n in CLOSED]
        most = perfmodel.estimate(spec, Workload(**lengths, arrival="closed", concurrency=128), row, engine=engine)
        rate = float(most.request_rate[0])
        made += [("open", s, Workload(**lengths, arrival="open", rate=s * rate)) for s in OPEN]
        made += [("offline", n, Workload(**lengths, arrival="offline", n_requests=n)) for n in OFFLINE]
    return made


def compared(
    name: str, spec: ModelSpec, row: Deployments, engine: str, kind: str, level: float, work: Workload
) -> dict[str, Any]:
    """One scenario: both answers as a flat row."""
    found = perfmodel.simulate(spec, row, work, engine=engine, count=1500 if kind == "open" else 0)
    simulated = simulator.summary(found)
    estimated = perfmodel.estimate(spec, work, row, engine=engine)
    share = work.share / work.share.sum()
    means = {m: 1e3 * float(share @ getattr(estimated, m)[:, 0]) for m in METRICS[:3]}
    out: dict[str, Any] = {"deployment": name, "kind": kind, "level": level,
                           "input_tokens": float(share @ work.input_tokens),
                           "output_tokens": float(share @ work.output_tokens), "classes": len(share),
                           "overloaded": bool(found.notes)}  # fmt: skip
    for metric, value in means.items():
        out[f"{metric}_ms"], out[f"simulated_{metric}_ms"] = value, simulated[f"{metric}_ms"]
    out["output_tok_s"] = float(estimated.output_rate[0])
    out["simulated_output_tok_s"] = simulated["output_tok_s"]
    return out


def ratios(rows: list[dict[str, Any]], metric: str) -> np.ndarray:
    """Estimate over simulation."""
    key = metric if metric.endswith("_s") and metric not in METRICS[:3] else f"{metric}_ms"
    return np.array([r[key] / r[f"simulated_{key}"] for r in rows])


def main() -> None:
    """Run the grid and print its summary."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", "--output", type=Path, help="write every scenario here, CSV")
    chosen = parser.parse_args()
    rows: list[dict[str, Any]] = []
    for model, device, columns, engine in DEPLOYMENTS:
        spec, row = perfmodel.model(model), perfmodel.deployments([hwdb.device(device)], **columns)
        name = f"{model.split('/')[-1]} on {device}, {engine}"
        for kind, level, work in scenarios(spec, row, engine):
            rows.append(compared(name, spec, row, engine, kind, level, work))
    if chosen.output:
        import pandas as pd

        pd.DataFrame(rows).to_csv(chosen.output, index=False)
    print("| load | scenarios | " + " | ".join(f"{m}: bias, 80 % within" for m in METRICS) + " |")
    print("|---|---|" + "---|" * len(METRICS))
    groups = [(k, v) for k in ("closed", "open", "offline")
              for v in ({"closed": CLOSED, "open": OPEN, "offline": OFFLINE}[k])]  # fmt: skip
    for kind, level in [*groups, ("all", 0.0)]:
        mine = [r for r in rows if kind == "all" or (r["kind"], r["level"]) == (kind, level)]
        cells = []
        for metric in METRICS:
            found = ratios(mine, metric)
            low, high = np.quantile(found, [0.1, 0.9])
            cells.append(f"{100 * (np.median(found) - 1):+.0f} %, {low:.2f} to {high:.2f}")
        print(f"| {kind} {level:g} | {len(mine)} | {' | '.join(cells)} |")
    worst = sorted(itertools.chain(*[[(abs(np.log(x)), m, r) for x, r in zip(ratios(rows, m), rows, strict=True)]
                                     for m in METRICS]), key=lambda t: -t[0])[:10]  # fmt: skip
    print("\nworst:")
    for error, metric, r in worst:
        print(f"  {metric} x{np.exp(error):.2f}: {r['deployment']}, {r['kind']} {r['level']:g}, "
              f"{r['input_tokens']:.0f}/{r['output_tokens']:.0f}, overloaded {r['overloaded']}")  # fmt: skip


if __name__ == "__main__":
    main()
