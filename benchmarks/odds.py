"""Scores ranges and odds on measured serving runs and writes docs/odds.md.

    python -m benchmarks.odds CASES.csv TRUTH.csv PRICES.json [--split test] [--keep FOLDER] [-o docs/odds.md]

CASES and TRUTH are described in `perfmodel/fitting/measured.py`. PRICES holds USD per hour by device, {name: usd}.
--keep holds the model's answers, which take some minutes, for the next time.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import pandas as pd

from benchmarks import odds_tables as tables
from benchmarks.pages import filled
from perfmodel.fitting import answers, measured_rows

ROOT = Path(__file__).resolve().parents[1]
COMMAND = "python -m benchmarks.odds CASES.csv TRUTH.csv PRICES.json"


def page(rows: pd.DataFrame, prices: dict[str, float], split: str) -> str:
    """Return the page. rows: measured values with what their estimates depend on. prices: USD per hour by device."""
    return filled(
        "odds.md",
        command=COMMAND,
        split=split,
        coverage=tables.coverage(rows, prices),
        by_load=tables.by_load(rows),
        reliability=tables.reliability(rows),
        pairs=tables.pairs(rows, prices),
    )


def main(arguments: list[str] | None = None) -> int:
    """Write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cases", type=Path)
    parser.add_argument("truth", type=Path)
    parser.add_argument("prices", type=Path)
    parser.add_argument("--split", default="test", choices=("test", "train"))
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="keep the model's answers here for next time")
    parser.add_argument("-o", "--output", type=Path, default=ROOT / "docs" / "odds.md")
    asked = parser.parse_args(arguments)
    rows = measured_rows(asked.cases, asked.truth, answers(asked.cases, asked.keep), asked.split)
    prices = {str(name): float(usd) for name, usd in json.loads(asked.prices.read_text(encoding="utf-8")).items()}
    asked.output.write_text(page(rows, prices, asked.split), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
