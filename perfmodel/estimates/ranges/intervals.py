"""Compute 80 % intervals of whole deployments from what may be misjudged: a spread per cause, and a residual.

A measured system differs from its estimate by factors on its parts that it shares with all estimates of that device and
engine (`perfmodel.estimates.ranges.causes`), and by a rest of its own (the residual). The logarithm of each is taken as
normal, so that the variance of a metric's logarithm is the sum over causes of (sensitivity x spread)^2, and that of the
rest. The spreads are in `uncertainty.toml`, which `python -m perfmodel.fitting intervals` learns from published runs.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from importlib.resources import files

import numpy as np

from hwdb.tomlfile import Table, read_toml
from perfmodel.arrays import Array, Codes
from perfmodel.engines import PARTS
from perfmodel.estimates.ranges.causes import CAUSES, LOADS, Answered, drafts_spread, sensitivity
from perfmodel.vocabulary import BASES

#: Standard normal deviate that bounds the middle 80 %: that of rank 0.9.
DEVIATE_80 = 1.2815515655446004
#: Bases that share a spread: tables of the device itself, beyond their range, those of a related device, borrowed
#: efficiencies.
CLASSES = {
    "measured": "table",
    "interpolated": "table",
    "extrapolated": "extrapolated",
    "calibrated": "calibrated",
    "roofline": "roofline",
    "unknown": "roofline",
}
#: Metric -> those whose spreads widen alike where an estimate rests on less.
KINDS = {
    "ttft": "ttft",
    **dict.fromkeys(("tpot", "itl", "e2e"), "tpot"),
    **dict.fromkeys(("throughput", "prefill", "decode"), "throughput"),
    **dict.fromkeys(("power", "energy"), "power"),
}
#: Names of the residuals of figures of an open loop: of an idle system, and of one at capacity.
IDLE, BUSY = "idle", "open"
#: Numbers of a user's own runs for which half-widths of ranges were learned.
OWN_RUNS = (1, 2, 4)
#: Metric without half-widths of its own after own runs -> the metric whose half-widths it takes.
_LIKE = {"itl": "tpot", "prefill": "throughput", "decode": "throughput"}


@dataclass(frozen=True)
class Uncertainty:
    """Holds the learned spreads, log standard deviations.

    causes: cause of `CAUSES` -> spread of the factor on it. classes: kind of metric (`KINDS`) -> factor on all spreads
    by class of basis (`CLASSES`). rest: figure (`figure`) -> load of `LOADS`, `IDLE`, or "any", -> residual.
    shared: kind of metric -> share of the variance of the rest that all configurations of one model, device and engine
    have in common.
    """

    causes: dict[str, float]
    classes: dict[str, dict[str, float]]
    rest: dict[str, dict[str, float]]
    shared: dict[str, float]

    def rest_of(self, name: str, arrival: Codes, load: Array) -> Array:
        """Return the residual of a figure under each load, (N,); in an open loop it grows with the square of the load.

        name: of `figure`. arrival: codes of `LOADS`, (N,). load: share of capacity, (N,).
        """
        table = self.rest[name]
        out = np.array([table.get(load_name, table["any"]) for load_name in LOADS])[arrival]
        if IDLE not in table:
            return np.asarray(out)
        idle, busy = table[IDLE], table.get(BUSY, table["any"])
        between = idle + (busy - idle) * load_weight(load)
        return np.where(arrival == LOADS.index(BUSY), between, out)

    def by_basis(self, metric: str, basis: Codes) -> Array:
        """Return the factor on spreads of a metric for each row's basis, (N,)."""
        factors = self.classes[KINDS[metric]]
        return np.asarray(np.array([factors[CLASSES[name]] for name in BASES])[basis])


def load_weight(load: Array) -> Array:
    """Return the weight of `BUSY` against `IDLE` at a share of capacity, 0 to 1, (N,)."""
    return np.asarray(np.square(np.clip(np.nan_to_num(load, nan=1.0), 0.0, 1.0)))


def figure(metric: str, statistic: str) -> str:
    """Return the name under which the residual of a figure is learned; percentiles that are rarely published take
    that of the nearest one that is."""
    if metric in ("throughput", "prefill", "decode", "power", "energy"):
        return metric
    known = {"p95": "p99"} | ({"p90": "p99"} if metric in ("itl", "e2e") else {})
    statistic = {"itl": {"mean": "p50"}, "e2e": {"p50": "mean"}}.get(metric, {}).get(statistic, statistic)
    return f"{metric}_{known.get(statistic, statistic)}"


@cache
def uncertainty() -> Uncertainty:
    """Read the learned spreads."""
    table = read_toml(str(files("perfmodel.estimates").joinpath("uncertainty.toml")), "table of spreads")
    return Uncertainty(
        causes=_numbers(table.table("causes")),
        classes=_tables(table.table("classes")),
        rest=_tables(table.table("rest")),
        shared=_numbers(table.table("shared")),
    )


def _numbers(table: Table) -> dict[str, float]:
    return {name: table.number(name) for name in table.keys()}  # noqa: SIM118 - a Table is no mapping


def _tables(table: Table) -> dict[str, dict[str, float]]:
    return {name: _numbers(table.table(name)) for name in table.keys()}  # noqa: SIM118 - a Table is no mapping


def by_cause(found: Answered, metric: str, statistic: str = "mean") -> Array:
    """Return the log standard deviation of a figure by each cause of `CAUSES`, with its sign, (K, N).

    That is the sensitivity times the spread of the cause: what own runs leave, else the learned one, wider where the
    estimate rests on less, and where watts are those of an architecture that nobody measured.
    """
    causes, known = found.causes, uncertainty()
    spreads = np.array([known.causes[name] for name in CAUSES])[:, None] * known.by_basis(metric, found.basis)
    spreads[CAUSES.index("power")] *= causes.power_doubt
    if causes.own_spreads is not None:
        own = causes.own_spreads
        spreads[: len(PARTS)] = np.where(np.isfinite(own), own, spreads[: len(PARTS)])
    return sensitivity(found, metric, statistic) * spreads


def rest_spread(found: Answered, metric: str, statistic: str = "mean") -> Array:
    """Return the log standard deviation of a figure beyond its causes, (N,)."""
    causes, known = found.causes, uncertainty()
    doubt = causes.power_doubt if metric in ("power", "energy") else 1.0
    rest = known.rest_of(figure(metric, statistic), causes.arrival, causes.load)
    return np.hypot(rest * known.by_basis(metric, found.basis) * doubt, drafts_spread(found, metric))


def half_width(found: Answered, metric: str, statistic: str = "mean") -> Array:
    """Return the log half-width of the 80 % interval of a figure, (N,); arguments as of `causes.sensitivity`."""
    variance = np.square(by_cause(found, metric, statistic)).sum(axis=0)
    variance += np.square(rest_spread(found, metric, statistic))
    width = DEVIATE_80 * np.sqrt(variance)
    return _narrowed(width, found, metric) if found.causes.own_spreads is not None else np.asarray(width)


def watts_half_width(dynamic: float, doubt: float) -> float:
    """Return the log half-width of the 80 % interval of mean watts of a simulation, of which there is no estimate.

    It is that of a closed loop whose times rest on tables. dynamic: share of the watts above those of a waiting device.
    doubt: as `Causes.power_doubt`.
    """
    known = uncertainty()
    return DEVIATE_80 * doubt * float(np.hypot(known.causes["power"] * dynamic, known.rest["power"]["closed"]))


@cache
def _own() -> Table:
    return read_toml(str(files("perfmodel.estimates").joinpath("own_spread.toml")), "table of intervals after own runs")


@cache
def own_half_width(metric: str, arrival: str, runs: int) -> float:
    """Return the log half-width of the 80 % interval of `metric` after some own runs of the model.

    It is the one learned for this kind of arrival, else for all. metric: as of `half_width`. runs: how many, 1 or more.
    """
    table, known = _own().table(_LIKE.get(metric, metric)), max(n for n in OWN_RUNS if n <= runs)
    names = (f"{arrival}-{known}", f"any-{known}")
    return table.number(next(name for name in names if name in table))


def _narrowed(width: Array, found: Answered, metric: str) -> Array:
    """Return `width` (N,), or the width after own runs of the same model where that is less."""
    learned = np.array([[np.inf, *(own_half_width(metric, load, n) for n in OWN_RUNS)] for load in LOADS])
    known = np.searchsorted(OWN_RUNS, found.causes.own_runs, side="right")
    return np.asarray(np.minimum(width, learned[found.causes.arrival, known]))
