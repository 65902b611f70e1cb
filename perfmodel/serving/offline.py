"""Offline: all requests are queued at the start."""

from __future__ import annotations

import numpy as np

from perfmodel.arrays import Array
from perfmodel.serving.curve import DecodeCurve, decode_curve
from perfmodel.serving.drain import Drained, drain
from perfmodel.serving.limits import TINY_COUNT
from perfmodel.serving.offline_batch import OfflineBatch, PrefillCost, SteadyState
from perfmodel.serving.output_ages import OutputLengths
from perfmodel.serving.prefills import PrefillTimes, largest_group, prefill_times
from perfmodel.serving.queueing import equilibrium_rate, prompts_per_step, share_of_others, slowed_tpot
from perfmodel.serving.served import RequestTimes, Served, StepCosts, StepTimes, WaitShape
from perfmodel.serving.steps import StepModel
from perfmodel.workload import Load

#: Groups less than this above one prompt have no slope per prompt.
_LONE_GROUP = 1.0 + 1e-6


def offline(steps: StepModel, load: Load, max_running: Array, prefills_per_request: Array) -> Served:
    """Estimate a run whose requests are all queued at the start: the replica fills, works through the queue and drains.

    Args:
        steps: computes cost and time of steps of the N candidates.
        load: load of one replica.
        max_running: sequences that run at once, (N,).
        prefills_per_request: expected prefills per request while others queue for admission, (N,).
    """
    count = np.maximum(load.n_requests, TINY_COUNT)
    running = np.minimum(count, max_running)
    curve = decode_curve(steps, load, running)
    least, most = steps.min_prompts_per_step(running), largest_group(steps, load, running)
    entering = prompts_per_step(running, load.mean(load.output), least, most)
    _, (single, steady, grouped) = prefill_times(steps, load, running, (least, entering, most))
    # prompts are prefilled again only while others queue
    repeats = 1.0 + (prefills_per_request - 1.0) * np.maximum(1.0 - max_running / count, 0.0)
    fixed, each = prefill_line(single.interference, grouped.interference, most)
    outputs = _output_lengths(load)
    drained = drain(
        OfflineBatch(
            count=count,
            max_running=running,
            outputs=outputs,
            curve=curve,
            prefill=PrefillCost(
                fixed=fixed * repeats,
                each=each * repeats,
                prompt=load.mean(load.new),
                budget=steps.max_prompts_per_step(load.mean(load.new)) * load.mean(load.new),
                separate=not steps.engine.mixes_prefill,
            ),
            steady=_steady_state(load, running, curve, steady, (outputs.mean, repeats)),
        )
    )
    return _served(steps, load, drained, count, (single, grouped))


def prefill_line(single: Array, grouped: Array, group: Array) -> tuple[Array, Array]:
    """Split the added time of a step that carries g prompts into (fixed, each): fixed + g each seconds, (N,) both.

    Derived: the line through the two points. Where a decode step has compute to spare, `fixed` is below zero.

    Args:
        single: interference per prompt where prompts enter one at a time, seconds, (N,).
        grouped: interference per prompt in groups of `group`, seconds, (N,).
        group: prompts of a full group, (N,).
    """
    each = (grouped * group - single) / np.maximum(group - 1.0, TINY_COUNT)
    each = np.maximum(np.where(group > _LONE_GROUP, each, 0.0), 0.0)
    return single - each, each


def _output_lengths(load: Load) -> OutputLengths:
    """Convert output lengths from tokens to decode steps.

    The prefill yields the first token; each decode step yields `accepted` tokens.
    """
    return OutputLengths(
        mean=np.maximum(load.output - 1.0, 1.0) / load.accepted,
        cv=load.length_cv,
        longest=(load.longest - 1.0) / load.accepted,
        share=load.share,
    )


def _steady_state(
    load: Load, running: Array, curve: DecodeCurve, prefill: PrefillTimes, lengths: tuple[Array, Array]
) -> SteadyState:
    """Estimate the middle of a long batch, while the queue keeps the replica full.

    `lengths` is (decode steps per output (C, N), prefills per request (N,)).
    """
    decode_steps, repeats = lengths
    interference = prefill.interference * repeats * share_of_others(running)
    decode = load.mean(decode_steps) * curve.time[-1]
    rate = equilibrium_rate(running, load.mean(prefill.shared) * repeats, decode, interference)
    return SteadyState(request_gap=1.0 / rate, tpot=slowed_tpot(curve.time[-1], rate * interference))


def _served(
    steps: StepModel, load: Load, drained: Drained, count: Array, prefills: tuple[PrefillTimes, PrefillTimes]
) -> Served:
    """Convert the simulated batch of `count` requests (N,) into a `Served`.

    `prefills` holds the prefill times of prompts that enter one at a time, and of prompts in full groups.
    """
    single, grouped = prefills
    own, mean_own = single.shared, load.mean(single.shared)
    wait = np.maximum(drained.first - mean_own, 0.0)
    zero = np.zeros_like(own)
    decode = steps.decode(drained.running, load.decode_context, load.drafts)
    return Served(
        times=RequestTimes(
            ttft=own + wait + steps.engine.request_time,
            tpot=zero + drained.tpot / load.accepted,
            wait=zero + wait,
            burst=zero,
            prefill=own,
        ),
        steps=StepTimes(decode=drained.step, mixed=grouped.mixed_step, interference=single.interference_by_class),
        costs=StepCosts(decode=decode.cost, prefill=single.cost, prefill_steps=single.n_steps, prompts=single.planned),
        running=drained.running,
        rate=count / (drained.makespan + steps.engine.request_time),
        saturated=np.zeros(len(count), bool),
        waits=WaitShape(uniform_share=1.0, by_rank=np.maximum(drained.entry - mean_own, 0.0)),
    )
