"""Time of prefills that enter a running batch, and what they cost its decodes (interference)."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from perfmodel.arrays import Array
from perfmodel.costs import StepCost
from perfmodel.serving.planned_step import PlannedStep, PricedStep
from perfmodel.serving.queueing import cv_over_classes
from perfmodel.serving.steps import StepModel
from perfmodel.workload import Load


@dataclass(frozen=True)
class PrefillTimes:
    """Prefills at a given number of running sequences and prompts per step. Seconds, by class (C, N) or mean (N,).

    alone: wall time of a group's steps without decodes, (C, N). shared: wall time of a group's steps, shared with
    decodes where the engine mixes them, (C, N). interference: what one prompt adds to the decode of the others, mean
    (N,); interference_by_class, (C, N). mixed_step: a decode step with prompts in it (where prefill goes first: a
    prefill followed by a decode step), (N,). cost: device cost of one prefill step. n_steps: prefill steps per prompt,
    (C, N); below 1 where prompts share a step.
    """

    alone: Array
    shared: Array
    interference: Array
    interference_by_class: Array
    mixed_step: Array
    cost: StepCost
    n_steps: Array

    def cv(self, load: Load) -> Array:
        """Coefficient of variation of prefill times over the classes. (N,)"""
        return cv_over_classes(self.shared, load.mean)

    def repeated(self, prefills: Array) -> PrefillTimes:
        """The same where each request is prefilled `prefills` times (N,), once and after each preemption."""
        return replace(self, interference=self.interference * prefills, n_steps=self.n_steps * prefills)


def prefill_times(
    steps: StepModel, load: Load, running: Array, groups: tuple[Array, ...]
) -> tuple[PricedStep, list[PrefillTimes]]:
    """(the decode step, prefill times per entry of `groups`) while `running` sequences decode.

    Engines that prefill first stop decoding meanwhile. Where prompts share steps with decodes, they cost the decodes
    only what the steps get longer.

    Args:
        steps: prices steps.
        load: load of one replica.
        running: decoding sequences, (N,).
        groups: numbers of prompts that enter together, (N,) each.
    """
    decode = steps.decode_step(running, load.decode_context, load.drafts)
    apart = [steps.prefill_step(load.new, load.cached, g) for g in groups]
    mixed = [
        steps.mixed_step(load.new, load.cached, g, running, load.decode_context)
        for g in groups
        if steps.engine.mixes_prefill
    ]
    decoded, *priced = steps.run(decode, *apart, *mixed)
    times = []
    for i, group in enumerate(groups):
        alone = (apart[i], priced[i])
        if mixed:
            times.append(_mixed(steps, load, group, decoded.wall, alone, (mixed[i], priced[len(groups) + i])))
        else:
            times.append(_prefill_first(steps, load, group, decoded.wall, alone))
    return decoded, times


def _mixed(
    steps: StepModel,
    load: Load,
    group: Array,
    decode_time: Array,
    alone: tuple[PlannedStep, PricedStep],
    mixed: tuple[PlannedStep, PricedStep],
) -> PrefillTimes:
    """Prefill times of an engine whose prompts share steps with decodes (chunked prefill)."""
    longer = np.maximum(mixed[1].wall - decode_time, 0.0)
    interference = mixed[0].n_steps * longer / steps.sharding.pp / group
    return PrefillTimes(
        alone=steps.pipelined(alone[1].wall, alone[0].n_steps),
        shared=steps.pipelined(mixed[1].wall, mixed[0].n_steps),
        interference=load.mean(interference),
        interference_by_class=interference,
        mixed_step=load.mean(mixed[1].wall),
        cost=alone[1].cost,
        n_steps=alone[0].n_steps / group,
    )


def _prefill_first(
    steps: StepModel, load: Load, group: Array, decode_time: Array, alone: tuple[PlannedStep, PricedStep]
) -> PrefillTimes:
    """Prefill times of an engine whose decodes stop while it prefills."""
    wall = steps.pipelined(alone[1].wall, alone[0].n_steps)
    interference = wall / group
    return PrefillTimes(
        alone=wall,
        shared=wall,
        interference=load.mean(interference),
        interference_by_class=interference,
        mixed_step=load.mean(wall) + decode_time,
        cost=alone[1].cost,
        n_steps=alone[0].n_steps / group,
    )


def blend(apart: PrefillTimes, grouped: PrefillTimes, share: Array) -> PrefillTimes:
    """Times where `share` (N,) of the prompts enters in groups; costs and steps are those of prompts entering apart."""
    names = ("alone", "shared", "interference", "interference_by_class", "mixed_step")
    mixed = {n: (1.0 - share) * getattr(apart, n) + share * getattr(grouped, n) for n in names}
    return replace(apart, **mixed)


def largest_group(steps: StepModel, load: Load, running: Array) -> Array:
    """Most prompts of mean length that one step computes, at most the `running` sequences. (N,)"""
    return np.clip(steps.max_prompts_per_step(load.mean(load.new)), 1.0, np.maximum(running, 1.0))
