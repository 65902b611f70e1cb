"""Fit an engine's host constants and kernel factors to measured serving runs.

Least squares on log ratios of prediction over measurement, where values that are far off count less. Each group of runs
weighs the square root of its size, so that large groups do not dominate. All engines and devices are fitted at once by
partial pooling, see `perfmodel.fitting.pooling`; so are some devices again, with their class, while the engine stays as
it is.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hwdb import Device, Hwdb
from hwdb import load as load_hwdb
from perfmodel.arrays import Array
from perfmodel.costs import device_class, place_factors, shared_factors
from perfmodel.engines import Engine
from perfmodel.fitting.pooling import (
    MIN_VALUES,
    OF_DEVICES,
    Place,
    Pooled,
    Pulls,
    Slopes,
    errors_left_out,
    factor_table,
    pool,
    slopes_of,
)
from perfmodel.fitting.targets import Part, PoolGroup, RunGroup, Target, group_weights, run_groups, target_of

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Constant:
    """Describes a constant that is fitted.

    key: its name in an engine's file. scale: factor from SI units to the file's unit. least, most: bounds in the file's
    unit.
    """

    key: str
    scale: float
    least: float
    most: float


#: Field of `Engine` -> how it is fitted. Bounds are chosen: wide enough for every engine seen, narrow enough that a
#: fault of the model does not end up in a constant.
CONSTANTS = {
    "step_host_time": Constant(key="step_host_us", scale=1e6, least=20.0, most=20000.0),
    "step_host_per_seq": Constant(key="step_host_per_seq_us", scale=1e6, least=0.1, most=200.0),
    "front_end_token": Constant(key="front_end_us_per_token", scale=1e6, least=1.0, most=2000.0),
    "step_host_parallel": Constant(key="step_host_parallel_us", scale=1e6, least=1.0, most=10000.0),
    "request_time": Constant(key="request_ms", scale=1e3, least=0.2, most=150.0),
    "request_parallel": Constant(key="request_parallel_ms", scale=1e3, least=0.2, most=150.0),
    "launch_time": Constant(key="launch_us", scale=1e6, least=0.5, most=120.0),
    "synchronised": Constant(key="synchronised", scale=1.0, least=0.02, most=1.0),
}
#: Factors outside these bounds would hide a fault of the model rather than describe an engine. Chosen.
LEAST_FACTOR, MOST_FACTOR = 0.4, 2.5
#: Columns of cases that measured values are fitted with.
_COLUMNS = ["case_id", "group", "model", "dataset"]
#: An engine's fit is kept if the median |log ratio| rises by this share at most. Chosen: above the difference between
#: firmly and loosely drawn factors on their own data (vLLM 0.8 to 0.13: 2 %), far below that of engines whose kernels
#: the factors do not describe (ik_llama 16 %, llama.cpp 27 %).
MOST_LOSS = 0.05


@dataclass(frozen=True)
class FactorFit:
    """Holds the kernel factors fitted for one place: the engine everywhere, a class of devices, or one device.

    place: {} for the engine everywhere, {"kind": ...} for a class of devices, {"device": ...} for one device. factors:
    (FACTORS,), one per limit (such as compute or memory), then one per kind of kernel. target: the measured
    values that they were fitted to. before, after: (V,) log ratios of these values under the old and the new factors.
    """

    place: Mapping[str, str]
    factors: Array
    target: Target
    before: Array
    after: Array


@dataclass(frozen=True)
class EngineFit:
    """Holds what was fitted of one engine.

    engine: with its fitted constants. constants: fields of it that were fitted. parts: kernel factors, those of the
    engine everywhere first. left_out: pulls -> (median, mean) |log ratio| of models that a fit with them left out;
    empty unless asked for.
    """

    engine: Engine
    constants: tuple[str, ...]
    parts: tuple[FactorFit, ...]
    left_out: Mapping[Pulls, tuple[float, float]] = field(default_factory=dict)

    @property
    def holds(self) -> bool:
        """Return whether the fit is worth keeping: its median error is not above the old one by `MOST_LOSS`."""
        before, after = (float(np.median(np.abs(r))) for r in (self.parts[0].before, self.parts[0].after))
        return after <= (1.0 + MOST_LOSS) * before


@dataclass(frozen=True)
class TooFew:
    """Reports an engine with too few measured values to fit. values: how many there are."""

    engine: str
    values: int


@dataclass(frozen=True)
class _Runs:
    """Holds the measured runs of one engine, prepared for a fit. constants: fields of the engine that are fitted."""

    engine: Engine
    groups: Sequence[RunGroup | PoolGroup]
    constants: tuple[str, ...]
    slopes: Slopes


def fit_engines(
    cases: str | Path,
    truth: str | Path,
    *,
    engines: Collection[str] = (),
    part: Part | None = None,
    pulls: Pulls | None = None,
    hold: bool = False,
    folds: int = 1,
) -> Iterator[EngineFit | TooFew]:
    """Fit every engine that the cases name: constants, and kernel factors on all devices of all engines at once.

    Yields what was fitted of each engine, newest eras first.

    Args:
        cases: path of a table of cases, see `perfmodel.fitting.measured`.
        truth: path of the measured values.
        engines: names of engines to fit; all by default. Families of chips are fitted on runs of these engines alone.
        part: part of the runs that is left out, to judge the fit on it.
        pulls: how firmly constants and factors are drawn to where they start; None: as chosen on left-out models.
        hold: keep the constants, and fit factors alone.
        folds: parts that models are dealt into to compare pulls on what a fit left out; 1: not done.
    """
    database, measured = load_hwdb(), _measured(cases, truth)
    found = [m for n, m in run_groups(cases, database, part, pools=True).items() if not engines or n in engines]
    newest = sorted(found, key=lambda members: members[0][0].since, reverse=True)
    every = [_runs(members[0][0], [g for _, g in members], measured, database, hold=hold) for members in newest]
    slopes = {r.engine.name: r.slopes for r in every if r.slopes.known().sum() >= MIN_VALUES}
    fitted = pool(slopes, pulls or Pulls()) if slopes else {}
    errors = errors_left_out(slopes, folds) if slopes and folds > 1 else {}
    for runs in every:
        name = runs.engine.name
        if name in fitted:
            yield _engine_fit(runs, fitted[name], measured, errors.get(name, {}))
        else:
            yield TooFew(engine=name, values=int(runs.slopes.known().sum()))


def measured_slopes(
    cases: str | Path, truth: str | Path, engines: Collection[str] = (), keep: Path | None = None
) -> dict[str, Slopes]:
    """Return the slopes of the runs of each engine that the cases name, or of `engines`, around its present factors.

    Constants are held; values have the column `dataset` too. Open loops are among the values, but weigh apart from the
    others: no factor of an engine is fitted on them. Some minutes for thousands of runs.

    Args:
        cases, truth: as of `fit_engines`.
        engines: names of engines; all by default.
        keep: folder that holds the slopes of all engines afterwards, and is read first. They hold for the factors and
            the model that they were taken with.
    """
    import pandas as pd

    file = keep / "slopes.pkl.gz" if keep else None
    if file and file.exists():
        found: dict[str, Slopes] = dict(pd.read_pickle(file))
        return {e: s for e, s in found.items() if not engines or e in engines}
    database, measured = load_hwdb(), _measured(cases, truth)
    found = {}
    for name, members in run_groups(cases, database, pools=True, opened=True).items():
        if not engines or name in engines:
            slopes = _runs(members[0][0], [g for _, g in members], measured, database, hold=True).slopes
            weight = slopes.weight.copy()
            for _, at in slopes.rows.groupby("opened").indices.items():
                weight[at] = group_weights(slopes.rows.iloc[at])
            found[name] = replace(slopes, weight=weight)
    if file and not engines:
        file.parent.mkdir(parents=True, exist_ok=True)
        pd.Series(found, dtype=object).to_pickle(file)
    return found


def _runs(
    engine: Engine, groups: Sequence[RunGroup | PoolGroup], truth: pd.DataFrame, database: Hwdb, *, hold: bool
) -> _Runs:
    """Prepare the runs of an engine. truth: as of `slopes_of`. hold: fit none of its constants."""
    places = {d: _place(engine, database.device(d)) for d in sorted({g.device for g in groups})}
    # 0 and NaN: the engine has no such time
    constants = () if hold else tuple(n for n in CONSTANTS if getattr(engine, n) > 0)
    return _Runs(engine, groups, constants, slopes_of(engine, groups, truth, constants, places))


def _place(engine: Engine, device: Device) -> Place:
    """Return what a fit knows of a device under an engine.

    Accelerators with HBM share a part with those of their chip family under all engines with kernels of libraries.
    Other devices share one with their class under one engine.
    """
    kind = device_class(device)
    alike = kind == "gpu" and engine.kernel_source != "own"
    family = f"{device.vendor} {device.make}" if alike else ""
    return Place(start=place_factors(engine.name, device), kind=kind, family=family)


def fit_devices(
    cases: str | Path, truth: str | Path, devices: Collection[str], *, engines: Collection[str] = ()
) -> Iterator[tuple[Engine, FactorFit]]:
    """Fit kernel factors of devices under every engine that ran on them; engines stay as they are.

    Yields (engine, fit of a class of devices or of one device). Factors of a class are drawn to those of the engine,
    those of a device to those of its class. Open loops count too, below saturation.

    Args:
        cases, truth: as of `fit_engines`.
        devices: names of devices. Those of a class are fitted with each other.
        engines: names of engines to fit on; all by default.
    """
    database, measured = load_hwdb(), _measured(cases, truth)
    for name, members in run_groups(cases, database, devices=devices, opened=True).items():
        if not engines or name in engines:
            engine, groups = members[0][0], [group for _, group in members]
            for part in _device_parts(engine, groups, measured, database):
                yield engine, part


def _device_parts(
    engine: Engine, groups: Sequence[RunGroup | PoolGroup], truth: pd.DataFrame, database: Hwdb
) -> Sequence[FactorFit]:
    """Fit the factors of classes and devices among `groups` under an engine that stays as it is, classes first."""
    devices = sorted({g.device for g in groups})
    places = {d: replace(_place(engine, database.device(d)), family="") for d in devices}
    old, kinds = {d: p.start for d, p in places.items()}, {d: p.kind for d, p in places.items()}
    slopes = slopes_of(engine, groups, truth, (), places)
    shared = np.log(shared_factors(engine.name, ""))
    moved = replace(slopes, ratios=slopes.ratios + slopes.slopes @ shared)
    found = pool({engine.name: moved}, OF_DEVICES)[engine.name].places
    new = {p: np.clip(np.exp(f + shared), LEAST_FACTOR, MOST_FACTOR) for p, f in found.items()}
    judged = _Judged(engine, engine, old, {d: new.get(d, new.get(kinds[d], new[""])) for d in devices})
    parts = []
    for name in sorted(set(new) - {""}, key=lambda n: (n in devices, n)):
        mine = [g for g in groups if name in (g.device, kinds[g.device])]
        place = {"device" if name in devices else "kind": name}
        parts.append(judged.part(place, new[name], target_of(mine, truth)))
    return parts


def _measured(cases: str | Path, truth: str | Path) -> pd.DataFrame:
    """Return `case_id, metric, value, group, model, dataset`, a line per measured value."""
    import pandas as pd

    measured = pd.read_csv(truth)[["case_id", "metric", "value"]]
    return measured.merge(pd.read_csv(cases, dtype=str, usecols=_COLUMNS), on="case_id")


def _engine_fit(
    runs: _Runs, fitted: Pooled, truth: pd.DataFrame, left_out: Mapping[Pulls, tuple[float, float]]
) -> EngineFit:
    """Judge what was fitted of an engine on its runs. truth: as of `slopes_of`. left_out: as of `EngineFit`."""
    places, groups = runs.slopes.places, runs.groups
    better = _changed(runs.engine, runs.constants, fitted.constants)
    factors = {p: np.clip(np.exp(f), LEAST_FACTOR, MOST_FACTOR) for p, f in fitted.places.items()}
    old = {d: p.start for d, p in places.items()}
    new = {d: factors.get(d, factors.get(p.kind, factors[""])) for d, p in places.items()}
    judged = _Judged(runs.engine, better, old, new)
    parts = []
    for name, found in sorted(factors.items(), key=lambda item: (item[0] in places, item[0])):
        mine = [g for d in places for g in groups if g.device == d and name in ("", d, places[d].kind)]
        place = {} if not name else {"device" if name in places else "kind": name}
        parts.append(judged.part(place, found, target_of(mine, truth)))
    return EngineFit(engine=better, constants=runs.constants, parts=tuple(parts), left_out=left_out)


def _changed(engine: Engine, constants: Sequence[str], change: Array) -> Engine:
    """Return the engine with the logarithms of its constants changed, within their bounds."""
    changed: dict[str, Any] = {}
    for name, step in zip(constants, change, strict=True):
        bounds = CONSTANTS[name]
        value = np.clip(getattr(engine, name) * np.exp(step), bounds.least / bounds.scale, bounds.most / bounds.scale)
        changed[name] = float(value)
    return replace(engine, **changed)


@dataclass(frozen=True)
class _Judged:
    """Judges a fit: `old` engine and its factors by device before it, `new` ones after it."""

    engine: Engine
    better: Engine
    old: Mapping[str, Array]
    new: Mapping[str, Array]

    def part(self, place: Mapping[str, str], factors: Array, target: Target) -> FactorFit:
        """Return the fit of one place with the log ratios of its values (`target`) before and after."""
        before = target.by_device(self.engine, {d: factor_table(f) for d, f in self.old.items()})
        after = target.by_device(self.better, {d: factor_table(f) for d, f in self.new.items()})
        return FactorFit(place=place, factors=factors, target=target, before=before, after=after)
