"""Say what candidates of a plan cost by token and month, and how far their cost may be from that.

The range of the cost follows the decision that the uncertainty of the estimate leaves open: how many replicas keep the
SLO. Its ends are the costs of the replicas that would be needed if the estimates were as good, or as bad, as the ends
of their 80 % intervals: the least replicas that keep every bound with a confidence of 10 % and of 90 %. Where the load
is chosen, they are the costs per token at the greatest loads with these confidences. An end is infinite where no number
of replicas, or no load, keeps the SLO with that confidence.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from perfmodel import Estimates
from perfmodel.arrays import NAN, Array, Index, Mask
from search.planning.account import Shares, account_columns, hourly_usd, shares_of, without_cached
from search.planning.candidates import Candidates
from search.planning.columns import cost_columns, power_columns
from search.planning.disaggregated import pair_loads, pair_workers
from search.planning.pools import estimates as pair_estimates
from search.planning.scoring import Scorer
from search.planning.sizing import SATURATING_RATE, least_replicas

#: Confidences at the ends of a range: the ends of an 80 % interval.
GOOD, BAD = 0.1, 0.9


def account_rows(candidates: Candidates, numbers: Sequence[int], found: Estimates) -> dict[str, Array]:
    """Return the account of the candidates `numbers`, (N,) each. found: their estimates."""
    at, scorer = np.asarray(numbers, dtype=np.intp), candidates.scorer
    columns = {name: candidates.columns[name][at] for name in ("usd_per_hour", "mean_power_w", "devices_billed")}
    shares = shares_at(candidates, numbers, found)
    return account_columns(found, columns, shares, scorer.target.workload, scorer.site, scorer.tariff.money)


def shares_at(candidates: Candidates, numbers: Sequence[int], found: Estimates) -> Shares:
    """Return who pays for the requests of the candidates `numbers`. found: their estimates."""
    at, scorer = np.asarray(numbers, dtype=np.intp), candidates.scorer
    work = scorer.target.workload
    offered = candidates.columns["offered"][at]
    cached = bool(np.any(work.prefix_hit > 0))
    alone = (
        candidates.estimates_under(at, lambda rows, pools: without_cached(scorer.loads(offered[rows], pools=pools)))
        if cached
        else found
    )
    shares = shares_of(found, alone, work)
    paired = at >= len(candidates.layouts)
    if paired.any():
        return Shares(np.where(paired, _of_prefill_pool(candidates, at), shares.prefill), shares.cached_part)
    return shares


def _of_prefill_pool(candidates: Candidates, at: Index) -> Array:
    """Return the share of the price that the pool of prefill workers has, (N,); NaN for colocated candidates."""
    tariff, columns, out = candidates.scorer.tariff, candidates.columns, np.full(len(at), NAN)
    rows = np.nonzero(at >= len(candidates.layouts))[0]
    pairs = candidates.pairs.take(at[rows] - len(candidates.layouts))
    front, back = (
        tariff.hourly(pool.device, pool.devices_per_replica, columns[workers][at[rows]])
        for pool, workers in ((pairs.prefill, "prefill_workers"), (pairs.decode, "decode_workers"))
    )
    with np.errstate(invalid="ignore"):
        out[rows] = front / (front + back)
    return out


def cost_range(candidates: Candidates, numbers: Sequence[int]) -> dict[str, Array]:
    """Return the ends of the 80 % intervals of `usd_per_hour` and `usd_per_million_tokens`, (N,) each."""
    at = np.asarray(numbers, dtype=np.intp)
    own = {name: candidates.columns[name][at] for name in ("usd_per_hour", "usd_per_million_tokens")}
    good, bad = (_costs_at(candidates, at, confidence) for confidence in (GOOD, BAD))
    return {
        **{f"{name}_lo": np.fmin(good[name], value) for name, value in own.items()},
        **{f"{name}_hi": np.fmax(bad[name], value) for name, value in own.items()},
    }


def _costs_at(candidates: Candidates, at: Index, confidence: float) -> dict[str, Array]:
    """Return the costs of the candidates `at` if the plan were made with this confidence, (N,) each."""
    asked = candidates.scorer
    scorer = replace(asked, target=replace(asked.target, confidence=confidence))
    hourly, per_million = np.full(len(at), NAN), np.full(len(at), NAN)
    for pools in (False, True):
        rows = np.nonzero((at >= len(candidates.layouts)) == pools)[0]
        if len(rows):
            costs = _of_pairs if pools else _of_colocated
            hourly[rows], per_million[rows] = costs(candidates, scorer, at[rows])
    return {"usd_per_hour": hourly, "usd_per_million_tokens": per_million}


def _of_colocated(candidates: Candidates, scorer: Scorer, at: Index) -> tuple[Array, Array]:
    """Return (USD per hour, USD per million output tokens) of colocated candidates, (N,) each."""
    layouts = candidates.layouts.take(at)
    replicas, offered = candidates.columns["replicas"][at], candidates.columns["offered"][at]
    spare = scorer.spare_replicas(layouts)
    if scorer.sized:
        replicas = _replicas(scorer, candidates, at) + spare
        met = np.isfinite(replicas)
    else:
        load = scorer.greatest_load(layouts)
        met, offered = np.isfinite(load), load * np.maximum(replicas - spare, 1.0)
    shown = replace(layouts, replicas=np.where(met, replicas, 1.0))
    found = scorer.target.estimates_of(scorer.loads(np.where(met | scorer.sized, offered, 1.0)), shown)
    pool = (layouts.device, layouts.devices_per_replica, shown.replicas)
    return _priced(scorer, found, scorer.tariff.bill(pool, caps=(layouts.power_cap,)), met)


def _replicas(scorer: Scorer, candidates: Candidates, at: Index) -> Array:
    """Return the least replicas that keep the SLO with the confidence of `scorer`, (N,); inf where none do.

    Where the estimate of the throughput decides, and no bound of the SLO, they are those that its interval leaves.
    """
    layouts, target = candidates.layouts.take(at), scorer.raised.target
    least = least_replicas(target, layouts, np.full(len(at), np.inf))[0]
    if target.workload.arrival != "open":
        return np.where(np.isnan(least), np.inf, least)
    one = replace(layouts, replicas=np.ones(len(at)))
    load = replace(scorer.loads(np.full(len(at), NAN)), rate=np.full(len(at), SATURATING_RATE))
    full = target.estimates_of(load, one)
    serves = full.request_rate * np.exp(_deviates(scorer.target.confidence) * full.spread["throughput"])
    usual, needed = (np.ceil(target.workload.rate / rate) for rate in (full.request_rate, serves))
    by_rate = np.where(least <= usual, needed, np.fmax(least, needed))
    return np.where(np.isnan(least), np.inf, np.maximum(by_rate, 1.0))


def _deviates(confidence: float) -> float:
    """Return the half-widths of an 80 % interval that an estimate is shifted by: up for GOOD, down for BAD."""
    return 1.0 if confidence == GOOD else -1.0


def _of_pairs(candidates: Candidates, scorer: Scorer, at: Index) -> tuple[Array, Array]:
    """Return (USD per hour, USD per million output tokens) of pairs of pools, (N,) each."""
    pairs, columns = candidates.pairs.take(at - len(candidates.layouts)), candidates.columns
    workers, offered = (columns["prefill_workers"][at], columns["decode_workers"][at]), columns["offered"][at]
    if scorer.sized:
        workers, met = pair_workers(scorer, pairs)
        spares = scorer.spare_replicas(pairs.prefill), scorer.spare_replicas(pairs.decode)
        workers = workers[0] + spares[0], workers[1] + spares[1]
    else:
        offered, met = pair_loads(scorer, pairs, workers)
    found = pair_estimates(scorer, pairs, workers, offered)
    pools = [(p.device, p.devices_per_replica, n) for p, n in zip((pairs.prefill, pairs.decode), workers, strict=True)]
    bill = scorer.tariff.bill(*pools, caps=(pairs.prefill.power_cap, pairs.decode.power_cap))
    return _priced(scorer, found, bill, met)


def _priced(scorer: Scorer, found: Estimates, bill: dict[str, Array], met: Mask) -> tuple[Array, Array]:
    """Return (USD per hour, USD per million output tokens), (N,) each; inf where not `met`.

    Where the rate is an estimate too, the cost of a token has the end of its interval that goes with the confidence.
    """
    money = scorer.tariff.money
    mean = power_columns(found, bill, scorer.site, money.utilisation)["mean_power_w"]
    hourly = hourly_usd(bill, mean, scorer.site, money.ownership)
    per_token = cost_columns(found, hourly, money.utilisation)["usd_per_million_tokens"]
    if scorer.target.workload.arrival != "open":
        per_token = per_token * np.exp(-_deviates(scorer.target.confidence) * found.spread["throughput"])
    return np.where(met, hourly, np.inf * hourly), np.where(met, per_token, np.inf * per_token)
