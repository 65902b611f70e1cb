"""The load on each candidate, as columns: what a workload means for one deployment or for many."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from perfmodel.arrays import Array
from perfmodel.workload.workload import Arrival, Workload


@dataclass(frozen=True)
class Load:
    """C request classes on N candidates; (C, N) or anything that broadcasts to it.

    input, output, share, hit: mean prompt and answer lengths in tokens, share of requests, share of the prompt that
    the prefix cache serves. The rest is (N,) and of the whole deployment: concurrency (or batch), rate (requests/s),
    n_requests; cv of the gaps between arrivals. waves: requests a closed-loop benchmark sends a slot, so that 1/waves
    of them belong to its opening burst. synchronised: 1 where equal lengths keep the burst's groups together for good, 0
    where random lengths dissolve them (`SYNCHRONISED`). length_cv: coefficient of variation of answers in a class; longest:
    tokens of the longest answer allowed, infinite where nothing cuts them. drafts: speculative tokens verified a step,
    accepted: tokens a step yields.
    """

    arrival: Arrival
    input: Array
    output: Array
    share: Array
    hit: Array
    concurrency: Array
    rate: Array
    n_requests: Array
    cv: Array
    requests_per_client: Array
    synchronised: Array
    length_cv: Array
    longest: Array
    drafts: Array
    accepted: Array

    @property
    def new(self) -> Array:
        """Prompt tokens that must be computed, at least one. (C, N)"""
        return np.maximum(self.input * (1.0 - self.hit), 1.0)

    @property
    def cached(self) -> Array:
        """Prompt tokens found in the prefix cache. (C, N)"""
        return self.input - self.new

    def mean(self, values: Array) -> Array:
        """Mean over classes, by share of requests. (N,)"""
        return np.sum(values * self.share, axis=0)

    @property
    def decode_context(self) -> Array:
        """Mean length of a sequence while it generates, weighted by the steps it spends. (N,)"""
        return self.held(0.5)

    def held(self, part: float) -> Array:
        """Mean tokens of a sequence with `part` of its answer, over the steps it spends: long answers are met longer.

        (N,). With lengths L of variance (c E[L])^2, E[L (I + part L)] / E[L] = I + part E[L] (1 + c^2).
        """
        steps = np.maximum(self.output, 1e-9)
        whole = self.input + part * self.output * (1.0 + np.square(self.length_cv))
        return self.mean(whole * steps) / self.mean(steps)


#: How far groups of the opening burst stay together, by how lengths spread. After ten waves of lengths uniform in
#: 0.8-1.0 of the nominal, starts scatter by 0.058 sqrt(10) = 0.18 of a residence (standard deviation): far from evenly.
SYNCHRONISED = {"fixed": 1.0, "uniform": 0.4, "trace": 0.05}
#: Requests a slot in closed-loop benchmarks where the workload does not say: InferenceMAX sends 10 x concurrency.
DEFAULT_REQUESTS_PER_CLIENT = 10.0
#: The same for pools of workers: scripts behind published disaggregated runs send 5 x concurrency, after a warm-up of
#: their own (ai-dynamo/dynamo components/backends/sglang/slurm_jobs/scripts/vllm/bench.sh @3ed939c).
POOLED_REQUESTS_PER_CLIENT = 5.0


def load_of(workload: Workload, candidates: int) -> Load:
    """The same workload on each of `candidates` deployments."""

    shape = (len(workload.input_tokens), candidates)

    def classes(values: Array) -> Array:
        return np.broadcast_to(np.atleast_1d(np.asarray(values, float))[:, None], shape)

    def column(value: float) -> Array:
        return np.full(candidates, float(value))

    concurrency = 1.0 if workload.arrival == "single" else workload.concurrency
    requests_per_client = workload.n_requests / concurrency if workload.arrival == "closed" else np.nan
    return Load(
        arrival=workload.arrival,
        input=classes(workload.input_tokens),
        output=classes(workload.output_tokens),
        share=classes(workload.share),
        hit=classes(workload.prefix_hit),
        concurrency=column(concurrency),
        rate=column(workload.rate),
        n_requests=column(workload.n_requests),
        cv=column(workload.cv),
        requests_per_client=column(
            requests_per_client if requests_per_client == requests_per_client else DEFAULT_REQUESTS_PER_CLIENT
        ),
        synchronised=column(0.0),
        length_cv=column(0.0),
        longest=column(np.inf),
        drafts=column(0.0),
        accepted=column(1.0),
    )
