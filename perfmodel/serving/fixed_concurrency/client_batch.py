"""The batch that the clients of a closed loop keep full: its sequences, its steps, and what a request meets in it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from perfmodel.arrays import Array
from perfmodel.serving.fixed_concurrency.shared_steps import SharedSteps, shared_steps
from perfmodel.serving.limits import TINY_COUNT
from perfmodel.serving.own_process import handed_on
from perfmodel.serving.queues.queueing import drifting, opening_share, planned_wait, share_of_others, spilled_group_wait
from perfmodel.serving.queues.rank_balance import entering_together, held_wait
from perfmodel.serving.step_times.planned_step import PricedStep
from perfmodel.serving.step_times.prefills import PrefillTimes, blend, largest_group, most_decoding, prefill_times
from perfmodel.serving.step_times.steps import StepModel
from perfmodel.workload import Load

#: Waits for a place, as times a wait for a planned step, after which a request meets no planned step. Chosen: beside
#: the simulator with 64 places of SGLang and one and two clients more, where 0.85 and 0.6 of the wait are left.
QUEUED_LONG = 6.0


@dataclass(frozen=True)
class Batch:
    """Describe the batch that a closed loop keeps full. Fields are (N,) for N candidates unless said otherwise.

    What does not depend on the rate is computed once, when it is asked for.

    steps: computes cost and time of steps. load: of one replica. clients: requests in flight; running: those in the
    batch; decoding: those that can decode at once. group: most prompts computed together; entering: prompts per step
    in equilibrium. synchronised: share of the loop that still moves in the groups of its opening burst, 0 to 1.
    ranks: prompts that the engine holds back until so many enter together, 1 where it holds none.
    decode: the decode step. prefill: prefill times in equilibrium; apart, grouped: those of prompts that enter as
    answers end, and of full groups. repeats: prefills per request. token_time: seconds per output token without
    interference. later_tokens: output tokens after the first. planned: seconds that a request waits for a decode step
    planned before it came.
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

    @cached_property
    def late(self) -> Array:
        """Return the seconds until a client gets the first token, once it is made (`own_process.handed_on`), (N,)."""
        return np.where(self.later_tokens > 0.0, self._handed_on, self.last)

    @cached_property
    def last(self) -> Array:
        """Return the seconds until a client gets the last token, (N,): none where no other sequence has a step."""
        return self._handed_on * np.clip(self.running - 1.0, 0.0, 1.0)

    @cached_property
    def _handed_on(self) -> Array:
        """Return the seconds until a client gets a token that another step follows, (N,)."""
        step = self.decode.wall
        return handed_on(np.zeros_like(step), (step, step), late=self.steps.engine.hands_on_late)

    @cached_property
    def away(self) -> Array:
        """Return the seconds that a client spends outside the batch between two requests, (N,)."""
        outside = self.load.mean(self.steps.request_time(self.load.input)) + self.planned + self.last
        return np.where(self.clients > self.running, 0.0, outside)

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


def batch_of(steps: StepModel, load: Load, max_running: Array, prefills_per_request: Array) -> Batch:
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
    repeats = np.where(clients > running, prefills_per_request, 1.0)
    # where others queue for admission, one of them takes the place at once, and has come before a step was planned
    queued = (clients - running) * later * decode.wall / np.maximum(running, 1.0)
    planned = np.maximum(_planned(steps, running, group, decode.wall, synchronised) - queued / QUEUED_LONG, 0.0)
    return Batch(
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
