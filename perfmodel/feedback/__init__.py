"""Take a user's own benchmarks back: read results, fit factors of his system, save them for every other command."""

from __future__ import annotations

from perfmodel.feedback.calibrate import Calibration, calibrate
from perfmodel.feedback.file import read_adjustments, read_runs, write_calibration
from perfmodel.feedback.fit import posterior, priors
from perfmodel.feedback.outliers import Outlier, outliers
from perfmodel.feedback.readers import READERS, read_results
from perfmodel.feedback.run import METRICS, MeasuredRun

__all__ = [
    "METRICS",
    "READERS",
    "Calibration",
    "MeasuredRun",
    "Outlier",
    "calibrate",
    "outliers",
    "posterior",
    "priors",
    "read_adjustments",
    "read_results",
    "read_runs",
    "write_calibration",
]
