"""Find how much more a plan serves than is asked: its greatest request rate, utilisation and headroom."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from perfmodel import Estimates
from perfmodel.arrays import Array, Index, Mask
from perfmodel.workload import Load
from search.planning.evaluation.scoring import MAX_CONCURRENCY
from search.planning.operating_point.bracket_search import RATE_TOLERANCE, greatest
from search.planning.operating_point.sizing import LEAST_LOAD, OVER_SATURATED, SATURATING_RATE, rows_of
from search.planning.ranking.candidates import Candidates

#: Loads between the asked and the greatest one whose rates are compared. Chosen: a rate may fall where sequences are
#: preempted, long before an SLO breaks.
LOADS_COMPARED = 8
#: Relative width of the bracket at which the greatest rate of a candidate counts as found. Chosen: below what is shown.
HEADROOM_TOLERANCE = 4e-3
#: Rates tried per round. Chosen: an estimate of many columns costs little more than one of a few.
RATES_PER_ROUND = 6
#: Field of a load that grows with it, by kind of arrival.
GROWS = {"open": "rate", "closed": "concurrency", "static": "concurrency", "offline": "n_requests"}


def headroom_columns(candidates: Candidates, numbers: Sequence[int]) -> dict[str, Array]:
    """Return how far each of the candidates `numbers` is from breaking its SLO, (N,) each.

    `greatest_request_rate_rps`: the highest rate of requests that the whole plan serves with every SLO kept, 0 where it
    keeps them at no rate. `utilisation`: the rate at its load over that rate; above 1 where the SLO is missed, NaN
    where the SLO is kept at no rate. `headroom`: that rate over the rate at its load, minus 1.
    """
    greatest_rates, asked = _greatest_rates(_Shown(candidates, np.asarray(numbers, dtype=np.intp)))
    with np.errstate(divide="ignore", invalid="ignore"):
        used, left = asked / greatest_rates, greatest_rates / asked - 1.0
    return {
        "greatest_request_rate_rps": greatest_rates,
        "utilisation": np.where(greatest_rates > 0, used, np.nan),
        "headroom": left,
    }


@dataclass(frozen=True)
class _Shown:
    """The candidates `numbers` of a plan, (N,), each estimated under more or less load than its own."""

    candidates: Candidates
    numbers: Index

    def load(self, *, pools: bool = False) -> Load:
        """Return the load of each candidate, which grows by the field that `GROWS` names.

        pools: True for what a pair of pools is estimated with.
        """
        load = self.candidates.scorer.loads(self.candidates.columns["offered"][self.numbers], pools=pools)
        return replace(load, arrival="closed") if load.arrival == "single" else load

    def at(self, rows: Index, values: Array) -> Estimates:
        """Estimate the candidates at positions `rows`, each under a load of `values`: a rate, or requests."""

        def load(at: Index, pools: bool) -> Load:
            """Return the loads of the candidates at positions `rows[at]`."""
            whole = rows_of(self.load(pools=pools), rows[at])
            grown: dict[str, Any] = {GROWS[whole.arrival]: values[at]}
            return replace(whole, **grown)

        return self.candidates.estimates_under(self.numbers[rows], load)


def _greatest_rates(shown: _Shown) -> tuple[Array, Array]:
    """Return (greatest request rate within the SLO, request rate at the load of the plan), requests/s, (N,) each."""
    scorer, columns = shown.candidates.scorer, shown.candidates.columns
    full = not scorer.sized and not scorer.least_loaded  # loaded as far as the SLO allows
    if full and not scorer.limits.spare_nodes:
        rate = columns["request_rate_rps"][shown.numbers]
        met = columns["slo_ratio"][shown.numbers] <= 1.0 + RATE_TOLERANCE
        return np.where(met, rate, 0.0), rate
    load, target, count = shown.load(), scorer.target, len(shown.numbers)
    everyone, own = np.arange(count), np.array(getattr(load, GROWS[load.arrival]))
    if load.arrival == "open":
        met = (columns["slo_ratio"][shown.numbers] <= 1.0) & (columns["fits"][shown.numbers] > 0)
        return _greatest_open(shown, own, met), own
    now = shown.at(everyone, own)
    kept = target.met_by(now)

    def missed(rows: Index, values: Array) -> Array:
        """Return by how much the candidates at `rows` miss the target under so many requests."""
        return target.missed_by(shown.at(rows, values))

    replicas = shown.candidates.columns["replicas"][shown.numbers]
    most = greatest(missed, np.ones(count), np.maximum(MAX_CONCURRENCY * replicas, own), whole=True)
    able = np.nonzero(np.isfinite(most))[0]
    steps = np.linspace(0.0, 1.0, LOADS_COMPARED)[:, None]
    tried = np.maximum(np.floor(most[able] ** steps), 1.0)
    rates = np.zeros(count)
    if len(able):
        at = shown.at(np.tile(able, LOADS_COMPARED), tried.ravel())
        met = np.where(target.met_by(at), at.request_rate, 0.0).reshape(tried.shape)
        rates[able] = met.max(axis=0)
    return np.where(kept, np.fmax(rates, now.request_rate), rates), now.request_rate


def _greatest_open(shown: _Shown, own: Array, kept: Mask) -> Array:
    """Return the greatest request rate within the SLO where requests arrive at a rate, (N,), 0 where none is.

    The bracket is cut by `RATES_PER_ROUND` rates at once. own: (N,) asked rate. kept: (N,) True where the SLO is kept
    there.
    """
    target, high = shown.candidates.scorer.target, _highest(shown, own, kept)
    low = np.where(kept, own, LEAST_LOAD * high)  # a rate this low stands for none
    found, rows = np.where(kept, own, 0.0), np.arange(len(own))
    cuts = np.arange(1, RATES_PER_ROUND + 1)[:, None] / (RATES_PER_ROUND + 1)
    while len(rows):
        points = low[rows] * (high[rows] / low[rows]) ** cuts
        met = target.met_by(shown.at(np.tile(rows, RATES_PER_ROUND), points.ravel())).reshape(points.shape)
        best = np.where(met, points, 0.0).max(axis=0)
        above = np.where(met | (points < best), np.inf, points).min(axis=0)
        found[rows] = np.fmax(found[rows], best)
        low[rows], high[rows] = np.fmax(low[rows], best), np.fmin(high[rows], above)
        rows = rows[high[rows] > low[rows] * (1.0 + HEADROOM_TOLERANCE)]
    return found


def _highest(shown: _Shown, own: Array, kept: Mask) -> Array:
    """Return a request rate that no candidate keeps its SLO at, (N,).

    A colocated plan has the least replicas that keep the SLO at the asked rate over the utilisation that is allowed, so
    that one replica less would miss it there. For the others it is a rate that saturates them. own, kept: as in
    `_greatest_open`.
    """
    candidates, numbers = shown.candidates, shown.numbers
    replicas, high = candidates.columns["replicas"][numbers], own.copy()
    colocated = numbers < len(candidates.layouts)
    fewer = np.full(len(own), 0.0)
    if colocated.any():
        layouts = candidates.layouts.take(numbers[colocated])
        fewer[colocated] = replicas[colocated] - 1.0 - candidates.scorer.spare_replicas(layouts)
    sized = kept & (fewer >= 1) & (candidates.columns["verdict"][numbers] == 0)
    high[sized] = own[sized] / candidates.scorer.limits.utilisation * replicas[sized] / fewer[sized]
    rows = np.nonzero(~sized)[0]
    if len(rows):
        most = OVER_SATURATED * shown.at(rows, np.full(len(rows), SATURATING_RATE)).request_rate
        high[rows] = np.where(kept[rows], np.fmax(most, OVER_SATURATED * own[rows]), np.fmin(most, own[rows]))
    return high
