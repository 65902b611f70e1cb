"""Bound what pairs of pools can reach, from what each pool does beside an ideal partner.

No pair needs fewer workers than its pools need beside ideal partners, so no pair is cheaper than the bound. The pairs
are estimated in the order of their bounds until no bound is better than the best pair found: that is the best of all.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from perfmodel.arrays import Array, Index, Mask
from perfmodel.power import carbon_g, energy_per_token, kwh_per_million_tokens
from search.planning.disaggregation.pool_roles import Role
from search.planning.disaggregation.pools import Pairs, Workers
from search.planning.evaluation.scoring import SCORE_OF_UNKNOWN, Scorer
from search.planning.money.account import dearest
from search.planning.money.prices import usd_per_million_tokens
from search.searchers import RANKINGS, pareto

#: Most pairs that are bounded. Chosen: takes about a second.
MAX_BOUNDED = 1_000_000
#: Most workers of a pool in the smallest unit of a pair, where the workload gives no demand. Chosen: ratios up to 16.
UNIT_WORKERS = 16
#: Rankings by what a device or a dollar delivers: the ratio of workers with the greatest rate per device is taken.
BY_EFFICIENCY = (
    "output_tok_s_per_device",
    "usd_per_million_tokens",
    "usd_per_million_total_tokens",
    "site_energy_j_per_output_token",
    "gco2_per_million_tokens",
)
#: Rates per device that differ by less count as equal: the smaller pair is taken. Chosen: below the error of estimates.
RATE_TOLERANCE = 0.01


@dataclass(frozen=True)
class Offers:
    """M pairs of pools by their bounds.

    left, right: positions among the prefill and the decode layouts, (M,). workers: (prefill, decode), (M,) each, spares
    not included. score: the least that the search can get, inf where a limit is exceeded in any case, (M,).
    """

    left: Index
    right: Index
    workers: Workers
    score: Array

    def __len__(self) -> int:
        return len(self.left)

    def take(self, rows: Index | slice) -> Offers:
        """Return the pairs at positions `rows`."""
        p, d = self.workers
        return Offers(self.left[rows], self.right[rows], (p[rows], d[rows]), self.score[rows])


def offers(scorer: Scorer, prefill: Role, decode: Role) -> Offers:
    """Return the pairs of the two roles that can hand a KV cache over, those with the best bounds first.

    One pool hands its KV cache to the other, so both keep it in one format, on devices of one vendor.
    """
    prefill, decode = (_without_worse(scorer, role) for role in (prefill, decode))
    left, right = (g.ravel() for g in np.meshgrid(np.arange(len(prefill)), np.arange(len(decode)), indexing="ij"))
    vendor = np.unique([d.vendor for d in prefill.layouts.devices], return_inverse=True)[1]
    fit = (prefill.layouts.kv[left] == decode.layouts.kv[right]) & (
        vendor[prefill.layouts.device[left]] == vendor[decode.layouts.device[right]]
    )
    left, right = left[fit], right[fit]
    chosen = prefill.take(left), decode.take(right)
    workers = (chosen[0].workers, chosen[1].workers) if scorer.sized else _rate_matched(scorer, *chosen)
    score = _bound(scorer, *chosen, workers)
    devices = _devices(*chosen, workers)
    best_first = np.lexsort((chosen[0].ttft + chosen[1].tpot, devices, score))
    return Offers(chosen[0].rows, chosen[1].rows, workers, score).take(best_first)


def _without_worse(scorer: Scorer, role: Role) -> Role:
    """Drop layouts that another of the same device and KV format beats in everything, where there are very many."""
    if len(role) ** 2 <= MAX_BOUNDED:
        return role
    total, d = role.total, role.layouts
    price = np.nan_to_num(scorer.tariff.usd_per_hour, nan=1.0)[d.device] * d.devices_per_replica * total
    columns = [price, d.devices_per_replica * total, role.ttft, role.tpot, -role.rate, np.nan_to_num(role.watts)]
    groups = np.unique(np.stack([d.device, d.kv]), axis=1, return_inverse=True)[1].ravel()
    keep = np.zeros(len(role), dtype=bool)
    for group in range(groups.max() + 1):
        rows = np.nonzero((groups == group) & role.met)[0]
        keep[rows[pareto([c[rows] for c in columns])]] = True
    return role.take(np.nonzero(keep)[0][: int(np.sqrt(MAX_BOUNDED))])


def _devices(prefill: Role, decode: Role, workers: Workers) -> Array:
    """Return the devices of each pair with its spares, (M,)."""
    front = prefill.layouts.devices_per_replica * (workers[0] + prefill.spares)
    return np.asarray(front + decode.layouts.devices_per_replica * (workers[1] + decode.spares))


def _bound(scorer: Scorer, prefill: Role, decode: Role, workers: Workers) -> Array:
    """Return the best score that each pair may have, (M,), for roles that are paired row by row."""
    columns = _columns(scorer, prefill, decode, workers)
    value = columns.get(scorer.rank_by, columns["usd_per_hour"]) * (1.0 if RANKINGS[scorer.rank_by] else -1.0)
    limits = scorer.limits
    out = (
        ~(prefill.met & decode.met)
        | (columns["over_stock"] > 0)
        | (columns["devices"] > limits.devices)
        | (columns["nodes"] > limits.nodes)
        | (columns["usd_per_hour"] > limits.usd_per_hour)
    )
    return np.where(out, np.inf, np.where(np.isnan(value), SCORE_OF_UNKNOWN, value))


def _columns(scorer: Scorer, prefill: Role, decode: Role, workers: Workers) -> Mapping[str, Array]:
    """Return the columns that plans are ranked by, for roles that are paired row by row: the best that may be."""
    work, total = scorer.target.workload, (workers[0] + prefill.spares, workers[1] + decode.spares)
    pools = [
        (r.layouts.device, r.layouts.devices_per_replica, n) for r, n in zip((prefill, decode), total, strict=True)
    ]
    rates = prefill.rate, decode.rate
    if not scorer.sized:
        rates = rates[0] * workers[0], rates[1] * workers[1]
    rate = np.minimum(*rates)
    bill = scorer.tariff.bill(*pools, caps=(prefill.layouts.power_cap, decode.layouts.power_cap))
    output, usd, used = rate * work.mean_output, bill["usd_per_hour"], scorer.tariff.money.utilisation
    devices = _devices(prefill, decode, workers)
    power = scorer.tariff.wall(prefill.watts + decode.watts, bill)
    energy = energy_per_token(power, output)
    return {
        "usd_per_hour": usd,
        "usd_per_million_tokens": usd_per_million_tokens(usd, used * output),
        "usd_per_million_total_tokens": usd_per_million_tokens(usd, used * (output + rate * work.mean_input)),
        "devices": devices,
        "nodes": bill["nodes"],
        "power_w": power,
        "site_energy_j_per_output_token": energy,
        "gco2_per_million_tokens": carbon_g(kwh_per_million_tokens(energy), scorer.site.gco2_per_kwh),
        "output_tok_s_per_device": output / devices,
        "output_tok_s": output,
        "request_rate_rps": rate,
        "request_rate_rps_per_replica": rate / total[1],
        "ttft_ms": prefill.ttft,
        "tpot_ms": decode.tpot,
        "e2e_ms": prefill.ttft + max(work.mean_output - 1.0, 0.0) * decode.tpot,
        "over_stock": over_stock(scorer, [p[0] for p in pools], [p[1] * p[2] for p in pools]),
    }


def over_stock(scorer: Scorer, device: list[Index], used: list[Array]) -> Array:
    """Return the devices that each pair needs beyond those on hand, (M,).

    Where the two pools use different device types, the type that is shorter counts. device, used: of each pool, (M,)
    each: the type, and how many.
    """
    one_type = device[0] == device[1]
    over = [np.where(one_type, used[0] + used[1], u) - scorer.stock[d] for d, u in zip(device, used, strict=True)]
    return np.asarray(np.maximum(*over))


def _rate_matched(scorer: Scorer, prefill: Role, decode: Role) -> Workers:
    """Choose how many workers each pool of a pair gets, where the workload gives no demand; (M,) each.

    Of the ratios of whole numbers up to `UNIT_WORKERS` whose rates match best (as in DistServe, arXiv:2401.09670, and
    Splitwise, arXiv:2311.18677), the one with the greatest rate is taken, with so many units as are on hand, or one
    unit where nothing limits them. prefill, decode: paired row by row.
    """
    chosen = np.ones(len(prefill)), np.ones(len(prefill))
    if scorer.one_replica:
        return chosen
    best = np.full(len(prefill), -np.inf)
    for workers in _ratios(prefill.rate, decode.rate):
        units = _units(scorer, prefill, decode, workers)
        times = np.where(np.isfinite(units), np.maximum(units, 1.0), 1.0)
        filled = workers[0] * times, workers[1] * times
        rate = np.minimum(prefill.rate * filled[0], decode.rate * filled[1])
        total = np.isfinite(units) & (scorer.rank_by not in BY_EFFICIENCY)
        value = np.where(total, rate, rate / _devices(prefill, decode, filled))
        value = np.where(units < 1.0, -_devices(prefill, decode, workers), value)  # none fits: the smallest is nearest
        better = value > np.where(best > 0, best * (1.0 + RATE_TOLERANCE), best)
        best = np.where(better, value, best)
        chosen = np.where(better, filled[0], chosen[0]), np.where(better, filled[1], chosen[1])
    return chosen


def _ratios(prefill: Array, decode: Array) -> list[Workers]:
    """List numbers of workers, small ones first, with which pools of these rates per worker match. (M,) each"""
    found: list[Workers] = []
    for count in range(1, UNIT_WORKERS + 1):
        for rounded in (np.floor, np.ceil):
            with np.errstate(divide="ignore", invalid="ignore"):
                for_prefill = np.nan_to_num(rounded(count * prefill / decode), nan=1.0, posinf=UNIT_WORKERS)
                for_decode = np.nan_to_num(rounded(count * decode / prefill), nan=1.0, posinf=UNIT_WORKERS)
            same = np.full(len(prefill), float(count))
            found += [(same, np.clip(for_prefill, 1.0, UNIT_WORKERS)), (np.clip(for_decode, 1.0, UNIT_WORKERS), same)]
    return found


def _units(scorer: Scorer, prefill: Role, decode: Role, workers: Workers) -> Array:
    """Return how many times so many workers of both pools are on hand and within the limits, inf without one. (M,)"""
    bill, limits = scorer.tariff, scorer.limits

    def hourly(*pool: Any) -> Array:
        """Return the most USD per hour that a pool may cost."""
        return dearest(bill, scorer.site, pool)

    pools = [
        (r.layouts.device, r.layouts.devices_per_replica, n) for r, n in zip((prefill, decode), workers, strict=True)
    ]
    spares = [(r.layouts.device, r.layouts.devices_per_replica, r.spares) for r in (prefill, decode)]
    used, kept = [p[1] * p[2] for p in pools], [s[1] * s[2] for s in spares]
    one_type = prefill.layouts.device == decode.layouts.device
    stock = [scorer.stock[p[0]] for p in pools]
    with np.errstate(divide="ignore", invalid="ignore"):
        by_stock = [
            (s - np.where(one_type, kept[0] + kept[1], k)) / np.where(one_type, used[0] + used[1], u)
            for s, u, k in zip(stock, used, kept, strict=True)
        ]
        by_limit = [
            (limit - sum(of(*s) for s in spares)) / sum(of(*p) for p in pools)
            for limit, of in ((limits.nodes, bill.nodes), (limits.usd_per_hour, hourly))
            if np.isfinite(limit)
        ]
        by_devices = (limits.devices - kept[0] - kept[1]) / (used[0] + used[1])
    every = [*by_stock, by_devices, *by_limit]
    return np.asarray(np.floor(np.min(np.broadcast_arrays(*every), axis=0)))


def unlimited(scorer: Scorer, pairs: Pairs) -> Mask:
    """Return True where neither stock nor a limit but that on power bounds the workers of a pair, (M,)."""
    limits = scorer.limits
    if scorer.one_replica or np.isfinite([limits.devices, limits.nodes, limits.usd_per_hour]).any():
        return np.zeros(len(pairs), dtype=bool)
    return np.asarray(np.isinf(scorer.stock[pairs.prefill.device]) & np.isinf(scorer.stock[pairs.decode.device]))
