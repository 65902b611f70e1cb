"""Compute the cost of candidates per token and month, and the 80 % range of the cost.

The cost is uncertain because the number of replicas that keep the SLO is. The ends of the range are the costs of the
least replicas that keep every bound with a confidence of 10 % and of 90 %. If the search chooses the load, they are the
costs per token at the greatest loads that keep the SLO with these confidences. An end is infinite if no number of
replicas, or no load, keeps the SLO with that confidence.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

import numpy as np

from perfmodel import Deployments, Estimates
from perfmodel.arrays import NAN, Array, Index, Mask
from perfmodel.estimates import keeps
from perfmodel.lazy_fields import LazyValue
from search.planning.disaggregation.disaggregated import pair_loads, pair_workers
from search.planning.disaggregation.pools import Pairs, Workers
from search.planning.disaggregation.pools import estimates as pair_estimates
from search.planning.evaluation.columns import power_columns
from search.planning.evaluation.scoring import LEAST_OFFERED, Scorer
from search.planning.money.account import Shares, account_columns, hourly_usd, shares_of, without_cached
from search.planning.money.prices import usd_per_million_tokens
from search.planning.operating_point.bracket_search import least_whole
from search.planning.operating_point.sizing import SATURATING_RATE
from search.planning.ranking.candidates import Candidates

#: Most times the replicas of a plan that are tried. Chosen: beyond, no number of replicas is taken to keep the SLO.
MOST_TIMES = 32.0
#: Confidence -> (USD per hour, USD per million output tokens) of candidates, (N,) each.
Ends = dict[float, tuple[Array, Array]]
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
    ends = {confidence: {name: np.full(len(at), NAN) for name in own} for confidence in (GOOD, BAD)}
    for pools in (False, True):
        rows = np.nonzero((at >= len(candidates.layouts)) == pools)[0]
        if len(rows):
            costs = _of_pairs if pools else _of_colocated
            for confidence, found in costs(candidates, at[rows]).items():
                for name, values in zip(own, found, strict=True):
                    ends[confidence][name][rows] = values
    return {
        **{f"{name}_lo": np.fmin(ends[GOOD][name], value) for name, value in own.items()},
        **{f"{name}_hi": np.fmax(ends[BAD][name], value) for name, value in own.items()},
    }


def _with(scorer: Scorer, confidence: float) -> Scorer:
    """Return the scorer that asks for another confidence."""
    return replace(scorer, target=replace(scorer.target, confidence=confidence))


def _of_colocated(candidates: Candidates, at: Index) -> Ends:
    """Return the costs of colocated candidates at both ends, (N,) each."""
    asked, layouts = candidates.scorer, candidates.layouts.take(at)
    shown, offered = candidates.columns["replicas"][at], candidates.columns["offered"][at]
    spare, ends = asked.spare_replicas(layouts), []
    needed = _replicas(candidates, at) if asked.sized else {}
    loads = {} if asked.sized else _at_ends(asked.greatest_load(layouts.take(_twice(at)), _sure(at)))
    for confidence in (GOOD, BAD):
        replicas, load = shown, offered
        if asked.sized:
            replicas = needed[confidence] + spare
            met = np.isfinite(replicas)
        else:
            each = loads[confidence]
            met, load = np.isfinite(each), np.where(np.isfinite(each), each, 1.0) * np.maximum(shown - spare, 1.0)
        ends.append((replace(layouts, replicas=np.where(met, replicas, 1.0)), load, met))
    places, offers, mets = zip(*ends, strict=True)

    def estimated() -> Estimates:
        """Estimate the candidates at both ends, (2 N,)."""
        return asked.target.estimates_of(asked.loads(np.concatenate(offers)), Deployments.concatenate(places))

    pools = [(layouts.device, layouts.devices_per_replica, place.replicas) for place in places]
    bills = [asked.tariff.bill(pool, caps=(layouts.power_cap,)) for pool in pools]
    return _both_priced(asked, estimated, bills, mets)


def _twice(at: Index) -> Index:
    """Return the positions of N candidates twice over, (2 N,): once for each end."""
    return np.tile(np.arange(len(at)), 2)


def _sure(at: Index) -> Array:
    """Return the confidences that go with `_twice`, (2 N,)."""
    return np.repeat([GOOD, BAD], len(at))


def _at_ends(found: Array) -> dict[float, Array]:
    """Return the values (2 N,) by confidence, (N,) each."""
    return {GOOD: found[: len(found) // 2], BAD: found[len(found) // 2 :]}


def _replicas(candidates: Candidates, at: Index) -> dict[float, Array]:
    """Return the least replicas that keep the SLO with each confidence, (N,); inf where none up to `MOST_TIMES` do.

    Where the estimate of the throughput decides, and no bound of the SLO, they are those that its interval leaves.
    """
    layouts, target = candidates.layouts.take(at), candidates.scorer.raised.target
    count, both = len(at), np.tile(np.arange(len(at)), 2)
    good = np.arange(2 * count) < count

    def test(rows: Index, numbers: Array) -> Mask:
        """Return True where the candidates keep the SLO with so many replicas, the first half with `GOOD`."""
        found = target.estimates(replace(layouts.take(both[rows]), replicas=numbers))
        kept = [keeps(found, target.slo, confidence) for confidence in (GOOD, BAD)]
        return np.asarray(found.fits & np.where(good[rows], *kept), dtype=bool)

    shown = candidates.columns["replicas"][at]
    least = least_whole(test, np.where(good, 1.0, MOST_TIMES) * np.tile(shown, 2))
    least = np.where(np.isnan(least), np.where(good, np.tile(shown, 2), np.inf), least)
    halves = {GOOD: least[:count], BAD: least[count:]}
    return _by_throughput(candidates, at, halves) if target.workload.arrival == "open" else halves


def _by_throughput(candidates: Candidates, at: Index, least: dict[float, Array]) -> dict[float, Array]:
    """Return the replicas that the interval of the throughput leaves, (N,) each, where the throughput decides.

    least: those that keep the SLO with each confidence.
    """
    scorer = candidates.scorer
    target, layouts = scorer.raised.target, candidates.layouts.take(at)
    load = replace(scorer.loads(np.full(len(at), NAN)), rate=np.full(len(at), SATURATING_RATE))
    full = target.estimates_of(load, replace(layouts, replicas=np.ones(len(at))))
    usual, out = np.ceil(target.workload.rate / full.request_rate), {}
    for confidence, found in least.items():
        serves = full.request_rate * np.exp(_deviates(confidence) * full.half_width("throughput"))
        needed = np.maximum(np.ceil(target.workload.rate / serves), 1.0)
        out[confidence] = np.where(found <= usual, needed, np.fmax(found, needed))
    return out


def _deviates(confidence: float) -> float:
    """Return the half-widths of an 80 % interval that an estimate is shifted by: up for GOOD, down for BAD."""
    return 1.0 if confidence == GOOD else -1.0


def _of_pairs(candidates: Candidates, at: Index) -> Ends:
    """Return the costs of pairs of pools at both ends, (N,) each."""
    pairs, columns, ends = candidates.pairs.take(at - len(candidates.layouts)), candidates.columns, []
    shown, offered = (columns["prefill_workers"][at], columns["decode_workers"][at]), columns["offered"][at]
    asked, both, loads = candidates.scorer, _twice(at), {}
    if not asked.sized:
        loaded = pair_loads(asked, pairs.take(both), (shown[0][both], shown[1][both]), _sure(at))
        loads = _at_ends(np.where(loaded[1], loaded[0], NAN))
    for confidence in (GOOD, BAD):
        workers, load = shown, offered
        if asked.sized:
            workers, met = _workers(_with(asked, confidence), pairs, shown)
        else:
            met = np.isfinite(loads[confidence])
            load = np.where(met, loads[confidence], LEAST_OFFERED)
        ends.append((workers, load, met))
    workers_of, offers, mets = zip(*ends, strict=True)

    def estimated() -> Estimates:
        """Estimate the pairs at both ends, (2 N,)."""
        workers = tuple(np.concatenate(pool) for pool in zip(*workers_of, strict=True))
        return pair_estimates(asked, pairs.take(both), (workers[0], workers[1]), np.concatenate(offers))

    placed = [zip((pairs.prefill, pairs.decode), workers, strict=True) for workers in workers_of]
    pools = [[(p.device, p.devices_per_replica, n) for p, n in end] for end in placed]
    bills = [asked.tariff.bill(*end, caps=(pairs.prefill.power_cap, pairs.decode.power_cap)) for end in pools]
    return _both_priced(asked, estimated, bills, mets)


def _workers(scorer: Scorer, pairs: Pairs, shown: Workers) -> tuple[Workers, Mask]:
    """Return (workers of both pools at one end, True where they keep the SLO), where a demand is given.

    scorer: asks for the confidence of the end. shown: workers of the plan.
    """
    spares = scorer.spare_replicas(pairs.prefill), scorer.spare_replicas(pairs.decode)
    bad = scorer.target.confidence == BAD
    fewest = [np.maximum(n - s, 1.0) if bad else np.ones(len(pairs)) for n, s in zip(shown, spares, strict=True)]
    workers, met = pair_workers(scorer, pairs, (fewest[0], fewest[1]))
    return (workers[0] + spares[0], workers[1] + spares[1]), met


def _both_priced(
    scorer: Scorer, estimated: Callable[[], Estimates], bills: Sequence[dict[str, Array]], mets: Sequence[Mask]
) -> Ends:
    """Return the costs at both ends. estimated: at both, (2 N,). bills, mets: of `GOOD` and `BAD`, (N,) each."""
    found, count, out = LazyValue(estimated), len(mets[0]), {}
    for place, (confidence, bill, met) in enumerate(zip((GOOD, BAD), bills, mets, strict=True)):
        own = partial(_rows, found, np.arange(count) + place * count)
        out[confidence] = _priced(_with(scorer, confidence), own, bill, met)
    return out


def _rows(found: LazyValue[Estimates], rows: Index) -> Estimates:
    """Return the estimates at `rows` of what is estimated when it is first asked for."""
    return found().take(rows)


def _priced(
    scorer: Scorer, estimated: Callable[[], Estimates], bill: dict[str, Array], met: Mask
) -> tuple[Array, Array]:
    """Return (USD per hour, USD per million output tokens), (N,) each; inf where not `met`, NaN without a price.

    Where the rate is an estimate too, the cost of a token has the end of its interval that goes with the confidence.
    estimated: called where rate or power is needed, which a stated rate and a rent do not.
    """
    money, work, hourly = scorer.tariff.money, scorer.target.workload, np.asarray(bill["usd_per_hour"])
    rate = np.full(len(hourly), work.rate * work.mean_output)
    if work.arrival != "open" or bill["devices_owned"].any():
        found = estimated()
        mean = power_columns(found, scorer.tariff, bill, scorer.site, money.utilisation)["mean_power_w"]
        hourly, rate = hourly_usd(bill, mean, scorer.site, money.ownership), found.output_rate
        if work.arrival != "open":
            rate = rate * np.exp(_deviates(scorer.target.confidence) * found.half_width("throughput"))
    per_token = usd_per_million_tokens(hourly, rate * money.utilisation)
    never = np.where(np.isnan(hourly), NAN, np.inf)
    return np.where(met, hourly, never), np.where(met, per_token, never)
