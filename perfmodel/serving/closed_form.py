"""Closed form of serving: from passes to TTFT, TPOT and throughput of one replica under each kind of arrival.

The picture: `running` sequences decode together, one token a pass of `step` seconds. Each prompt that enters costs the
others `stall` seconds more than the decode passes it rides on. In equilibrium prompts enter at rate X, so a token takes
TPOT = step + X stall TPOT, that is step / (1 - X stall); and X = running / (residence of a request).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from perfmodel import equations as eq
from perfmodel.costs.step_cost import StepCost
from perfmodel.curves import interpolate
from perfmodel.operators.demand import Array
from perfmodel.serving.drain import Batch, empty
from perfmodel.serving.queueing import HEADROOM, WATERMARK, room_wait, sent_back, walk_wait
from perfmodel.serving.steps import Passes, Priced
from perfmodel.workload.load import Load
from perfmodel.workload.output_lengths import longest
from perfmodel.workload.workload import RANKS

#: Prompts never take more than this share of time in an equilibrium that decodes at all.
_FULL = 0.98
_KNOTS = 5
#: Sequences a replica runs at most where neither memory nor the engine says less.
_MOST = 16384.0


@dataclass(frozen=True)
class Served:
    """One replica in equilibrium. Seconds; (C, N) where a class matters, else (N,).

    running: sequences decoding at once. rate: requests/s. step: wall time of a decode pass. stall: what one prompt
    costs the others. wait: mean time in queues before a prompt is computed; burst: mean extra of the opening burst
    over all requests. prefill: time to compute a prompt. decode_cost, prefill_cost: device costs of one pass behind
    them; prefill_passes: such passes a prompt, less than one where prompts share a pass.
    saturated: demand exceeds what the replica can serve. even: part of the wait that falls evenly on all requests of a
    run, from none for the first to twice the mean for the last. waits: (Q, N) waits at `workload.RANKS` where they are
    known, else NaN. seen: sequences of the decode pass that decode_cost is of, NaN where it is `running`.
    """

    ttft: Array
    tpot: Array
    wait: Array
    burst: Array
    prefill: Array
    step: Array
    stall: Array
    mixed_step: Array
    running: Array
    rate: Array
    saturated: np.ndarray
    decode_cost: StepCost
    prefill_cost: StepCost
    prefill_passes: Array
    even: Array | float = 0.0
    waits: Array | float = np.nan
    seen: Array | float = np.nan


def serve(passes: Passes, load: Load, fit: Array) -> Served:
    """Equilibrium of one replica under `load` (of the replica); at most `fit` sequences run at once. (N,)"""
    if load.arrival in ("static", "single"):
        return _static(passes, load, np.maximum(fit, 1.0))
    cap = np.maximum(np.minimum(fit, np.minimum(passes.max_seqs, _MOST)), 1.0)
    kinds = {"open": _open, "offline": _offline}
    return kinds.get(load.arrival, _closed)(passes, load, cap, _again(passes, load, fit, cap))


def _again(passes: Passes, load: Load, fit: Array, cap: Array) -> Array:
    """Times each prompt is computed, where requests wait for room: more than once where running ones grow. (N,)"""
    engine = passes.engine
    if engine.admission != "grow" or engine.preemption != "recompute":
        return np.ones_like(cap)
    # what a prompt takes of the KV room is all of it, found in the prefix cache or not
    prompt, answer = load.mean(load.input), load.mean(load.output)
    kept = WATERMARK.get(engine.name, 0.0) * (prompt + answer / 2.0) + HEADROOM.get(engine.family, 0.0) * answer / 2.0
    return 1.0 + np.where(fit <= cap, sent_back(prompt, answer, kept * cap), 0.0)


def _static(passes: Passes, load: Load, cap: Array) -> Served:
    """A batch that starts together: the whole prefill, then decode passes; more than fits runs in waves."""
    asked = load.concurrency
    batch = np.minimum(asked, cap)
    waves = np.ceil(asked / batch)
    first_pass = passes.prefill_pass(load.new, load.cached, batch)
    (decode_cost, step), (cost, wall) = passes.run(
        passes.decode_pass(batch, load.decode_context, load.drafts), first_pass
    )
    count, prefill = first_pass.passes, passes.piped(wall, first_pass.passes)
    token = step / load.accepted
    first = prefill + passes.engine.request_time
    whole = load.mean(first + np.maximum(load.output - 1.0, 0.0) * token)
    # those of wave i wait for i others; the last one may be smaller
    queued = (waves - 1.0) * (1.0 - batch * waves / (2.0 * asked)) * whole
    zero = np.zeros_like(first)
    return Served(
        ttft=first + queued, tpot=zero + token, wait=zero + queued, burst=zero, prefill=prefill, step=step,
        stall=zero, mixed_step=step, running=batch, rate=asked / (waves * whole), saturated=np.zeros(len(batch), bool),
        decode_cost=decode_cost, prefill_cost=cost, prefill_passes=count / batch,
    )  # fmt: skip


@dataclass(frozen=True)
class _Entry:
    """What prompts cost at a given number of running sequences; (C, N) seconds a prompt, `stall` its mean (N,)."""

    alone: Array
    shared: Array
    stall: Array
    stall_by_class: Array
    mixed_step: Array
    cost: StepCost
    passes: Array


def _entries(passes: Passes, load: Load, running: Array, groups: tuple[Array, ...]) -> tuple[Priced, list[_Entry]]:
    """(the decode pass, an entry a group) of prompts entering so many at a time while `running` sequences decode.

    Engines that prefill first stop decoding meanwhile; where prompts share passes with decodes, they cost the others
    only what the passes get longer.
    """
    engine = passes.engine
    decode = passes.decode_pass(running, load.decode_context, load.drafts)
    apart = [passes.prefill_pass(load.new, load.cached, g) for g in groups]
    mixing = engine.mixes
    mixed = [passes.mixed_pass(load.new, load.cached, g, running, load.decode_context) for g in groups if mixing]
    decoded, *priced = passes.run(decode, *apart, *mixed)
    step = decoded.wall
    entries = []
    for i, group in enumerate(groups):
        cost, count = priced[i].cost, apart[i].passes
        alone = passes.piped(priced[i].wall, count)
        if mixing:
            wall, riding = priced[len(groups) + i].wall, mixed[i].passes
            stall = riding * np.maximum(wall - step, 0.0) / passes.lay.pp / group
            shared = passes.piped(wall, riding)
            entries.append(_Entry(alone, shared, load.mean(stall), stall, load.mean(wall), cost, count / group))
        else:
            stall = alone / group
            after = load.mean(alone) + step
            entries.append(_Entry(alone, alone, load.mean(stall), stall, after, cost, count / group))
    return decoded, entries


def _blend(apart: _Entry, together: _Entry, share: Array) -> _Entry:
    """Prompts of which a share enters in groups; costs and passes are those of prompts entering apart."""
    names = ("alone", "shared", "stall", "stall_by_class", "mixed_step")
    mixed = {n: (1.0 - share) * getattr(apart, n) + share * getattr(together, n) for n in names}
    return replace(apart, **mixed)


def _closed(passes: Passes, load: Load, cap: Array, again: Array) -> Served:
    """Fixed concurrency: as many at once as fit, all others waiting."""
    asked = np.maximum(load.concurrency, 1e-9)
    running = np.minimum(asked, cap)
    packed = np.clip(passes.most(load.mean(load.new)), 1.0, np.maximum(running, 1.0))
    together = load.lockstep * passes.engine.lockstep
    # sequences end after as many passes as they have tokens, and as many prompts take their places in each
    entering = np.clip(running / np.maximum(load.mean(load.output), 1.0), passes.fewest(running), packed)
    (decode_cost, step), (one_by_one, in_groups) = _entries(passes, load, running, (entering, packed))
    token = step / load.accepted
    entry = _blend(one_by_one, in_groups, together)
    often = np.where(asked > cap, again, 1.0)
    entry = replace(entry, stall=entry.stall * often, passes=entry.passes * often)

    # residence = own prefill + output * token / (1 - others' prompts): solve X running = ... as a quadratic in X;
    # those of one's own group compute their prompts in the same passes and do not hold one's answer up
    mixing = passes.engine.mixes
    group = 1.0 + together * (packed - 1.0) if mixing else np.ones_like(packed)
    others = np.maximum(running - group, 0.0) / np.maximum(running, 1.0)
    own = load.mean(entry.shared)
    tokens = np.maximum(load.mean(load.output) - 1.0, 0.0)
    rate = _equilibrium(running, own * often, tokens * token, entry.stall * others)
    tpot = token / (1.0 - np.minimum(rate * entry.stall * others, _FULL))
    busy = np.minimum(rate * others * own / entering, _FULL)
    # who arrives waits for the pass under way, if anyone else is running, and for the prompts of the others at most
    ahead = np.maximum(running - 1.0, 0.0) * own / entering
    uneven = np.sqrt(load.mean(np.square(entry.shared / np.maximum(own, 1e-12) - 1.0)))
    queue = np.minimum(eq.queue_wait(busy * (1.0 - together), own, 1.0, uneven), ahead)
    wait = (queue + step / 2.0) * others
    if mixing:
        # a full group does not quite fit beside the decodes: its last prompt fills the next group's pass, and so on
        spilt = np.clip(running / packed - 1.0, 0.0, 1.0) * in_groups.mixed_step
        wait = together * spilt + (1.0 - together) * wait
    if passes.engine.prefill_first:
        # equal lengths and prompts first: all sequences start, decode and end together, wave after wave
        each = load.mean(in_groups.alone) / packed
        behind = np.maximum(running - packed, 0.0) / 2.0 * each
        wave_tpot = token + behind / np.maximum(tokens, 1.0)
        wave_rate = running / (running * each + tokens * token)
        tpot = together * wave_tpot + (1.0 - together) * tpot
        rate = together * wave_rate + (1.0 - together) * rate
        wait = together * behind + (1.0 - together) * wait
    first = load.mean(in_groups.alone) / packed
    opening = np.where(running > 1, (running + packed) / 2.0 * first, own)
    share = np.clip(1.0 / np.maximum(load.waves, 1.0), 0.0, 1.0)
    # who finds no room waits until one of those inside, Little's law among them, makes some
    inside = (own + wait + tokens * tpot) / running
    behind = np.maximum((asked - running) * inside - passes.engine.request_time, 0.0)
    wait = wait + behind
    burst = share * np.maximum(opening - own - wait, 0.0)
    ttft = entry.shared + wait + burst + passes.engine.request_time
    # Little's law over all that a client waits for, queues and front end included
    rate = asked / (load.mean(ttft) + tokens * tpot)
    shape = np.zeros_like(ttft)
    return Served(
        ttft=ttft, tpot=shape + tpot, wait=shape + wait, burst=shape + burst, prefill=entry.shared, step=step,
        stall=entry.stall_by_class, mixed_step=entry.mixed_step, running=running, rate=rate,
        saturated=np.zeros(len(running), bool), decode_cost=decode_cost, prefill_cost=entry.cost,
        prefill_passes=entry.passes, even=behind / np.maximum(wait + load.mean(burst), 1e-12),
    )  # fmt: skip


def _offline(passes: Passes, load: Load, cap: Array, again: Array) -> Served:
    """All requests at once: the replica fills, works through the queue and empties."""
    count = np.maximum(load.n_requests, 1e-9)
    room = np.minimum(count, cap)
    knots, steps = decode_curve(passes, load, room)
    packed = np.clip(passes.most(load.mean(load.new)), 1.0, np.maximum(room, 1.0))
    answers = np.maximum(load.output - 1.0, 1.0) / load.accepted
    fewest = passes.fewest(room)
    entering = np.clip(room / np.maximum(load.mean(load.output), 1.0), fewest, packed)
    _, (one_by_one, steady, in_groups) = _entries(passes, load, room, (fewest, entering, packed))
    # a pass that carries g prompts costs fixed + g each; where a decode pass has compute to spare, fixed is below zero
    each = (in_groups.stall * packed - one_by_one.stall) / np.maximum(packed - 1.0, 1e-9)
    each = np.where(packed > 1.0 + 1e-6, each, 0.0)
    each = np.maximum(each, 0.0)
    often = 1.0 + (again - 1.0) * np.maximum(1.0 - cap / count, 0.0)  # while others wait
    others = np.maximum(room - 1.0, 0.0) / np.maximum(room, 1.0)
    stall = steady.stall * often * others
    rate = _equilibrium(room, load.mean(steady.shared) * often, load.mean(answers) * steps[-1], stall)
    gone = empty(Batch(
        count=count, room=room, answers=answers, spread=load.spread, limit=(load.longest - 1.0) / load.accepted,
        share=load.share, knots=knots, steps=steps, fixed=(one_by_one.stall - each) * often, each=each * often,
        prompt=load.mean(load.new), budget=passes.most(load.mean(load.new)) * load.mean(load.new), gap=1.0 / rate,
        pace=steps[-1] / (1.0 - np.minimum(rate * stall, _FULL)),
        apart=not passes.engine.mixes,
    ))  # fmt: skip
    own = one_by_one.shared
    wait = np.maximum(gone.first - load.mean(own), 0.0)
    shape = np.zeros_like(own)
    decode_cost, _ = passes.decode(gone.running, load.decode_context, load.drafts)
    return Served(
        ttft=own + wait + passes.engine.request_time, tpot=shape + gone.tpot / load.accepted, wait=shape + wait,
        burst=shape, prefill=own, step=gone.step, stall=one_by_one.stall_by_class, mixed_step=in_groups.mixed_step,
        running=gone.running, rate=count / (gone.makespan + passes.engine.request_time),
        saturated=np.zeros(len(room), bool), decode_cost=decode_cost, prefill_cost=one_by_one.cost,
        prefill_passes=one_by_one.passes, even=1.0, waits=np.maximum(gone.entry - load.mean(own), 0.0),
    )  # fmt: skip


def decode_curve(passes: Passes, load: Load, most: Array, count: int = _KNOTS) -> tuple[Array, Array]:
    """(K, N) numbers of running sequences up to `most`, `count` of them, and the wall time of a decode pass with so
    many."""
    knots = np.exp(np.linspace(0.0, 1.0, count)[:, None] * np.log(np.maximum(most, 1.0)))
    curve = passes.run(*(passes.decode_pass(k, load.decode_context, load.drafts) for k in knots))
    return knots, np.stack([priced.wall for priced in curve])


def _equilibrium(running: Array, own: Array, decode: Array, stall: Array) -> Array:
    """Rate X with running = X (own + decode / (1 - X stall)): Little's law (Little, Oper. Res. 9(3), 1961).

    With S = stall: X^2 own S - X (own + decode + running S) + running = 0; the smaller root is the stable one.
    """
    a = own * stall
    b = own + decode + running * stall
    root = np.sqrt(np.maximum(b * b - 4.0 * a * running, 0.0))
    return 2.0 * running / (b + root)


def _open(passes: Passes, load: Load, cap: Array, again: Array) -> Served:
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
    _, (probe,) = _entries(passes, load, knots[2], (entering,))
    busy = np.minimum(rate * probe.stall, _FULL)
    running = _fixed_point(knots, steps, rate * output / (1.0 - busy), room)
    seen = np.minimum(running + 1.0, room)  # a sequence meets a Poisson number of others, itself on top
    entering = np.clip(rate * interpolate(knots, steps, seen) * load.accepted, passes.fewest(seen), packed)
    (decode_cost, step), (entry,) = _entries(passes, load, seen, (entering,))
    # mean over that number: Gauss-Hermite with three points, sqrt(3) deviations apart
    aside = np.minimum(np.sqrt(3.0 * running), np.minimum(seen - 1.0, room - seen))
    beside = (seen - aside, seen + aside)
    less, more = passes.run(*(passes.decode_pass(n, load.decode_context, load.drafts) for n in beside))
    step = (4.0 * step + less.wall + more.wall) / 6.0
    token = step / load.accepted
    own = load.mean(entry.shared)
    often = np.concatenate([np.ones_like(knots[:-1]), again[None]])
    ends = _equilibrium(knots, own * often, output * steps, entry.stall * often)
    most = ends[-1]
    saturated = ((rate > most) | (running >= room * 0.999)) & (asked > cap) | (rate * entry.stall >= _FULL)
    served = np.where(saturated, np.minimum(rate, most), rate)
    busy = np.minimum(served * entry.stall, _FULL)
    uneven = np.sqrt(load.mean(np.square(entry.shared / np.maximum(own, 1e-12) - 1.0)))
    prompts = np.minimum(served * own / entering, _FULL)
    under_way = -np.expm1(-running)  # chance that a pass is, with a Poisson number of sequences running
    wait = eq.queue_wait(prompts, own, load.cv, uneven) + under_way * step / 2.0
    wait = np.minimum(wait, asked * own / entering / 2.0)  # no more prompts can be ahead than there are
    # prompts that came while one's own waited and was computed are still to come, and hold up its answer
    met = served * entry.stall * (own + wait) / np.maximum(output, 1.0)
    several = load.mean(np.square(load.output) * (1.0 + np.square(load.spread))) / np.square(load.mean(load.output))
    varied = np.square(load.cv) + several - 1.0
    full = np.minimum(room_wait(served, knots, ends, room, varied / 2.0), walk_wait(served, asked - cap, varied))
    wait = wait + np.where(saturated | (asked <= cap), 0.0, full)
    # no answer goes slower than in a full replica
    fullest = np.maximum(steps[-1] / (1.0 - np.minimum(most * entry.stall, _FULL)), token / (1.0 - busy))
    pace = np.minimum((token + met) / (1.0 - busy), fullest)
    behind = np.where(saturated & (rate > served), np.inf, 0.0)
    shape = np.zeros_like(entry.shared)
    steady = Served(
        ttft=entry.shared + wait + behind + passes.engine.request_time, tpot=shape + pace,
        wait=shape + wait + behind, burst=shape, prefill=entry.shared, step=step, stall=entry.stall_by_class,
        mixed_step=entry.mixed_step, running=running, rate=served, saturated=saturated, decode_cost=decode_cost,
        prefill_cost=entry.cost, prefill_passes=entry.passes, even=np.isinf(behind) * 1.0, seen=seen,
    )  # fmt: skip
    brief = np.isfinite(load.n_requests)
    return _brief(steady, passes, load, (cap, again), brief & (rate > most)) if brief.any() else steady


def _brief(
    steady: Served, passes: Passes, load: Load, limits: tuple[Array, Array], crowded: np.ndarray
) -> Served:  # fmt: skip
    """A run of n requests at a rate: it lasts until the last answer ends, and where more come than can be served
    (`crowded`, (N,)) it is the batch of them all, less the time that they took to come. limits: `cap` and `again`.

    Even where there is room, who comes waits for the pass under way.
    """
    brief = np.isfinite(load.n_requests)
    count = np.where(brief, load.n_requests, 1.0)
    batch = _offline(passes, replace(load, n_requests=count), *limits)
    span, least = count / load.rate, steady.step / 2.0
    wait = np.where(crowded, least + np.maximum(batch.wait - span / 2.0, 0.0), steady.wait)
    waits = least + np.maximum(batch.waits - np.array(list(RANKS.values()))[:, None] * span, 0.0)
    tpot = np.where(crowded, batch.tpot, steady.tpot)
    last = longest(load.mean(load.output), load.spread, np.minimum(steady.running, count))
    tail = np.minimum(last, np.maximum(load.longest, load.mean(load.output))) * load.mean(tpot)
    makespan = np.maximum(count / batch.rate, span + load.mean(steady.prefill) + tail)
    return replace(
        steady, ttft=steady.prefill + wait + passes.engine.request_time, tpot=tpot, wait=wait,
        rate=np.where(brief, count / makespan, steady.rate), even=np.where(crowded, 1.0, steady.even),
        waits=np.where(crowded, waits, np.nan),
    )  # fmt: skip


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
