"""Learn how far measured serving runs lie from their estimates, by cause (split `train`).

The spreads of `perfmodel.estimates.uncertainty` are found from published runs: the estimates and what they depend on
(`interval_rows`), as if the group of each run had not been measured (`left_out`), and the spreads with which 80 % of
measurements lie inside the intervals (`interval_fit`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from hwdb import outfile
from perfmodel.arrays import Array
from perfmodel.estimates import DEVIATE_80, Uncertainty, uncertainty
from perfmodel.fitting.engine_fit import measured_slopes
from perfmodel.fitting.interval_fit import COVERAGE, MIN_VALUES, STARTS, fit_spreads, spreads_of
from perfmodel.fitting.interval_rows import answers, measured_rows, unseen
from perfmodel.fitting.left_out import changes_left_out
from perfmodel.fitting.pooling import Slopes

if TYPE_CHECKING:
    import pandas as pd

#: Parts that groups of runs are dealt into. Chosen: with 5, four fifths of the runs are behind each refit.
PARTS = 5
#: Causes that the times of kernels are made of.
KERNEL_CAUSES = ("compute", "memory", "link", "launch")
#: Least change of a value, by the times of its kernels, from which these times are found. Chosen: below a third, what
#: else the value depends on counts more.
LEAST_DEPENDENCE = 0.3
#: Shares inside that count as about 80 %.
NEAR = (0.75, 0.86)
#: The spreads that estimates read.
SPREADS = Path(__file__).resolve().parents[1] / "estimates" / "uncertainty.toml"
HEAD = """# Log standard deviations of what estimates depend on: [causes] of factors on the parts of a system, [classes]
# how much wider all spreads are by what the estimate rests on, [rest] what is left of each figure by load (idle and
# open: of an open loop without load and at capacity), [shared] the share of the rest's variance that all configurations
# of one model, device and engine have in common.
# Made by `python -m perfmodel.fitting intervals CASES.csv TRUTH.csv --write`.
"""


@dataclass(frozen=True)
class Held:
    """Holds how well ranges hold on left-out values.

    inside: share within, where the n values of a group and figure weigh the square root of n. near: pairs of figure and
    load with between 75 and 86 % inside, of `pairs` with enough values.
    """

    inside: float
    near: int
    pairs: int

    def __str__(self) -> str:
        """Return a sentence."""
        low, high = (f"{100.0 * share:.0f}" for share in NEAR)
        return f"{100.0 * self.inside:.1f} % inside; {self.near} of {self.pairs} figures by load {low} to {high} %"


@dataclass(frozen=True)
class IntervalFit:
    """Holds fitted spreads, and how well ranges by the present ones (`before`) and by these (`after`) hold."""

    spreads: Uncertainty
    before: Held
    after: Held


def fit_intervals(cases: Path, truth: Path, keep: Path | None = None) -> IntervalFit:
    """Return the spreads of causes and of what is left, learned from runs of split `train`.

    cases, truth: paths of the tables described in `perfmodel.fitting.measured`. keep: folder that holds the
    answers of the model and the slopes of the runs, which take some minutes; they are read from there where it has
    them.
    """
    rows = measured_rows(cases, truth, answers(cases, keep), "train")
    ratio = left_out(rows, measured_slopes(cases, truth, keep=keep))
    found = fit_spreads(rows, ratio)
    return IntervalFit(found, before=held(rows, ratio, uncertainty()), after=held(rows, ratio, found))


def held(rows: pd.DataFrame, ratio: Array, known: Uncertainty) -> Held:
    """Return how well ranges hold. rows, ratio: as of `fit_spreads`. known: the spreads behind the ranges."""
    causes, rest = spreads_of(rows, known)
    width = DEVIATE_80 * np.sqrt(np.square(causes).sum(axis=1) + np.square(rest))
    weight = rows.groupby(["group", "figure"]).figure.transform("size") ** -0.5
    table = rows[["figure", "arrival"]].assign(weight=weight, inside=weight * (np.abs(ratio) <= width), values=1)
    each = table.groupby(["figure", "arrival"]).sum()
    shares = (each.inside / each.weight)[each["values"] >= MIN_VALUES]
    return Held(float(each.inside.sum() / each.weight.sum()), int(shares.between(*NEAR).sum()), len(shares))


def left_out(rows: pd.DataFrame, measured: Mapping[str, Slopes]) -> Array:
    """Return the log of measured over predicted of each value as if its group had not been measured, (V,).

    Factors and levels are fitted again without parts of the groups. How much longer kernels of a run then take is what
    its values with slopes say, or those of its group. Other values, such as percentiles and watts, follow by how much
    they depend on the times of kernels. Runs of groups without any such value are as `unseen` has them.

    Args:
        rows: of `measured_rows`.
        measured: engine -> its values, of `measured_slopes`.
    """
    changes = changes_left_out(measured, "group", PARTS)
    found = rows[["case_id", "metric", "group"]].merge(changes, on=["case_id", "metric"], how="left")
    depends = rows[list(KERNEL_CAUSES)].to_numpy(float).sum(axis=1)
    longer = found.assign(longer=np.where(np.abs(depends) >= LEAST_DEPENDENCE, -found.change / depends, np.nan))
    by_run, by_group = (longer.groupby(name).longer.transform("median") for name in ("case_id", "group"))
    change = found.change.fillna(-by_run.fillna(by_group) * depends).to_numpy()
    return np.where(np.isfinite(change), rows.ratio + change, unseen(rows, np.array(list(STARTS.values()))))


def intervals_text(found: Uncertainty) -> str:
    """Return the text of `uncertainty.toml`."""
    tables = {"causes": found.causes, "shared": found.shared}
    tables |= {f"classes.{kind}": values for kind, values in found.classes.items()}
    tables |= {f"rest.{name}": values for name, values in found.rest.items()}
    lines = (
        f"[{name}]\n" + "".join(f"{key} = {value:.3f}\n" for key, value in values.items())
        for name, values in tables.items()
    )
    return "\n".join([HEAD, *lines])


def write_intervals(found: Uncertainty, path: Path = SPREADS) -> None:
    """Write the spreads to the file that estimates read."""
    outfile.write_text(path, intervals_text(found))


def quantile(rows: pd.DataFrame, rank: float = COVERAGE) -> float:
    """Return the weighted quantile of `ratio`, |log(estimate / measurement)|, at `rank` (0 to 1).

    The rows of one `group` together weigh the square root of their number, so that large groups do not dominate.
    """
    size = rows.groupby("group").ratio.transform("size")
    ordered = rows.assign(weight=1.0 / np.sqrt(size)).sort_values("ratio")
    at = ordered.weight.cumsum() / ordered.weight.sum()
    return float(np.interp(rank, at, ordered.ratio))
