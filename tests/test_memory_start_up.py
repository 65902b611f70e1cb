"""What vLLM's start-up holds back from the KV cache: pools and peaks as its logs give them, and how they scale."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import hwdb
from perfmodel import Workload
from perfmodel.costs import Roofline
from perfmodel.deployment import deployments
from perfmodel.dtypes import FORMAT_CODE
from perfmodel.engines import Engine, engine
from perfmodel.engines.catalogue import names
from perfmodel.estimates import prepare
from perfmodel.memory import Memory, held_back
from perfmodel.models import model
from perfmodel.workload import load_of

GIB = float(2**30)
EIGHT_B = "meta-llama/Llama-3.1-8B"


def memory(name: str, chosen: Engine, device: str = "h100-sxm", *, weight: str = "", **columns: float) -> Memory:
    stored = {"weight": FORMAT_CODE[weight]} if weight else {}
    load = load_of(Workload(input_tokens=1000.0, output_tokens=100.0, concurrency=8.0, arrival="closed"), 1)
    one = deployments([hwdb.device(device)], **stored, **columns)
    return prepare(model(name), one, chosen, Roofline(), load).memory


# Start-up logs of vLLM 0.11 on H100 at 0.9 in llm-d-incubation/llm-d-planner docs/empirical-vllm-memory-results.md:
# model, weights, TP, GiB of KV pool per device, GiB of activation peak.
LOGS = [
    ("openai/gpt-oss-20b", "", 1, 50.28, 7.38),
    ("meta-llama/Llama-3.1-70B", "fp8", 2, 32.00, 4.84),
    (EIGHT_B, "", 1, 51.38, 4.76),
    ("Qwen/Qwen3-0.6B", "", 1, 64.45, 5.56),
    ("Qwen/Qwen3-32B", "", 1, 4.45, 5.64),
    ("Qwen/Qwen3-32B", "", 2, 34.49, 5.64),
]


@pytest.mark.parametrize(("name", "weight", "tp", "pool", "peak"), LOGS)
def test_the_pool_of_vllm_is_as_large_as_its_log_says(
    name: str, weight: str, tp: int, pool: float, peak: float
) -> None:
    found = memory(name, engine("vllm", "0.11"), weight=weight, tp=tp)
    assert float(found.kv_capacity[0]) / GIB == pytest.approx(pool, rel=0.015)
    assert float(found.activations[0] + found.sampler[0]) / GIB == pytest.approx(peak, rel=0.03)


def test_the_pool_of_a_later_release_is_as_large_as_its_log_says() -> None:
    # vLLM 0.19 on A100 at 0.65 (myoceane.fr, 2026-04): 36.56 GiB of pool beside 13.72 GiB of weights, here 12.81
    found = memory("openai/gpt-oss-20b", engine("vllm", "0.19").changed(gpu_memory_utilization=0.65), "a100-sxm-80gb")
    assert float(found.kv_capacity[0] + found.weights[0]) / GIB == pytest.approx(36.56 + 13.72, rel=0.01)


def test_the_peak_of_release_0_6_is_as_its_log_says() -> None:
    # vllm-project/vllm pull request 10511: 1.26 GiB for Llama-3-8B with max_num_seqs 256, at TP 1 and TP 2
    for tp in (1, 2):
        found = memory("meta-llama/Meta-Llama-3-8B", engine("vllm", "0.6.4"), tp=tp)
        assert float(found.activations[0] + found.sampler[0]) / GIB == pytest.approx(1.26, rel=0.06)


@settings(deadline=None, max_examples=40)
@given(
    name=st.sampled_from([EIGHT_B, "Qwen/Qwen3-0.6B", "google/gemma-3-27b-it", "openai/gpt-oss-20b"]),
    seqs=st.integers(1, 3000),
    budget=st.integers(64, 16384),
    tp=st.sampled_from([1, 2, 4, 8]),
    release=st.sampled_from(["0.6", "0.9", "0.19"]),
)
def test_the_sampler_takes_rows_by_the_whole_vocabulary_on_every_rank(
    name: str, seqs: int, budget: int, tp: int, release: str
) -> None:
    chosen = engine("vllm", release)
    found = memory(name, chosen, max_num_seqs=seqs, max_num_batched_tokens=budget, tp=tp)
    rows = min(seqs, budget)
    peak = max(float(found.activations[0]), chosen.sampler_bytes("gpu") * rows * model(name).vocab)
    assert float(found.activations[0] + found.sampler[0]) == pytest.approx(peak)
    fewer = memory(name, chosen, max_num_seqs=max(seqs // 2, 1), max_num_batched_tokens=budget, tp=tp)
    assert float(fewer.kv_capacity[0]) >= float(found.kv_capacity[0])
    used = found.weights + found.activations + found.sampler + found.reserve + found.kv_capacity
    assert float(used[0]) == pytest.approx(float(found.usable[0]))


@pytest.mark.parametrize("ranks", [1, 2, 4, 8])
def test_each_rank_of_attention_data_parallelism_samples_its_own_sequences(ranks: int) -> None:
    chosen = engine("vllm", "0.11")
    found = memory("deepseek-ai/DeepSeek-V3", chosen, "b200-sxm", dp=ranks, ep=ranks, max_num_seqs=1024)
    rows = float(found.sampler[0] + found.activations[0]) / 39 / model("deepseek-ai/DeepSeek-V3").vocab
    assert rows == pytest.approx(1024)


@pytest.mark.parametrize("name", names())
@pytest.mark.parametrize("device", ["h100-sxm", "mi300x", "epyc-9654", "tpu-v6e", "ascend-910c"])
def test_only_engines_that_warm_up_a_sampler_hold_memory_back(name: str, device: str) -> None:
    chosen = engine(name)
    warms = chosen.family == "vllm" and hwdb.device(device).kind == "gpu"
    found = memory("Qwen/Qwen3-0.6B", chosen, device, max_num_seqs=1024.0, max_num_batched_tokens=4096.0)
    assert bool(found.sampler[0] > 0) is warms
    said = held_back(chosen, model("Qwen/Qwen3-0.6B"), float(found.sampler[0]), float(found.capacity[0]))
    assert ("max_num_seqs" in said) is bool(found.sampler[0] > 0.02 * found.capacity[0])


def test_devices_together_hold_back_more_than_one_alone() -> None:
    chosen = engine("vllm", "0.11")
    one, two = (float(memory(EIGHT_B, chosen, tp=tp).reserve[0]) / GIB for tp in (1, 2))
    assert two - one == pytest.approx(0.45)


def test_memory_in_use_counts_what_is_held_back() -> None:
    found = memory(EIGHT_B, engine("vllm", "0.11"))
    fixed = found.weights + found.activations + found.sampler + found.reserve
    np.testing.assert_allclose(found.used(np.zeros(1)), fixed)
    tight = memory("Qwen/Qwen3-32B", engine("vllm", "0.11").changed(gpu_memory_utilization=0.8))
    assert "sampler warm-up" in tight.reason(0)
