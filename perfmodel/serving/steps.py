"""Passes of one deployment as the engine runs them: device time plus host time, micro-batches in a pipeline."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import NamedTuple

import numpy as np

from perfmodel.arrays import Array
from perfmodel.costs import CostModel, StepCost, cheaper, overlapped, step_cost
from perfmodel.deployment import Sharding
from perfmodel.engines import Engine, overlap_of
from perfmodel.hardware import Hardware
from perfmodel.operators import Step, step_shape


@dataclass(frozen=True)
class StepModel:
    """What prices passes for N candidates. budget: tokens a pass, max_num_seqs: sequences a replica, graph_seqs: largest
    batch a device replays from a captured graph; all (N,)."""

    sharding: Sharding
    hardware: Hardware
    engine: Engine
    costs: CostModel
    budget: Array
    max_num_seqs: Array
    graph_seqs: Array | None = None

    def price(self, step: Step) -> StepCost:
        """Device time of one pass, communication beside computation where the engine does that and it pays.

        Engines decide by thresholds on a pass's tokens (vLLM `--dbo-decode-token-threshold`); tuned, they lie where it
        begins to pay.
        """
        way = overlap_of(self.engine.overlap, self.engine.overlap_share)
        if way is None:
            return step_cost(self.sharding, self.hardware, self.costs, step, self.engine.kernel_launches)
        shape = step_shape(step, self.sharding.tp)
        stacked = _stack([step, step.part(way.batches)], shape)
        both = step_cost(self.sharding, self.hardware, self.costs, stacked, self.engine.kernel_launches)
        plain = both.take(0, shape)
        beside = overlapped(both.take(1, shape), way)
        return cheaper(plain, beside, self._floored(beside, step) < self._floored(plain, step))

    def _floored(self, cost: StepCost, step: Step) -> Array:
        """Device time of a pass, its kernels' launches at least where no captured graph replays them; a pass in more
        micro-batches than it has sequences never ends."""
        replayed = (np.asarray(step.prefill_tokens) <= 0) & self.captured(step.decode_seqs * self.sharding.pp)
        least = np.where(replayed, 0.0, cost.calls * self.engine.launch_time)
        pieces = np.maximum(step.prefill_tokens, step.decode_seqs / self.sharding.dp)
        return np.where(pieces >= cost.batches, np.maximum(cost.time, least), np.inf)

    def wall(self, cost: StepCost, seqs: Array, *, captured: np.ndarray, factor: Array | float = 1.0) -> Array:
        """Wall time of a pass over `seqs` sequences: host time adds, or hides behind the device where it overlaps.

        A pass that is not replayed from a captured graph takes at least the launches of its kernels. factor: device
        time over that of `cost` (drafting). Each attention data-parallel rank has a scheduler of its own, with
        its share of the sequences to look after (vLLM docs, data parallel deployment: a core engine a rank; SGLang v0.4
        blog, 2024-12-04: data-parallel workers handle batches independently).
        """
        engine = self.engine
        several = np.where(self.sharding.group * self.sharding.pp > 1, engine.step_host_parallel, 0.0)
        own = np.maximum(seqs / self.sharding.dp, np.minimum(seqs, 1.0))
        host = engine.step_host_time + engine.step_host_per_seq * own + several
        device = np.maximum(cost.time * factor, np.where(captured, 0.0, cost.calls * engine.launch_time))
        return np.maximum(device, host) if engine.overlap_scheduling else device + host

    def captured(self, seqs: Array) -> np.ndarray:
        """Whether a pass with `seqs` decoding sequences on the replica is replayed from a captured graph."""
        if not self.engine.graph_capture:
            return np.zeros(np.shape(seqs), bool)
        most = self.engine.graph_seqs if self.graph_seqs is None else self.graph_seqs
        return ~(np.asarray(seqs) / self.sharding.dp > most)

    def run(self, *passes: PlannedStep) -> list[PricedStep]:
        """Price passes, those of one shape in one call: a look-up has a fixed cost."""
        shapes = [step_shape(p.step, self.sharding.tp) for p in passes]
        flat = [s if np.prod(s[:-1]) > 1 else s[-1:] for s in shapes]
        out: dict[int, PricedStep] = {}
        for common in dict.fromkeys(flat):
            mine = [i for i, s in enumerate(flat) if s == common]
            steps = [passes[i].step for i in mine]
            whole = self.price(_stack(steps, common) if len(mine) > 1 else steps[0])
            for turn, i in enumerate(mine):
                cost = whole.take(turn, shapes[i]) if len(mine) > 1 else whole
                p = passes[i]
                out[i] = PricedStep(cost, self.wall(cost, p.seqs, captured=p.captured, factor=p.factor))
        return [out[i] for i in range(len(passes))]

    def decode_step(self, seqs: Array, context: Array, drafts: Array) -> PlannedStep:
        """One decode pass with `seqs` sequences running on the replica.

        A pipeline cuts them into PP micro-batches in flight at once; each takes the whole pass, and all of them
        advance in it. Drafting adds the draft layer's share for each drafted token (one layer of the model's kind
        with its head; DeepSeek-V3, arXiv:2412.19437, sec. 2.2).
        """
        seqs = np.maximum(np.asarray(seqs, float), 1.0)  # a mean below one: passes that run have one
        micro = np.maximum(seqs / self.sharding.pp, 1.0)
        step = Step(decode_seqs=micro, decode_context=context, decode_tokens=1.0 + drafts)
        drafting = 1.0 + drafts * 1.5 / max(self.sharding.model.layers, 1)
        return PlannedStep(step, seqs, self.captured(seqs), drafting, np.ones_like(seqs))

    def prefill_step(self, new: Array, cached: Array, seqs: Array | float = 1.0) -> PlannedStep:
        """One of the passes that compute `seqs` prompts together; `passes` of it says how many there are.

        new: tokens to compute in each, cached: tokens before them. A prompt longer than the budget takes several
        passes.
        """
        count, chunk, width, before = _chunks(new, cached, seqs, self.budget * self._share(seqs))
        step = Step(prefill_tokens=chunk, prefill_context=before, prefill_seqs=width, prefill_hit=cached)
        return PlannedStep(step, width, _NEVER, 1.0, count)

    def mixed_step(self, new: Array, cached: Array, seqs: Array, running: Array, context: Array) -> PlannedStep:
        """One of the passes in which `seqs` prompts share the budget with `running` decodes."""
        free = np.maximum(self.budget - running, self.budget / 8.0) * self._share(seqs)
        count, chunk, width, before = _chunks(new, cached, seqs, free)
        step = Step(
            prefill_tokens=chunk,
            prefill_context=before,
            prefill_seqs=width,
            prefill_hit=cached,
            decode_seqs=np.maximum(running / self.sharding.pp, 1.0),
            decode_context=context,
        )
        return PlannedStep(step, running + width, _NEVER, 1.0, count)

    def fewest(self, running: Array) -> Array:
        """Prompts that enter together at least while `running` sequences decode: one, or one a rank of attention data
        parallelism where the engine holds them back for that."""
        ranks = self.sharding.dp if self.engine.rank_balance else 1.0
        return np.minimum(ranks, np.maximum(running, 1.0))

    def most(self, new: Array) -> Array:
        """Prompts of `new` tokens computed together at most: what the budget holds, and one a rank of attention data
        parallelism, however long."""
        return np.maximum(self.budget / new, self.sharding.dp)

    def _share(self, seqs: Array | float) -> Array:
        """Share of the ranks of attention data parallelism, and of their budgets, that `seqs` prompts can use."""
        return np.clip(np.asarray(seqs, float), 1.0, self.sharding.dp) / self.sharding.dp

    def piped(self, wall: Array, count: Array) -> Array:
        """Wall time of `count` passes in a row: pipeline stages overlap them, (count + PP - 1) / PP times one."""
        return wall * (count + self.sharding.pp - 1.0) / self.sharding.pp

    def decode(self, seqs: Array, context: Array, drafts: Array) -> PricedStep:
        """(device cost, wall time) of one decode pass; see `decode_step`."""
        return self.run(self.decode_step(seqs, context, drafts))[0]

    def prefill(self, new: Array, cached: Array, seqs: Array | float = 1.0) -> tuple[StepCost, Array, Array]:
        """(device cost of one pass, passes, wall time until all are done) of `seqs` prompts together."""
        one = self.prefill_step(new, cached, seqs)
        (priced,) = self.run(one)
        return priced.cost, one.passes, self.piped(priced.wall, one.passes)


_NEVER = np.zeros(1, bool)


class PlannedStep(NamedTuple):
    """A pass to be priced: what it carries, sequences for the host, whether replayed, device factor, how many."""

    step: Step
    seqs: Array
    captured: np.ndarray
    factor: Array | float
    passes: Array


class PricedStep(NamedTuple):
    """Device cost and wall time of one pass."""

    cost: StepCost
    wall: Array


def _chunks(new: Array, cached: Array, seqs: Array | float, budget: Array) -> tuple[Array, Array, Array, Array]:
    """(passes, tokens a pass, prompts a pass, mean tokens before them) of `seqs` prompts under a token budget."""
    total = new * seqs
    count = np.maximum(np.ceil(total / budget), 1.0)
    chunk = total / count
    width = np.maximum(seqs / count, np.minimum(1.0, chunk))
    return count, chunk, width, cached + np.maximum(new - chunk / width, 0.0) / 2.0


def _stack(steps: list[Step], common: tuple[int, ...]) -> Step:
    """Steps as one whose arrays have them along a new first axis."""

    def column(name: str) -> Array:
        values = (np.asarray(getattr(s, name), float) for s in steps)
        return np.stack([np.broadcast_to(v.reshape(_fit(v, common)), common) for v in values])

    return Step(**{f.name: column(f.name) for f in fields(Step)})


def _fit(values: Array, common: tuple[int, ...]) -> tuple[int, ...]:
    """Shape of `values` without leading axes of one that `common` does not have."""
    return values.shape[max(values.ndim - len(common), 0) :]
