"""Lay out the load on each candidate deployment as columns of arrays."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np

from perfmodel.arrays import Array
from perfmodel.equations import split_cv
from perfmodel.workload.length_spread import length_cv, prompt_spread, spread_kind, synchronised
from perfmodel.workload.workload import Arrival, Workload

#: Requests per client of a closed loop where the workload does not say: InferenceMAX sends 10 x concurrency.
DEFAULT_REQUESTS_PER_CLIENT = 10.0
#: The same for disaggregated serving: scripts behind published runs send 5 x concurrency, after a warm-up of their own
#: (ai-dynamo/dynamo components/backends/sglang/slurm_jobs/scripts/vllm/bench.sh @3ed939c).
POOLED_REQUESTS_PER_CLIENT = 5.0
#: Fields of a load that count requests, and are divided among replicas.
_DIVIDED = ("concurrency", "rate", "n_requests")
#: Least decode steps per request that means are weighted by: keeps classes without output from dividing by zero.
_LEAST_STEPS = 1e-9


@dataclass(frozen=True)
class Load:
    """C request classes on N candidates, flat: every field is a column that is cut, scaled and replaced by name.

    Lengths, (C, N) or anything that broadcasts to it:
        input, output: mean prompt and output tokens per request.
        share: share of requests that are of the class.
        hit: share of prompt tokens that the prefix cache serves.
    Arrivals, (N,), of the whole deployment:
        arrival: how requests arrive, one of `ARRIVALS`; the same for all candidates.
        concurrency: requests in flight (closed), or sequences that start together (static).
        rate: arrival rate in requests/s (open).
        n_requests: requests of the run.
        cv: coefficient of variation of the gaps between arrivals.
        requests_per_client: requests that each client of a closed loop sends; the opening burst is one of them.
            Infinite where the burst is not measured.
        ramp: seconds over which the clients of a closed loop start. ramp_cv: coefficient of variation of the gaps
            between their starts, 0 where these are even.
        synchronised: how far requests that start together stay together, 0 to 1 (see `length_spread`).
        prompt_spread: standard deviation of the logarithm of prompt lengths within a class.
    Decoding, (N,):
        length_cv: coefficient of variation of output lengths within a class.
        longest: tokens of the longest output allowed; infinite where nothing cuts outputs.
        drafts: speculative tokens verified per step and sequence; 0 without speculation.
        accepted: tokens that a step yields per sequence; 1 without speculation.
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
    ramp: Array
    ramp_cv: Array
    prompt_spread: Array

    @property
    def new(self) -> Array:
        """Return the prompt tokens that prefill must compute, at least one. (C, N)"""
        return np.maximum(self.input * (1.0 - self.hit), 1.0)

    @property
    def cached(self) -> Array:
        """Return the prompt tokens found in the prefix cache. (C, N)"""
        return self.input - self.new

    def mean(self, values: Array) -> Array:
        """Return the mean of `values` (C, N) over classes, weighted by their share of requests. (N,)"""
        shared = values * self.share
        mean: Array = shared[0] if len(shared) == 1 else shared.sum(axis=0)
        return mean

    def dealt(self, share: Array) -> Load:
        """Return the load of one of several places among which a router deals the requests.

        share: of the requests, (N,). Concurrency, rate and number of requests are that share of the whole; the gaps
        between arrivals vary by `equations.split_cv`, as bursts are shared too.
        """
        part = {name: getattr(self, name) * share for name in _DIVIDED}
        return replace(self, **part, cv=split_cv(self.cv, share))

    def part_at(self, rates: Array) -> Load:
        """Return the part of an open loop's load that comes at `rates` requests/s, (N,), as `dealt` makes it.

        At rates above that of the whole, it is the whole at that rate.
        """
        return replace(self.dealt(np.minimum(rates / self.rate, 1.0)), rate=rates)

    @property
    def decode_context(self) -> Array:
        """Return the mean tokens of context of a decoding sequence, over all decode steps. (N,)"""
        return self.held(0.5)

    def held(self, part: float) -> Array:
        """Return the mean tokens that a sequence holds when it has generated `part` (0 to 1) of its output. (N,)

        The mean is over all decode steps, so long outputs, which take more steps, count more. Derived: with output
        lengths L of variance (c E[L])^2 and a prompt of I tokens, E[L (I + part L)] / E[L] = I + part E[L] (1 + c^2).
        """
        steps = np.maximum(self.output, _LEAST_STEPS)
        whole = self.input + part * self.output * (1.0 + np.square(self.length_cv))
        return self.mean(whole * steps) / self.mean(steps)


def measured_per_client(per_client: Array, clients: Array, warmup: Array) -> Array:
    """Return a closed loop's measured requests per request of the opening burst among them, (N,); infinite if none is.

    per_client: requests of the whole run per client. warmup: requests at its start that are not measured; the loop goes
    on under the same load.
    """
    burst = np.maximum(clients - warmup, 0.0)
    with np.errstate(divide="ignore", invalid="ignore"):
        left = np.maximum(per_client * clients - warmup, burst) / burst
    return np.where(warmup > 0, np.where(burst > 0, left, np.inf), per_client)


def load_of(workload: Workload, candidates: int, requests_per_client: float = DEFAULT_REQUESTS_PER_CLIENT) -> Load:
    """Put the same workload on each of `candidates` deployments.

    requests_per_client: requests that each client of a closed loop sends, where the workload does not say.
    """
    shape = (len(workload.input_tokens), candidates)

    def classes(values: Array) -> Array:
        """Repeat a value per class for all candidates, (C, N)."""
        return values[:, None] if candidates == 1 else np.broadcast_to(values[:, None], shape)

    def column(value: float) -> Array:
        """Repeat one value for all candidates, (N,)."""
        return np.full(candidates, float(value))

    concurrency = 1.0 if workload.arrival == "single" else workload.concurrency
    stated = workload.n_requests / concurrency if workload.arrival == "closed" else np.nan
    fullness = float(workload.mean_output) / workload.output_max
    together, cv, prompts = _spread_of(workload.isl_dist, fullness, workload.output_cv, workload.prompt_tail)
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
        requests_per_client=column(stated if stated == stated else requests_per_client),
        synchronised=column(together),
        length_cv=column(cv),
        longest=column(workload.output_max),
        drafts=column(0.0),
        accepted=column(1.0),
        ramp=column(0.0),
        ramp_cv=column(0.0),
        prompt_spread=column(prompts),
    )


@lru_cache(maxsize=1024)
def _spread_of(isl_dist: str, fullness: float, output_cv: float, prompt_tail: float) -> tuple[float, float, float]:
    """Return how lengths spread: (how far bursts stay together, `Load.length_cv`, `Load.prompt_spread`).

    fullness: mean output over the longest output allowed. Others: as in `Workload`.
    """
    kinds = [spread_kind(isl_dist)]
    each = synchronised(kinds), length_cv(kinds, np.array([fullness]), output_cv), prompt_spread(kinds, prompt_tail)
    return float(each[0][0]), float(each[1][0]), float(each[2][0])
