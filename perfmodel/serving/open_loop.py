"""Estimate an open loop: requests arrive at random at a given rate, however fast the replica serves them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from perfmodel.arrays import Array, Mask, interpolate
from perfmodel.serving.admission import admission_wait, chance_by_rank, finite_run_wait
from perfmodel.serving.curve import KNOTS, DecodeCurve, decode_curve
from perfmodel.serving.finite_run import finite_run
from perfmodel.serving.limits import MAX_UTILISATION, SATURATED_SHARE, TINY
from perfmodel.serving.planned_step import PricedStep
from perfmodel.serving.prefills import PrefillTimes, prefill_times
from perfmodel.serving.queueing import (
    bisect,
    equilibrium_rate,
    mean_over_poisson,
    poisson_nodes,
    prompts_per_step,
    queue_variability,
    slowed_tpot,
    step_residual,
)
from perfmodel.serving.served import RequestTimes, Served, StepCosts, StepTimes, WaitShape
from perfmodel.serving.steps import StepModel
from perfmodel.workload import Load

#: Knots of the decode curve beside which prompts are priced. Chosen: the time of a step with prompts hardly bends.
_PRICED_KNOTS = [0, KNOTS // 2, -1]
#: A step that holds no more than this many prompts beyond the fewest has no slope per prompt.
_LONE = 1e-6
#: Fewest mean running sequences that the fixed point is searched from.
_LEAST_RUNNING = 1e-6


@dataclass(frozen=True)
class _Replica:
    """Describe one replica under an open loop.

    run_length: requests of the run, infinite without end, (N,). max_running: most sequences that run at once, never
    more than the requests of the run, (N,). curve: seconds per output token against running sequences. later_tokens:
    mean output tokens after the first, (N,). prefills_per_request: expected prefills per request while others queue,
    (N,).
    """

    steps: StepModel
    load: Load
    run_length: Array
    max_running: Array
    curve: DecodeCurve
    later_tokens: Array
    prefills_per_request: Array


@dataclass(frozen=True)
class _MixedSteps:
    """State how long steps with g prompts are: base + g each, seconds.

    `base` and `each` are (K, N), at K numbers of running sequences, `knots`, also (K, N); between them they are
    interpolated. Base holds what every step with a prompt costs, such as kernel launches that no captured graph
    replays, and so it has no jump where graphs end. least, most: prompts that one step carries, (N,). separate: prompts
    are computed in steps of their own, after which a decode step follows; base holds that too.
    """

    knots: Array
    base: Array
    each: Array
    least: Array
    most: Array
    separate: bool

    def at(self, running: Array) -> tuple[Array, Array]:
        """Return (base, each) of steps in which `running` sequences decode, (N,) each."""
        return interpolate(self.knots, self.base, running), interpolate(self.knots, self.each, running)

    def entering(self, rate: Array, step: Array, running: Array) -> Array:
        """Return the mean prompts of the steps that have any, from `least` to `most`, (N,).

        Derived: a step carries the prompts that arrived during the step before it, a Poisson number. Of all steps a
        share p has prompts: p = (1 - p) (1 - exp(-rate step)) + p (1 - exp(-rate long)), with `long` the seconds of a
        step with prompts. Those are as many as arrive in a mean step, over p.

        rate: requests/s, (N,). step: seconds of a decode step, (N,). running: decoding sequences, (N,).
        """
        base, each = self.at(running)
        base = np.maximum(base - step, 0.0) if self.separate else base
        met = np.maximum(rate * base / (1.0 - np.minimum(rate * each, MAX_UTILISATION)), 1.0)
        long = base + each * np.minimum(met, self.most)
        any_after_decode, none_after_long = -np.expm1(-rate * step), np.exp(-rate * long)
        share = any_after_decode / np.maximum(none_after_long + any_after_decode, TINY)
        arriving = rate * ((1.0 - share) * step + share * long)
        return np.clip(arriving / np.maximum(share, TINY), self.least, self.most)

    def interference(self, rate: Array, step: Array, running: Array) -> Array:
        """Return the seconds that one prompt adds to the decode of the others, (N,); arguments as in `entering`."""
        return self.added(step, self.entering(rate, step, running), running)

    def added(self, step: Array, entering: Array, running: Array) -> Array:
        """Return the seconds that one of `entering` prompts adds to a step, (N,); other arguments as in `entering`."""
        base, each = self.at(running)
        return np.asarray(np.maximum((base - step) / entering + each, 0.0))

    def per_prompt(self, running: Array) -> Array:
        """Return the seconds per prompt of a step that carries as many as it can. (N,)"""
        base, each = self.at(running)
        return np.asarray(base / self.most + each)


@dataclass(frozen=True)
class _Point:
    """Describe the operating point, (N,).

    running: mean number of sequences. seen: sequences in the step that one of them takes part in, itself included.
    entering: prompts per step. decode: a decode step of `seen` sequences. step: its mean wall time over the Poisson
    number of sequences, seconds. prefill: prefill times at `seen`. mixed: steps with other numbers of prompts.
    """

    running: Array
    seen: Array
    entering: Array
    decode: PricedStep
    step: Array
    prefill: PrefillTimes
    mixed: _MixedSteps


@dataclass(frozen=True)
class _Throughput:
    """State what a replica can complete.

    completed: requests/s completed at each of the K numbers of sequences of the decode curve, (K, N). rate: requests/s
    served, (N,). saturated: whether demand exceeds that, (N,).
    """

    completed: Array
    rate: Array
    saturated: Mask


def open_loop(steps: StepModel, load: Load, max_running: Array, prefills_per_request: Array) -> Served:
    """Estimate one replica under arrivals at `load.rate` requests/s. A saturated replica is marked as such.

    Little's law fixes how many sequences run.

    A run of `load.n_requests` never has more in the replica than that, and only those beyond its limit ever queue.

    Args:
        steps: computes cost and time of steps of the N candidates.
        load: load of one replica.
        max_running: sequences that run at once, (N,).
        prefills_per_request: expected prefills per request while others queue for admission, (N,).
    """
    finite = np.isfinite(load.n_requests)
    run_length = np.where(finite, load.n_requests, np.inf)
    capacity = np.maximum(np.minimum(max_running, run_length), 1.0)
    replica = _Replica(
        steps=steps,
        load=load,
        run_length=run_length,
        max_running=capacity,
        curve=decode_curve(steps, load, capacity).per_token(load.accepted),
        later_tokens=np.maximum(load.mean(load.output) - 1.0, 0.0),
        prefills_per_request=prefills_per_request,
    )
    point = _operating_point(replica)
    throughput = _throughput(replica, point, max_running)
    steady = _served(replica, point, throughput, max_running)
    if not finite.any():
        return steady
    crowded = finite & (load.rate > throughput.completed[-1])
    return finite_run(steady, steps, load, (max_running, prefills_per_request), crowded)


def _operating_point(replica: _Replica) -> _Point:
    """Find the mean number of running sequences by Little's law: running = rate x later tokens x TPOT."""
    steps, load, most = replica.steps, replica.load, replica.max_running
    mixed = _mixed_steps(replica)
    running = _running(replica, mixed)
    seen = np.minimum(running + 1.0, most)  # a sequence meets a Poisson number of others, and itself
    entering = mixed.entering(load.rate, replica.curve.at(seen) * load.accepted, seen)
    decode, (prefill,) = prefill_times(steps, load, seen, (entering,))
    nodes = poisson_nodes(running, seen, most)
    low, high = steps.run(*(steps.decode_step(n, load.decode_context, load.drafts) for n in nodes))
    return _Point(
        running=running,
        seen=seen,
        entering=entering,
        decode=decode,
        step=mean_over_poisson(decode.wall, low.wall, high.wall),
        prefill=prefill,
        mixed=mixed,
    )


def _mixed_steps(replica: _Replica) -> _MixedSteps:
    """Price the fewest and the most prompts of a step beside few, some and many sequences."""
    steps, load, knots = replica.steps, replica.load, replica.curve.running[_PRICED_KNOTS]
    least = steps.min_prompts_per_step(knots[0])
    most = np.clip(steps.max_prompts_per_step(load.mean(load.new)), least, np.maximum(replica.max_running, least))
    bases, slopes = [], []
    for running in knots:
        decode, (few, many) = prefill_times(steps, load, running, (least, most))
        added = few.interference * least
        each = np.maximum(many.interference * most - added, 0.0) / np.maximum(most - least, TINY)
        slopes.append(np.where(most - least > _LONE, each, 0.0))
        bases.append(decode.wall + added - slopes[-1] * least)
    return _MixedSteps(knots, np.stack(bases), np.stack(slopes), least, most, not steps.engine.mixes_prefill)


def _running(replica: _Replica, mixed: _MixedSteps) -> Array:
    """Solve running = rate x later tokens x TPOT(running + 1) for the mean number of running sequences. (N,)

    At most `max_running`.
    """
    curve, most, load = replica.curve, replica.max_running, replica.load

    def below(running: Array) -> Mask:
        seen = np.minimum(running + 1.0, most)
        token_time = curve.at(seen)
        interference = mixed.interference(load.rate, token_time * load.accepted, seen)
        tpot = slowed_tpot(token_time, load.rate * interference)
        return np.asarray(load.rate * replica.later_tokens * tpot - running > 0)

    return bisect(np.full_like(most, _LEAST_RUNNING), most, below)[0]


def _throughput(replica: _Replica, point: _Point, max_running: Array) -> _Throughput:
    """Compute the requests/s that the replica completes, and whether it is saturated.

    It saturates where arrivals exceed that rate, where all its sequence slots are taken, or where prefill takes all the
    time. A run of no more than `max_running` requests never queues, so arrivals and slots cannot saturate it.
    """
    curve, load, mixed = replica.curve, replica.load, point.mixed
    rate, prefill = load.rate, load.mean(point.prefill.shared)
    output, full = load.mean(load.output), []
    for n, time in zip(curve.running, curve.time, strict=True):
        entering = prompts_per_step(n, output, mixed.least, mixed.most)
        others = np.maximum(n - entering, 0.0)
        full.append(others * mixed.added(time * load.accepted, entering, n))
    # prompts are prefilled again only where the replica is full: at the last knot
    repeats = np.concatenate([np.ones_like(curve.running[:-1]), replica.prefills_per_request[None]])
    completed = curve.running / ((prefill + np.stack(full)) * repeats + replica.later_tokens * curve.time)
    full = (rate > completed[-1]) | (point.running >= replica.max_running * SATURATED_SHARE)
    saturated = full & (replica.run_length > max_running) | (rate * point.prefill.interference >= MAX_UTILISATION)
    return _Throughput(
        completed=completed, rate=np.where(saturated, np.minimum(rate, completed[-1]), rate), saturated=saturated
    )


def _prefill_wait(replica: _Replica, point: _Point, rate: Array) -> Array:
    """Return the mean seconds until a step computes an arriving prompt, (N,).

    The prompt waits for the running step, and for prompts ahead of it that do not fit into the next one. Derived: the
    first is half a step with prompts in the share of time that such steps take, as in Kingman's formula. The second
    repeats it as in a queue whose server takes the time per prompt of the fullest steps: a bulk queue is no more loaded
    than that. rate: requests/s, (N,).
    """
    load = replica.load
    prefill = load.mean(point.prefill.shared)
    busy = np.minimum(rate * prefill / point.entering, 1.0)
    loaded = np.minimum(rate * point.mixed.per_prompt(point.seen), MAX_UTILISATION)
    variability = np.square(load.cv) + np.square(point.prefill.cv(load))
    queued = busy * prefill / 2.0 * variability / (1.0 - loaded)
    wait = queued + step_residual(point.running, point.step)
    return np.minimum(wait, replica.run_length * prefill / point.entering / 2.0)  # a run holds no more prompts


def _tpot(replica: _Replica, point: _Point, throughput: _Throughput, prefill_wait: Array) -> Array:
    """Return the mean seconds per output token, (N,), with delays by other prompts; at most that of a full replica.

    Prompts that arrived while a request waited and was prefilled are computed after it, and delay its decode.
    """
    interference = point.prefill.interference
    prefill_share = np.minimum(throughput.rate * interference, MAX_UTILISATION)
    token_time = point.step / replica.load.accepted
    before = replica.load.mean(point.prefill.shared) + prefill_wait
    met = throughput.rate * interference * before / np.maximum(replica.later_tokens, 1.0)
    full = slowed_tpot(replica.curve.time[-1], throughput.completed[-1] * interference)
    slowest = np.maximum(full, token_time / (1.0 - prefill_share))
    return np.minimum((token_time + met) / (1.0 - prefill_share), slowest)


def _queued(replica: _Replica, throughput: _Throughput, max_running: Array) -> tuple[Array, Array]:
    """Return the mean seconds that a request queues for admission: (in a steady queue, at most in a run), (N,) each.

    The latter is what a run of this length can build up by chance, infinite for a run without end.
    """
    load = replica.load
    variability = queue_variability(load.cv, load.output, load.length_cv, load.mean)
    steady = admission_wait(
        throughput.rate, replica.curve.running, throughput.completed, replica.max_running, variability / 2.0
    )
    most = finite_run_wait(throughput.rate, replica.run_length - max_running, variability)
    never = (replica.run_length <= max_running) | (throughput.saturated & np.isinf(replica.run_length))
    return np.where(never, 0.0, steady), np.where(never & np.isfinite(replica.run_length), 0.0, most)


def _served(replica: _Replica, point: _Point, throughput: _Throughput, max_running: Array) -> Served:
    """Assemble the estimate of a run without end.

    Where demand exceeds the rate served, its queue and its waits grow without end (infinite).
    """
    prefill_wait = _prefill_wait(replica, point, throughput.rate)
    queue, most = _queued(replica, throughput, max_running)
    wait = prefill_wait + np.minimum(queue, most)
    over = throughput.saturated & (replica.load.rate > throughput.rate)
    endless = np.where(over & np.isinf(replica.run_length), np.inf, 0.0)
    prefill = point.prefill
    zero = np.zeros_like(prefill.shared)
    return Served(
        times=RequestTimes(
            ttft=prefill.shared + wait + endless + replica.steps.engine.request_time,
            tpot=zero + _tpot(replica, point, throughput, prefill_wait),
            wait=zero + wait + endless,
            burst=zero,
            prefill=prefill.shared,
        ),
        steps=StepTimes(decode=point.step, mixed=prefill.mixed_step, interference=prefill.interference_by_class),
        costs=StepCosts(
            decode=point.decode.cost,
            prefill=prefill.cost,
            prefill_steps=prefill.n_steps,
            decode_seqs=point.seen,
            prompts=prefill.planned,
        ),
        running=point.running,
        rate=throughput.rate,
        saturated=throughput.saturated,
        waits=WaitShape(uniform_share=np.isinf(endless) * 1.0, by_rank=chance_by_rank(prefill_wait, queue, most)),
    )
