"""How far measured serving runs lie from estimates: the 80 % intervals of whole-deployment figures.

Learned by `perfmodel.calibration` as quantiles of |log(estimate / measurement)| by metric, arrival and what the
estimate rests on. Operators have spreads of their own (`perfmodel.costs.intervals`); these hold the serving model's error
as well, and are what a user sees.
"""

from __future__ import annotations

import tomllib
from functools import cache
from importlib.resources import files
from typing import Any

import numpy as np
from numpy.typing import NDArray

from perfmodel.arrays import Array
from perfmodel.vocabulary import BASES

METRICS = ("ttft", "tpot", "throughput", "power")
#: Bases that share a spread: tables of the device itself, those of a relative, borrowed efficiencies.
CLASSES = {
    "measured": "table",
    "interpolated": "table",
    "extrapolated": "table",
    "calibrated": "calibrated",
    "roofline": "roofline",
    "unknown": "roofline",
}


@cache
def _table() -> dict[str, Any]:
    return tomllib.loads(files("perfmodel.estimates").joinpath("spread.toml").read_text())


@cache
def half_width(metric: str, arrival: str, kind: str) -> float:
    """Log half-width for one class of bases: of this arrival and class, else of any class, else of any arrival.

    The factor exp(+-half_width) around an estimate holds 80 % of measurements.
    """
    table = _table()[metric]
    for name in (f"{arrival}-{kind}", f"{arrival}-any", f"any-{kind}"):
        if name in table:
            return float(table[name])
    return float(table["any-any"])


def spread(metric: str, arrival: str, basis: NDArray[np.int8], saturated: NDArray[np.bool_]) -> Array:
    """Log half-width of the 80 % interval of each row, by the code of its basis. (N,)

    Open loops beyond capacity have widths of their own (`overload`): their queues hang on the length of the run.
    """
    widths, overload = (np.array([half_width(metric, a, CLASSES[b]) for b in BASES]) for a in (arrival, "overload"))
    return np.where(saturated, overload[basis], widths[basis])
