"""A pool of workers that only compute prompts: how long a prompt waits and how fast the pool can be.

A worker computes what has gathered while its last pass ran, up to its token budget: alone when there is little to do,
in groups under load. Several workers share one queue.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from perfmodel import equations as eq
from perfmodel.arrays import Array, interpolate
from perfmodel.costs import StepCost
from perfmodel.serving.steps import StepModel
from perfmodel.workload import Load

#: Arrivals never use more than this share of what the pool can do: a queue in equilibrium ends.
FULL = 0.98


@dataclass(frozen=True)
class PromptPool:
    """`workers` (N,) equal workers. groups, times: (K, N) prompts a worker computes together, rising from one, and the
    seconds until all of them are done. alone: seconds of a prompt by itself, (C, N). time_cv: coefficient of variation
    of prompts' times, (N,). cost, passes: device cost of one pass of a prompt by itself, and passes it takes, (C, N).
    """

    workers: Array
    groups: Array
    times: Array
    alone: Array
    time_cv: Array
    cost: StepCost
    passes: Array

    @property
    def most(self) -> Array:
        """Prompts a second at most: all workers computing full groups. (N,)"""
        return self.workers * np.max(self.groups / self.times, axis=0)

    def together(self, rate: Array) -> tuple[Array, Array]:
        """(prompts a worker computes together, seconds of that) at `rate` prompts a second in all. (N,)

        While a pass of b prompts runs, rate T(b) / workers others arrive, which make the next one: b = rate T(b) /
        workers, at least one and at most what a pass holds.
        """
        # b / T(b) rises along the groups, so the fixed point is a look-up of the rate among theirs
        rates = np.maximum.accumulate(self.workers * self.groups / self.times, axis=0)
        group = np.clip(interpolate(rates, self.groups, rate), self.groups[0], self.groups[-1])
        return group, interpolate(self.groups, self.times, group)

    def computing(self, rate: Array, wait: Array) -> Array:
        """Mean seconds from when a worker begins with a prompt until its pass ends, after `wait`. (N,)

        Whoever waits is not alone: those who came meanwhile go along, as far as a pass holds them.
        """
        group, _ = self.together(rate)
        return interpolate(self.groups, self.times, np.clip(1.0 + rate * wait, group, self.groups[-1]))

    def wait(self, rate: Array, others: Array | float = np.inf, arrival_cv: Array | float = 1.0) -> Array:
        """Mean seconds until a worker begins with a prompt. (N,)

        Whoever finds all workers busy waits for the rest of a pass, and for those who do not fit into the next one.
        With one worker and groups of one this is M/G/1 (Pollaczek and Khinchine). others: no prompt waits for more than
        so many.
        """
        group, time = self.together(rate)
        full = self.times[-1] / self.groups[-1]
        busy = np.minimum(rate * self.times[0] / self.workers, 1.0)
        load = np.minimum(rate / self.most, FULL)
        varied = (np.square(arrival_cv) + np.square(self.time_cv)) / 2.0
        rest = eq.all_busy(busy, self.workers) * time * varied / self.workers
        behind = load * eq.queue_wait(load, full, arrival_cv, self.time_cv, self.workers)
        return np.minimum(rest + behind, others * time / group / self.workers)


def prompt_pool(passes: StepModel, load: Load, workers: Array, batch: Array | float = np.inf) -> PromptPool:
    """The pool of `workers` such workers under prompts like those of `load`.

    batch: most prompts that a rank of attention data parallelism computes together; without it, what fits its budget.
    """
    ranks = passes.sharding.dp
    most = ranks * np.clip(passes.budget / ranks / load.mean(load.new), 1.0, np.maximum(batch, 1.0))
    middle = np.sqrt(ranks * most)
    groups = np.stack([np.ones_like(most), ranks, middle, most])
    together = [passes.prefill_step(load.new, load.cached, g) for g in groups]
    priced = passes.run(*together)
    times = [passes.piped(p.wall, one.passes) for p, one in zip(priced, together, strict=True)]
    alone = times[0]
    mean = load.mean(alone)
    time_cv = np.sqrt(np.maximum(load.mean(np.square(alone - mean)), 0.0)) / mean
    stacked = np.stack([load.mean(t) for t in times])
    return PromptPool(workers, groups, stacked, alone, time_cv, priced[0].cost, together[0].passes)
