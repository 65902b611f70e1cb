"""Offline: all requests are queued at the start."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from perfmodel.arrays import Array
from perfmodel.memory import sequence_bytes
from perfmodel.serving.limits import MAX_RUNNING, TINY_COUNT
from perfmodel.serving.offline_batches.drain import Drained
from perfmodel.serving.offline_batches.joint_drains import drained
from perfmodel.serving.offline_batches.offline_batch import (
    STREAM,
    OfflineBatch,
    Places,
    PrefillCost,
    PrefillLine,
    SteadyState,
)
from perfmodel.serving.offline_batches.output_ages import OutputLengths
from perfmodel.serving.queues.queueing import equilibrium_rate, prompts_per_step, share_of_others, slowed_tpot
from perfmodel.serving.queues.variation import variation_of
from perfmodel.serving.served import RequestTimes, Served, StepCosts, StepTimes, TokenShape, WaitShape
from perfmodel.serving.step_times.curve import DecodeCurve, planned_curve
from perfmodel.serving.step_times.mixed_steps import MixedSteps, mixed_steps
from perfmodel.serving.step_times.planned_step import PricedStep
from perfmodel.serving.step_times.prefills import (
    PrefillTimes,
    held_beside,
    largest_group,
    most_decoding,
    most_together,
    prefill_times_beside,
    whole_prompts,
)
from perfmodel.serving.step_times.steps import StepModel
from perfmodel.serving.step_times.token_spread import longest_delay
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
    batch, prefills = _batch(steps, load, max_running, prefills_per_request)
    return _served(steps, load, drained(steps.costs, batch), prefills)[0]


def arriving(
    steps: StepModel, load: Load, max_running: Array, prefills_per_request: Array
) -> tuple[Served, Served, Array, tuple[DecodeCurve, MixedSteps]]:
    """Estimate a run whose requests are all queued at the start, and one in which they arrive evenly at `load.rate`.

    The latter's waits are counted from the start of the run. Returned with the share of its requests that find the
    replica full, (N,), with the seconds per output token, and with its steps with prompts. Arguments as in `offline`.
    """
    batch, prefills = _batch(steps, load, max_running, prefills_per_request)
    curve = batch.curve.per_token(load.accepted)
    mixed = mixed_steps(steps, load, curve)
    first = mixed if mixed.separate else None
    spread = replace(batch, gap=1.0 / load.rate, variation=variation_of(load), first=first)
    queued, late = drained(steps.costs, batch, spread)
    at_once, in_turn = _served(steps, load, [queued, late], prefills)
    return at_once, in_turn, late.full, (curve, mixed)


def _batch(
    steps: StepModel, load: Load, max_running: Array, prefills_per_request: Array
) -> tuple[OfflineBatch, tuple[PrefillTimes, PrefillTimes]]:
    """Return the batch of `offline`, and the prefill times of prompts that enter one at a time and in full groups."""
    count = np.maximum(load.n_requests, TINY_COUNT)
    outputs = _output_lengths(load)
    running = np.minimum(count, max_running)
    places = _places(steps, load, max_running)
    young = np.minimum(count, np.minimum(max_running / places.young, places.most))
    knots = planned_curve(steps, load, running, beyond=young)
    crowd = np.minimum(running, most_decoding(steps, load, load.mean(outputs.mean)))
    least, most = steps.min_prompts_per_step(crowd), _whole_group(steps, load, crowd)
    answer = load.mean(load.output) / load.accepted
    entering = prompts_per_step(crowd, answer, least, largest_group(steps, load, running))
    groups = (least, entering, most)
    _, (single, steady, grouped), (decoded,) = prefill_times_beside(steps, load, crowd, groups, (knots.step,))
    curve = knots.priced(decoded)
    # prompts are prefilled again only while others queue
    repeats = 1.0 + (prefills_per_request - 1.0) * np.maximum(1.0 - max_running / count, 0.0)
    lines = _prefill_lines(steps, load, curve.time[0], (single, grouped), (least, most))
    least_gap = load.mean(grouped.apart.busy(steps.sharding.pp)) / most * repeats
    batch = OfflineBatch(
        count=count,
        max_running=running,
        outputs=outputs,
        curve=curve,
        prefill=_prefill_cost(steps, load, lines, (crowd, repeats, least_gap)),
        places=places,
        steady=_steady_state(load, crowd, curve, steady, (outputs.mean, repeats)).no_faster(least_gap),
    )
    return batch, (single, grouped)


def _places(steps: StepModel, load: Load, max_running: Array) -> Places:
    """Return what sequences hold of a KV cache that limits their number, where those that begin hold less.

    Derived: `max_running` sequences of mean length fit, but while a run begins all are young. An engine that allocates
    blocks as sequences grow admits as many prompts as fit; what lacks later is taken from the newest, who pause
    (PagedAttention, arXiv:2309.06180, section 4.5). One that reserves the whole length admits answers as they come,
    while those that run are long ones, the longer the older: their mean is taken to rise evenly with age, to what
    running ones hold at their mean age. Engines that keep room for what running sequences have yet to write
    (`Engine.admission_headroom`) hardly preempt: there each counts at its mean length.
    """
    limit = np.minimum(steps.max_num_seqs, MAX_RUNNING)
    if steps.engine.admission not in ("grow", "reserve") or steps.engine.admission_headroom > 0.0:
        return Places(most=max_running)
    young, held, rise = load.mean(load.input), load.held(0.5), load.accepted
    if steps.engine.admission == "reserve":
        young, held, age = young + load.mean(load.output), load.held(1.0), (load.held(1.0) - load.held(0.0)) / 2.0
        rise = load.accepted * np.maximum(held - young, 0.0) / np.maximum(age, TINY_COUNT)
    begun, mean, later = (sequence_bytes(steps.sharding, tokens) for tokens in (young, held, held + rise))
    grows = (max_running < limit) & (later > mean)  # states and full windows have their size from the start
    mean = np.where(grows, mean, 1.0)
    return Places(
        young=np.where(grows, np.minimum(begun / mean, 1.0), 1.0),
        growth=np.where(grows, later / mean - 1.0, 0.0),
        most=np.where(grows, limit, max_running),
    )


def _prefill_cost(
    steps: StepModel, load: Load, lines: tuple[PrefillLine, PrefillLine], columns: tuple[Array, Array, Array]
) -> PrefillCost:
    """Return what prompts cost on top of decode steps.

    Args:
        lines: as `_prefill_lines` returns them.
        columns: sequences that the second of them is of, prefills per request, and least seconds per prompt, (N,) each.
    """
    running, repeats, least_gap = columns
    few, full = (PrefillLine(line.fixed * repeats, line.each * repeats) for line in lines)
    return PrefillCost(
        few=few,
        full=full,
        running=running,
        prompt=load.mean(load.new),
        budget=_tokens_per_step(steps, load),
        separate=not steps.engine.mixes_prefill,
        whole=whole_prompts(steps, load),
        alone=least_gap,
    )


def _whole_group(steps: StepModel, load: Load, running: Array) -> Array:
    """Return the prompts that fill one step or, where fewer than `STREAM` do, the fewest that fill whole steps. (N,)

    Where prompts share steps with the decodes of `running` sequences, these take their part of the token budget. Never
    more than the `running` sequences.
    """
    if not steps.engine.mixes_prefill:
        return largest_group(steps, load, running)
    per_step = held_beside(steps, load, np.maximum(running - 1.0, 0.0))
    cut = (per_step < STREAM) & ~whole_prompts(steps, load).uncut
    filling = np.where(cut, np.ceil(STREAM / per_step), 1.0) * per_step
    return np.clip(filling, 1.0, np.maximum(running, 1.0))


def _tokens_per_step(steps: StepModel, load: Load) -> Array:
    """Return the most prompt tokens of a step, (N,): the budget, or one whole prompt where prompts are not cut."""
    if steps.engine.mixes_prefill:
        return steps.token_budget * steps.sharding.pp
    return np.asarray(most_together(steps, load) * load.mean(load.new))


def _prefill_lines(
    steps: StepModel, load: Load, alone: Array, prefills: tuple[PrefillTimes, PrefillTimes], groups: tuple[Array, Array]
) -> tuple[PrefillLine, PrefillLine]:
    """Return the time that prompts add to a decode step of one sequence, and to one of a full batch.

    Args:
        alone: seconds of a decode step of one sequence, (N,).
        prefills: prefill times of prompts that enter one at a time, and of prompts in full groups.
        groups: prompts that enter together in either, (N,) each.
    """
    single, grouped = (p.interference for p in prefills)
    full = prefill_line(single, grouped, groups[1])
    if not steps.engine.mixes_prefill:
        return full, full
    single, grouped = (
        load.mean(p.apart.delaying(alone, steps.sharding.pp)) / g for p, g in zip(prefills, groups, strict=True)
    )
    return prefill_line(single, grouped, groups[1]), full


def prefill_line(single: Array, grouped: Array, group: Array) -> PrefillLine:
    """Split the added time of a step that carries g prompts into a part per step and a part per prompt.

    Derived: the line through the two points. Where a decode step has compute to spare, `fixed` is below zero.

    Args:
        single: interference per prompt where prompts enter one at a time, seconds, (N,).
        grouped: interference per prompt in groups of `group`, seconds, (N,).
        group: prompts of a full group, (N,).
    """
    each = (grouped * group - single) / np.maximum(group - 1.0, TINY_COUNT)
    each = np.maximum(np.where(group > _LONE_GROUP, each, 0.0), 0.0)
    return PrefillLine(single - each, each)


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
    step = curve.at(running)
    rate = equilibrium_rate(running, load.mean(prefill.shared) * repeats, load.mean(decode_steps) * step, interference)
    return SteadyState(request_gap=1.0 / rate, tpot=slowed_tpot(step, rate * interference), running=running, step=step)


def _prompt_time(load: Load, drained: Drained, prefills: tuple[PrefillTimes, PrefillTimes]) -> Array:
    """Return the seconds of steps that compute nothing but prompts, per request, (C, N).

    Derived: what decode steps leave of the time of the run, no more than of prompts that are computed one by one, and
    no less than of full groups. The arguments are those of `_served`.
    """
    single, grouped = (p.own for p in prefills)
    decode_steps = load.mean(np.maximum(load.output - 1.0, 0.0)) / load.accepted
    decoding = decode_steps * drained.step / np.maximum(drained.running, TINY_COUNT)  # of a run that decodes nothing, 0
    left = drained.makespan / np.maximum(load.n_requests, TINY_COUNT) - decoding
    return np.clip(single * left / load.mean(single), np.minimum(grouped, single), single)


def _served(
    steps: StepModel, load: Load, batches: list[Drained], prefills: tuple[PrefillTimes, PrefillTimes]
) -> list[Served]:
    """Convert simulated batches into a `Served` each.

    `prefills` holds the prefill times of prompts that enter one at a time, and of prompts in full groups.
    """
    decodes = steps.run(*(steps.decode_step(b.running, load.decode_context, load.drafts) for b in batches))
    return [_converted(steps, load, b, prefills, d) for b, d in zip(batches, decodes, strict=True)]


def _converted(
    steps: StepModel, load: Load, drained: Drained, prefills: tuple[PrefillTimes, PrefillTimes], decode: PricedStep
) -> Served:
    """Convert a simulated batch into a `Served`. decode: a step of the sequences that run in it on average."""
    (single, grouped), count = prefills, np.maximum(load.n_requests, TINY_COUNT)
    own, mean_own = single.shared, load.mean(single.shared)
    end = drained.makespan + load.mean(steps.request_time(load.input))
    wait = np.maximum(drained.first - mean_own, 0.0)
    zero = np.zeros_like(own)
    return Served(
        times=RequestTimes(
            ttft=own + wait + steps.request_time(load.input),
            tpot=zero + drained.tpot / load.accepted,
            wait=zero + wait,
            burst=zero,
            prefill=own,
        ),
        steps=StepTimes(decode=drained.step, mixed=grouped.mixed_step, interference=single.interference_by_class),
        costs=StepCosts(
            decode=decode.cost,
            prefill=single.cost,
            prefill_steps=single.n_steps,
            prompt=_prompt_time(load, drained, prefills),
            prompts=single.planned,
        ),
        running=drained.running,
        rate=count / end,
        saturated=np.zeros(len(count), bool),
        waits=WaitShape(uniform_share=1.0, by_rank=np.maximum(drained.entry - mean_own, 0.0), end=end),
        tokens=TokenShape(
            settling=drained.settling,
            settling_share=drained.together,
            settling_most=longest_delay(steps, load, drained.step, grouped),
            drift=drained.drift,
            pace=drained.pace,
            pace_by_start=drained.pace_by_start,
        ),
    )
