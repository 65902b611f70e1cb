"""Calibration on measured runs: fits of engine constants, of intervals and of transfer spreads, and scored decisions.

`python -m perfmodel.fitting engines|devices|levels|intervals|power|caps|kernels|transfer|decisions` runs each of them;
without `--write` a fit only prints what it finds. `perfmodel.fitting.measured` describes the tables they read.
"""

from __future__ import annotations

from perfmodel.fitting.decisions import LIMITS, Decision, by_data_set, decisions, summary
from perfmodel.fitting.engine_files import write_constants, write_device_factors, write_factors
from perfmodel.fitting.engine_fit import (
    CONSTANTS,
    EngineFit,
    FactorFit,
    TooFew,
    fit_devices,
    fit_engines,
    measured_slopes,
)
from perfmodel.fitting.interval_fit import spreads_of
from perfmodel.fitting.interval_rows import answers, measured_rows
from perfmodel.fitting.intervals import fit_intervals, intervals_text, write_intervals
from perfmodel.fitting.left_out import error_lines, left_out_ratios
from perfmodel.fitting.measured import counted, joined, rows_of
from perfmodel.fitting.model_levels import LevelFit, fit_levels, levels_of, write_levels
from perfmodel.fitting.operator_cells import SAMPLE, error_quantile, one_device
from perfmodel.fitting.power_caps import CapFit, fitted_caps
from perfmodel.fitting.power_file import FittedPower, caps_text, fitted_power, power_text, write_caps, write_power
from perfmodel.fitting.power_fit import power_rows
from perfmodel.fitting.power_kernels import KernelFit, fitted_kernels, kernels_text, write_kernels
from perfmodel.fitting.targets import Part
from perfmodel.fitting.transfer import (
    Transferred,
    measured_devices,
    pooled,
    transfer_spreads,
    transferred,
    write_transfer_spreads,
)

__all__ = [
    "CONSTANTS",
    "LIMITS",
    "SAMPLE",
    "CapFit",
    "Decision",
    "EngineFit",
    "FactorFit",
    "FittedPower",
    "KernelFit",
    "LevelFit",
    "Part",
    "TooFew",
    "Transferred",
    "answers",
    "by_data_set",
    "caps_text",
    "counted",
    "decisions",
    "error_lines",
    "error_quantile",
    "fit_devices",
    "fit_engines",
    "fit_intervals",
    "fit_levels",
    "fitted_caps",
    "fitted_kernels",
    "fitted_power",
    "intervals_text",
    "joined",
    "kernels_text",
    "left_out_ratios",
    "levels_of",
    "measured_devices",
    "measured_rows",
    "measured_slopes",
    "one_device",
    "pooled",
    "power_rows",
    "power_text",
    "rows_of",
    "spreads_of",
    "summary",
    "transfer_spreads",
    "transferred",
    "write_caps",
    "write_constants",
    "write_device_factors",
    "write_factors",
    "write_intervals",
    "write_kernels",
    "write_levels",
    "write_power",
    "write_transfer_spreads",
]
