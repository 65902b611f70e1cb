"""Replays Vidur's scenarios request by request: the same lengths and arrivals, its scheduler, our step times.

Vidur (microsoft/vidur at 01f216f) takes the Azure 2023 conversation trace, shortens requests of more than
`max_num_batched_tokens` tokens in proportion, shuffles them with seed 42, and draws exponential gaps from Python's
generator with seed 42, none longer than three times the mean. So its requests can be reproduced exactly; `requests`
does that and checks the sums of their tokens.
"""

from __future__ import annotations

import random
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

import hwdb
import perfmodel
from benchmarks.accuracy_tables import markdown
from hwdb import InputError
from perfmodel import simulator
from perfmodel.engines import engine
from perfmodel.simulator import Pool, Simulation, Traffic

SEED = 42
#: Longest gap between arrivals, in mean gaps.
LONGEST_GAP = 3.0
DEVICES = {"a100": "a100-sxm-80gb", "h100": "h100-sxm"}
#: Token budget of a step of Vidur's vLLM scheduler (its default max_tokens_in_batch).
VLLM_TOKENS = 4096
#: Vidur's column (in seconds) and ours.
METRICS = {
    "ttft_p50": "ttft_ms_p50",
    "ttft_p90": "ttft_ms_p90",
    "ttft_p99": "ttft_ms_p99",
    "tpot_p50": "tpot_ms_p50",
    "tpot_p99": "tpot_ms_p99",
    "e2e_p50": "e2e_ms_p50",
    "e2e_p90": "e2e_ms_p90",
    "e2e_p99": "e2e_ms_p99",
}


@dataclass(frozen=True)
class Timed:
    """A replayed scenario. figures: metrics in ms. table, run: CPU seconds for the step table and for the
    simulation."""

    figures: dict[str, float]
    requests: int
    tokens: int
    table: float
    run: float


def lengths(trace: pd.DataFrame, most: int) -> tuple[np.ndarray, np.ndarray]:
    """(input, output) tokens as Vidur takes them. trace: its second and third column are tokens in and out."""
    tokens = trace.iloc[:, 1:3].to_numpy(float)
    whole = tokens.sum(axis=1, keepdims=True)
    cut = tokens - np.ceil(np.maximum(whole - most, 0.0) * tokens / whole)
    shuffled = pd.DataFrame(np.maximum(cut, 1.0)).sample(frac=1, random_state=SEED).to_numpy()
    return shuffled[:, 0], shuffled[:, 1]


def arrivals(rate: float, count: int) -> np.ndarray:
    """Arrival times in s of Vidur's Poisson process."""
    generator = random.Random(SEED)
    gaps = [min(-np.log(1.0 - generator.random()), LONGEST_GAP) / rate for _ in range(count)]
    return np.cumsum(gaps)


def requests(trace: pd.DataFrame, row: Any) -> Traffic:
    """The requests of one scenario (a row of Vidur's table). `InputError` where the trace is another than Vidur had."""
    count = int(row.n_req)
    inputs, outputs = (v[:count] for v in lengths(trace, int(row.max_num_batched_tokens)))
    if (inputs.sum(), outputs.sum()) != (row.prefill_tokens, row.decode_tokens):
        raise InputError(
            f"{row.id}: the trace gives {inputs.sum():,.0f} and {outputs.sum():,.0f} tokens where Vidur had "
            f"{row.prefill_tokens:,.0f} and {row.decode_tokens:,.0f}; give the Azure 2023 conversation trace"
        )
    when = arrivals(float(row.qps), count)
    return simulator.traffic(inputs, outputs, arrival=when - when[0], name=row.id)


def service(row: Any, traffic: Traffic, *, host: bool) -> Pool:
    """The replicas of a scenario. host: with the engine's host and front-end times, or without, as Vidur has none."""
    chosen = engine("sarathi" if row.scheduler == "sarathi" else "vllm-v0")
    budget = float(row.chunk) if row.scheduler == "sarathi" else max(VLLM_TOKENS, float(traffic.input_tokens.max()))
    chosen = replace(chosen, max_num_batched_tokens=budget, max_num_seqs=float(row.batch_cap))
    if not host:
        chosen = replace(
            chosen, step_host_time=0.0, step_host_per_seq=0.0, step_host_parallel=0.0, launch_time=0.0, request_time=0.0
        )
    policy = simulator.of_engine(chosen, chosen.limits(hwdb.device(DEVICES[row.device])))
    policy = policy.changed(max_num_batched_tokens=budget, max_num_seqs=float(row.batch_cap))
    placed = perfmodel.deployments(
        [hwdb.device(DEVICES[row.device])], tp=int(row.tp), pp=int(row.pp), replicas=int(row.replicas)
    )
    return simulator.pool(perfmodel.model(row.model), placed, chosen, traffic, policy=policy)


def replay(trace: pd.DataFrame, row: Any, *, host: bool) -> Timed:
    """One scenario with its CPU time. Compile the simulator's loop before, by any short run."""
    traffic = requests(trace, row)
    begin = time.process_time()
    pool = service(row, traffic, host=host)
    made = time.process_time()
    found: Simulation = simulator.run(traffic, pool, router="round_robin")
    end = time.process_time()
    figures = simulator.summary(found)
    ends = {f"e2e_ms_p{p}": float(np.percentile(1e3 * (found.finish - found.issued), p)) for p in (50, 90, 99)}
    tokens = int(traffic.input_tokens.sum() + traffic.output_tokens.sum())
    return Timed(figures | ends, len(traffic), tokens, made - begin, end - made)


def agreement(table: pd.DataFrame, runs: list[Timed], label: str) -> dict[str, dict[str, object]]:
    """Ratio and rank correlation of every metric over the scenarios."""
    from benchmarks.peers_common import compared

    lines: dict[str, dict[str, object]] = {}
    for theirs, ours in METRICS.items():
        mine = np.array([r.figures[ours] for r in runs])
        lines[f"{theirs}, {label}"] = compared(mine, 1e3 * table[theirs].to_numpy(float))
    rate = np.array([r.figures["output_tok_s"] for r in runs])
    lines[f"output tokens/s, {label}"] = compared(rate, table.out_tok_per_s.to_numpy(float))
    return lines


def speed(table: pd.DataFrame, runs: list[Timed]) -> dict[str, dict[str, object]]:
    """CPU seconds and rates by number of requests, Vidur's beside ours."""
    lines: dict[str, dict[str, object]] = {}
    for count, part in table.groupby("n_req"):
        mine = [r for r in runs if r.requests == count]
        ours = ("perfmodel", np.array([r.run for r in mine]), [r.tokens for r in mine])
        theirs = ("Vidur", part.cpu_sim.to_numpy(float), (part.prefill_tokens + part.decode_tokens).tolist())
        for who, cpu, tokens in (ours, theirs):
            cpu = np.maximum(cpu, 1e-6)
            lines[f"{count:,} requests, {who}"] = {
                "scenarios": len(cpu),
                "CPU s, range": f"{cpu.min():.3g} to {cpu.max():.3g}",
                "CPU s, median": f"{np.median(cpu):.3g}",
                "requests per CPU s": f"{count / np.median(cpu):,.0f}",
                "tokens per CPU s": f"{np.median(np.array(tokens) / cpu):,.0f}",
            }
    return lines


def section(path: Path, trace_path: Path) -> str:
    """Vidur's part of the page."""
    table, trace = pd.read_csv(path), pd.read_csv(trace_path)
    rows = list(table.itertuples(index=False))
    replay(trace, rows[0], host=True)  # compiles the loop, or reads it from numba's cache
    plain, full = ([replay(trace, row, host=h) for row in rows] for h in (False, True))
    prepare = np.array([r.table for r in full])
    lines = agreement(table, plain, "without host time") | agreement(table, full, "with host time")
    return (
        f"## Vidur: {len(rows)} scenarios, request by request\n\n"
        "Both tools replay the same requests, arriving at the same times: 512 or 4,096 requests of the Azure 2023 "
        "conversation trace. The models are Llama-2 7B and 70B, CodeLlama-34B and Llama-3-8B, on A100 and H100. "
        "Scheduler, chunk size and maximum number of sequences are the same. Vidur has no host time, so results of "
        "perfmodel are shown without and with it. Vidur predicts slower prefills: its attention tables are of "
        "kernels of 2023 and 2024, and near saturation a small difference per step becomes a large one in the "
        "queue.\n\n"
        + markdown("metric", lines)
        + "\nCPU seconds per scenario on one thread. They exclude preparation: perfmodel builds the step table of a "
        f"deployment (median {np.median(prepare):.2f} s, used for all loads), and Vidur trains and caches its "
        f"predictors ({table.cpu_init.min():.1f} to {table.cpu_init.max():.0f} s per scenario). The figures of Vidur "
        "are from its own run:\n\n" + markdown("simulation", speed(table, full))
    )
