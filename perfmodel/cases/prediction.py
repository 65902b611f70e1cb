"""`predict`: a table of cases in, the same table with predictions out.

The stages are modules of their own: `read` (cells), `resolve` (names), `settings` (blanks), `case_groups` (groups,
loads, deployments), `evaluate` (estimates), `write` (output columns).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from hwdb import Hwdb, InputError, PerfmodelError
from hwdb import load as load_hwdb
from perfmodel.arrays import Index
from perfmodel.cases.case_groups import Group, groups_of
from perfmodel.cases.closed_runs import evaluate_run
from perfmodel.cases.evaluate import costs_of, remarks_on
from perfmodel.cases.hosts import hosts_of
from perfmodel.cases.kept_limits import load_remarks
from perfmodel.cases.read import Cases, cases_of, read_cases
from perfmodel.cases.settings import Settings, settle
from perfmodel.cases.write import (
    CONFIGURATION_REMARK,
    INTERVALS,
    LOAD_REMARK,
    PREDICTED,
    Evaluated,
    answers_of,
    output_frame,
)
from perfmodel.cooperative_tasks import answer_each_kind, run_cooperatively
from perfmodel.costs import REMARK, Ask, CostModel, Deferred
from perfmodel.engines import Adjustment
from perfmodel.estimates import CAUSES, LOADS, Estimates, figure, sensitivity
from perfmodel.profiles import expect_reads
from perfmodel.vocabulary import BASES

if TYPE_CHECKING:
    import pandas as pd

#: Seconds that reading tables takes per case without compiled code. Measured over 12,761 cases of 60 devices on a
#: server core of 2020.
SECONDS_PER_CASE = 4e-4
#: Groups that are evaluated beside each other. Chosen: more share few table look-ups more, and each holds its arrays.
GROUPS_TOGETHER = 512
#: Called with (rows done, rows) after each group.
Progress = Callable[[int, int], None]


def _as_text(cases: pd.DataFrame) -> pd.DataFrame:
    """Return a frame of cases as text, unknown values as ""; `InputError` where it is no frame."""
    if not hasattr(cases, "notna"):
        raise InputError(f"predict: cases {repr(cases)[:40]} is no table; give the path of a CSV file, or a DataFrame")
    return cases.astype(object).where(cases.notna(), "").astype(str)


def predict(
    cases: str | Path | pd.DataFrame,
    *,
    hwdb: Hwdb | None = None,
    costs: CostModel | None = None,
    adjustments: Sequence[Adjustment] = (),
    progress: Progress | None = None,
    psu: str = "",
) -> pd.DataFrame:
    """Predict every row of a table of cases; return the table with the columns of `OUTPUT`, intervals and remarks.

    Known input columns are listed by `perfmodel.cases.columns()`; other columns pass through untouched, and a column
    that `predict` writes itself is replaced. A row that cannot be answered has the reason in `error` and no numbers.
    Intervals hold 80 % of measurements (`_lo`, `_hi`).

    Args:
        cases: path of a CSV file (plain or gzipped), or a frame.
        hwdb: where devices are looked up; the shipped facts by default.
        costs: prices the operators of every row; by default the cost model of each row's engine.
        adjustments: factors from the user's own benchmarks, see `perfmodel.user_calibration`.
        progress: called with (rows done, rows) as groups of rows finish.
        psu: 80 PLUS level of the power supplies of servers, "" for the usual one; `wall_power_w` counts their losses.

    Returns:
        The table with the columns of `OUTPUT` and: `fits` (memory suffices), `saturated` (more is asked than can be
            served), `basis` (what the estimate rests on), `error`, and `device_remark` where a device's file gives
            numbers that no profile was measured at, `configuration_remark` where engines would refuse the row,
            `load_remark` where an open loop is answered beyond its capacity, or at the rate that kept its limits.

    Raises:
        InputError: the file is no table, or lacks the column `model` or `device`.
    """
    database = hwdb or load_hwdb()
    if isinstance(cases, str | Path):
        return _predicted(read_cases(cases), database, costs, adjustments, progress, psu)
    read = cases_of(_as_text(cases))
    answered = _predicted(read, database, costs, adjustments, progress, psu)
    kept = [c for c in cases.columns if c not in (*PREDICTED, REMARK, CONFIGURATION_REMARK, LOAD_REMARK)]
    answered[kept] = cases[kept]  # the caller's own types, which the text of a case does not keep
    return answered


def sensitivities(cases: str | Path, *, progress: Progress | None = None) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return (the predictions of a table of cases, what they depend on).

    The second has a line per row of the table that is answered and figure with an interval: `row`, `figure`, `load`
    (share of capacity), `arrival` (kind of load), `basis`, `power_doubt`, and d ln(figure) / d ln(cause) by cause.
    """
    import pandas as pd

    parts: list[pd.DataFrame] = []

    def keep(rows: Index, found: Estimates) -> None:
        """Keep what the estimates of a group of rows depend on."""
        same = {
            "row": rows,
            "load": found.causes.load,
            "arrival": np.array(LOADS)[found.causes.arrival],
            "basis": np.array(BASES)[found.basis],
            "power_doubt": found.causes.power_doubt,
        }
        for metric, statistic in dict.fromkeys(INTERVALS.values()):
            by_cause = dict(zip(CAUSES, sensitivity(found, metric, statistic), strict=True))
            parts.append(pd.DataFrame({"figure": figure(metric, statistic), **same, **by_cause}))

    predictions = _predicted(read_cases(cases), load_hwdb(), None, (), progress, each=keep)
    return predictions, pd.concat(parts, ignore_index=True)


def _predicted(
    cases: Cases,
    database: Hwdb,
    costs: CostModel | None,
    adjustments: Sequence[Adjustment],
    progress: Progress | None,
    psu: str = "",
    each: Callable[[Index, Estimates], None] | None = None,
) -> pd.DataFrame:
    """Predict cases that are read, group by group; a group that fails has its rows refused and leaves the others.

    each: called with the rows and the estimates of each group.
    """
    settings = settle(cases, database)
    groups = [replace(g, engine=g.engine.adjusted_by(adjustments, g.spec.name)) for g in groups_of(settings)]
    hosts = hosts_of(settings, database, psu)
    done = int((settings.cases.error != "").sum())
    expect_reads(SECONDS_PER_CASE * len(cases))
    found: dict[int, Evaluated | PerfmodelError] = {}
    for place in range(0, len(groups), GROUPS_TOGETHER):
        tasks = [partial(_evaluated, settings, group, costs) for group in groups[place : place + GROUPS_TOGETHER]]
        for number, answer in run_cooperatively(tasks, answer_each_kind):
            found[place + number] = answer
            done += len(groups[place + number].rows)
            if progress:
                progress(done, len(cases))
    evaluated: list[Evaluated] = []
    for number, group in enumerate(groups):
        answer = found[number]
        if isinstance(answer, PerfmodelError):
            settings.cases.refuse(np.isin(np.arange(len(cases)), group.rows), str(answer))
            continue
        evaluated.append(answer)
        if each:
            each(group.rows, answer.found)
    return output_frame(settings, answers_of(evaluated, hosts))


def _evaluated(settings: Settings, group: Group, costs: CostModel | None, ask: Ask) -> Evaluated | PerfmodelError:
    """Estimate a group of rows, whose steps are priced by `ask`; return the error where that fails."""
    try:
        found, share = evaluate_run(settings, group, Deferred(costs or costs_of(group.engine), ask))
        loads = load_remarks(settings, group, found, share)
        return Evaluated(group.rows, found, remarks_on(settings, group), loads)
    except PerfmodelError as problem:
        return problem
