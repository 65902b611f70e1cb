"""Compute the time of prefills that enter a running batch, and how much they delay its decodes (interference)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from perfmodel.arrays import Array, Mask
from perfmodel.costs import StepCost
from perfmodel.lazy_fields import LazyFields, LazyValue, lazy_value
from perfmodel.serving.queues.queueing import cv_over_classes
from perfmodel.serving.step_times.planned_step import (
    PlannedPrompts,
    PlannedStep,
    PricedPrompts,
    PricedStep,
    prefill_budget,
)
from perfmodel.serving.step_times.steps import StepModel
from perfmodel.workload import Load

#: Fields of `PrefillTimes` that are seconds, besides `alone` and `own`.
_TIMES = ("shared", "interference", "interference_by_class", "mixed_step", "mean_step")
#: Part of a step that is rounding of the tokens that fill it.
_ROUNDING = 1e-9
#: Candidates from which steps that few callers read are priced when they are read. Chosen: with fewer, another call of
#: the cost models takes longer than pricing them beside other steps.
_MANY = 1024


@dataclass(frozen=True)
class PrefillTimes(LazyFields):
    """Hold prefill times at a given number of running sequences and of prompts per step.

    Values are seconds, by request class (C, N) or their mean (N,).

    alone: wall time of a group's steps without decodes, (C, N). shared: wall time of a group's steps together with the
    decodes, where the engine mixes them, (C, N). own: the part of `alone` that is one prompt's, (C, N). interference:
    what one prompt adds to the decode of the others, mean (N,); interference_by_class, (C, N). mixed_step: the longest
    decode step with prompts in it, mean_step: the mean of those (where prefill goes first: a prefill followed by a
    decode step), (N,). cost: device cost of one prefill step. n_steps: prefill steps per prompt, (C, N); below 1 where
    one step computes several prompts. planned: the steps that `shared` is the time of. apart: the steps of a group
    without decodes. What follows from `apart` may be computed when it is read.
    """

    alone: Array
    shared: Array
    own: Array
    interference: Array
    interference_by_class: Array
    mixed_step: Array
    mean_step: Array
    cost: StepCost
    n_steps: Array
    planned: PlannedPrompts
    apart: PricedPrompts

    def cv(self, load: Load) -> Array:
        """Return the coefficient of variation of prefill times over the requests of `load`, (N,).

        Classes differ, and prompts within a class: by what a longer prompt adds to a step.
        """
        apart = cv_over_classes(self.shared, load.mean)
        if not np.any(load.prompt_spread > 0.0):
            return apart
        within = np.sqrt(np.expm1(np.square(load.prompt_spread))) * np.minimum(self.interference_by_class, self.shared)
        return np.sqrt(np.square(apart) + load.mean(np.square(within)) / np.square(load.mean(self.shared)))

    def longer(self, factor: Array) -> PrefillTimes:
        """Return these times where the steps of prompts take `factor` (N,) times as long."""
        times = {n: factor * getattr(self, n) for n in _TIMES}
        return self.changed(
            alone=lazy_value(lambda: factor * self.alone), own=lazy_value(lambda: factor * self.own), **times
        )

    def repeated(self, prefills: Array) -> PrefillTimes:
        """Return these times where each request is prefilled `prefills` times, (N,).

        That is once, and again after each preemption.
        """
        return self.changed(interference=self.interference * prefills, n_steps=self.n_steps * prefills)


def prefill_times(
    steps: StepModel, load: Load, running: Array, groups: tuple[Array, ...]
) -> tuple[PricedStep, list[PrefillTimes]]:
    """Return (the decode step, prefill times per entry of `groups`) while `running` sequences decode.

    Engines that prefill first stop decoding meanwhile. Where prompts are computed in the same steps as decodes, they
    delay the decodes only by what the steps get longer.

    Args:
        steps: computes cost and time of steps.
        load: load of one replica.
        running: decoding sequences, (N,).
        groups: numbers of prompts that enter together, (N,) each.
    """
    decode, times, _ = prefill_times_beside(steps, load, running, groups, ())
    return decode, times


def prefill_times_beside(
    steps: StepModel,
    load: Load,
    running: Array,
    groups: tuple[Array, ...],
    others: tuple[PlannedStep, ...],
    *,
    defer: bool = False,
) -> tuple[PricedStep, list[PrefillTimes], list[PricedStep]]:
    """Do as `prefill_times`, and price other decode steps in the same call, which has a fixed cost.

    others: these steps. defer: whether the steps without decodes of many candidates are priced only when they are read.
    """
    decode = steps.decode_step(running, load.decode_context, load.drafts)
    apart = [steps.prefill_steps(load.new, load.cached, g, spread=True) for g in groups]
    mixed = [
        steps.mixed_steps(load.new, load.cached, g, running, load.decode_context)
        for g in groups
        if steps.engine.mixes_prefill
    ]
    if not mixed:
        (decoded, *beside), alone = steps.run_prompts(*apart, decodes=(decode, *others))
        times = zip(groups, alone, strict=True)
        return decoded, [_prefill_first(steps, load, group, decoded.wall, each) for group, each in times], beside
    if defer and len(running) >= _MANY:
        (decoded, *beside), shared = steps.run_prompts(*mixed, decodes=(decode, *others))
        pending = LazyValue(lambda: steps.price_sets(*apart))
    else:
        (decoded, *beside), priced = steps.run_prompts(*apart, *mixed, decodes=(decode, *others))
        shared, pending = priced[len(groups) :], LazyValue(lambda: priced[: len(groups)])
    found = [
        _mixed(steps, load, group, decoded.wall, (_Apart(pending, i, apart[i]), shared[i]))
        for i, group in enumerate(groups)
    ]
    return decoded, found, beside


class _Apart(NamedTuple):
    """Hold the steps of one of several groups of prompts without decodes, which may be priced when they are read.

    all_groups: the steps of all groups. place: of this group among them. planned: its steps.
    """

    all_groups: LazyValue[list[PricedPrompts]]
    place: int
    planned: PlannedPrompts

    def __call__(self) -> PricedPrompts:
        """Return the priced steps."""
        return self.all_groups()[self.place]


def _mixed(
    steps: StepModel, load: Load, group: Array, decode_time: Array, priced: tuple[_Apart, PricedPrompts]
) -> PrefillTimes:
    """Compute prefill times of an engine that puts prompts and decodes in the same steps (chunked prefill).

    group: prompts that enter together, (N,). decode_time: seconds of a decode step without prompts, (N,). priced: the
    steps of the prompts without decodes, and with them.
    """
    apart, mixed = priced
    stages = steps.sharding.pp
    interference = mixed.delaying(decode_time, stages) / group
    return PrefillTimes(
        alone=lazy_value(lambda: apart().pipelined(stages)),
        shared=mixed.pipelined(stages),
        own=lazy_value(lambda: apart().pipelined(stages) / group),
        interference=load.mean(interference),
        interference_by_class=interference,
        mixed_step=load.mean(mixed.longest),
        mean_step=load.mean(mixed.wall),
        cost=lazy_value(lambda: apart().cost),
        n_steps=apart.planned.n_steps / group,
        planned=mixed.planned,
        apart=lazy_value(apart.__call__),
    )


def _prefill_first(
    steps: StepModel, load: Load, group: Array, decode_time: Array, alone: PricedPrompts
) -> PrefillTimes:
    """Compute prefill times of an engine whose decodes stop while it prefills.

    group: prompts that enter together, (N,). decode_time: seconds of a decode step, (N,). alone: the steps of the
    prompts.
    """
    wall = alone.pipelined(steps.sharding.pp)
    interference = wall / group
    return PrefillTimes(
        alone=wall,
        shared=wall,
        own=wall / group,
        interference=load.mean(interference),
        interference_by_class=interference,
        mixed_step=load.mean(wall) + decode_time,
        mean_step=load.mean(wall) + decode_time,
        cost=alone.cost,
        n_steps=alone.n_steps / group,
        planned=alone.planned,
        apart=alone,
    )


def blend(apart: PrefillTimes, grouped: PrefillTimes, share: Array) -> PrefillTimes:
    """Mix the times of prompts that enter one by one (`apart`) and in groups (`grouped`).

    share: share of the prompts that enters in groups, (N,). Costs and numbers of steps are those of `apart`.
    """
    mixed = {n: (1.0 - share) * getattr(apart, n) + share * getattr(grouped, n) for n in (*_TIMES, "alone", "own")}
    return apart.changed(**mixed)


class WholePrompts(NamedTuple):
    """Tell how many prompts a step computes whose tokens hold a given number of mean length.

    Whole ones, one at least, on each rank and stage, where the engine cuts no prompts; where these differ in length,
    the rest of a step holds a shorter one as often as not. uncut: where that is so, (N,). places: ranks and stages,
    (N,).
    """

    uncut: Mask
    places: Array

    def of(self, fitting: Array) -> Array:
        """Return the prompts of a step whose tokens hold `fitting` of them, (N,)."""
        if not np.any(self.uncut):
            return fitting
        each = np.floor(np.where(np.isfinite(fitting), fitting, 1.0) / self.places * (1.0 + _ROUNDING))
        return np.where(self.uncut & np.isfinite(fitting), np.maximum(each, 1.0) * self.places, fitting)


def whole_prompts(steps: StepModel, load: Load) -> WholePrompts:
    """Return how many prompts of a load a step computes by its tokens."""
    shortest, longest = np.min(load.new, axis=0), np.max(load.new, axis=0)
    equal = (longest - shortest <= _ROUNDING * longest) & (load.prompt_spread <= 0.0)
    uncut = equal & (not steps.engine.chunked_prefill) & ~np.isfinite(steps.engine.micro_batch)
    return WholePrompts(np.asarray(uncut), steps.sharding.dp * steps.sharding.pp)


def most_together(steps: StepModel, load: Load) -> Array:
    """Return the most prompts of mean length that one step of prompts computes, (N,)."""
    return whole_prompts(steps, load).of(steps.max_prompts_per_step(load.mean(load.new)))


def held_beside(steps: StepModel, load: Load, decodes: Array) -> Array:
    """Return the prompts of mean length that a step holds beside `decodes` sequences, (N,); below 1: parts of one."""
    left = prefill_budget(steps.token_budget * steps.sharding.pp, decodes)
    return whole_prompts(steps, load).of(left / load.mean(load.new))


def largest_group(steps: StepModel, load: Load, running: Array) -> Array:
    """Return the most prompts of mean length that are computed together, (N,), at most the `running` sequences.

    Prompts beyond the token budget are cut, and the next one fills what is left of a step, so that a queue of them is
    computed in full steps: as many as fill whole steps count as one group.
    """
    new = load.mean(load.new)
    fitting, budget = most_together(steps, load), steps.token_budget * steps.sharding.pp
    beyond = fitting * new > budget  # never where the budget has no end
    tokens, step = np.where(beyond, fitting * new, 1.0), np.where(beyond, budget, 1.0)
    whole = np.where(beyond, np.ceil(tokens / step - _ROUNDING) * step / new, fitting)
    return np.clip(whole, 1.0, np.maximum(running, 1.0))


def most_decoding(steps: StepModel, load: Load, decode_steps: Array) -> Array:
    """Return the most sequences that decode at once, (N,), however many are queued; infinite where prompts go first.

    Derived: where prompts share steps with decodes, a step begins at most budget / prompt sequences, each of which
    decodes for `decode_steps` (N,) steps; one more has its prompt computed. Each stage of a pipeline has such a step
    of its own under way. Prompts of many steps so keep the batch small.
    """
    if not steps.engine.mixes_prefill:
        return np.full_like(decode_steps, np.inf)
    return np.asarray(steps.sharding.pp * (1.0 + steps.token_budget / load.mean(load.new) * decode_steps))
