"""A finite run of an open loop: how long it lasts, and what happens where more requests arrive than can be served."""

from __future__ import annotations

from dataclasses import fields, replace

import numpy as np

from perfmodel.arrays import Array, Mask
from perfmodel.serving.limits import TINY
from perfmodel.serving.offline import offline
from perfmodel.serving.served import MOST_GAIN, Gains, Served, StepTimes, TokenShape, WaitShape
from perfmodel.serving.steps import StepModel
from perfmodel.workload import RANKS, Load, longest


def finite_run(steady: Served, steps: StepModel, load: Load, limits: tuple[Array, Array], crowded: Mask) -> Served:
    """Turn a steady-state estimate into that of a run of `load.n_requests`, which lasts until the last output ends.

    Where more requests arrive than can be served (`crowded`, (N,)), the run is followed on the clock as an offline
    batch is, with requests that arrive evenly; waits are less the time that they took to arrive. Even a request that is
    admitted at once waits for the running step, and a run waits no less than one that arrives as fast as it can be
    served, which queues by chance. No run waits longer, or meets a fuller replica, than one whose requests all arrive
    at once. `limits` is (max_running: sequences that run at once, prefills_per_request), (N,) each.
    """
    finite = np.isfinite(load.n_requests)
    count = np.where(finite, load.n_requests, 1.0)
    batch = offline(steps, replace(load, n_requests=count), *limits, np.where(crowded, 1.0 / load.rate, 0.0))
    # a lone request meets no running step
    arriving, least = count / load.rate, steady.steps.decode / 2.0 * np.maximum(1.0 - 1.0 / count, 0.0)
    backlog = least + np.maximum(batch.times.wait - arriving / 2.0, 0.0)
    chance = np.where(finite, np.minimum(steady.times.wait, least + batch.times.wait), steady.times.wait)
    wait = np.where(crowded, np.maximum(backlog, chance), chance)
    tpot = np.where(crowded, batch.times.tpot, np.minimum(steady.times.tpot, batch.times.tpot))
    tpot = np.where(finite, tpot, steady.times.tpot)
    more = load.mean(np.where(crowded, np.maximum(backlog - chance, 0.0) / np.maximum(wait, TINY), 0.0))
    tokens = _settled(steady, load, tpot)
    last = longest(load.mean(load.output), load.length_cv, np.minimum(steady.running, count))
    tail = np.minimum(last, np.maximum(load.longest, load.mean(load.output))) * load.mean(tpot)
    makespan = np.maximum(count / batch.rate, arriving + load.mean(steady.times.prefill) + tail)
    prefill = steady.times.prefill
    # a backlog is the small difference of two times, of which only the batch's is in error
    gain = np.clip(batch.times.wait.mean(axis=0) / np.maximum(backlog - least, TINY).mean(axis=0), 1.0, MOST_GAIN)
    wait_gain = np.where(crowded, gain, steady.gains.wait)
    return replace(
        steady,
        steps=StepTimes(**_chosen(StepTimes, crowded, batch.steps, steady.steps)),
        running=np.where(crowded, batch.running, steady.running),
        gains=Gains(np.where(crowded, 1.0, steady.gains.token), wait_gain, steady.gains.load),
        times=replace(steady.times, ttft=prefill + wait + steps.request_time(load.input), tpot=tpot, wait=wait),
        rate=np.where(finite, count / makespan, steady.rate),
        waits=_waits(steady, batch, load, (least, arriving, more), crowded),
        tokens=TokenShape(**_chosen(TokenShape, crowded, batch.tokens, tokens)),
    )


def _waits(steady: Served, batch: Served, load: Load, times: tuple[Array, Array, Array], crowded: Mask) -> WaitShape:
    """Return how the waits of a run are distributed: none waits longer for admission than in the `batch`.

    times: least wait, and the time that all requests take to arrive, seconds, (N,) each; what a backlog adds to the
    wait by chance, as a part of both, (N,). crowded: as in `finite_run`.
    """
    (least, arriving, backlog), shape, finite = times, steady.waits, np.isfinite(load.n_requests)
    ranks = np.array(list(RANKS.values()))[:, None]
    late = np.maximum(batch.waits.by_rank - ranks * arriving, 0.0)
    # the clock has cells: by Markov's inequality no share 1 - q of the requests waits longer than the mean / (1 - q)
    late = np.minimum(late, np.maximum(load.mean(batch.times.wait) - arriving / 2.0, 0.0) / (1.0 - ranks))
    late = np.maximum.accumulate(late, axis=0)
    queued = np.minimum(shape.queued_by_rank, batch.waits.by_rank)
    return replace(
        shape,
        uniform_share=np.where(crowded, backlog, shape.uniform_share),
        by_rank=np.where(crowded, least + late, np.nan),
        most_by_rank=np.where(finite, least + batch.waits.by_rank, np.nan),
        queued=np.where(finite, np.minimum(shape.queued, load.mean(batch.times.wait)), shape.queued),
        queued_by_rank=np.where(finite, queued, shape.queued_by_rank),
    )


def _settled(steady: Served, load: Load, tpot: Array) -> TokenShape:
    """Return how times per token differ between requests, with delays by prompts as much less as those of `tpot` are.

    tpot: mean seconds per output token in the run, no more than in the steady state, (C, N).
    """
    step = steady.steps.decode / load.accepted
    delayed = load.mean(tpot - step) / np.maximum(load.mean(steady.times.tpot - step), TINY)
    return replace(steady.tokens, settling=steady.tokens.settling * np.clip(delayed, 0.0, 1.0))


def _chosen(kind: type, crowded: Mask, batch: object, steady: object) -> dict[str, Array]:
    """Return the fields of a dataclass `kind`: the batch's where the run is crowded, else those of the steady state."""
    return {f.name: np.where(crowded, getattr(batch, f.name), getattr(steady, f.name)) for f in fields(kind)}
