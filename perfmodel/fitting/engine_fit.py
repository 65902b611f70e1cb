"""Fit an engine's host constants and kernel factors to measured serving runs.

Least squares on log ratios of prediction over measurement, linear beyond 15 %. Each group of runs weighs the square
root of its size, so that large groups do not dominate. All devices of an engine are fitted at once by partial pooling,
see `perfmodel.fitting.pooling`; so are some of them again, with their class, while the engine stays as it is.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hwdb import Hwdb
from hwdb import load as load_hwdb
from perfmodel.arrays import Array
from perfmodel.costs import device_class, place_factors, shared_factors
from perfmodel.engines import Engine
from perfmodel.fitting.pooling import (
    MIN_VALUES,
    OF_DEVICES,
    OF_ENGINE,
    Pulls,
    errors_left_out,
    factor_table,
    pool,
    slopes_of,
)
from perfmodel.fitting.targets import Part, PoolGroup, RunGroup, Target, run_groups, target_of

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
        """Return whether the fit is worth keeping: its median error is not above the old one by `MOST_LOSS`.

        Firmer fits of `OF_ENGINE` err more on their own data by intention; models that they left out have judged them.
        """
        before, after = (float(np.median(np.abs(r))) for r in (self.parts[0].before, self.parts[0].after))
        return after <= (1.0 + MOST_LOSS) * before or self.engine.name in OF_ENGINE


@dataclass(frozen=True)
class TooFew:
    """Reports an engine with too few measured values to fit. values: how many there are."""

    engine: str
    values: int


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
    """Fit every engine that the cases name, newest eras first, one after the other.

    Args:
        cases: path of a table of cases, see `perfmodel.fitting.measured`.
        truth: path of the measured values.
        engines: names of engines to fit; all by default.
        part: part of the runs that is left out, to judge the fit on it.
        pulls, hold: as of `fit_engine`.
        folds: parts that models are dealt into to compare pulls on what a fit left out; 1: not done.
    """
    database, measured = load_hwdb(), _measured(cases, truth)
    found = sorted(
        run_groups(cases, database, part, pools=True).items(), key=lambda item: item[1][0][0].since, reverse=True
    )
    for name, members in found:
        if not engines or name in engines:
            groups = [group for _, group in members]
            yield fit_engine(members[0][0], groups, measured, database, pulls=pulls, hold=hold, folds=folds)


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
    kinds = {d: device_class(database.device(d)) for d in devices}
    old = {d: place_factors(engine.name, database.device(d)) for d in devices}
    slopes = slopes_of(engine, groups, truth, (), old)
    shared = np.log(shared_factors(engine.name, ""))
    found = pool(replace(slopes, ratios=slopes.ratios + slopes.slopes @ shared), kinds, OF_DEVICES).places
    new = {p: np.clip(np.exp(f + shared), LEAST_FACTOR, MOST_FACTOR) for p, f in found.items()}
    judged = _Judged(engine, engine, old, {d: new.get(d, new.get(kinds[d], new[""])) for d in devices})
    parts = []
    for name in sorted(set(new) - {""}, key=lambda n: (n in devices, n)):
        mine = [g for g in groups if name in (g.device, kinds[g.device])]
        place = {"device" if name in devices else "kind": name}
        parts.append(judged.part(place, new[name], target_of(mine, truth)))
    return parts


def _measured(cases: str | Path, truth: str | Path) -> pd.DataFrame:
    """Return `case_id, metric, value, group, model`, a line per measured value."""
    import pandas as pd

    measured = pd.read_csv(truth)[["case_id", "metric", "value"]]
    return measured.merge(pd.read_csv(cases, dtype=str, usecols=["case_id", "group", "model"]), on="case_id")


def fit_engine(
    engine: Engine,
    groups: Sequence[RunGroup | PoolGroup],
    truth: pd.DataFrame,
    database: Hwdb,
    *,
    pulls: Pulls | None = None,
    hold: bool = False,
    folds: int = 1,
) -> EngineFit | TooFew:
    """Fit one engine: its constants, and its factors on all devices at once.

    Args:
        engine: the engine, with the constants that the fit starts from.
        groups: its measured runs.
        truth: `case_id, metric, value, group, model`, a line per measured value.
        database: where devices are looked up.
        pulls: how firmly constants and factors are drawn to where they start; None: as chosen on left-out models.
        hold: keep the constants, and fit factors alone.
        folds: as of `fit_engines`.
    """
    devices = sorted({g.device for g in groups})
    kinds = {d: device_class(database.device(d)) for d in devices}
    starts = {d: place_factors(engine.name, database.device(d)) for d in devices}
    # 0 and NaN: the engine has no such time
    constants = () if hold else tuple(n for n in CONSTANTS if getattr(engine, n) > 0)
    slopes = slopes_of(engine, groups, truth, constants, starts)
    if slopes.known().sum() < MIN_VALUES:
        return TooFew(engine=engine.name, values=int(slopes.known().sum()))
    fitted = pool(slopes, kinds, pulls or OF_ENGINE.get(engine.name, Pulls()))
    better = _changed(engine, constants, fitted.constants)
    factors = {p: np.clip(np.exp(f), LEAST_FACTOR, MOST_FACTOR) for p, f in fitted.places.items()}
    judged = _Judged(engine, better, starts, {d: factors.get(d, factors.get(kinds[d], factors[""])) for d in devices})
    parts = []
    for name, found in sorted(factors.items(), key=lambda item: (item[0] in devices, item[0])):
        mine = [g for d in devices for g in groups if g.device == d and name in ("", d, kinds[d])]
        place = {} if not name else {"device" if name in devices else "kind": name}
        parts.append(judged.part(place, found, target_of(mine, truth)))
    errors = errors_left_out(slopes, kinds, folds) if folds > 1 else {}
    return EngineFit(engine=better, constants=constants, parts=tuple(parts), left_out=errors)


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
