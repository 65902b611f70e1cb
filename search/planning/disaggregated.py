"""Disaggregated candidates: a pool of prefill workers and a pool of decode workers, matched in rate.

Every layout is tried alone in each role; the best of each role for their price are paired, and for every pair the
decode pool is sized first (prefill being plentiful), then the prefill pool. Both steps are bisections on columns.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from perfmodel import Deployments, Estimates
from perfmodel.estimates import estimate_pools
from perfmodel.workload import load_of
from search.planning.scoring import Scorer
from search.planning.sizing import least_whole
from search.searchers import Array

Index = NDArray[np.intp]
Mask = NDArray[np.bool_]

#: Layouts of each role that are paired: 12 x 12 pairs.
ROLE = 12
#: Workers of a pool that count as plentiful while the other is sized, relative to one request/s each.
PLENTY = 4096.0


@dataclass(frozen=True)
class Pairs:
    """N pairs of pools. prefill, decode: one worker each; prefill_row, decode_row: rows of the legal candidates."""

    prefill: Deployments
    decode: Deployments
    prefill_row: Index
    decode_row: Index

    def take(self, rows: Index) -> Pairs:
        """The given pairs."""
        return Pairs(self.prefill.take(rows), self.decode.take(rows), self.prefill_row[rows], self.decode_row[rows])


def matched(scorer: Scorer, layouts: Deployments) -> tuple[Pairs, dict[str, Array]]:
    """The pairs that `layouts` make, and their columns as `Scorer.score` gives them, workers of each pool included.

    One pool hands the KV cache to the other, so both keep it in one format, on devices of one vendor. Empty where
    nothing fits.
    """
    if not scorer.sized or not len(layouts):
        return _pairs(layouts, np.zeros(0, dtype=np.intp), np.zeros(0, dtype=np.intp)), {}
    first, second = _roles(scorer, layouts)
    left, right = (g.ravel() for g in np.meshgrid(first, second, indexing="ij"))
    vendor = np.unique([d.vendor for d in layouts.devices], return_inverse=True)[1][layouts.device]
    same = (layouts.kv[left] == layouts.kv[right]) & (vendor[left] == vendor[right])
    pairs = _pairs(layouts, left[same], right[same])
    if not len(pairs.prefill_row):
        return pairs, {}
    plenty = np.full(len(pairs.prefill_row), PLENTY)
    # a pool is sized within its plenty; what even that does not carry does not keep the objectives
    decode = least_whole(lambda rows, n: _kept(scorer, pairs.take(rows), plenty[rows], n), plenty)
    able = np.isfinite(decode)
    back = np.where(able, decode, 1.0)
    prefill = np.full(len(back), np.nan)
    rows_able = np.nonzero(able)[0]
    prefill[rows_able] = least_whole(
        lambda rows, n: _kept(scorer, pairs.take(rows_able[rows]), n, back[rows_able[rows]]), plenty[rows_able]
    )
    kept = np.isfinite(prefill)
    workers = np.where(kept, prefill, 1.0), back
    return pairs, _columns(scorer, pairs, workers, kept)


def _pairs(layouts: Deployments, left: Index, right: Index) -> Pairs:
    return Pairs(layouts.take(left), layouts.take(right), left, right)


def estimates(scorer: Scorer, pairs: Pairs, workers: tuple[Array, Array]) -> Estimates:
    """Estimates of the pairs with so many workers in each pool."""
    asked = scorer.asked
    demand = load_of(asked.workload, len(pairs.prefill_row))
    pools = pairs.prefill, pairs.decode
    return estimate_pools(asked.model, demand, pools, workers, engine=asked.engine, costs=asked.costs)


def _kept(scorer: Scorer, pairs: Pairs, prefill: Array, decode: Array) -> Mask:
    return scorer.asked.kept(estimates(scorer, pairs, (prefill, decode)))


def _roles(scorer: Scorer, layouts: Deployments) -> tuple[Index, Index]:
    """Rows that do most for their price in each role: prompts a second, and tokens a second at full batches.

    Ranked per device type, so that no type is lost before it is paired. Speed in a role comes from layouts that serve
    both, under a load that saturates them.
    """
    one = replace(layouts, replicas=np.ones(len(layouts)))
    found = scorer.asked.estimates(one)
    price = np.nan_to_num(scorer.tariff.usd_per_hour, nan=1.0)[layouts.device] * layouts.devices_per_replica
    rows = np.nonzero(found.fits)[0]
    prompt = _best(layouts, rows, found.rates.prefill / price)
    return prompt, _best(layouts, rows, found.rates.decode / price)


def _best(layouts: Deployments, rows: Index, value: Array) -> Index:
    kinds = np.unique(layouts.device[rows])
    each = max(ROLE // max(len(kinds), 1), 1)
    picks = [rows[layouts.device[rows] == kind] for kind in kinds]
    chosen = [p[np.argsort(-value[p], kind="stable")[:each]] for p in picks]
    return np.concatenate(chosen) if chosen else np.zeros(0, dtype=np.intp)


def _columns(scorer: Scorer, pairs: Pairs, workers: tuple[Array, Array], kept: Mask) -> dict[str, Array]:
    """Columns of the pairs; both pools' nodes and bills add up, the fuller device decides on memory."""
    found = estimates(scorer, pairs, workers)
    pools = list(zip((pairs.prefill, pairs.decode), workers, strict=True))
    bill = scorer.tariff

    def total(what: str) -> Array:
        pick = getattr(bill, what)
        return sum((pick(p.device, p.devices_per_replica, n) for p, n in pools), start=np.zeros(len(found)))

    host = [bill.host_power[p.device] * bill.nodes(p.device, p.devices_per_replica, n) for p, n in pools]
    used = [p.devices_per_replica * n for p, n in pools]
    same = pairs.prefill.device == pairs.decode.device
    over = [
        np.where(same, used[0] + used[1], u) - scorer.stock[p.device] for (p, _), u in zip(pools, used, strict=True)
    ]
    shared = {
        "replicas": workers[1],
        "devices_per_replica": pairs.decode.devices_per_replica,
        "prefill_workers": workers[0],
        "decode_workers": workers[1],
        "nodes": total("nodes"),
        "devices_billed": total("billed"),
        "usd_per_hour": total("hourly"),
        "host_w": np.nan_to_num(host[0]) + np.nan_to_num(host[1]),
        "concurrency_per_replica": np.full(len(found), np.nan),
        "over_stock": np.maximum(*over),
    }
    return scorer.finish(shared, found, kept)
