"""Estimate static batching: a batch starts together and ends before the next one starts."""

from __future__ import annotations

import numpy as np

from perfmodel.arrays import Array
from perfmodel.serving.served import RequestTimes, Served, StepCosts, StepTimes
from perfmodel.serving.steps import StepModel
from perfmodel.workload import Load


def static(steps: StepModel, load: Load, kv_capacity: Array) -> Served:
    """Estimate a replica that computes the whole prefill, then the decode steps.

    A batch of more sequences than `kv_capacity` (N,), which the KV cache holds, runs in several batches.
    """
    requests = load.concurrency
    batch = np.minimum(requests, kv_capacity)
    n_batches = np.ceil(requests / batch)
    decode, (prompts,) = steps.run_prompts(
        steps.prefill_steps(load.new, load.cached, batch),
        decode=steps.decode_step(batch, load.decode_context, load.drafts),
    )
    prefill = prompts.pipelined(steps.sharding.pp)
    tpot = decode.wall / load.accepted
    first = prefill + steps.engine.request_time
    duration = load.mean(first + np.maximum(load.output - 1.0, 0.0) * tpot)
    queued = batch_wait(requests, batch, n_batches, duration)
    zero = np.zeros_like(first)
    return Served(
        times=RequestTimes(ttft=first + queued, tpot=zero + tpot, wait=zero + queued, burst=zero, prefill=prefill),
        steps=StepTimes(decode=decode.wall, mixed=decode.wall, interference=zero),
        costs=StepCosts(
            decode=decode.cost, prefill=prompts.cost, prefill_steps=prompts.n_steps / batch, prompts=prompts.planned
        ),
        running=batch,
        rate=requests / (n_batches * duration),
        saturated=np.zeros(len(batch), bool),
    )


def batch_wait(requests: Array, batch: Array, n_batches: Array, duration: Array) -> Array:
    """Return the mean seconds that requests wait where they run in batches one after the other. (N,)

    requests: number of requests. batch: requests per batch. n_batches: number of batches. duration: seconds per batch.
    All are (N,). Derived: requests of batch i (from 0) wait for i batches; the last batch may be smaller.
    """
    return (n_batches - 1.0) * (1.0 - batch * n_batches / (2.0 * requests)) * duration
