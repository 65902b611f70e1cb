"""Memory: published sizes, shards that add up to the whole, and how many sequences fit beside the weights."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import hwdb
from perfmodel.deployment.columns import deployments
from perfmodel.deployment.sharding import Sharding, shard
from perfmodel.dtypes import FORMAT_CODE
from perfmodel.engines.catalogue import engine
from perfmodel.engines.spec import Engine
from perfmodel.hardware.columns import hardware_of
from perfmodel.memory.budget import Memory, activation_bytes, memory_budget
from perfmodel.memory.kv_cache import sequence_bytes
from perfmodel.memory.weights import weights_per_device
from perfmodel.models import ModelSpec, base_names, model

LLAMA, DEEPSEEK = "llama-3.1-70b", "deepseek-v3"
GB = 1e9
VLLM = engine("vllm")


def laid(spec: ModelSpec | str, device: str = "h100-sxm", **columns: object) -> Sharding:
    spec = model(spec) if isinstance(spec, str) else spec
    return shard(spec, deployments([hwdb.device(device)], **columns))


def room(
    spec: ModelSpec | str,
    device: str = "h100-sxm",
    *,
    chosen: Engine = VLLM,
    fraction: float = 0.9,
    tokens: float = 8192.0,
    context: float = 1000.0,
    max_num_seqs: float = 256.0,
    **columns: object,
) -> Memory:
    placed = deployments([hwdb.device(device)], **columns)
    rows = hardware_of(placed.devices, placed.device)
    wide = np.ones(len(placed))
    sharding = shard(model(spec) if isinstance(spec, str) else spec, placed)
    return memory_budget(
        sharding,
        rows,
        chosen,
        fraction=fraction * wide,
        tokens=tokens * wide,
        max_num_seqs=max_num_seqs * wide,
        context=context * wide,
    )


# -------------------------------------------------------------------------------- published sizes


@pytest.mark.parametrize(
    ("name", "columns", "gigabytes"),
    [
        # safetensors index of each checkpoint, total_size
        (LLAMA, {}, 141.107),
        ("llama-3.1-8b", {}, 16.061),
        ("mistralai/Mixtral-8x7B-v0.1", {}, 93.406),
        # 671 B parameters in fp8, embeddings and head in bf16 (the checkpoint's 688.6 GB hold 14 B of MTP besides)
        (DEEPSEEK, {}, 674.0),
        # openai/gpt-oss-120b model card: 60.8 GiB checkpoint
        ("openai/gpt-oss-120b", {}, 65.25),
        # W8: half of bf16 but for embedding and head
        (LLAMA, {"weight": FORMAT_CODE["fp8"]}, 72.68),
    ],
)
def test_weights_take_what_their_checkpoint_takes(name: str, columns: dict[str, int], gigabytes: float) -> None:
    assert float(weights_per_device(laid(name, **columns))[0]) / GB == pytest.approx(gigabytes, rel=0.01)


@pytest.mark.parametrize("name", base_names())
def test_one_device_holds_the_whole_model_and_its_whole_cache(name: str) -> None:
    spec = model(name)
    sharding = laid(spec)
    assert float(weights_per_device(sharding)[0]) == pytest.approx(sum(spec.weight_bytes().values()), rel=1e-9)
    for context in (1.0, 1000.0, 30_000.0):
        held = float(spec.kv_bytes(context)) + spec.state_bytes()
        assert float(sequence_bytes(sharding, context)[0]) == pytest.approx(held, rel=1e-9)


def test_latent_attention_keeps_a_seventh_of_what_grouped_heads_keep() -> None:
    # 61 x 576 x 2 bytes = 70 272 a token against 126 x 8 x 256 x 2 = 516 096 of Llama-3.1-405B (arXiv:2505.09343)
    latent, grouped = (float(sequence_bytes(laid(n), 1.0)[0]) for n in (DEEPSEEK, "llama-3.1-405b"))
    assert latent == 70_272
    assert grouped == 516_096


def test_as_many_tokens_fit_as_the_vllm_paper_counts() -> None:
    # Kwon et al. (arXiv:2309.06180), table 1: OPT-13B on an A100 40 GB, 26 GB of weights, room for 15.7K tokens
    found = room("facebook/opt-13b", "a100-sxm-40gb", chosen=engine("vllm-v0"), tokens=2048.0, context=16.0)
    assert float(found.weights[0]) / GB == pytest.approx(26, rel=0.02)
    assert float(found.seqs[0]) * 16 == pytest.approx(15_700, rel=0.15)


@pytest.mark.parametrize(
    ("device", "devices", "stored", "fits"),
    [
        # deployment guide of DeepSeek-V3: eight H200 hold it, eight H100 do not; sixteen H100 do
        ("h200-sxm", 8, -1, True),
        ("h100-sxm", 8, -1, False),
        ("h100-sxm", 16, -1, True),
        ("h100-sxm", 8, FORMAT_CODE["int4"], True),
    ],
)
def test_deepseek_v3_fits_where_it_is_known_to_fit(device: str, devices: int, stored: int, fits: bool) -> None:
    assert bool(room(DEEPSEEK, device, tp=devices, weight=stored).fits[0]) is fits


# -------------------------------------------------------------------------------- shards add up


def copied_bytes(sharding: Sharding, tp: float) -> float:
    """Bytes that tensor parallelism cannot split, counted once: replicated matrices; of K and V what heads leave."""
    total = 0.0
    for block in sharding.model.blocks:
        heads = block.mixer.kv_heads if block.mixer else 1
        for p in block.projections(sharding.model.hidden):
            size = block.count * p.parameters * float(sharding.weight_bytes(p.part, p.gemm)[0])
            if p.shard == "replicated":
                total += size * (tp - 1)
            elif p.shard == "kv" and tp > heads:
                total += size * (tp / heads - 1)
    return total


@pytest.mark.parametrize("name", [LLAMA, DEEPSEEK, "Qwen/Qwen3-235B-A22B", "Qwen/Qwen3-Next-80B-A3B-Instruct"])
@pytest.mark.parametrize("tp", [2, 4, 8, 16])
def test_tensor_parallel_shards_add_up(name: str, tp: int) -> None:
    sharding = laid(name, tp=tp)
    whole = sum(model(name).weight_bytes().values())
    assert tp * float(weights_per_device(sharding)[0]) == pytest.approx(whole + copied_bytes(sharding, tp), rel=1e-9)


@pytest.mark.parametrize(("tp", "dp", "ep"), [(1, 8, 8), (2, 4, 8), (8, 1, 8), (1, 32, 32), (4, 2, 1)])
def test_experts_are_spread_over_all_devices_and_dense_parts_copied(tp: int, dp: int, ep: int) -> None:
    sharding = laid(DEEPSEEK, tp=tp, dp=dp, ep=ep)
    parts = model(DEEPSEEK).weight_bytes()
    dense = sum(v for k, v in parts.items() if k != "experts") + copied_bytes(sharding, tp)
    assert tp * dp * float(weights_per_device(sharding)[0]) == pytest.approx(parts["experts"] + dp * dense, rel=1e-9)


@pytest.mark.parametrize("pp", [2, 4, 8])
def test_pipeline_stages_hold_the_model_and_the_fullest_a_little_more(pp: int) -> None:
    whole = sum(model(LLAMA).weight_bytes().values())
    stage = float(weights_per_device(laid(LLAMA, pp=pp))[0])
    ends = model(LLAMA).weight_bytes()["lm_head"]
    assert whole <= pp * stage <= whole + pp * ends


def test_layers_that_do_not_divide_go_to_the_fullest_stage() -> None:
    # 61 layers on 4 stages: the fullest holds 16
    one, four = (float(sequence_bytes(laid(DEEPSEEK, pp=p), 1000.0)[0]) for p in (1, 4))
    assert four / one == pytest.approx(16 / 61, rel=1e-9)


@pytest.mark.parametrize(("tp", "share"), [(2, 1 / 2), (8, 1 / 8), (16, 1 / 8)])
def test_the_cache_splits_over_key_heads_and_no_further(tp: int, share: float) -> None:
    one = float(sequence_bytes(laid(LLAMA), 1000.0)[0])
    assert float(sequence_bytes(laid(LLAMA, tp=tp), 1000.0)[0]) == pytest.approx(share * one, rel=1e-9)
    latent = float(sequence_bytes(laid(DEEPSEEK), 1000.0)[0])
    assert float(sequence_bytes(laid(DEEPSEEK, tp=tp), 1000.0)[0]) == latent


def test_sequence_parallelism_splits_a_sequence() -> None:
    one, four = (float(sequence_bytes(laid(LLAMA, cp=s), 1000.0)[0]) for s in (1, 4))
    assert four == pytest.approx(one / 4, rel=1e-9)


def test_attention_data_parallelism_holds_more_sequences_of_a_latent_cache() -> None:
    tensor, data = room(DEEPSEEK, "h200-sxm", tp=8), room(DEEPSEEK, "h200-sxm", dp=8, ep=8)
    assert float(tensor.sequence[0]) == float(data.sequence[0])
    # each rank keeps its own sequences; the dense weights are copied, so a little less than eight times
    assert 4 < float(data.seqs[0] / tensor.seqs[0]) < 8


def test_narrow_cache_formats_hold_more() -> None:
    wide, narrow = (float(sequence_bytes(laid(LLAMA, kv=FORMAT_CODE[k]), 1000.0)[0]) for k in ("bf16", "fp8"))
    assert wide == 2 * narrow


# -------------------------------------------------------------------------------- what fits


@settings(max_examples=60)
@given(
    name=st.sampled_from(["llama-3.1-8b", LLAMA, "google/gemma-2-27b-it"]),
    tp=st.sampled_from([1, 2, 4, 8]),
    context=st.integers(1, 100_000),
    chosen=st.sampled_from([engine(n) for n in ("vllm", "sglang", "trtllm", "mindie", "llamacpp", "orca")]),
)
def test_what_fits_is_what_counting_gives(name: str, tp: int, context: int, chosen: Engine) -> None:
    found = room(name, chosen=chosen, context=float(context), tp=tp)
    beside = 0.0 if chosen.memory_rule == "static" else float(found.activations[0] + found.sampler[0])
    if chosen.memory_rule == "free":
        free = float(found.capacity[0] - found.weights[0] - found.activations[0] - found.reserve[0])
        left = 0.9 * free
    else:
        left = 0.9 * float(found.capacity[0]) - float(found.weights[0]) - beside - float(found.reserve[0])
    blocks = -(-context // int(chosen.kv_block))
    each = float(sequence_bytes(laid(name, tp=tp), blocks * chosen.kv_block)[0])
    fitting = 0
    while (fitting + 1) * each <= left and fitting < 1000:
        fitting += 1
    assert min(float(found.seqs[0]), 1000) == fitting
    assert bool(found.fits[0]) is (fitting >= 1)
    assert bool(found.reason(0)) is (fitting < 1)


def test_memory_in_use_is_the_sum_of_its_parts() -> None:
    found = room(LLAMA, tp=np.array([4, 8]))
    fixed = found.weights + found.activations + found.sampler + found.reserve
    np.testing.assert_allclose(found.used(np.zeros(2)), fixed)
    np.testing.assert_allclose(found.used(found.seqs), fixed + found.kv_capacity)
    for running in (1.0, 10.0, 100.0):
        held = found.used(np.full(2, running)) - fixed
        np.testing.assert_allclose(held, running * found.sequence, rtol=1.0 / found.seqs.min())
    assert (found.used(found.seqs) <= found.usable * (1 + 1e-12)).all()


def test_what_does_not_fit_says_what_it_would_need() -> None:
    found = room(LLAMA, tp=1)
    assert not found.fits[0]
    needed = found.weights + found.activations + found.sampler + found.reserve + found.sequence
    assert float(found.used(np.array([50.0]))[0]) == pytest.approx(float(needed[0]))
    assert float(found.max_sequences()[0]) == np.inf


def test_each_reason_names_its_numbers() -> None:
    assert "exceed the 77.0 GB usable of 86 GB" in room(LLAMA, tp=1).reason(0)
    short = room("llama-3.1-8b", context=2_000_000.0)
    assert "less than one sequence's KV cache of 262.1" in short.reason(0)
    unknown = replace(room(LLAMA, tp=8), usable=np.array([np.nan]), seqs=np.array([np.nan]))
    assert unknown.reason(0) == "the device's memory capacity is not known"
    assert room(LLAMA, tp=8).reason(0) == ""
    assert room(LLAMA, tp=np.array([1, 8])).reasons().tolist()[1] == ""


@given(tokens=st.floats(1, 1e5), more=st.floats(1, 10), tp=st.sampled_from([1, 2, 4, 8]))
def test_activations_grow_with_the_pass_and_shrink_with_the_split(tokens: float, more: float, tp: int) -> None:
    one, split = laid(LLAMA), laid(LLAMA, tp=tp)
    small = activation_bytes(one, np.array([tokens]), np.array([1.0]))
    assert activation_bytes(one, np.array([tokens * more]), np.array([1.0])) >= small
    assert activation_bytes(split, np.array([tokens]), np.array([1.0])) <= small
    # input and normed input, gate, up and their product in 16 bit: between the hidden rows and all five at full width
    assert 2 * tokens * 8192 * 2 <= float(small[0]) - 128256 * 4 <= tokens * 5 * 28672 * 2


def test_rows_do_not_see_one_another() -> None:
    tp = np.array([1, 2, 4, 8])
    together = room(DEEPSEEK, "gb200", tp=tp, pp=np.array([2, 2, 1, 1]), ep=np.array([1, 2, 1, 8]))
    for row in range(4):
        alone = room(DEEPSEEK, "gb200", tp=tp[row], pp=[2, 2, 1, 1][row], ep=[1, 2, 1, 8][row])
        for name in ("weights", "activations", "sampler", "reserve", "sequence", "kv_capacity", "seqs"):
            assert getattr(alone, name)[0] == pytest.approx(getattr(together, name)[row], rel=1e-12)
        assert alone.reason(0) == together.reason(row)
