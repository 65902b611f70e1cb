"""The candidates of a plan: deployments with their columns, ranked; colocated ones first, then pairs of pools."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from perfmodel import Deployments, Estimates
from perfmodel.arrays import Array, Index, Mask
from perfmodel.workload import load_of
from search.planning import disaggregated as pools
from search.planning.names import deployment_words
from search.planning.scoring import VERDICTS, Scorer
from search.searchers import SCORE, pareto, ranked

#: Columns of the Pareto front -> whether more is better.
FRONT = {"output_tok_s": True, "usd_per_hour": False, "ttft_ms": False, "tpot_ms": False}
#: How near a miss is, by verdict: what stock, limits or a looser SLO would mend (0, 1) comes before what lacks a price
#: (2) and what does not fit (3).
SEVERITY = {"slo": 1, "unknown": 2, "memory": 3}


@dataclass(frozen=True)
class Candidates:
    """L colocated deployments, then P pairs of pools; a candidate is a number in [0, L + P).

    scorer: what scored them. layouts: (L,) colocated deployments, one replica each. pairs: (P,) disaggregated ones.
    columns: (L + P,) arrays.
    """

    scorer: Scorer
    layouts: Deployments
    pairs: pools.Pairs
    columns: Mapping[str, Array]

    def __len__(self) -> int:
        return len(self.columns[SCORE])

    @property
    def qualifies(self) -> Mask:
        """(N,) True for candidates that keep the SLO and every limit."""
        return np.asarray(self.columns["verdict"] == 0, dtype=bool)

    @property
    def feasible(self) -> bool:
        """Whether any candidate qualifies."""
        return bool(self.qualifies.any())

    @cached_property
    def order(self) -> Index:
        """(N,) candidates from the best on: those that qualify by the ranking, then the nearest misses."""
        by_rank = ranked(self.columns, self.scorer.rank_by, self.qualifies)
        count = int(self.qualifies.sum())
        missed = by_rank[count:]
        severity = np.array([SEVERITY.get(v, 0) for v in VERDICTS])[self.columns["verdict"][missed].astype(int)]
        near = np.lexsort((self.columns["usd_per_hour"][missed], self.columns["slo_ratio"][missed], severity))
        return np.concatenate([by_rank[:count], missed[near]])

    @cached_property
    def front(self) -> Mask:
        """(N,) True for qualifying candidates on the Pareto front of cost, TTFT, TPOT and throughput."""
        qualifying = np.nonzero(self.qualifies)[0]
        out = np.zeros(len(self), dtype=bool)
        out[qualifying] = pareto([self.columns[c][qualifying] for c in FRONT], largest=list(FRONT.values()))
        return out

    def disaggregated(self, number: int) -> bool:
        """Whether a candidate is a pair of pools."""
        return number >= len(self.layouts)

    def deployment(self, number: int) -> Deployments:
        """A colocated candidate as a deployment with its replicas (a batch of one)."""
        return replace(self.layouts.take(np.array([number])), replicas=self.columns["replicas"][[number]])

    def pair(self, number: int) -> pools.Pairs:
        """A disaggregated candidate (a batch of one)."""
        return self.pairs.take(np.array([number - len(self.layouts)]))

    def pool_deployments(self, number: int) -> tuple[Deployments, Deployments]:
        """(prefill, decode) pool of a disaggregated candidate, each a deployment with its workers as replicas."""
        pair, columns = self.pair(number), self.columns
        return (
            replace(pair.prefill, replicas=columns["prefill_workers"][[number]]),
            replace(pair.decode, replicas=columns["decode_workers"][[number]]),
        )

    def estimates(self, number: int) -> Estimates:
        """Estimates of one candidate at its operating point (a batch of one)."""
        return self.estimates_of([number])

    def estimates_of(self, numbers: Sequence[int]) -> Estimates:
        """Estimates of candidates at their operating points, in the order given."""
        wanted = np.asarray(numbers, dtype=np.intp)
        apart = wanted >= len(self.layouts)
        parts = [self._colocated(wanted[~apart])] if not apart.all() else []
        if apart.any():
            workers = self.columns["prefill_workers"][wanted[apart]], self.columns["decode_workers"][wanted[apart]]
            chosen = self.pairs.take(wanted[apart] - len(self.layouts))
            parts.append(pools.estimates(self.scorer, chosen, workers))
        both = parts[0] if len(parts) == 1 else Estimates.concatenate(parts)
        return both.take(np.argsort(np.argsort(apart, kind="stable"), kind="stable"))

    def _colocated(self, numbers: Index) -> Estimates:
        tried = replace(self.layouts.take(numbers), replicas=self.columns["replicas"][numbers])
        target = self.scorer.target
        if self.scorer.sized:
            return target.estimates(tried)
        base = load_of(target.workload.at(concurrency=1.0), len(numbers))
        return target.estimates_of(replace(base, concurrency=self.columns["concurrency_per_replica"][numbers]), tried)

    def name(self, number: int) -> str:
        """A candidate in words: `3 x 4 h100-sxm, TP4, fp8`."""
        c = self.columns
        if not self.disaggregated(number):
            return f"{c['replicas'][number]:g} x {deployment_words(self.deployment(number))}"
        pair = self.pair(number)
        prefill = f"{c['prefill_workers'][number]:g} x {deployment_words(pair.prefill)}"
        decode = f"{c['decode_workers'][number]:g} x {deployment_words(pair.decode)}"
        return f"prefill {prefill} + decode {decode}"
