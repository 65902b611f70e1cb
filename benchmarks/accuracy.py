"""Score `perfmodel predict` on measured serving runs and write docs/accuracy.md.

    python benchmarks/accuracy.py CASES.csv TRUTH.csv [--peer NAME=PREDICTIONS.csv ...] [-o docs/accuracy.md]

CASES is a table as `perfmodel predict` reads it, with the columns `case_id, dataset, group, split, trust,
twin_in_train`; TRUTH has `case_id, metric, value`. Counted are rows of split `test` that have no twin in `train`, of
trust A and B, without speculative decoding. A peer's predictions are scored on the same rows.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import pandas as pd

from perfmodel.batch import predict

METRICS = {
    "latency": ("tpot_ms", "tpot_ms_p50", "itl_ms_p50", "e2e_ms"),
    "first token": ("ttft_ms", "ttft_ms_p50"),
    "throughput": ("output_tok_s", "total_tok_s", "decode_tok_s", "prefill_tok_s"),
    "power": ("power_w_per_device", "energy_j_per_output_token"),
}
COMMODITY = ("cpu", "rtx", "ascend", "mi", "tpu", "trainium", "inferentia", "ryzen", "epyc", "xeon", "m1", "m2", "m3")
SILICON = "aiconfigurator_silicon"


def rows_of(cases: pd.DataFrame, truth: pd.DataFrame, split: str) -> pd.DataFrame:
    """Measured values that count, with the columns of their cases."""
    keep = (cases.split == split) & cases.trust.isin(["A", "B"]) & (cases.spec_decode == "")
    if split == "test":
        keep &= cases.twin_in_train == "0"
    return truth.merge(cases[keep], on="case_id")


def joined(rows: pd.DataFrame, predictions: pd.DataFrame) -> pd.DataFrame:
    """The rows with prediction, bounds (NaN where there are none) and relative error."""
    table = predictions.set_index("case_id")
    out = rows.copy()
    for name, suffix in (("predicted", ""), ("low", "_lo"), ("high", "_hi")):
        out[name] = np.nan
        for metric in out.metric.unique():
            if metric + suffix in table.columns:
                mine = out.metric == metric
                values = pd.to_numeric(table[metric + suffix], errors="coerce")
                out.loc[mine, name] = out.case_id[mine].map(values).astype(float)
    out["error"] = (out.predicted - out.value) / out.value
    return out


def line(rows: pd.DataFrame) -> dict[str, object]:
    """One line of a table: counts, median, mean and 90th percentile of |error|, bias, share inside the interval."""
    hit = rows[rows.predicted.notna() & np.isfinite(rows.error)]
    band = hit[hit.low.notna() & hit.high.notna()]
    groups = hit.groupby("group").error.apply(lambda e: e.abs().median())
    inside = ((band.value >= band.low) & (band.value <= band.high)).mean() if len(band) else np.nan
    size = hit.error.abs()
    return {
        "values": len(rows), "answered": len(hit) / max(len(rows), 1), "median": size.median(), "mean": size.mean(),
        "p90": size.quantile(0.9), "bias": hit.error.median(), "groups": len(groups),
        "median, groups equal": groups.mean(), "inside 80 %": inside,
    }  # fmt: skip


def markdown(title: str, lines: dict[str, dict[str, object]]) -> str:
    """A table in Markdown; shares as per cent."""
    columns = list(next(iter(lines.values())))

    def cell(name: str, value: object) -> str:
        if name in ("values", "groups"):
            return str(value)
        number = float(value)  # type: ignore[arg-type]
        return "-" if number != number else f"{100 * number:.1f} %"

    head = f"| {title} | " + " | ".join(columns) + " |\n|---|" + "---|" * len(columns) + "\n"
    body = [f"| {key} | " + " | ".join(cell(c, row[c]) for c in columns) + " |" for key, row in lines.items()]
    return head + "\n".join(body) + "\n"


def sections(rows: pd.DataFrame, peers: dict[str, pd.DataFrame]) -> list[str]:
    """All tables of the page."""
    parts = []
    silicon = rows[rows.dataset == SILICON]
    if len(silicon):
        lines = {}
        for metric in ("tpot_ms", "ttft_ms"):
            mine = silicon[silicon.metric == metric]
            lines[f"{metric}, perfmodel"] = line(mine)
            for name, table in peers.items():
                lines[f"{metric}, {name}"] = line(joined(mine.drop(columns=["predicted", "low", "high"]), table))
        parts.append("## NVIDIA data centre, latency at a fixed concurrency\n\n" + markdown("metric", lines))
    others = rows[rows.dataset != SILICON]
    by_kind = {
        kind: line(others[others.metric.isin(metrics)])
        for kind, metrics in METRICS.items()
        if others.metric.isin(metrics).any()
    }
    parts.append("## All other sources\n\n" + markdown("metrics", by_kind))
    small = rows[rows.device.str.startswith(COMMODITY) & ~rows.metric.isin(METRICS["power"])]
    by_device = {d: line(r) for d, r in small.groupby("device")}
    parts.append(
        "## CPUs, RTX cards, Ascend, AMD, TPU, Neuron\n\n" + markdown("device", {"all": line(small), **by_device})
    )
    by_source = {f"{d}: {m}": line(r) for (d, m), r in rows.groupby(["dataset", "metric"]) if len(r) >= 4}
    parts.append("## By source and metric\n\n" + markdown("source: metric", by_source))
    if "basis" in rows:
        parts.append("## By basis\n\n" + markdown("basis", {b: line(r) for b, r in rows.groupby("basis")}))
    return parts


def worst(rows: pd.DataFrame, count: int = 20) -> str:
    """The groups with the largest error, one line each."""
    found = rows[np.isfinite(rows.error)].assign(size=lambda r: np.log(r.predicted / r.value).abs())
    top = found.sort_values("size", ascending=False).drop_duplicates(["group", "metric"]).head(count)
    lines = ["| case | metric | measured | predicted |", "|---|---|---|---|"]
    lines += [f"| {r.group} | {r.metric} | {r.value:.4g} | {r.predicted:.4g} |" for r in top.itertuples()]
    return "## The worst rows, one a group and metric\n\n" + "\n".join(lines) + "\n"


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cases", type=Path)
    parser.add_argument("truth", type=Path)
    parser.add_argument("--peer", action="append", default=[], metavar="NAME=CSV")
    parser.add_argument("--split", default="test", choices=["test", "train"])
    parser.add_argument("-o", "--output", type=Path, default=Path("docs/accuracy.md"))
    asked = parser.parse_args()
    cases = pd.read_csv(asked.cases, dtype=str, keep_default_na=False)
    truth = pd.read_csv(asked.truth)[["case_id", "metric", "value"]]
    rows = rows_of(cases, truth, asked.split)
    predictions = predict(asked.cases)
    rows = joined(rows, predictions)
    rows["basis"] = rows.case_id.map(predictions.set_index("case_id").basis)
    peers = {p.partition("=")[0]: pd.read_csv(p.partition("=")[2]) for p in asked.peer}
    refused = predictions[predictions.error != ""]
    head = (
        "# Accuracy\n\nMade by `python benchmarks/accuracy.py CASES.csv TRUTH.csv`; the columns these tables need are "
        "listed in that file. Measured values of published serving runs that nothing was fitted on "
        f"(split `{asked.split}`, without rows that another source also measured in the other split), setups known, "
        "no speculative decoding. |error| is relative to the measurement; bias is the median signed error; "
        "`groups equal` gives every model, device and engine the same weight. `inside` is the share of "
        "measurements within the 80 % interval.\n\n"
        f"Rows answered: {1 - len(refused) / max(len(predictions), 1):.1%} of {len(predictions)}.\n"
    )
    asked.output.write_text("\n".join([head, *sections(rows, peers), worst(rows)]))
    print(asked.output.read_text())


if __name__ == "__main__":
    main()
