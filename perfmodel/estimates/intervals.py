"""Look up 80 % intervals of whole deployments: how far measured serving runs lie from their estimates.

`perfmodel.calibration` learns them as quantiles of |log(estimate / measurement)| by metric, arrival and basis (the kind
of data that the estimate rests on). Operators have intervals of their own (`perfmodel.costs.intervals`); these include
the error of the serving model as well, and are what a user sees.
"""

from __future__ import annotations

from functools import cache
from importlib.resources import files

import numpy as np

from hwdb.tomlfile import Table, read_toml
from perfmodel.arrays import Array, Codes, Mask
from perfmodel.vocabulary import BASES

METRICS = ("ttft", "tpot", "throughput")
#: Bases that share an interval: tables of the device itself, those of a related device, borrowed efficiencies.
CLASSES = {
    "measured": "table",
    "interpolated": "table",
    "extrapolated": "table",
    "calibrated": "calibrated",
    "roofline": "roofline",
    "unknown": "roofline",
}

#: Class -> classes that stand on firmer ground.
BETTER = {"table": (), "calibrated": ("table",), "roofline": ("table", "calibrated")}


#: Numbers of own runs that widths were learned for.
OWN_RUNS = (1, 2, 4)


@cache
def _own() -> Table:
    return read_toml(str(files("perfmodel.estimates").joinpath("own_spread.toml")), "table of intervals after own runs")


@cache
def own_half_width(metric: str, arrival: str, runs: int) -> float:
    """Return the log half-width of the 80 % interval of `metric` where so many own runs of the model were measured.

    That of the arrival, else of any. metric: as of `half_width`, or power or energy. runs: 1 or more.
    """
    table, known = _own().table(metric), max(n for n in OWN_RUNS if n <= runs)
    names = (f"{arrival}-{known}", f"any-{known}")
    return table.number(next(name for name in names if name in table))


def narrowed(width: Array, metric: str, arrival: str, runs: Array) -> Array:
    """Return `width` (N,), or the width after own runs of the same model where that is less.

    runs: own runs of the model on the device of each row, 0 for none, (N,).
    """
    learned = {int(n): own_half_width(metric, arrival, int(n)) for n in np.unique(runs) if n > 0}
    own = np.array([learned.get(int(n), np.inf) for n in runs])
    return np.asarray(np.minimum(width, own))


@cache
def _table() -> Table:
    return read_toml(str(files("perfmodel.estimates").joinpath("spread.toml")), "table of intervals")


@cache
def half_width(metric: str, arrival: str, kind: str) -> float:
    """Return the log half-width of the 80 % interval of `metric`.

    exp(+-half_width) around an estimate holds 80 % of measurements. The width learned for this arrival and class of
    bases is used; where there is none, that of the arrival alone, else of the class alone, else of any run. What no
    table supports is never surer than what one does: a width that was not learned is at least that of tables under the
    same arrival, and that of a roofline at least what roofline answers were off by in all runs, and those of the other
    classes under the same arrival. The few runs of a class may be easy ones.

    Args:
        metric: one of `METRICS`.
        arrival: an arrival of `perfmodel.workload`, or `overload`.
        kind: a class of bases, a value of `CLASSES`.
    """
    table, own = _table().table(metric), f"{arrival}-{kind}"
    names = (own, f"{arrival}-any", f"any-{kind}", "any-any")
    learned = table.number(next((name for name in names if name in table), names[-1]))
    floors = [half_width(metric, arrival, better) for better in BETTER[kind] if kind == "roofline" or own not in table]
    overall = f"any-{kind}"
    return max(learned, *floors, table.number(overall) if kind == "roofline" and overall in table else 0.0)


def spread(metric: str, arrival: str, basis: Codes, saturated: Mask) -> Array:
    """Return the log half-width of the 80 % interval of each row, (N,).

    Open loops beyond capacity have widths of their own (`overload`): their waits depend on the length of the run.

    Args:
        metric: one of `METRICS`.
        arrival: how requests arrive.
        basis: codes of `BASES`, (N,).
        saturated: whether demand exceeds capacity, (N,).
    """
    widths, overload = (np.array([half_width(metric, a, CLASSES[b]) for b in BASES]) for a in (arrival, "overload"))
    return np.where(saturated, overload[basis], widths[basis])
