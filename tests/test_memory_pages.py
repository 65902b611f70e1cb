"""Pages that layers with different caches share in vLLM: hybrids with recurrent states, and padded groups."""

from __future__ import annotations

import math
import random

import numpy as np
import pytest

import hwdb
from perfmodel import Workload
from perfmodel.costs import Roofline
from perfmodel.deployment import Sharding, deployments, shard
from perfmodel.dtypes import FORMAT_CODE
from perfmodel.engines import Engine, engine
from perfmodel.estimates import prepare
from perfmodel.memory import paged_bytes, sequence_bytes
from perfmodel.memory.pages import grouped, kinds_of_cache
from perfmodel.models import base_names, model
from perfmodel.simulator.replica_pools.build import pool
from perfmodel.simulator.request_traffic.requests import traffic
from perfmodel.workload import load_of

VLLM = engine("vllm", "0.19")
CACHED = VLLM.changed(prefix_cache=True)
HYBRIDS = [
    n for n in base_names() if model(n).recurrent and any(b.mixer and b.mixer.kv_values for b in model(n).blocks)
]


def laid(name: str, **columns: float) -> Sharding:
    return shard(model(name), deployments([hwdb.device("h100-sxm")], **columns))


def most_running(chosen: Engine, tokens: float, kv: str = "bf16") -> float:
    load = load_of(Workload(input_tokens=tokens - 1, output_tokens=2.0, concurrency=8.0, arrival="closed"), 1)
    one = deployments([hwdb.device("h100-sxm")], weight=FORMAT_CODE["fp8"], kv=FORMAT_CODE[kv])
    return float(prepare(model("Qwen/Qwen3.6-27B"), one, chosen, Roofline(), load).memory.seqs[0])


@pytest.mark.parametrize("kv", ["bf16", "fp8"])
def test_as_many_short_sequences_run_as_pages_of_four_groups_allow(kv: str) -> None:
    # vllm-project/recipes pull request 551: 856 blocks on an H100 at 0.95, of which a short sequence takes 3 + 1; here
    # 18 more, which the vision tower takes there
    chosen = VLLM.changed(gpu_memory_utilization=0.95)
    assert most_running(chosen, 16.0, kv) == pytest.approx(856 / 4, rel=0.03)


def test_a_narrow_cache_gains_with_length_alone() -> None:
    # vllm-project/vllm issue 55196: 1.00 times at short context and 1.84 at 32K for another hybrid
    short, long = (most_running(VLLM, n, "fp8") / most_running(VLLM, n) for n in (16.0, 32768.0))
    assert short == 1.0
    assert long == pytest.approx(1.84, rel=0.06)


@pytest.mark.parametrize(
    ("name", "tokens"),
    # "Setting attention block size to N tokens": LMCache pull request 5079 (2026-09) and vllm-project/vllm issue 40696
    [("Qwen/Qwen3.6-27B", 784)],
)
def test_attention_blocks_are_as_long_as_vllm_sets_them(name: str, tokens: int) -> None:
    at_most, more = (float(paged_bytes(laid(name), VLLM, float(n))[0]) for n in (tokens, tokens + 1))
    shortest = float(paged_bytes(laid(name), VLLM, 1.0)[0])
    assert at_most == shortest
    assert more == pytest.approx(shortest * 5 / 4)


def by_hand(name: str, context: float, tp: int, kv_bytes: float) -> float:
    """Count the bytes of a sequence page by page, as vLLM allocates them."""
    spec = model(name)
    state_format = {"bf16": 2.0, "fp32": 4.0}[spec.state_format]
    recurrent = [(b.count, b.mixer) for b in spec.blocks if b.mixer and b.mixer.recurrent]
    attention = [(b.count, b.mixer) for b in spec.blocks if b.mixer and b.mixer.kv_values]
    layers = [sum(n for n, _ in recurrent), sum(n for n, _ in attention)]
    state = (recurrent[0][1].recurrent_values * state_format + recurrent[0][1].conv_values * 2) / tp
    shards = 1 if attention[0][1].kind == "mla" else min(tp, attention[0][1].kv_heads)  # a latent is held whole
    token = attention[0][1].kv_values * kv_bytes / shards
    block = 16 * math.ceil(state / (16 * token))
    size = max(layers) if max(layers) < 1.5 * min(layers) else min(layers)
    pages = math.ceil(layers[0] / size) + math.ceil(layers[1] / size) * math.ceil(context / block)
    return pages * size * block * token


@pytest.mark.parametrize("name", HYBRIDS)
@pytest.mark.parametrize("seed", range(4))
def test_hybrids_of_every_family_take_whole_pages(name: str, seed: int) -> None:
    rng = random.Random(f"{name} {seed}")
    context, tp, kv = float(rng.randrange(1, 200_000)), rng.choice([1, 2, 4, 8]), rng.choice(["bf16", "fp8"])
    sharding = laid(name, tp=tp, kv=FORMAT_CODE[kv])
    found = float(paged_bytes(sharding, VLLM, context)[0])
    assert found == pytest.approx(by_hand(name, context, tp, float(sharding.kv_bytes[0])))
    assert found >= float(sequence_bytes(sharding, context)[0])


def test_every_family_of_hybrids_is_tried() -> None:
    assert len(HYBRIDS) >= 9


@pytest.mark.parametrize("name", base_names())
def test_models_with_one_kind_of_cache_take_what_they_store(name: str) -> None:
    sharding, contexts = laid(name), np.array([[10.0], [3000.0], [90_000.0]])
    plain, paged = sequence_bytes(sharding, contexts), paged_bytes(sharding, VLLM, contexts)
    size, groups = grouped(kinds_of_cache(model(name)))
    padded = any(size * g != k.number for k, g in zip(kinds_of_cache(model(name)), groups, strict=True))
    if name in HYBRIDS:
        assert (paged > plain).all()
    elif padded and len(groups) > 1 and "DeepSeek-V4" not in name and "MiniMax-M3" not in name:
        assert (paged > plain).all()
        assert (paged < 1.25 * plain).all()
    else:
        np.testing.assert_allclose(paged, plain)
    for other in ("sglang", "trtllm", "vllm-v0", "llamacpp"):
        np.testing.assert_allclose(paged_bytes(sharding, engine(other), contexts), plain)


def test_sliding_layers_are_padded_to_whole_groups() -> None:
    # Gemma 3 27B: 10 full layers; 52 sliding ones take 6 groups of 10
    sliding = 16 * 256 * 2 * 1024.0
    found = float(paged_bytes(laid("google/gemma-3-27b-it"), VLLM, 8192.0)[0])
    assert found == 60 * sliding + 10 * 16 * 256 * 2 * 8192.0
    # Gemma 4 31B has 50 and 10, gpt-oss 18 and 18: nothing to pad
    for name in ("openai/gpt-oss-120b", "google/gemma-4-26B-A4B"):
        assert float(paged_bytes(laid(name), VLLM, 8192.0)[0]) == float(sequence_bytes(laid(name), 8192.0)[0])


def test_copies_of_states_cost_a_fifth_of_the_long_sequences() -> None:
    # noonghunna/club-3090 pull request 1170 (2026-09): about 20 % of the pool where prefix caching keeps copies
    plain, cached = (float(paged_bytes(laid("Qwen/Qwen3.6-27B"), e, 242_000.0)[0]) for e in (VLLM, CACHED))
    assert plain / cached == pytest.approx(0.8, abs=0.06)
    short = [float(paged_bytes(laid("Qwen/Qwen3.6-27B"), e, 100.0)[0]) for e in (VLLM, CACHED)]
    assert short[1] / short[0] == pytest.approx((1.2 + 6) / 4)
    assert not VLLM.hybrid_prefix_cache
    assert VLLM.prefix_cache


@pytest.mark.parametrize("name", ["Qwen/Qwen3.6-27B", "nvidia/NVIDIA-Nemotron-Nano-9B-v2", "google/gemma-3-27b-it"])
@pytest.mark.parametrize("chosen", [VLLM, CACHED, engine("sglang")], ids=["plain", "cached", "sglang"])
def test_the_simulator_holds_as_many_sequences_as_the_estimate(name: str, chosen: Engine) -> None:
    one = deployments([hwdb.device("h200-sxm")], tp=1, weight=FORMAT_CODE["fp8"])
    asked = traffic(np.full(50, 3000.0), 400.0, concurrency=4)
    found = pool(model(name), one, chosen, asked, costs=Roofline())
    load = load_of(Workload(input_tokens=3000.0, output_tokens=400.0, concurrency=4.0, arrival="closed"), 1)
    memory = prepare(model(name), one, chosen, Roofline(), load).memory
    assert found.kv_tokens == float(memory.kv_tokens[0])  # whole KV blocks, the same number in both
