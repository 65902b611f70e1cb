"""Take a user's own benchmarks back: read results, fit factors of his system, save them for every other command."""

from __future__ import annotations

from perfmodel.feedback.calibrate import Calibration, calibrate
from perfmodel.feedback.fit import posterior, priors
from perfmodel.feedback.readers import READERS, read_results
from perfmodel.feedback.run import METRICS, MeasuredRun

__all__ = ["METRICS", "READERS", "Calibration", "MeasuredRun", "calibrate", "posterior", "priors", "read_results"]
