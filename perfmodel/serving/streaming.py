"""Compute what a request meets where one process beside the engine streams all answers, token by token.

The engine hands on the tokens of a step and goes on (SGLang's TokenizerManager, sgl-project/sglang issue 6553).
Tokens queue in the order in which they were made, and steps take no longer. A first token is late by the queue that it
finds, and tokens take longer as far as the queue grows while their answer is made.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from perfmodel.arrays import Array, Interpolation
from perfmodel.lazy_fields import lazy_value
from perfmodel.serving.limits import TINY
from perfmodel.serving.served import Served, WaitShape
from perfmodel.serving.step_times.steps import StepModel
from perfmodel.workload import RANKS, Load

#: Parts of a run, from its start, at which the queue is computed. Chosen: it has a bend or two.
_PARTS = np.linspace(0.0, 1.0, 33)


def streaming_time(steps: StepModel) -> Array:
    """Return the seconds per token of the process that streams all answers of a replica, (N,); 0 without one."""
    own = steps.engine.streaming_token * steps.streams * steps.own_factor("front_end")
    return np.asarray(own + np.zeros(len(steps.token_budget)))


def streamed(steps: StepModel, load: Load, server: Callable[[Load], Served]) -> Served:
    """Return a load as `server` serves it, with the answers streamed by one process per replica.

    Args:
        steps: says how long that process takes per token.
        load: load of one replica, a closed or an open loop.
        server: estimates one replica whose tokens reach clients when they are made.
    """
    whole, each = server(load), streaming_time(steps)
    if not np.any(each > 0.0):
        return whole
    if load.arrival == "closed":
        return _closed(whole, (each, steps.engine.synchronised), load, server)
    return _open(_in_batches(whole, load, each), load, each)


def _in_batches(served: Served, load: Load, each: Array) -> Served:
    """Return an estimate with the time in which the process streams the tokens of a step, half of it on average.

    The first token of an answer comes with those of the prompts of its step, the last one with those of all sequences.
    each: seconds per token, (N,).
    """
    first = each / 2.0 / load.mean(np.minimum(served.costs.prefill_steps, 1.0))
    last, times = each / 2.0 * np.maximum(served.running, 1.0), served.times
    tpot = times.tpot + np.maximum(last - first, 0.0) / np.maximum(load.output - 1.0, 1.0)
    late = np.where(load.mean(load.output) > 1.0, first, 0.0)
    return replace(served, times=replace(times, ttft=times.ttft + late, tpot=tpot, handed_on=times.handed_on + late))


def _closed(whole: Served, process: tuple[Array, float], load: Load, server: Callable[[Load], Served]) -> Served:
    """Return a closed loop, whose requests either begin and end together or come and go independently.

    Derived: together they all decode at once, and the queue, empty at first, has the tokens of all of them to stream: a
    step takes as long as one token of each, if that is more. Independently, the queue is as long all the time: as many
    clients are at the engine as make the tokens that the process streams, and the others in its queue, by which first
    and last tokens are late. The answers of all clients are streamed in one cycle of the engine's and the queue.

    Args:
        whole: of all clients, whose tokens reach them when they are made.
        process: seconds per token of the process, (N,), and share of equal requests that stay together.
        load, server: as in `streamed`.
    """
    (each, together), clients = process, load.concurrency
    batches, part = _in_batches(whole, load, each), load.synchronised * together
    slow, (engine, queue, apart) = _no_faster(batches, each, load), _apart(whole, batches, each, load, server)
    cycle = clients / whole.rate + _longer(whole, slow, load)

    def mixed(one: Array | float, other: Array | float) -> Array:
        """Return the mean of what requests meet that stay together, and of what the others meet."""
        return np.asarray(part * one + (1.0 - part) * other)

    now, alone, held = slow.times, engine.times, (1.0 - part) * queue
    return replace(
        slow,
        times=replace(
            now,
            ttft=mixed(now.ttft, alone.ttft + queue),
            wait=mixed(now.wait, alone.wait + queue),
            tpot=mixed(now.tpot, alone.tpot),
        ),
        rate=clients / mixed(cycle, apart),
        running=mixed(slow.running, engine.running),
        steps=replace(slow.steps, decode=mixed(slow.steps.decode, engine.steps.decode)),
        waits=lazy_value(lambda: _later(whole.waits, held)),
    )


def _longer(before: Served, after: Served, load: Load) -> Array:
    """Return by how many seconds requests take longer in one estimate than in another one, (N,)."""
    old, new, later = before.times, after.times, np.maximum(load.output - 1.0, 0.0)
    return load.mean(new.ttft - old.ttft + later * (new.tpot - old.tpot))


def _apart(
    whole: Served, batches: Served, each: Array, load: Load, server: Callable[[Load], Served]
) -> tuple[Served, Array, Array]:
    """Return (what clients meet at the engine that come and go, seconds of the queue, seconds of both), (N,) each.

    batches: `_in_batches` of `whole`. each: seconds of the process per token, (N,). Other arguments as in `_closed`.
    """
    least, clients = load.mean(load.output) * each, load.concurrency
    cycle = clients / whole.rate + _longer(whole, batches, load)
    busy = clients * least > cycle
    if not np.any(busy):
        return batches, np.zeros_like(cycle), cycle
    some = np.where(busy, _at_the_engine(whole, load, least, server), clients)
    bare = server(replace(load, concurrency=some))
    engine = _in_batches(bare, load, each)
    cycle = some / bare.rate + _longer(bare, engine, load)
    queue = np.where(busy, np.maximum(clients * least - cycle, 0.0), 0.0)
    return engine, queue, cycle + queue


def _no_faster(served: Served, each: Array, load: Load) -> Served:
    """Return an estimate in which no decode step takes less than a token of each sequence in the process.

    each: its seconds per token, (N,).
    """
    step = np.maximum(served.steps.decode, served.running * load.accepted * each)
    longer = (step - served.steps.decode) / load.accepted
    parts = replace(served.steps, decode=step, mixed=np.maximum(served.steps.mixed, step))
    return replace(served, times=replace(served.times, tpot=served.times.tpot + longer), steps=parts)


def _later(waits: WaitShape, queue: Array) -> WaitShape:
    """Return how waits are distributed that are all longer by `queue` seconds, (N,)."""
    return replace(waits, queued=waits.queued + queue, queued_by_rank=waits.queued_by_rank + queue)


def _at_the_engine(whole: Served, load: Load, least: Array, server: Callable[[Load], Served]) -> Array:
    """Return the clients of a closed loop that make as many tokens as the process streams, (N,).

    The cycle of a client is taken to rise as a line with their number, from that of a smaller number to that of all.

    least: seconds per request of the process, (N,). Other arguments as in `_closed`.
    """
    most = load.concurrency
    cycle = most / whole.rate
    some = np.clip(cycle / least, 1.0, most)  # no fewer than that: with fewer a cycle is shorter
    short = some / server(replace(load, concurrency=some)).rate
    rise = np.maximum(cycle - short, 0.0) / np.maximum(most - some, TINY)
    fixed = np.maximum(short - rise * some, 0.0)
    return np.clip(fixed / np.maximum(least - rise, TINY), 1.0, some)


def _open(served: Served, load: Load, each: Array) -> Served:
    """Return an open loop. each: seconds of the process per token, (N,).

    Derived: the queue grows where tokens are made faster than they are streamed. In a run, the first token of an answer
    is late by the queue that it finds, the last one by the queue that has grown meanwhile, and the end by the last
    queue. Without end the queue has none. Where it does not grow, tokens are late by little.
    """
    least = load.mean(load.output) * each
    endless = ~np.isfinite(load.n_requests) & (served.rate * least > 1.0)
    first, grown, ended = _queue_found(served, load, np.where(np.isfinite(load.n_requests), least, 0.0))
    if not np.any(endless | (ended > 0.0) | np.any(first > 0.0, axis=0) | np.any(grown > 0.0, axis=0)):
        return served
    late, times = np.where(endless, np.inf, first.mean(axis=0)), served.times
    usual = np.maximum(times.tpot, np.where(endless, served.running * each, 0.0))
    count = np.where(np.isfinite(load.n_requests), load.n_requests, 1.0)
    lasts = (count / served.rate, ended, count * least)
    return replace(
        served,
        times=replace(
            times,
            ttft=times.ttft + late,
            wait=times.wait + late,
            tpot=usual + grown / np.maximum(load.output - 1.0, 1.0),
        ),
        rate=np.where(endless, 1.0 / np.maximum(least, TINY), count / np.maximum.reduce(lasts)),
        saturated=served.saturated | endless | (load.rate * least > 1.0),
        waits=lazy_value(lambda: _growing(served.waits, load.mean(served.times.wait), (late, first))),
    )


def _queue_found(served: Served, load: Load, least: Array) -> tuple[Array, Array, Array]:
    """Return the seconds of the queue that first tokens find, by when in the run requests begin, (K, N), by which it
    grows until the last token of an answer, on average, (C, N), and after which all of it is streamed, (N,).

    The queue has the tokens that were made and that the process has not streamed. It may have been idle at first.

    The end is 0 where nothing is left when the last token is made.

    least: seconds per request of the process, (N,); 0 where its queue does not grow.
    """
    count = np.where(least > 0.0, load.n_requests, 1.0)
    begun = np.maximum(count / load.rate, 2.0 * load.mean(served.times.ttft))
    begun = np.where(least > 0.0, np.maximum(begun, TINY), 1.0)
    answers = np.maximum(np.maximum(load.output - 1.0, 1.0) * served.times.tpot, TINY) + np.zeros_like(begun)
    begins, longest = _PARTS[:, None] * begun, answers.max(axis=0)
    times = np.sort(np.concatenate([begins, begins + longest, _PARTS[:, None] * (begun + longest)]), axis=0)
    tokens = load.share * load.output / load.mean(load.output)
    made = sum(part * _made(times, begun, answer) for part, answer in zip(tokens, answers, strict=True))
    ahead = np.where(least > 0.0, count * least * made - times, 0.0)
    queue = Interpolation(times, ahead - np.minimum.accumulate(ahead, axis=0))
    first = queue.at(begins)[0]
    grown = [np.maximum((queue.at(begins + answer)[0] - first).mean(axis=0), 0.0) for answer in answers]
    left = queue.at(begun + longest)[0]
    return first, np.stack(grown), np.where(left > 0.0, begun + longest + left, 0.0)


def _made(times: Array, begun: Array, answer: Array) -> Array:
    """Return the share of their tokens that requests have made at some times, (T, N), which begin from 0 to `begun`.

    Derived: requests that begin evenly over a time S, and make their tokens evenly over a time R each, have made (t^2 -
    (t - R)^2 - (t - S)^2 + (t - R - S)^2) / (2 R S) of them at the time t, where each difference counts if it is above
    nought. begun: S, and answer: R, seconds, (N,).
    """
    ends = (times, times - answer, times - begun, times - answer - begun)
    whole, late, over, left = (np.square(np.maximum(t, 0.0)) for t in ends)
    return np.asarray((whole - late - over + left) / (2.0 * answer * begun))


def _growing(waits: WaitShape, usual: Array, queue: tuple[Array, Array]) -> WaitShape:
    """Return how waits are distributed that a growing queue makes longer.

    usual: mean wait without it, (N,). queue: mean seconds of it that requests find, (N,), and that by the part of the
    run, (K, N).
    """
    late, found = queue
    ranks = np.array(list(RANKS.values()))
    by_rank = np.stack([found[np.searchsorted(_PARTS, rank)] for rank in ranks])
    with np.errstate(invalid="ignore"):
        share = np.where(np.isinf(late), 1.0, (waits.uniform_share * usual + late) / np.maximum(usual + late, TINY))
    return replace(
        waits,
        uniform_share=np.where(late > 0.0, share, waits.uniform_share),
        by_rank=waits.by_rank + by_rank,
        most_by_rank=waits.most_by_rank + by_rank,
    )
