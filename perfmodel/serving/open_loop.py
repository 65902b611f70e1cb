"""Open loop: requests arrive at random at a rate."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from perfmodel import equations as eq
from perfmodel.arrays import Array, interpolate
from perfmodel.serving.entering import FULL_BATCH, decode_curve, entries, equilibrium
from perfmodel.serving.offline import offline
from perfmodel.serving.queueing import room_wait, walk_wait
from perfmodel.serving.served import Served
from perfmodel.serving.steps import StepModel
from perfmodel.workload import RANKS, Load, longest


def open_loop(passes: StepModel, load: Load, cap: Array, again: Array) -> Served:
    """Poisson (or other) arrivals at a rate: Little's law fixes how many run; saturation is reported, not hidden.

    A run of n_requests never has more in the replica than that, and only those beyond its capacity ever queue.
    """
    asked = np.where(np.isfinite(load.n_requests), load.n_requests, np.inf)
    room = np.maximum(np.minimum(cap, asked), 1.0)
    knots, walls = decode_curve(passes, load, room)
    steps = walls / load.accepted
    output = np.maximum(load.mean(load.output) - 1.0, 0.0)
    rate = load.rate
    packed = np.maximum(passes.most(load.mean(load.new)), 1.0)
    # prompts that arrive within a pass
    entering = np.clip(rate * steps[2] * load.accepted, passes.fewest(knots[2]), packed)
    _, (probe,) = entries(passes, load, knots[2], (entering,))
    busy = np.minimum(rate * probe.interference, FULL_BATCH)
    running = _fixed_point(knots, steps, rate * output / (1.0 - busy), room)
    seen = np.minimum(running + 1.0, room)  # a sequence meets a Poisson number of others, itself on top
    entering = np.clip(rate * interpolate(knots, steps, seen) * load.accepted, passes.fewest(seen), packed)
    (decode_cost, step), (entry,) = entries(passes, load, seen, (entering,))
    # mean over that number: Gauss-Hermite with three points, sqrt(3) deviations apart
    aside = np.minimum(np.sqrt(3.0 * running), np.minimum(seen - 1.0, room - seen))
    beside = (seen - aside, seen + aside)
    less, more = passes.run(*(passes.decode_step(n, load.decode_context, load.drafts) for n in beside))
    step = (4.0 * step + less.wall + more.wall) / 6.0
    token = step / load.accepted
    own = load.mean(entry.shared)
    often = np.concatenate([np.ones_like(knots[:-1]), again[None]])
    ends = equilibrium(knots, own * often, output * steps, entry.interference * often)
    most = ends[-1]
    saturated = ((rate > most) | (running >= room * 0.999)) & (asked > cap) | (rate * entry.interference >= FULL_BATCH)
    served = np.where(saturated, np.minimum(rate, most), rate)
    busy = np.minimum(served * entry.interference, FULL_BATCH)
    uneven = np.sqrt(load.mean(np.square(entry.shared / np.maximum(own, 1e-12) - 1.0)))
    prompts = np.minimum(served * own / entering, FULL_BATCH)
    under_way = -np.expm1(-running)  # chance that a pass is, with a Poisson number of sequences running
    wait = eq.queue_wait(prompts, own, load.cv, uneven) + under_way * step / 2.0
    wait = np.minimum(wait, asked * own / entering / 2.0)  # no more prompts can be ahead than there are
    # prompts that came while one's own waited and was computed are still to come, and hold up its answer
    met = served * entry.interference * (own + wait) / np.maximum(output, 1.0)
    several = load.mean(np.square(load.output) * (1.0 + np.square(load.length_cv))) / np.square(load.mean(load.output))
    varied = np.square(load.cv) + several - 1.0
    full = np.minimum(room_wait(served, knots, ends, room, varied / 2.0), walk_wait(served, asked - cap, varied))
    wait = wait + np.where(saturated | (asked <= cap), 0.0, full)
    # no answer goes slower than in a full replica
    fullest = np.maximum(steps[-1] / (1.0 - np.minimum(most * entry.interference, FULL_BATCH)), token / (1.0 - busy))
    pace = np.minimum((token + met) / (1.0 - busy), fullest)
    behind = np.where(saturated & (rate > served), np.inf, 0.0)
    shape = np.zeros_like(entry.shared)
    steady = Served(
        ttft=entry.shared + wait + behind + passes.engine.request_time,
        tpot=shape + pace,
        wait=shape + wait + behind,
        burst=shape,
        prefill=entry.shared,
        step=step,
        interference=entry.interference_by_class,
        mixed_step=entry.mixed_step,
        running=running,
        rate=served,
        saturated=saturated,
        decode_cost=decode_cost,
        prefill_cost=entry.cost,
        prefill_steps=entry.passes,
        even=np.isinf(behind) * 1.0,
        seen=seen,
    )
    brief = np.isfinite(load.n_requests)
    return _brief(steady, passes, load, (cap, again), brief & (rate > most)) if brief.any() else steady


def _brief(steady: Served, passes: StepModel, load: Load, limits: tuple[Array, Array], crowded: np.ndarray) -> Served:
    """A run of n requests at a rate: it lasts until the last answer ends, and where more come than can be served
    (`crowded`, (N,)) it is the batch of them all, less the time that they took to come. limits: `cap` and `again`.

    Even where there is room, who comes waits for the pass under way.
    """
    brief = np.isfinite(load.n_requests)
    count = np.where(brief, load.n_requests, 1.0)
    batch = offline(passes, replace(load, n_requests=count), *limits)
    span, least = count / load.rate, steady.step / 2.0
    wait = np.where(crowded, least + np.maximum(batch.wait - span / 2.0, 0.0), steady.wait)
    waits = least + np.maximum(batch.waits - np.array(list(RANKS.values()))[:, None] * span, 0.0)
    tpot = np.where(crowded, batch.tpot, steady.tpot)
    last = longest(load.mean(load.output), load.length_cv, np.minimum(steady.running, count))
    tail = np.minimum(last, np.maximum(load.longest, load.mean(load.output))) * load.mean(tpot)
    makespan = np.maximum(count / batch.rate, span + load.mean(steady.prefill) + tail)
    return replace(
        steady,
        ttft=steady.prefill + wait + passes.engine.request_time,
        tpot=tpot,
        wait=wait,
        rate=np.where(brief, count / makespan, steady.rate),
        even=np.where(crowded, 1.0, steady.even),
        waits=np.where(crowded, waits, np.nan),
    )


def _fixed_point(knots: Array, steps: Array, demand: Array, cap: Array) -> Array:
    """Sequences running where running = demand * step(running + 1), by bisection on a piecewise-linear step. (N,)

    knots, steps: (K, N) rising running counts and their token times; demand: tokens/s over (1 - prompts' share).
    """
    low, high = np.full_like(cap, 1e-6), cap
    for _ in range(40):
        middle = np.sqrt(low * high)
        excess = demand * interpolate(knots, steps, np.minimum(middle + 1.0, cap)) - middle
        low, high = np.where(excess > 0, middle, low), np.where(excess > 0, high, middle)
    return np.sqrt(low * high)
