"""A finite run of an open loop: how long it lasts, and what its requests meet while the replica fills and queues grow.

One clock serves all rates. Requests that arrive evenly are followed on it as an offline batch is, which gives the
backlog that grows beyond capacity and how the replica fills; what arrivals at random add comes from the steady state,
as far as a run of this length gets there (`run_waits`).
"""

from __future__ import annotations

from dataclasses import fields, replace

import numpy as np

from perfmodel.arrays import Array, interpolate
from perfmodel.serving.limits import TINY
from perfmodel.serving.queues.run_waits import with_backlog
from perfmodel.serving.served import (
    MOST_GAIN,
    PACE_AT,
    PACE_LENGTHS,
    PACE_STARTS,
    Gains,
    RequestTimes,
    Served,
    StepTimes,
    TokenShape,
    WaitShape,
)
from perfmodel.serving.step_times.steps import StepModel
from perfmodel.workload import RANKS, Load, longest, uncut


def finite_run(
    steady: Served, steps: StepModel, load: Load, runs: tuple[Served, Served], filling: Array, room: tuple[Array, Array]
) -> Served:
    """Turn a steady-state estimate into that of a run of `load.n_requests`, which lasts until the last output ends.

    No run waits longer, or meets a fuller replica, than one whose requests all arrive at once.

    Args:
        steady: the steady state, with the waits by chance of a run of this length.
        steps, load: of the N candidates.
        runs: the run with all requests at the start, and with requests that arrive evenly (`offline.arriving`).
        filling: share of its requests that come while the replica fills, (N,): they meet what the latter says. So do
            those beyond capacity, all of them where the rate has no end.
        room: most sequences that run at once, and seconds per prompt of steps that compute as many as they hold, (N,)
            each.
    """
    (batch, clock), finite = runs, np.isfinite(load.n_requests)
    count = np.where(finite, load.n_requests, 1.0)
    # a request that is admitted at once waits for the running step, a lone one for none
    spread, least = count / load.rate, steady.steps.decode / 2.0 * np.maximum(1.0 - 1.0 / count, 0.0)
    most = _longest_backlog((steady, batch), room, load, count)
    backlog = np.clip(clock.times.wait - spread / 2.0, 0.0, most / 2.0)
    times, late = _times(steady, load, (backlog, least + batch.times.wait), steps.request_time(load.input))
    beyond = np.where(finite, 1.0 - 1.0 / np.maximum(np.nan_to_num(steady.gains.load), 1.0), 0.0)
    weight = np.where(finite, np.maximum(filling, beyond), 0.0)
    slowest = np.minimum(_slowest(steps, load, batch, spread), steady.times.tpot / (1.0 - beyond))
    tpot = _mixed(weight, np.minimum(clock.times.tpot, slowest), steady.times.tpot)
    ended = spread + _answered_after(steady, runs, load, count, tpot)
    # a backlog is the small difference of two times, of which only the batch's is in error
    gain = np.clip(clock.times.wait.mean(axis=0) / np.maximum(backlog, TINY).mean(axis=0), 1.0, MOST_GAIN)
    return replace(
        steady,
        steps=StepTimes(**_blended(StepTimes, beyond, clock.steps, steady.steps)),
        running=_mixed(beyond, clock.running, steady.running),
        gains=Gains(steady.gains.token, _mixed(late, gain, steady.gains.wait), steady.gains.load),
        times=replace(times, tpot=tpot),
        rate=np.where(finite, count / np.maximum(count / clock.rate, ended), steady.rate),
        waits=_waits(steady, runs, load, (least, spread, most, late)),
        tokens=TokenShape(**_blended(TokenShape, weight, clock.tokens, steady.tokens)),
    )


def _slowest(steps: StepModel, load: Load, batch: Served, spread: Array) -> Array:
    """Return the most seconds per output token that a run has on average, (C, N).

    Those of a run whose requests all arrive at once; where prompts go first, also the time until the last has arrived,
    half of `spread` (N,) on average.
    """
    if steps.engine.mixes_prefill:
        return batch.times.tpot
    return np.asarray(batch.times.tpot + spread / 2.0 / np.maximum(load.output - 1.0, 1.0))


def _times(steady: Served, load: Load, limits: tuple[Array, Array], front: Array) -> tuple[RequestTimes, Array]:
    """Return the times of requests in a run, and the part of their wait that a backlog adds to that by chance, (N,).

    limits: mean seconds that requests are late by a backlog, and the longest that they wait, (C, N) or (N,). front:
    seconds in the front end, (C, N). A lone request finds no step planned.
    """
    (backlog, most), finite, times = limits, np.isfinite(load.n_requests), steady.times
    planned = times.planned * np.where(finite, 1.0 - 1.0 / np.where(finite, load.n_requests, 1.0), 1.0)
    usual = times.wait - times.planned
    chance = np.where(finite, np.minimum(usual, most), usual)
    wait = np.where(finite, np.minimum(with_backlog(backlog, chance), most), usual)
    late = np.where(finite, 1.0 - np.where(finite, chance, 0.0) / np.maximum(wait, TINY), 0.0)
    ttft = times.prefill + wait + planned + front + times.handed_on
    waited = replace(times, ttft=ttft, wait=wait + planned, planned=planned)
    return waited, load.mean(np.clip(late, 0.0, 1.0))


def _answered_after(steady: Served, runs: tuple[Served, Served], load: Load, count: Array, tpot: Array) -> Array:
    """Return the seconds from the last arrival to the end of the run, no more than if all arrived with it, (N,).

    runs: as in `finite_run`. count: requests, (N,). tpot: seconds per output token, (C, N).
    """
    batch, clock = runs
    last = load.mean(steady.times.prefill) + _last_answer((steady, clock), load, count, tpot)
    return np.minimum(last, count / batch.rate)


def _last_answer(found: tuple[Served, Served], load: Load, count: Array, tpot: Array) -> Array:
    """Return the seconds of the longest answer of those that run at once at the end of a run of `count` requests, (N,).

    They are those of its tokens after the first one, which have the time per token of requests that begin last, or are
    as long. found: the steady state, and requests that arrive evenly. tpot: seconds per output token, (C, N).
    """
    steady, clock = found
    mean, most = load.mean(load.output), np.maximum(load.longest, load.mean(load.output))
    tokens = longest(*uncut(mean, load.length_cv, most), np.minimum(steady.running, count))
    tokens = np.minimum(tokens, most)
    means, shape = tokens / np.maximum(mean, 1.0), (len(PACE_LENGTHS), len(tokens))
    late = np.broadcast_to(np.asarray(clock.tokens.pace_by_start), (len(PACE_STARTS), *shape))[-1]
    by_length = np.broadcast_to(np.asarray(clock.tokens.pace), (len(PACE_AT), len(tokens)))
    pace = interpolate(PACE_LENGTHS[:, None], late, means) * interpolate(np.array(PACE_AT)[:, None], by_length, means)
    return np.asarray(np.maximum(tokens - 1.0, 0.0) * load.mean(tpot) * pace)


def _longest_backlog(found: tuple[Served, Served], room: tuple[Array, Array], load: Load, count: Array) -> Array:
    """Return the most seconds that the last of `count` requests (N,) is late, (N,). room: as in `finite_run`.

    The k-th is late by no more than k times what a request takes longer to serve than to arrive: in the steady state
    or, where prompts are the limit, in a run of all at once. Where all of them run at once, only prompts are a limit.
    found: the steady state, and requests that are all there at the start.
    """
    (steady, batch), (places, prompt), last = found, room, list(RANKS.values())[-1]
    spread, batched = count / load.rate, np.asarray(batch.waits.by_rank)[-1] / last
    served = np.maximum(spread * np.nan_to_num(steady.gains.load), batched)
    return np.asarray(np.maximum(np.where(count <= places, np.minimum(count * prompt, served), served) - spread, 0.0))


def _waits(
    steady: Served, runs: tuple[Served, Served], load: Load, times: tuple[Array, Array, Array, Array]
) -> WaitShape:
    """Return how the waits of a run are distributed: none waits longer for admission than with all at the start.

    runs: as in `finite_run`. times: least wait, the time that all requests take to arrive, and the longest backlog,
    seconds, (N,) each; what a backlog adds to the wait by chance, as a part of both, (N,).
    """
    (batch, clock), (least, spread, most, part), finite = runs, times, np.isfinite(load.n_requests)
    ranks, shape = np.array(list(RANKS.values()))[:, None], steady.waits
    late = np.clip(clock.waits.by_rank - ranks * spread, 0.0, ranks * most)
    # the clock has cells: by Markov's inequality no share 1 - q of the requests waits longer than the mean / (1 - q)
    late = np.minimum(late, np.maximum(load.mean(clock.times.wait) - spread / 2.0, 0.0) / (1.0 - ranks))
    late = np.maximum.accumulate(late, axis=0)
    queued = np.minimum(shape.queued_by_rank, batch.waits.by_rank)
    return replace(
        shape,
        uniform_share=np.where(finite, part, shape.uniform_share),
        by_rank=np.where(finite, late, np.nan),
        most_by_rank=np.where(finite, least + batch.waits.by_rank, np.nan),
        queued=np.where(finite, np.minimum(shape.queued, load.mean(batch.times.wait)), shape.queued),
        queued_by_rank=np.where(finite, queued, shape.queued_by_rank),
    )


def _blended(kind: type, weight: Array, clock: object, steady: object) -> dict[str, Array]:
    """Return the fields of a dataclass `kind`: a part `weight` (N,) of the clock's, else the steady state's."""
    return {f.name: _mixed(weight, getattr(clock, f.name), getattr(steady, f.name)) for f in fields(kind)}


def _mixed(weight: Array, one: Array | float, other: Array | float) -> Array:
    """Return a mean with a share `weight` (N,) of the former; a share of none counts nothing, were it infinite."""
    mean = weight * np.where(weight > 0.0, one, 0.0) + (1.0 - weight) * np.where(weight < 1.0, other, 0.0)
    return np.where(weight > 0.0, mean, other)
