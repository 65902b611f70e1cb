"""Closed loop: a fixed number of requests in flight."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from perfmodel import equations as eq
from perfmodel.arrays import Array
from perfmodel.serving.entering import FULL_BATCH, blend, entries, equilibrium
from perfmodel.serving.served import Served
from perfmodel.serving.steps import StepModel
from perfmodel.workload import Load


def closed_loop(passes: StepModel, load: Load, cap: Array, again: Array) -> Served:
    """Fixed concurrency: as many at once as fit, all others waiting."""
    asked = np.maximum(load.concurrency, 1e-9)
    running = np.minimum(asked, cap)
    packed = np.clip(passes.most(load.mean(load.new)), 1.0, np.maximum(running, 1.0))
    together = load.synchronised * passes.engine.synchronised
    # sequences end after as many passes as they have tokens, and as many prompts take their places in each
    entering = np.clip(running / np.maximum(load.mean(load.output), 1.0), passes.fewest(running), packed)
    (decode_cost, step), (one_by_one, in_groups) = entries(passes, load, running, (entering, packed))
    token = step / load.accepted
    entry = blend(one_by_one, in_groups, together)
    often = np.where(asked > cap, again, 1.0)
    entry = replace(entry, interference=entry.interference * often, passes=entry.passes * often)

    # residence = own prefill + output * token / (1 - others' prompts): solve X running = ... as a quadratic in X;
    # those of one's own group compute their prompts in the same passes and do not hold one's answer up
    mixing = passes.engine.mixes
    group = 1.0 + together * (packed - 1.0) if mixing else np.ones_like(packed)
    others = np.maximum(running - group, 0.0) / np.maximum(running, 1.0)
    own = load.mean(entry.shared)
    tokens = np.maximum(load.mean(load.output) - 1.0, 0.0)
    rate = equilibrium(running, own * often, tokens * token, entry.interference * others)
    tpot = token / (1.0 - np.minimum(rate * entry.interference * others, FULL_BATCH))
    busy = np.minimum(rate * others * own / entering, FULL_BATCH)
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
    share = np.clip(1.0 / np.maximum(load.requests_per_client, 1.0), 0.0, 1.0)
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
        ttft=ttft,
        tpot=shape + tpot,
        wait=shape + wait,
        burst=shape + burst,
        prefill=entry.shared,
        step=step,
        interference=entry.interference_by_class,
        mixed_step=entry.mixed_step,
        running=running,
        rate=rate,
        saturated=np.zeros(len(running), bool),
        decode_cost=decode_cost,
        prefill_cost=entry.cost,
        prefill_steps=entry.passes,
        even=behind / np.maximum(wait + load.mean(burst), 1e-12),
    )
