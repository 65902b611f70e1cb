"""The closed form against the simulator over a grid of 300 scenarios: where they agree and where they differ.

    python -m benchmarks.closed_form [-o docs/closed-form.md] [--csv grid.csv]

Four deployments x five mixes of lengths x ten loads; then a sample, drawn with a seed, of closed loops with answers of
1 to 100 tokens, pipelines, pools, runs of few requests around capacity and bursts that replicas share. Bias is the
median of estimate over simulation; spread is the range that holds 80 % of the ratios. Both are given by kind of load,
share of KV cache in use, prompt length and engine.
Both sides use the same step costs, so every difference is queueing or batching. `-o` puts the tables between the
markers of a page.
"""

from __future__ import annotations

import argparse
import itertools
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

import hwdb
import perfmodel
from perfmodel import Deployments, ModelSpec, Workload, simulator
from perfmodel.engines import Engine
from perfmodel.engines import engine as engine_of
from perfmodel.estimates import Estimates, estimate_load, estimate_pools, overall
from perfmodel.workload import load_of

#: (model, device, layout, engine)
DEPLOYMENTS: tuple[tuple[str, str, dict[str, float], str], ...] = (
    ("meta-llama/Llama-3.1-8B", "h100-sxm", {}, "vllm"),
    ("meta-llama/Llama-3.1-70B", "h100-sxm", {"tp": 4}, "sglang"),
    ("Qwen/Qwen3-30B-A3B", "a100-sxm-80gb", {"tp": 2}, "trtllm"),
    ("meta-llama/Llama-3.1-8B", "rtx-4090", {}, "vllm-v0"),
)
#: (input, output) tokens: one class, or several with a spread.
LENGTHS: tuple[tuple[list[float], list[float]], ...] = (
    ([1024], [128]),
    ([256], [512]),
    ([4000], [200]),
    ([128, 1000, 3000], [400, 200, 100]),
    ([200, 800, 2400, 400], [50, 200, 400, 800]),
)
#: Closed loops by users, open loops by share of the closed loop's throughput, offline batches by requests.
CLOSED, OPEN, OFFLINE = (1, 8, 32, 128), (0.2, 0.4, 0.6, 0.75, 0.9), (200,)
#: Sampled scenarios of each further kind, and the seed of the draw.
SAMPLED, SEED = 20, 5
#: (model, device, layout) of pipelines, and of the workers of pools.
PIPELINES: tuple[tuple[str, str, dict[str, float]], ...] = (
    ("meta-llama/Llama-3.1-8B", "a100-sxm-80gb", {"pp": 2}),
    ("meta-llama/Llama-3.1-70B", "h100-sxm", {"tp": 2, "pp": 2}),
    ("meta-llama/Llama-3.1-70B", "h100-sxm", {"tp": 2, "pp": 4}),
    ("Qwen/Qwen3-30B-A3B", "h100-sxm", {"pp": 4}),
)
POOLS: tuple[tuple[str, str, dict[str, float]], ...] = (
    ("meta-llama/Llama-3.1-8B", "h100-sxm", {}),
    ("meta-llama/Llama-3.1-70B", "h100-sxm", {"tp": 4}),
)
#: Shares of capacity of pipelines under random arrivals.
PIPELINE_LEVELS = (0.5, 0.8, 0.9, 0.95)
#: Requests of runs around capacity, shares of capacity that they come at, and variation of the gaps between them.
RUN_COUNTS, RUN_LEVELS, RUN_CVS = (50, 300, 2000), (0.6, 0.9, 1.0, 1.1, 1.5), (1.0, 2.5)
#: Variation of the gaps of bursty streams, replicas that share one, and shares of their capacity.
BURST_CVS, BURST_REPLICAS, BURST_LEVELS = (2.0, 4.0, 6.0), (1, 2, 5, 20), (0.15, 0.5, 0.8)
#: Requests and seeds of open loops. Near full load one run of a queue says little, so they are long and repeated.
COUNT, SEEDS = 3000, (0, 1, 2)
#: Seeds of runs of few requests and of bursts, which differ more from one to the next.
SEEDS_OF_RUNS = 6
METRICS = {"ttft_ms": "TTFT", "tpot_ms": "TPOT", "e2e_ms": "E2E", "output_tok_s": "output tok/s"}
#: Percentiles over all requests, in tables of their own.
TAILS = {
    f"{metric}_ms_{rank}": f"{metric.upper()} {rank}" for metric in ("ttft", "tpot", "e2e") for rank in ("p50", "p99")
}
COMPARED = (*METRICS, *TAILS)
#: Lines of a page that its tables are put between.
MARKS = ("<!-- measured by benchmarks/closed_form.py -->", "<!-- end -->")


@dataclass(frozen=True)
class Scenario:
    """One load on one deployment. kind: how requests arrive, or what is sampled. level: users (closed), share of
    capacity (open, runs, bursts) or requests (offline). workers: of the prefill and of the decode pool, if any."""

    deployment: str
    spec: ModelSpec
    row: Deployments
    engine: Engine
    kind: str
    level: float
    work: Workload
    workers: tuple[int, int] | None = None

    @property
    def alike(self) -> bool:
        """Whether all requests have the same lengths."""
        return bool(self.work.classes == 1)


def scenarios() -> Iterator[Scenario]:
    """Every load on every length on every deployment."""
    for model, device, columns, name in DEPLOYMENTS:
        spec, row, engine = perfmodel.model(model), perfmodel.deployments([hwdb.device(device)], **columns), name
        title = f"{model.split('/')[-1]} on {device}, {name}"
        for inputs, outputs in LENGTHS:
            base = Workload.from_lengths(inputs, outputs, share=np.full(len(inputs), 1 / len(inputs)), concurrency=128)
            rate = float(perfmodel.estimate(spec, base, row, engine=engine).request_rate[0])
            for kind, level, work in loads(base, rate):
                yield Scenario(title, spec, row, engine_of(engine), kind, level, work)


def sampled(generator: np.random.Generator) -> Iterator[Scenario]:
    """Closed loops with short answers, pipelines near capacity, pools, runs and bursts, `SAMPLED` of each."""

    def uniform(low: float, high: float) -> float:
        return float(np.round(np.exp(generator.uniform(np.log(low), np.log(high)))))

    for _ in range(SAMPLED):
        model, device, columns, name = DEPLOYMENTS[int(generator.integers(len(DEPLOYMENTS)))]
        users = uniform(2, 5) if generator.random() < 0.5 else uniform(6, 64)
        work = Workload.from_lengths(uniform(100, 6000), uniform(1, 100), concurrency=users)
        yield _placed((model, device, columns), name, "short answers", users, work)
    for _ in range(SAMPLED):
        chosen, name = PIPELINES[int(generator.integers(len(PIPELINES)))], str(generator.choice(["vllm", "trtllm"]))
        work = Workload.from_lengths(uniform(300, 4000), uniform(50, 400), concurrency=1024)
        made = _placed(chosen, name, "pipeline", float(generator.choice(PIPELINE_LEVELS)), work)
        rate = float(perfmodel.estimate(made.spec, work, made.row, engine=made.engine).request_rate[0])
        busy = replace(work, arrival="open", concurrency=float("nan"), rate=made.level * rate)
        yield replace(made, work=busy)
    for _ in range(SAMPLED):
        chosen, users = POOLS[int(generator.integers(len(POOLS)))], uniform(2, 128)
        work = Workload.from_lengths(uniform(300, 6000), uniform(50, 500), concurrency=users)
        made = _placed(chosen, "vllm", "pools", users, work)
        yield replace(made, workers=(int(generator.integers(1, 3)), int(generator.integers(1, 4))))
    yield from _random_arrivals(generator)


def _random_arrivals(generator: np.random.Generator) -> Iterator[Scenario]:
    """Runs of few requests around capacity, and bursts that several replicas share, `SAMPLED` of each."""

    def busy(kind: str, level: float, lengths: Workload, cv: float, requests: float, replicas: float) -> Scenario:
        *chosen, name = DEPLOYMENTS[int(generator.integers(len(DEPLOYMENTS)))]
        made = _placed((chosen[0], chosen[1], chosen[2]), name, kind, level, lengths)
        full = float(perfmodel.estimate(made.spec, lengths, made.row, engine=made.engine).request_rate[0])
        arrivals = {"arrival": "open", "concurrency": float("nan"), "rate": level * replicas * full}
        work = replace(lengths, cv=cv, n_requests=requests, **arrivals)
        return replace(made, work=work, row=replace(made.row, replicas=np.full(1, replicas)))

    for _ in range(SAMPLED):
        prompt, answer = np.round(np.exp(generator.uniform(np.log([100, 4]), np.log([4000, 400]))))
        lengths = Workload.from_lengths(float(prompt), float(answer), concurrency=1024)
        level, cv, count = (float(generator.choice(c)) for c in (RUN_LEVELS, RUN_CVS, RUN_COUNTS))
        yield busy("run", level, lengths, cv, count, 1.0)
    for _ in range(SAMPLED):
        inputs, outputs = LENGTHS[int(generator.integers(3, 5))]
        lengths = Workload.from_lengths(inputs, outputs, share=np.full(len(inputs), 1 / len(inputs)), concurrency=1024)
        level, cv, replicas = (float(generator.choice(c)) for c in (BURST_LEVELS, BURST_CVS, BURST_REPLICAS))
        yield busy("bursts", level, lengths, cv, float("nan"), replicas)


def _placed(chosen: tuple[str, str, dict[str, float]], name: str, kind: str, level: float, work: Workload) -> Scenario:
    """`Scenario` of (model, device, layout) under the engine `name`."""
    model, device, columns = chosen
    title = f"{model.split('/')[-1]} on {device}, {name}"
    row = perfmodel.deployments([hwdb.device(device)], **columns)
    return Scenario(title, perfmodel.model(model), row, engine_of(name), kind, level, work)


def loads(base: Workload, rate: float) -> list[tuple[str, float, Workload]]:
    """(kind, level, workload) on the lengths of `base`; rate: requests/s of a full replica."""
    none = float("nan")
    made = [("closed", float(n), replace(base, concurrency=n)) for n in CLOSED]
    made += [("open", s, replace(base, arrival="open", concurrency=none, rate=s * rate)) for s in OPEN]
    made += [("offline", float(n), replace(base, arrival="offline", concurrency=none, n_requests=n)) for n in OFFLINE]
    return made


def estimated(scenario: Scenario, *, endless: bool = False) -> Estimates:
    """The closed form's estimate. In the simulator, requests of equal length that start together stay together for
    good; the closed form is told to assume the same here. On real servers they drift apart (`Engine.synchronised`).
    An open loop is the run that is replayed, of `COUNT` requests if it states none, or without end where asked."""
    if scenario.workers is not None:
        steady = load_of(scenario.work, 1, float("inf"))
        workers = tuple(np.full(1, float(n)) for n in scenario.workers)
        pools = (scenario.row, scenario.row)
        return estimate_pools(scenario.spec, steady, pools, (workers[0], workers[1]), engine=scenario.engine)
    open_run = scenario.work.arrival == "open" and not endless and np.isnan(scenario.work.n_requests)
    work = replace(scenario.work, n_requests=float(COUNT)) if open_run else scenario.work
    demand = load_of(work, 1, float("inf"))  # the simulated closed loops are steady
    demand = replace(demand, synchronised=np.full(1, float(scenario.alike)))
    return estimate_load(scenario.spec, demand, scenario.row, engine=scenario.engine.changed(synchronised=1.0))


def simulated(scenario: Scenario) -> dict[str, float]:
    """The simulator's figures, mean over the seeds, and the mean share of the KV cache in use."""
    opened = scenario.work.arrival == "open"
    pools: dict[str, Any] = {}
    row = scenario.row
    if scenario.workers is not None:
        front, back = (replace(row, replicas=np.full(1, n)) for n in scenario.workers)
        row, pools = back, {"prefill": front}
    drawn = []
    count = (COUNT if np.isnan(scenario.work.n_requests) else int(scenario.work.n_requests)) if opened else 0
    for seed in range(SEEDS_OF_RUNS) if scenario.kind in ("run", "bursts") else SEEDS if opened else SEEDS[:1]:
        found = perfmodel.simulate(
            scenario.spec, row, scenario.work, engine=scenario.engine, seed=seed, count=count, **pools
        )
        pool = found.pools[-1]
        lasted = found.runs["step"] * found.runs["steps"]
        used = float(np.average(found.runs["used"], weights=lasted) * pool.policy.kv_block / pool.kv_tokens)
        figures = simulator.summary(found)
        drawn.append({**{m: figures[m] for m in COMPARED}, "kv_share": used})
    return {name: float(np.mean([d[name] for d in drawn])) for name in drawn[0]}


def compared(scenario: Scenario) -> dict[str, Any]:
    """Both sides' figures as a flat row."""
    own, truth = estimated(scenario), simulated(scenario)
    share, work = scenario.work.share, scenario.work
    means = {m: 1e3 * float(own.mean(getattr(own, m[:-3]))[0]) for m in METRICS if m.endswith("_ms")}
    for name in TAILS:
        metric, _, rank = name.split("_")
        means[name] = 1e3 * float(overall(own, metric, rank)[0])
    # the simulator counts what it serves between start-up and drain, which is little of a run of few requests
    steady = estimated(scenario, endless=True) if scenario.work.arrival == "open" else own
    means["output_tok_s"] = float("nan") if scenario.kind == "run" else float(steady.output_rate[0])
    return {
        "deployment": scenario.deployment,
        "kind": scenario.kind,
        "level": scenario.level,
        "alike": scenario.alike,
        "input_tokens": float(share @ work.input_tokens),
        "output_tokens": float(share @ work.output_tokens),
        "kv_share": truth["kv_share"],
        **means,
        **{f"simulated_{m}": truth[m] for m in COMPARED},
        **{f"{m}_ratio": means[m] / truth[m] for m in COMPARED},
    }


#: Regimes: table -> [(line, which rows)].
Rows = Callable[[pd.DataFrame], "pd.Series[bool]"]
REGIMES: dict[str, list[tuple[str, Rows]]] = {
    "arrivals": [
        ("one stream", lambda f: (f.kind == "closed") & (f.level == 1)),
        ("closed loop, 8 to 128 users, equal lengths", lambda f: (f.kind == "closed") & (f.level > 1) & f.alike),
        ("closed loop, 8 to 128 users, several lengths", lambda f: (f.kind == "closed") & (f.level > 1) & ~f.alike),
        ("open, 20 to 60 % of capacity", lambda f: (f.kind == "open") & (f.level <= 0.6)),
        ("open, 75 %", lambda f: (f.kind == "open") & (f.level == 0.75)),
        ("open, 90 %", lambda f: (f.kind == "open") & (f.level == 0.9)),
        ("offline, 200 requests", lambda f: f.kind == "offline"),
        (
            "closed loop, answers of 1 to 100 tokens, 2 to 5 users",
            lambda f: (f.kind == "short answers") & (f.level <= 5),
        ),
        (
            "closed loop, answers of 1 to 100 tokens, 6 to 64 users",
            lambda f: (f.kind == "short answers") & (f.level > 5),
        ),
        ("pipelines, open, 50 to 80 % of capacity", lambda f: (f.kind == "pipeline") & (f.level <= 0.8)),
        ("pipelines, open, 90 and 95 %", lambda f: (f.kind == "pipeline") & (f.level > 0.8)),
        ("pools, closed loop, 2 to 128 users", lambda f: f.kind == "pools"),
        ("runs of 50 to 2,000 requests, 60 and 90 % of capacity", lambda f: (f.kind == "run") & (f.level < 1.0)),
        ("runs of 50 to 2,000 requests, 100 to 150 % of capacity", lambda f: (f.kind == "run") & (f.level >= 1.0)),
        ("bursts on 1 to 20 replicas, 15 and 50 % of capacity", lambda f: (f.kind == "bursts") & (f.level < 0.8)),
        ("bursts on 1 to 20 replicas, 80 % of capacity", lambda f: (f.kind == "bursts") & (f.level == 0.8)),
    ],
    "KV room in use": [
        ("below half", lambda f: f.kv_share < 0.5),
        ("half to 80 %", lambda f: (f.kv_share >= 0.5) & (f.kv_share < 0.8)),
        ("above 80 %", lambda f: f.kv_share >= 0.8),
    ],
    "mean prompt": [
        ("256 tokens", lambda f: f.input_tokens < 512),
        ("950 to 1,376", lambda f: (f.input_tokens >= 512) & (f.input_tokens < 3000)),
        ("4,000", lambda f: f.input_tokens >= 3000),
    ],
    "engine": [
        ("shares passes (vLLM V1, TensorRT-LLM)", lambda f: f.deployment.str.contains("vllm$|trtllm$")),
        ("prompts first (SGLang, vLLM V0)", lambda f: f.deployment.str.contains("sglang$|v0$")),
    ],
    "all": [("all", lambda f: f.kind != "")],
}
#: Tables that percentiles have too.
_OF_TAILS = ("arrivals", "all")


def table(rows: pd.DataFrame, name: str, metrics: Mapping[str, str]) -> str:
    """Markdown of one table of `REGIMES`. metrics: its columns, with their titles."""
    lines = [f"| {name} | scenarios | {' | '.join(metrics.values())} |", "|---|---|" + "---|" * len(metrics)]
    for title, which in REGIMES[name]:
        mine = rows[which(rows)]
        if len(mine):
            cells = [_cell(mine[f"{m}_ratio"].to_numpy()) for m in metrics]
            lines.append(f"| {title} | {len(mine)} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _cell(ratios: np.ndarray) -> str:
    """Return bias and range of the ratios that are known; "inf" where the estimate is saturated and the run is not."""
    ratios = ratios[~np.isnan(ratios)]  # an answer of one token has no time per further token
    if not len(ratios):
        return "–"
    low, high = np.quantile(ratios, [0.1, 0.9], method="linear" if np.isfinite(ratios).all() else "nearest")
    return f"{100 * (np.median(ratios) - 1):+.0f} %, {low:.2f} to {high:.2f}"


def worst(rows: pd.DataFrame, count: int = 12) -> str:
    """Markdown of the scenarios that differ most, one line each, by the metric that does."""
    logs = np.nan_to_num(np.abs(np.log(rows[[f"{m}_ratio" for m in METRICS]].to_numpy())))
    order = np.argsort(-logs.max(axis=1))[:count]
    lines = [
        "| deployment | load | tokens in/out | KV room | metric | estimate | simulation |",
        "|---|---|---|---|---|---|---|",
    ]
    for i in order.tolist():
        row, metric = rows.iloc[i], list(METRICS)[int(np.argmax(logs[i]))]
        lines.append(
            f"| {row.deployment} | {row.kind} {row.level:g} | {row.input_tokens:.0f}/{row.output_tokens:.0f}"
            f"{'' if row.alike else ' mixed'} | {100 * row.kv_share:.0f} % | {metric} | {row[metric]:.4g} "
            f"| {row[f'simulated_{metric}']:.4g} |"
        )
    return "\n".join(lines) + "\n"


def report(rows: pd.DataFrame) -> str:
    """All tables as Markdown."""
    parts = [table(rows, name, METRICS) for name in REGIMES]
    tails = [table(rows, name, TAILS) for name in _OF_TAILS]
    return "\n".join(
        [*parts, "Percentiles over all requests:\n", *tails, "The twelve scenarios that differ most:\n", worst(rows)]
    )


def placed(page: str, tables: str) -> str:
    """`page` with `tables` between its marks; `InputError` where it has none."""
    begin, end = (re.escape(m) for m in MARKS)
    if not re.search(f"{begin}.*{end}", page, re.S):
        raise hwdb.InputError(f"the page has no lines {MARKS[0]!r} and {MARKS[1]!r}; put them where tables shall stand")
    return re.sub(f"{begin}.*{end}", lambda _: f"{MARKS[0]}\n\n{tables}\n{MARKS[1]}", page, flags=re.S)


def main() -> None:
    """Run the grid and print its summary."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", "--output", type=Path, help="put the tables into this page")
    parser.add_argument("--csv", type=Path, help="write every scenario here")
    parser.add_argument("--only", default="", help="one kind of load, such as closed, pipeline, pools or short answers")
    chosen = parser.parse_args()
    every = itertools.chain(scenarios(), sampled(np.random.default_rng(SEED)))
    rows = pd.DataFrame([compared(s) for s in every if chosen.only in ("", s.kind)])
    if chosen.csv:
        rows.to_csv(chosen.csv, index=False)
    found = report(rows)
    if chosen.output:
        chosen.output.write_text(placed(chosen.output.read_text(encoding="utf-8"), found), encoding="utf-8")
    print(found)


if __name__ == "__main__":
    main()
