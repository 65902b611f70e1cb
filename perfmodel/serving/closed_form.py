"""Analytic estimate of serving: from step times to TTFT, TPOT and throughput of one replica, for each kind of arrival.

`running` sequences decode concurrently, one token per step of `step` seconds. Each prompt that enters delays the others
by `interference` seconds on top of the decode steps in which it is computed. In equilibrium prompts enter at rate X, so
a token takes TPOT = step + X interference TPOT, that is step / (1 - X interference); and X = running / (residence of a
request).
"""

from __future__ import annotations

import numpy as np

from perfmodel.arrays import Array
from perfmodel.serving.adapter_slots import slots_limit, through_slots
from perfmodel.serving.limits import MAX_RUNNING
from perfmodel.serving.queues.admission import prefills_per_request
from perfmodel.serving.served import Served
from perfmodel.serving.step_times.steps import StepModel
from perfmodel.serving.streaming import streamed
from perfmodel.workload import Load


def serve(steps: StepModel, load: Load, kv_capacity: Array) -> Served:
    """Compute the equilibrium of one replica under its load: latencies, throughput and the number of running sequences.

    Only the estimate of this kind of load is imported: a short run takes most of its time to start.

    Args:
        steps: computes cost and time of steps of the N candidates.
        load: load of one replica.
        kv_capacity: sequences whose KV cache fits on one replica at the mean length, (N,); infinite: no limit.
    """
    adapters = steps.sharding.adapters
    if load.arrival in ("static", "single"):
        from perfmodel.serving.fixed_concurrency.static import static

        return through_slots(adapters, load, lambda inside: static(steps, inside, np.maximum(kv_capacity, 1.0)))
    max_running = np.maximum(np.minimum(kv_capacity, np.minimum(steps.max_num_seqs, MAX_RUNNING)), 1.0)
    prefills = prefills_per_request(steps.engine, load, kv_capacity, max_running)
    if load.arrival == "closed":
        from perfmodel.serving.fixed_concurrency.closed_loop import closed_loop

        def clients(inside: Load) -> Served:
            """Return what so many clients get of one replica."""
            return streamed(steps, inside, lambda some: closed_loop(steps, some, max_running, prefills))

        return through_slots(adapters, load, clients)
    running = slots_limit(adapters, load, max_running)
    if load.arrival == "open":
        from perfmodel.serving.open_loops.open_loop import open_loop

        return streamed(steps, load, lambda whole: open_loop(steps, whole, running, prefills))
    from perfmodel.serving.offline_batches.offline import offline

    return offline(steps, load, running, prefills)
