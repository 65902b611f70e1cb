"""Fit the constants of `perfmodel.power` on measured watts and joules of serving runs (split `train`).

Watts of a run are measured, or its joules per output token times its measured rate over its devices. What its devices
do is predicted, as it is for a user. Architectures are partly pooled: each may differ from others with its kind of
memory, and that kind from all, at a price. Errors that are printed, and the intervals, are of runs that the constants
were not fitted on: groups of runs left out in turn, and for architectures without runs whole architectures.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from hwdb import Hwdb
from hwdb import load as load_hwdb
from perfmodel.arrays import Array, Index, Mask
from perfmodel.cases import Group, Settings, aggregated, group_load, groups_of, read_cases, settle
from perfmodel.costs import default
from perfmodel.estimates import DEVIATE_80, estimate_load, uncertainty
from perfmodel.fitting.intervals import quantile
from perfmodel.fitting.measured import counted, fold_of
from perfmodel.power import MEMORY_KINDS, chip, counted_use, limited, memory_kind, share_above_ready
from perfmodel.vocabulary import WORK

if TYPE_CHECKING:
    import pandas as pd

METRICS = ("power_w_per_device", "energy_j_per_output_token", "output_tok_s", "total_tok_s")
FOLDS = 5
#: Watts of a server between requests over the limit. Measured: 119.5 of 700 W (H100) and 69.5 of 400 W (A100), medians
#: of powertrace-sim's runs with no token in flight.
READY = 0.172
#: Where the bent sum tends, over the limit. Chosen by groups left out: 1.05, 1.1, 1.2 and 1.3 score 9.5, 9.4, 9.7 and
#: 9.7 % on measured watts, with 90th percentiles of 27.8, 27.4, 28.7 and 28.4 %.
HEAD = 1.1
#: Power of the use of units for 8 and 4 bits. Groups left out hardly tell: 1, 0.7, 0.5 and 0.3 score 9.6, 9.4, 9.3 and
#: 9.1 % on measured watts with 90th percentiles of 27 %, and 11.4 to 11.7 % on joules. Chosen between two facts: long
#: prompts in fp8 on H100 draw 0.80 to 0.87 of the limit (at 1 they are 22 % too high, at 0.5 16 %, at 0.3 6 %), and
#: large fp8 products alone 0.98 on H200 at half of the peak (at 1 the limit, at 0.5 0.91, at 0.3 0.75).
NARROW = 0.5
#: Constants to start from: watts of running kernels, and of each kind of work at peak, over the limit. Links are left
#: at 0: their bytes explain nothing that running kernels do not.
START = {"running": 0.1, "flop_16": 1.6, "flop_8": 2.0, "flop_4": 2.0, "moved": 0.8}
#: Price of a log factor of 1 of an architecture, and of a kind of memory, in squared residuals of weight one.
#: Chosen by groups left out, as the weight of residuals and their scale: errors above 15 % count linearly.
PRICE, KIND_PRICE, RESIDUAL_WEIGHT, SCALE = 1.0, 0.5, 4.0, 0.15
#: Price of the factor of running kernels over that of bytes moved. Clocks and voltage, which running kernels pay for,
#: differ more between boards than the energy of a byte. Chosen by groups left out: at 1, 0.5, 0.3, 0.15 and 0.1 the
#: 90th percentile on measured watts is 27.3, 28.1, 27.9, 26.8 and 27.0 %; by architectures left out it is 43, 42, 40,
#: 40 and 40 %. At 1, cards with GDDR drew by their bytes alone, and one stream and 32 of one model could not both fit.
RUNNING_PRICE = 0.15
START_PRICE = 0.1
#: Weight of watts that were measured, over those that follow from joules and a rate. Chosen by groups left out: the
#: bias on measured watts falls, errors stay.
MEASURED_WEIGHT = 2.0


@dataclass(frozen=True)
class PowerFit:
    """Hold fitted constants: `shares` of the limit by name (`START`), and factors (running, moved) by architecture and
    by kind of memory.
    """

    shares: dict[str, float]
    memory: dict[str, tuple[float, float]]
    architecture: dict[str, tuple[float, float]]


def power_rows(cases: Path, truth: Path, split: str = "train", database: Hwdb | None = None) -> pd.DataFrame:
    """Return a line per run with measured watts: what it drew, what its devices did by the model, and its device.

    Columns: case_id, group, device, arch, memory, rated, limit (W), busy, kernels, `WORK` (shares of time), rate
    (predicted output tokens/s), devices, watts (measured or from joules), joules (measured, else NaN).
    """
    import pandas as pd

    values = pd.read_csv(truth)
    values = values[values.metric.isin(METRICS)].pivot_table(index="case_id", columns="metric", values="value")
    measured = values.index[values[list(METRICS[:2])].notna().any(axis=1)]
    table = read_cases(cases)
    keep = counted(table.frame, split) & table.frame.case_id.isin(measured)
    table.refuse(~keep.to_numpy(), "not for fitting")
    settings = settle(table, database or load_hwdb())
    parts = [_group_rows(settings, group) for group in groups_of(settings) if not group.pooled]
    rows = pd.concat(parts, ignore_index=True).merge(values, left_on="case_id", right_index=True)
    rate = _output_rate(rows)
    joules = rows.energy_j_per_output_token
    rows["watts"] = rows.power_w_per_device.fillna(joules * rate / rows.devices)
    found: pd.DataFrame = rows.assign(joules=joules)[np.isfinite(rows.watts)].reset_index(drop=True)
    return found


def _output_rate(rows: pd.DataFrame) -> pd.Series[float]:
    """Return the measured output tokens/s of each run, (N,): as published, or their part of all tokens."""
    return rows.output_tok_s.fillna(rows.total_tok_s * rows.osl / (rows.isl + rows.osl))


def _group_rows(settings: Settings, group: Group) -> pd.DataFrame:
    """Return what the devices of the runs of one group do, a line per run."""
    import pandas as pd

    load = group_load(settings, group)
    placed = aggregated(settings, group, load)
    found = estimate_load(group.spec, load, placed, engine=group.engine, costs=default(group.engine))
    devices = [placed.devices[i] for i in placed.device]
    rated = np.array([d.tdp for d in devices])
    frame = settings.cases.frame.iloc[group.rows]
    use = found.power_use
    return pd.DataFrame(
        {
            **{name: frame[name].to_numpy() for name in ("case_id", "group", "dataset", "device")},
            **{name: settings.cases.number[name][group.rows] for name in ("isl", "osl")},
            "arch": [chip(d) for d in devices],
            "memory": [memory_kind(d) for d in devices],
            "rated": rated,
            "limit": np.fmin(rated, placed.power_cap),
            "devices": found.devices,
            "busy": use.busy,
            "kernels": use.kernels,
            **dict(zip(WORK, use.use, strict=True)),
            "prompts_busy": use.prompts_busy,
            "prompts_kernels": use.prompts_kernels,
            **{f"prompts_{name}": part for name, part in zip(WORK, use.prompts_use, strict=True)},
            "rate": found.rates.output,
        }
    )


@dataclass(frozen=True)
class _Runs:
    """Hold the columns of R runs that watts follow from, as arrays: work (R, len(START)), the rest (R,)."""

    work: Array
    prompts: Array
    busy: Array
    prompts_busy: Array
    rated: Array
    limit: Array

    @classmethod
    def of(cls, rows: pd.DataFrame) -> _Runs:
        """Take them from `power_rows`."""
        busy, in_prompts, rated, limit = (rows[name].to_numpy() for name in ("busy", "prompts_busy", "rated", "limit"))
        whole, prompts = (rows[[f"{kind}{name}" for name in WORK]].to_numpy().T for kind in ("", "prompts_"))
        kernels, with_prompts = rows.kernels.to_numpy(), rows.prompts_kernels.to_numpy()
        parts = (
            (np.maximum(whole - prompts, 0.0), busy - in_prompts, np.maximum(kernels - with_prompts, 0.0)),
            (prompts, in_prompts, with_prompts),
        )
        asked = [WORK.index(name) for name in START if name in WORK]
        both = [np.vstack([run, counted_use(use, time, NARROW)[asked]]).T for use, time, run in parts]
        return cls(both[0], both[1], busy, in_prompts, rated, limit)

    def watts(self, shares: Array, factors: Array) -> Array:
        """Return the watts of each run, (R,). shares: in the order of `START`. factors: (R, 2) of running and moved."""
        share = np.full(len(self.busy), READY)
        for work, busy in ((self.work, self.busy - self.prompts_busy), (self.prompts, self.prompts_busy)):
            added = work * shares
            added[:, 0] *= factors[:, 0]
            added[:, list(START).index("moved")] *= factors[:, 1]
            share += share_above_ready(busy, added.sum(axis=1), READY, HEAD - READY)
        return limited(share * self.rated, np.minimum(READY * self.rated, self.limit), self.busy, self.limit)


def predicted(fit: PowerFit, rows: pd.DataFrame) -> Array:
    """Return the watts that a fit predicts for the runs `rows`, (N,)."""
    plain = (1.0, 1.0)
    known = [fit.architecture.get(a, fit.memory.get(m, plain)) for a, m in zip(rows.arch, rows.memory, strict=True)]
    return _Runs.of(rows).watts(np.array([fit.shares[name] for name in START]), np.array(known).reshape(-1, 2))


def fit_power(rows: pd.DataFrame) -> PowerFit:
    """Fit the constants on the runs `rows`; each group of runs weighs the square root of their number."""
    from scipy.optimize import least_squares

    runs, target = _Runs.of(rows), np.log(rows.watts.to_numpy())
    archs, arch = np.unique(rows.arch.to_numpy(str), return_inverse=True)
    memories = [m for m in MEMORY_KINDS if m in set(rows.memory)]
    kind_of = dict(zip(rows.arch, rows.memory, strict=True))
    kind = np.array([memories.index(kind_of[a]) for a in archs])
    start = np.log(list(START.values()))
    size = rows.groupby("group").watts.transform("size").to_numpy(float)
    weight = RESIDUAL_WEIGHT * size**-0.25 * np.where(rows.power_w_per_device.notna(), MEASURED_WEIGHT, 1.0)

    def parts(point: Array) -> tuple[Array, Array, Array]:
        """Split a point into log shares, log factors of kinds of memory, and those of architectures besides."""
        memory, own = np.split(point[len(start) :].reshape(-1, 2), [len(memories)])
        return point[: len(start)], memory, own

    def residuals(point: Array) -> Array:
        """Return weighted log errors and the prices of factors."""
        shares, memory, own = parts(point)
        off = np.log(runs.watts(np.exp(shares), np.exp(memory[kind] + own)[arch])) - target
        kinds = np.array([RUNNING_PRICE, 1.0])
        prices = ((KIND_PRICE * kinds * memory).ravel(), (PRICE * kinds * own).ravel(), START_PRICE * (shares - start))
        return np.concatenate([weight * off, *prices])

    first = np.concatenate([start, np.zeros(2 * (len(memories) + len(archs)))])
    found = least_squares(residuals, first, loss="soft_l1", f_scale=RESIDUAL_WEIGHT * SCALE, max_nfev=60)
    shares, memory, own = parts(found.x)
    return PowerFit(
        dict(zip(START, np.exp(shares).tolist(), strict=True)),
        {name: _pair(np.exp(m)) for name, m in zip(memories, memory, strict=True)},
        {str(name): _pair(f) for name, f in zip(archs, np.exp(memory[kind] + own), strict=True)},
    )


def _pair(values: Array) -> tuple[float, float]:
    return float(values[0]), float(values[1])


def left_out(rows: pd.DataFrame, part: Index) -> Array:
    """Return the watts of each run by constants fitted without the part that it is in. part: number per run, (N,)."""
    watts = np.full(len(rows), np.nan)
    for number in np.unique(part):
        mine = part == number
        watts[mine] = predicted(fit_power(rows[~mine]), rows[mine])
    return watts


def by_group(rows: pd.DataFrame) -> Index:
    """Return the fold of each run; runs of a group share one."""
    return np.array([fold_of(group, FOLDS) for group in rows.group])


def by_architecture(rows: pd.DataFrame) -> Index:
    """Return a number per architecture for each run."""
    return np.unique(rows.arch, return_inverse=True)[1]


def errors(rows: pd.DataFrame, watts: Array, which: Mask | None = None) -> tuple[float, float, float]:
    """Return (median, 90th percentile, signed median) of the relative error of `watts` on the runs of a mask."""
    off = (watts / rows.watts.to_numpy() - 1.0)[slice(None) if which is None else which]
    return float(np.median(np.abs(off))), float(np.quantile(np.abs(off), 0.9)), float(np.median(off))


def widths_of(rows: pd.DataFrame, watts: Array) -> tuple[float, float]:
    """Return the log half-widths of 80 % intervals of watts and of joules; groups weigh as in `quantile`.

    The rates of these runs are predicted by engine constants that were fitted on them. So to the width of joules is
    added, in squares, by how much the width of rates of runs that no constant was fitted on exceeds that of these.
    """
    ratios = (watts / rows.watts, watts * rows.devices / rows.rate / rows.joules, rows.rate / _output_rate(rows))
    found = [rows.assign(ratio=np.abs(np.log(ratio)))[np.isfinite(ratio)] for ratio in ratios]
    own, joules, seen = (quantile(part) for part in found)
    known = uncertainty()  # a closed loop that memory limits
    unseen = DEVIATE_80 * float(np.hypot(known.rest["throughput"]["closed"], known.causes["memory"]))
    return own, float(np.sqrt(joules**2 + max(unseen**2 - seen**2, 0.0)))
