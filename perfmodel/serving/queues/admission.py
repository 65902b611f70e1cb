"""Admission: how long a request queues until the replica has free KV-cache blocks and a free sequence slot.

Admitted sequences are decoded concurrently, so this is a queue in front of a processor-sharing server with a limit.
"""

from __future__ import annotations

import numpy as np

from perfmodel import equations as eq
from perfmodel.arrays import Array, interpolate
from perfmodel.engines import Engine
from perfmodel.serving.limits import TINY
from perfmodel.serving.queues.run_waits import rank_in_run
from perfmodel.serving.queues.variation import MARKOV, Variation
from perfmodel.workload import RANKS, Load

#: Most recomputed prefills per request. Chosen: a bound for outputs far longer than prompts, where the law grows as
#: the square of their ratio.
_MAX_EVICTIONS = 4.0
#: Least completions per step that preemptions are computed for: fewer change no digit.
_LEAST_ENDS = 1e-6
#: Completions per step that equal answers count as at most: those that end together free room only once. Chosen: 300 to
#: 2,000 sequences of 300 tokens in and out are sent back as often as at this number, within a third.
_TOGETHER = 0.5
#: Cells of the birth-death chain; twice as many change no wait by 1 %.
_CELLS = 32
#: Part of a sequence that is rounding: the last knot is the exponential of a logarithm.
_ROUNDING = 1e-9
#: Standard deviations on either side of the likeliest number of running sequences, and numbers beyond these, that the
#: chain covers. Chosen: states further off have less than a millionth of the probability.
_WIDE = 5.0
#: Least relative rise of completions with the number running, for the width of the chain.
_LEAST_RISE = 1e-3
#: Factor over which that rise is taken.
_STEP = 1.05


def admission_wait(rate: Array, knots: Array, completed: Array, drain: Array, variation: Variation = MARKOV) -> Array:
    """Return the mean seconds that an arriving request queues for admission, (N,); infinite at or beyond capacity.

    Limited processor sharing as a birth-death process (Avi-Itzhak & Heyman, Oper. Res. 21(4), 1973); it is M/M/c where
    each admitted request ends at its own rate. Those that wait do so for as long as in a queue with one server that
    ends `drain` requests/s (Allen-Cunneen). Bursts count twice: a replica is full more often (`chance_of_full`), and
    the queue behind it is longer. Against G/G/c queues drawn at random it is within a fifth
    (`tests/test_serving_bulk_arrivals.py`).

    Args:
        rate: arrivals, requests/s above 0, (N,).
        knots: running sequences, rising up to the most that run at once, (K, N).
        completed: requests/s that the replica completes with so many running, (K, N).
        drain: requests/s that a full replica completes while others queue, (N,).
        variation: of gaps between arrivals and of answers.
    """
    full, utilisation = chance_of_full(rate, knots, completed, variation), rate / drain
    # the states with a queue go on as a geometric series
    free = -np.expm1(log_rise(utilisation, variation.peakedness(_likeliest(rate, knots, completed))))
    with np.errstate(divide="ignore", invalid="ignore"):
        share = full / (free + full * (1.0 - free))
        wait = share * variation.queued(rate, drain)
    return np.where(utilisation < 1.0, wait, np.inf)


def waiting_share(wait: Array, rate: Array, drain: Array, variation: Variation = MARKOV) -> Array:
    """Return the share of requests that queue for admission at all, (N,), where they wait `wait` seconds on average.

    Other arguments as in `admission_wait`. Beyond capacity all queue.
    """
    with np.errstate(invalid="ignore"):
        share = wait / np.maximum(variation.queued(rate, drain), TINY)
    return np.where(rate < drain, np.clip(share, 0.0, 1.0), 1.0)


def log_rise(load: Array, peak: Array) -> Array:
    """Return ln(p[n] / p[n - 1]) of the birth-death chain, where p[n] is the chance that an arrival finds n requests.

    Derived for bursts: requests come in Poisson batches whose size is geometric with mean z; the number in service then
    has a variance of z times its mean. An arrival sees the states of the chain, plus the requests of its own batch that
    came before it. In balance p[n] / p[n - 1] = 1 + (r - 1) / z, where r is the arrival rate over the completion rate
    in state n. For gaps more even than Poisson's it is r^(1 / z), as if z requests were one (Hayward's approximation).

    Args:
        load: r, (N,) or (K, N).
        peak: z, (N,).

    References: Chaudhry & Templeton, A First Course in Bulk Queues, 1983; Fredericks, Bell Syst. Tech. J. 59(6), 1980.
    """
    size = np.maximum(peak, 1.0)  # added to load, from which 1 is not taken: a small one would be lost
    bursts = np.log((size - 1.0 + load) / size)
    return np.where(peak < 1.0, np.log(load) / np.minimum(peak, 1.0), bursts)


def chance_of_full(rate: Array, knots: Array, completed: Array, variation: Variation = MARKOV) -> Array:
    """Return the probability that an arrival finds a replica in which nobody queues with all that fit running, (N,).

    Arguments as above. The chain of 0 to `knots[-1]` running sequences goes up at `rate` and down at `completed_rate`;
    bursts come in batches (`log_rise`). Only the states around the likeliest number are followed, in cells of one
    sequence, or wider ones, `_CELLS` at most.
    """
    most, likeliest = knots[-1], _likeliest(rate, knots, completed)
    peak = variation.peakedness(likeliest)
    aside = _WIDE * (1.0 + np.sqrt(likeliest * peak / _rise(knots, completed, likeliest)))
    low, high = np.maximum(likeliest - aside, 0.0), np.minimum(likeliest + aside, most)
    cells = np.clip(np.ceil(high - low - _ROUNDING), 1.0, _CELLS)
    width = (high - low) / cells
    number = np.arange(_CELLS)[:, None]
    middles = low + (number + 0.5) * width + 0.5
    rises = np.where(number < cells, width * log_rise(rate / completed_rate(knots, completed, middles), peak), 0.0)
    logs = np.concatenate([np.zeros_like(rises[:1]), np.cumsum(rises, axis=0)])
    states = np.exp(logs - logs.max(axis=0))
    # the sum over whole numbers, as an integral with half a state at either end
    number = np.arange(_CELLS + 1)[:, None]
    inner = np.where((number > 0) & (number < cells), width, 0.0)
    ends = np.where((number == 0) | (number == cells), (width + 1.0) / 2.0, 0.0)
    return np.where(high >= most, states[-1] / (states * (inner + ends)).sum(axis=0), 0.0)


def _likeliest(rate: Array, knots: Array, completed: Array) -> Array:
    """Return the number of running sequences that completes `rate` requests/s, at most the last knot, (N,)."""
    lacking = knots - rate * knots / completed  # rises from below zero to above at that number
    found = np.minimum(rate * knots[0] / completed[0], knots[0])
    for below, above, left, right in zip(lacking[:-1], lacking[1:], knots[:-1], knots[1:], strict=True):
        inside = left + (right - left) * below / np.minimum(below - above, -_LEAST_RISE)
        found = np.where((below < 0) & (above >= 0), inside, np.where(above < 0, right, found))
    return np.asarray(found)


def _rise(knots: Array, completed: Array, running: Array) -> Array:
    """Return d ln(completions) / d ln(running sequences), (N,), of which the chain's variance is the inverse."""
    more = [completed_rate(knots, completed, running * factor) for factor in (1.0, _STEP)]
    return np.asarray(np.maximum(np.log(more[1] / more[0]) / np.log(_STEP), _LEAST_RISE))


def queued_by_rank(queue: tuple[Array, Array], noise: Array, later: Array) -> Array:
    """Return the waits for admission at the Q ranks `workload.RANKS`, seconds, (Q, N).

    A steady wait, where there is one, is exponential. The first requests of a run fit and do not wait; the others wait
    as in a run that starts with an empty queue (`run_waits`).

    Args:
        queue: mean wait for admission where the queue is steady, seconds, and the share of requests that wait, (N,).
        noise: standard deviation of the work of the requests that come later less the time that it has, seconds, (N,);
            infinite for a run without end.
        later: share of the requests of the run that come after the replica is full, (N,); 1 for a run without end.
    """
    ranks, (mean, chance) = np.array(list(RANKS.values()))[:, None], queue
    chance = np.maximum(chance, TINY)
    above = (1.0 - ranks) / np.maximum(later, TINY)  # the share of those that come later
    beyond = np.maximum(np.log(chance / above), 0.0)
    steady = np.where(beyond > 0.0, mean / chance * np.maximum(beyond, TINY), 0.0)
    return np.asarray(rank_in_run(noise, steady, 1.0 - above))


def completed_rate(knots: Array, completed: Array, at: Array) -> Array:
    """Interpolate the requests/s that a replica completes while `at` sequences run, (N,) or (J, N).

    `completed` holds requests/s at each of K numbers of running sequences, `knots`; both are (K, N). The time of a
    request, the number running over the rate, is linear between knots, as steps are; below the first it is constant.
    """
    return np.asarray(np.minimum(at, knots[-1]) / interpolate(knots, knots / completed, at))


def evictions_per_request(prompt: Array, output: Array, reserved: Array, running: Array | float = 0.0) -> Array:
    """Return the expected preemptions by recomputation per request, (N,), while the KV cache is full and others queue.

    Engines that allocate KV blocks as sequences grow evict the newest sequence when blocks run out; its prompt is
    prefilled again (PagedAttention, arXiv:2309.06180, section 4.5). Derived: a completion makes room for prompts until
    fewer than one prompt plus `reserved` tokens are free, uniformly in between; what growth lacks is taken from the
    newest, a prompt each. The law is the larger of two. Where completions are rare, the others grow between two steps
    with a completion by so many tokens, nearly exponential, which takes the room that is left. Where a step sees
    many, growth takes what they free before a prompt does, and lacks room only in steps with too few of them: their
    number is Poisson, and nearly normal. Within a third of a replay, and 0.1 (`tests/test_serving_by_hand.py`).

    Args:
        prompt, output: mean tokens of a request, (N,).
        reserved: tokens that the engine keeps free when it admits, (N,).
        running: sequences that run, each of which grows by a token per step; 0: so few that hardly any step sees a
            completion, (N,).
    """
    ends = np.maximum(np.asarray(running) / output, _LEAST_ENDS)  # completions per step
    none, some = np.exp(-ends), -np.expm1(-ends)
    grown = ends * output / some
    lacking = none * np.square(grown) / prompt * np.exp(-reserved / grown) * -np.expm1(-prompt / grown) * some
    growth = ends * output  # of all in a step, which lacks no more than it takes beyond what a prompt leaves
    short = eq.normal_excess(-(ends + 0.5) * prompt - reserved, (prompt + output) * np.sqrt(ends))
    short = np.minimum(short, np.where(growth < prompt, np.square(growth) / (2.0 * prompt), growth - prompt / 2.0))
    return np.asarray(np.minimum(np.maximum(lacking, short) / (ends * prompt), _MAX_EVICTIONS))


def prefills_per_request(engine: Engine, load: Load, kv_capacity: Array, max_running: Array) -> Array:
    """Return the expected number of prefills per request while requests queue for admission, (N,).

    Above 1 when the engine preempts by recomputation and the KV cache, not max_num_seqs, limits the batch: running
    sequences outgrow the cache, the newest is evicted and prefilled again.

    Args:
        engine: its admission and preemption policy.
        load: load of one replica.
        kv_capacity: sequences whose KV cache fits at the mean length, (N,).
        max_running: sequences that run at once, (N,).
    """
    if engine.admission != "grow" or engine.preemption != "recompute":
        return np.ones_like(max_running)
    # a prompt occupies KV blocks for all its tokens, whether the prefix cache held them or not
    prompt, output = load.mean(load.input), load.mean(load.output)
    held = prompt + output / 2.0  # tokens of a running sequence, half of its output generated
    reserved = engine.admission_watermark * held + engine.admission_headroom * output / 2.0
    # equal answers that begin together end together, so that few steps see a completion however many run
    apart = np.where(load.length_cv > 0.0, max_running, np.minimum(max_running, _TOGETHER * output))
    evicted = evictions_per_request(prompt, output, reserved * max_running, apart)
    return 1.0 + np.where(kv_capacity <= max_running, evicted, 0.0)
