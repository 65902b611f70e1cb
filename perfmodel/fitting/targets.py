"""Prepare groups of measured runs once, and measure how far predictions with given constants lie from them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from hwdb import Hwdb
from perfmodel.arrays import Array
from perfmodel.cases import (
    KNOWN_SETUP,
    Group,
    Settings,
    aggregated,
    estimate_group,
    group_load,
    groups_of,
    read_cases,
    settle,
)
from perfmodel.costs import LaunchFloor, unfitted
from perfmodel.deployment import Deployments
from perfmodel.engines import Engine
from perfmodel.estimates import Prepared, estimate_replicas, prepare
from perfmodel.fitting.measured import fold_of
from perfmodel.fitting.memo import StepTimes, TrialCosts, memoised
from perfmodel.workload import Load

if TYPE_CHECKING:
    import pandas as pd

#: Metrics that constants are fitted on.
METRICS = (
    "tpot_ms",
    "tpot_ms_p50",
    "itl_ms_p50",
    "ttft_ms",
    "ttft_ms_p50",
    "e2e_ms",
    "output_tok_s",
    "total_tok_s",
    "prefill_tok_s",
    "decode_tok_s",
)
#: Metrics that count of open loops, whose throughput is what is offered and whose first tokens wait in a queue.
OPEN_METRICS = ("tpot_ms", "tpot_ms_p50")
#: Log ratios are clipped at a factor of 12: a measurement further off says nothing about constants. Chosen.
MOST_LOG_RATIO = 2.5
#: A group of n values weighs n^0.5 in the loss: each residual gets the power -0.25 of n, because the loss squares it.
WEIGHT_EXPONENT = -0.25


@dataclass(frozen=True)
class RunGroup:
    """Holds measured runs of one model, engine, mode and device, prepared once so that constants can be tried quickly.

    ids: (N,) case_id of each run. opened: whether they are open loops. memo: step times computed so far, filled as
    constants are tried.
    """

    setup: Prepared
    load: Load
    placed: Deployments
    ids: NDArray[Any]
    device: str
    opened: bool = False
    memo: dict[int, StepTimes] = field(default_factory=dict)

    def predict(self, engine: Engine, factors: Array) -> dict[str, Array]:
        """Predict the output columns of the runs with other constants of the engine and other kernel factors.

        factors: (BOUNDS, KERNELS), by limit and kind of kernel.
        """
        steps = memoised(self.setup.steps, engine, factors, self.memo)
        return estimate_replicas(steps, self.setup.memory, self.load, self.placed).columns()


@dataclass(frozen=True)
class PoolGroup:
    """Holds measured runs with a prefill and a decode pool, as `RunGroup` holds the others.

    settings: of all cases. group: the runs. memo: calls priced so far.
    """

    settings: Settings
    group: Group
    ids: NDArray[Any]
    device: str
    memo: dict[int, Any] = field(default_factory=dict)

    def predict(self, engine: Engine, factors: Array) -> dict[str, Array]:
        """Predict the output columns of the runs with other constants of the engine and other kernel factors."""
        trial = TrialCosts(unfitted(self.group.engine), engine, factors, self.memo)
        costs = LaunchFloor(trial, engine)
        return estimate_group(self.settings, replace(self.group, engine=engine), costs).columns()


@dataclass(frozen=True)
class Part:
    """Names the part of the runs that a fit leaves out: number `left_out` of `folds` parts; -1 leaves out none."""

    folds: int = 1
    left_out: int = -1


def run_groups(
    cases: str | Path,
    database: Hwdb,
    part: Part | None = None,
    devices: Collection[str] = (),
    *,
    pools: bool = False,
    opened: bool = False,
) -> dict[str, list[tuple[Engine, RunGroup | PoolGroup]]]:
    """Return the runs to fit on by name of the engine: split `train`, setup known, no speculative decoding.

    Open loops and disaggregated runs are left out unless asked for (`opened`, `pools`), because the steps they run
    change with the constants. part: the part of the groups that is left out. devices: names of the devices whose runs
    are returned; all by default.
    """
    part = part or Part()
    table = read_cases(cases)
    frame = table.frame
    keep = (frame.split == "train") & frame.trust.isin(KNOWN_SETUP) & (frame.spec_decode == "")
    keep &= np.array([fold_of(g, part.folds) != part.left_out for g in frame.group], bool)
    keep &= frame.device.isin(devices) if devices else True
    table.refuse(~keep.to_numpy(), "not for fitting")
    settings = settle(table, database)
    out: dict[str, list[tuple[Engine, RunGroup | PoolGroup]]] = defaultdict(list)
    devices = frame.device.to_numpy()
    for whole in groups_of(settings):
        if (whole.mode == "open" and not opened) or (whole.pooled and not pools):
            continue
        for device in np.unique(devices[whole.rows]):
            group = replace(whole, rows=whole.rows[devices[whole.rows] == device])
            if whole.pooled:
                ids = settings.cases.frame.case_id.to_numpy()[group.rows]
                out[group.engine.name].append((group.engine, PoolGroup(settings, group, ids, device)))
            else:
                out[group.engine.name].append((group.engine, _laid_out(settings, group, device)))
    return out


def _laid_out(settings: Settings, group: Group, device: str) -> RunGroup:
    """Prepare the runs of a group, all on `device`, with kernel times before any correction of the engine."""
    load = group_load(settings, group)
    placed = aggregated(settings, group, load)
    return RunGroup(
        setup=prepare(group.spec, placed, group.engine, unfitted(group.engine), load),
        load=load,
        placed=placed,
        ids=settings.cases.frame.case_id.to_numpy()[group.rows],
        device=device,
        opened=group.mode == "open",
    )


@dataclass(frozen=True)
class Target:
    """Holds the V measured values of some groups of runs.

    rows: a line per value, with `metric`, `value`, and `at`, the row of its run in all groups together. weight: (V,)
    weight of each value's residual; the mean of their squares is 1.
    """

    groups: tuple[RunGroup | PoolGroup, ...]
    rows: pd.DataFrame
    weight: Array

    def ratios(self, engine: Engine, factors: Array) -> Array:
        """Return the log ratio of prediction over measurement of each value, (V,); 0 where there is no prediction.

        factors: (BOUNDS, KERNELS) kernel factors. Ratios are clipped at `MOST_LOG_RATIO`.
        """
        return self.by_device(engine, {g.device: factors for g in self.groups})

    def by_device(self, engine: Engine, factors: Mapping[str, Array]) -> Array:
        """Do as `ratios` with the factors of each device."""
        columns = [g.predict(engine, factors[g.device]) for g in self.groups]
        out = np.zeros(len(self.rows))
        for metric in METRICS:
            mine = (self.rows.metric == metric).to_numpy()
            if mine.any():
                predicted = np.concatenate([c[metric] for c in columns])[self.rows["at"].to_numpy()[mine]]
                with np.errstate(divide="ignore", invalid="ignore"):
                    out[mine] = np.log(predicted / self.rows.value.to_numpy()[mine])
        return np.where(np.isfinite(out), np.clip(out, -MOST_LOG_RATIO, MOST_LOG_RATIO), 0.0)


def target_of(groups: Sequence[RunGroup | PoolGroup], truth: pd.DataFrame) -> Target:
    """Collect the measured values of `groups`. truth: `case_id, metric, value, group`, a line per value."""
    import pandas as pd

    spans, start = [], 0
    for group in groups:
        span = pd.DataFrame({"case_id": group.ids, "at": np.arange(start, start + len(group.ids))})
        counted = OPEN_METRICS if isinstance(group, RunGroup) and group.opened else METRICS
        spans.append(span.merge(truth[truth.metric.isin(counted)], on="case_id"))
        start += len(group.ids)
    rows = pd.concat(spans, ignore_index=True)
    return Target(groups=tuple(groups), rows=rows, weight=group_weights(rows))


def group_weights(rows: pd.DataFrame) -> Array:
    """Return the weight of each measured value by the size of its group, (V,), with a mean square of 1."""
    weight = rows.groupby("group").value.transform("size").to_numpy(float) ** WEIGHT_EXPONENT
    return np.asarray(weight / np.sqrt(np.mean(weight**2)))
