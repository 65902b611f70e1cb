"""Waits of an open loop: for a step that computes the prompt, and for admission, in a run or without end."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from perfmodel.arrays import Array, Mask
from perfmodel.serving.limits import MAX_UTILISATION, TINY
from perfmodel.serving.own_process import handed_on
from perfmodel.serving.queues.admission import admission_wait, queued_by_rank, waiting_share
from perfmodel.serving.queues.queueing import planned_wait, step_residual, wait_cv, wait_of_bursts
from perfmodel.serving.queues.rank_balance import held_share
from perfmodel.serving.queues.run_waits import CV_WITHOUT_DRIFT, mean_in_run, run_noise
from perfmodel.serving.queues.variation import Variation, variation_of
from perfmodel.serving.served import WaitShape
from perfmodel.serving.step_times.curve import DecodeCurve
from perfmodel.serving.step_times.mixed_steps import MixedSteps
from perfmodel.serving.step_times.planned_step import PricedStep
from perfmodel.serving.step_times.prefills import PrefillTimes
from perfmodel.serving.step_times.steps import StepModel
from perfmodel.workload import POISSON_CV, Load


@dataclass(frozen=True)
class Replica:
    """Describe one replica under an open loop.

    run_length: requests of the run, infinite without end, (N,). max_running: most sequences that run at once, never
    more than the requests of the run, (N,). curve: seconds per output token against running sequences. mixed: steps
    with prompts beside as many. later_tokens: mean output tokens after the first, (N,). prefills_per_request: expected
    prefills per request while others queue, (N,). full: share of the requests of the run that find the replica full
    where they arrive evenly, (N,); 1 without end. filling: share of them that come while the replica fills
    (`filling_share`), (N,); 0 without end.
    """

    steps: StepModel
    load: Load
    run_length: Array
    max_running: Array
    curve: DecodeCurve
    mixed: MixedSteps
    later_tokens: Array
    prefills_per_request: Array
    full: Array
    filling: Array | float = 0.0

    @cached_property
    def variation(self) -> Variation:
        """Return the variation of gaps between arrivals and of output lengths."""
        return variation_of(self.load)


@dataclass(frozen=True)
class Point:
    """Describe the operating point, (N,).

    running: mean number of sequences. seen: sequences in the step that one of them takes part in, itself included.
    entering: prompts per step. decode: a decode step of `seen` sequences. step: its mean wall time over the Poisson
    number of sequences, seconds. prefill: prefill times at `seen`.
    """

    running: Array
    seen: Array
    entering: Array
    decode: PricedStep
    step: Array
    prefill: PrefillTimes


@dataclass(frozen=True)
class Throughput:
    """State what a replica can complete.

    completed: requests/s completed at each of the K numbers of sequences of the decode curve while nobody queues,
    (K, N). drain: requests/s completed by a full replica while others queue, (N,). rate: requests/s served, (N,).
    saturated: whether demand exceeds that, (N,).
    """

    completed: Array
    drain: Array
    rate: Array
    saturated: Mask


def filling_share(replica: Replica, point: Point) -> Array:
    """Return the share of the requests of a run that come while the replica still fills, (N,); 0 without end.

    Derived: the number of running sequences is taken to rise linearly to its final value n. On average n / 2 sequences
    run meanwhile, so that half as many requests leave as arrive, and 2 n have arrived when n run.
    """
    return np.asarray(np.minimum(np.maximum(2.0 * point.running, 1.0) / replica.run_length, 1.0))


def prefill_wait(replica: Replica, point: Point, rate: Array) -> Array:
    """Return the mean seconds until a step computes an arriving prompt, (N,).

    The prompt waits for the end of the running step, and for prompts ahead of it that do not fit into the next step.
    Derived: the first part is the residual of a step with prompts, in the share of time that such steps take
    (Kingman's formula; their variance counts, because a long step meets more arrivals), and of a decode step in the
    rest of the time. The second part is the wait of a queue whose service time is the time per prompt of the fullest
    steps. With one prompt per step and no decodes, both together are the M/G/1 queue. Bursts add to the wait
    (`wait_of_bursts`), and a short run ends before the queue is steady (`run_waits`). rate: requests/s, (N,).
    """
    load = replica.load
    prefill = load.mean(point.prefill.shared)
    busy, _, _ = _utilisation(replica, point, rate)
    variability = np.square(np.minimum(load.cv, POISSON_CV)) + np.square(point.prefill.cv(load))
    ahead, _ = _ahead(replica, point, rate)
    uneven = 1.0 + replica.mixed.cv_squared(point.entering, prefill, point.seen)
    wait = busy * variability / 2.0 * prefill * uneven + ahead + (1.0 - busy) * step_residual(point.running, point.step)
    wait = wait + _held(replica, point, rate)
    # a run holds no more prompts
    return np.asarray(np.minimum(wait, replica.run_length * prefill / point.entering / 2.0))


def _held(replica: Replica, point: Point, rate: Array) -> Array:
    """Return the mean seconds that a prompt is held back until each rank has one, (N,); none where nothing decodes."""
    return np.asarray(-np.expm1(-point.running) * replica.mixed.held(rate, point.step, point.seen))


def planned_in_run(replica: Replica, point: Point, rate: Array, chance: Array, queue: Array) -> tuple[Array, Array]:
    """Return (mean seconds that a request waits for a step planned before it came, share that do not), (N,) each.

    At least one sequence runs with the probability of `step_residual`. The share of steps that carry prompts follows
    from the share of time that these steps take. Requests that queue for admission arrived before the step was planned,
    and do not wait for it, where they queue for as long.

    rate: requests/s, (N,). chance: probability that a request finds a steady replica full, (N,). queue: mean seconds
    that requests queue for admission, (N,).
    """
    busy, _, _ = _utilisation(replica, point, rate)
    longer = np.maximum(replica.load.mean(point.prefill.shared), point.step)
    step = 1.0 / (busy / longer + (1.0 - busy) / point.step)
    each = planned_wait(-np.expm1(-point.running), step, ahead=replica.steps.runs_ahead)
    crowded = _crowded(replica, chance)
    spared = np.minimum(crowded * each, queue)
    return each - spared, np.where(each > 0.0, spared / np.maximum(each, TINY), crowded)


def token_handed_on(replica: Replica, point: Point, rate: Array) -> Array:
    """Return the mean seconds until a client gets the first token, once it is made (`handed_on`), (N,).

    rate: requests/s, (N,).
    """
    prompts = replica.load.mean(point.prefill.shared)
    behind = rate * prompts if replica.mixed.separate else np.zeros_like(rate)
    return handed_on(behind, (point.step, prompts), late=replica.steps.engine.hands_on_late)


def _crowded(replica: Replica, chance: Array) -> Array:
    """Return the share of the requests that queue for admission, (N,). chance: of it in a run without end, (N,)."""
    return np.where(np.isfinite(replica.run_length), _later(replica, chance), chance)


def _ahead(replica: Replica, point: Point, rate: Array) -> tuple[Array, Array]:
    """Return the mean seconds that a prompt waits for those ahead of it: (in the run, in one without end), (N,) each.

    rate: requests/s, (N,).
    """
    (busy, loaded, per_prompt), cv = _utilisation(replica, point, rate), replica.load.cv
    spread = np.square(point.prefill.cv(replica.load))
    poisson = busy * (np.square(np.minimum(cv, POISSON_CV)) + spread) / 2.0 * loaded / (1.0 - loaded) * per_prompt
    ever = poisson + wait_of_bursts(replica.mixed.most, loaded, per_prompt, cv)
    return mean_in_run(run_noise(replica.run_length, per_prompt, np.square(cv) + spread), ever), ever


def rate_like_run(replica: Replica, point: Point, rate: Array) -> Array:
    """Return the requests/s whose prompts wait in a run without end for as long as those of the run, at most `rate`.

    (N,). Derived: the wait is that of a load r as r / (1 - r), so that few prompts gather in a step of a short run.
    """
    _, loaded, per_prompt = _utilisation(replica, point, rate)
    ahead, ever = _ahead(replica, point, rate)
    with np.errstate(invalid="ignore", divide="ignore"):
        queue = ahead / ever * loaded / (1.0 - loaded)
        found = queue / (1.0 + queue) / per_prompt
    return np.where(ahead < ever, np.minimum(found, rate), np.inf)


def _utilisation(replica: Replica, point: Point, rate: Array) -> tuple[Array, Array, Array]:
    """Return (share of time that steps with prompts take, load of the queue of prompts, seconds per prompt of full
    steps), (N,) each. rate: requests/s, (N,).
    """
    busy = np.minimum(rate * replica.load.mean(point.prefill.shared) / point.entering, 1.0)
    per_prompt = replica.mixed.per_prompt(point.seen)
    return busy, np.minimum(rate * per_prompt, MAX_UTILISATION), per_prompt


def wait_shape(
    replica: Replica,
    point: Point,
    throughput: Throughput,
    queued: tuple[Array, Array, Array],
    shares: tuple[Array, Array],
) -> WaitShape:
    """Return how the waits of an open loop are distributed.

    Derived: a prompt that meets no other waits uniformly for the end of a decode step, if one runs. So does one that
    meets only prompts that come during the same decode step, and then it is computed with them. The others wait as in
    an M/G/1 queue.

    queued: as `queued_in_run` returns it, (N,) each. shares: of requests that wait
    for no planned step, and of the wait that is uniform over the requests of a run, (N,) each.
    """
    rate, (queue, steady, noise) = throughput.rate, queued
    busy, _, _ = _utilisation(replica, point, rate)
    share = waiting_share(steady, rate, throughput.drain, replica.variation)
    alone = 1.0 / np.maximum(np.square(replica.load.cv), 1.0)
    meets_none = (1.0 - busy) * alone
    none_comes = np.exp(-rate * point.step)
    beside = _beside(replica, point)
    together = beside / np.maximum(1.0 - meets_none * none_comes, TINY)
    runs = -np.expm1(-point.running)
    wait = prefill_wait(replica, point, rate)
    held = held_share(_held(replica, point, rate), wait)
    free = (1.0 - held) * meets_none
    by_rank, ahead = queued_by_rank((steady, share), noise, _later(replica, 1.0)), _ahead_by_rank(replica, point, rate)
    return WaitShape(
        queued=beyond_prompts(replica, point, rate, queue),
        queued_by_rank=np.hypot(by_rank, ahead) - ahead,
        crowded=shares[0],
        uniform_share=shares[1],
        short_shares=(free * none_comes * runs, free * (1.0 - none_comes) * runs, held),
        short_longest=(point.step, point.step + 2.0 * together, 2.0 * wait),
        long_share=(1.0 - held) * (1.0 - meets_none),
        long_cv=1.0 + (_long_cv(replica, point, rate) - 1.0) * alone,
        beside=beside,
    )


def _beside(replica: Replica, point: Point) -> Array:
    """Return the mean seconds that a varying number of other prompts in its steps adds to the prefill of one, (N,).

    Derived: others are Poisson with the mean m, and add what a prompt takes longer than one of as few as there may be.
    A number with the mean and the deviation of sqrt(m) is spread as a wait is, a share 1 / sqrt(m) of what they add if
    m is above 1; the rest is there for every prompt. So the prefill less this does not fall as m grows.
    """
    mixed, prefill = replica.mixed, point.prefill.shared
    fewest, (base, each) = mixed.fewest(point.seen), mixed.at(point.seen)
    least = np.maximum(fewest, mixed.abreast)
    # by the steps as priced, and by the line through them, which does not meet each of them
    added = np.minimum(replica.load.mean(prefill) - base - each * least, each * (mixed.fullest(point.entering) - least))
    others = np.maximum(point.entering - fewest, 1.0)
    return np.asarray(np.minimum(np.maximum(added, 0.0) / np.sqrt(others), np.min(prefill, axis=0)))


def _long_cv(replica: Replica, point: Point, rate: Array) -> Array:
    """Return the coefficient of variation of the waits of prompts that meet others, (N,).

    That of a steady queue, or less in a run that ends before its queue is steady: the long waits, which make the
    variance, come later than those that make the mean. rate: requests/s, (N,).
    """
    (_, loaded, _), (ahead, ever) = _utilisation(replica, point, rate), _ahead(replica, point, rate)
    steady = wait_cv(loaded, point.prefill.cv(replica.load))
    reached = np.where(ahead < ever, ahead / np.maximum(ever, TINY), 1.0)
    spread = np.square(reached)
    squared = spread * np.square(steady) + (1.0 - spread) * np.square(CV_WITHOUT_DRIFT)
    return np.where(reached < 1.0, np.sqrt(squared), steady)


def _later(replica: Replica, chance: Array | float) -> Array:
    """Return the share of the requests of a run that arrive while the replica is full, (N,); 0 if all fit at once.

    The replica is full because of a backlog or, once it has filled, by chance. chance: probability that a request finds
    a steady replica full, (N,).
    """
    later = np.maximum(replica.full, chance * (1.0 - replica.filling))
    later = np.minimum(later, 1.0 - replica.max_running / np.maximum(replica.run_length, 1.0))
    return np.where(np.isfinite(replica.run_length), later, 1.0)


def queued_in_run(replica: Replica, throughput: Throughput, max_running: Array) -> tuple[Array, Array, Array]:
    """Return the mean seconds that a request queues for admission in the run, the same in a run without end, and what
    the run's work varies by in seconds (`run_noise`), (N,) each.
    """
    steady = admission_wait(
        throughput.rate, replica.curve.running, throughput.completed, throughput.drain, replica.variation
    )
    later = _later(replica, waiting_share(steady, throughput.rate, throughput.drain, replica.variation))
    noise = run_noise(replica.run_length * later, 1.0 / throughput.rate, replica.variation.squares)
    never = (replica.run_length <= max_running) | (throughput.saturated & np.isinf(replica.run_length))
    steady, noise = np.where(never, 0.0, steady), np.where(never & np.isfinite(replica.run_length), 0.0, noise)
    with np.errstate(invalid="ignore", divide="ignore"):
        queue = later * mean_in_run(noise, steady / np.maximum(later, TINY))
    return queue, steady, noise


def beyond_prompts(replica: Replica, point: Point, rate: Array, queued: Array) -> Array:
    """Return the mean seconds that a request queues for admission, `queued`, beyond those for prompts ahead, (N,).

    Derived: requests wait in one queue, whose head enters when a sequence slot and KV cache are free and a step has
    room for its prompt. Both waits pass at the same time and are caused by the same arrivals. So the total is longer
    than either wait and shorter than their sum; it is taken as the root of the sum of their squares. rate: requests/s,
    (N,).
    """
    ahead, _ = _ahead(replica, point, rate)
    return np.asarray(np.hypot(queued, ahead) - ahead)


def _ahead_by_rank(replica: Replica, point: Point, rate: Array) -> Array:
    """Return the seconds that a prompt waits for those ahead of it at the Q ranks `workload.RANKS`, (Q, N)."""
    (_, loaded, per_prompt), (_, ever) = _utilisation(replica, point, rate), _ahead(replica, point, rate)
    varied = np.square(replica.load.cv) + np.square(point.prefill.cv(replica.load))
    return queued_by_rank((ever, loaded), run_noise(replica.run_length, per_prompt, varied), np.ones_like(loaded))
