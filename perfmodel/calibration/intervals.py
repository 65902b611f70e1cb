"""Learn the 80 % intervals of predictions for whole deployments from measured serving runs (split `train`).

For each metric, arrival mode and class of basis: the 80th percentile of |log(estimate / measurement)|, every group of
runs weighing the square root of its size. The constants behind an estimate must not have been fitted on the run: groups
are dealt into `FOLDS` parts, and each part is predicted by a copy of the package whose constants were fitted on the
others, which takes some minutes.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

import hwdb
from hwdb import outfile
from perfmodel.calibration.measured import fold_of, joined, rows_of
from perfmodel.cases import INTERVALS
from perfmodel.estimates import CLASSES, INTERVAL_METRICS

if TYPE_CHECKING:
    import pandas as pd

#: Fewest measured values that set a width of their own. Chosen: eight of them lie beyond the 80th percentile.
MIN_VALUES = 40
FOLDS = 2
#: Share of measurements that an interval holds.
COVERAGE = 0.8
PACKAGE = Path(__file__).resolve().parents[1]
#: The widths that estimates read.
SPREAD = PACKAGE / "estimates" / "spread.toml"
HEAD = """# Log half-widths of 80 % intervals: quantiles of |log(estimate / measurement)| over published serving runs,
# by arrival and class of basis. Made by perfmodel.calibration.
"""
#: Arrival under which open loops beyond capacity are listed: their queues depend on the length of the run.
OVERLOAD = "overload"


def fit_intervals(cases: Path, truth: Path) -> dict[str, dict[str, float]]:
    """Return log half-widths of intervals by metric and "arrival-class", learned from runs that no constant was fitted
    on.

    cases, truth: paths of the tables described in `perfmodel.calibration.measured`.
    """
    import pandas as pd

    table = pd.read_csv(cases, dtype=str, keep_default_na=False)
    measured = pd.read_csv(truth)[["case_id", "metric", "value"]]
    paths = cases.resolve(), truth.resolve()
    with ThreadPoolExecutor(FOLDS) as pool:
        parts = list(pool.map(lambda fold: predicted_unseen(*paths, fold), range(FOLDS)))
    folds = table.set_index("case_id").group.map(lambda group: fold_of(group, FOLDS))
    predictions = pd.concat([part[part.case_id.map(folds) == fold] for fold, part in enumerate(parts)])
    return widths(log_ratios(rows_of(table, measured, "train"), predictions))


def predicted_unseen(cases: Path, truth: Path, fold: int) -> pd.DataFrame:
    """Predict all cases by a copy of the package whose constants were fitted without part `fold` of the runs."""
    import pandas as pd

    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder)
        shutil.copytree(PACKAGE, copy / "perfmodel", ignore=shutil.ignore_patterns("__pycache__"))
        (copy / "hwdb").symlink_to(Path(hwdb.__file__).resolve().parent)
        if (PACKAGE.parent / "data").is_dir():  # profiles of a checkout; a wheel carries them in the package
            (copy / "data").symlink_to(PACKAGE.parent / "data")
        answers = copy / "predictions.csv"
        fit = ("-m", "perfmodel.calibration", "engines", cases, truth, "--write", "--folds", FOLDS, "--left-out", fold)
        code = "import sys; from perfmodel import predict; predict(sys.argv[1]).to_csv(sys.argv[2], index=False)"
        for step in (fit, ("-c", code, cases, answers)):
            place = {**os.environ, "PYTHONPATH": folder}
            command = [sys.executable, *map(str, step)]
            subprocess.run(command, cwd=folder, env=place, check=True, stdout=subprocess.DEVNULL)
        return pd.read_csv(answers, dtype=str, keep_default_na=False)


def log_ratios(rows: pd.DataFrame, predictions: pd.DataFrame) -> pd.DataFrame:
    """Return the measured values with `ratio` = |log(estimate / measurement)|, `kind` of metric and class of `basis`.

    rows: a line per measured value with the columns of its case. predictions: a line per case. Values without an
    interval or without a finite ratio are left out; open loops beyond capacity get the mode `OVERLOAD`.
    """
    found = joined(rows, predictions)
    table = predictions.set_index("case_id")
    found["basis"] = found.case_id.map(table.basis).map(CLASSES)
    beyond = found.case_id.map(table.saturated) == "true"
    found["mode"] = found["mode"].where(~beyond, OVERLOAD)
    # end-to-end latency is mostly decoding and shares its width; those of power are fitted with its constants
    found["kind"] = found.metric.map({m: k for m, k in INTERVALS.items() if k in INTERVAL_METRICS or k == "e2e"})
    found["kind"] = found.kind.replace({"e2e": "tpot"})
    with np.errstate(divide="ignore", invalid="ignore"):
        found["ratio"] = np.abs(np.log(found.predicted / found.value))
    usable: pd.DataFrame = found[np.isfinite(found.ratio) & found.kind.notna()]
    return usable


def widths(rows: pd.DataFrame) -> dict[str, dict[str, float]]:
    """Return log half-widths by metric and "arrival-class" ("any" for all of them). rows: as `log_ratios` returns."""
    out: dict[str, dict[str, float]] = {}
    for metric, mine in rows.groupby("kind"):
        found = {"any-any": quantile(mine)}
        for keys, name in ((["basis"], "any-{1}"), (["mode"], "{0}-any"), (["mode", "basis"], "{0}-{1}")):
            for value, part in mine.groupby(keys):
                if len(part) >= MIN_VALUES:
                    both = dict(zip(keys, value, strict=True))
                    found[name.format(both.get("mode", ""), both.get("basis", ""))] = quantile(part)
        out[str(metric)] = {k: round(v, 3) for k, v in sorted(found.items())}
    return out


def quantile(rows: pd.DataFrame, rank: float = COVERAGE) -> float:
    """Return the weighted quantile of `ratio`, |log(estimate / measurement)|, at `rank` (0 to 1).

    The rows of one `group` together weigh the square root of their number, so that large groups do not dominate.
    """
    size = rows.groupby("group").ratio.transform("size")
    ordered = rows.assign(weight=1.0 / np.sqrt(size)).sort_values("ratio")
    at = ordered.weight.cumsum() / ordered.weight.sum()
    return float(np.interp(rank, at, ordered.ratio))


def intervals_text(found: dict[str, dict[str, float]]) -> str:
    """Return the text of `spread.toml`. found: log half-widths by metric and "arrival-class"."""
    tables = [f"[{metric}]\n" + "".join(f"{k} = {v}\n" for k, v in own.items()) for metric, own in found.items()]
    return "\n".join([HEAD, *tables])


def write_intervals(found: dict[str, dict[str, float]], path: Path = SPREAD) -> None:
    """Write the log half-widths `found` to the file that estimates read."""
    outfile.write_text(path, intervals_text(found))
