"""Passes of one deployment as the engine runs them: device time plus host time, micro-batches in a pipeline."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from perfmodel.demand import Array, CostModel
from perfmodel.enginefile import Engine
from perfmodel.hardware import Hardware
from perfmodel.layout import Layout
from perfmodel.step import Step
from perfmodel.steps import StepCost, step_cost


@dataclass(frozen=True)
class Passes:
    """What prices passes for N candidates. budget: tokens a pass, max_seqs: sequences a replica, graph_seqs: largest
    batch a device replays from a captured graph; all (N,)."""

    lay: Layout
    hardware: Hardware
    engine: Engine
    costs: CostModel
    budget: Array
    max_seqs: Array
    graph_seqs: Array | None = None

    def price(self, step: Step) -> StepCost:
        """Device time of one pass."""
        return step_cost(self.lay, self.hardware, self.costs, step)

    def wall(self, cost: StepCost, seqs: Array, *, captured: np.ndarray, factor: Array | float = 1.0) -> Array:
        """Wall time of a pass over `seqs` sequences: host time adds, or hides behind the device where it overlaps.

        A pass that is not replayed from a captured graph takes at least the launches of its kernels. factor: device
        time over that of `cost` (drafting).
        """
        engine = self.engine
        several = np.where(self.lay.group * self.lay.pp > 1, engine.step_host_parallel, 0.0)
        host = engine.step_host_time + engine.step_host_per_seq * seqs + several
        device = np.maximum(cost.time * factor, np.where(captured, 0.0, cost.calls * engine.launch_time))
        return np.maximum(device, host) if engine.overlap_scheduling else device + host

    def captured(self, seqs: Array) -> np.ndarray:
        """Whether a pass with `seqs` decoding sequences on the replica is replayed from a captured graph."""
        if not self.engine.graph_capture:
            return np.zeros(np.shape(seqs), bool)
        most = self.engine.graph_seqs if self.graph_seqs is None else self.graph_seqs
        return ~(np.asarray(seqs) / self.lay.dp > most)

    def decode(self, seqs: Array, context: Array, drafts: Array) -> tuple[StepCost, Array]:
        """(device cost, wall time) of one decode pass with `seqs` sequences running on the replica.

        A pipeline cuts them into PP micro-batches in flight at once; each takes the whole pass, and all of them
        advance in it. Drafting adds the draft layer's share for each drafted token (one layer of the model's kind
        with its head; DeepSeek-V3, arXiv:2412.19437, sec. 2.2).
        """
        seqs = np.maximum(np.asarray(seqs, float), 1.0)  # a mean below one: passes that run have one
        micro = np.maximum(seqs / self.lay.pp, 1.0)
        cost = self.price(Step(decode_seqs=micro, decode_context=context, decode_tokens=1.0 + drafts))
        drafting = 1.0 + drafts * 1.5 / max(self.lay.model.layers, 1)
        return cost, self.wall(cost, seqs, captured=self.captured(seqs), factor=drafting)

    def prefill(self, new: Array, cached: Array, seqs: Array | float = 1.0) -> tuple[StepCost, Array, Array]:
        """(device cost of one pass, passes, wall time until all are done) of `seqs` prompts together.

        new: tokens to compute in each, cached: tokens before them. A prompt longer than the budget takes several
        passes; pipeline stages overlap them: (passes + PP - 1) / PP times the latency of one.
        """
        total = new * seqs
        passes = np.maximum(np.ceil(total / self.budget), 1.0)
        chunk = total / passes
        width = np.maximum(seqs / passes, np.minimum(1.0, chunk))
        before = cached + np.maximum(new - chunk / width, 0.0) / 2.0
        cost = self.price(Step(prefill_tokens=chunk, prefill_context=before, prefill_seqs=width))
        wall = self.wall(cost, width, captured=np.zeros(1, bool)) * (passes + self.lay.pp - 1.0) / self.lay.pp
        return cost, passes, wall

    def mixed(self, new: Array, cached: Array, seqs: Array, running: Array, context: Array) -> tuple[Array, Array]:
        """(passes, wall time of one) when `seqs` prompts share passes with `running` decodes."""
        free = np.maximum(self.budget - running, self.budget / 8.0)
        total = new * seqs
        passes = np.maximum(np.ceil(total / free), 1.0)
        chunk = total / passes
        width = np.maximum(seqs / passes, np.minimum(1.0, chunk))
        before = cached + np.maximum(new - chunk / width, 0.0) / 2.0
        step = Step(
            prefill_tokens=chunk, prefill_context=before, prefill_seqs=width,
            decode_seqs=np.maximum(running / self.lay.pp, 1.0), decode_context=context,
        )  # fmt: skip
        return passes, self.wall(self.price(step), running + width, captured=np.zeros(1, bool))
