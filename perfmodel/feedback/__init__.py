"""Take a user's own benchmarks back: read results, fit factors of his system, save them for every other command."""

from __future__ import annotations

from perfmodel.feedback.calibrate import Calibration, calibrate
from perfmodel.feedback.file import read_adjustments, read_runs, write_calibration
from perfmodel.feedback.fit import Priors, covariance_of, mode, posterior, priors
from perfmodel.feedback.outliers import Outlier, outliers
from perfmodel.feedback.power_logs import PowerLog, read_log_or_results, read_power_log, with_watts
from perfmodel.feedback.readers import READERS, read_results
from perfmodel.feedback.rows import kind_of, value_weights
from perfmodel.feedback.run import METRICS, MeasuredRun
from perfmodel.feedback.telling import after_run, telling_order

__all__ = [
    "METRICS",
    "READERS",
    "Calibration",
    "MeasuredRun",
    "Outlier",
    "PowerLog",
    "Priors",
    "after_run",
    "calibrate",
    "covariance_of",
    "kind_of",
    "mode",
    "outliers",
    "posterior",
    "priors",
    "read_adjustments",
    "read_log_or_results",
    "read_power_log",
    "read_results",
    "read_runs",
    "telling_order",
    "value_weights",
    "with_watts",
    "write_calibration",
]
