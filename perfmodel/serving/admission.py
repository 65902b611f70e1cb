"""Admission: how long a request queues until the replica has free KV-cache blocks and a free sequence slot.

Admitted sequences are decoded concurrently, so this is a queue in front of a processor-sharing server with a limit.
"""

from __future__ import annotations

import numpy as np

from perfmodel.arrays import Array, interpolate
from perfmodel.engines import Engine
from perfmodel.workload import RANKS, Load

#: Most recomputed prefills per request. Chosen: a bound for outputs far longer than prompts, where the law grows as
#: the square of their ratio.
_MAX_EVICTIONS = 4.0
#: Cells of the birth-death chain from an empty to a full replica; more of them change no wait by 1 %.
_CELLS = 32
#: Least departure rate (requests/s) in a logarithm.
_TINY_RATE = 1e-300


def admission_wait(
    rate: Array, knots: Array, completed: Array, max_running: Array, variability: Array | float = 1.0
) -> Array:
    """Return the mean seconds that an arriving request queues for admission, (N,); infinite at or beyond capacity.

    Limited processor sharing as a birth-death process (Avi-Itzhak & Heyman, Oper. Res. 21(4), 1973); it is M/M/c where
    each admitted request ends at its own rate. The queue behind a full replica is scaled as in M/G/c (Allen-Cunneen).

    Args:
        rate: arrivals, requests/s, (N,).
        knots: running sequences, rising up to `max_running`, (K, N).
        completed: requests/s that the replica completes with so many running, (K, N).
        max_running: sequences that run at once, (N,).
        variability: (c_a^2 + c_s^2) / 2, with the coefficients of variation of gaps between arrivals and of lengths.
    """
    width = max_running / _CELLS
    log_probability = np.zeros_like(max_running)  # of a number of running sequences, relative to none
    logs_by_cell = [log_probability]
    for cell in range(_CELLS):
        at = (cell + 0.5) * width + 0.5
        departures = np.maximum(completed_rate(knots, completed, at), _TINY_RATE)
        log_probability = log_probability + width * np.log(rate / departures)
        logs_by_cell.append(log_probability)
    logs = np.stack(logs_by_cell)
    states = np.exp(logs - logs.max(axis=0))
    # the sum over whole numbers, as an integral with half a state at either end
    inside = width * (states.sum(axis=0) - 0.5 * (states[0] + states[-1])) + 0.5 * (states[0] + states[-1])
    utilisation = rate / completed[-1]
    with np.errstate(divide="ignore", invalid="ignore"):
        queued = states[-1] * utilisation / (1.0 - utilisation)
        wait = queued / (inside + queued) / (1.0 - utilisation) / rate * variability
    return np.where(utilisation < 1.0, wait, np.inf)


def finite_run_wait(rate: Array, count: Array, variability: Array) -> Array:
    """Return the longest mean wait in seconds, (N,), that `count` requests arriving at `rate` build up by chance.

    At full load the queue is a random walk reflected at zero: after k requests it is sqrt(2 v k / pi) requests long on
    average, and two thirds of its final length over the whole run (derived: the mean of sqrt(k) up to n is 2/3
    sqrt(n)). A short run ends before the queue reaches its steady length; for a run without end this bound is infinite.

    Args:
        rate: arrivals, requests/s, (N,).
        count: requests of the run, (N,); infinite for a run without end.
        variability: v = c_a^2 + c_s^2 of gaps between arrivals and of lengths, (N,).
    """
    finite = np.where(np.isfinite(count), np.maximum(count, 0.0), 0.0)
    return np.where(np.isfinite(count), np.sqrt(2.0 * variability * finite / np.pi) * 2.0 / 3.0 / rate, np.inf)


def chance_by_rank(prefill: Array, queue: Array, most: Array) -> Array:
    """Return the waits that build up by chance at the Q ranks `workload.RANKS`, seconds, (Q, N); NaN in endless runs.

    A steady wait is exponential. In a run that ends before its queue is steady, the wait of request k grows as sqrt(k)
    (`finite_run_wait`): at rank q it is 3/2 sqrt(q) times its mean.

    Args:
        prefill: mean wait for a step that computes the prompt, seconds, (N,).
        queue: mean wait for admission where the queue is steady, seconds, (N,).
        most: longest mean wait for admission of the run, seconds, (N,); infinite for a run without end.
    """
    ranks = np.array(list(RANKS.values()))[:, None]
    exponential = -np.log1p(-ranks)
    waits = prefill * exponential + np.minimum(queue * exponential, most * 1.5 * np.sqrt(ranks))
    return np.where(np.isfinite(most), waits, np.nan)


def completed_rate(knots: Array, completed: Array, at: Array) -> Array:
    """Interpolate the requests/s that a replica completes while `at` sequences run. (N,)

    `completed` holds requests/s at each of K numbers of running sequences, `knots`; both are (K, N).

    Below the first knot the rate is proportional to the number running.
    """
    return np.asarray(interpolate(knots, completed, at) * np.minimum(at / knots[0], 1.0))


def evictions_per_request(prompt: Array, output: Array, reserved: Array) -> Array:
    """Return the expected preemptions by recomputation per request, (N,), while the KV cache is full and others queue.

    Engines that allocate KV blocks as sequences grow evict the newest sequence when blocks run out; its prompt is
    prefilled again (PagedAttention, arXiv:2309.06180, section 4.5). Derived: between two completions the others grow by
    an exponential number of tokens of mean `output`. A completion makes room for prompts until fewer than one prompt
    plus `reserved` tokens are free, uniformly in between. What growth lacks is taken from the newest, a prompt each.

    Args:
        prompt, output: mean tokens of a request, (N,).
        reserved: tokens that the engine keeps free when it admits, (N,).
    """
    lacking = np.square(output / prompt) * np.exp(-reserved / output) * -np.expm1(-prompt / output)
    return np.asarray(np.minimum(lacking, _MAX_EVICTIONS))


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
    return 1.0 + np.where(
        kv_capacity <= max_running, evictions_per_request(prompt, output, reserved * max_running), 0.0
    )
