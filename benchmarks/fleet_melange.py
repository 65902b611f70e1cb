"""Compare the fleet program with Melange's own formulation, with a greedy buyer and with the best single type.

    python -m benchmarks.fleet_melange [--instances 100] [--slices 4] [--seconds 10]

Melange (Griggs et al. 2024, arXiv:2404.14527, sec. 5; tyler-griggs/melange-release melange/solver.py @5dd1b3c, read
2026-11) cuts the rate of each bucket of request sizes into slices, assigns each slice to one GPU type, and buys whole
GPUs. The fleet program lets shares be continuous, so it can never cost more. Both are solved by HiGHS on one thread in
the same run. The instances are drawn: GPU types with their own compute, bandwidth and price, and buckets whose
throughput follows from these.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np

from perfmodel.arrays import Array
from search import FleetProblem, Option, fleet_plan

#: Relative difference below which two costs are the same: the solvers' gap.
SAME_COST = 1e-5
#: Slices per bucket in Melange's paper (sec. 6.1) are 8; 4 keep its program solvable to the end for most instances.
SLICES = 4


@dataclass(frozen=True)
class Outcome:
    """What one instance costs, in USD per hour: by the fleet program, Melange's, a greedy buyer, the best single type.

    size: number of types, of buckets. seconds: of the fleet program, of Melange's. proven: Melange's was solved to the
    end.
    """

    size: tuple[int, int]
    fleet: float
    melange: float
    greedy: float
    single: float
    seconds: tuple[float, float]
    proven: bool


def instance(rng: np.random.Generator) -> FleetProblem:
    """Draw 4 to 12 GPU types, 2 x 2 to 10 x 10 buckets of request sizes, and 8 to 512 requests/s."""
    types = int(rng.integers(4, 13))
    inputs, outputs = (np.geomspace(25, 4000, int(rng.integers(2, 11))) for _ in range(2))
    price = np.exp(rng.uniform(np.log(0.5), np.log(10.0), types))
    compute = 8000.0 * price * rng.lognormal(0.0, 0.35, types)  # prompt tokens/s
    decode = 1500.0 * price * rng.lognormal(0.0, 0.35, types)  # output tokens/s of short contexts
    sizes = np.array(list(product(inputs, outputs)))
    context = 1.0 + sizes.sum(axis=1) / 4000.0  # longer contexts hold more KV cache, so that fewer run at once
    throughput = 1.0 / (sizes[:, 0] / compute[:, None] + context * sizes[:, 1] / decode[:, None])
    rate = float(np.exp(rng.uniform(np.log(8.0), np.log(512.0))))
    shares = rng.dirichlet(np.full(len(sizes), 0.7))
    return FleetProblem(
        options=tuple(Option(f"gpu {g + 1}", f"gpu-{g + 1}", 1.0, round(float(p), 2)) for g, p in enumerate(price)),
        classes=tuple(f"bucket {b + 1}" for b in range(len(sizes))),
        rate=rate * shares[None],
        throughput=throughput,
    )


def melange(problem: FleetProblem, slices: int, seconds: float) -> tuple[float, bool]:
    """Solve Melange's formulation of an instance; returns (USD per hour, True where that is proven to be its least).

    Minimise sum_g price[g] bought[g], where bought[g] is whole; each slice is on one GPU type, sum_g on[s,g] = 1 with
    on[s,g] in {0, 1}; and the load of a type fits, sum_s on[s,g] slice_rate[s] / throughput[g,s] <= bought[g]. Equal
    slices of a bucket are counted instead of told apart, which has the same optima and is quicker.
    """
    import pulp

    program = pulp.LpProblem("melange", pulp.LpMinimize)
    types, buckets = range(len(problem.options)), range(len(problem.classes))
    bought = [program.add_variable(f"bought_{g}", 0, None, pulp.LpInteger) for g in types]
    on = [[program.add_variable(f"on_{g}_{b}", 0, slices, pulp.LpInteger) for b in buckets] for g in types]
    program += pulp.lpSum(o.usd_per_hour * n for o, n in zip(problem.options, bought, strict=True))
    for b in buckets:
        program += pulp.lpSum(on[g][b] for g in types) == slices
    for g in types:
        load = [float(problem.rate[0, b] / slices / problem.throughput[g, b]) * on[g][b] for b in buckets]
        program += pulp.lpSum(load) <= bought[g]
    program.solve(pulp.HiGHS(msg=False, gapRel=SAME_COST / 10, timeLimit=seconds, threads=1))
    proven = program.sol_status == pulp.LpSolutionOptimal
    if program.sol_status == pulp.LpSolutionNoSolutionFound:
        return float("inf"), False
    return float(sum(o.usd_per_hour * round(n.varValue) for o, n in zip(problem.options, bought, strict=True))), proven


def greedy(problem: FleetProblem) -> float:
    """Return the cost of a buyer who gives each class to the option with the least cost per request, in USD per hour.

    Each option is then bought in whole replicas.
    """
    price, load = _priced(problem)
    chosen = np.argmin(price[:, None] * load, axis=0)
    needed = np.array([load[g, chosen == g].sum() for g in range(len(price))])
    return float(price @ np.ceil(needed - SAME_COST))


def best_single(problem: FleetProblem) -> float:
    """Return the cost of the best fleet of one GPU type, in USD per hour."""
    price, load = _priced(problem)
    return float(np.min(price * np.ceil(load.sum(axis=1) - SAME_COST)))


def _priced(problem: FleetProblem) -> tuple[Array, Array]:
    """Return the price of each option (O,), and the replicas that each class takes on it, (O, C)."""
    return np.array([o.usd_per_hour for o in problem.options]), problem.rate[0] / problem.throughput


def outcome(problem: FleetProblem, slices: int = SLICES, seconds: float = 10.0) -> Outcome:
    """Solve one instance in every way."""
    begun = time.process_time()
    ours = fleet_plan(problem).usd_per_hour
    between = time.process_time()
    theirs, proven = melange(problem, slices, seconds)
    took = (between - begun, time.process_time() - between)
    size = (len(problem.options), len(problem.classes))
    return Outcome(size, ours, theirs, greedy(problem), best_single(problem), took, proven)


def outcomes(count: int, slices: int = SLICES, seconds: float = 10.0) -> list[Outcome]:
    """Solve `count` drawn instances; number n is drawn with seed n."""
    return [outcome(instance(np.random.default_rng(n)), slices, seconds) for n in range(count)]


def summary(found: list[Outcome]) -> dict[str, Any]:
    """Return what many instances show together, flat."""
    ratio = np.array([o.fleet / o.melange for o in found if np.isfinite(o.melange)])
    ours, theirs = (np.array([o.seconds[i] for o in found]) for i in (0, 1))
    regret = np.array([o.greedy / o.fleet - 1.0 for o in found])
    saved = np.array([1.0 - o.fleet / o.single for o in found])
    return {
        "instances": len(found),
        "proven": sum(o.proven for o in found),
        "above": int(np.sum(ratio > 1.0 + SAME_COST)),
        "cheaper": int(np.sum(ratio < 1.0 - SAME_COST)),
        "cost_ratio_mean": float(ratio.mean()),
        "cost_ratio_least": float(ratio.min()),
        "median_s": float(np.median(ours)),
        "melange_median_s": float(np.median(theirs)),
        "time_ratio_median": float(np.median(theirs / ours)),
        "greedy_regret_median_percent": 100.0 * float(np.median(regret)),
        "greedy_regret_p90_percent": 100.0 * float(np.quantile(regret, 0.9)),
        "greedy_regret_max_percent": 100.0 * float(regret.max()),
        "greedy_optimal": int(np.sum(regret <= SAME_COST)),
        "single_saving_median_percent": 100.0 * float(np.median(saved)),
        "single_saving_max_percent": 100.0 * float(saved.max()),
    }


def main() -> None:
    """Print the summary of drawn instances."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--instances", type=int, default=100)
    parser.add_argument("--slices", type=int, default=SLICES)
    parser.add_argument("--seconds", type=float, default=10.0, help="Most seconds for Melange's program.")
    told = parser.parse_args()
    for name, value in summary(outcomes(told.instances, told.slices, told.seconds)).items():
        print(f"{name:32} {value:.6g}")


if __name__ == "__main__":
    main()
