"""Estimate open loops that are known to have kept limits on their latencies, such as results of MLPerf.

Such a run served its rate within the limits. If the estimate misses the limits at that rate, its capacity is too low.
Near capacity, latencies are then best taken at the highest rate at which the estimate keeps the limits. A result that
is the highest rate within the limits is taken there too where the estimate could serve more: close to capacity, an
error of a tenth in the latter moves latencies by a factor of two. Throughput is that of the stated rate.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from perfmodel.arrays import Array, Index, Mask
from perfmodel.cases.case_groups import Group
from perfmodel.cases.evaluate import evaluate, replaced
from perfmodel.cases.protocols import KEPT, at_highest_rate
from perfmodel.cases.settings import Settings
from perfmodel.costs import CostModel
from perfmodel.estimates import Estimates, overall
from perfmodel.unit_factors import MS_PER_S

#: Least share of the rate of a run that an estimate is taken at. Chosen: an estimate whose capacity is 8 times too low
#: is none; the lowest of published runs is 2.8 times too low.
LEAST_SHARE = 1.0 / 8.0
#: Most that an estimate is taken at, as a share of the rate of a run. Chosen: an estimate whose capacity is 4 times too
#: high is none; the highest of published runs is 3.7 times too high.
MOST_SHARE = 4.0
#: Rates that are tried in each of two passes: the second leaves a gap of 1 % between rates.
TRIED = 16
#: Where no rate keeps the limits, those within this of the best (natural logarithm) are as good as it.
_NEARLY_BEST = 0.02


def evaluate_kept(settings: Settings, group: Group, costs: CostModel | None = None) -> tuple[Estimates, Array]:
    """Estimate the group's rows as `evaluate` does; rows that kept limits at a rate at which the estimate keeps them.

    Returns the estimates and the share of the stated rate that each is taken at, (N,): 1 where no limit is missed, and
    the rate is not known to be the highest within them.
    """
    found, share = evaluate(settings, group, costs), np.ones(len(group.rows))
    limits = _limits(settings, group.rows)
    limited = np.isfinite(limits).any(axis=0)
    if group.mode != "open" or not limited.any():
        return found, share
    missed = _excess(found, limits) > 0.0
    sought = missed | (limited & at_highest_rate(settings.cases, group.rows))
    if not sought.any():
        return found, share
    each, lower = _at_limits(
        settings, replace(group, rows=group.rows[sought]), costs, limits[:, sought], missed[sought]
    )
    share[sought] = lower
    return replaced(found, _served(each, lower), sought), share


def _at_limits(
    settings: Settings, group: Group, costs: CostModel | None, limits: Array, missed: Mask
) -> tuple[Estimates, Array]:
    """Return the estimates at the highest rate that keeps the limits, and its share of the stated rate, (N,).

    limits: seconds, (2, N). missed: rows whose limits are missed at the stated rate, (N,); the others are looked for at
    that rate and above.
    """
    rows = group.rows
    upper, lower = np.where(missed, 1.0, MOST_SHARE), np.where(missed, LEAST_SHARE, 1.0)
    for _ in range(2):
        tried = upper * (lower / upper) ** np.linspace(0.0, 1.0, TRIED)[:, None]
        many = replace(group, rows=np.tile(rows, TRIED))
        each = evaluate(settings, many, costs, tried.ravel())
        first = _highest_kept(_excess(each, np.tile(limits, TRIED)).reshape(tried.shape))
        picked = first * len(rows) + np.arange(len(rows))
        upper = np.take_along_axis(tried, np.maximum(first - 1, 0)[None], 0)[0]
        lower = np.take_along_axis(tried, first[None], 0)[0]
    return each.take(picked), lower


def load_remarks(settings: Settings, group: Group, found: Estimates, share: Array) -> NDArray[np.object_]:
    """Return what the answers of open loops near or beyond capacity rest on, (N,) texts; "" where nothing is special.

    share: of the stated rate at which each estimate is taken, (N,).
    """
    remarks = np.full(len(share), "", dtype=object)
    if group.mode != "open":
        return remarks
    number = {c: v[group.rows] for c, v in settings.cases.number.items()}
    rate = number["request_rate_rps"]
    for i in np.flatnonzero((share != 1.0) | found.saturated).tolist():
        if share[i] != 1.0:
            most = "" if share[i] < 1.0 else " and not above"
            remarks[i] = (
                f"the run kept its limits at {rate[i]:g} requests/s{most}, the estimate up to "
                f"{rate[i] * share[i]:.3g}: its latencies are those of that rate"
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
