"""Find the spreads of causes and of what is left, so that 80 % of measurements lie inside the intervals.

The log half-width of an interval is the conditional 80 % quantile of |log(measured / estimated)|. So the spreads
minimise the pinball loss at rank 0.8 of the logarithm of that, with soft pulls to where they start.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from perfmodel.arrays import Array, Index
from perfmodel.estimates import BUSY, CAUSES, DEVIATE_80, IDLE, LOADS, Uncertainty, load_weight

if TYPE_CHECKING:
    import pandas as pd

#: Spreads of causes that the fit starts from and is drawn to. Chosen: about those of
#: `perfmodel.user_calibration.priors`, which are found from how the runs of single systems agree; waits vary by half
#: with the arrivals behind a mean rate.
STARTS = {
    "compute": 0.2,
    "memory": 0.15,
    "link": 0.3,
    "launch": 0.25,
    "host": 0.25,
    "front_end": 0.6,
    "power": 0.15,
    "arrivals": 0.4,
}
#: Starting values of the fit: residual spread beyond all causes, its increase at full load, and the factor on spreads
#: from one class of bases to the next. Chosen: without data, the residual is as wide as a mean error and load adds
#: half.
REST, ADDED, CLASS = 0.2, 0.1, 1.1
#: Share of measurements that an interval holds.
COVERAGE = 0.8
#: Fewest values and groups of runs for a residual spread of one figure under one load. Chosen: six values then lie
#: outside the 80 % interval.
MIN_VALUES, MIN_GROUPS = 30, 5
#: What counts as one source of errors: values of one model on a device under an engine, which err together.
SOURCE = ["model", "device", "engine", "figure"]
#: A value of a source of n weighs n to the power of minus this. Chosen: between equal values and equal sources, so that
#: those with many values count more, but do not dominate.
SOURCE_WEIGHT = 0.25
#: Width over which the kink of the loss is rounded. Chosen: the solver needs a slope; 5 % changes no coverage by 1 %.
_ROUND = 0.05
#: Penalties that pull the spreads of causes, the steps of classes and the residual spreads to their starting values:
#: (strength, width in logarithms). Chosen: weak; a spread without data stays at its starting value.
_PULLS = {"causes": (0.002, 0.35), "classes": (0.001, 0.3), "rest": (0.00005, 1.0)}
#: Bounds of the logarithms of spreads and of the step from class to class.
_SPREADS, _STEPS = (np.log(0.01), np.log(2.5)), (0.0, 1.0)
#: Classes from the firmest on; a spread is never less than with a firmer one.
_ORDER = ("table", "extrapolated", "calibrated", "roofline")
#: Least |log ratio|: rounding of published figures.
_LEAST = 1e-3


@dataclass(frozen=True)
class _Problem:
    """Holds what the loss is computed from, for V values.

    squares: (V, K) squared sensitivities. doubt: (V,) factor on the rest. above: (V, S) steps of classes that apply.
    low, high: (V,) numbers, among `names`, of the spread of the rest, and of what a full load adds to it, of which
    weight, (V,), counts. target: (V,) log |ratio|. share: (V,) weight of each value in the loss. names: (figure, load)
    of each rest. steps: (kind, class) of each step.
    """

    squares: Array
    doubt: Array
    above: Array
    low: Index
    high: Index
    weight: Array
    target: Array
    share: Array
    names: list[tuple[str, str]]
    steps: list[tuple[str, str]]


def fit_spreads(rows: pd.DataFrame, ratio: Array) -> Uncertainty:
    """Return the spreads that describe measured values.

    rows: of `interval_rows.measured_rows`. ratio: (V,) log of measured over predicted, without the value's group.
    """
    from scipy.optimize import minimize

    problem = _problem(rows, ratio)
    causes, steps, rest = len(CAUSES), len(problem.steps), len(problem.names)
    start = np.concatenate(
        [
            np.log(list(STARTS.values())),
            np.full(steps, np.log(CLASS)),
            np.log([ADDED if load == BUSY else REST for _, load in problem.names]),
        ]
    )
    bounds = [_SPREADS] * causes + [_STEPS] * steps + [_SPREADS] * rest
    found = minimize(_loss, start, args=(problem, start), jac=True, method="L-BFGS-B", bounds=bounds).x
    spreads = dict(zip(CAUSES, np.exp(found[:causes]).tolist(), strict=True))
    classes: dict[str, dict[str, float]] = {}
    for (kind, name), step in zip(problem.steps, found[causes : causes + steps], strict=True):
        table = classes.setdefault(kind, {_ORDER[0]: 1.0})
        table[name] = table[_ORDER[_ORDER.index(name) - 1]] * float(np.exp(step))
    left: dict[str, dict[str, float]] = {}
    for (name, load), value in zip(problem.names, np.exp(found[causes + steps :]).tolist(), strict=True):
        left.setdefault(name, {})[load] = value
    for table in left.values():  # a full system is never surer than an idle one
        table |= {BUSY: table[IDLE] + table[BUSY]} if IDLE in table else {}
    known = Uncertainty(spreads, classes, left, {})
    return Uncertainty(spreads, classes, left, _shared(rows, ratio, known))


def _problem(rows: pd.DataFrame, ratio: Array) -> _Problem:
    """Return the problem of `fit_spreads`."""
    squares = np.square(rows[list(CAUSES)].to_numpy(float))
    squares[:, CAUSES.index("power")] *= np.square(rows.power_doubt.to_numpy(float))
    kinds = sorted(rows.kind.unique())
    steps = [(kind, name) for kind in kinds for name in _ORDER[1:]]
    rank = rows["class"].map(_ORDER.index).to_numpy()
    kind = rows.kind.to_numpy()
    above = np.stack([(kind == k) & (rank >= _ORDER.index(name)) for k, name in steps], axis=1).astype(float)
    low, high, names = _cells(rows)
    size = rows.groupby(SOURCE).ratio.transform("size").to_numpy(float)
    share = size**-SOURCE_WEIGHT
    return _Problem(
        squares=squares,
        doubt=rows.doubt.to_numpy(float),
        above=above,
        low=low,
        high=high,
        weight=np.where(low == high, 0.0, load_weight(rows.load.to_numpy(float))),
        target=np.log(np.maximum(np.abs(ratio), _LEAST)),
        share=share / share.sum(),
        names=names,
        steps=steps,
    )


def _cells(rows: pd.DataFrame) -> tuple[Index, Index, list[tuple[str, str]]]:
    """Return the numbers of each value's rest and of what load adds to it, (V,) each; (figure, load) of every rest.

    Both numbers are the same where load adds nothing.
    """
    figures, loads, groups = (rows[name].to_numpy() for name in ("figure", "arrival", "group"))
    low = np.zeros(len(rows), np.intp)
    high = np.zeros(len(rows), np.intp)
    names: list[tuple[str, str]] = []
    for name in sorted(set(figures)):
        for load in ("any", *LOADS):
            mine = figures == name if load == "any" else (figures == name) & (loads == load)
            if load != "any" and not _enough(mine, groups):
                continue
            low[mine] = high[mine] = len(names)
            names.append((name, load))
            if load == BUSY:
                low[mine] = len(names)
                names.append((name, IDLE))
    return low, high, names


def _enough(mine: NDArray[np.bool_], groups: NDArray[np.object_]) -> bool:
    """Return whether the values of a mask are enough for a spread of their own."""
    return bool(mine.sum() >= MIN_VALUES and len(set(groups[mine])) >= MIN_GROUPS)


def _loss(point: Array, problem: _Problem, start: Array) -> tuple[float, Array]:
    """Return (loss, its gradient) at logarithms of the spreads of causes, steps of classes and rests, in that order."""
    causes, steps = len(CAUSES), len(problem.steps)
    squared, rest = np.exp(2.0 * point[:causes]), np.exp(point[causes + steps :])
    left = problem.doubt * (rest[problem.low] + rest[problem.high] * problem.weight)
    variance = problem.squares @ squared + np.square(left)
    width = 0.5 * np.log(variance) + problem.above @ point[causes : causes + steps] + np.log(DEVIATE_80)
    beyond = problem.target - width
    short = _ROUND * np.logaddexp(0.0, beyond / _ROUND)
    loss = float(problem.share @ (COVERAGE * beyond + short - beyond))
    slope = -problem.share * (COVERAGE - 1.0 / (1.0 + np.exp(beyond / _ROUND)))
    gradient = np.zeros_like(point)
    gradient[:causes] = (slope / variance) @ problem.squares * squared
    gradient[causes : causes + steps] = slope @ problem.above
    by_left = slope / variance * left * problem.doubt
    count = len(problem.names)
    at_ends = np.bincount(problem.low, by_left, count) + np.bincount(problem.high, by_left * problem.weight, count)
    gradient[causes + steps :] = at_ends * rest
    for name, part in zip(_PULLS, np.split(np.arange(len(point)), [causes, causes + steps]), strict=True):
        strength, wide = _PULLS[name]
        off = (point[part] - start[part]) / wide
        loss += 0.5 * strength * float(off @ off)
        gradient[part] += strength * off / wide
    return loss, gradient


def spreads_of(rows: pd.DataFrame, known: Uncertainty) -> tuple[Array, Array]:
    """Return the log standard deviations of each value by cause, (V, K), with their sign, and of the rest, (V,)."""
    order = rows.kind.map(known.classes).to_list()
    factor = np.array([table[name] for table, name in zip(order, rows["class"], strict=True)])
    causes = rows[list(CAUSES)].to_numpy(float) * np.array([known.causes[name] for name in CAUSES])
    causes[:, CAUSES.index("power")] *= rows.power_doubt.to_numpy(float)
    rest = np.empty(len(rows))
    codes, load = rows.arrival.map(LOADS.index).to_numpy(), rows.load.to_numpy(float)
    for name, at in rows.groupby("figure").indices.items():
        rest[at] = known.rest_of(str(name), codes[at], load[at])
    return causes * factor[:, None], rest * rows.doubt.to_numpy(float) * factor


def _shared(rows: pd.DataFrame, ratio: Array, known: Uncertainty) -> dict[str, float]:
    """Return the share of the variance of the rest that the runs of a group have in common, by kind of metric.

    Derived: the product of the ratios of two runs of a group is, on average, that of their causes, and of the common
    part of their rests. Ratios count at most twice their spread. All count in units of their spread: else a few open
    loops near saturation, whose causes are magnified, would rule.
    """
    import pandas as pd

    causes, rest = spreads_of(rows, known)
    whole = np.sqrt(np.square(causes).sum(axis=1) + np.square(rest))
    causes, rest = causes / whole[:, None], rest / whole
    near = np.clip(ratio / whole, -2.0, 2.0)
    table = pd.DataFrame({"kind": rows.kind, "group": rows.group, "figure": rows.figure})
    columns = {"near": near, "rest": rest, **{f"c{k}": causes[:, k] for k in range(causes.shape[1])}}
    for name, values in columns.items():
        table[name], table[f"{name}_2"] = values, np.square(values)
    sums = table.groupby(["kind", "group", "figure"]).sum()
    count = table.groupby(["kind", "group", "figure"]).size()
    pairs = pd.DataFrame({name: np.square(sums[name]) - sums[f"{name}_2"] for name in columns})[count > 1]
    terms = [str(name) for name in pairs if str(name).startswith("c")]
    weight = 1.0 / (count[count > 1] * (count[count > 1] - 1)) ** 0.75
    common = pairs.near - pairs[terms].sum(axis=1)
    out = (common * weight).groupby("kind").sum() / (pairs["rest"] * weight).groupby("kind").sum()
    return {str(kind): float(np.clip(value, 0.0, 1.0)) for kind, value in out.items()}
