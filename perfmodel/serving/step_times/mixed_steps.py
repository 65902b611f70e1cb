"""Compute how long steps with prompts are, by the number of prompts in them, in an open loop."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import NamedTuple

import numpy as np

from perfmodel.arrays import Array, Interpolation, clipped
from perfmodel.serving.limits import MAX_UTILISATION, TINY
from perfmodel.serving.queues.queueing import MeanAtLeast, at_least
from perfmodel.serving.queues.rank_balance import held_together, held_wait
from perfmodel.serving.step_times.curve import DecodeCurve, planned_curve
from perfmodel.serving.step_times.planned_step import PlannedPrompts, PricedPrompts
from perfmodel.serving.step_times.prefills import largest_group, most_together
from perfmodel.serving.step_times.steps import StepModel
from perfmodel.workload import Load

#: Running sequences of the least step that prompts share with decodes: one decodes, and one has its prompt computed.
_TWO = 2.0
#: Passes of the fixed point of the prompts that arrive during a step. Chosen: it begins a few per cent off and moves
#: half the way in each.
_PASSES = 4
#: The same where prompts go first.
_FIRST_PASSES = 6
#: A step that holds no more than this many prompts beyond the fewest has no slope per prompt.
_LONE = 1e-6
#: Least chance that a step of prompts meets no arrival. Chosen: with it prompts follow each other for longer than any
#: run.
_LEAST_CHANCE = 1e-12
#: Exponent whose exponential is finite, with room for factors.
_MOST_EXPONENT = 500.0


class Between(NamedTuple):
    """Describe what runs between two decode steps where prompts go first, (N,).

    prompts: mean of a step that has any. seconds: of such a step. steps: such steps per decode step. behind: such steps
    that follow the one of a given prompt before the next decode step.
    """

    prompts: Array
    seconds: Array
    steps: Array
    behind: Array

    @property
    def delay(self) -> Array:
        """Return the seconds of prompts between two decode steps, (N,)."""
        return self.steps * self.seconds


@dataclass(frozen=True)
class MixedSteps:
    """State how long steps with g prompts are: base + g each, seconds.

    `base` and `each` are (K, N), at K numbers of running sequences, `knots`, also (K, N); between them they are
    interpolated. Base holds what every step with a prompt costs, such as kernel launches that no captured graph
    replays, and so it has no jump where graphs end. least: fewest prompts that enter a full batch together, most: most
    prompts of a step, abreast: prompts that take no more time than fewer, side by side in the micro-batches of a
    pipeline or while the host launches their kernels, (N,). separate: prompts are computed in steps of their own, which
    hold no decodes; else base holds the decode step that they share. longest_hold: most decode steps for which a prompt
    waits for others to enter with, NaN without a limit, (N,).
    """

    knots: Array
    base: Array
    each: Array
    least: Array
    most: Array
    separate: bool
    abreast: Array = field(default_factory=lambda: np.ones(1))
    longest_hold: Array = field(default_factory=lambda: np.full(1, np.nan))

    def at(self, running: Array) -> tuple[Array, Array]:
        """Return (base, each) of steps in which `running` sequences decode, (N,) each."""
        base, each = self._lines.at(running)
        return base, each

    @cached_property
    def _lines(self) -> Interpolation:
        """Return base and each, to be read beside several numbers of running sequences."""
        return Interpolation(self.knots, self.base, self.each)

    @cached_property
    def _mean_abreast(self) -> MeanAtLeast:
        """Return what gives the mean of the prompts that set the time of a step."""
        return MeanAtLeast(self.abreast)

    def fewest(self, running: Array, coming: Array | float = np.inf, during: Array | float = 0.0) -> Array:
        """Return the fewest prompts that enter together while `running` sequences decode, (N,).

        coming: prompts that come per decode step, during: and per step of prompts, (N,) each.
        """
        return held_together(np.minimum(self.least, np.maximum(running, 1.0)), self.longest_hold, coming, during)

    def held(self, rate: Array, step: Array, running: Array) -> Array:
        """Return the mean seconds that a prompt is held back until others enter with it, (N,).

        No step holds them back where nothing decodes. Arguments as in `entering`.
        """
        return held_wait(self.fewest(running), self.longest_hold, step, rate)

    def entering(self, rate: Array, step: Array, running: Array) -> Array:
        """Return the mean prompts of the steps that have any, from `fewest` to `most`, (N,).

        Derived: a step carries the prompts that arrived during the step before it, a Poisson number. Of all steps a
        share p has prompts: p = (1 - p) (1 - exp(-rate step)) + p (1 - exp(-rate long)), with `long` the seconds of a
        step with prompts. Those are as many as arrive in a mean step, over p.

        rate: requests/s, (N,). step: seconds of a decode step, (N,). running: decoding sequences, (N,).
        """
        return self._entering(rate, step, running, self.at(running))

    def _entering(self, rate: Array, step: Array, running: Array, line: tuple[Array, Array]) -> Array:
        """Do as `entering`; line: what `at` returns for `running`."""
        if self.separate:
            return self._first(rate, step, running, line).prompts
        base, each = line
        free = 1.0 - np.minimum(rate * each, MAX_UTILISATION)
        met = np.maximum(rate * base / free, 1.0)
        if self._mean_abreast.any:
            for _ in range(_PASSES):
                found = (rate * base + (1.0 - free) * (self.fullest(met) - met)) / free
                met = clipped(0.5 * (met + found), 1.0, self.most)
        long = base + each * self.fullest(np.minimum(met, self.most))
        any_after_decode, none_after_long = -np.expm1(-rate * step), np.exp(-rate * long)
        share = any_after_decode / np.maximum(none_after_long + any_after_decode, TINY)
        arriving = rate * ((1.0 - share) * step + share * long)
        fewest = self._fewest_in_steps(rate, step, running, line) if np.any(self.least > 1.0) else 1.0
        return np.asarray(clipped(arriving / np.maximum(share, TINY), fewest, self.most))

    def _fewest_in_steps(self, rate: Array, step: Array, running: Array, line: tuple[Array, Array]) -> Array:
        """Return `fewest` at `rate`, with those that come while as many prompts are computed; as in `_entering`."""
        (base, each), found = line, self.fewest(running, rate * step)
        for _ in range(_PASSES):
            found = self.fewest(running, rate * step, rate * (base + each * self.fullest(found)))
        return found

    def between(self, rate: Array, step: Array, running: Array) -> Between:
        """Return what runs between two decode steps where prompts go first; arguments as in `entering`."""
        return self._first(rate, step, running, self.at(running))

    def _first(self, rate: Array, step: Array, running: Array, line: tuple[Array, Array]) -> Between:
        """Do as `between`; line: what `at` returns for `running`.

        Derived: a step carries the prompts that arrived during the step before it, be it one of prompts, or the decode
        step before the first of them.
        """
        (base, each), coming, fewest = line, rate * step, self.fewest(running, rate * step)
        prompts = fewest + np.zeros_like(coming)
        seconds, waits = base + each * self.fullest(prompts), bool(np.any(self.least > 1.0))
        for _ in range(_FIRST_PASSES):
            steps, last = self._per_decode(rate, step, seconds, line)
            fewest = self.fewest(running, coming, rate * seconds) if waits else fewest
            prompts = clipped(rate * (step / np.maximum(steps, TINY) + seconds), fewest, self.most)
            seconds = base + each * self.fullest(prompts)
        # no fewer than full steps need: then prompts are left over, and queue
        full = np.minimum(rate * (base / self.most + each), 1.0 - _LEAST_CHANCE)
        steps = np.maximum(steps, full / (1.0 - full) * step / np.maximum(seconds, TINY))
        found = Between(prompts, seconds, steps, 1.0 / last - 1.0)
        return _held(coming, rate * seconds, (fewest, self.fewest(running)), found)

    def _per_decode(self, rate: Array, step: Array, long: Array, line: tuple[Array, Array]) -> tuple[Array, Array]:
        """Return (steps of prompts per decode step, chance that the last step of prompts is the last), (N,) each.

        Derived: prompts go first, so that steps of prompts follow each other until one meets no arrival. One follows
        the decode step if a request came during it, with chance 1 - exp(-rate step); the next follows the first unless
        none came, with chance 1 - e_0, and so on with 1 - e: their number is (1 - exp(-rate step)) (1 + (1 - e_0) / e).

        rate: requests/s, (N,). step, long: seconds of a decode step and of the mean step of prompts, (N,). line: what
        `at` returns for the decoding sequences.
        """
        first, last = (self._none_after(rate, rate * t, line) for t in (step, long))
        last = np.maximum(last, _LEAST_CHANCE)
        return -np.expm1(-rate * step) * (1.0 + (1.0 - first) / last), last

    def _none_after(self, rate: Array, mean: Array, line: tuple[Array, Array]) -> Array:
        """Return the chance that no request comes during a step of prompts, (N,).

        Derived: a step takes base + each max(g, abreast), and none comes with exp(-rate) to the power of that, on
        average over g, a Poisson number that is not zero. mean: of it, zero included, (N,).
        """
        (base, each), left = line, np.exp(-rate * line[1])
        some, several = -np.expm1(-mean), np.exp(-mean * (1.0 - left)) * -np.expm1(-mean * left)
        at_least, chance = np.exp(-rate * each * self.abreast), np.exp(-mean)
        for number in range(1, int(np.ceil(np.max(self.abreast, initial=1.0)))):
            chance = chance * np.minimum(mean, _MOST_EXPONENT) / number
            several = several - np.where(number < self.abreast, chance * (left**number - at_least), 0.0)
        share = np.where(some > 0.0, np.maximum(several, 0.0) / np.where(some > 0.0, some, 1.0), at_least)
        return np.asarray(np.exp(np.minimum(-rate * base, _MOST_EXPONENT)) * share)

    def seconds(self, prompts: Array, steps: Array, running: Array) -> Array:
        """Return the seconds of `steps` steps that compute `prompts` prompts in all, (N,) each."""
        base, each = self.at(running)
        return np.asarray(steps * base + each * np.maximum(prompts, steps * self.abreast))

    def fullest(self, entering: Array) -> Array:
        """Return how many prompts set the time of steps with `entering` prompts on average, at least one each, (N,).

        Derived: fewer prompts than micro-batches (`abreast`, a) take as long as one each, so that a step with g prompts
        takes as long as one with max(g, a). The mean over a Poisson number that is not zero is m + E[(a - g)+].
        """
        return self._mean_abreast(entering)

    def uneven(self, entering: Array, running: Array) -> Array:
        """Return how much longer steps with `entering` prompts on average are than one with just so many, (N,).

        That is of what prompts add to a step; where they share it, all of that is taken to rise with their number.
        Prompts in steps of their own are whole, so that the law is straight between numbers of them. Other arguments as
        in `entering`.
        """
        fullest, even = self.fullest(entering), np.maximum(entering, self.abreast)
        if not self.separate:
            return np.asarray(fullest / even)
        (base, each), whole = self.at(running), np.floor(self.abreast)
        part = clipped(entering - whole, 0.0, 1.0) * (whole + 1.0 - self.abreast)
        even = np.maximum(entering, self.abreast + part)
        return np.asarray(1.0 + each * np.maximum(fullest - even, 0.0) / np.maximum(base + each * even, TINY))

    def cv_squared(self, entering: Array, seconds: Array, running: Array) -> Array:
        """Return the squared coefficient of variation of steps with `entering` prompts on average, (N,).

        Their number is a Poisson one, of at most `most`: a number between two bounds varies by no more than the product
        of its mean's distances to them (Bhatia & Davis, Am. Math. Monthly 107(4), 2000). seconds: mean of such a step,
        (N,). running: decoding sequences, (N,).
        """
        _, each = self.at(running)
        mean, variance = at_least(entering, self.abreast)
        bounded = np.maximum(self.most - mean, 0.0) * np.maximum(mean - self.abreast, 0.0)
        return np.asarray(np.square(each / np.maximum(seconds, TINY)) * np.minimum(variance, bounded))

    def interference(self, rate: Array, step: Array, running: Array) -> Array:
        """Return the seconds that one prompt adds to the decode of the others, (N,); arguments as in `entering`."""
        line = self.at(running)
        return self._added(step, self._entering(rate, step, running, line), line)

    def added(self, step: Array, entering: Array, running: Array) -> Array:
        """Return the seconds that one of `entering` prompts adds to a step, (N,); other arguments as in `entering`."""
        return self._added(step, entering, self.at(running))

    def _added(self, step: Array, entering: Array, line: tuple[Array, Array]) -> Array:
        """Do as `added`; line: what `at` returns for the decoding sequences."""
        base, each = line
        base = base if self.separate else base - step
        return np.asarray(np.maximum((base + each * self.fullest(entering)) / entering, 0.0))

    def met(self, running: Array, step: Array, output_tokens: Array) -> Array:
        """Return the seconds that the prompts of the others in a full batch add to the decode of a request, (N,).

        Derived: while a request decodes, each of the others ends once and a queued prompt takes its place. Those that
        enter in one step with the request have no decode of it to delay. A Poisson number m = running / output_tokens
        ends in a step, so that steps with prompts carry m / (1 - exp(-m)).

        running: sequences in the batch, (N,). step: seconds of a decode step, (N,). output_tokens: mean of a request.
        """
        ending = running / np.maximum(output_tokens, 1.0)
        entering = clipped(ending / np.maximum(-np.expm1(-ending), TINY), self.fewest(running, ending), self.most)
        return np.asarray(np.maximum(running - entering, 0.0) * self.added(step, entering, running))

    def per_prompt(self, running: Array) -> Array:
        """Return the seconds per prompt of steps that carry as many as they can, (N,); arguments as in `entering`."""
        base, each = self.at(running)
        return np.asarray(base / self.most + each)


class PlannedMixed(NamedTuple):
    """Describe the steps that `MixedSteps` are drawn through.

    prompts: groups of prompts, as many beside either number of sequences, `knots` (2, N): the fewest and the most and,
    where prompts are computed in steps of their own, a number between them. fewest: prompts that enter together beside
    each of these, least: at least as many as micro-batches compute side by side, (N,) each. most: most prompts of a
    step, (N,). abreast: as in `MixedSteps`, of micro-batches alone.
    """

    prompts: PlannedPrompts
    knots: Array
    fewest: list[Array]
    least: list[Array]
    most: Array
    abreast: Array

    def priced(self, steps: StepModel, load: Load, prompts: PricedPrompts, decoding: Array) -> MixedSteps:
        """Return the lines through the steps that were priced.

        decoding: seconds of a decode step with as many sequences as `knots`, (2, N).
        """
        added = self._added(steps, load, prompts, decoding)
        each_knot, most, abreast = len(added) // len(self.knots), self.most, self.abreast
        bases, slopes, separate = [], [], not steps.engine.mixes_prefill
        for k, (step, few) in enumerate(zip(decoding, self.least, strict=True)):
            alone, grouped, *between = added[k * each_knot : (k + 1) * each_knot]
            each = np.maximum(grouped - alone, 0.0) / np.maximum(most - few, TINY)
            slopes.append(np.where(most - few > _LONE, each, 0.0))
            level = few
            for middle in between:
                slopes[-1], level = _bent((few, alone), (np.sqrt(few * most), middle), (most, grouped), slopes[-1])
            abreast = np.maximum(abreast, level)
            bases.append((0.0 if separate else step) + alone - slopes[-1] * level)
        lines = (self.knots, np.stack(bases), np.stack(slopes))
        hold = np.full_like(most, steps.engine.rank_balance_steps)
        return MixedSteps(*lines, self.fewest[-1], most, separate, abreast, hold)

    def _added(self, steps: StepModel, load: Load, prompts: PricedPrompts, decoding: Array) -> list[Array]:
        """Return the seconds that each group of prompts adds to the decode of the others, (N,) each."""
        stages = steps.sharding.pp
        if steps.engine.mixes_prefill:
            beside = np.repeat(np.arange(len(decoding)), 2)
            seconds = prompts.delaying(decoding[beside][:, None], stages)
        else:
            seconds = prompts.pipelined(stages)
        return [load.mean(by_class) for by_class in seconds]


def _held(coming: Array, came: Array, together: tuple[Array, Array], found: Between) -> Between:
    """Return what runs between two decode steps where no fewer than `fewest` prompts begin together.

    Derived: prompts that are held back until so many wait are computed in fewer steps than there are arrivals: those of
    a decode step and of the steps of prompts that follow it, coming + steps x came, fill steps of `fewest` prompts.
    Then a step of prompts follows another one only if one for each rank came meanwhile.

    coming, came: prompts that come during a decode step and during a step of prompts, (N,) each. together: `fewest` and
    the prompts of all ranks, (N,) each.
    """
    fewest, all_ranks = together
    if np.all(all_ranks <= 1.0):
        return found
    left, left_of_ranks = (np.maximum(prompts - came, TINY) for prompts in (found.prompts, all_ranks))
    held = (fewest > 1.0) & (found.prompts <= fewest) & (came < found.prompts)
    return found._replace(
        steps=np.where(held, np.minimum(found.steps, coming / left), found.steps),
        behind=np.where(held, np.minimum(found.behind, came / left_of_ranks), found.behind),
    )


def planned_mixed(steps: StepModel, load: Load, ends: Array) -> PlannedMixed:
    """Plan the steps with the fewest and the most prompts beside the fewest and the most sequences, `ends` (2, N).

    Chosen: only the ends of a decode curve, because the time of a step with prompts hardly bends between them.
    """
    separate = not steps.engine.mixes_prefill
    if separate:
        most = largest_group(steps, load, ends[-1])
    else:
        most = np.maximum(most_together(steps, load), 1.0)
        most = np.minimum(most, np.maximum(ends[-1], 1.0))
    abreast = np.minimum(steps.sharding.pp, most)
    fewest = [np.minimum(steps.min_prompts_per_step(n), most) for n in ends]
    least = [np.maximum(n, abreast) for n in fewest]
    groups = [group for few in least for group in (few, most, *([np.sqrt(few * most)] if separate else ()))]
    stack = np.stack(groups)[:, None]  # before the axis of the classes
    if separate:
        prompts = steps.prefill_steps(load.new, load.cached, stack, spread=True)
    else:
        shared = np.repeat(np.maximum(ends, np.minimum(_TWO, ends[-1])), 2, axis=0)[:, None]
        prompts = steps.mixed_steps(load.new, load.cached, stack, shared, load.decode_context)
    return PlannedMixed(prompts, ends, fewest, least, most, abreast)


def mixed_steps(steps: StepModel, load: Load, curve: DecodeCurve) -> MixedSteps:
    """Price the fewest and the most prompts of a step beside the fewest and the most sequences of `curve`.

    curve: seconds per output token against running sequences.
    """
    planned = planned_mixed(steps, load, curve.running[[0, -1]])
    return planned.priced(steps, load, steps.price_prompts(planned.prompts), curve.time[[0, -1]] * load.accepted)


def curve_and_mixed(steps: StepModel, load: Load, most: Array) -> tuple[DecodeCurve, MixedSteps]:
    """Return the curve of seconds per output token up to `most` sequences, (N,), and `mixed_steps` of it.

    They are priced in one call, which has a fixed cost.
    """
    decodes = planned_curve(steps, load, most)
    planned = planned_mixed(steps, load, decodes.knots[[0, -1]])
    (decoded,), (prompts,) = steps.run_prompts(planned.prompts, decodes=(decodes.step,))
    curve = decodes.priced(decoded).per_token(load.accepted)
    return curve, planned.priced(steps, load, prompts, curve.time[[0, -1]] * load.accepted)


def _bent(
    few: tuple[Array, Array], middle: tuple[Array, Array], most: tuple[Array, Array], chord: Array
) -> tuple[Array, Array]:
    """Return (seconds per further prompt, prompts up to which a step takes no longer than with few), (N,) each.

    Derived: a step takes as long as its kernels or as their launches, whichever is longer. So its time is level up to
    some number of prompts and a line beyond it, through the two larger numbers of prompts. Where the three points do
    not bend so, it is the line through the outer ones.

    Args:
        few, middle, most: prompts of a step and the seconds that they add, (N,) each.
        chord: seconds per further prompt on the line through the outer ones, (N,).
    """
    each = np.maximum(most[1] - middle[1], 0.0) / np.maximum(most[0] - middle[0], TINY)
    bends = (most[0] - few[0] > _LONE) & (each > chord)
    each = np.where(bends, each, chord)
    level = most[0] - (most[1] - few[1]) / np.maximum(each, TINY)
    return each, np.where(bends, clipped(level, few[0], middle[0]), few[0])
