"""Static batches."""

from __future__ import annotations

import numpy as np

from perfmodel.arrays import Array
from perfmodel.serving.served import Served
from perfmodel.serving.steps import StepModel
from perfmodel.workload import Load


def static(passes: StepModel, load: Load, cap: Array) -> Served:
    """A batch that starts together: the whole prefill, then decode passes; more than fits runs in waves."""
    asked = load.concurrency
    batch = np.minimum(asked, cap)
    requests_per_client = np.ceil(asked / batch)
    first_pass = passes.prefill_step(load.new, load.cached, batch)
    (decode_cost, step), (cost, wall) = passes.run(
        passes.decode_step(batch, load.decode_context, load.drafts), first_pass
    )
    count, prefill = first_pass.passes, passes.piped(wall, first_pass.passes)
    token = step / load.accepted
    first = prefill + passes.engine.request_time
    whole = load.mean(first + np.maximum(load.output - 1.0, 0.0) * token)
    # those of wave i wait for i others; the last one may be smaller
    queued = (requests_per_client - 1.0) * (1.0 - batch * requests_per_client / (2.0 * asked)) * whole
    zero = np.zeros_like(first)
    return Served(
        ttft=first + queued,
        tpot=zero + token,
        wait=zero + queued,
        burst=zero,
        prefill=prefill,
        step=step,
        interference=zero,
        mixed_step=step,
        running=batch,
        rate=asked / (requests_per_client * whole),
        saturated=np.zeros(len(batch), bool),
        decode_cost=decode_cost,
        prefill_cost=cost,
        prefill_steps=count / batch,
    )
