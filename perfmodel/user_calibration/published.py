"""Learn from published runs how much systems differ, and how values scatter within one.

Published groups of runs (one model, device, engine and data set) stand for users' systems. The model is asked for every
run with each part of `PARTS` a little slower; with these derivatives the factors of a group follow from any of its
runs. The spread of the factors over groups of split `train` is the prior of `perfmodel.user_calibration`, what is left
within groups the noise. Then each group is calibrated on a few runs drawn at random and judged on its others.
"""

from __future__ import annotations

import gzip
import io
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from hwdb import load
from perfmodel.arrays import Array, Index
from perfmodel.cases import KNOWN_SETUP, predict
from perfmodel.engines import PARTS, Adjustment, families
from perfmodel.user_calibration.fit import Priors, covariance_of, mode
from perfmodel.user_calibration.rows import kind_of, value_weights

if TYPE_CHECKING:
    import pandas as pd

#: Logarithm of the factor that a part is slowed by for its derivative. Chosen: large against rounding.
STEP = 0.15
#: Derivatives beyond this come from queues at their limit, where no line holds. Chosen.
STEEPEST = 4.0
#: Rounds in which priors and noise are fitted in turn. Chosen: they settle.
ROUNDS = 8
#: Spreads that the fit starts from, and bounds of those of factors. Chosen: wide.
START, LEAST, MOST = 0.2, 0.05, 0.6
#: A group informs about a factor if it reduces the prior's variance by this share; other groups are left out of the
#: factor's spread. Chosen.
TOLD = 0.3
#: Fewest informative groups from which the spread of a factor is fitted. Chosen.
FEWEST_GROUPS = 8
#: Noise is widened by this factor, since the factors were fitted on the same runs. Chosen on `train`: with it 76 to
#: 83 % of the values of runs that are left out lie within their 80 % ranges, without it 63 to 73 %.
WIDENED = 1.5
#: Standard deviations per median absolute deviation of a normal distribution.
MAD = 1.4826


@dataclass(frozen=True)
class Values:
    """Holds measured values with the model's answers.

    frame: a line per value with the columns of its case. log_ratio: (V,) log of measured over answered. slope: (V, P)
    derivatives of the log of the answer by log factor. kind: (V,) kind of figure. run: (V,) number of its run.
    """

    frame: pd.DataFrame
    log_ratio: Array
    slope: Array
    kind: np.ndarray
    run: Index

    def take(self, keep: np.ndarray) -> Values:
        """Return the values for which `keep` is True, or those of its numbers."""
        at = np.flatnonzero(keep) if keep.dtype == bool else keep
        return Values(self.frame.iloc[at], self.log_ratio[at], self.slope[at], self.kind[at], self.run[at])

    def noise(self, by_kind: dict[str, float]) -> Array:
        """Return the standard deviation that each value counts with, (V,); values of a kind in one run share theirs."""
        return np.array([by_kind[kind] for kind in self.kind]) / np.sqrt(value_weights(self.run, self.kind))

    def groups(self) -> Iterator[tuple[str, Values]]:
        """Yield (name, values) of each group of runs."""
        for name, at in rows_by(self.frame.group.to_numpy(object)).items():
            yield name, self.take(at)


def answers(cases: str | Path, keep: Path | None = None) -> dict[str, pd.DataFrame]:
    """Return the predictions of all cases by part that is slowed, "" as shipped (eight times the time of `predict`).

    keep: folder in which the predictions are kept, and from which they are read where it has them.
    """
    import pandas as pd

    out = {}
    for part in ("", *PARTS):
        file = None if keep is None else keep / f"{part or 'shipped'}.csv.gz"
        if file is not None and file.exists():
            out[part] = pd.read_csv(file, low_memory=False)
            continue
        factors = ((part, float(np.exp(STEP))),)
        slower = (
            [Adjustment(d.name, family, factors) for d in load().devices() for family in families()] if part else []
        )
        written = predict(cases, adjustments=slower).to_csv(index=False)
        if file is not None:
            file.write_bytes(gzip.compress(written.encode()))
        # Read back: columns have the same types (numbers, NaN where a cell is empty) whether they were kept or made.
        out[part] = pd.read_csv(io.StringIO(written), low_memory=False)
    return out


def values_of(truth: str | Path, answered: dict[str, pd.DataFrame]) -> Values:
    """Return the measured values of runs of known setup that the model answers, with derivatives."""
    import pandas as pd

    first = answered[""]
    spec = first.spec_decode.fillna("") if "spec_decode" in first else ""
    keep = first.trust.isin(KNOWN_SETUP) & (spec == "")
    keep &= first.saturated.astype(str).str.lower() != "true"
    rows = pd.read_csv(truth)[["case_id", "metric", "value"]].merge(
        first.loc[keep, ["case_id", "group", "split", "mode", "device", "engine"]], on="case_id"
    )
    named = rows.metric.map(kind_of)
    rows, kinds = rows[named.notna()], named[named.notna()].to_numpy(object)
    shipped = _at(first, rows)
    slope = np.stack([np.log(_at(answered[part], rows) / shipped) / STEP for part in PARTS], axis=1)
    log_ratio = np.log(rows.value.to_numpy(float) / shipped)
    good = np.isfinite(log_ratio) & np.isfinite(slope).all(axis=1)
    run = np.unique(rows.case_id.to_numpy(object)[good], return_inverse=True)[1]
    return Values(rows[good], log_ratio[good], np.clip(slope[good], -STEEPEST, STEEPEST), kinds[good], run)


def rows_by(names: np.ndarray) -> dict[str, np.ndarray]:
    """Return name -> numbers of the places where it stands, names in order."""
    every, number = np.unique(names.astype(str), return_inverse=True)
    order = np.argsort(number, kind="stable")
    return dict(zip(every.tolist(), np.split(order, np.cumsum(np.bincount(number))[:-1]), strict=True))


def _at(answered: pd.DataFrame, rows: pd.DataFrame) -> Array:
    """Return what predictions say of each measured value, (V,)."""
    import pandas as pd

    table = answered.drop_duplicates("case_id").set_index("case_id")
    out = np.full(len(rows), np.nan)
    for metric in rows.metric.unique():
        mine = (rows.metric == metric).to_numpy()
        out[mine] = pd.to_numeric(table[metric], errors="coerce").reindex(rows.case_id[mine]).to_numpy(float)
    return np.where(out > 0, out, np.nan)


def fit_priors(values: Values) -> Priors:
    """Return the spreads of factors over groups and of values within groups, the latter widened."""
    kinds = sorted(set(values.kind))
    factors, noise = np.full(len(PARTS), START), dict.fromkeys(kinds, START)
    groups = [group for _, group in values.groups() if len(group.kind) > 2]
    for _ in range(ROUNDS):
        found, rest = [], []
        for group in groups:
            spread = group.noise(noise)
            point = mode(group.slope, group.log_ratio, spread, factors)
            left = np.diag(covariance_of(group.slope, 1.0 / np.square(spread), factors))
            found.append(np.where(left < (1.0 - TOLD) * np.square(factors), np.abs(point), np.nan))
            rest.append(group.log_ratio - group.slope @ point)
        table, left_over = np.array(found), np.concatenate(rest)
        order = np.concatenate([group.kind for group in groups])
        told = np.isfinite(table).sum(axis=0) >= FEWEST_GROUPS
        middle = np.array([np.nanmedian(column) if ok else np.nan for column, ok in zip(table.T, told, strict=True)])
        factors = np.clip(np.where(told, MAD * middle, factors), LEAST, MOST)
        noise = {kind: MAD * float(np.median(np.abs(left_over[order == kind]))) for kind in kinds}
    return Priors(factors, {kind: WIDENED * width for kind, width in noise.items()})
