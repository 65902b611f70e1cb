"""Command line: `python -m perfmodel.user_calibration CASES.csv TRUTH.csv [--keep FOLDER] [--prices FILE] [--write]`.

Fits how much systems differ (the priors of `calibrate`) on published runs of split `train`, and prints what calibrating
on one, two and four runs gains on groups of each split, and what one run per device gains for decisions. It takes eight
times the time of `predict`; FOLDER keeps the predictions. CASES and TRUTH are described in
`perfmodel/fitting/measured.py`; FILE is JSON of device and USD per hour.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from hwdb import PerfmodelError, infile
from perfmodel.user_calibration.published_file import fit_own_runs, own_runs_text, write_own_runs


def main(arguments: list[str] | None = None) -> int:
    """Fit and print; return 0, or 2 when the input is wrong."""
    parser = argparse.ArgumentParser(
        prog="python -m perfmodel.user_calibration",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("cases", type=Path)
    parser.add_argument("truth", type=Path)
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="keep the predictions here")
    parser.add_argument("--prices", type=Path, metavar="FILE", help="compare devices by these USD per hour")
    parser.add_argument("--write", action="store_true", help="put the result into the package")
    asked = parser.parse_args(arguments)
    try:
        if asked.keep is not None:
            asked.keep.mkdir(parents=True, exist_ok=True)
        prices = {} if asked.prices is None else json.loads(infile.read_table_text(asked.prices, "list of prices"))
        found = fit_own_runs(asked.cases, asked.truth, asked.keep, prices)
        print(own_runs_text(found))
        if asked.write:
            write_own_runs(found)
    except PerfmodelError as problem:
        print(problem, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
