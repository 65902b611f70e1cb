"""Closed loop: a fixed number of clients, each with one request in flight."""

from __future__ import annotations

import numpy as np

from perfmodel.arrays import Array
from perfmodel.lazy_fields import lazy_value
from perfmodel.serving.fixed_concurrency.client_batch import Batch, batch_of
from perfmodel.serving.fixed_concurrency.closed_admission import PlaceQueue, place_queue
from perfmodel.serving.limits import TINY
from perfmodel.serving.own_process import between_steps
from perfmodel.serving.queues.queueing import (
    closed_prefill_wait,
    eased,
    equilibrium_rate,
    opening_burst,
    rising_root,
    slowed_tpot,
    wait_cv,
)
from perfmodel.serving.queues.rank_balance import held_share
from perfmodel.serving.served import RequestTimes, Served, StepCosts, StepTimes, TokenShape, WaitShape
from perfmodel.serving.step_times.steps import StepModel
from perfmodel.serving.step_times.token_spread import longest_delay
from perfmodel.workload import Load


def closed_loop(steps: StepModel, load: Load, max_running: Array, prefills_per_request: Array) -> Served:
    """Estimate one replica with `load.concurrency` requests in flight; those beyond `max_running` queue for admission.

    Args:
        steps: computes cost and time of steps of the N candidates.
        load: load of one replica.
        max_running: sequences that run at once, (N,).
        prefills_per_request: expected prefills per request while others queue for admission, (N,).
    """
    batch = batch_of(steps, load, max_running, prefills_per_request)
    request_time = steps.request_time(load.input)
    tpot, inside, met = _batch_times(batch)
    residence = batch.prompt * batch.repeats + inside + batch.later_tokens * tpot
    queue = place_queue(load, (batch.clients, batch.running), residence, load.mean(request_time) + batch.last)
    planned = _planned_step(batch, batch.running / residence)
    opening = opening_burst(batch.running, batch.group, load.mean(batch.grouped.alone) / batch.group, batch.prompt)
    opening = eased(opening, load)
    burst = batch.opening_share * np.maximum(opening - batch.prompt - inside - planned, 0.0)
    wait = inside + queue.mean + planned
    ttft = batch.prefill.shared + wait + burst + request_time + batch.late
    # Little's law over all that a client waits, as in the middle of a run
    cycle = load.mean(ttft) + queue.steady - queue.mean + batch.later_tokens * tpot + batch.last - batch.late
    zero = np.zeros_like(ttft)
    return Served(
        times=RequestTimes(ttft, zero + tpot, zero + wait, zero + burst, batch.prefill.shared, planned, batch.late),
        steps=StepTimes(
            decode=batch.decode.wall,
            mixed=batch.prefill.mixed_step,
            interference=batch.prefill.interference_by_class,
            growth=1.0 - np.minimum(steps.take_in / np.maximum(batch.prefill.interference, TINY), 1.0),
        ),
        costs=_costs(batch),
        running=batch.running,
        rate=batch.clients / cycle,
        saturated=np.zeros(len(batch.running), bool),
        waits=lazy_value(lambda: _waits(batch, (batch.prompt, inside, load.mean(burst)), opening, queue)),
        tokens=lazy_value(lambda: _tokens(batch, met)),
    )


def _planned_step(batch: Batch, rate: Array) -> Array:
    """Return the mean seconds that a request waits for a step planned before it came, (N,). rate: requests/s, (N,).

    `Batch.planned` is that of a decode step. Where prompts share steps, those of sequences that start and end
    independently are longer.
    """
    if not batch.steps.engine.mixes_prefill:
        return batch.planned
    longer = batch.shared.mean_step(rate * batch.repeats) / batch.decode.wall - 1.0
    return np.asarray(batch.planned * (1.0 + (1.0 - batch.synchronised) * longer))


def _costs(batch: Batch) -> StepCosts:
    """Return the device costs of the steps of a closed loop."""
    return StepCosts(
        decode=batch.decode.cost,
        prefill=batch.prefill.cost,
        prefill_steps=batch.prefill.n_steps,
        prompt=batch.prefill.own,
        decode_seqs=batch.decoding,
        prompts=batch.prefill.planned,
    )


def _tokens(batch: Batch, met: Array) -> TokenShape:
    """Return how times per token differ between requests. met: seconds that prompts behind a request delay it, (N,)."""
    return TokenShape(met, settling_most=longest_delay(batch.steps, batch.load, batch.decode.wall, batch.prefill))


def _waits(batch: Batch, means: tuple[Array, Array, Array], opening: Array, queue: PlaceQueue) -> WaitShape:
    """Return how the waits of a closed loop are distributed.

    Derived: the requests of the opening burst wait uniformly, from none to twice their mean, as do those of groups that
    stay together, one group after the other. Of the rest, those that meet no prompt wait uniformly for the end of a
    step, and the others as in an open loop.

    Args:
        means: mean seconds of a prompt, of its wait for a step but for a planned one, and of what the opening burst
            adds to that, (N,) each.
        opening: mean seconds until a prompt of the opening burst is computed, (N,).
        queue: the queue for a place.
    """
    prefill, wait, burst = means
    first = np.where(burst > 0.0, batch.opening_share, 0.0)
    grouped, apart = (1.0 - first) * batch.synchronised, (1.0 - first) * (1.0 - batch.synchronised)
    rate = batch.running / np.maximum(prefill + wait + batch.later_tokens * batch.token_time, TINY)
    busy, longest = _meets_prompts(batch, rate, wait)
    held = held_share(batch.held(rate), wait)
    grouped, apart = grouped + held * apart, (1.0 - held) * apart
    return WaitShape(
        queued=queue.mean,
        queued_by_rank=queue.by_rank if np.any(queue.steady > 0.0) else 0.0,
        short_shares=(first, grouped, apart * (1.0 - busy) * batch.others),
        short_longest=(2.0 * np.maximum(opening - prefill, 0.0), 2.0 * wait, longest),
        long_share=apart * busy,
        long_cv=wait_cv(busy, batch.prompt_cv),
    )


def _meets_prompts(batch: Batch, rate: Array, wait: Array) -> tuple[Array, Array]:
    """Return (share of requests that wait for other prompts, longest wait of the rest for a step, seconds), (N,) each.

    Where prompts share steps, a request that waits for no other prompts waits for a step alone, uniformly, for what
    other prompts leave of the mean `wait`, seconds, (N,). rate: requests/s, (N,).
    """
    if not batch.steps.engine.mixes_prefill:
        return np.minimum(rate * batch.others * batch.prompt / batch.entering, 1.0), batch.decode.wall
    prompts, shared = rate * batch.repeats, batch.shared
    for_step = np.maximum(wait - shared.ahead(prompts), 0.0) / np.maximum(batch.others, TINY)
    return shared.chance_of_ahead(prompts), 2.0 * for_step


def _batch_times(batch: Batch) -> tuple[Array, Array, Array]:
    """Return the times of an admitted request as `_times_at` does.

    They are those at the rate X that solves Little's law, running = X x residence(X). Waits and TPOT rise with X, so
    there is one such rate, and whatever shortens a step or a prompt raises it.
    """
    prefill = batch.prompt * batch.repeats
    # without waits the law is quadratic; they only lengthen the residence, at most to that at this rate
    most = equilibrium_rate(
        batch.running, prefill, batch.later_tokens * batch.token_time, batch.prefill.interference * batch.others
    )

    def residence(rate: Array) -> Array:
        tpot, wait, _ = _times_at(rate, batch)
        return np.asarray(prefill + wait + batch.later_tokens * tpot)

    least = np.minimum(batch.running / residence(most), most)
    rate = rising_root(least, most, lambda x: np.asarray(x * residence(x) / batch.running))
    return _times_at(rate, batch)


def _times_at(rate: Array, batch: Batch) -> tuple[Array, Array, Array]:
    """Return (TPOT, mean wait for a prefill, delay by prompts behind it) while `rate` requests/s enter, seconds.

    (N,) each. The delay is part of TPOT, once per request.
    """
    tpot, wait = _steady_times(rate, batch)
    if batch.steps.engine.mixes_prefill:
        wait = batch.synchronised * batch.spilled + (1.0 - batch.synchronised) * wait
    if batch.steps.engine.prefill_first:
        own_tpot, own_wait = batch.lockstep
        tpot = batch.synchronised * own_tpot + (1.0 - batch.synchronised) * tpot
        wait = batch.synchronised * own_wait + (1.0 - batch.synchronised) * wait
    wait = wait + batch.held(rate)
    spent = batch.prompt * batch.repeats + wait + batch.later_tokens * tpot
    lacking, later = np.maximum(batch.least_residence - spent, 0.0), batch.later_tokens
    # prompts that arrived while a request waited are computed after its own, and delay its decode
    met = np.minimum(lacking, later * np.maximum(batch.slowest_token - tpot, 0.0))
    return tpot + met / np.maximum(later, TINY), wait + lacking - met, met


def _steady_times(rate: Array, batch: Batch) -> tuple[Array, Array]:
    """Return (TPOT, mean wait for a prefill) where sequences start and end independently, in seconds, (N,) each.

    `rate` requests/s enter the batch, (N,).
    """
    others, prefill = batch.others, batch.prompt
    tpot = slowed_tpot(batch.token_time, rate * batch.prefill.interference * others)
    if batch.steps.engine.mixes_prefill:
        tpot = np.minimum(tpot, batch.slowest_token)
        return tpot, batch.shared.wait(rate * batch.repeats)
    # the prompts of all others bound the wait, also at the rate at which nothing but prompts is computed
    utilisation = np.minimum(rate * others * prefill / batch.entering, 1.0 - TINY)
    queued = closed_prefill_wait(
        utilisation * (1.0 - batch.synchronised),
        prefill,
        batch.prompt_cv,
        running=batch.running,
        entering=batch.entering,
    )
    # a request that arrives also waits for the running step, if any other sequence runs
    step = batch.decode.wall / 2.0 * batch.beside * between_steps(batch.steps, batch.load)
    return tpot, queued * others + step
