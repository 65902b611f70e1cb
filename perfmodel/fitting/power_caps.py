"""Fit `[capping]` of `perfmodel.power`: how much longer work takes under a power limit below what it would draw.

Sweeps of the limit are runs of one setup that differ in `power_cap_w` alone (split `train`), and optionally a table of
rates of one device under limits. What counts is each rate over that at the highest limit of its sweep. Watts that a
sweep demands without a limit are those that its runs drew where the limit did not bind; the share of its time that is
bound by arithmetic follows from the model. Errors that are printed are also those of limits and of sweeps left out.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from hwdb import Device, InputError
from hwdb import load as load_hwdb
from perfmodel.arrays import NAN, Array
from perfmodel.cases import Group, Settings, aggregated, group_load, groups_of, read_cases, settle
from perfmodel.deployment import Deployments
from perfmodel.estimates import explain
from perfmodel.fitting.measured import counted
from perfmodel.fitting.power_fit import READY
from perfmodel.power import Capping, chip, slowed
from perfmodel.vocabulary import BOUNDS
from perfmodel.workload import Workload

if TYPE_CHECKING:
    import pandas as pd

#: Fewest limits of a sweep. Chosen: two say nothing of the bend.
_FEWEST = 4
#: A run whose watts are above this share of its limit is held by it. Chosen: limiters stay within 1 %.
_HELD = 0.985
#: Rows of a table of rates under limits: name of the operation -> share of its time that is bound by arithmetic.
_OPERATIONS = {"e2e_pp": 1.0, "e2e_tg": 0.0}
#: Constants to start from, with their least and greatest values.
START = {
    "voltage": (0.8, 0.5, 1.0),
    "clock": (0.15, 0.05, 0.3),
    "memory": (0.8, 0.3, 1.0),
    "sharpness": (8.0, 2.0, 20.0),
    "kernels": (0.2, 0.0, 0.9),
}
STATIC = (0.25, 0.05, 0.5)
DEMANDED = (0.7, 0.3, 1.0)
#: Pull of each constant to its start, per width of its range, in log errors: decides where the sweeps say nothing.
_PULL = 0.01
#: Relative step of numeric derivatives. Chosen: above the resolution of the bisection that finds a clock.
_STEP = 1e-3


@dataclass(frozen=True)
class Sweep:
    """Hold one sweep of the limit: L limits.

    limits: shares of the rated limit of `device`, (L,). kept: rates over that at the highest limit, (L,). demanded:
    watts without a limit, as a share of the rated one; NaN: not known, so fitted. arithmetic: share of the time that
    arithmetic binds; memory binds the rest. source: of the measurements.
    """

    name: str
    device: Device
    limits: Array
    kept: Array
    demanded: float
    arithmetic: float
    source: str


@dataclass(frozen=True)
class CapFit:
    """Hold fitted constants, and the errors of the rates of all sweeps, one value per limit.

    inside: by constants fitted on all. limit_out, sweep_out: by those fitted without the limit, without the sweep.
    demanded: by sweep, watts without a limit over the rated one, measured or fitted.
    """

    constants: Capping
    demanded: tuple[float, ...]
    sweeps: tuple[Sweep, ...]
    inside: Array
    limit_out: Array
    sweep_out: Array

    def lines(self) -> list[str]:
        """Return a summary as text, a line per way to leave out."""
        parts = (("fitted", self.inside), ("limits left out", self.limit_out), ("sweeps left out", self.sweep_out))
        found = [(name, np.abs(off[np.isfinite(off)])) for name, off in parts]
        return [
            f"{name}: {len(off)} rates: median {100 * np.median(off):.1f} %, worst {100 * np.max(off):.1f} %"
            for name, off in found
            if len(off)
        ]


def sweeps_of(cases: Path, truth: Path) -> list[Sweep]:
    """Return the sweeps among the runs of the train split."""
    import pandas as pd

    values = pd.read_csv(truth).pivot_table(index="case_id", columns="metric", values="value")
    table = read_cases(cases)
    keep = counted(table.frame, "train") & (table.frame.power_cap_w != "")
    table.refuse(~keep.to_numpy(), "not for fitting")
    settings = settle(table, load_hwdb())
    groups = [group for group in groups_of(settings) if not group.pooled]
    return [s for group in groups for s in _swept(settings, group, values)]


def _swept(settings: Settings, group: Group, values: pd.DataFrame) -> Iterator[Sweep]:
    """Yield the sweeps among the runs of one group, which are those that differ in the limit alone."""
    frame = settings.cases.frame.iloc[group.rows].reset_index(drop=True)
    load = group_load(settings, group)
    placed = aggregated(settings, group, load)
    loads = ["group", "mode", "isl", "osl", "concurrency", "batch", "rate_rps", "n_devices"]
    for _, rows in frame.groupby([name for name in loads if name in frame]):
        limit = placed.power_cap[rows.index]
        rate, watts = (values.reindex(rows.case_id)[name].to_numpy() for name in ("output_tok_s", "power_w_per_device"))
        known = np.isfinite(rate) & np.isfinite(watts) & np.isfinite(limit)
        if len(np.unique(limit[known])) < _FEWEST:
            continue
        highest = int(np.argmax(np.where(known, limit, -1.0)))
        top = int(rows.index.to_numpy()[highest])
        device = placed.devices[placed.device[top]]
        free = known & (watts < _HELD * limit)
        yield Sweep(
            name=f"{rows.model.iloc[0]}, {rows['mode'].iloc[0]}, {device.name}",
            device=device,
            limits=limit[known] / device.tdp,
            kept=rate[known] / rate[highest],
            demanded=float(np.mean(watts[free])) / device.tdp if free.any() else NAN,
            arithmetic=_arithmetic(settings, group, placed, top),
            source=_source(rows),
        )


def _arithmetic(settings: Settings, group: Group, placed: Deployments, row: int) -> float:
    """Return the share of the time of one run, of a closed loop or alone, that arithmetic binds, by its operators."""
    cell = {name: float(settings.cases.number[name][group.rows[row]]) for name in ("isl", "osl", "concurrency")}
    running = cell["concurrency"] if np.isfinite(cell["concurrency"]) else 1.0
    load = Workload.from_lengths(cell["isl"], cell["osl"], concurrency=running)
    weight = {"prefill": 1.0, "decode": max(cell["osl"] - 1.0, 0.0) / running}
    time = dict.fromkeys(BOUNDS, 0.0)
    for term in explain(group.spec, load, placed, row, engine=group.engine):
        time[term.bound] += term.time * weight[term.phase]
    bound = time["compute"] + time["memory"]
    return time["compute"] / bound if bound > 0 else 0.0


def table_sweeps(path: Path) -> list[Sweep]:
    """Return the sweeps of a table of rates: columns `device`, `op` (`e2e_pp`: prompts, `e2e_tg`: answers), `tok_s`,
    `note` with `power_limit=NNNW`.

    Prompts demand all of the limit; what answers demand of it is not known.
    """
    import pandas as pd

    rows = pd.read_csv(path)
    missing = {"device", "op", "tok_s", "note"} - set(rows.columns)
    if missing:
        raise InputError(f"{path}: columns are missing: {', '.join(sorted(missing))}")
    rows = rows[rows.op.isin(list(_OPERATIONS))]
    rows = rows.assign(limit=rows.note.str.extract(r"power_limit=(\d+)W")[0].astype(float)).dropna(
        subset=["limit", "tok_s"]
    )
    found = []
    for (name, op), mine in rows.groupby(["device", "op"]):
        device = load_hwdb().device(str(name))
        top = float(mine.tok_s.to_numpy()[np.argmax(mine.limit.to_numpy())])
        found.append(
            Sweep(
                name=f"{op}, {device.name}",
                device=device,
                limits=mine.limit.to_numpy(float) / device.tdp,
                kept=mine.tok_s.to_numpy(float) / top,
                demanded=1.0 if op == "e2e_pp" else NAN,
                arithmetic=_OPERATIONS[str(op)],
                source=_source(mine),
            )
        )
    return found


def _source(rows: pd.DataFrame) -> str:
    """Return where rows say that they are from: the first word, which names a repository or a page."""
    return str(rows["source"].iloc[0]).split()[0] if "source" in rows else "no source stated"


class _Point:
    """Read constants from a point of the search: the names of `START`, static parts by architecture, unknown watts."""

    def __init__(self, sweeps: list[Sweep], own: tuple[str, ...], asked: list[int]) -> None:
        """Describe the point. own: architectures with a static part of their own; asked: sweeps of unknown watts."""
        self.sweeps, self.own, self.asked = sweeps, own, asked
        ranges = [*START.values(), *[STATIC] * len(own), *[DEMANDED] * len(asked)]
        self.start, self.least, self.most = (np.array(values) for values in zip(*ranges, strict=True))

    def constants(self, point: Array) -> Capping:
        """Return the constants of a point."""
        named = dict(zip(START, point[: len(START)].tolist(), strict=True))
        static = dict(zip(self.own, point[len(START) : len(START) + len(self.own)].tolist(), strict=True))
        lowest = min(float(s.limits.min()) for s in self.sweeps)
        return Capping(static=static, lowest=lowest, **named)

    def demanded(self, point: Array) -> list[float]:
        """Return the watts that each sweep demands, as shares of its rated limit."""
        values = [s.demanded for s in self.sweeps]
        for i, value in zip(self.asked, point[len(START) + len(self.own) :], strict=True):
            values[i] = float(value)
        return values

    def kept(self, point: Array) -> list[Array]:
        """Return the rates of each sweep over that at its highest limit."""
        own = self.constants(point)
        found = []
        for sweep, demanded in zip(self.sweeps, self.demanded(point), strict=True):
            static = np.full(len(sweep.limits), own.static.get(chip(sweep.device), READY))
            watts = (np.full(len(static), demanded), sweep.limits, static)
            share = np.full(len(static), sweep.arithmetic)
            slower = np.where(sweep.limits < 1.0, slowed(own, watts, share, 1.0 - share), 1.0)
            found.append(slower[np.argmax(sweep.limits)] / slower)
        return found


def fit_caps(sweeps: list[Sweep], weight: list[Array] | None = None) -> tuple[_Point, Array]:
    """Fit the constants on sweeps; each weighs the same. weight: of each rate, by sweep; None: all count.

    The static part of an architecture is its own where a sweep goes below the `ready` share of others by enough to show
    it: where the lowest limit is at most twice that share.
    """
    from scipy.optimize import least_squares

    deep = sorted({chip(s.device) for s in sweeps if s.limits.min() < 2.0 * READY})
    asked = [i for i, s in enumerate(sweeps) if not np.isfinite(s.demanded)]
    point = _Point(sweeps, tuple(deep), asked)
    weights = weight or [np.ones(len(s.limits)) for s in sweeps]
    scale = np.concatenate([np.sqrt(w / len(w)) for w in weights])
    measured = np.concatenate([s.kept for s in sweeps])

    def residuals(at: Array) -> Array:
        """Return weighted log errors of rates, and a small pull to the start."""
        off = np.log(np.concatenate(point.kept(at)) / measured) * scale
        return np.concatenate([off, _PULL * (at - point.start) / (point.most - point.least)])

    found = least_squares(
        residuals, point.start, bounds=(point.least, point.most), diff_step=[_STEP] * len(point.start), max_nfev=60
    )
    return point, found.x


def fitted_caps(cases: Path, truth: Path, table: Path | None = None) -> CapFit:
    """Fit `[capping]` on the sweeps of the train split and of a table, and judge it by what is left out."""
    sweeps = [*sweeps_of(cases, truth), *(table_sweeps(table) if table else [])]
    if not sweeps:
        raise InputError(f"{cases}: no sweep of the power limit in the train split; give a table of rates")
    point, at = fit_caps(sweeps)
    off = np.concatenate(point.kept(at)) / np.concatenate([s.kept for s in sweeps]) - 1.0
    swept = np.concatenate([s.limits < s.limits.max() for s in sweeps])
    return CapFit(
        constants=point.constants(at),
        demanded=tuple(point.demanded(at)),
        sweeps=tuple(sweeps),
        inside=off[swept],
        limit_out=_left_out(sweeps, whole=False)[swept],
        sweep_out=_left_out(sweeps, whole=True)[swept],
    )


def _left_out(sweeps: list[Sweep], *, whole: bool) -> Array:
    """Return the error of each rate by constants fitted without it, or without its `whole` sweep.

    A sweep whose watts are fitted cannot be left out as a whole: NaN.
    """
    found = []
    for i, sweep in enumerate(sweeps):
        off = np.full(len(sweep.limits), NAN)
        if whole and not np.isfinite(sweep.demanded):
            found.append(off)
            continue
        parts = [np.ones(len(off), bool)] if whole else list(np.eye(len(off), dtype=bool))
        for part in parts:
            weights = [np.ones(len(s.limits)) for s in sweeps]
            weights[i] = np.where(part, 0.0, 1.0)
            point, at = fit_caps(sweeps, weights)
            off[part] = (point.kept(at)[i] / sweep.kept - 1.0)[part]
        found.append(off)
    return np.concatenate(found)
