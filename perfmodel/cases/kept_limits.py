"""Estimate open loops that are known to have kept limits on their latencies, such as results of MLPerf.

Such a run served its rate within the limits. If the estimate misses the limits at that rate, its capacity is too low.
Near capacity, latencies are then best taken at the highest rate at which the estimate keeps the limits. Throughput is
that of the stated rate.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from perfmodel.arrays import Array, Index, Mask
from perfmodel.cases.case_groups import Group
from perfmodel.cases.evaluate import evaluate
from perfmodel.cases.protocols import KEPT
from perfmodel.cases.settings import Settings
from perfmodel.costs import CostModel
from perfmodel.estimates import Estimates, overall
from perfmodel.unit_factors import MS_PER_S

#: Least share of the rate of a run that an estimate is taken at. Chosen: an estimate whose capacity is 8 times too low
#: is none; the lowest of published runs is 2.8 times too low.
LEAST_SHARE = 1.0 / 8.0
#: Rates that are tried in each of two passes: the second leaves a gap of 1 % between rates.
TRIED = 16
#: Where no rate keeps the limits, those within this of the best (natural logarithm) are as good as it.
_NEARLY_BEST = 0.02


def evaluate_kept(settings: Settings, group: Group, costs: CostModel | None = None) -> tuple[Estimates, Array]:
    """Estimate the group's rows as `evaluate` does; rows that kept limits at a rate at which the estimate keeps them.

    Returns the estimates and the share of the stated rate that each is taken at, (N,): 1 where no limit is missed.
    """
    found, share = evaluate(settings, group, costs), np.ones(len(group.rows))
    limits = _limits(settings, group.rows)
    if group.mode != "open" or not np.isfinite(limits).any():
        return found, share
    missed = np.flatnonzero(_excess(found, limits) > 0.0)
    if not len(missed):
        return found, share
    rows, upper, lower = group.rows[missed], np.ones(len(missed)), np.full(len(missed), LEAST_SHARE)
    for _ in range(2):
        tried = upper * (lower / upper) ** np.linspace(0.0, 1.0, TRIED)[:, None]
        many = replace(group, rows=np.tile(rows, TRIED))
        each = evaluate(settings, many, costs, tried.ravel())
        first = _highest_kept(_excess(each, np.tile(limits[:, missed], TRIED)).reshape(tried.shape))
        picked = first * len(rows) + np.arange(len(rows))
        upper = np.take_along_axis(tried, np.maximum(first - 1, 0)[None], 0)[0]
        lower = np.take_along_axis(tried, first[None], 0)[0]
    share[missed] = lower
    order = np.arange(len(share))
    order[missed] = len(share) + np.arange(len(missed))
    return Estimates.concatenate([found, _served(each.take(picked), lower)]).take(order), share


def load_remarks(settings: Settings, group: Group, found: Estimates, share: Array) -> NDArray[np.object_]:
    """Return what the answers of open loops near or beyond capacity rest on, (N,) texts; "" where nothing is special.

    share: of the stated rate at which each estimate is taken, (N,).
    """
    remarks = np.full(len(share), "", dtype=object)
    if group.mode != "open":
        return remarks
    number = {c: v[group.rows] for c, v in settings.cases.number.items()}
    rate = number["request_rate_rps"]
    for i in np.flatnonzero((share < 1.0) | found.saturated).tolist():
        if share[i] < 1.0:
            remarks[i] = (
                f"the run kept its limits at {rate[i]:g} requests/s, the estimate up to {rate[i] * share[i]:.3g}: its "
                "latencies are those of that rate"
            )
        elif np.isfinite(number["n_requests"][i]):
            remarks[i] = (
                f"{found.request_rate[i]:.3g} of {rate[i]:g} requests/s are served: latencies are those of a run of "
                f"{number['n_requests'][i]:.6g} requests, and grow with it"
            )
        else:
            remarks[i] = (
                f"{found.request_rate[i]:.3g} of {rate[i]:g} requests/s are served: waits grow without end; state "
                "n_requests or duration_s for those of a run"
            )
    return remarks


def _limits(settings: Settings, rows: Index) -> Array:
    """Return the limits that each row kept, TTFT and TPOT, seconds, (2, N); infinite where none is known."""
    kept = np.stack([settings.cases.number[column][rows] for column in KEPT.values()]) / MS_PER_S
    return np.where(np.isfinite(kept), kept, np.inf)


def _excess(found: Estimates, limits: Array) -> Array:
    """Return the natural logarithm of the latency over its limit, of the worse of the two, (N,); above 0: missed.

    limits: seconds, as `_limits` returns them.
    """
    latencies = np.stack([overall(found, column.removesuffix("_ms"), "p99") for column in KEPT])
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(np.max(np.log(np.where(np.isinf(limits), 0.0, latencies) / limits), axis=0))


def _highest_kept(excess: Array) -> Index:
    """Return the first of the falling rates from which on limits are kept, (N,); excess: by rate and row, (K, N).

    Where no rate keeps them, the highest that comes nearly as close as any.
    """
    worst = np.maximum.accumulate(excess[::-1], axis=0)[::-1]  # of this rate and all lower ones
    kept: Mask = worst <= 0.0
    near = excess <= excess.min(axis=0) + _NEARLY_BEST
    return np.asarray(np.where(kept.any(axis=0), kept.argmax(axis=0), near.argmax(axis=0)))


def _served(found: Estimates, share: Array) -> Estimates:
    """Return estimates at `share` (N,) of their rates with the throughput of the whole rate, at the same power."""
    rates = {name: getattr(found.rates, name) / share for name in ("requests", "output", "total")}
    energy = found.power_use.per_output_token * share
    return replace(
        found, rates=replace(found.rates, **rates), power_use=replace(found.power_use, per_output_token=energy)
    )
