"""`calibrate`: measured runs in, the factors of the user's own system out."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from hwdb import Hwdb, InputError
from hwdb import load as load_hwdb
from perfmodel.arrays import Array, Mask
from perfmodel.cases import predict
from perfmodel.engines import PARTS, Adjustment
from perfmodel.engines import engine as engine_of
from perfmodel.models import model as model_of
from perfmodel.user_calibration.checks import check_consistent, check_possible, check_stated
from perfmodel.user_calibration.fit import Posterior, posterior, priors
from perfmodel.user_calibration.rows import Measured, table_of
from perfmodel.user_calibration.run import MeasuredRun

if TYPE_CHECKING:
    import pandas as pd

#: A factor far below any that a system may have.
TINY_FACTOR = 1e-3
#: Part by which a factor counts as told by the data: its variance fell by this share at least. Chosen.
TOLD = 0.2

#: Engine of a run that states none. Chosen: the one that `estimate` and `plan` take.
UNSTATED_ENGINE = "vllm"

#: Called with (steps done, steps).
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Calibration:
    """Holds what the runs on one device under one engine say.

    adjustment: the factors. posterior: how they were found. measured: the values behind them. runs: the runs, in the
    order that `measured.run` counts. predicted: (V,) what the model said of each value before; after: with the factors.
    """

    adjustment: Adjustment
    posterior: Posterior
    measured: Measured
    runs: tuple[MeasuredRun, ...]
    predicted: Array
    after: Array

    @property
    def told(self) -> Mask:
        """Return whether the data says something of each part of `PARTS`, (P,)."""
        return np.asarray(self.posterior.told(priors()) >= TOLD)


def calibrate(
    runs: Sequence[MeasuredRun], *, hwdb: Hwdb | None = None, progress: Progress | None = None
) -> list[Calibration]:
    """Return the factors that measured runs say their systems have, one `Calibration` per device and engine.

    Runs of the same device under the same engine family share their factors, whatever their model. A run that states
    no engine is one of `UNSTATED_ENGINE`.

    Raises:
        InputError: a run without model or device, or one that cannot be predicted.
    """
    database = hwdb or load_hwdb()
    check_stated(runs)
    runs = [run.completed({"engine": UNSTATED_ENGINE}) for run in runs]
    check_consistent(runs)
    keys = [_system(run, database) for run in runs]
    systems = list(dict.fromkeys(keys))
    found = []
    for number, system in enumerate(systems):
        mine = [run for run, key in zip(runs, keys, strict=True) if key == system]
        found.append(_calibrated(system, mine, database))
        if progress:
            progress(number + 1, len(systems))
    return found


def _system(run: MeasuredRun, database: Hwdb) -> tuple[str, str]:
    """Return (device, engine family) of a run."""
    device = database.device(run.given["device"]).name
    return device, engine_of(run.given["engine"], run.given.get("engine_version", "")).family


def _calibrated(system: tuple[str, str], runs: Sequence[MeasuredRun], database: Hwdb) -> Calibration:
    """Return what the runs of one device under one engine say."""
    device, family = system
    frame, measured = table_of(runs)
    plain = _answers(frame, database, ())
    refused = np.flatnonzero(plain["error"].astype(str).to_numpy() != "")
    if len(refused):
        raise InputError(f"{runs[refused[0]].place}: {plain['error'].iloc[refused[0]]}")
    said = measured.of(plain)
    usable = np.isfinite(said) & (said > 0)
    if not usable.any():
        raise InputError(f"{runs[0].place}: the model gives no value for what was measured; give a run below capacity")
    measured, said = measured.take(usable), said[usable]
    check_possible(measured, _best(measured, _answers(frame, database, (_limit(device, family),))), runs)

    def model(point: Array) -> Array:
        """Return what the model says of each measured value with factors exp(`point`)."""
        if not point.any():
            return said
        factors = tuple(zip(PARTS, np.exp(point).tolist(), strict=True))
        return measured.of(_answers(frame, database, (Adjustment(device, family, factors),)))

    found = posterior(model, measured)
    adjustment = Adjustment(
        device,
        family,
        factors=tuple(zip(PARTS, np.exp(found.log_factors).tolist(), strict=True)),
        spreads=tuple(zip(PARTS, found.spreads.tolist(), strict=True)),
        models=tuple(dict.fromkeys(model_of(run.given["model"]).name for run in runs)),
        runs=len(runs),
    )
    after = measured.value * np.exp(-found.after)
    return Calibration(adjustment, found, measured, tuple(runs), said, after)


def _best(measured: Measured, limits: pd.DataFrame) -> Array:
    """Return the best that each value could be, (V,). limits: predictions at the limits of the device.

    A percentile of latency is held against the mean as well: how far it lies above is a matter of the run.
    """
    means = np.array([re.sub(r"_p\d+$", "", metric) for metric in measured.metric], dtype=object)
    of_mean = replace(measured, metric=means).of(limits)
    latency = np.array([metric.endswith("_ms") for metric in means])
    own = measured.of(limits)
    return np.where(latency, np.fmin(own, of_mean), own)


def _limit(device: str, family: str) -> Adjustment:
    """Return factors under which every kernel takes what the rated figures of the device allow, and the host nothing.

    No factor makes a kernel faster than its device, so that any tiny one will do.
    """
    return Adjustment(device, family, tuple((part, TINY_FACTOR) for part in PARTS if part != "power"))


def _answers(frame: pd.DataFrame, database: Hwdb, adjustments: Sequence[Adjustment]) -> pd.DataFrame:
    """Return the predictions of a table under some factors."""
    return predict(frame, hwdb=database, adjustments=adjustments)
