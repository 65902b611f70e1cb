"""How fast the simulator is: a real trace on one replica, and a million requests on a hundred.

    python benchmarks/simulator.py [--trace AzureLLMInferenceTrace_conv.csv] [--requests 1000000] [--replicas 100]

Prints a Markdown table of CPU seconds (one thread), peak memory and rates. Without --trace, lengths are drawn from the
histogram of the same trace that ships with the package. Compilation is timed apart: it happens once on a machine.
"""

from __future__ import annotations

import argparse
import resource
import time
from dataclasses import replace

import numpy as np

import hwdb
import perfmodel
from perfmodel import Workload, simulator
from perfmodel.simulator import Simulation, Traffic
from perfmodel.simulator.event_replay import replay
from perfmodel.workload import histogram, read_trace

#: Requests/s of the Azure 2023 conversation trace: 19,366 in 3,508 s.
RATE = 5.5


def alike(count: int, rate: float, seed: int = 0) -> Traffic:
    """`count` requests with the lengths of the Azure 2023 conversation trace, at random times."""
    shape = Workload.from_histogram(histogram("azure-conv-2023"), rate=rate)
    return simulator.offered(shape, count=count, seed=seed)


def timed(name: str, requests: Traffic, pools: tuple[simulator.Pool, ...], router: str) -> list[str]:
    """One simulation as cells of the table."""
    begin = time.process_time()
    found: Simulation = simulator.run(requests, pools, router=router)
    cpu = time.process_time() - begin
    tokens = int(found.emitted.sum() + requests.input_tokens.sum())
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    steps = int(found.runs["steps"].sum())
    return [
        name,
        f"{len(requests):,}",
        f"{cpu:.2f}",
        f"{len(requests) / cpu:,.0f}",
        f"{tokens / cpu:,.0f}",
        f"{steps / len(found.runs):.1f}",
        f"{found.duration / cpu:,.0f}",
        f"{peak:.2f}",
    ]


def main() -> None:
    """Run both cases and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trace", help="Azure LLM inference trace, CSV or CSV.gz")
    parser.add_argument("--requests", type=int, default=1_000_000)
    parser.add_argument("--replicas", type=int, default=100)
    chosen = parser.parse_args()
    spec, row = perfmodel.model("meta-llama/Llama-3.1-8B"), perfmodel.deployments([hwdb.device("h100-sxm")])
    one = simulator.offered(read_trace(chosen.trace)) if chosen.trace else alike(19_366, RATE)
    begin = time.process_time()
    pools = simulator.pools_of(spec, row, one)
    table = time.process_time() - begin
    begin = time.process_time()
    replay.ALLOWANCE.left = 0  # short runs would go without the compiled loop
    simulator.run(one.take(10), pools)
    first = time.process_time() - begin
    name = "Azure 2023 conversation trace" if chosen.trace else "lengths of the Azure 2023 conversation trace"
    rows = [timed(f"{name}, 1 replica", one, pools, "round_robin")]
    many = alike(chosen.requests, RATE * chosen.replicas)
    wide = (replace(pools[0], replicas=chosen.replicas),)
    rows += [
        timed(f"as many a replica, {chosen.replicas} replicas, {r}", many, wide, r)
        for r in ("round_robin", "join_shortest_queue")
    ]
    head = ["case", "requests", "CPU s", "requests/s", "tokens/s", "steps per event", "times real time", "peak GB"]
    print(f"| {' | '.join(head)} |\n|{'---|' * len(head)}")
    for cells in rows:
        print(f"| {' | '.join(cells)} |")
    print(
        f"\nstep table {table:.2f} CPU s; numba and the loop {first:.2f} CPU s (the first time on a machine it is "
        f"compiled, later read); numpy {np.__version__}"
    )


if __name__ == "__main__":
    main()
