"""The simulator and the closed form share settings, KV capacity and step times."""

from __future__ import annotations

import numpy as np
import pytest
from simulator_service import deployment

import perfmodel
from perfmodel import Workload, simulator
from perfmodel.costs.cost_model_choice.defaults import default
from perfmodel.estimates.estimation.estimator import prepare
from perfmodel.operators import Step
from perfmodel.workload.load import load_of

MODELS = (
    "llama-3.1-8b",  # dense
    "qwen2.5-14b",
    "llama-3.1-70b",
    "qwen3-30b-a3b",  # MoE
    "openai/gpt-oss-120b",  # MoE, half of its layers with a sliding window
    "google/gemma-3-27b-it",  # sliding window
    "qwen3-next-80b-a3b-instruct",  # recurrent and full attention
    "deepseek-ai/DeepSeek-V2-Lite",  # MLA
)
ENGINES = ("vllm", "sglang", "trtllm", "vllm-v0")
#: Most relative error of interpolated step times, of 99 of 100 batches and of all. Mixed steps: 95 of 100, and all.
DECODE, PREFILL, MIXED = (0.004, 0.02), (0.007, 0.02), (0.031, 0.06)


class Case:
    """A random configuration: what the closed form prepares, and the pool that the simulator runs."""

    def __init__(self, seed):
        self.draw = draw = np.random.default_rng(seed)
        self.model, self.engine = perfmodel.model(MODELS[seed % len(MODELS)]), perfmodel.engine(ENGINES[seed // 2 % 4])
        self.columns = {"tp": int(draw.choice([4, 8])), "pp": int(draw.choice([1, 1, 2])), "dp": 1}
        if draw.random() < 0.3:
            self.columns |= {"dp": 2, "tp": 4}
            if seed % len(MODELS) in (3, 4, 7):
                self.columns["ep"] = 8
        if draw.random() < 0.4:
            self.columns["max_num_seqs"] = int(draw.integers(8, 600))
            self.columns["max_num_batched_tokens"] = int(draw.integers(600, 9000))
        if draw.random() < 0.3:
            self.columns |= {"weight": "fp8", "kv": "fp8"}
        self.row = deployment(str(draw.choice(["h100-sxm", "h200-sxm"])), **self.columns)
        lengths = np.sort(draw.integers(20, 4000, 3)), draw.integers(20, 800, 3)
        self.work = Workload(
            *lengths, share=[0.6, 0.3, 0.1], **[{"rate": 3.0, "arrival": "open"}, {"concurrency": 8}][seed % 2]
        )
        costs = default(self.engine)
        self.setup = prepare(self.model, self.row, self.engine, costs, load_of(self.work, 1))
        self.pools = [
            simulator.pools_of(self.model, self.row, simulator.offered(self.work, count=n), engine=self.engine)[0]
            for n in (1, 300)
        ]

    def points(self, axis, count):
        """Random points of an axis, without 0; and random whole numbers between them, from 20 on."""
        between = np.round(np.exp(self.draw.uniform(np.log(min(20, axis[-1] / 2)), np.log(axis[-1]), count)))
        return self.draw.choice(axis[1:], count), between

    def wall(self, prompt, keys, seqs, context):
        """Seconds of steps by the cost model; arguments of one length, as in `StepTable.time`."""
        steps, pp = self.setup.steps, self.columns["pp"]
        prompt, keys, seqs, context = (a.reshape(-1, 1) for a in np.broadcast_arrays(prompt, keys, seqs, context))
        alone = np.minimum(steps.token_budget, np.maximum(2.0 * keys, 1.0))
        tokens = np.maximum(prompt / pp, np.minimum(prompt, alone))
        prompts = np.where(prompt > 0, np.maximum(tokens / (2 * keys), 1.0), 0.0)
        step = Step(
            prefill_tokens=tokens,
            prefill_context=np.maximum(keys - 0.5 * tokens / np.maximum(prompts, 1.0), 0.0),
            prefill_seqs=np.maximum(prompts, 1.0),
            decode_seqs=np.maximum(seqs / pp, np.minimum(seqs, 1.0)),
            decode_context=context,
        )
        captured = (prompt == 0) & steps.captured(seqs)
        return steps.wall(steps.price(step), seqs + prompts, captured=captured)[:, 0]


def within(found, expected, bounds, rank=99):
    error = np.abs(found / expected - 1)
    assert np.percentile(error, rank) <= bounds[0]
    assert error.max() <= bounds[1]


@pytest.mark.parametrize("seed", [*range(8), *(pytest.param(s, marks=pytest.mark.slow) for s in range(8, 32))])
def test_simulator_and_closed_form_are_one_source(seed):
    """Random models, layouts, formats and engines: settings, KV capacity, and decode, prefill and mixed steps."""
    case = Case(seed)
    setup, (few, pool) = case.setup, case.pools
    # settings, whatever number of requests is drawn
    assert few.policy == pool.policy
    assert pool.policy.max_num_seqs == min(setup.steps.max_num_seqs[0], 4096)
    assert pool.policy.max_num_batched_tokens == setup.steps.token_budget[0] * case.columns["pp"]
    # KV capacity: the same tokens, blocks and sequences
    memory, ranks = setup.memory, case.columns["dp"]
    assert few.kv_tokens == pool.kv_tokens == memory.kv_tokens[0]
    assert memory.seqs[0] == np.floor(pool.kv_tokens / ranks / memory.held[0]) * ranks
    if pool.policy.kv_block > 1:
        assert pool.kv_blocks * pool.policy.kv_block == pool.kv_tokens
    taken = pool.kv_tokens / ranks / memory.held[0] * memory.sequence[0]  # bytes per device
    assert taken <= memory.kv_capacity[0] * (1 + 1e-12)
    assert taken > memory.kv_capacity[0] - memory.sequence[0] / memory.held[0] * pool.policy.kv_block * 1.001
    # step times
    table = pool.table
    (node_n, n), (node_c, c) = (case.points(axis, 150) for axis in (table.seqs, table.context))
    (node_p, p), (node_k, k) = (case.points(axis, 150) for axis in (table.tokens, table.keys))
    decode = setup.steps.decode(node_n[:, None], np.maximum(node_c, 1.0)[:, None], np.zeros(1)).wall[:, 0]
    np.testing.assert_allclose(table.time(0, 0, node_n, node_c), decode, rtol=1e-9)
    np.testing.assert_allclose(table.time(node_p, node_k, 0, 0), case.wall(node_p, node_k, 0, 1), rtol=1e-9)
    within(table.time(0, 0, n, c), setup.steps.decode(n[:, None], c[:, None], np.zeros(1)).wall[:, 0], DECODE)
    within(table.time(p, k, 0, 0), case.wall(p, k, 0, 1), PREFILL)
    within(table.time(p, k, n, c), case.wall(p, k, n, c), MIXED, rank=95)


def test_an_engine_that_reserves_the_longest_sequence_serves_all_that_are_drawn():
    work = Workload.from_lengths(359, 124, concurrency=12, isl_dist="uniform:0.8-1.0")
    found = simulator.simulate(
        perfmodel.model("meta-llama/Llama-3.1-8B"), deployment("rtx-4090"), work, engine="llamacpp"
    )
    longest = int(found.traffic.total_tokens.max())
    assert longest > 359 + 124
    assert not found.rejected.any()
    assert found.pools[0].policy.max_model_len >= longest
    assert found.pools[0].policy.max_model_len <= 1.0 / 0.9 * (359 + 124) + 2
