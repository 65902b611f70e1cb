"""Scores `perfmodel predict` on measured serving runs and writes docs/accuracy.md.

    python -m benchmarks.accuracy CASES.csv TRUTH.csv [--simulate simulated.csv] [--peer NAME=PREDICTIONS.csv ...]

CASES is a table as `perfmodel predict` reads it, with the columns `case_id, dataset, group, split, trust,
twin_in_train`. TRUTH has `case_id, metric, value` and, where runs were repeated, `rel_spread`. Rows that count are
those of split `test` without a twin in `train`, of trust A and B, without speculative decoding
(`perfmodel.fitting.counted`). Predictions of a peer are scored on the same rows. --simulate replays the cases in
the simulator, or continues an earlier replay (see `benchmarks/simulated_cases.py`), and scores the result as a peer.
--check-reasons fails if a listed row has no reason in docs/accuracy-reasons.toml, or if a reason there matches no row.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import pandas as pd

from benchmarks import accuracy_tables as tables
from benchmarks.accuracy_reasons import KINDS, Reason, read_reasons, unexplained, worst_table
from benchmarks.pages import filled
from perfmodel.cases import predict
from perfmodel.fitting import counted, joined, rows_of
from perfmodel.vocabulary import FORMER_NAMES

ROOT = Path(__file__).resolve().parents[1]
REASONS = ROOT / "docs" / "accuracy-reasons.toml"
#: Rows that the page lists as worst. Chosen: each is explained by hand.
LISTED = 20
COMMAND = (
    "python -m benchmarks.accuracy CASES.csv TRUTH.csv --simulate simulated.csv --peer 'AIConfigurator=PREDICTIONS.csv'"
)


def headline(rows: pd.DataFrame, peers: dict[str, pd.DataFrame]) -> dict[str, str]:
    """Return tables: the silicon source, for us and each peer on all rows that it answers; then all other sources."""
    silicon = rows[rows.dataset == tables.SILICON]
    lines = {}
    for metric in ("tpot_ms", "ttft_ms") if len(silicon) else ():
        mine = silicon[silicon.metric == metric]
        lines[f"{metric}, perfmodel"] = tables.line(mine)
        bare = mine.drop(columns=["predicted", "low", "high", "error"])
        lines |= {f"{metric}, {name}": tables.line(joined(bare, table)) for name, table in peers.items()}
    others = rows[rows.dataset != tables.SILICON]
    kinds = {k: others[others.metric.isin(m)] for k, m in tables.METRICS.items()}
    return {
        "silicon": tables.markdown("metric", lines),
        "others": tables.markdown("metrics", {k: tables.line(r) for k, r in kinds.items() if len(r)}),
    }


def limiting(rows: pd.DataFrame, cases: pd.DataFrame, truth: pd.DataFrame) -> dict[str, str]:
    """Return how reliable the figures are: the share of the worst groups in them, and how well measurements repeat."""
    return {
        "limits": tables.markdown("rows", tables.limits(rows)),
        "repeats": tables.markdown("source: metric", tables.repeats(cases, truth)),
        "twins": tables.markdown("source", tables.twins(cases, truth)),
    }


def details(rows: pd.DataFrame) -> dict[str, str]:
    """Return figures by device, mode, source and basis ("" without bases), and how often intervals hold."""
    small = rows[rows.device.str.startswith(tables.COMMODITY) & ~rows.metric.isin(tables.METRICS["power"])]
    by_device = {str(d): tables.line(r) for d, r in small.groupby("device")}
    sources = {f"{d}: {m}": tables.line(r) for (d, m), r in rows.groupby(["dataset", "metric"]) if len(r) >= 4}
    modes = {
        f"{m}, {k}": tables.line(r[r.metric.isin(names)])
        for m, r in rows.groupby("mode")
        for k, names in tables.METRICS.items()
        if r.metric.isin(names).any()
    }
    bases = {str(b): tables.line(r) for b, r in rows.groupby("basis")} if "basis" in rows else {}
    return {
        "commodity": tables.markdown("device", {"all": tables.line(small), **by_device}),
        "intervals_by_mode": tables.markdown("mode", tables.intervals(rows, "mode")),
        "intervals_by_source": tables.markdown("source", tables.intervals(rows, "dataset")),
        "by_mode": tables.markdown("mode, metrics", modes),
        "by_source": tables.markdown("source: metric", sources),
        "by_basis": tables.markdown("basis", bases),
    }


def page(
    rows: pd.DataFrame,
    cases: pd.DataFrame,
    truth: pd.DataFrame,
    peers: dict[str, pd.DataFrame],
    reasons: list[Reason],
    *,
    split: str,
    answered: str,
) -> str:
    """Return the page.

    rows: a line per measured value beside its prediction, with `basis`. cases, truth: the tables as read. peers:
    predictions by name of the peer. reasons: found for the worst rows. answered: a sentence on how many rows were.
    """
    return filled(
        "accuracy.md",
        command=COMMAND,
        split=split,
        answered=answered,
        beside=tables.markdown("values; who", tables.beside(rows, peers)) if peers else "",
        kinds=KINDS,
        worst=worst_table(rows, reasons, LISTED),
        **headline(rows, peers),
        **limiting(rows, cases, truth),
        **details(rows),
    )


def main(arguments: list[str] | None = None) -> int:
    """Command line; 1 when --check-reasons finds something."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cases", type=Path)
    parser.add_argument("truth", type=Path)
    parser.add_argument("--peer", action="append", default=[], metavar="NAME=CSV")
    parser.add_argument("--simulate", type=Path, metavar="CSV", help="replay the cases and keep the answers here")
    parser.add_argument("--minutes", type=float, default=10.0, help="time to replay in")
    parser.add_argument("--jobs", type=int, default=2, help="processes that replay")
    parser.add_argument("--predictions", type=Path, help="answers of `perfmodel predict` made before")
    parser.add_argument("--reasons", type=Path, default=REASONS)
    parser.add_argument("--check-reasons", action="store_true", help="only check that listed rows are explained")
    parser.add_argument("--split", default="test", choices=["test", "train"])
    parser.add_argument("-o", "--output", type=Path, default=ROOT / "docs" / "accuracy.md")
    asked = parser.parse_args(arguments)
    cases = pd.read_csv(asked.cases, dtype=str, keep_default_na=False)
    cases = cases.rename(columns={old: new for old, new in FORMER_NAMES.items() if new not in cases})
    truth = pd.read_csv(asked.truth)
    predictions = pd.read_csv(asked.predictions, low_memory=False) if asked.predictions else predict(asked.cases)
    rows = joined(rows_of(cases, truth, asked.split), predictions)
    rows["basis"] = rows.case_id.map(predictions.set_index("case_id").basis).fillna("refused").replace("", "refused")
    reasons = read_reasons(asked.reasons)
    problems = unexplained(rows, reasons, LISTED)
    for problem in problems:
        print(problem, file=sys.stderr)
    if asked.check_reasons:
        return 1 if problems else 0
    peers = {p.partition("=")[0]: pd.read_csv(p.partition("=")[2]) for p in asked.peer}
    if asked.simulate:
        from benchmarks.simulated_cases import replay

        replay(cases[counted(cases, asked.split)], asked.simulate, minutes=asked.minutes, jobs=asked.jobs)
        peers = {"simulator": pd.read_csv(asked.simulate), **peers}
    refused = int((predictions.error.notna() & (predictions.error != "")).sum())
    coverage = f"Rows answered: {1 - refused / max(len(predictions), 1):.1%} of {len(predictions)}."
    text = page(rows, cases, truth, peers, reasons, split=asked.split, answered=coverage)
    asked.output.write_text(text, encoding="utf-8")
    print(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
