"""Pack columns of numbers into text that the script of the page unpacks."""

from __future__ import annotations

import base64
from typing import Any

import numpy as np

from perfmodel.arrays import Array

#: Greatest 2-byte number.
STEPS = 2**16 - 1


def packed(column: Array) -> str:
    """Return numbers as 4-byte floats, in base64."""
    return base64.b64encode(np.asarray(column, dtype="<f4").tobytes()).decode()


def short(column: Array) -> dict[str, Any]:
    """Return numbers as 2-byte steps from the least to the greatest known one, in base64; 0 for an unknown one."""
    known = np.isfinite(column)
    low, high = (float(f(column[known])) for f in (np.min, np.max)) if known.any() else (0.0, 0.0)
    steps = 1.0 + np.round((np.where(known, column, low) - low) / ((high - low) or 1.0) * (STEPS - 1.0))
    coded = np.where(known, steps, 0.0).astype("<u2")
    return {"low": low, "step": (high - low) / (STEPS - 1.0), "steps": base64.b64encode(coded.tobytes()).decode()}


def log_short(column: Array) -> dict[str, Any]:
    """Return positive numbers as `short` does, in steps of their logarithms."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return short(np.log(column)) | {"log": True}
