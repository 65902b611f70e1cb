"""Estimate an open loop: requests arrive at random at a given rate, however fast the replica serves them."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from perfmodel.arrays import Array, Mask
from perfmodel.serving.admission import admission_wait, finite_run_wait, queued_by_rank, waiting_share
from perfmodel.serving.curve import DecodeCurve, decode_curve
from perfmodel.serving.finite_run import finite_run
from perfmodel.serving.limits import MAX_UTILISATION, SATURATED_SHARE, TINY
from perfmodel.serving.mixed_steps import MixedSteps, mixed_steps
from perfmodel.serving.planned_step import PricedStep
from perfmodel.serving.prefills import PrefillTimes, prefill_times
from perfmodel.serving.queueing import (
    bracketed_root,
    equilibrium_rate,
    mean_over_poisson,
    poisson_nodes,
    queue_variability,
    slowed_tpot,
    step_residual,
    wait_cv,
    wait_of_bursts,
)
from perfmodel.serving.served import MOST_GAIN, Gains, RequestTimes, Served, StepCosts, StepTimes, TokenShape, WaitShape
from perfmodel.serving.steps import StepModel
from perfmodel.serving.token_spread import drift_of, longest_delay
from perfmodel.workload import POISSON_CV, Load

#: Fewest mean running sequences that the fixed point is searched from.
_LEAST_RUNNING = 1e-6
#: Passes of the fixed point of the rate that prompts enter at and the steps that they stretch.
_PASSES = 4
#: Standard deviations within which times per token lie, for the bound on their drift.
_FAR = 2.33
#: Share by which the rate is raised for the gain of waits. Chosen: small against the distance of most loads to
#: capacity, large against the tolerance of the fixed point.
_RISE = 0.02


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

    @property
    def variability(self) -> Array:
        """Return c_a^2 + c_s^2 of gaps between arrivals and of output lengths (`queue_variability`), (N,)."""
        load = self.load
        return queue_variability(load.cv, load.output, load.length_cv, load.mean)


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
    mixed: MixedSteps


@dataclass(frozen=True)
class _Throughput:
    """State what a replica can complete.

    completed: requests/s completed at each of the K numbers of sequences of the decode curve while nobody queues,
    (K, N). drain: requests/s completed by a full replica while others queue, (N,). rate: requests/s served, (N,).
    saturated: whether demand exceeds that, (N,).
    """

    completed: Array
    drain: Array
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
    throughput = _throughput(replica, point)
    steady = _served(replica, point, throughput, max_running)
    if not finite.any():
        return steady
    crowded = (run_length > 1.0) & finite & (load.rate > throughput.drain)  # a lone request meets no other
    return finite_run(steady, steps, load, (max_running, prefills_per_request), crowded)


def _operating_point(replica: _Replica) -> _Point:
    """Find the mean number of running sequences by Little's law: running = rate x later tokens x TPOT."""
    steps, load, most = replica.steps, replica.load, replica.max_running
    mixed = mixed_steps(steps, load, replica.curve)
    running = _running(replica, mixed)
    seen = np.minimum(running + 1.0, most)  # a sequence meets a Poisson number of others, and itself
    # beyond capacity no more prompts enter than a full batch completes
    entered = np.minimum(load.rate, most / np.maximum(_met(replica, mixed, -1) + _decoding(replica, -1), TINY))
    entering = mixed.entering(entered, replica.curve.at(seen) * load.accepted, seen)
    decode, (prefill,) = prefill_times(steps, load, seen, (entering,))
    prefill = prefill.longer(mixed.uneven(entering))
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


def _running(replica: _Replica, mixed: MixedSteps) -> Array:
    """Solve running = rate x later tokens x TPOT(running + 1) for the mean number of running sequences. (N,)

    At most `max_running`.
    """
    most, arriving = replica.max_running, replica.load.rate * replica.later_tokens

    def ratio(running: Array) -> Array:
        return np.asarray(running / np.maximum(arriving * _token_at(replica, mixed, running), TINY))

    return bracketed_root(np.full_like(most, _LEAST_RUNNING), most, ratio)


def _token_at(replica: _Replica, mixed: MixedSteps, running: Array) -> Array:
    """Return the seconds per output token of a sequence that meets `running` others on average, (N,)."""
    load = replica.load
    seen = np.minimum(running + 1.0, replica.max_running)
    token_time = replica.curve.at(seen)
    interference = mixed.interference(load.rate, token_time * load.accepted, seen)
    return slowed_tpot(token_time, load.rate * interference)


def _throughput(replica: _Replica, point: _Point) -> _Throughput:
    """Compute the requests/s that the replica completes, and whether it is saturated.

    It saturates where arrivals exceed what it completes while others queue, or where prefill takes all the time. A run
    of no more than `max_running` requests never queues, so arrivals cannot saturate it.
    """
    rate = replica.load.rate
    completed, drain = _completed(replica, point)
    full = (rate > drain) & (replica.run_length > replica.max_running)
    saturated = full | (rate * point.prefill.interference >= MAX_UTILISATION)
    return _Throughput(
        completed=completed, drain=drain, rate=np.where(saturated, np.minimum(rate, drain), rate), saturated=saturated
    )


def _completed(replica: _Replica, point: _Point) -> tuple[Array, Array]:
    """Return (requests/s completed at each knot while nobody queues, (K, N); by a full replica with a queue, (N,)).

    While nobody queues, prompts come at random: Little's law over a prefill and over decode steps that those prompts
    stretch. Where others queue, a prompt enters when a sequence ends. Sequences that began together end together where
    lengths are equal, and then enter as clustered as they once arrived, in fewer steps: the larger rate of both counts.
    Prompts are prefilled again only where others queue.
    """
    curve, load, repeats = replica.curve, replica.load, replica.prefills_per_request
    step, prefill, decode = (
        curve.time * load.accepted,
        load.mean(point.prefill.shared),
        replica.later_tokens * curve.time,
    )
    met = point.mixed.met(curve.running, step, load.mean(load.output) / load.accepted)
    rate, each = curve.running / (prefill + met + decode), np.zeros_like(step)
    for _ in range(_PASSES):
        each = point.mixed.interference(rate, step, curve.running)
        rate = equilibrium_rate(curve.running, prefill, decode, each)
    most, last = curve.running[-1], decode[-1]
    by_ends = most / ((prefill + met[-1]) * repeats + last)
    return rate, np.maximum(by_ends, equilibrium_rate(most, prefill * repeats, last, each[-1] * repeats))


def _met(replica: _Replica, mixed: MixedSteps, knot: int) -> Array:
    """Return the seconds that the prompts of the others delay a request at a knot of the decode curve, (N,)."""
    curve, load = replica.curve, replica.load
    return mixed.met(curve.running[knot], curve.time[knot] * load.accepted, load.mean(load.output) / load.accepted)


def _decoding(replica: _Replica, knot: int) -> Array:
    """Return the seconds of the decode steps of a request at a knot of the decode curve, (N,)."""
    return np.asarray(replica.later_tokens * replica.curve.time[knot])


def _prefill_wait(replica: _Replica, point: _Point, rate: Array) -> Array:
    """Return the mean seconds until a step computes an arriving prompt, (N,).

    The prompt waits for the running step, and for prompts ahead of it that do not fit into the next one. Derived: the
    first is half a step with prompts in the share of time that such steps take (Kingman's formula), more by their
    variance as a long step meets more arrivals, and half a decode step in the rest. The second is the wait of a queue
    whose server takes the time per prompt of the fullest steps: a bulk queue is no more loaded than that. With one
    prompt per step and no decodes both are the M/G/1 queue. Bursts add to it (`wait_of_bursts`). A short run ends
    before the queue reaches its steady length (`finite_run_wait`). rate: requests/s, (N,).
    """
    load = replica.load
    prefill, spread = load.mean(point.prefill.shared), np.square(point.prefill.cv(load))
    busy, loaded, per_prompt = _utilisation(replica, point, rate)
    variability = np.square(np.minimum(load.cv, POISSON_CV)) + spread
    uneven = 1.0 + point.mixed.cv_squared(point.entering, prefill, point.seen)
    ahead = busy * variability / 2.0 * loaded / (1.0 - loaded) * per_prompt
    ahead = ahead + wait_of_bursts(point.mixed.most, loaded, per_prompt, load.cv)
    walk = np.square(load.cv) + spread
    ahead = np.minimum(ahead, finite_run_wait(1.0 / per_prompt, replica.run_length, np.ones_like(rate), walk))
    wait = busy * variability / 2.0 * prefill * uneven + ahead + (1.0 - busy) * step_residual(point.running, point.step)
    # a run holds no more prompts
    return np.asarray(np.minimum(wait, replica.run_length * prefill / point.entering / 2.0))


def _utilisation(replica: _Replica, point: _Point, rate: Array) -> tuple[Array, Array, Array]:
    """Return (share of time that steps with prompts take, load of the queue of prompts, seconds per prompt of full
    steps), (N,) each. rate: requests/s, (N,).
    """
    busy = np.minimum(rate * replica.load.mean(point.prefill.shared) / point.entering, 1.0)
    per_prompt = point.mixed.per_prompt(point.decode.wall, point.seen)
    return busy, np.minimum(rate * per_prompt, MAX_UTILISATION), per_prompt


def _waits(replica: _Replica, point: _Point, throughput: _Throughput, queued: tuple[Array, Array]) -> WaitShape:
    """Return how the waits of an open loop are distributed.

    Derived: a prompt that meets no other waits uniformly for the end of a decode step, if one runs. The others wait as
    in an M/G/1 queue.

    queued: as `_queued` returns it, (N,) each.
    """
    rate, (queue, most) = throughput.rate, queued
    busy, loaded, _ = _utilisation(replica, point, rate)
    share = waiting_share(queue, rate, throughput.drain, replica.variability / 2.0)
    alone = 1.0 / np.maximum(np.square(replica.load.cv), 1.0)
    meets_none, prompts_wait = (1.0 - busy) * alone, wait_cv(loaded, point.prefill.cv(replica.load))
    return WaitShape(
        queued=np.minimum(queue, most),
        queued_by_rank=queued_by_rank((queue, share), most, np.minimum(replica.max_running / replica.run_length, 1.0)),
        short_shares=(meets_none * -np.expm1(-point.running),),
        short_longest=(point.step,),
        long_share=1.0 - meets_none,
        long_cv=1.0 + (prompts_wait - 1.0) * alone,
    )


def _tpot(
    replica: _Replica, point: _Point, throughput: _Throughput, prefill_wait: Array, elastic: Array
) -> tuple[Array, TokenShape]:
    """Return (mean seconds per output token, (N,), with delays by other prompts; how it differs between requests).

    It is at most that of a full replica. Prompts that arrived while a request waited and was prefilled are computed
    after it, and delay its decode. elastic: as `_elasticity` returns it, (N,).
    """
    interference = point.prefill.interference
    prefill_share = np.minimum(throughput.rate * interference, MAX_UTILISATION)
    token_time = point.step / replica.load.accepted
    queued_behind = throughput.rate * (replica.load.mean(point.prefill.shared) + prefill_wait)
    full = slowed_tpot(replica.curve.time[-1], throughput.drain * interference)
    usual = token_time / (1.0 - prefill_share)
    later = np.maximum(replica.later_tokens, 1.0)
    met = np.minimum(queued_behind * interference / later / (1.0 - prefill_share), np.maximum(full - usual, 0.0))
    drift = drift_of(elastic, point.running, replica.load.cv)
    shape = TokenShape(
        settling=met * later,
        settling_share=-np.expm1(-queued_behind),
        settling_most=longest_delay(replica.steps, replica.load, point.decode.wall, point.prefill),
        drift=np.minimum(drift, np.maximum(full / (usual + met) - 1.0, 0.0) / _FAR),
        gain=1.0 / (1.0 - prefill_share),
    )
    return usual + met, shape


def _elasticity(replica: _Replica, point: _Point) -> Array:
    """Return d ln(seconds per output token) / d ln(running sequences), 0 to 1, (N,)."""
    slower = _token_at(replica, point.mixed, point.running * (1.0 + _RISE))
    usual = np.maximum(_token_at(replica, point.mixed, point.running), TINY)
    return np.asarray(np.clip(np.log(slower / usual) / np.log1p(_RISE), 0.0, 1.0))


def _queued(replica: _Replica, throughput: _Throughput, max_running: Array) -> tuple[Array, Array]:
    """Return the mean seconds that a request queues for admission: (in a steady queue, at most in a run), (N,) each.

    The latter is what a run of this length can build up by chance, infinite for a run without end.
    """
    variability = replica.variability
    steady = admission_wait(
        throughput.rate, replica.curve.running, throughput.completed, throughput.drain, variability / 2.0
    )
    most = finite_run_wait(throughput.rate, replica.run_length, max_running, variability)
    never = (replica.run_length <= max_running) | (throughput.saturated & np.isinf(replica.run_length))
    return np.where(never, 0.0, steady), np.where(never & np.isfinite(replica.run_length), 0.0, most)


def _gains(
    replica: _Replica, point: _Point, throughput: _Throughput, max_running: Array, wait: Array, elastic: Array
) -> Gains:
    """Return how much the load magnifies an error of all times.

    Derived: with all times longer by a factor, a queue under the same arrivals is that under a rate as much higher, in
    longer seconds; so d ln(wait) / d ln(times) = 1 + d ln(wait) / d ln(rate). Sequences in flight rise with the time
    per token, which rises with them: the time per token grows by 1 / (1 - its elasticity in their number), and by the
    share of time that prompts take. wait: mean seconds at the rate served, (N,). elastic: that elasticity, (N,).
    """
    rise = np.log1p(_RISE)
    busier = replace(throughput, rate=throughput.rate * (1.0 + _RISE))
    queue, most = _queued(replica, busier, max_running)
    more = _prefill_wait(replica, point, busier.rate) + np.minimum(queue, most)
    prompts = np.minimum(throughput.rate * point.prefill.interference, MAX_UTILISATION)
    token = 1.0 / np.maximum((1.0 - elastic) * (1.0 - prompts), 1.0 / MOST_GAIN)
    with np.errstate(divide="ignore", invalid="ignore"):
        waits = 1.0 + np.log(more / wait) / rise
        load = replica.load.rate / throughput.drain
    full = (
        point.running >= replica.max_running * SATURATED_SHARE
    )  # no more sequences fit: the time per token is bounded
    return Gains(
        token=np.where(full, 1.0, token), wait=np.clip(np.nan_to_num(waits, nan=MOST_GAIN), 1.0, MOST_GAIN), load=load
    )


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
    elastic = _elasticity(replica, point)
    tpot, tokens = _tpot(replica, point, throughput, prefill_wait, elastic)
    return Served(
        times=RequestTimes(
            ttft=prefill.shared + wait + endless + replica.steps.request_time(replica.load.input),
            tpot=zero + tpot,
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
        waits=replace(_waits(replica, point, throughput, (queue, most)), uniform_share=np.isinf(endless) * 1.0),
        gains=_gains(replica, point, throughput, max_running, wait, elastic),
        tokens=tokens,
    )
