"""What limits the error of measured latencies: levels of groups, repeats, and inputs that contradict their source.

    python -m benchmarks.bounds CASES.csv TRUTH.csv [--split test] [--dataset NAME] [--source silicon_sample.csv]

Bounds: the error if each group of runs (one model, device, engine, number of devices, format) had a constant factor of
its own that makes it right in the median. What remains is shape: how latency changes with load and lengths. `level of
the others` takes the factor from the other rows of the group only, as a calibration would. The spread of repeated runs,
which no prediction can be expected to undercut, stands beside. Bounds of decisions are in `benchmarks.decision_bounds`.

Corrected inputs: two ways in which rows of the silicon data set contradict their own source are found by rule, without
a look at how well they are predicted:

- `replicas`: the source's batch per attention rank times its ranks is less than its number of clients by a whole
  factor. The run had that many replicas, whose cards the row does not count. Needs `--source`, the file
  `systems/silicon_sample.csv` of the package aiconfigurator-core.
- `lengths`: rows of equal lengths whose TTFT and TPOT are those of a run of drawn lengths of the same model, device,
  layout and clients. They are one run, whose lengths were drawn.

Rows are predicted as they are listed and with the correction; the listed figures stay the ones that are published.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import pandas as pd

from benchmarks.accuracy_tables import SILICON
from perfmodel.cases import predict
from perfmodel.fitting import counted

METRICS = ("tpot_ms", "ttft_ms")
#: Columns of a case and of the source that name the same run.
SAME_RUN = {
    "model": "model_path",
    "device": "system",
    "engine": "backend",
    "engine_version": "backend_version",
    "isl": "isl",
    "osl": "osl",
    "concurrency": "clients",
    "tp": "tp_size",
}
#: What two lines of one run agree in, besides what was measured.
SAME_SETUP = ("model", "device", "engine", "n_devices", "concurrency", "tp", "ep")
#: Shares of the nominal length that InferenceX draws from, and their mean.
DRAWN, DRAWN_MEAN = "uniform:0.8-1.0", 0.9


def with_errors(cases: pd.DataFrame, truth: pd.DataFrame, predicted: pd.DataFrame) -> pd.DataFrame:
    """Return a line per measured value of `METRICS`: group, isl, osl, metric, value, n_repeats, rel_spread, ratio.

    ratio: logarithm of prediction over measurement; lines without a prediction are left out.
    """
    measured = truth[truth.metric.isin(METRICS)].merge(cases[["case_id", "group", "isl", "osl"]], on="case_id")
    answers = predicted.melt("case_id", list(METRICS), "metric", "answer")
    rows = measured.merge(answers, on=["case_id", "metric"])
    rows["ratio"] = np.log(pd.to_numeric(rows.answer, errors="coerce") / rows.value)
    known: pd.DataFrame = rows[np.isfinite(rows.ratio)].drop(columns="answer")
    return known


def levelled(rows: pd.DataFrame, by: list[str]) -> pd.Series:
    """Return log ratios less the median of their group, a bound: it knows each row that it judges."""
    return rows.ratio - rows.groupby([*by, "metric"]).ratio.transform("median")


def levelled_by_others(rows: pd.DataFrame, by: list[str]) -> pd.Series:
    """Return log ratios less the median of the other rows of their group; a row that is alone stays as it is."""
    out = rows.ratio.copy()
    for _, group in rows.groupby([*by, "metric"]):
        values = group.ratio.to_numpy()
        for place, index in enumerate(group.index):
            others = np.delete(values, place)
            if len(others):
                out[index] = values[place] - np.median(others)
    return out


def error(ratio: pd.Series) -> tuple[float, float]:
    """Return (median, mean) of |prediction / measurement - 1|."""
    size = np.expm1(ratio).abs()
    return float(size.median()), float(size.mean())


def bound_lines(rows: pd.DataFrame) -> pd.DataFrame:
    """Return a line per metric and kind of bound: values, groups, median and mean error."""
    out = []
    for metric, mine in rows.groupby("metric"):
        kinds = {
            "as predicted": mine.ratio,
            "level of the group's other rows": levelled_by_others(mine, ["group"]),
            "own level per group": levelled(mine, ["group"]),
            "own level per group and lengths": levelled(mine, ["group", "isl", "osl"]),
        }
        for kind, ratio in kinds.items():
            median, mean = error(ratio)
            line = {"metric": metric, "bound": kind, "values": len(mine), "groups": mine.group.nunique()}
            out.append({**line, "median": median, "mean": mean})
        again = mine[mine.n_repeats > 1].rel_spread
        line = {"metric": metric, "bound": "spread of repeated runs", "values": len(again), "groups": np.nan}
        out.append({**line, "median": again.median(), "mean": again.mean()})
    return pd.DataFrame(out)


def replicas(cases: pd.DataFrame, source: pd.DataFrame) -> pd.DataFrame:
    """Return the cases whose source served its clients by several replicas, with the devices of all of them."""
    found = source[source["mode"] == "agg"].copy()
    found["clients"] = found.silicon_data_source.str.extract(r"silicon_concurrency=(\d+)")[0].astype(float)
    found["system"] = found.system.str.replace("_", "-")
    ranks = found.attention_dp_size.fillna(1.0).clip(lower=1.0)
    found["copies"] = found.clients / (found.batch_size * ranks)
    found = found[(found.copies > 1.0) & (found.copies == found.copies.round())]
    keys, theirs = list(SAME_RUN), list(SAME_RUN.values())
    found[theirs] = found[theirs].astype(dict.fromkeys(("isl", "osl", "tp_size"), float))
    lines = found[[*theirs, "copies"]].drop_duplicates(theirs).rename(columns=dict(zip(theirs, keys, strict=True)))
    mine = cases[cases.dataset == SILICON].copy()
    for key in ("isl", "osl", "concurrency", "tp", "n_devices"):
        mine[key] = pd.to_numeric(mine[key], errors="coerce").astype(float)
    mine = mine.merge(lines, on=keys)
    mine = mine[mine.n_devices == mine.tp]  # one replica's cards: not those of pools, nor of all replicas
    return mine.assign(n_devices=mine.n_devices * mine.copies).drop(columns="copies")


def drawn_lengths(cases: pd.DataFrame, truth: pd.DataFrame) -> pd.DataFrame:
    """Return the cases of equal lengths that are runs of drawn lengths, with the means of those lengths."""
    measured = truth.pivot_table(index="case_id", columns="metric", values="value")[list(METRICS)]
    mine = cases[cases.dataset == SILICON].merge(measured.round(2), left_on="case_id", right_index=True)
    nominal = {c: pd.to_numeric(mine[c]) / np.where(mine.isl_dist == DRAWN, DRAWN_MEAN, 1.0) for c in ("isl", "osl")}
    mine = mine.assign(nominal_isl=nominal["isl"].round(), nominal_osl=nominal["osl"].round())
    keys = [*SAME_SETUP, "nominal_isl", "nominal_osl", *METRICS]
    twins = mine[mine.isl_dist == DRAWN][keys].drop_duplicates()
    same = mine[mine.isl_dist == "fixed"].merge(twins, on=keys)
    lengths = {c: (DRAWN_MEAN * same[f"nominal_{c}"]) for c in ("isl", "osl")}
    return same.assign(**lengths, isl_dist=DRAWN)[cases.columns]


def corrected(rows: pd.DataFrame, fixes: dict[str, pd.DataFrame], cases: pd.DataFrame, truth: pd.DataFrame) -> str:
    """Return as text the errors of the rows concerned, listed and corrected, and those of all rows after it."""
    lines, now = [], rows
    for name, fix in fixes.items():
        mine = fix[fix.case_id.isin(cases.case_id)]
        if mine.empty:
            lines.append(f"{name}: no row")
            continue
        answers = predict(mine[cases.columns].astype(str).replace("nan", ""))
        better = with_errors(mine, truth, answers)
        now = pd.concat([now[~now.case_id.isin(better.case_id)], better])
        for metric in METRICS:
            parts = (r[(r.metric == metric) & r.case_id.isin(better.case_id)].ratio for r in (rows, better))
            was, is_ = (error(part) for part in parts)
            lines.append(f"{name}: {metric} of {len(mine)} rows, median / mean {_pair(was)} -> {_pair(is_)}")
    for metric in METRICS:
        was, is_ = (error(r[r.metric == metric].ratio) for r in (rows, now))
        lines.append(f"all rows: {metric}, median / mean {_pair(was)} -> {_pair(is_)}")
    return "\n".join(lines)


def _pair(found: tuple[float, float]) -> str:
    return " / ".join(f"{100 * v:.1f} %" for v in found)


def main() -> None:
    """Predict the rows, print the bounds, and what corrected inputs change."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cases", type=Path)
    parser.add_argument("truth", type=Path)
    parser.add_argument("--split", default="test")
    parser.add_argument("--dataset", default=SILICON)
    parser.add_argument("--source", type=Path, help="silicon_sample.csv of aiconfigurator-core")
    asked = parser.parse_args()
    every = pd.read_csv(asked.cases, dtype=str, keep_default_na=False)
    cases = every[counted(every, asked.split) & (every.dataset == asked.dataset)]
    truth = pd.read_csv(asked.truth)
    rows = with_errors(cases, truth, predict(cases))
    print(bound_lines(rows).to_string(index=False, formatters=dict.fromkeys(("median", "mean"), "{:.1%}".format)))
    fixes = {"lengths": drawn_lengths(every, truth)}
    if asked.source:
        fixes["replicas"] = replicas(every, pd.read_csv(asked.source, low_memory=False))
    print(corrected(rows, fixes, cases, truth))


if __name__ == "__main__":
    main()
