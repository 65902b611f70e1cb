"""Fit the host constants of the serving engines on measured cases, and show what the fit leaves.

    python benchmarks/fit_serving.py CASES.csv TRUTH.csv [--write] [--engine NAME ...]

CASES is a table as `perfmodel predict` reads it, with the columns `case_id, group, split, trust`; TRUTH has
`case_id, metric, value`. Only rows of split `train`, trust A or B, without speculative decoding, are used. The loss is
the mean absolute log ratio, every group of rows weighing the square root of its size. `--write` puts the constants
into the engine files as `fitted`.
"""

from __future__ import annotations

import argparse
import re
from collections import defaultdict
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.optimize import minimize

from hwdb import load as load_hwdb
from perfmodel.batch import OUTPUT, Prediction
from perfmodel.casetable import read_cases
from perfmodel.costs import default
from perfmodel.enginefile import FOLDER, Engine
from perfmodel.estimates import assemble
from perfmodel.estimator import bench, per_replica
from perfmodel.passes import Passes
from perfmodel.serving import serve

#: Field of Engine -> (key in its file, SI to file, lower and upper bound in the file's unit).
CONSTANTS = {
    "step_host_time": ("step_host_us", 1e6, 20.0, 20000.0),
    "step_host_per_seq": ("step_host_per_seq_us", 1e6, 0.1, 200.0),
    "step_host_parallel": ("step_host_parallel_us", 1e6, 1.0, 10000.0),
    "request_time": ("request_ms", 1e3, 0.2, 150.0),
    "launch_time": ("launch_us", 1e6, 0.5, 60.0),
}
METRICS = ("tpot_ms", "tpot_ms_p50", "itl_ms_p50", "ttft_ms", "ttft_ms_p50", "e2e_ms", "output_tok_s", "total_tok_s",
           "prefill_tok_s", "decode_tok_s")  # fmt: skip


class Remembered(Passes):
    """Passes that price each step once: host constants change nothing that the device does."""

    def price(self, step):  # type: ignore[no-untyped-def]
        memory = self.__dict__["memory"]
        turn = memory["turn"]
        memory["turn"] += 1
        if turn == len(memory["costs"]):
            memory["costs"].append(super().price(step))
        return memory["costs"][turn]


@dataclass
class Group:
    """One group of rows, laid out once."""

    setup: object
    load: object
    placed: object
    ids: np.ndarray
    memory: dict[str, object]

    def predict(self, engine: Engine) -> dict[str, np.ndarray]:
        """Columns of the estimate with another engine's constants."""
        self.memory["turn"] = 0
        passes = Remembered(**{**vars(self.setup.passes), "engine": engine})  # type: ignore[attr-defined]
        passes.__dict__["memory"] = self.memory
        served = serve(passes, self.load, self.setup.memory.room_for())  # type: ignore[attr-defined, arg-type]
        return assemble(passes, self.setup.memory, self.load, served, self.placed).columns()  # type: ignore[attr-defined, arg-type]


def groups_of(cases_path: str) -> dict[str, list[tuple[Engine, Group]]]:
    """Groups of fitting rows by engine file; open loops and separate pools are left out (their steps move)."""
    table = read_cases(cases_path)
    frame = table.frame
    keep = (frame.split == "train") & frame.trust.isin(["A", "B"]) & (frame.spec_decode == "")
    table.refuse(~keep.to_numpy(), "not for fitting")
    run = Prediction(table, load_hwdb())
    out: dict[str, list[tuple[Engine, Group]]] = defaultdict(list)
    for group in run.groups():
        if group.mode == "open" or run.pooled[group.rows[0]]:
            continue
        load, placed = run.prepare(group)
        setup = bench(group.spec, placed, group.engine, default(group.engine.family), load)
        replica = per_replica(load, placed.replicas)
        ids = frame.case_id.to_numpy()[group.rows]
        one = Group(setup, replica, placed, ids, {"turn": 0, "costs": []})
        out[group.engine.name].append((group.engine, one))
    return out


def residuals(engine: Engine, groups: list[Group], truth: pd.DataFrame) -> pd.DataFrame:
    """Log ratio of prediction and measurement, a row a measured value."""
    parts = []
    for group in groups:
        columns = group.predict(engine)
        part = pd.DataFrame({m: columns[m] for m in METRICS if m in OUTPUT})
        part["case_id"] = group.ids
        parts.append(part.melt("case_id", var_name="metric", value_name="predicted"))
    rows = pd.concat(parts).merge(truth, on=["case_id", "metric"])
    rows["ratio"] = np.log(rows.predicted / rows.value)
    return rows[np.isfinite(rows.ratio)]


def loss(rows: pd.DataFrame) -> float:
    """Mean absolute log ratio, a group weighing the square root of its size."""
    size = rows.groupby("group").ratio.transform("size")
    return float(np.average(np.minimum(rows.ratio.abs(), 1.5), weights=1.0 / np.sqrt(size)))


def fit(engine: Engine, groups: list[Group], truth: pd.DataFrame) -> tuple[Engine, float, float]:
    """(engine with fitted constants, loss before, loss after)."""
    names = [n for n in CONSTANTS if np.isfinite(getattr(engine, n))]
    low = np.log([CONSTANTS[n][2] for n in names])
    high = np.log([CONSTANTS[n][3] for n in names])

    def made(point: np.ndarray) -> Engine:
        values = np.exp(np.clip(point, low, high))
        return replace(engine, **{n: v / CONSTANTS[n][1] for n, v in zip(names, values, strict=True)})

    def goal(point: np.ndarray) -> float:
        return loss(residuals(made(point), groups, truth))

    start = np.clip(np.log([max(getattr(engine, n) * CONSTANTS[n][1], CONSTANTS[n][2]) for n in names]), low, high)
    before = loss(residuals(engine, groups, truth))
    simplex = np.vstack([start, *(start + np.eye(len(names)) * 0.8)])
    found = minimize(
        goal, start, method="Nelder-Mead", options={"initial_simplex": simplex, "maxfev": 160, "xatol": 0.05}
    )
    return made(found.x), before, float(found.fun)


def write(engine: Engine, rows: int, before: float, after: float) -> None:
    """Put the constants into the engine's file."""
    path = FOLDER / f"{engine.name}.toml"
    text = path.read_text()
    for field, (key, factor, *_) in CONSTANTS.items():
        value = getattr(engine, field) * factor
        source = (
            f"benchmarks/fit_serving.py on {rows} measured values of the train split: "
            f"mean absolute log ratio {before:.3f} to {after:.3f}"
        )
        line = f'{key} = {{ value = {float(f"{value:.3g}"):g}, kind = "fitted", source = "{source}" }}'
        text = re.sub(rf"(?m)^{key} = .*$", line, text)
    path.write_text(text)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cases", type=Path)
    parser.add_argument("truth", type=Path)
    parser.add_argument("--write", action="store_true")
    parser.add_argument("--engine", action="append", default=[])
    asked = parser.parse_args()
    truth = pd.read_csv(asked.truth)[["case_id", "metric", "value"]]
    frame = pd.read_csv(asked.cases, dtype=str, usecols=["case_id", "group"])
    truth = truth.merge(frame, on="case_id")
    for name, found in sorted(groups_of(str(asked.cases)).items()):
        if asked.engine and name not in asked.engine:
            continue
        engine, groups = found[0][0], [g for _, g in found]
        rows = residuals(engine, groups, truth)
        if len(rows) < 20:
            print(f"{name}: {len(rows)} values, too few to fit")
            continue
        better, before, after = fit(engine, groups, truth)
        constants = ", ".join(f"{CONSTANTS[c][0]} {getattr(better, c) * CONSTANTS[c][1]:.3g}" for c in CONSTANTS)
        print(f"{name}: {len(rows)} values, mean |log ratio| {before:.3f} -> {after:.3f}; {constants}", flush=True)
        left = residuals(better, groups, truth)
        print(left.groupby("metric").ratio.agg(["size", "median", lambda r: r.abs().median()]).round(3).to_string())
        if asked.write:
            write(better, len(rows), before, after)


if __name__ == "__main__":
    main()
