"""Offline: all requests wait at the start."""

from __future__ import annotations

import numpy as np

from perfmodel.arrays import Array
from perfmodel.serving.drain import Batch, empty
from perfmodel.serving.entering import _FULL, _entries, _equilibrium, decode_curve
from perfmodel.serving.served import Served
from perfmodel.serving.steps import Passes
from perfmodel.workload.load import Load


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
