"""More options never make a plan worse: random scenarios, each planned on a narrow space and on a wider one.

    python benchmarks/widening.py [--count 500] [--seed 0] [--only N]

Prints how many widenings were tried, and each one whose best candidate got worse, with what was added. The exit code is
1 where any did. One core; some minutes for 500.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_name, "1")

import numpy as np  # noqa: E402 - after the thread limits

from hwdb import InputError  # noqa: E402
from hwdb.tomlfile import Table  # noqa: E402
from perfmodel.costs import CostModel, Roofline  # noqa: E402
from search import RANKINGS, Plan, Scenario, plan  # noqa: E402
from search.scenario.scenario import read_scenario  # noqa: E402

#: A best value that is worse by less than this, relative, counts as the same: ranks compare six digits.
TOLERANCE = 2e-6
#: Model -> devices that may serve it.
MODELS: Mapping[str, Sequence[str]] = {
    "meta-llama/Llama-3.1-8B-Instruct": ("h100-sxm", "l40s", "a100-sxm-80gb", "mi300x"),
    "meta-llama/Llama-3.1-70B-Instruct": ("h100-sxm", "h200-sxm", "a100-sxm-80gb", "mi300x"),
    "Qwen/Qwen3-32B": ("h100-sxm", "h200-sxm", "l40s"),
    "Qwen/Qwen3-30B-A3B": ("h100-sxm", "h200-sxm", "a100-sxm-80gb"),
}
#: Axis -> every value that a space may have.
AXES: Mapping[str, Sequence[Any]] = {
    "tp": (1, 2, 4, 8),
    "pp": (1, 2, 4),
    "ep": (1, "all", 2, 4),
    "dp": (1, 2, 4),
    "weight": ("bf16", "fp8", "int4"),
    "kv": ("bf16", "fp8"),
    "max_num_batched_tokens": (1024, 2048, 4096, 8192, 16384),
    "max_num_seqs": (8, 32, 128, 256, 512),
    "modes": ("colocated", "disaggregated"),
}
#: Axes of each space. Chosen: at least five, as people list them.
FEWEST_AXES, MOST_AXES = 5, 8
#: Narrow spaces have at most this many values on an axis: the wide ones stay quick to plan.
NARROW_VALUES = 2
#: Requests/s and token counts are drawn between these, on a log axis.
RATES, INPUTS, OUTPUTS = (0.5, 30.0), (100.0, 8000.0), (20.0, 1000.0)


@dataclass(frozen=True)
class Widening:
    """One scenario, and the axis values of its narrow and its wide space.

    narrow, wide: axis -> values; the devices are an axis too. scenario: the rest, table by table.
    """

    scenario: Mapping[str, Mapping[str, Any]]
    narrow: Mapping[str, Sequence[Any]]
    wide: Mapping[str, Sequence[Any]]

    def read(self, axes: Mapping[str, Sequence[Any]]) -> Scenario:
        """Return the scenario with these values on its axes."""
        search = {k: list(v) for k, v in axes.items() if k != "devices"}
        hardware = {**self.scenario["hardware"], "devices": list(axes["devices"])}
        if "stock" in hardware:
            hardware["stock"] = dict.fromkeys(axes["devices"], hardware["stock"])
        tables = {**self.scenario, "hardware": hardware, "search": search}
        return read_scenario(Table({k: dict(v) for k, v in tables.items()}, "widening"), Path())

    @property
    def added(self) -> str:
        """Say which values the wide space adds."""
        more = {k: [v for v in self.wide[k] if v not in self.narrow[k]] for k in self.wide}
        return ", ".join(f"{k} {v}" for k, v in more.items() if v)


def drawn(rng: np.random.Generator) -> Widening:
    """Draw a scenario with a narrow and a wide space."""
    model = str(rng.choice(list(MODELS)))
    count = int(rng.integers(FEWEST_AXES, MOST_AXES + 1))
    names = ["modes", *rng.choice([a for a in AXES if a != "modes"], count - 1, replace=False)]
    every = {str(a): AXES[str(a)] for a in names} | {"devices": MODELS[model]}
    narrow = {a: _some(rng, v, 1, NARROW_VALUES) for a, v in every.items()}
    grown = set(rng.choice(list(every), int(rng.integers(1, 4)), replace=False).tolist())
    wide = {a: _more(rng, every[a], v) if a in grown else v for a, v in narrow.items()}
    workload: dict[str, Any] = {"input_tokens": _log(rng, INPUTS), "output_tokens": _log(rng, OUTPUTS)}
    if rng.random() < 0.5:
        workload["request_rate_rps"] = float(np.exp(rng.uniform(*np.log(RATES))).round(2))
    statistic = str(rng.choice(["", "_p90", "_p95"]))
    slo = {
        f"ttft_ms{statistic}": float(rng.choice([500, 1000, 2000, 5000])),
        "tpot_ms": float(rng.choice([20, 40, 80])),
    }
    if rng.random() < 0.2:
        slo |= {"e2e_ms_p90": 60_000.0}
    hardware: dict[str, Any] = {"stock": int(rng.choice([8, 32, 128]))} if rng.random() < 0.6 else {}
    return Widening(
        scenario={
            "model": {"name": model},
            "workload": workload,
            "slo": slo,
            "hardware": hardware,
            "engine": {"name": str(rng.choice(["vllm", "sglang"]))},
            "objective": {"rank_by": str(rng.choice(list(RANKINGS)))},
            "site": {"gco2_per_kwh": 400.0},
            "limits": {"spare_nodes": 1} if rng.random() < 0.15 else {},
        },
        narrow=narrow,
        wide=wide,
    )


def _log(rng: np.random.Generator, ends: tuple[float, float]) -> int:
    """Draw a whole number between two ends, evenly on a log axis."""
    return int(np.exp(rng.uniform(*np.log(ends))))


def _some(rng: np.random.Generator, values: Sequence[Any], least: int, most: int) -> list[Any]:
    """Draw `least` to `most` of the values, in their order."""
    chosen = set(rng.choice(len(values), min(int(rng.integers(least, most + 1)), len(values)), replace=False).tolist())
    return [v for i, v in enumerate(values) if i in chosen]


def _more(rng: np.random.Generator, values: Sequence[Any], given: Sequence[Any]) -> list[Any]:
    """Add one to three of the values that are not given."""
    others = [v for v in values if v not in given]
    added = _some(rng, others, 1, 3) if others else []
    return [*given, *added]


def outcome(found: Plan) -> float:
    """Return the best value of the ranking, made so that less is better; inf where nothing qualifies."""
    if not found.feasible:
        return float("inf")
    value = float(found.columns[found.scorer.rank_by][found.best])
    return value if RANKINGS[found.scorer.rank_by] else -value


def worse(case: Widening, costs: CostModel | None = None) -> tuple[float, float] | None:
    """Return (best of the narrow space, best of the wide one) where the wide one is worse, else None.

    costs: prices the operators, None for the engine's own cost model.
    """
    try:
        narrow = outcome(plan(case.read(case.narrow), costs=costs))
    except InputError:
        return None  # no candidate is legal in the narrow space: nothing can be worse
    wide = outcome(plan(case.read(case.wide), costs=costs))
    if np.isnan(wide) or not wide > narrow + TOLERANCE * abs(narrow):
        return None
    return narrow, wide


def main(arguments: Sequence[str] | None = None) -> int:
    """Try widenings, print each that got worse and the count; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=500, help="widenings to try")
    parser.add_argument("--seed", type=int, default=0, help="of the first; the others follow")
    parser.add_argument("--rank-by", default="", help="rank all by this column")
    parser.add_argument(
        "--measured", action="store_true", help="price operators from measured tables, five times slower"
    )
    given = parser.parse_args(arguments)
    costs, bad = None if given.measured else Roofline(), 0
    for seed in range(given.seed, given.seed + given.count):
        case = drawn(np.random.default_rng(seed))
        if given.rank_by:
            case = replace(case, scenario={**case.scenario, "objective": {"rank_by": given.rank_by}})
        found = worse(case, costs)
        if found:
            bad += 1
            ranking = case.scenario["objective"]["rank_by"]
            print(f"seed {seed}: {ranking} {found[0]:g} became {found[1]:g} with {case.added}", flush=True)
    print(f"{given.count} widenings tried, {bad} made the plan worse")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
