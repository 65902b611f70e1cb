"""Offline: all requests wait at the start."""

from __future__ import annotations

import numpy as np

from perfmodel.arrays import Array
from perfmodel.serving.drain import Batch, empty
from perfmodel.serving.entering import FULL_BATCH, decode_curve, entries, equilibrium
from perfmodel.serving.served import Served
from perfmodel.serving.steps import StepModel
from perfmodel.workload import Load


def offline(passes: StepModel, load: Load, cap: Array, again: Array) -> Served:
    """All requests at once: the replica fills, works through the queue and empties."""
    count = np.maximum(load.n_requests, 1e-9)
    room = np.minimum(count, cap)
    knots, steps = decode_curve(passes, load, room)
    packed = np.clip(passes.most(load.mean(load.new)), 1.0, np.maximum(room, 1.0))
    answers = np.maximum(load.output - 1.0, 1.0) / load.accepted
    fewest = passes.fewest(room)
    entering = np.clip(room / np.maximum(load.mean(load.output), 1.0), fewest, packed)
    _, (one_by_one, steady, in_groups) = entries(passes, load, room, (fewest, entering, packed))
    # a pass that carries g prompts costs fixed + g each; where a decode pass has compute to spare, fixed is below zero
    each = (in_groups.interference * packed - one_by_one.interference) / np.maximum(packed - 1.0, 1e-9)
    each = np.where(packed > 1.0 + 1e-6, each, 0.0)
    each = np.maximum(each, 0.0)
    often = 1.0 + (again - 1.0) * np.maximum(1.0 - cap / count, 0.0)  # while others wait
    others = np.maximum(room - 1.0, 0.0) / np.maximum(room, 1.0)
    interference = steady.interference * often * others
    rate = equilibrium(room, load.mean(steady.shared) * often, load.mean(answers) * steps[-1], interference)
    gone = empty(
        Batch(
            count=count,
            room=room,
            answers=answers,
            length_cv=load.length_cv,
            limit=(load.longest - 1.0) / load.accepted,
            share=load.share,
            knots=knots,
            steps=steps,
            fixed=(one_by_one.interference - each) * often,
            each=each * often,
            prompt=load.mean(load.new),
            budget=passes.most(load.mean(load.new)) * load.mean(load.new),
            gap=1.0 / rate,
            pace=steps[-1] / (1.0 - np.minimum(rate * interference, FULL_BATCH)),
            apart=not passes.engine.mixes,
        )
    )
    own = one_by_one.shared
    wait = np.maximum(gone.first - load.mean(own), 0.0)
    shape = np.zeros_like(own)
    decode_cost, _ = passes.decode(gone.running, load.decode_context, load.drafts)
    return Served(
        ttft=own + wait + passes.engine.request_time,
        tpot=shape + gone.tpot / load.accepted,
        wait=shape + wait,
        burst=shape,
        prefill=own,
        step=gone.step,
        interference=one_by_one.interference_by_class,
        mixed_step=in_groups.mixed_step,
        running=gone.running,
        rate=count / (gone.makespan + passes.engine.request_time),
        saturated=np.zeros(len(room), bool),
        decode_cost=decode_cost,
        prefill_cost=one_by_one.cost,
        prefill_steps=one_by_one.passes,
        even=1.0,
        waits=np.maximum(gone.entry - load.mean(own), 0.0),
    )
