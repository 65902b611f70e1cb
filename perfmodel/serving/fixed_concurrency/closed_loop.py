"""Closed loop: a fixed number of clients, each with one request in flight."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from perfmodel.arrays import Array
from perfmodel.lazy_fields import lazy_value
from perfmodel.serving.fixed_concurrency.closed_admission import PlaceQueue, place_queue
from perfmodel.serving.fixed_concurrency.shared_steps import SharedSteps, shared_steps
from perfmodel.serving.limits import TINY, TINY_COUNT
from perfmodel.serving.own_process import between_steps, handed_on, taken_in
from perfmodel.serving.queues.queueing import (
    closed_prefill_wait,
    drifting,
    eased,
    equilibrium_rate,
    opening_burst,
    opening_share,
    planned_wait,
    rising_root,
    share_of_others,
    slowed_tpot,
    spilled_group_wait,
    wait_cv,
)
from perfmodel.serving.queues.rank_balance import entering_together, held_share, held_wait
from perfmodel.serving.served import RequestTimes, Served, StepCosts, StepTimes, TokenShape, WaitShape
from perfmodel.serving.step_times.planned_step import PricedStep
from perfmodel.serving.step_times.prefills import PrefillTimes, blend, largest_group, most_decoding, prefill_times
from perfmodel.serving.step_times.steps import StepModel
from perfmodel.serving.step_times.token_spread import longest_delay
from perfmodel.workload import Load

#: Waits for a place, as times a wait for a planned step, after which a request meets no planned step. Chosen: beside
#: the simulator with 64 places of SGLang and one and two clients more, where 0.85 and 0.6 of the wait are left.
QUEUED_LONG = 6.0


@dataclass(frozen=True)
class _Batch:
    """Describe the batch that a closed loop keeps full. Fields are (N,) for N candidates unless said otherwise.

    What does not depend on the rate is computed once, when it is asked for.

    steps: computes cost and time of steps. load: of one replica. clients: requests in flight; running: those in the
    batch; decoding: those that can decode at once. group: most prompts computed together; entering: prompts per step
    in equilibrium. synchronised: share of the loop that still moves in the groups of its opening burst, 0 to 1.
    ranks: prompts that the engine holds back until so many enter together, 1 where it holds none.
    decode: the decode step. prefill: prefill times in equilibrium; apart, grouped: those of prompts that enter as
    answers end, and of full groups. repeats: prefills per request. token_time: seconds per output token without
    interference. later_tokens: output tokens after the first. planned: seconds that a request waits for a decode step
    planned before it came. late: seconds until a client gets a token (`own_process.handed_on`). away: seconds that a
    client spends outside the batch between two requests, both among them.
    """

    steps: StepModel
    load: Load
    clients: Array
    running: Array
    decoding: Array
    ranks: Array
    group: Array
    entering: Array
    synchronised: Array
    decode: PricedStep
    prefill: PrefillTimes
    apart: PrefillTimes
    grouped: PrefillTimes
    repeats: Array
    token_time: Array
    later_tokens: Array
    planned: Array
    late: Array
    away: Array

    @cached_property
    def prompt(self) -> Array:
        """Return the mean seconds until a prompt is computed, (N,)."""
        return self.load.mean(self.prefill.shared)

    @cached_property
    def prompt_cv(self) -> Array:
        """Return the coefficient of variation of prefill times, (N,)."""
        return self.prefill.cv(self.load)

    @cached_property
    def others(self) -> Array:
        """Return the share of the running sequences whose prompts delay a request. (N,)

        Where prompts share steps, those of a request's own group are computed in the same steps and do not delay it.
        """
        mixed = self.steps.engine.mixes_prefill
        group = 1.0 + self.synchronised * (self.group - 1.0) if mixed else np.ones_like(self.group)
        return share_of_others(self.running, group)

    @cached_property
    def shared(self) -> SharedSteps:
        """Return the steps that prompts and decodes share, where the engine mixes them."""
        columns, met = (self.decode.wall, self.running, self.entering, self.decoding), (self.others, self.beside)
        return shared_steps(self.steps, self.load, (self.apart, self.grouped), columns, met)

    @cached_property
    def opening_share(self) -> Array:
        """Return the share of the requests of a run that start in its opening burst and find a place, (N,)."""
        return opening_share(self.load.requests_per_client) * self.running / self.clients

    @cached_property
    def beside(self) -> Array:
        """Return the chance that a sequence outside a request's own group runs when the request comes, (N,)."""
        return np.clip(self.running - 1.0 - self.synchronised * (self.group - 1.0), 0.0, 1.0)

    def held(self, rate: Array) -> Array:
        """Return the mean seconds that a prompt is held back for those of other ranks at `rate` requests/s, (N,)."""
        return self.others * held_wait(self.ranks, self.steps.engine.rank_balance_steps, self.decode.wall, rate)

    @cached_property
    def slowest_token(self) -> Array:
        """Return the most seconds per output token, (N,): all steps carry prompts, or all prompts go before it."""
        if not self.steps.engine.mixes_prefill:
            return np.asarray(self.token_time + self.running * self.prefill.interference)
        longer = np.maximum(self.prefill.mixed_step / self.decode.wall - 1.0, 0.0)
        return np.asarray(self.token_time * (1.0 + longer * self.repeats))

    @cached_property
    def least_residence(self) -> Array:
        """Return the least seconds that a request spends in the batch, (N,): no less than the work of all requests.

        Derived: in each cycle of a request, every other request has one prompt computed, apart from those that share
        its steps. Such a prompt delays the request, before or after its own prompt, unless the client is between two
        requests (away). So cycle = away + own + behind (1 - away / cycle), a quadratic equation.
        """
        own = self.prompt * self.repeats + self.later_tokens * self.token_time
        beside = self.entering + self.synchronised * (self.group - self.entering)
        behind = np.maximum(self.running - beside, 0.0) * self.prefill.interference
        whole = self.away + own + behind
        cycle = (whole + np.sqrt(np.maximum(whole * whole - 4.0 * behind * self.away, 0.0))) / 2.0
        if self.steps.engine.mixes_prefill:
            cycle = np.maximum(cycle, self.running * self._least_prompt)
        return np.asarray(cycle - self.away)

    @property
    def _least_prompt(self) -> Array:
        """Return the least seconds of a replica per request, (N,): full steps of prompts that hold no decodes."""
        return np.asarray(self.load.mean(self.grouped.own) / self.steps.sharding.pp * self.repeats)

    @cached_property
    def spilled(self) -> Array:
        """Return the seconds that a full group waits because decodes use part of the token budget, (N,)."""
        return spilled_group_wait(self.running, self.group, self.grouped.mean_step)

    @cached_property
    def lockstep(self) -> tuple[Array, Array]:
        """Return (TPOT, mean wait for a prefill), seconds, (N,) each, where equal requests start and end together.

        This is for engines that prefill first, so that no sequence decodes while prompts are computed.

        Derived: all sequences start, decode and end together. Prompts are computed in groups, one after the other,
        before any sequence decodes: a request waits for half of the other groups' prefills, and its first decode step
        for the rest.
        """
        prefill_per_prompt = self.load.mean(self.grouped.alone) / self.group
        wait = np.maximum(self.running - self.group, 0.0) / 2.0 * prefill_per_prompt
        return self.token_time + wait / np.maximum(self.later_tokens, 1.0), wait


def closed_loop(steps: StepModel, load: Load, max_running: Array, prefills_per_request: Array) -> Served:
    """Estimate one replica with `load.concurrency` requests in flight; those beyond `max_running` queue for admission.

    Args:
        steps: computes cost and time of steps of the N candidates.
        load: load of one replica.
        max_running: sequences that run at once, (N,).
        prefills_per_request: expected prefills per request while others queue for admission, (N,).
    """
    batch = _batch(steps, load, max_running, prefills_per_request)
    request_time = steps.request_time(load.input)
    tpot, inside, met = _batch_times(batch)
    residence = batch.prompt * batch.repeats + inside + batch.later_tokens * tpot
    queue = place_queue(load, (batch.clients, batch.running), residence, load.mean(request_time) + batch.late)
    planned = _planned_step(batch, batch.running / residence)
    opening = opening_burst(batch.running, batch.group, load.mean(batch.grouped.alone) / batch.group, batch.prompt)
    opening = eased(opening, load)
    burst = batch.opening_share * np.maximum(opening - batch.prompt - inside - planned, 0.0)
    wait = inside + queue.mean + planned
    ttft = batch.prefill.shared + wait + burst + request_time + batch.late
    # Little's law over all that a client waits, as in the middle of a run
    cycle = load.mean(ttft) + queue.steady - queue.mean + batch.later_tokens * tpot
    zero = np.zeros_like(ttft)
    return Served(
        times=RequestTimes(ttft, zero + tpot, zero + wait, zero + burst, batch.prefill.shared, planned, batch.late),
        steps=StepTimes(
            decode=batch.decode.wall,
            mixed=batch.prefill.mixed_step,
            interference=batch.prefill.interference_by_class,
            growth=1.0 - np.minimum(taken_in(steps) / np.maximum(batch.prefill.interference, TINY), 1.0),
        ),
        costs=_costs(batch),
        running=batch.running,
        rate=batch.clients / cycle,
        saturated=np.zeros(len(batch.running), bool),
        waits=lazy_value(lambda: _waits(batch, (batch.prompt, inside, load.mean(burst)), opening, queue)),
        tokens=lazy_value(lambda: _tokens(batch, met)),
    )


def _planned_step(batch: _Batch, rate: Array) -> Array:
    """Return the mean seconds that a request waits for a step planned before it came, (N,). rate: requests/s, (N,).

    `_Batch.planned` is that of a decode step. Where prompts share steps, those of sequences that start and end
    independently are longer.
    """
    if not batch.steps.engine.mixes_prefill:
        return batch.planned
    longer = batch.shared.mean_step(rate * batch.repeats) / batch.decode.wall - 1.0
    return np.asarray(batch.planned * (1.0 + (1.0 - batch.synchronised) * longer))


def _costs(batch: _Batch) -> StepCosts:
    """Return the device costs of the steps of a closed loop."""
    return StepCosts(
        decode=batch.decode.cost,
        prefill=batch.prefill.cost,
        prefill_steps=batch.prefill.n_steps,
        prompt=batch.prefill.own,
        decode_seqs=batch.decoding,
        prompts=batch.prefill.planned,
    )


def _tokens(batch: _Batch, met: Array) -> TokenShape:
    """Return how times per token differ between requests. met: seconds that prompts behind a request delay it, (N,)."""
    return TokenShape(met, settling_most=longest_delay(batch.steps, batch.load, batch.decode.wall, batch.prefill))


def _waits(batch: _Batch, means: tuple[Array, Array, Array], opening: Array, queue: PlaceQueue) -> WaitShape:
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


def _meets_prompts(batch: _Batch, rate: Array, wait: Array) -> tuple[Array, Array]:
    """Return (share of requests that wait for other prompts, longest wait of the rest for a step, seconds), (N,) each.

    Where prompts share steps, a request that waits for no other prompts waits for a step alone, uniformly, for what
    other prompts leave of the mean `wait`, seconds, (N,). rate: requests/s, (N,).
    """
    if not batch.steps.engine.mixes_prefill:
        return np.minimum(rate * batch.others * batch.prompt / batch.entering, 1.0), batch.decode.wall
    prompts, shared = rate * batch.repeats, batch.shared
    for_step = np.maximum(wait - shared.ahead(prompts), 0.0) / np.maximum(batch.others, TINY)
    return shared.chance_of_ahead(prompts), 2.0 * for_step


def _batch(steps: StepModel, load: Load, max_running: Array, prefills_per_request: Array) -> _Batch:
    """Find the running batch of a closed loop and its step times in equilibrium."""
    clients = np.maximum(load.concurrency, TINY_COUNT)
    running = np.minimum(clients, max_running)
    group = largest_group(steps, load, running)
    output = load.mean(load.output)
    decoding = np.minimum(running, most_decoding(steps, load, np.maximum(output - 1.0, 0.0) / load.accepted))
    ranks = steps.min_prompts_per_step(running)
    answer = np.maximum(output / load.accepted, 1.0)  # steps that make it
    entering = entering_together(decoding, answer, (ranks, steps.engine.rank_balance_steps), group)
    decode, (steady, grouped) = prefill_times(steps, load, decoding, (entering, group))
    later = np.maximum(output - 1.0, 0.0)
    apart = drifting(later * decode.wall / load.accepted, grouped.mean_step)
    synchronised = 1.0 - (1.0 - load.synchronised * steps.engine.synchronised) * apart
    repeats = np.where(clients > max_running, prefills_per_request, 1.0)
    # where others queue for admission, one of them takes the place at once, and has come before a step was planned
    queued = np.maximum(clients - max_running, 0.0) * later * decode.wall / np.maximum(running, 1.0)
    planned = np.maximum(_planned(steps, running, group, decode.wall, synchronised) - queued / QUEUED_LONG, 0.0)
    late = handed_on(np.zeros_like(running), (decode.wall, decode.wall), late=steps.engine.hands_on_late)
    return _Batch(
        steps=steps,
        load=load,
        clients=clients,
        running=running,
        decoding=decoding,
        ranks=ranks,
        group=group,
        entering=entering,
        synchronised=synchronised,
        decode=decode,
        prefill=blend(steady, grouped, synchronised).repeated(repeats),
        apart=steady,
        grouped=grouped,
        repeats=repeats,
        token_time=decode.wall / load.accepted,
        later_tokens=later,
        planned=planned,
        late=late,
        away=np.where(clients > max_running, 0.0, load.mean(steps.request_time(load.input)) + planned + late),
    )


def _planned(steps: StepModel, running: Array, group: Array, step: Array, synchronised: Array) -> Array:
    """Return the mean seconds that a request waits for a step planned before it came, (N,).

    No such step exists if the requests of a group end together and no other runs beside the group. With engines that
    prefill first, it does not exist either for the share of requests that end together with all others. running:
    sequences; group: sequences that start and end together, (N,). step: seconds of a decode step, (N,).
    """
    together = synchronised if steps.engine.prefill_first else np.zeros_like(running)
    beside = np.clip(running - 1.0 - synchronised * (group - 1.0), 0.0, 1.0)
    return planned_wait((1.0 - together) * beside, step, ahead=steps.runs_ahead)


def _batch_times(batch: _Batch) -> tuple[Array, Array, Array]:
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


def _times_at(rate: Array, batch: _Batch) -> tuple[Array, Array, Array]:
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


def _steady_times(rate: Array, batch: _Batch) -> tuple[Array, Array]:
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
