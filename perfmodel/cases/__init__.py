"""A table of cases in, predictions out."""

from __future__ import annotations

from perfmodel.cases.prediction import INTERVALS, Group, Prediction, predict
from perfmodel.cases.table import cases_of, read_cases

__all__ = ["INTERVALS", "Group", "Prediction", "cases_of", "predict", "read_cases"]
