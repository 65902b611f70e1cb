"""Turn measured runs into the table that `predict` reads, and their measurements into arrays."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from hwdb import InputError
from perfmodel.arrays import Array, Index
from perfmodel.user_calibration.run import METRICS, MeasuredRun

if TYPE_CHECKING:
    import pandas as pd

#: Metric -> the kind of figure it is; figures of one kind in one run say nearly the same.
KINDS = {
    **dict.fromkeys((m for m in METRICS if m.startswith("ttft")), "ttft"),
    **dict.fromkeys((m for m in METRICS if m.startswith(("tpot", "itl"))), "tpot"),
    **dict.fromkeys(("e2e_ms", "e2e_ms_p99"), "e2e"),
    **dict.fromkeys(("req_s", "output_tok_s", "total_tok_s", "prefill_tok_s", "decode_tok_s"), "throughput"),
    "power_w_per_device": "power",
    "energy_j_per_output_token": "energy",
}


@dataclass(frozen=True)
class Measured:
    """Holds the V measured values of some runs.

    run: (V,) number of the run of each value. metric: (V,) its metric. value: (V,) in the unit of the metric. weight:
    (V,) share of its run's values of the same kind, so that a mean beside three percentiles counts once.
    """

    run: Index
    metric: NDArray[Any]
    value: Array
    weight: Array

    def of(self, predictions: pd.DataFrame) -> Array:
        """Return what predictions say of each value, (V,); NaN where they say nothing."""
        table = {m: predictions[m].to_numpy(float) for m in np.unique(self.metric)}
        return np.array([table[m][r] for m, r in zip(self.metric, self.run, strict=True)])

    def take(self, keep: NDArray[np.bool_]) -> Measured:
        """Return the values for which `keep` is True, weighted anew."""
        return measured_of(self.run[keep], self.metric[keep], self.value[keep])


def measured_of(run: Index, metric: NDArray[Any], value: Array) -> Measured:
    """Return measured values with their weights."""
    return Measured(run, metric, value, value_weights(run, np.array([KINDS[m] for m in metric], object)))


def value_weights(run: Index, kind: NDArray[Any]) -> Array:
    """Return the share of each value in those of its run and kind of figure, (V,)."""
    same = (run[:, None] == run[None, :]) & (kind[:, None] == kind[None, :])
    return np.asarray(1.0 / np.maximum(same.sum(axis=1), 1))


def kind_of(metric: str) -> str | None:
    """Return the kind of figure that a metric is, None for one that no run is calibrated on."""
    return KINDS.get(metric)


def table_of(runs: Sequence[MeasuredRun]) -> tuple[pd.DataFrame, Measured]:
    """Return (the table that `predict` reads, what was measured). Raises `InputError` where nothing was."""
    import pandas as pd

    frame = pd.DataFrame([dict(run.given) for run in runs]).fillna("")
    values = [(n, m, v) for n, run in enumerate(runs) for m, v in run.measured.items()]
    if not values:
        raise InputError(f"{runs[0].place}: nothing is measured; give a result with latencies, throughput or power")
    number, metric, value = zip(*values, strict=True)
    return frame, measured_of(np.array(number, np.intp), np.array(metric, object), np.array(value, float))
