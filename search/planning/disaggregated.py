"""Disaggregated candidates: a pool of prefill workers and a pool of decode workers, sized to the same request rate.

Every layout is tried in each role. The best layouts of each role for their price are paired. For every pair the decode
pool is sized first, with prefill workers in excess, and then the prefill pool. Both sizes are found by bisection on
columns.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from perfmodel import Deployments, Estimates
from perfmodel.arrays import Array, Index, Mask
from perfmodel.estimates import estimate_pools
from perfmodel.workload import POOLED_REQUESTS_PER_CLIENT, load_of
from search.planning.scoring import Scorer
from search.planning.sizing import least_whole

#: Layouts of each role that are paired. chosen: at most 12 x 12 pairs.
LAYOUTS_PER_ROLE = 12
#: Most workers of a pool; also the prefill workers while the decode pool is sized. chosen: so many that they are no
#: bottleneck.
MAX_WORKERS = 4096.0

#: (prefill workers, decode workers), (N,) each.
Workers = tuple[Array, Array]


@dataclass(frozen=True)
class Pairs:
    """N pairs of a prefill pool and a decode pool.

    prefill, decode: N deployments each, one worker of the pool. prefill_row, decode_row: (N,) rows of these workers
    among the legal layouts that were paired.
    """

    prefill: Deployments
    decode: Deployments
    prefill_row: Index
    decode_row: Index

    def __len__(self) -> int:
        return len(self.prefill_row)

    def take(self, rows: Index) -> Pairs:
        """Return the pairs at positions `rows`."""
        return Pairs(
            prefill=self.prefill.take(rows),
            decode=self.decode.take(rows),
            prefill_row=self.prefill_row[rows],
            decode_row=self.decode_row[rows],
        )


def matched(scorer: Scorer, layouts: Deployments) -> tuple[Pairs, dict[str, Array]]:
    """Pair layouts as prefill and decode workers, size both pools to the demand, and score the pairs.

    Returns (pairs, their columns as `Scorer.score` gives them, with the workers of each pool). One pool hands its KV
    cache to the other, so both keep it in one format, on devices of one vendor. Both results are empty where the
    workload gives no rate or concurrency to serve, or no layout fits.
    """
    if not scorer.sized or not len(layouts):
        return _paired(layouts, np.zeros(0, dtype=np.intp), np.zeros(0, dtype=np.intp)), {}
    prefill, decode = _best_by_role(scorer, layouts)
    left, right = (g.ravel() for g in np.meshgrid(prefill, decode, indexing="ij"))
    vendor = np.unique([d.vendor for d in layouts.devices], return_inverse=True)[1][layouts.device]
    compatible = (layouts.kv[left] == layouts.kv[right]) & (vendor[left] == vendor[right])
    pairs = _paired(layouts, left[compatible], right[compatible])
    if not len(pairs):
        return pairs, {}
    workers, meets = _sized(scorer, pairs)
    return pairs, _columns(scorer, pairs, workers, meets)


def estimates(scorer: Scorer, pairs: Pairs, workers: Workers) -> Estimates:
    """Estimate the pairs with the given workers in each pool. workers: (prefill, decode), (N,) each."""
    target = scorer.target
    demand = load_of(target.workload, len(pairs), POOLED_REQUESTS_PER_CLIENT)
    pools = pairs.prefill, pairs.decode
    return estimate_pools(target.model, demand, pools, workers, engine=target.engine, costs=target.costs)


def _paired(layouts: Deployments, left: Index, right: Index) -> Pairs:
    """Return pairs of the layouts at rows `left` (prefill) and `right` (decode), (N,) each."""
    return Pairs(prefill=layouts.take(left), decode=layouts.take(right), prefill_row=left, decode_row=right)


def _sized(scorer: Scorer, pairs: Pairs) -> tuple[Workers, Mask]:
    """Find the least workers of each pool with which the pairs meet the target.

    Returns ((prefill workers, decode workers), (N,) True where a number up to `MAX_WORKERS` suffices). A pair that
    fails gets one worker in the pool, or pools, that could not be sized.
    """

    def meets(rows: Index, prefill: Array, decode: Array) -> Mask:
        """Return True where the pairs at `rows` meet the target with these numbers of workers."""
        return scorer.target.met_by(estimates(scorer, pairs.take(rows), (prefill, decode)))

    excess = np.full(len(pairs), MAX_WORKERS)
    decode = least_whole(lambda rows, n: meets(rows, excess[rows], n), excess)
    sized = np.isfinite(decode)
    decode = np.where(sized, decode, 1.0)
    left = np.nonzero(sized)[0]
    prefill = np.full(len(pairs), np.nan)
    prefill[left] = least_whole(lambda rows, n: meets(left[rows], n, decode[left[rows]]), excess[left])
    met = np.isfinite(prefill)
    return (np.where(met, prefill, 1.0), decode), met


def _best_by_role(scorer: Scorer, layouts: Deployments) -> tuple[Index, Index]:
    """Choose the layouts to pair, by tokens/s per USD; returns (rows of prefill workers, rows of decode workers).

    The speeds are those of a colocated replica; decode counts at full batches. Each device type has its own share of
    the rows, so that no type is lost before it is paired.
    """
    found = scorer.target.estimates(replace(layouts, replicas=np.ones(len(layouts))))
    price = np.nan_to_num(scorer.tariff.usd_per_hour, nan=1.0)[layouts.device] * layouts.devices_per_replica
    rows = np.nonzero(found.fits)[0]
    return _best(layouts, rows, found.rates.prefill / price), _best(layouts, rows, found.rates.decode / price)


def _best(layouts: Deployments, rows: Index, value: Array) -> Index:
    """Return those of `rows` with the greatest `value` (one per layout), the same number for each device type."""
    types = np.unique(layouts.device[rows])
    per_type = max(LAYOUTS_PER_ROLE // max(len(types), 1), 1)
    of_type = [rows[layouts.device[rows] == t] for t in types]
    chosen = [r[np.argsort(-value[r], kind="stable")[:per_type]] for r in of_type]
    return np.concatenate(chosen) if chosen else np.zeros(0, dtype=np.intp)


def _columns(scorer: Scorer, pairs: Pairs, workers: Workers, meets: Mask) -> dict[str, Array]:
    """Compute the columns of the pairs with the given workers; nodes, bills and host power of both pools add up.

    meets: (N,) True where the target is met.
    """
    found, bill = estimates(scorer, pairs, workers), scorer.tariff
    pools = [(p.device, p.devices_per_replica, n) for p, n in zip((pairs.prefill, pairs.decode), workers, strict=True)]
    columns = {
        "replicas": workers[1],
        "devices_per_replica": pairs.decode.devices_per_replica,
        "prefill_workers": workers[0],
        "decode_workers": workers[1],
        "nodes": bill.nodes(*pools[0]) + bill.nodes(*pools[1]),
        "devices_billed": bill.billed(*pools[0]) + bill.billed(*pools[1]),
        "usd_per_hour": bill.hourly(*pools[0]) + bill.hourly(*pools[1]),
        "host_w": bill.host_watts(*pools[0]) + bill.host_watts(*pools[1]),
        "concurrency_per_replica": np.full(len(found), np.nan),
        "over_stock": _over_stock(scorer, pairs, workers),
    }
    return scorer.finish(columns, found, meets)


def _over_stock(scorer: Scorer, pairs: Pairs, workers: Workers) -> Array:
    """Return the devices that each pair needs beyond those on hand, (N,).

    Where the two pools use different device types, the type that is shorter counts.
    """
    pools = pairs.prefill, pairs.decode
    used = [p.devices_per_replica * n for p, n in zip(pools, workers, strict=True)]
    one_type = pairs.prefill.device == pairs.decode.device
    over = [np.where(one_type, used[0] + used[1], u) - scorer.stock[p.device] for p, u in zip(pools, used, strict=True)]
    return np.asarray(np.maximum(*over))
