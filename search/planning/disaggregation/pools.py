"""Define pairs of a prefill pool and a decode pool, and estimate them with given numbers of workers."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from perfmodel import Deployments, Estimates
from perfmodel.arrays import NAN, Array, Index
from search.planning.evaluation.scoring import Scorer

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


def paired(layouts: Deployments, prefill: Index, decode: Index) -> Pairs:
    """Return pairs of the layouts at rows `prefill` and `decode`, (N,) each."""
    return Pairs(prefill=layouts.take(prefill), decode=layouts.take(decode), prefill_row=prefill, decode_row=decode)


def side_by_side(pairs: Pairs) -> Pairs:
    """Return the pairs with both pools on one node, where the scenario leaves their link open: the fastest there is."""
    how = pairs.decode.hand_over
    if how.place != "auto":
        return pairs
    return replace(pairs, decode=replace(pairs.decode, hand_over=replace(how, place="node")))


def estimates(scorer: Scorer, pairs: Pairs, workers: Workers, offered: Array | None = None) -> Estimates:
    """Estimate the pairs with the given workers in each pool.

    workers: (prefill, decode), (N,) each. offered: (N,) load of each whole pair where the search chooses it, as of
    `Scorer.loads`; None where the workload states a demand.
    """
    target, pools = scorer.target, (pairs.prefill, pairs.decode)
    demand = scorer.loads(np.full(len(pairs), NAN) if offered is None else offered, pools=True)
    return target.estimates_of_pools(demand, pools, workers)
