"""Compute the time of steps as the engine runs them: device time plus host time, micro-batches in a pipeline."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from perfmodel.arrays import Array, Index, Mask, clipped
from perfmodel.costs import CostModel, StepCache, StepCost, cheaper, distinct_cost, layouts, overlapped, with_drafting
from perfmodel.deployment import Sharding
from perfmodel.engines import Engine, overlap_of
from perfmodel.hardware import Hardware
from perfmodel.operators import Step, step_shape
from perfmodel.power import Activity, demanded_power, is_capped, mean_power, ready_power, slowdown, use_of
from perfmodel.serving.step_times.planned_step import (
    NOT_CAPTURED,
    PlannedPrompts,
    PlannedStep,
    PricedPrompts,
    PricedStep,
    below_each_other,
    chunks,
    prefill_budget,
    row_slices,
    stacked,
)

#: Seconds that a step counts as at least where shares of its time are taken: avoids dividing by zero.
LEAST_TIME = 1e-12


@dataclass(frozen=True)
class StepModel:
    """Compute device cost and wall time of the steps of N candidates.

    token_budget: tokens per step (max_num_batched_tokens), (N,). max_num_seqs: sequences per replica, (N,). graph_seqs:
    largest batch per device that is replayed from a captured graph, (N,); None: the engine's. known: costs of steps
    that were priced before; None: every step is priced. streams: whether tokens reach clients through a server; batch
    use of an engine has none.
    """

    sharding: Sharding
    hardware: Hardware
    engine: Engine
    costs: CostModel
    token_budget: Array
    max_num_seqs: Array
    graph_seqs: Array | None = None
    known: StepCache | None = None
    streams: bool = True

    def price(self, step: Step) -> StepCost:
        """Compute the device time of one step.

        Communication overlaps computation where the engine does that and it pays, or always if it is set so.

        Under a power limit below the rated one, what draws more takes longer.

        Engines decide by thresholds on a step's tokens (vLLM `--dbo-decode-token-threshold`). The model assumes tuned
        thresholds, which lie where overlap begins to pay.
        """
        cost = self._unlimited(step)
        return self._under_limit(cost, step) if is_capped(self.hardware).any() else cost

    def _under_limit(self, cost: StepCost, step: Step) -> StepCost:
        """Return the cost of a step under the power limit of each device, from its cost without one.

        The limiter acts on the mean of some steps, so that stages of a pipeline which wait for others draw less.
        """
        time = np.maximum(cost.time, LEAST_TIME)
        alone = np.asarray(step.prefill_tokens) <= 0
        if not self.engine.whole_batch_decode:
            alone &= np.asarray(step.decode_seqs) <= 1.0
        share = np.where(alone, 1.0 / self.sharding.pp, 1.0)
        activity = Activity(
            np.ones_like(time), share * np.ones_like(time), use_of(self.hardware, share * cost.work / time)
        )
        arithmetic, memory = cost.bound[0] / time, cost.bound[1] / time
        slower = slowdown(self.hardware, demanded_power(self.hardware, activity), arithmetic, memory)
        bound = cost.bound.copy()
        fixed = bound[2:].sum(axis=0)
        with np.errstate(invalid="ignore", divide="ignore"):
            bound[:2] *= np.where(cost.time > fixed, (cost.time * slower - fixed) / (cost.time - fixed), 1.0)
        return replace(cost, time=cost.time * slower, bound=bound)

    def _unlimited(self, step: Step) -> StepCost:
        """Compute the device time of one step at the rated power limit."""
        overlap = overlap_of(self.engine.overlap, self.engine.overlap_share)
        if overlap is None:
            return self._device_cost(step)
        shape = step_shape(step, self.sharding.tp)
        parts = stacked([step, step.part(overlap.batches)], shape)
        both = self._device_cost(parts)
        plain = both.take(0, shape)
        beside = overlapped(both.take(1, shape), overlap)
        least = self._launch_bound(beside, step)
        pays = np.isfinite(least) if self.engine.overlap_always else least < self._launch_bound(plain, step)
        return cheaper(plain, beside, pays)

    def _device_cost(self, step: Step) -> StepCost:
        """Return the device time of one step without overlap, drafting included, from `known` where it is kept."""
        given = self.sharding, self.hardware, self.costs, step, self.engine.kernel_launches
        if self.known is None:
            cost = distinct_cost(self._layouts, *given)
        else:
            cost = self.known.cost(*given, number=self._known_layouts)
        waits = self.engine.draft_host(self.sharding.draft_method)
        return with_drafting(cost, *given, known=self.known, pass_host_time=waits)

    @cached_property
    def _layouts(self) -> Index:
        """Number the devices and layouts of the candidates, (N,)."""
        return layouts(self.sharding, self.hardware)

    @cached_property
    def _known_layouts(self) -> Array | None:
        """Number the devices and layouts of the candidates among those of the steps that are known, (N,)."""
        return None if self.known is None else self.known.numbered(self.sharding, self.hardware)

    @property
    def decode_batches(self) -> Array:
        """Return the micro-batches that decoding sequences are cut into, (N,): one per stage of a pipeline, or one."""
        stages = np.asarray(self.sharding.pp)
        return np.ones_like(stages) if self.engine.whole_batch_decode else stages

    @property
    def drafts(self) -> Array | float:
        """Return the draft tokens that a decode step verifies per sequence, (N,); 0 without speculative decoding."""
        return 0.0 if self.sharding.drafts is None else self.sharding.drafts

    def _launch_bound(self, cost: StepCost, step: Step) -> Array:
        """Raise the device time of a step to that of its kernel launches, unless a captured graph replays them.

        The time is infinite for a step in more micro-batches than it has sequences, which no engine runs.
        """
        replayed = (np.asarray(step.prefill_tokens) <= 0) & self.captured(step.decode_seqs * self.sharding.pp)
        least = np.where(replayed, 0.0, self._launches(cost))
        pieces = np.maximum(step.prefill_tokens, step.decode_seqs / self.sharding.dp)
        return np.where(pieces >= cost.batches, np.maximum(cost.time, least), np.inf)

    def wall(self, cost: StepCost, seqs: Array, *, captured: Mask, whole: Array | float = 0.0) -> Array:
        """Compute the wall time of a step in seconds, (N,) or (C, N), from its device time and its host time.

        Host time adds to device time, or hides behind it where the engine overlaps scheduling.

        A step that is not replayed from a captured graph takes at least its kernel launches. Each rank of attention
        data parallelism has its own scheduler, with its share of the sequences (vLLM docs, data parallel deployment: a
        core engine per rank; SGLang v0.4 blog, 2024-12-04: data-parallel workers handle batches independently).

        Args:
            cost: device cost of the step.
            seqs: sequences in the step, over the replica, (N,).
            captured: whether the step is replayed from a captured graph, (N,).
            whole: prompts that its prompt tokens make, over the replica, (N,) or (C, N); a piece counts as its share.
        """
        engine, several = self.engine, np.where(self.sharding.is_parallel, self.engine.step_host_parallel, 0.0)
        own = np.maximum(seqs / self.sharding.dp, np.minimum(seqs, 1.0))
        per_seq = engine.step_host_per_seq + (engine.front_end_token if self.streams else 0.0)
        host = (engine.step_host_time + per_seq * own + several) * self.own_factor("host") + self.take_in * whole
        device = np.maximum(cost.time, np.where(captured, 0.0, self._launches(cost)))
        return np.maximum(device, host) if engine.overlap_scheduling else device + host

    @cached_property
    def take_in(self) -> Array:
        """Return the host seconds of a step per prompt that the engine's process takes in, however long it is, (N,)."""
        return np.asarray(self.engine.step_host_per_prompt / self.sharding.dp * self.own_factor("host"))

    def _launches(self, cost: StepCost) -> Array:
        """Return the seconds that the host takes to launch a step that no captured graph replays; shape of the cost.

        Where the engine captures no graphs, the framework runs every operator in eager mode, which takes longer than
        the kernels that surround captured parts.
        """
        eager = np.array([self.engine.eager_launch(d) for d in self.hardware.devices])[self.hardware.index]
        host = np.maximum(cost.calls * self.engine.launch_time, cost.operators * eager)
        return np.asarray(host * self.own_factor("host"))

    def own_factor(self, part: str) -> Array | float:
        """Return the factor of the user's own benchmarks on a part of `PARTS`, (N,); 1 where there are none."""
        if not self.engine.adjustments:
            return 1.0
        return np.asarray(np.array([self.engine.factor(d, part) for d in self.hardware.devices])[self.hardware.index])

    def own_runs(self) -> Array:
        """Return how many own runs of the model were measured on the device of each row, (N,)."""
        runs = [self.engine.own_runs(device, self.sharding.model.name) for device in self.hardware.devices]
        return np.asarray(np.array(runs)[self.hardware.index])

    def own_spreads(self) -> Array:
        """Return the log standard deviations that own runs leave to `PARTS` on each row's device, (P, N); else NaN."""
        return np.array([self.engine.own_spreads(device) for device in self.hardware.devices])[self.hardware.index].T

    def device_watts(self, activity: Activity) -> Array:
        """Return the mean watts of devices by what they do, (N,) or (..., N).

        The user's own benchmarks say what work draws beyond waiting for requests, at most the power limit.
        """
        power = mean_power(self.hardware, activity)
        if not self.engine.adjustments:
            return power
        ready = ready_power(self.hardware)
        more = ready + (power - ready) * self.own_factor("power")
        return np.asarray(np.minimum(np.where(power > ready, more, power), self.hardware.tdp))

    def request_time(self, prompt: Array | float) -> Array:
        """Return the seconds that a request spends in the front end, (N,) or (C, N).

        prompt: its prompt tokens, cached ones included, same shape: all of them come as text.
        """
        own = self.engine.request_time + np.where(self.sharding.is_parallel, self.engine.request_parallel, 0.0)
        return np.asarray(own * self.own_factor("front_end") + self.tokenize_time * prompt)

    @cached_property
    def tokenize_time(self) -> Array:
        """Return the seconds of the front end per token of a prompt, (N,). Prompts are tokenised beside each other."""
        return np.full(len(self.token_budget), self.engine.tokenize_time) * self.own_factor("front_end")

    @property
    def runs_ahead(self) -> Mask:
        """Return where the scheduler plans a step while another runs, (N,); none does so for a pipeline."""
        return np.asarray(self.engine.overlap_scheduling & (self.sharding.pp == 1))

    @cached_property
    def most_captured(self) -> Array:
        """Return the most sequences of a decode step that is replayed from a captured graph, (N,); 0: none is."""
        captures = np.array([self.engine.captures(d) for d in self.hardware.devices])[self.hardware.index]
        most = self.engine.graph_seqs if self.graph_seqs is None else self.graph_seqs
        return np.where(captures, np.nan_to_num(most, nan=np.inf) * self.sharding.dp, 0.0)

    def captured(self, seqs: Array | float) -> Mask:
        """Return True where a step with `seqs` decoding sequences on the replica is replayed, (N,) or (..., N)."""
        most = self.most_captured
        return np.asarray((most > 0.0) & ~(np.asarray(seqs) > most))

    def run(self, *planned: PlannedStep) -> list[PricedStep]:
        """Compute cost and wall time of several planned steps.

        They are priced in one call, because each table look-up has a fixed cost.
        """
        if len(planned) == 1:
            costs = [self.price(planned[0].step)]
        else:
            shapes = [step_shape(p.step, self.sharding.tp) for p in planned]
            rows = row_slices(shapes)
            whole = self.price(below_each_other([p.step for p in planned], shapes, rows))
            costs = [whole.take(some, shape) for some, shape in zip(rows, shapes, strict=True)]
        return [
            PricedStep(cost, self.wall(cost, p.seqs, captured=p.captured, whole=p.whole))
            for p, cost in zip(planned, costs, strict=True)
        ]

    def run_prompts(
        self, *planned: PlannedPrompts, decodes: Sequence[PlannedStep]
    ) -> tuple[list[PricedStep], list[PricedPrompts]]:
        """Compute what some decode steps and the steps of several sets of prompts take, priced together."""
        priced = self.run(*decodes, *(step for prompts in planned for step in prompts.parts))
        return priced[: len(decodes)], _regrouped(planned, priced[len(decodes) :])

    def decode_step(self, seqs: Array, context: Array, drafts: Array) -> PlannedStep:
        """Plan one decode step with `seqs` sequences running on the replica, (N,).

        `context` is the mean tokens that a sequence attends to, (N,). A pipeline cuts the sequences into
        `decode_batches` in flight at once. Each takes the whole step, and all of them advance in it. With speculative
        decoding it verifies `drafts` tokens more per sequence (arXiv:2211.17192).
        """
        seqs = np.maximum(np.asarray(seqs, float), 1.0)  # the mean may be below one: a step that runs has a sequence
        micro = np.maximum(seqs / self.decode_batches, 1.0)
        step = Step(decode_seqs=micro, decode_context=context, decode_tokens=1.0 + drafts)
        return PlannedStep(step, seqs, self.captured(seqs), np.ones_like(seqs))

    def prefill_steps(
        self, new: Array, cached: Array, seqs: Array | float = 1.0, *, spread: bool = False
    ) -> PlannedPrompts:
        """Plan the steps that compute `seqs` prompts together.

        new: tokens to compute per prompt; cached: tokens before them, (C, N). Prompts beyond the token budget take
        several steps. spread: whether the prompts arrived one by one, so that each micro-batch of a pipeline has its
        share of them (`_share`).
        """
        ranks = self._ranks(seqs)
        budget = self._share(new, seqs, self.token_budget, ranks) if spread else self.token_budget
        parts = []
        for n_steps, tokens, prompts, before in chunks(new, cached, seqs, self._budget(budget, ranks), ranks):
            step = Step(prefill_tokens=tokens, prefill_context=before, prefill_seqs=prompts, prefill_hit=cached)
            parts.append(PlannedStep(step, prompts, NOT_CAPTURED, n_steps, tokens / new))
        return PlannedPrompts(tuple(parts), seqs if spread else 1.0)

    def _share(self, new: Array, seqs: Array | float, budget: Array, ranks: Array) -> Array:
        """Return the prompt tokens of each micro-batch of a pipeline, (N,) or (C, N): its share, but a whole prompt.

        Derived: an engine starts a micro-batch whenever its first stage is free, with the prompts that came since the
        one before (vLLM v0.11 vllm/v1/engine/core.py, step_with_batch_queue; SGLang v0.5
        scheduler_pp_mixin.py, event_loop_pp), so those of a round are spread evenly over all PP. Without a pipeline
        it is the whole `budget`, (N,), which also is the most. ranks: of attention data parallelism that compute
        prompts side by side, (N,).
        """
        if np.all(self.sharding.pp <= 1):
            return budget
        share = np.maximum(seqs * new / self.sharding.pp, new * ranks) * self.sharding.dp / ranks
        return np.where(self.sharding.pp > 1, np.minimum(share, budget), budget)

    def mixed_steps(self, new: Array, cached: Array, seqs: Array, running: Array, context: Array) -> PlannedPrompts:
        """Plan the steps that `seqs` prompts and `running` decoding sequences share under one token budget.

        Args:
            new, cached: tokens to compute per prompt, and tokens before them, (C, N).
            seqs: prompts that enter together, (N,).
            running: decoding sequences on the replica, (N,).
            context: mean tokens that a decoding sequence attends to, (N,).
        """
        ranks = self._ranks(seqs)
        others = np.maximum(running - 1.0, 0.0)  # a sequence whose prompt is computed does not decode yet
        tokens_each = 1.0 + self.drafts
        left = prefill_budget(self.token_budget, others * tokens_each / self.decode_batches)
        free = self._budget(self._share(new, seqs, left, ranks), ranks)
        parts = []
        for n_steps, tokens, prompts, before in chunks(new, cached, seqs, free, ranks):
            step = Step(
                prefill_tokens=tokens,
                prefill_context=before,
                prefill_seqs=prompts,
                prefill_hit=cached,
                decode_seqs=np.where(others > 0, np.maximum(running / self.decode_batches, 1.0), 0.0),
                decode_context=context,
                decode_tokens=tokens_each,
            )
            parts.append(PlannedStep(step, running + prompts, NOT_CAPTURED, n_steps, tokens / new))
        return PlannedPrompts(tuple(parts), seqs)

    def min_prompts_per_step(self, running: Array) -> Array:
        """Return the fewest prompts that enter together while `running` sequences decode, (N,).

        One, or one per rank of attention data parallelism where the engine holds prompts back until each rank has one.
        """
        return np.asarray(np.minimum(self.sharding.dp if self.engine.rank_balance else 1.0, np.maximum(running, 1.0)))

    def max_prompts_per_step(self, new: Array) -> Array:
        """Return the most prompts of `new` tokens that are computed together, (N,).

        What the token budgets of all micro-batches of a pipeline hold, but at least one prompt per rank of attention
        data parallelism, however long.
        """
        return np.maximum(self.token_budget * self.sharding.pp / new, self.sharding.dp)

    def _ranks(self, seqs: Array | float) -> Array:
        """Return the ranks of attention data parallelism that `seqs` prompts use, (N,)."""
        return np.asarray(clipped(np.asarray(seqs, float), 1.0, self.sharding.dp))

    def _budget(self, budget: Array, ranks: Array) -> Array:
        """Return the tokens per step of `ranks` of attention data parallelism; `budget`: of all ranks, (N,)."""
        return np.asarray(budget * (ranks / self.sharding.dp))

    def decode(self, seqs: Array, context: Array, drafts: Array) -> PricedStep:
        """Plan and price one decode step; return its device cost and wall time.

        The arguments are those of `decode_step`.
        """
        return self.run(self.decode_step(seqs, context, drafts))[0]

    def price_prompts(self, planned: PlannedPrompts) -> PricedPrompts:
        """Compute what the steps of some prompts take."""
        return self.price_sets(planned)[0]

    def price_sets(self, *planned: PlannedPrompts) -> list[PricedPrompts]:
        """Compute what the steps of several sets of prompts take, priced together."""
        return _regrouped(planned, self.run(*(step for prompts in planned for step in prompts.parts)))

    def prefill(self, new: Array, cached: Array, seqs: Array | float = 1.0) -> tuple[StepCost, Array, Array]:
        """Plan and price the prefill of `seqs` prompts computed together.

        Returns (mean device cost of a step, number of steps, seconds until all are done). Arguments are those of
        `prefill_steps`.
        """
        priced = self.price_prompts(self.prefill_steps(new, cached, seqs))
        return priced.cost, priced.n_steps, priced.pipelined(self.sharding.pp)


def _regrouped(planned: Sequence[PlannedPrompts], priced: list[PricedStep]) -> list[PricedPrompts]:
    """Return the prices of several sets of prompts from those of all their kinds of step in turn."""
    out, start = [], 0
    for prompts in planned:
        stop = start + len(prompts.parts)
        out.append(_together(prompts, priced[start:stop]))
        start = stop
    return out


def _together(planned: PlannedPrompts, priced: list[PricedStep]) -> PricedPrompts:
    """Combine the prices of the kinds of step that compute some prompts."""
    counts = tuple(np.asarray(p.n_steps, float) for p in planned.parts)
    walls, costs = tuple(p.wall for p in priced), tuple(p.cost for p in priced)
    if len(priced) == 1:
        return PricedPrompts(planned, costs, walls[0], counts[0], walls)
    whole = np.asarray(sum(counts))
    shares = [n / whole for n in counts]
    wall = np.asarray(sum(w * share for w, share in zip(walls, shares, strict=True)))
    return PricedPrompts(planned, costs, wall, whole, walls)
