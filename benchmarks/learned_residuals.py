"""Shows what a flexible learner still finds in the errors of `perfmodel predict`; writes docs/accuracy-residuals.md.

    python -m benchmarks.learned_residuals CASES.csv TRUTH.csv [--predictions P.csv] [-o docs/accuracy-residuals.md]

A learner without any physics (trees, from scikit-learn: the extra `[bench]`) is trained on the logarithm of measured
over predicted of the train split, from all that a case states (model, device, engine, formats, parallelism, load,
lengths) and from what is predicted for it. Where it lowers the error of groups of runs that it did not see, a mechanism
or a level is missing in the model; where it does not, what is stated of a run does not tell the error. No prediction
uses it: it knows no physics, so more load or a faster device could be slower. CASES and TRUTH are the tables of
`benchmarks.accuracy`.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from benchmarks.accuracy_tables import markdown
from benchmarks.pages import filled
from perfmodel.cases import predict
from perfmodel.fitting import counted, joined

if TYPE_CHECKING:
    from perfmodel.arrays import Array

ROOT = Path(__file__).resolve().parents[1]
METRICS = (
    "tpot_ms",
    "tpot_ms_p50",
    "tpot_ms_p99",
    "output_tok_s",
    "total_tok_s",
    "ttft_ms",
    "ttft_ms_p50",
    "ttft_ms_p99",
)
#: Columns of a case whose texts the learner sees as classes. Its source is left out: a user's run has none.
CLASSES = ("model", "device", "engine", "weight_dtype", "kv_dtype", "mode", "isl_dist", "basis")
NUMBERS = (
    *("n_devices", "isl", "osl", "batch", "concurrency", "rate_rps", "n_requests", "prefix_hit", "max_num_seqs"),
    *("tp", "pp", "ep", "dp_attention", "prefill_workers", "decode_workers"),
)
#: Predicted columns that it also sees: they tell what rules a run (a queue, memory, arithmetic).
PREDICTED = ("tpot_ms", "ttft_ms", "output_tok_s", "memory_gb_per_device", "power_w_per_device")
#: Parts that groups of runs are dealt into; the learner of a part is trained on the others.
FOLDS = 8
#: Fewest values of a source and mode that have a line. Chosen: fewer say nothing of a mechanism.
MIN_GROUPS = 3


def features(cases: pd.DataFrame, answers: pd.DataFrame) -> pd.DataFrame:
    """Return what the learner sees of each case, by case_id: logarithms of numbers, codes of classes."""
    table = cases.merge(answers[["case_id", "basis", *PREDICTED]], on="case_id").set_index("case_id")
    numbers = table[[*NUMBERS, *PREDICTED]].apply(pd.to_numeric, errors="coerce").clip(lower=1e-3)
    codes = table[list(CLASSES)].apply(lambda texts: pd.factorize(texts, sort=True)[0])
    # Blank or not answered: below every number that occurs.
    return pd.DataFrame(pd.concat([np.log(numbers).fillna(-10.0), codes], axis=1))


def learner() -> Any:
    """Return a learner that was chosen once, by its left-out error on TPOT of the train split."""
    from sklearn.ensemble import HistGradientBoostingRegressor  # type: ignore[import-not-found]

    return HistGradientBoostingRegressor(
        loss="absolute_error",
        max_iter=150,
        learning_rate=0.05,
        max_leaf_nodes=8,
        min_samples_leaf=20,
        l2_regularization=10.0,
        random_state=0,
    )


def learned(seen: pd.DataFrame, asked: pd.DataFrame, known: pd.DataFrame) -> Array:
    """Return the log ratios that a learner trained on the values `seen` expects of the values `asked`, (V,).

    Groups of runs count by the square root of their size, so that large ones do not rule. known: see `features`.
    """
    weight = 1.0 / np.sqrt(seen.groupby("group").ratio.transform("size"))
    trained = learner().fit(known.loc[seen.case_id].to_numpy(), seen.ratio, sample_weight=weight)
    return np.asarray(trained.predict(known.loc[asked.case_id].to_numpy()))


def left_out(rows: pd.DataFrame, known: pd.DataFrame) -> Array:
    """Return the log ratios that learners expect of the groups that they did not see, (V,) of `rows`."""
    from sklearn.model_selection import GroupKFold  # type: ignore[import-not-found]

    expected = np.zeros(len(rows))
    for seen, asked in GroupKFold(FOLDS).split(rows, groups=rows.group):
        expected[asked] = learned(rows.iloc[seen], rows.iloc[asked], known)
    return expected


def middle(rows: pd.DataFrame, expected: Array | float = 0.0) -> float:
    """Return the median over groups of each group's median error, where predictions are longer by exp(expected)."""
    error = pd.Series(np.abs(np.exp(expected - rows.ratio.to_numpy()) - 1.0), index=rows.index)
    return float(error.groupby(rows.group).median().median())


def lines_of(train: pd.DataFrame, test: pd.DataFrame, known: pd.DataFrame) -> dict[str, dict[str, object]]:
    """Return by metric the error of the median group, as predicted and with what a learner expects."""
    found: dict[str, dict[str, object]] = {}
    for metric in METRICS:
        seen, asked = (rows[rows.metric == metric] for rows in (train, test))
        found[metric] = {
            "train: groups": seen.group.nunique(),
            "train: predicted": middle(seen),
            "with the learner, groups left out": middle(seen, seen.expected.to_numpy()),
            "test: groups": asked.group.nunique(),
            "test: predicted": middle(asked),
            "with the learner of train": middle(asked, learned(seen, asked, known)),
        }
    return found


def sources_of(train: pd.DataFrame) -> dict[str, dict[str, object]]:
    """Return where the learner finds something: error and median log ratio by metric, source and mode, of train."""
    found: dict[str, dict[str, object]] = {}
    for (metric, source, mode), rows in train.groupby(["metric", "dataset", "mode"]):
        if rows.group.nunique() < MIN_GROUPS:
            continue
        levels = rows.groupby("group")[["ratio", "expected"]].median().median()
        found[f"{metric}: {source}, {mode}"] = {
            "groups": rows.group.nunique(),
            "predicted": middle(rows),
            "with the learner": middle(rows, rows.expected.to_numpy()),
            "measured/predicted": f"{np.exp(levels.ratio):.2f}",
            "the learner expects": f"{np.exp(levels.expected):.2f}",
        }
    return found


def measured_over_predicted(cases: pd.DataFrame, truth: pd.DataFrame, answers: pd.DataFrame) -> pd.DataFrame:
    """Return the measured values of METRICS that are answered, with `ratio`, the log of measured over predicted."""
    rows = joined(truth[truth.metric.isin(METRICS)].merge(cases, on="case_id"), answers)
    rows = rows[np.isfinite(rows.predicted) & (rows.predicted > 0) & (rows.value > 0)]
    return pd.DataFrame(rows.assign(ratio=np.log(rows.value / rows.predicted)).reset_index(drop=True))


def main() -> None:
    """Predict both splits, train the learners, and write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cases", type=Path)
    parser.add_argument("truth", type=Path)
    parser.add_argument("--predictions", type=Path, help="answers of `perfmodel predict` made before")
    parser.add_argument("-o", "--output", type=Path, default=ROOT / "docs" / "accuracy-residuals.md")
    asked = parser.parse_args()
    every = pd.read_csv(asked.cases, dtype=str, keep_default_na=False)
    splits = {split: every[counted(every, split)] for split in ("train", "test")}
    cases = pd.concat(splits.values())
    answers = pd.read_csv(asked.predictions, low_memory=False) if asked.predictions else predict(cases)
    truth, known = pd.read_csv(asked.truth), features(cases, answers)
    train, test = (measured_over_predicted(splits[split], truth, answers) for split in ("train", "test"))
    train["expected"] = 0.0
    for metric in METRICS:
        mine = train.metric == metric
        train.loc[mine, "expected"] = left_out(train[mine], known)
    page = filled(
        "accuracy-residuals.md",
        lines=markdown("metric", lines_of(train, test, known)),
        sources=markdown("metric: source, mode", sources_of(train)),
    )
    asked.output.write_text(page)


if __name__ == "__main__":
    main()
