"""Estimate disaggregated serving analytically: a pool of prefill workers and a pool of decode workers in tandem.

Prompts are prefilled by one pool and handed over to the other, which decodes (DistServe, arXiv:2401.09670; Splitwise,
arXiv:2311.18677). In this estimate each pool sees only the rate at which requests pass through both.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from perfmodel import equations as eq
from perfmodel.arrays import Array, Mask, clipped
from perfmodel.estimates.disaggregation.kv_transfer import Transfer
from perfmodel.estimates.disaggregation.pool_runs import PoolRun, Queued, rate_of_run, waits_of_run
from perfmodel.estimates.estimation.estimator import Prepared
from perfmodel.serving import (
    MAX_RUNNING,
    MAX_UTILISATION,
    MOST_GAIN,
    SATURATED_SHARE,
    TINY,
    DecodeCurve,
    Gains,
    PromptPool,
    RequestTimes,
    Served,
    StepCosts,
    StepTimes,
    WaitShape,
    decode_curve,
    eased,
    mean_in_run,
    opening_share,
    queue_variability,
    rising_root,
    run_noise,
    slots_limit,
    with_backlog,
)
from perfmodel.workload import RANKS, Load

#: Knots of the decode curve of a worker. Chosen: one more than of a single deployment, whose batches are smaller.
_KNOTS = 6
#: Fewest sequences that run on average, and lowest rate (requests/s) that is searched from.
_LEAST_RUNNING, _LEAST_RATE = 1e-6, 1e-9
#: Least share of the requests that is left over where the rate stays at a limit. Chosen: above the error of a root.
_LEAST_LEFT = 1e-6


@dataclass(frozen=True)
class Tandem:
    """Describe both pools under a demand. Fields are (N,) unless said otherwise.

    demand: load of the whole deployment. prompts: the prefill pool. transfer: hand-over to the decode pool. before:
    mean seconds of hand-over and front end, without queueing. workers: decode workers. max_running: sequences that a
    decode worker has room for. curve: seconds per output token of a decode worker. later_tokens: mean output tokens
    after the first.
    """

    demand: Load
    prompts: PromptPool
    transfer: Transfer
    before: Array
    workers: Array
    max_running: Array
    curve: DecodeCurve
    later_tokens: Array

    def max_rate(self) -> Array:
        """Return the highest requests/s that both pools and the link between them sustain: that of the slowest, (N,).

        A decode worker takes a request only when it has room for the whole prompt, which is occupied from the start of
        the transfer on (NIXL connector of vLLM, decode pre-allocation of SGLang, 2025).
        """
        arriving = np.nan_to_num(self.demand.mean(self.transfer.seconds))
        full = np.maximum(self.later_tokens * self.curve.time[-1] + arriving, TINY)
        decoded = np.where(self.holds_all, np.inf, self.workers * self.max_running / full)
        return np.minimum(decoded, self.entering_rate())

    def entering_rate(self) -> Array:
        """Return the highest requests/s that the prefill pool and the link sustain, (N,)."""
        return np.asarray(np.fmin(MAX_UTILISATION * self.prompts.max_rate, self.transfer.max_rate()))

    def queued(self, rate: Array) -> Queued:
        """Return what requests that arrive at a rate wait for because the pools serve only `rate` of them, (N,)."""
        entering = np.minimum(self.demand.rate, self.entering_rate())
        rates = (self.demand.rate, entering, np.minimum(rate, entering))
        return waits_of_run(self.demand.n_requests, rates, self.workers * self.max_running)

    @property
    def holds_all(self) -> Mask:
        """Return where the decode workers have room for all requests of a run that arrive at a rate, (N,)."""
        if self.demand.arrival != "open":
            return np.zeros(len(self.max_running), bool)
        return np.asarray(self.demand.n_requests / self.workers <= self.max_running)

    def running(self, rate: Array) -> Array:
        """Return the sequences on one decode worker at `rate` requests/s per worker, (N,).

        It solves Little's law, running = rate x later tokens x token time(running).
        """
        found = self.curve.sequences(rate * self.later_tokens, self.max_running)
        return clipped(found, _LEAST_RUNNING, self.max_running)


def serve_tandem(front: Prepared, back: Prepared, demand: Load, prompts: PromptPool, transfer: Transfer) -> Served:
    """Compute the equilibrium of both pools and report it as one deployment.

    The rate is that of all workers; running sequences are those of one decode worker.

    Args:
        front, back: a prefill worker and a decode worker.
        demand: load of the whole deployment.
        prompts: the prefill pool.
        transfer: hand-over of requests to the decode pool.
    """
    request_time = front.steps.request_time(demand.input)
    handed_over = transfer.after(prompts.alone)
    tandem = _tandem(back, demand, prompts, transfer, demand.mean(handed_over + request_time))
    rate, wait, running = _rate(tandem)
    decode = back.steps.decode(np.maximum(running, _LEAST_RUNNING), demand.decode_context, demand.drafts)
    population = np.where(np.isfinite(demand.concurrency), demand.concurrency, demand.n_requests)
    burst = _burst(demand, population, prompts, wait)
    queued = transfer.wait(rate, _others(population))
    prefill = prompts.alone + (prompts.prefill_time(rate, wait) - prompts.times[0]) + handed_over + queued
    zero = np.zeros_like(prefill)
    ttft, tpot = prefill + wait + burst + request_time, zero + decode.wall / demand.accepted
    stay = demand.mean(ttft + np.maximum(demand.output - 1.0, 0.0) * tpot)
    if demand.arrival not in ("open", "offline"):
        rate = population / stay  # Little's law
    return Served(
        times=RequestTimes(ttft=ttft, tpot=tpot, wait=zero + wait, burst=zero + burst, prefill=prefill),
        steps=StepTimes(decode=decode.wall, mixed=decode.wall, interference=zero),
        costs=StepCosts(
            decode=decode.cost, prefill=prompts.cost, prefill_steps=prompts.n_steps, prompt=prompts.own(rate)
        ),
        running=running,
        rate=rate_of_run(demand.n_requests, rate, stay, tandem.queued(rate)) if demand.arrival == "open" else rate,
        saturated=_saturated(demand, rate),
        waits=_waits(demand, rate, wait, burst),
        gains=_gains(tandem, rate),
    )


def _waits(demand: Load, rate: Array, wait: Array, burst: Array) -> WaitShape:
    """Return how the waits for a prefill worker are distributed, exponentially in an open loop.

    Derived: in a closed loop a prompt waits for those ahead of it, rate x wait of them, and so by the variation of
    their times over the root of that number. The requests of the opening burst wait longer by up to twice what the mean
    one does, uniformly.

    Args:
        rate: requests/s of all workers, (N,).
        wait: mean wait for a prefill worker, seconds, (N,).
        burst: what the opening burst adds to it, seconds, (N,).
    """
    if demand.arrival != "closed":
        return WaitShape()
    first = opening_share(demand.requests_per_client)
    within = np.sqrt(np.expm1(np.square(demand.prompt_spread)))
    prompts = queue_variability(np.zeros_like(wait), demand.new, within, demand.mean)
    varied = np.sqrt(prompts / np.maximum(rate * wait, 1.0))
    ranks = eq.normal_deviate(np.array(list(RANKS.values())))[:, None]
    return WaitShape(
        queued=wait,
        queued_by_rank=wait * np.maximum(1.0 + ranks * varied, 0.0),
        short_shares=(first,),
        short_longest=(2.0 * burst / np.maximum(first, TINY),),
        long_share=0.0,
    )


def _gains(tandem: Tandem, rate: Array) -> Gains:
    """Return how much the load magnifies an error of all times; not at all where requests in flight are fixed.

    As in a queue with one server: waits rise by 1 / (1 - load) of the slowest of both pools and the link.
    """
    if tandem.demand.arrival != "open":
        return Gains()
    most = tandem.max_rate()
    gain = 1.0 / np.maximum(1.0 - rate / most, 1.0 / MOST_GAIN)
    return Gains(wait=np.minimum(1.0 + gain, MOST_GAIN), load=tandem.demand.rate / most)


def _others(population: Array) -> Array:
    """Return how many other requests one meets at most, (N,): any number in a run without end.

    population: requests in flight, or of the whole run, (N,).
    """
    return np.where(np.isfinite(population), np.maximum(population - 1.0, 0.0), np.inf)


def _tandem(back: Prepared, demand: Load, prompts: PromptPool, transfer: Transfer, before: Array) -> Tandem:
    """Collect what describes both pools; `before` is the mean seconds of hand-over and front end, (N,)."""
    workers = transfer.workers[1]
    max_running, curve = decode_room(back, demand, workers)
    return Tandem(
        demand=demand,
        prompts=prompts,
        transfer=transfer,
        before=before,
        workers=workers,
        max_running=max_running,
        curve=curve,
        later_tokens=later_tokens(demand),
    )


def decode_room(back: Prepared, demand: Load, workers: Array) -> tuple[Array, DecodeCurve]:
    """Return (sequences that a decode worker has room for, (N,); seconds per output token over their number).

    back: a decode worker. demand: load of the whole deployment. workers: decode workers, (N,).
    """
    seqs = back.steps.max_num_seqs
    most = np.minimum(back.memory.max_sequences(), np.where(np.isfinite(seqs), seqs, MAX_RUNNING))
    own = replace(demand, concurrency=demand.concurrency / workers, n_requests=demand.n_requests / workers)
    most = slots_limit(back.sharding.adapters, own, most)
    return most, decode_curve(back.steps, demand, most, _KNOTS).per_token(demand.accepted)


def later_tokens(demand: Load) -> Array:
    """Return the mean output tokens of a request after the first, (N,)."""
    return np.maximum(demand.mean(demand.output) - 1.0, 0.0)


def _burst(demand: Load, population: Array, prompts: PromptPool, wait: Array) -> Array:
    """Return the mean seconds that the opening burst of a closed loop adds to TTFT, over all requests. (N,)

    population: requests in the system, (N,). wait: mean seconds of waiting without the burst, (N,). Derived: a request
    of the burst waits on average for half of the others, at the pool's full rate.
    """
    if demand.arrival != "closed":
        return np.zeros_like(wait)
    opening = eased((np.nan_to_num(population, nan=1.0) - 1.0) / 2.0 / prompts.max_rate, demand)
    return opening_share(demand.requests_per_client) * np.maximum(opening - wait, 0.0)


def _saturated(demand: Load, rate: Array) -> Mask:
    """Return True where an open loop asks for more than the pools can do. (N,)"""
    if demand.arrival != "open":
        return np.zeros(len(rate), bool)
    return np.asarray(rate < demand.rate * SATURATED_SHARE)


def _rate(tandem: Tandem) -> tuple[Array, Array, Array]:
    """Return (requests/s, mean seconds of waiting for a prefill worker, sequences on one decode worker), (N,) each.

    In equilibrium.
    """
    return _open_rate(tandem) if tandem.demand.arrival == "open" else _closed_rate(tandem)


def _open_rate(tandem: Tandem) -> tuple[Array, Array, Array]:
    """Do as `_rate`, for arrivals at a given rate: all of them are served, up to what the pools can do."""
    demand = tandem.demand
    rate = np.minimum(demand.rate, tandem.max_rate())
    steady = tandem.prompts.wait(rate, _others(demand.n_requests), arrival_cv=demand.cv)
    noise = run_noise(demand.n_requests, 1.0 / rate, np.square(demand.cv) + np.square(tandem.prompts.time_cv))
    wait = with_backlog(tandem.queued(rate).mean, mean_in_run(noise, steady))
    return rate, wait, _running_in_run(tandem, rate)


def _running_in_run(tandem: Tandem, rate: Array) -> Array:
    """Return the sequences that a request of a run meets on one decode worker, itself included, (N,).

    They are those of the whole run, or of the requests that fill the pool first, whichever are more.

    rate: requests/s that the pools serve, (N,).
    """
    count, steady = tandem.demand.n_requests / tandem.workers, tandem.running(rate / tandem.workers)
    entering = np.minimum(tandem.demand.rate, tandem.entering_rate())
    filling = np.where(np.isfinite(count), np.minimum(count, tandem.max_running), np.inf)
    whole, first = (
        PoolRun(some, pace / tandem.workers, tandem.later_tokens, tandem.max_running).running(tandem.curve, steady)
        for some, pace in ((count, rate), (filling, entering))
    )
    return np.maximum(whole, first)


def _closed_rate(tandem: Tandem) -> tuple[Array, Array, Array]:
    """Do as `_rate`, for a fixed number of requests in flight: solve Little's law over both pools.

    Where steps with more sequences than a captured graph holds yield less, the rate stays at what that graph yields
    while the sequences grow: they are what is left of the requests.
    """
    demand, prompts, before, workers = tandem.demand, tandem.prompts, tandem.before, tandem.workers
    offline = demand.arrival == "offline"
    population = demand.n_requests if offline else demand.concurrency

    def handed_over(rate: Array) -> Array:
        return before + tandem.transfer.wait(rate, _others(population))

    def share_inside(rate: Array) -> Array:
        """Return the requests that are somewhere in the pools at `rate`, over those in flight, (N,)."""
        wait = arrival_theorem_wait(prompts, rate, population)
        inside = rate * (handed_over(rate) + prompts.prefill_time(rate, wait) + wait)
        return np.asarray((inside + workers * tandem.running(rate / workers)) / population)

    most = tandem.max_rate()
    root = rising_root(np.full_like(most, _LEAST_RATE), most, share_inside)
    # over a network of unknown bandwidth a hand-over takes an unknown time
    rate = np.where(np.isnan(before), np.nan, root)
    queued = arrival_theorem_wait(prompts, root, population)
    running, over = tandem.running(rate / workers), handed_over(rate)
    prefill = prompts.prefill_time(rate, queued)
    left = population - workers * running - rate * (over + prefill + queued)
    held = root < most * (1.0 - _LEAST_LEFT)  # at the rate of a full graph, not of full pools
    running = running + np.where(held & (left > _LEAST_LEFT * population), left, 0.0) / workers
    # requests that are neither decoded nor prefilled wait for a prefill worker; an offline queue runs dry: half of that
    wait = np.maximum((population - workers * running) / rate - over - prefill, 0.0)
    return rate, wait / 2.0 if offline else wait, running


def arrival_theorem_wait(prompts: PromptPool, rate: Array, population: Array) -> Array:
    """Return the mean seconds that one of a finite population of requests waits for a prefill worker. (N,)

    It meets the others only (arrival theorem, Sevcik & Mitrani, J. ACM 28, 1981; Schweitzer's approximation), and
    queues behind no more than all of them.

    Args:
        prompts: the prefill pool.
        rate: requests/s, (N,).
        population: requests in the system, (N,).
    """
    others = np.maximum(population - 1.0, 0.0)
    return prompts.wait(rate * others / np.maximum(population, 1.0), others)
