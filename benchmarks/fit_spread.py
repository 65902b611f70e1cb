"""Learn the 80 % intervals of whole-deployment figures from measured serving runs (split `train`).

    python -m benchmarks.fit_spread CASES.csv TRUTH.csv [--write]

The tables are those of benchmarks/accuracy.py. For each metric, arrival and class of basis with at least 40 measured
values: the 80th percentile of |log(estimate / measurement)|, every group of rows weighing the square root of its size.
Estimates are those of constants that were not fitted on the row: the groups are dealt into `FOLDS` parts, and each part
is predicted by a copy of the package whose constants `benchmarks/fit_serving.py` fitted on the others (some minutes).
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pandas as pd

from benchmarks.accuracy_tables import joined, rows_of
from benchmarks.fit_serving import fold_of
from perfmodel.cases import INTERVALS
from perfmodel.estimates import CLASSES

FEWEST = 40
FOLDS = 2
ROOT = Path(__file__).resolve().parents[1]
HEAD = """# Log half-widths of 80 % intervals: quantiles of |log(estimate / measurement)| over published serving runs,
# by arrival and class of basis. Made by benchmarks/fit_spread.py.
"""


def quantile(rows: pd.DataFrame, rank: float = 0.8) -> float:
    """Weighted quantile of the absolute log ratio."""
    size = rows.groupby("group").ratio.transform("size")
    ordered = rows.assign(weight=1.0 / np.sqrt(size)).sort_values("ratio")
    at = ordered.weight.cumsum() / ordered.weight.sum()
    return float(np.interp(rank, at, ordered.ratio))


def table(rows: pd.DataFrame) -> dict[str, dict[str, float]]:
    """metric -> "arrival-class" -> half-width."""
    out: dict[str, dict[str, float]] = {}
    for metric, mine in rows.groupby("kind"):
        found = {"any-any": quantile(mine)}
        for keys, name in ((["basis"], "any-{1}"), (["mode"], "{0}-any"), (["mode", "basis"], "{0}-{1}")):
            for value, part in mine.groupby(keys):
                if len(part) >= FEWEST:
                    both = dict(zip(keys, value, strict=True))
                    found[name.format(both.get("mode", ""), both.get("basis", ""))] = quantile(part)
        out[str(metric)] = {k: round(v, 3) for k, v in sorted(found.items())}
    return out


def unseen(cases: Path, truth: Path, fold: int) -> pd.DataFrame:
    """Predictions of all cases with constants fitted without the groups of part `fold`."""
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder)
        for name in ("perfmodel", "benchmarks"):
            shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
        for name in ("hwdb", "data"):
            (copy / name).symlink_to(ROOT / name)
        answers = copy / "predictions.csv"
        steps = (
            ("-m", "benchmarks.fit_serving", cases, truth, "--write", "--folds", str(FOLDS), "--fold", str(fold)),
            (
                "-c",
                f"from perfmodel.cases.prediction import predict; predict({str(cases)!r}).to_csv({str(answers)!r}, index=False)",
            ),
        )
        for step in steps:
            place = {**os.environ, "PYTHONPATH": folder}
            subprocess.run(
                [sys.executable, *map(str, step)], cwd=folder, env=place, check=True, stdout=subprocess.DEVNULL
            )
        return pd.read_csv(answers, dtype=str, keep_default_na=False)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cases", type=Path)
    parser.add_argument("truth", type=Path)
    parser.add_argument("--write", action="store_true")
    asked = parser.parse_args()
    cases = pd.read_csv(asked.cases, dtype=str, keep_default_na=False)
    truth = pd.read_csv(asked.truth)[["case_id", "metric", "value"]]
    paths = asked.cases.resolve(), asked.truth.resolve()
    with ThreadPoolExecutor(FOLDS) as pool:
        parts = list(pool.map(lambda fold: unseen(*paths, fold), range(FOLDS)))
    folds = cases.set_index("case_id").group.map(lambda group: fold_of(group, FOLDS))
    predictions = pd.concat([part[part.case_id.map(folds) == fold] for fold, part in enumerate(parts)])
    rows = joined(rows_of(cases, truth, "train"), predictions)
    rows["basis"] = rows.case_id.map(predictions.set_index("case_id").basis).map(CLASSES)
    beyond = rows.case_id.map(predictions.set_index("case_id").saturated) == "true"
    rows["mode"] = rows["mode"].where(~beyond, "overload")
    rows["kind"] = rows.metric.map({**INTERVALS, "wall_power_w": None}).replace({"e2e": "tpot"})
    with np.errstate(divide="ignore", invalid="ignore"):
        rows["ratio"] = np.abs(np.log(rows.predicted / rows.value))
    rows = rows[np.isfinite(rows.ratio) & rows.kind.notna()]
    found = table(rows)
    text = [HEAD]
    for metric, widths in found.items():
        text.append(f"[{metric}]\n" + "\n".join(f"{k} = {v}" for k, v in widths.items()) + "\n")
    print("\n".join(text))
    if asked.write:
        (Path(__file__).parent.parent / "perfmodel" / "spread.toml").write_text("\n".join(text))


if __name__ == "__main__":
    main()
