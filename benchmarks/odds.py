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
from perfmodel.fitting import answers, measured_rows

ROOT = Path(__file__).resolve().parents[1]
COMMAND = "python -m benchmarks.odds CASES.csv TRUTH.csv PRICES.json"
HEAD = """# Ranges and odds

What a range of perfmodel means, where it comes from, and how well ranges and odds held on measured runs.

## What a range means

`TTFT 111 ms (72-172)` says: of measurements of such systems, 80 % lie between 72 and 172 ms. It is uncertainty of the
model, not scatter of requests: a range around a p99 is where the p99 of a run lies.

## Where it comes from

A real system differs from its estimate by a few *causes*, each a factor on a part of it:

| cause | factor on | shared by all estimates of |
|---|---|---|
| compute, memory, link, launch | work that arithmetic, memory, links or launches limit | a device under an engine |
| host, front_end | time of the host per step, of the front end per request | an engine |
| power | watts of a device above those while it waits | a device under an engine |
| arrivals | waits, which depend on how requests arrive behind a mean rate | everything |

How far each factor is off was learned from published runs (`perfmodel/estimates/uncertainty.toml`). How much a metric
depends on it follows from the estimate itself: the shares of compute, memory and so on in the time of a step, and how
queues magnify a longer step. Close to capacity, 10 % slower steps make waits several times longer, so ranges are narrow
at low load and wide near saturation. Means, p90 and p99 each have their own sensitivities, and a rest of their own that
no cause explains. Throughput, watts, joules and money follow from the same factors. Estimates that rest on less
(extrapolated, calibrated, roofline) have wider factors. Own runs (`perfmodel calibrate`) replace the spread of each
factor by what is left of it.

One bound is certain: a decode step reads the weights that a token needs from device memory once. No range of TPOT, of a
whole request or of the throughput of a closed loop goes beyond the time which that takes at the rated bandwidth, and a
bound on TPOT below it has no chance.

## What odds mean

`Sure %` (`slo_chance`) is the chance that all SLOs hold together. TTFT and TPOT share their causes, so it is more than
the product of both chances, and never more than the least. `confidence` in a scenario is asked of each bound by
itself.

`plan` compares candidates draw by draw: all get the same errors where they share a cause. In a draw a candidate is the
better choice if it keeps every SLO and the other does not, or if both or neither do and it ranks better (a tie counts
half). `best_beats_chance` (JSON, CSV) is how often that is rank 1 rather than the row; `odds_hang_on` names the causes
that carry most of the variance of that outcome, and their shares. A measurement of that part is worth most
(`perfmodel next`).

```python
found = perfmodel.estimate(...)
found.half_width("ttft", "p99")  # log half-width of the 80 % range, an array with one value per deployment
```

"""


def page(rows: pd.DataFrame, prices: dict[str, float], split: str) -> str:
    """The whole page. rows: measured values with what their estimates depend on. prices: USD per hour by device."""
    sections = [
        HEAD,
        f"## How well they held\n\nMade by `{COMMAND}`, on runs of split `{split}`, which nothing was fitted on (setup "
        "known, no speculative decoding, not measured in both splits).\n",
        "### Inside the 80 % range\n\nEvery metric, kind of load and basis with at least 30 values. `inside`: share of "
        "measurements within the range; `range`: its median half-width, as a factor. `usd_per_million_tokens`: the "
        "price of the devices over the measured output tokens.\n\n" + tables.coverage(rows, prices),
        "### Open loops by load\n\nShare of capacity, as estimated.\n\n" + tables.by_load(rows),
        "### Chance against frequency\n\nLimits at 0.5 to 2 times each estimate: how often a measurement keeps them, "
        "by the chance that was said; then a limit on TTFT and one on TPOT of the same run together.\n\n"
        + tables.reliability(rows),
        "### A beats B\n\nPairs of runs of one model, data set and load on different devices or in different layouts. "
        "`said`: mean odds of the one that the estimate prefers; `was`: how often it measured better. `as strangers`: "
        "the odds without common causes. Money counts where both devices have a price.\n\n"
        + tables.pairs(rows, prices),
    ]
    return "\n".join(sections)


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
