"""Choose the measured serving runs that count, and put their values next to predictions.

A table of cases is what `perfmodel predict` reads, with the columns `case_id`, `dataset` (source of the run), `group`
(runs of one setup), `split` (train or test), `trust` (A or B where the setup is known) and, for the test split,
`twin_in_train` ("1" where another source measured the same run in the other split). Truth has a line per measured
value: `case_id, metric, value`. Cells of cases are text.
"""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING

import numpy as np

from perfmodel.cases import KNOWN_SETUP

if TYPE_CHECKING:
    import pandas as pd


def counted(cases: pd.DataFrame, split: str) -> pd.Series[bool]:
    """Return a mask of the cases that count: of the split, setup known, no speculative decoding, not measured in both
    splits.
    """
    keep = (cases.split == split) & cases.trust.isin(KNOWN_SETUP) & (cases.spec_decode == "")
    return keep & (cases.twin_in_train == "0") if split == "test" else keep


def rows_of(cases: pd.DataFrame, truth: pd.DataFrame, split: str) -> pd.DataFrame:
    """Return the measured values that count, a line per value, with the columns of their cases."""
    return truth.merge(cases[counted(cases, split)], on="case_id")


def joined(rows: pd.DataFrame, predictions: pd.DataFrame) -> pd.DataFrame:
    """Add to the measured values `predicted`, `low`, `high` (NaN where there is none) and the relative `error`.

    rows: a line per measured value with `case_id, metric, value`. predictions: a line per case, a column per metric.
    """
    import pandas as pd

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


def fold_of(group: str, folds: int) -> int:
    """Return which of `folds` parts, from 0, a group of runs belongs to; the same for every process and machine."""
    return zlib.crc32(group.encode()) % folds
