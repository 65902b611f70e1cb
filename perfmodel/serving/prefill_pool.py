"""Model a pool of prefill workers: how long a prompt queues and how many prompts per second the pool can compute.

A worker computes the prompts that arrived during its last step together, up to its token budget: one by one at low
load, in groups under high load. All workers share one queue.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from perfmodel import equations as eq
from perfmodel.arrays import Array, Interpolation, clipped
from perfmodel.costs import StepCost
from perfmodel.serving.limits import MAX_UTILISATION
from perfmodel.serving.step_times.steps import StepModel
from perfmodel.workload import POISSON_CV, Load

#: Prompts per rank that are computed together where neither a token budget nor a batch bounds them. Chosen: the time
#: per prompt no longer falls beyond.
MAX_UNBOUNDED_GROUP = 64.0


@dataclass(frozen=True)
class PromptPool:
    """Describe equal workers that only prefill.

    workers: how many, (N,). groups: numbers of prompts that a worker computes together, rising from one, (K, N). times:
    seconds until all of a group are done, (K, N). alone: seconds of a prompt by itself, (C, N). time_cv: coefficient of
    variation of prefill times, (N,). cost: device cost of one step of a prompt by itself. n_steps: such steps per
    prompt, (C, N).
    """

    workers: Array
    groups: Array
    times: Array
    alone: Array
    time_cv: Array
    cost: StepCost
    n_steps: Array

    @cached_property
    def rates(self) -> Array:
        """Return the prompts/s of the pool with all workers computing groups of each size, or of a smaller one. (K, N)

        The time per prompt falls along the groups; where a table says otherwise, the better smaller group counts.
        """
        return np.maximum.accumulate(self.workers * self.groups / self.times, axis=0)

    @cached_property
    def _sizes(self) -> Interpolation:
        """Return the prompts of a group over the rate of the pool, to be read at several rates."""
        return Interpolation(self.rates, self.groups)

    @cached_property
    def _seconds(self) -> Interpolation:
        """Return the seconds of a group over its prompts, to be read at several sizes."""
        return Interpolation(self.groups, self.times)

    @cached_property
    def max_rate(self) -> Array:
        """Return the highest prompts/s of the pool, with all workers computing full groups. (N,)"""
        return np.asarray(self.workers * np.max(self.groups / self.times, axis=0))

    def group_at(self, rate: Array) -> tuple[Array, Array]:
        """Return (prompts that a worker computes together, seconds that takes) at `rate` prompts/s over the pool.

        (N,) each

        Derived: while a group of b prompts takes T(b), rate T(b) / workers others arrive and make the next group:
        b = rate T(b) / workers, at least one and at most the largest group.
        """
        # b / T(b) rises along the groups, so the fixed point is a look-up of the rate among theirs
        group = clipped(self._sizes.at(rate)[0], self.groups[0], self.groups[-1])
        return group, self._seconds.at(group)[0]

    def own(self, rate: Array) -> Array:
        """Return the part of the time of its group that is one prompt's at `rate` prompts/s, seconds, (C, N)."""
        group, time = self.group_at(rate)
        return np.asarray(self.alone * time / (group * self.times[0]))

    def prefill_time(self, rate: Array, wait: Array) -> Array:
        """Return the mean seconds from when a worker starts on a prompt until its whole group is done. (N,)

        The arguments are those of `group_of`.
        """
        return self._seconds.at(self.group_of(rate, wait))[0]

    def group_of(self, rate: Array, wait: Array) -> Array:
        """Return the prompts that a worker computes together with one that waited, itself included. (N,)

        rate: prompts/s over the pool, (N,). wait: mean seconds that the prompt queued before, (N,). A waiting prompt is
        computed together with those that arrived meanwhile, up to the token budget.
        """
        group, _ = self.group_at(rate)
        return clipped(1.0 + rate * wait, group, self.groups[-1])

    def wait(self, rate: Array, others: Array | float = np.inf, arrival_cv: Array | float = 1.0) -> Array:
        """Return the mean seconds until a worker starts on a prompt. (N,)

        A prompt that finds all workers busy waits for the rest of a step, and for the prompts that do not fit into the
        next one (`equations.queue_wait` at the pace of full groups; bursts add `equations.burst_wait`). With one worker
        and groups of one this is M/G/1 (Pollaczek and Khinchine).

        Args:
            rate: prompts/s over the pool, (N,).
            others: other prompts in the system: no prompt waits for more than these, (N,).
            arrival_cv: coefficient of variation of gaps between arrivals, (N,).
        """
        group, time = self.group_at(rate)
        per_prompt = self.times[-1] / self.groups[-1]
        busy = np.minimum(rate * self.times[0] / self.workers, 1.0)
        utilisation = np.minimum(rate / self.max_rate, MAX_UTILISATION)
        even = np.minimum(arrival_cv, POISSON_CV)
        variability = (np.square(even) + np.square(self.time_cv)) / 2.0
        residual = eq.all_busy(busy, self.workers) * time * variability / self.workers
        queued = utilisation * eq.queue_wait(utilisation, per_prompt, even, self.time_cv, self.workers)
        bursts = eq.burst_wait(utilisation, per_prompt / self.workers, arrival_cv)
        return np.minimum(residual + queued + bursts, others * time / group / self.workers)


def prompt_pool(steps: StepModel, load: Load, workers: Array, batch: Array | float = np.inf) -> PromptPool:
    """Build a pool of prefill workers for prompts like those of `load`.

    Args:
        steps: computes cost and time of steps of one worker, for the N candidates.
        load: load of the pool.
        workers: how many, (N,).
        batch: most prompts that a rank of attention data parallelism computes together, (N,); infinite: what fits its
            token budget.
    """
    ranks = steps.sharding.dp
    budget = steps.token_budget * steps.sharding.pp  # the micro-batches of a pipeline hold as much each
    most = ranks * np.clip(budget / ranks / load.mean(load.new), 1.0, np.maximum(batch, 1.0))
    most = np.where(np.isfinite(most), most, ranks * MAX_UNBOUNDED_GROUP)
    groups = np.stack([np.ones_like(most), ranks, np.sqrt(ranks * most), most])
    priced = steps.price_sets(*(steps.prefill_steps(load.new, load.cached, g, spread=True) for g in groups))
    times = [p.pipelined(steps.sharding.pp) for p in priced]
    alone = times[0]
    mean = load.mean(alone)
    return PromptPool(
        workers=workers,
        groups=groups,
        times=np.stack([load.mean(t) for t in times]),
        alone=alone,
        time_cv=np.sqrt(np.maximum(load.mean(np.square(alone - mean)), 0.0)) / mean,
        cost=priced[0].cost,
        n_steps=priced[0].n_steps,
    )
