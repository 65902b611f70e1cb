"""Estimate static batching: a batch starts together and ends before the next one starts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from operator import attrgetter

import numpy as np

from perfmodel.arrays import Array
from perfmodel.serving.limits import TINY
from perfmodel.serving.own_process import handed_on
from perfmodel.serving.served import RequestTimes, Served, StepCosts, StepTimes
from perfmodel.serving.step_times.planned_step import PricedPrompts, PricedStep
from perfmodel.serving.step_times.steps import StepModel
from perfmodel.workload import Load

#: Share of a batch that is rounding.
_ROUNDING = 1e-9


def static(steps: StepModel, load: Load, kv_capacity: Array) -> Served:
    """Estimate a replica that computes the whole prefill, then the decode steps.

    A batch of more sequences than `kv_capacity` (N,), which the KV cache holds, runs in several batches: full ones, and
    a last one with the rest.
    """
    requests = load.concurrency
    batch = np.minimum(requests, kv_capacity)
    n_batches = np.ceil(requests / batch - _ROUNDING)
    rest = requests - (n_batches - 1.0) * batch
    full = _run(steps, load, batch)
    if not np.any(n_batches > 1):
        return _served(full, batch, requests / full.duration)
    last = _run(steps, load, np.maximum(rest, np.minimum(batch, 1.0)))
    queued = batch_wait(requests, batch, n_batches, full.duration)
    rate = requests / ((n_batches - 1.0) * full.duration + last.duration)
    part = np.where(n_batches > 1, rest / requests, 0.0)
    return _served(full, batch, rate, queued=queued, last=(last, part))


@dataclass(frozen=True)
class _Run:
    """Describe one batch of a static replica.

    decode, prompts: its steps, priced. prefill, first: seconds of the prefill and until the first token, (C, N). late:
    those of the latter until it is handed on (`handed_on`), (N,). more: what prompts twice as long take longer, (C, N);
    0 where prompts are equal. tpot: seconds per output token, (N,). duration: mean seconds of the batch, (N,).
    """

    decode: PricedStep
    prompts: PricedPrompts
    prefill: Array
    first: Array
    late: Array
    more: Array
    tpot: Array
    duration: Array


def _run(steps: StepModel, load: Load, batch: Array) -> _Run:
    """Price a batch of `batch` sequences, (N,)."""
    lengths = (1.0, 2.0) if np.any(load.prompt_spread > 0.0) else (1.0,)
    (decode,), (prompts, *longer) = steps.run_prompts(
        *(steps.prefill_steps(load.new * x, load.cached, batch) for x in lengths),
        decodes=[steps.decode_step(batch, load.decode_context, load.drafts)],
    )
    prefill = prompts.pipelined(steps.sharding.pp)
    more = longer[0].pipelined(steps.sharding.pp) - prefill if longer else np.zeros_like(prefill)
    tpot = decode.wall / load.accepted
    first = prefill + steps.request_time(load.input)
    duration = load.mean(first + np.maximum(load.output - 1.0, 0.0) * tpot)
    # no step follows the last one of a batch, whose tokens are handed on at once, the only ones of a request included
    late = handed_on(np.zeros_like(batch), (decode.wall, decode.wall), late=steps.engine.hands_on_late)
    late = np.where(load.mean(load.output) > 1.0, late, 0.0)
    return _Run(
        decode=decode,
        prompts=prompts,
        prefill=prefill,
        first=first + late,
        late=late,
        more=more,
        tpot=tpot,
        duration=duration,
    )


def _served(
    full: _Run, batch: Array, rate: Array, *, queued: Array | float = 0.0, last: tuple[_Run, Array] | None = None
) -> Served:
    """Assemble the estimate of full batches of `batch` sequences and, where `last` is given, of one with the rest.

    rate: requests/s, (N,). queued: mean seconds that a request waits for the batches before its own, (N,). last: the
    last batch and the share of all requests in it, (N,).
    """

    def mean(of: Callable[[_Run], Array]) -> Array:
        return of(full) if last is None else np.asarray(of(full) + last[1] * (of(last[0]) - of(full)))

    prefill, first, tpot, step = (mean(attrgetter(n)) for n in ("prefill", "first", "tpot", "decode.wall"))
    zero = np.zeros_like(first)
    # prompts of a batch are computed together
    alone = np.where(batch <= 1.0, np.maximum(prefill - step, 0.0), 0.0)
    growth = np.max(np.maximum(full.more, 0.0) / np.maximum(alone, TINY), axis=0, where=alone > 0.0, initial=0.0)
    return Served(
        times=RequestTimes(
            ttft=first + queued,
            tpot=zero + tpot,
            wait=zero + queued,
            burst=zero,
            prefill=prefill,
            handed_on=mean(attrgetter("late")),
        ),
        steps=StepTimes(decode=step, mixed=step, interference=zero + alone, growth=growth),
        costs=StepCosts(
            decode=full.decode.cost,
            prefill=full.prompts.cost,
            prefill_steps=full.prompts.n_steps / batch,
            prompt=prefill / batch,
            prompts=full.prompts.planned,
        ),
        running=batch,
        rate=rate,
        saturated=np.zeros(len(batch), bool),
    )


def batch_wait(requests: Array, batch: Array, n_batches: Array, duration: Array) -> Array:
    """Return the mean seconds that requests wait where they run in batches one after the other. (N,)

    requests: number of requests. batch: requests per batch. n_batches: number of batches. duration: seconds per full
    batch. All are (N,). Derived: requests of batch i (from 0) wait for i batches; the last batch may be smaller.
    """
    return (n_batches - 1.0) * (1.0 - batch * n_batches / (2.0 * requests)) * duration
