"""Take a user's own benchmarks back: read results, fit factors of his system, save them for every other command."""

from __future__ import annotations

from perfmodel.user_calibration.calibrate import Calibration, calibrate
from perfmodel.user_calibration.file import read_adjustments, read_runs, write_calibration
from perfmodel.user_calibration.fit import Priors, covariance_of, mode, posterior, priors
from perfmodel.user_calibration.outliers import Outlier, outliers
from perfmodel.user_calibration.power_logs import PowerLog, read_log_or_results, read_power_log, with_watts
from perfmodel.user_calibration.readers import READERS, read_results
from perfmodel.user_calibration.rows import kind_of, value_weights
from perfmodel.user_calibration.run import METRICS, MeasuredRun
from perfmodel.user_calibration.run_selection import after_run, most_informative_first

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
    "most_informative_first",
    "outliers",
    "posterior",
    "priors",
    "read_adjustments",
    "read_log_or_results",
    "read_power_log",
    "read_results",
    "read_runs",
    "value_weights",
    "with_watts",
    "write_calibration",
]
