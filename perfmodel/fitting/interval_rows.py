"""Put measured values beside estimates and what these depend on, as if the estimates had not been fitted on them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from perfmodel.arrays import Array
from perfmodel.cases import INTERVALS, sensitivities
from perfmodel.estimates import CAUSES, CLASSES, KINDS, figure
from perfmodel.fitting.measured import joined, rows_of

if TYPE_CHECKING:
    import pandas as pd

#: Spread of a value that the constants of an engine do not explain, and most that a value counts with, where they are
#: found again without a group. Chosen: 80 % of closed-loop values lie within the log ratio 0.274, as with fits that did
#: leave their models out; what the fit of the constants counts linearly.
_SCATTER, _FARTHEST = 0.13, 1.0


def answers(cases: Path, keep: Path | None = None) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return `perfmodel.cases.sensitivities` of a table; keep: folder that holds them afterwards, and is read first."""
    import pandas as pd

    if keep is None:
        return sensitivities(cases)
    files = [keep / f"{name}.pkl.gz" for name in ("predictions", "sensitivities")]
    if not all(file.exists() for file in files):
        keep.mkdir(parents=True, exist_ok=True)
        for frame, file in zip(sensitivities(cases), files, strict=True):
            frame.to_pickle(file)
    return pd.read_pickle(files[0]), pd.read_pickle(files[1])


def measured_rows(cases: Path, truth: Path, answered: tuple[pd.DataFrame, pd.DataFrame], split: str) -> pd.DataFrame:
    """Return a line per measured value that counts, with the columns of its case and of what its estimate depends on.

    Besides: `ratio`, log of measured over predicted; `kind` of metric; `figure`; `class` of the basis; `doubt`, by
    which the spread of watts is wider; `low`, `high`: the interval that was predicted. answered: of `answers`.
    """
    import pandas as pd

    table = pd.read_csv(cases, dtype=str, keep_default_na=False)
    predictions, depends = answered
    rows = joined(rows_of(table, pd.read_csv(truth)[["case_id", "metric", "value"]], split), predictions)
    rows = rows[rows.metric.isin(INTERVALS)]
    figures = rows.metric.map({column: figure(*what) for column, what in INTERVALS.items()})
    rows = rows.assign(figure=figures, kind=rows.metric.map({c: KINDS[m] for c, (m, _) in INTERVALS.items()}))
    depends = depends.assign(case_id=predictions.case_id.to_numpy()[depends.row])
    depends = depends.drop_duplicates(["case_id", "figure"]).drop(columns="row")
    rows = rows.merge(depends, on=["case_id", "figure"])
    with np.errstate(divide="ignore", invalid="ignore"):
        rows["ratio"] = np.log(rows.value / rows.predicted)
    rows["class"] = rows.basis.map(CLASSES)
    rows["doubt"] = np.where(rows.kind == "power", rows.power_doubt, 1.0)
    known = np.isfinite(rows.ratio) & np.isfinite(rows[list(CAUSES)]).all(axis=1)
    found: pd.DataFrame = rows[known].reset_index(drop=True)
    return found


def unseen(rows: pd.DataFrame, spreads: Array) -> Array:
    """Return the log ratio of each value as if its model had not been measured on the device, (V,).

    That is what most users ask for. The constants of an engine on a device were found with all runs there. To first
    order, the fit without those of a model moves the factors on the parts to what the other models say (ridge
    regression with the spreads of the factors, (K,), as the prior), and its estimates with them. A model that alone was
    measured on a device under an engine keeps its ratios.
    """
    out = rows.ratio.to_numpy(float).copy()
    every, prior = np.clip(out, -_FARTHEST, _FARTHEST), np.diag(1.0 / np.square(spreads))
    slopes, groups, models = rows[list(CAUSES)].to_numpy(float), rows.group.to_numpy(), rows.model.to_numpy()
    for at in rows.groupby(["engine", "device"]).indices.values():
        _, code, size = np.unique(groups[at], return_inverse=True, return_counts=True)
        each = slopes[at], every[at], 1.0 / (_SCATTER**2 * np.sqrt(size[code]))
        square, product = _normal(*each)
        with_all = np.linalg.solve(square + prior, product)
        for name in set(models[at]) if len(set(models[at])) > 1 else ():
            mine = models[at] == name
            own_square, own_product = _normal(*(part[mine] for part in each))
            without = np.linalg.solve(square - own_square + prior, product - own_product)
            out[at[mine]] -= slopes[at[mine]] @ (without - with_all)
    return out


def _normal(slopes: Array, values: Array, weight: Array) -> tuple[Array, Array]:
    """Return the matrix and the right side of the normal equations of weighted least squares."""
    weighted = slopes * weight[:, None]
    return weighted.T @ slopes, weighted.T @ values
