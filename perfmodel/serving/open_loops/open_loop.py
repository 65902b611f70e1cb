"""Estimate an open loop: requests arrive at random at a given rate, however fast the replica serves them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from perfmodel.arrays import Array
from perfmodel.lazy_fields import LazyValue, lazy_value
from perfmodel.serving.limits import MAX_UTILISATION, SATURATED_SHARE, TINY
from perfmodel.serving.offline_batches.offline import arriving
from perfmodel.serving.open_loops.finite_run import finite_run
from perfmodel.serving.open_loops.open_waits import (
    Point,
    Replica,
    Throughput,
    beyond_prompts,
    filling_share,
    planned_in_run,
    prefill_wait,
    queued_in_run,
    rate_like_run,
    token_handed_on,
    wait_shape,
)
from perfmodel.serving.open_loops.prompt_delays import interrupted, rest_of_burst, settling_share
from perfmodel.serving.queues.admission import waiting_share
from perfmodel.serving.queues.queueing import (
    bracketed_root,
    equilibrium_rate,
    mean_over_poisson,
    poisson_nodes,
    slowed_tpot,
)
from perfmodel.serving.served import MOST_GAIN, Gains, RequestTimes, Served, StepCosts, StepTimes, TokenShape
from perfmodel.serving.step_times.curve import DecodeCurve
from perfmodel.serving.step_times.mixed_steps import MixedSteps, curve_and_mixed
from perfmodel.serving.step_times.prefills import held_beside, prefill_times_beside
from perfmodel.serving.step_times.steps import StepModel
from perfmodel.serving.step_times.token_spread import drift_of, longest_delay, spread_of
from perfmodel.workload import Load

#: Fewest mean running sequences that the fixed point is searched from.
_LEAST_RUNNING = 1e-6
#: Passes of the fixed point of the rate that prompts enter at and the steps that they stretch.
_PASSES = 4
#: Standard deviations within which times per token lie, for the bound on their drift.
_FAR = 2.33
#: Passes of the elasticity and of how far the number running drifts. Chosen: more of them move no drift by 2 %.
_DRIFT_PASSES = 3
#: Share by which the rate is raised for the gain of waits. Chosen: small against the distance of most loads to
#: capacity, large against the tolerance of the fixed point.
_RISE = 0.02
#: Share of a number of sequences that is rounding: the last knot of a curve is the exponential of a logarithm.
_ROUNDING = 1e-12
#: Fewest requests/s that a load is estimated at. Chosen: none comes within the age of the universe, and the square of
#: the time between two is finite.
_LEAST_RATE = 1e-100
#: What `offline.arriving` returns.
_Run = tuple[Served, Served, Array, tuple[DecodeCurve, MixedSteps]]


def open_loop(steps: StepModel, load: Load, max_running: Array, prefills_per_request: Array) -> Served:
    """Estimate one replica under arrivals at `load.rate` requests/s. A saturated replica is marked as such.

    Little's law fixes how many sequences run: running = rate x later tokens x TPOT.

    A run of `load.n_requests` never has more in the replica than that, and only those beyond its limit ever queue.

    Args:
        steps: computes cost and time of steps of the N candidates.
        load: load of one replica.
        max_running: sequences that run at once, (N,).
        prefills_per_request: expected prefills per request while others queue for admission, (N,).
    """
    load = replace(load, rate=np.maximum(load.rate, _LEAST_RATE))
    limits = (max_running, prefills_per_request)
    run = _run(steps, load, limits) if np.isfinite(load.n_requests).any() else None
    replica = _replica(steps, load, limits, run)
    running = _running(replica)
    point = _operating_point(replica, running)
    throughput = _throughput(replica, point)
    if run is None:
        return _served(replica, point, throughput, max_running)
    replica = replace(replica, filling=(filling := filling_share(replica, point)))
    # while it fills half of the final number, on average, and no more than a run holds
    fewer = (1.0 - filling) * running + filling * np.minimum(running / 2.0, run[1].running)
    emptier = _operating_point(replica, fewer, rate_like_run(replica, point, throughput.rate))
    full, met = (_served(replica, p, throughput, max_running) for p in (point, emptier))
    found = replace(full, times=replace(met.times, tpot=full.times.tpot), waits=met.waits)
    room = (max_running, replica.mixed.per_prompt(run[1].running))
    return finite_run(found, steps, load, run[:2], filling, room)


def _replica(steps: StepModel, load: Load, limits: tuple[Array, Array], run: _Run | None) -> Replica:
    """Describe one replica; what `_run` priced of it is not priced again. run: what that returns, or None."""
    (max_running, prefills_per_request), finite = limits, np.isfinite(load.n_requests)
    run_length = np.where(finite, load.n_requests, np.inf)
    capacity = np.maximum(np.minimum(max_running, run_length), 1.0)
    if run is not None and np.allclose(run[3][0].running[-1], capacity, rtol=_ROUNDING, atol=0.0):
        curve, mixed = run[3]
    else:
        curve, mixed = curve_and_mixed(steps, load, capacity)
    return Replica(
        steps=steps,
        load=load,
        run_length=run_length,
        max_running=capacity,
        curve=curve,
        mixed=mixed,
        later_tokens=np.maximum(load.mean(load.output) - 1.0, 0.0),
        prefills_per_request=prefills_per_request,
        full=np.ones_like(run_length) if run is None else np.where(finite, run[2], 1.0),
    )


def _run(steps: StepModel, load: Load, limits: tuple[Array, Array]) -> _Run:
    """Return `offline.arriving` of the run; of one request where a run has no end."""
    count = np.where(np.isfinite(load.n_requests), load.n_requests, 1.0)
    return arriving(steps, replace(load, n_requests=count), *limits)


def _operating_point(replica: Replica, running: Array, most_rate: Array | float = np.inf) -> Point:
    """Return the steps of a replica in which `running` sequences run on average, (N,).

    most_rate: requests/s at which no more prompts share a step than in a run, (N,).
    """
    steps, load, most, mixed = replica.steps, replica.load, replica.max_running, replica.mixed
    seen, spread = _seen(replica, running)
    # beyond capacity no more prompts enter than a full batch completes
    entered = np.minimum(load.rate, most / np.maximum(_met(replica, -1) + _decoding(replica, -1), TINY))
    entering = mixed.entering(np.minimum(entered, most_rate), replica.curve.at(seen) * load.accepted, seen)
    nodes = steps.decode_step(np.stack(poisson_nodes(spread, seen, most)), load.decode_context, load.drafts)
    decode, (prefill,), (aside,) = prefill_times_beside(steps, load, seen, (entering,), (nodes,), defer=True)
    prefill = prefill.longer(mixed.uneven(entering, seen))
    return Point(
        running=running,
        seen=seen,
        entering=entering,
        decode=decode,
        step=mean_over_poisson(decode.wall, *aside.wall),
        prefill=prefill,
    )


def _seen(replica: Replica, running: Array) -> tuple[Array, Array]:
    """Return (mean sequences that run while one of them does, itself included, variance of their number), (N,) each.

    Derived: a sequence meets a Poisson number of others, mean `running`. Bursts bring z - 1 more with it, where z is
    the variance over the mean of the number running (`equations.peakedness`): E[n (n - 1)] / E[n] = mean + z - 1. With
    the variance z times the mean that number is negative binomial, and so is that of the others, with the same z.
    running: mean number, (N,).
    """
    peak = replica.variation.peakedness(running)
    others = np.maximum(running + peak - 1.0, 0.0)
    return np.minimum(others + 1.0, replica.max_running), others * peak


def _running(replica: Replica) -> Array:
    """Solve running = rate x later tokens x TPOT(running + 1) for the mean number of running sequences. (N,)

    At most `max_running`.
    """
    most, arriving = replica.max_running, replica.load.rate * replica.later_tokens

    def ratio(running: Array) -> Array:
        return np.asarray(running / np.maximum(arriving * _token_at(replica, running), TINY))

    return bracketed_root(np.full_like(most, _LEAST_RUNNING), most, ratio)


def _token_at(replica: Replica, running: Array) -> Array:
    """Return the seconds per output token of a sequence that meets `running` others on average, (N,)."""
    load = replica.load
    seen, _ = _seen(replica, running)
    token_time = replica.curve.at(seen)
    if replica.mixed.separate:
        step = token_time * load.accepted
        return np.asarray((step + replica.mixed.between(load.rate, step, seen).delay) / load.accepted)
    interference = replica.mixed.interference(load.rate, token_time * load.accepted, seen)
    return slowed_tpot(token_time, load.rate * interference)


def _throughput(replica: Replica, point: Point) -> Throughput:
    """Compute the requests/s that the replica completes, and whether it is saturated.

    It is where arrivals exceed what it completes while others queue. A run of no more than `max_running` requests never
    queues: its prompts are computed as fast as they come until they take all the time.
    """
    rate, queues = replica.load.rate, replica.run_length > replica.max_running
    completed, drain = _completed(replica, point)
    most = np.where(queues, drain, np.maximum(drain, MAX_UTILISATION / np.maximum(point.prefill.interference, TINY)))
    return Throughput(completed=completed, drain=drain, rate=np.minimum(rate, most), saturated=rate > most)


def _completed(replica: Replica, point: Point) -> tuple[Array, Array]:
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
    met = replica.mixed.met(curve.running, step, load.mean(load.output) / load.accepted)
    rate, each = curve.running / (prefill + met + decode), np.zeros_like(step)
    for _ in range(_PASSES):
        each = replica.mixed.interference(rate, step, curve.running)
        rate = equilibrium_rate(curve.running, prefill, decode, each)
    most, last = curve.running[-1], decode[-1]
    by_ends = most / ((prefill + met[-1]) * repeats + last)
    return rate, np.maximum(by_ends, equilibrium_rate(most, prefill * repeats, last, each[-1] * repeats))


def _met(replica: Replica, knot: int) -> Array:
    """Return the seconds that the prompts of the others delay a request at a knot of the decode curve, (N,)."""
    curve, load = replica.curve, replica.load
    return replica.mixed.met(
        curve.running[knot], curve.time[knot] * load.accepted, load.mean(load.output) / load.accepted
    )


def _decoding(replica: Replica, knot: int) -> Array:
    """Return the seconds of the decode steps of a request at a knot of the decode curve, (N,)."""
    return np.asarray(replica.later_tokens * replica.curve.time[knot])


def _tpot(
    replica: Replica, point: Point, throughput: Throughput, waits: tuple[Array, Array]
) -> tuple[Array, LazyValue[TokenShape]]:
    """Return (mean seconds per output token, (N,), with delays by other prompts; how it differs between requests).

    It is at most that of a full replica. Prompts that arrived while a request waited and was prefilled are computed
    after it, and delay its decode; so does the rest of its burst (`equations.peakedness`). waits: mean seconds that a
    request waits for a step, and share of those that wait for room, (N,).
    """
    for_step, crowded = waits
    token_time = point.step / replica.load.accepted
    waited = throughput.rate * for_step
    queued_behind = throughput.rate * replica.load.mean(point.prefill.shared) + waited
    queued_behind = queued_behind - np.minimum(waited, (replica.mixed.most - 1.0) / 2.0)
    rest = rest_of_burst(replica, queued_behind + point.running)
    prefill_share, behind = interrupted(replica, point, throughput.rate, (queued_behind, rest))
    full = _slowest_token(replica, point, throughput, crowded)
    usual = np.minimum(token_time / (1.0 - prefill_share), full)
    tokens = np.maximum(replica.later_tokens, 1.0)
    met = np.minimum(behind / tokens, np.maximum(full - usual, 0.0))

    def shape() -> TokenShape:
        """Return how the time per token differs between requests."""
        longest = longest_delay(replica.steps, replica.load, point.decode.wall, point.prefill)
        return TokenShape(
            settling=met * tokens,
            settling_share=settling_share(queued_behind, rest),
            settling_most=np.maximum(longest, _fullest_step(replica) - token_time),
            drift=np.minimum(_drift(replica, point), np.maximum(full / (usual + met) - 1.0, 0.0) / _FAR),
            gain=1.0 / (1.0 - np.minimum(prefill_share, MAX_UTILISATION)),
        )

    return usual + met, LazyValue(shape)


def _slowest_token(replica: Replica, point: Point, throughput: Throughput, crowded: Array) -> Array:
    """Return the seconds per output token of a full replica, (N,).

    If prompts share steps with decodes, every step yields a token, so that the fullest step is the bound. Otherwise a
    request is delayed by at most as many prompts as there are other sequence slots. Equal requests that are admitted
    when others end stay together; then half of these prompts are computed before the first token. crowded: share of
    requests that are admitted so, (N,).
    """
    step = replica.curve.time[-1]
    full = slowed_tpot(step, throughput.drain * point.prefill.interference)
    if replica.mixed.separate:
        together = crowded * replica.load.synchronised * replica.steps.engine.synchronised
        met = _met(replica, -1) * replica.prefills_per_request * (1.0 - together / 2.0)
        # prompts that follow each other as they arrive go on until the replica is full: half of that on average
        met = np.maximum(met, (replica.max_running - 1.0) / replica.load.rate / 2.0)
        return np.asarray(np.minimum(full, step + met / np.maximum(replica.later_tokens, 1.0)))
    return np.asarray(np.minimum(full, _fullest_step(replica)))


def _fullest_step(replica: Replica) -> Array:
    """Return the seconds per output token of steps with as many prompts and sequences as there can be, (N,)."""
    if replica.mixed.separate:
        return np.full_like(replica.max_running, np.inf)
    base, each = replica.mixed.at(replica.max_running)
    several = np.maximum(replica.mixed.most / held_beside(replica.steps, replica.load, replica.max_running - 1.0), 1.0)
    step = replica.curve.time[-1] * replica.load.accepted
    added = np.maximum(base + each * replica.mixed.most - step, 0.0)
    return np.asarray((step + added / several) / replica.load.accepted)


def _step_times(replica: Replica, point: Point) -> StepTimes:
    """Return the times of steps with and without prompts. A longer prompt is taken in as one."""
    prefill, (_, each) = point.prefill, replica.mixed.at(point.seen)
    return StepTimes(
        decode=point.step,
        mixed=prefill.mixed_step,
        interference=prefill.interference_by_class,
        growth=np.maximum(each - replica.steps.take_in, 0.0) / np.maximum(prefill.interference, TINY),
    )


def _elasticity(replica: Replica, point: Point, rise: Array | float = _RISE) -> Array:
    """Return d ln(seconds per output token) / d ln(running sequences), 0 to 1, (N,), over a `rise` of their number."""
    slower = _token_at(replica, point.running * (1.0 + rise))
    usual = np.maximum(_token_at(replica, point.running), TINY)
    return np.asarray(np.clip(np.log(slower / usual) / np.log1p(rise), 0.0, 1.0))


def _drift(replica: Replica, point: Point) -> Array:
    """Return the coefficient of variation of the time per token as the number running drifts (`drift_of`), (N,).

    The elasticity is that over as far as the number drifts, so that no request has a longer time than the steps with
    most sequences that it meets: steps of experts hardly grow any more once all are read. That at the mean number jumps
    from one line of the decode curve to the next.
    """
    peak, elastic = replica.variation.peakedness(point.running), np.zeros_like(point.running)
    for _ in range(_DRIFT_PASSES):
        far = _FAR * np.sqrt(spread_of(elastic, point.running, peak))
        elastic = _elasticity(replica, point, np.maximum(np.expm1(far), _RISE))
    return drift_of(elastic, point.running, peak)


def _gains(
    replica: Replica, point: Point, throughput: Throughput, max_running: Array, wait: Array, elastic: Array
) -> Gains:
    """Return the factors by which queueing amplifies a relative error that all step times have in common.

    Derived: if all times are longer by a factor, the queue behaves as under a rate that is higher by this factor, with
    its times longer by it. So d ln(wait) / d ln(times) = 1 + d ln(wait) / d ln(rate). The time per token and the number
    of running sequences raise each other: its error grows by 1 / (1 - elastic), and by 1 / (1 - share of prompts).
    wait: mean seconds at the rate served, (N,). elastic: d ln(time per token) / d ln(running sequences), (N,).
    """
    busier = replace(throughput, rate=throughput.rate * (1.0 + _RISE))
    queued = queued_in_run(replica, busier, max_running)[0]
    more = prefill_wait(replica, point, busier.rate) + beyond_prompts(replica, point, busier.rate, queued)
    prompts = np.minimum(throughput.rate * point.prefill.interference, MAX_UTILISATION)
    token = 1.0 / np.maximum((1.0 - elastic) * (1.0 - prompts), 1.0 / MOST_GAIN)
    with np.errstate(divide="ignore", invalid="ignore"):
        waits = 1.0 + np.log(more / wait) / np.log1p(_RISE)
        load = replica.load.rate / throughput.drain
    # where no more sequences fit, the time per token is bounded
    full = point.running >= replica.max_running * SATURATED_SHARE
    wait = np.clip(np.nan_to_num(waits, nan=MOST_GAIN), 1.0, MOST_GAIN)
    return Gains(token=np.where(full, 1.0, token), wait=wait, load=load)


def _served(replica: Replica, point: Point, throughput: Throughput, max_running: Array) -> Served:
    """Assemble the steady-state estimate of one replica.

    In a run of finite length, random queues are only as long as they can grow within it. In a run without end whose
    demand exceeds the rate served, waits are infinite.
    """
    for_step = prefill_wait(replica, point, throughput.rate)
    queued = queued_in_run(replica, throughput, max_running)
    crowded = waiting_share(queued[1], throughput.rate, throughput.drain, replica.variation)
    for_room = beyond_prompts(replica, point, throughput.rate, queued[0])
    planned, spared = planned_in_run(replica, point, throughput.rate, crowded, for_room)
    queue = for_step + for_room
    wait, late = queue + planned, token_handed_on(replica, point, throughput.rate)
    over = throughput.saturated & (replica.load.rate > throughput.rate)
    endless = np.where(over & np.isinf(replica.run_length), np.inf, 0.0)
    prefill, uniform = point.prefill, np.isinf(endless) * 1.0
    zero = np.zeros_like(prefill.shared)
    elastic = LazyValue(lambda: _elasticity(replica, point))
    tpot, tokens = _tpot(replica, point, throughput, (for_step, crowded))
    return Served(
        times=RequestTimes(
            prefill.shared + wait + endless + late + replica.steps.request_time(replica.load.input),
            *(zero + tpot, zero + wait + endless, zero, prefill.shared, planned, late),
        ),
        steps=_step_times(replica, point),
        costs=StepCosts(
            decode=point.decode.cost,
            prefill=lazy_value(lambda: prefill.cost),
            prefill_steps=prefill.n_steps,
            prompt=lazy_value(lambda: prefill.own),
            decode_seqs=point.seen,
            prompts=prefill.planned,
        ),
        running=point.running,
        rate=throughput.rate,
        saturated=throughput.saturated,
        waits=lazy_value(lambda: wait_shape(replica, point, throughput, queued, (spared, uniform))),
        gains=lazy_value(lambda: _gains(replica, point, throughput, max_running, queue, elastic())),
        tokens=lazy_value(tokens),
    )
