"""Rank the candidates of a plan: colocated deployments first, then pairs of prefill and decode pools."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from hwdb import plain
from perfmodel import Deployments, Estimates
from perfmodel.arrays import Array, Index, Mask
from perfmodel.dtypes import FORMAT_NAMES, storage
from perfmodel.workload import Load
from search.planning.configuration.names import deployment_words
from search.planning.configuration.quantised import needs_checkpoint
from search.planning.disaggregation.pools import Pairs
from search.planning.evaluation.scoring import VERDICTS, Scorer
from search.searchers import SCORE, pareto, ranked

#: Columns of the Pareto front -> whether more is better.
FRONT = {"output_tok_s": True, "usd_per_hour": False, "ttft_ms": False, "tpot_ms": False}
#: How near a miss is, by verdict: what stock, limits or a looser SLO would mend (0, 1) comes before what lacks a price
#: (2) and what does not fit (3).
SEVERITY = {"slo": 1, "unknown": 2, "memory": 3}
#: Relative width of the classes in which misses count as equal, so that the cheapest comes first. Chosen: below the
#: error of any estimate.
EQUAL_MISS = 0.05
#: Bits per value of each format, by its code.
_BITS = np.array([storage(name).bits for name in FORMAT_NAMES])


@dataclass(frozen=True)
class Candidates:
    """Scored candidates of a plan: L colocated deployments, then P pairs of prefill and decode pools.

    A candidate is named by its number, 0 to N - 1 with N = L + P.

    scorer: the `Scorer` that computed the columns. layouts: the L colocated deployments, one replica each. pairs: the P
    disaggregated ones. columns: name -> array (N,), one value per candidate; units are in the names. Meanings of those
    that rows show are in `perfmodel/glossary.toml`, of the others in `evaluation.internal_columns`.
    """

    scorer: Scorer
    layouts: Deployments
    pairs: Pairs
    columns: Mapping[str, Array]

    def __len__(self) -> int:
        return len(self.columns[SCORE])

    @property
    def qualifies(self) -> Mask:
        """Return (N,) booleans: True for candidates that keep the SLO and every limit of the scenario."""
        return np.asarray(self.columns["verdict"] == 0, dtype=bool)

    @cached_property
    def known_rows(self) -> dict[int, dict[str, Any]]:
        """Return the flat rows that were made so far, by number: a candidate is shown in several places."""
        return {}

    @cached_property
    def checkpoints(self) -> frozenset[int]:
        """Return the codes of the formats of weights that need a quantised checkpoint of the model."""
        return needs_checkpoint(self.scorer.target.model, self.scorer.target.engine)

    @property
    def feasible(self) -> bool:
        """Return True where at least one candidate qualifies."""
        return bool(self.qualifies.any())

    @cached_property
    def order(self) -> Index:
        """Return the numbers of all candidates, (N,), best first.

        Candidates that qualify come first, in the order of the scenario's ranking. The others follow by how little they
        miss: those within stock and limits first, then by the kind of miss (`SEVERITY`), then by the ratio of what is
        needed to what is allowed, in classes of `EQUAL_MISS`, then by cost.
        """
        columns = {**self.columns, "bits_saved": self._bits_saved()}
        by_rank = ranked(columns, self.scorer.rank_by, self.qualifies)
        count = int(self.qualifies.sum())
        missed = by_rank[count:]
        severity = np.array([SEVERITY.get(v, 0) for v in VERDICTS])[self.columns["verdict"][missed].astype(int)]
        beyond = self.columns["within_limits"][missed] == 0
        with np.errstate(divide="ignore", invalid="ignore"):
            miss = np.floor(np.log(self.columns["excess"][missed]) / np.log1p(EQUAL_MISS))
        near = np.lexsort((self.columns["usd_per_hour"][missed], miss, severity, beyond))
        return np.concatenate([by_rank[:count], missed[near]])

    def _bits_saved(self) -> Array:
        """Return by how many bits weights and KV cache are narrower than the model's own, of all pools, (N,)."""
        spec = self.scorer.target.model
        own = {"weight": storage(spec.weight_format).bits, "kv": storage(spec.kv_format).bits}

        def saved(rows: Deployments) -> Array:
            """Return the bits of weights and cache together, (N,)."""
            stored = [(bits, getattr(rows, axis)) for axis, bits in own.items()]
            return sum(
                (np.where(code >= 0, np.maximum(bits - _BITS[code], 0.0), 0.0) for bits, code in stored),
                np.zeros(len(rows)),
            )

        return np.concatenate([saved(self.layouts), saved(self.pairs.prefill) + saved(self.pairs.decode)])

    @cached_property
    def front(self) -> Mask:
        """Return (N,) booleans, True for qualifying candidates on the Pareto front.

        The front is over cost, TTFT, TPOT and throughput (`FRONT`).
        """
        qualifying = np.nonzero(self.qualifies)[0]
        out = np.zeros(len(self), dtype=bool)
        out[qualifying] = pareto([self.columns[c][qualifying] for c in FRONT], largest=list(FRONT.values()))
        return out

    def disaggregated(self, number: int) -> bool:
        """Return True where candidate `number` is a pair of prefill and decode pools, False where it is colocated."""
        return number >= len(self.layouts)

    def deployment(self, number: int) -> Deployments:
        """Return the colocated candidate `number`, with its replicas, as a batch of one deployment."""
        return replace(self.layouts.take(np.array([number])), replicas=self.columns["replicas"][[number]])

    def pair(self, number: int) -> Pairs:
        """Return the disaggregated candidate `number` as a batch of one pair of pools."""
        return self.pairs.take(np.array([number - len(self.layouts)]))

    def pool_deployments(self, number: int) -> tuple[Deployments, Deployments]:
        """Return (prefill pool, decode pool) of the disaggregated candidate `number`.

        Each pool is a batch of one deployment whose replicas are the workers of the pool.
        """
        pair, columns = self.pair(number), self.columns
        return (
            replace(pair.prefill, replicas=columns["prefill_workers"][[number]]),
            replace(pair.decode, replicas=columns["decode_workers"][[number]]),
        )

    def pools(self, number: int) -> tuple[Deployments, ...]:
        """Return the deployments of candidate `number`: its one, or its prefill pool and its decode pool."""
        return self.pool_deployments(number) if self.disaggregated(number) else (self.deployment(number),)

    def device_types(self, number: int) -> list[int]:
        """Return the positions, in the tariff, of the device types that candidate `number` uses, each once."""
        if not self.disaggregated(number):
            return [int(self.layouts.device[number])]
        pair = self.pair(number)
        return list(dict.fromkeys([int(pair.prefill.device[0]), int(pair.decode.device[0])]))

    def device_names(self, number: int) -> tuple[str, ...]:
        """Return the names of the devices that candidate `number` uses, each once."""
        return tuple(self.scorer.tariff.devices[at].name for at in self.device_types(number))

    def estimates(self, number: int) -> Estimates:
        """Estimate candidate `number` at its operating point (a batch of one)."""
        return self.estimates_of([number])

    def estimates_of(self, numbers: Sequence[int]) -> Estimates:
        """Estimate the candidates `numbers` at their operating points; the results have the order of `numbers`."""
        wanted = np.asarray(numbers, dtype=np.intp)
        offered = self.columns["offered"][wanted]
        return self.estimates_under(wanted, lambda at, pools: self.scorer.loads(offered[at], pools=pools))

    def estimates_under(self, numbers: Index, load: Callable[[Index, bool], Load]) -> Estimates:
        """Estimate the candidates `numbers` with their replicas or workers; the results have their order.

        load: called with positions among `numbers`, and True for pairs of pools; returns their loads, one column each.
        """
        apart = numbers >= len(self.layouts)
        parts = []
        for pools, estimated in ((False, self._colocated), (True, self._disaggregated)):
            at = np.nonzero(apart == pools)[0]
            if len(at):
                parts.append(estimated(numbers[at], load(at, pools)))
        both = parts[0] if len(parts) == 1 else Estimates.concatenate(parts)
        return both.take(np.argsort(np.argsort(apart, kind="stable"), kind="stable"))

    def _colocated(self, numbers: Index, load: Load) -> Estimates:
        """Estimate the colocated candidates `numbers` under `load`, each with its replicas."""
        tried = replace(self.layouts.take(numbers), replicas=self.columns["replicas"][numbers])
        return self.scorer.target.estimates_of(load, tried)

    def _disaggregated(self, numbers: Index, load: Load) -> Estimates:
        """Estimate the pairs of pools `numbers` under `load`, each with its workers."""
        pairs, c = self.pairs.take(numbers - len(self.layouts)), self.columns
        workers = c["prefill_workers"][numbers], c["decode_workers"][numbers]
        return self.scorer.target.estimates_of_pools(load, (pairs.prefill, pairs.decode), workers)

    def name(self, number: int) -> str:
        """Describe candidate `number` in words: `3 x 4 h100-sxm, TP4, fp8`."""
        c = self.columns
        if not self.disaggregated(number):
            return f"{plain(c['replicas'][number])} x {deployment_words(self.deployment(number), self.checkpoints)}"
        pair = self.pair(number)
        prefill = f"{plain(c['prefill_workers'][number])} x {deployment_words(pair.prefill, self.checkpoints)}"
        decode = f"{plain(c['decode_workers'][number])} x {deployment_words(pair.decode, self.checkpoints)}"
        return f"prefill {prefill} + decode {decode}"
