"""Scores the decisions that predictions lead to and writes docs/decisions.md.

    python -m benchmarks.decisions CASES.csv TRUTH.csv [--prices PRICES.csv|.json] [--peer NAME=PREDICTIONS.csv ...]
        [--bounds]

CASES and TRUTH are the tables of `benchmarks.accuracy`. Every published set of alternatives is a decision: the same
model and lengths, measured at several device counts, degrees of parallelism, precisions, engines or concurrencies. See
`perfmodel.fitting.decisions` for how a pick is made and judged. PRICES gives dollars per hour by device and adds
decisions across devices. Picks by the roofline are made with the same serving model, whose operators take the least
time that the device's peak and bandwidth allow. Limits are on TPOT, on TTFT, and on both. `--bounds` adds what perfect
levels and a second run of every configuration would decide (`benchmarks.decision_bounds`).
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import pandas as pd

from benchmarks.accuracy_tables import markdown
from benchmarks.decision_bounds import DRAWS, NEAR, bound_lines, bounds, near_limit
from benchmarks.pages import filled
from perfmodel.cases import predict
from perfmodel.costs import Roofline
from perfmodel.fitting import LIMITS, counted, decisions, summary

ROOT = Path(__file__).resolve().parents[1]
COMMAND = (
    "python -m benchmarks.decisions CASES.csv TRUTH.csv --prices PRICES.json --peer 'AIConfigurator=PREDICTIONS.csv'"
)
HEADINGS = {
    "decisions": "decisions",
    "no_pick": "no pick",
    "limit_kept": "limit kept",
    "within_5": "kept, within 5 % of the best",
    "within_10": "within 10 %",
    "regret_mean": "mean regret of kept",
    "right_device": "right device",
}
#: Sections with limits on TTFT: what the limits are on, and the title.
TTFT_SECTIONS = {"ttft": "Limits on TTFT", "both": "Limits on TPOT and TTFT together"}
TTFT_LIMITS = {"ttft": "limits on TTFT alone", "both": "limits on both latencies"}
KINDS = {"configuration": "Configurations of one device", "hardware": "Across devices, per dollar"}


def page(made: dict[str, dict[str, pd.DataFrame]], split: str, bounds_found: dict[str, object] | None = None) -> str:
    """Return the page in Markdown.

    made: decisions by what their limits are on, then by predictor. bounds_found: what `bounds_section` returns, if any.
    """
    return filled(
        "decisions.md",
        command=COMMAND + " --bounds" * (bounds_found is not None),
        split=split,
        tpot=_sections(made["tpot"]),
        ttft=[
            {**section, "title": title, "kind": _lower(section["title"]), "limits": TTFT_LIMITS[limits]}
            for limits, title in TTFT_SECTIONS.items()
            for section in _sections(made.get(limits, {}))
        ],
        bounds=bounds_found,
        worst=_worst(next(iter(made["tpot"].values()))),
    )


def _sections(made: dict[str, pd.DataFrame]) -> list[dict[str, str]]:
    """Return `title` and `table` of each kind of decision that there are any of. made: decisions by predictor."""
    lines = {title: _lines(made, kind) for kind, title in KINDS.items()}
    return [{"title": title, "table": _table(found)} for title, found in lines.items() if found]


def _table(lines: dict[str, dict[str, object]]) -> str:
    return markdown("alternatives; picks by", lines)


def _lower(title: str) -> str:
    """Return the title as it stands within a sentence."""
    return title[0].lower() + title[1:]


def _lines(made: dict[str, pd.DataFrame], kind: str) -> dict[str, dict[str, object]]:
    """Return a line per data set and predictor, of decisions of one kind. made: decisions by predictor."""
    if not made:
        return {}
    first = next(iter(made.values()))
    lines = {}
    for dataset in sorted(first[first.kind == kind].dataset.unique()):
        for name, table in made.items():
            mine = table[(table.kind == kind) & (table.dataset == dataset)]
            if (mine.predicted > 0).any():
                lines[f"{dataset}; {name}"] = _line(mine, kind)
    return lines


def _line(made: pd.DataFrame, kind: str) -> dict[str, object]:
    """Return a line of the table; the right device is a question only across devices."""
    figures = summary(made)
    found: dict[str, object] = {heading: figures[name] for name, heading in HEADINGS.items()}
    if kind == "configuration":
        found[HEADINGS["right_device"]] = float("nan")
    return found


def bounds_section(made: dict[str, pd.DataFrame], truth: pd.DataFrame) -> dict[str, object]:
    """Return what the section on bounds says. made: decisions with limits on TPOT by bound, the tool's own first."""
    near = near_limit(next(iter(made.values())), truth)
    lines = {title: bound_lines(made, kind) for kind, title in KINDS.items()}
    return {
        "draws": DRAWS,
        "near": f"{100 * NEAR:.0f} %",
        "share": f"{100 * near:.0f} %",
        "sections": [{"title": _lower(title), "table": _table(found)} for title, found in lines.items() if found],
    }


def _worst(made: pd.DataFrame) -> str:
    """List the models and devices whose limits are missed most often, by number of missed decisions."""
    mine = made[made.kind == "configuration"]
    groups = mine.groupby(["model", "device"]).limit_kept.agg(["size", "mean"])
    groups["missed"] = groups["size"] * (1.0 - groups["mean"])
    worst = groups[groups.missed > 0].sort_values(["missed", "size"], ascending=[False, True]).head(15)
    lines: dict[str, dict[str, object]] = {
        f"{model} on {device}": {"decisions": int(row["size"]), "limit kept": float(row["mean"])}
        for (model, device), row in worst.iterrows()
    }
    return markdown("model and device", lines) or "Nowhere.\n"


def _prices(path: Path | None) -> dict[str, float] | None:
    """Read dollars per hour by device from a CSV (device, usd_per_hour) or a JSON object; None without a file."""
    if path is None:
        return None
    if path.suffix == ".json":
        return {str(k): float(v) for k, v in json.loads(path.read_text(encoding="utf-8")).items()}
    return dict(pd.read_csv(path)[["device", "usd_per_hour"]].to_numpy())


def main(arguments: list[str] | None = None) -> int:
    """Predict, decide, judge, and write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cases", type=Path)
    parser.add_argument("truth", type=Path)
    parser.add_argument("--prices", type=Path)
    parser.add_argument("--peer", action="append", default=[], metavar="NAME=CSV")
    parser.add_argument("--split", default="test", choices=("test", "train"))
    parser.add_argument("--bounds", action="store_true")
    parser.add_argument("-o", "--output", type=Path, default=ROOT / "docs" / "decisions.md")
    asked = parser.parse_args(arguments)
    cases = pd.read_csv(asked.cases, dtype=str, keep_default_na=False)
    cases, truth, prices = cases[counted(cases, asked.split)], pd.read_csv(asked.truth), _prices(asked.prices)
    tables = {"perfmodel": predict(cases), "roofline": predict(cases, costs=Roofline())}
    tables |= {p.partition("=")[0]: pd.read_csv(p.partition("=")[2]) for p in asked.peer}
    made = {
        limits: {name: decisions(cases, table, truth, prices, limits) for name, table in tables.items()}
        for limits in LIMITS
    }
    found = bounds_section(bounds(cases, tables["perfmodel"], truth, prices), truth) if asked.bounds else None
    asked.output.write_text(page(made, asked.split, found), encoding="utf-8")
    print(asked.output)
    return 0


if __name__ == "__main__":
    sys.exit(main())
