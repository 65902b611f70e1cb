"""Disaggregated candidates: a pool of prefill workers and a pool of decode workers, matched to one request rate.

Every layout is sized in each role, which gives each pair a bound. Pairs are then sized and estimated in the order of
their bounds, until no bound is better than the best pair found.

If the workload states a demand, the decode pool gets the least workers that keep the SLO beside an excess of prefill
workers; then the prefill pool gets its least workers. If it states none, the numbers of workers are chosen so that the
rates of both pools match, and the pair is loaded as far as the SLO allows.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from perfmodel import Deployments, Estimates
from perfmodel.arrays import NAN, Array, Index, Mask
from search.planning.disaggregation.pool_bounds import Offers, offers, over_stock, unlimited
from search.planning.disaggregation.pool_roles import MAX_WORKERS, Role, least_from, most_in_flight, roles_of
from search.planning.disaggregation.pools import Pairs, Workers, estimates, paired, side_by_side
from search.planning.evaluation.scoring import LEAST_OFFERED, Scorer
from search.planning.operating_point.sizing import greatest_load
from search.searchers import SCORE

#: Pairs that are estimated together, and at least. Chosen: fills the ranking, in a few tenths of a second.
BATCH = 96
#: Most batches. Chosen: some seconds; reached only where the bounds say nothing.
MAX_BATCHES = 24
#: How much better than its bound a pair may turn out, as a factor, where both pools are loaded as far as the SLO
#: allows: several workers share one queue, the bound is that of one worker. Chosen: more than is seen.
QUEUE_SHARING = 1.15
#: Rankings that follow from the power, which is bounded only where the workload gives a demand.
OF_POWER = ("power_w", "site_energy_j_per_output_token", "gco2_per_million_tokens")
#: Rankings without a bound where the search chooses the load: the pool that is not the bottleneck is loaded less than
#: its bound assumes. All pairs are estimated then, as far as `MAX_BATCHES` goes.
UNBOUNDED = (*OF_POWER, "ttft_ms", "tpot_ms", "e2e_ms")
#: Tokens per step that prefill workers are tried with besides the engine's own. Chosen: prompts of several thousand
#: tokens are computed in one step, or several together.
LARGER_STEPS = 16384.0
#: Columns of the layout that decide what a worker of each role does. A prefill worker holds prompts only while it
#: computes them, so neither the limit on sequences nor drafts play a part; a decode worker computes no prompts.
IDLE = {"prefill": ("max_num_seqs", "drafts"), "decode": ("max_num_batched_tokens",)}
#: Columns that tell layouts apart.
LAYOUT = (
    *("device", "tp", "pp", "ep", "dp", "cp", "kvp", "cp_method", "max_num_batched_tokens", "max_num_seqs"),
    *("power_cap", "weight", "act", "kv", "host_weights", "host_experts", "host_kv", "drafts"),
)


def matched(scorer: Scorer, layouts: Deployments) -> tuple[Pairs, dict[str, Array]]:
    """Pair layouts as prefill and decode workers, size both pools, and score the pairs.

    Returns (pairs, their columns as `Scorer.score` gives them, with the workers of each pool). Both results are empty
    where no two layouts can hand a KV cache over.
    """
    none = np.zeros(0, dtype=np.intp)
    nothing: tuple[Pairs, dict[str, Array]] = paired(layouts, none, none), {}
    if not len(layouts):
        return nothing
    layouts, *rows = in_roles(layouts)
    power = scorer.sized and scorer.rank_by in OF_POWER
    roles = roles_of(scorer, layouts, (rows[0], rows[1]), power=power)
    found = offers(scorer, *(_hopeful(role) for role in roles))
    if not len(found):
        return nothing
    parts: list[tuple[Pairs, dict[str, Array]]] = []
    best = np.inf
    for start in range(0, min(len(found), BATCH * MAX_BATCHES), BATCH):
        batch = found.take(slice(start, start + BATCH))
        if parts and not _may_beat(scorer, float(batch.score[0]), best):
            break
        parts.append(_scored(scorer, layouts, batch))
        best = min(best, float(parts[-1][1][SCORE].min()))
    rows = [np.concatenate([getattr(p, side) for p, _ in parts]) for side in ("prefill_row", "decode_row")]
    columns = {name: np.concatenate([c[name] for _, c in parts]) for name in parts[0][1]}
    return paired(layouts, rows[0], rows[1]), columns


def in_roles(layouts: Deployments) -> tuple[Deployments, Index, Index]:
    """Return (layouts to pair, rows of those to try as prefill workers, rows of those to try as decode workers)."""
    layouts = _with_larger_steps(layouts)
    return layouts, _rows_of(layouts, "prefill"), _rows_of(layouts, "decode")


def _with_larger_steps(layouts: Deployments) -> Deployments:
    """Add layouts with `LARGER_STEPS` tokens per step where the scenario lists none: prefill workers may gain by it."""
    if np.isfinite(layouts.max_num_batched_tokens).any():
        return layouts
    more = layouts.take(np.tile(np.arange(len(layouts)), 2))
    steps = np.where(np.arange(len(more)) < len(layouts), NAN, LARGER_STEPS)
    return replace(more, max_num_batched_tokens=steps)


def _rows_of(layouts: Deployments, role: str) -> Index:
    """Return the rows of the layouts that differ in something that counts in a role.

    Of decode workers that differ in the tokens per step, the one with the fewest stays: it reserves least memory for
    them. Prefill workers with other limits on sequences or other drafts are the same; those without drafts stay.
    """
    idle = IDLE[role]
    table = np.stack([np.nan_to_num(getattr(layouts, c).astype(float), nan=-1.0) for c in LAYOUT if c not in idle])
    order = np.lexsort([np.nan_to_num(getattr(layouts, name), nan=-1.0) for name in idle])
    first = np.unique(table[:, order], axis=1, return_index=True)[1]
    return np.sort(order[first])


def _hopeful(role: Role) -> Role:
    """Return the layouts that keep what their role decides; all of them where none does."""
    return role.take(np.nonzero(role.met)[0]) if role.met.any() else role


def _may_beat(scorer: Scorer, bound: float, best: float) -> bool:
    """Return True where a pair of this bound may have a better score than the best one found."""
    if not np.isfinite(bound):
        return False
    if scorer.sized:
        return bound < best
    if scorer.rank_by in UNBOUNDED:
        return True
    return bound < best + (QUEUE_SHARING - 1.0) * abs(best)


def _scored(scorer: Scorer, layouts: Deployments, batch: Offers) -> tuple[Pairs, dict[str, Array]]:
    """Size and score the pairs of one batch."""
    pairs = paired(layouts, batch.left, batch.right)
    if scorer.sized:
        workers, meets = _sized(scorer, pairs, batch.workers)
        return pairs, _columns(scorer, pairs, workers, np.full(len(pairs), NAN), meets)
    workers, offered, meets = _loaded(scorer, pairs, batch.workers)
    return pairs, _columns(scorer, pairs, workers, offered, meets)


def pair_workers(scorer: Scorer, pairs: Pairs, least: Workers) -> tuple[Workers, Mask]:
    """Find the least workers of each pool with which pairs meet the target of `scorer`; the results of `_sized`.

    least: workers of each pool that are tried first, (N,) each; no fewer suffice.
    """
    return _sized(scorer, pairs, least)


def _sized(scorer: Scorer, pairs: Pairs, bound: Workers) -> tuple[Workers, Mask]:
    """Find the least workers of each pool with which the pairs meet the target.

    They are sized with both pools on one node, then, where that does not hold for so many workers, with the link that
    they have. Returns ((prefill workers, decode workers), (N,) True where a number up to `MAX_WORKERS` suffices). A
    pair that fails gets one worker in the pool, or pools, that could not be sized. bound: the least that can suffice.
    """
    near = side_by_side(pairs)
    workers, met = _sized_as(scorer, near, bound)
    if near is pairs or not met.any():
        return workers, met
    rows = np.nonzero(met)[0]
    real = scorer.raised.target.met_by(
        estimates(scorer.raised, pairs.take(rows), (workers[0][rows], workers[1][rows]), np.full(len(rows), NAN))
    )
    left = rows[~real]
    if not len(left):
        return workers, met
    again, found = _sized_as(scorer, pairs.take(left), (bound[0][left], bound[1][left]))
    for pool, sized in zip(workers, again, strict=True):
        pool[left] = sized
    met[left] = found
    return workers, met


def _sized_as(scorer: Scorer, pairs: Pairs, bound: Workers) -> tuple[Workers, Mask]:
    """Do as `_sized`, with the link that the pairs state."""

    def meets(rows: Index, prefill: Array, decode: Array) -> Mask:
        """Return True where the pairs at `rows` meet the target with these numbers of workers."""
        return asked.target.met_by(estimates(asked, pairs.take(rows), (prefill, decode), none[rows]))

    none, asked = np.full(len(pairs), NAN), scorer.raised
    is_open = scorer.target.workload.arrival == "open"
    starts = [np.maximum(b - 1.0, 1.0) if is_open else np.ones(len(pairs)) for b in bound]
    excess = np.full(len(pairs), MAX_WORKERS)
    decode = least_from(lambda rows, n: meets(rows, excess[rows], n), starts[1], excess)
    sized = np.isfinite(decode)
    decode = np.where(sized, decode, 1.0)
    left = np.nonzero(sized)[0]
    prefill = np.full(len(pairs), np.nan)
    prefill[left] = least_from(lambda rows, n: meets(left[rows], n, decode[left[rows]]), starts[0][left], excess[left])
    met = np.isfinite(prefill)
    return (np.where(met, prefill, 1.0), decode), met


def _loaded(scorer: Scorer, pairs: Pairs, workers: Workers) -> tuple[Workers, Array, Mask]:
    """Load each pair as far as the SLO allows.

    Returns (workers, load of the whole pair, True where any load keeps the SLO), (N,) each. A limit on power changes
    the number of workers, in the same ratio: it is filled where nothing else limits them, and kept in any case.
    """
    offered, meets = pair_loads(scorer, pairs, workers)
    if not np.isfinite(scorer.limits.power):
        return workers, offered, meets
    share = scorer.limits.power / scorer.limited_power(_columns(scorer, pairs, workers, offered, meets))
    most = np.where(unlimited(scorer, pairs), np.inf, 1.0)
    units = np.minimum(*workers)
    times = np.maximum(np.floor(units * np.fmin(share, most)), 1.0) / units
    workers = np.maximum(np.floor(workers[0] * times), 1.0), np.maximum(np.floor(workers[1] * times), 1.0)
    return workers, *pair_loads(scorer, pairs, workers)


def pair_loads(scorer: Scorer, pairs: Pairs, workers: Workers, confidence: Array | None = None) -> tuple[Array, Mask]:
    """Find the greatest load of each whole pair that keeps the SLO; returns (load, True where any load keeps it).

    confidence: (N,) with which the SLO is to be kept, in place of that of the scorer's target.
    """

    def at(rows: Index, load: Array) -> Estimates:
        """Estimate the pairs at `rows`, each under its load."""
        return estimates(scorer, pairs.take(rows), (workers[0][rows], workers[1][rows]), load)

    most = most_in_flight(scorer, np.maximum(*workers))
    found = greatest_load(scorer.target.misses(confidence), at, most, open_loop=scorer.open_loop)
    met = np.isfinite(found)
    return np.where(met, found, LEAST_OFFERED), met


def _columns(scorer: Scorer, pairs: Pairs, workers: Workers, offered: Array, meets: Mask) -> dict[str, Array]:
    """Compute the columns of the pairs; nodes, bills and host power of both pools add up.

    workers: (prefill, decode), (N,) each; spare ones are added where a demand is given. offered: (N,) load of
    each whole pair where the search chooses it. meets: (N,) True where the target is met.
    """
    spares = scorer.spare_replicas(pairs.prefill), scorer.spare_replicas(pairs.decode)
    total = workers[0] + spares[0], workers[1] + spares[1]
    found = estimates(scorer, pairs, total, offered)
    pools = [(p.device, p.devices_per_replica, n) for p, n in zip((pairs.prefill, pairs.decode), total, strict=True)]
    columns = {
        "replicas": total[1],
        "devices_per_replica": pairs.decode.devices_per_replica,
        "prefill_workers": total[0],
        "decode_workers": total[1],
        **scorer.tariff.bill(*pools, caps=(pairs.prefill.power_cap, pairs.decode.power_cap)),
        "concurrency_per_replica": np.full(len(found), NAN),
        "offered": offered,
        "over_stock": over_stock(scorer, [p[0] for p in pools], [p[1] * p[2] for p in pools]),
    }
    return scorer.finish(columns, found, meets)
