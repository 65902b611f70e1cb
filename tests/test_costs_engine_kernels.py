"""Kernels that only llama.cpp or SGLang has, against published runs and the closed form of unpacking."""

from __future__ import annotations

import tomllib
from dataclasses import replace
from importlib.resources import files

import numpy as np
import pytest

import hwdb
from perfmodel.costs import EngineKernels, Fallback, Roofline, default
from perfmodel.costs.cost_model_choice.fallback import OnProcessors
from perfmodel.costs.engine_effects.engine_kernels import (
    RECURRENT_OPERATORS,
    TILE,
    Between,
    kinds_with_kernels,
    rates,
    tiled,
)
from perfmodel.deployment.columns import deployments
from perfmodel.dtypes import COMPUTE_CODE, FORMAT_BYTES, FORMAT_CODE, FORMATS
from perfmodel.engines.catalogue import engine
from perfmodel.estimates.estimation.estimator import estimate
from perfmodel.hardware import device_efficiency
from perfmodel.hardware.columns import hardware_of
from perfmodel.models import model
from perfmodel.operators.demand import Demand
from perfmodel.workload.workload import Workload

LLAMA = model("meta-llama/Llama-3.1-8B-Instruct")


def speed(device: str, weight: str, by: str) -> tuple[float, float]:
    """(prefill of 512, decode) tokens a second of Llama-3.1-8B, one stream, as llama-bench measures them."""
    placed = deployments([hwdb.device(device)], weight=FORMAT_CODE[weight])
    prompt = Workload(np.array([512.0]), np.array([1.0]), arrival="single")
    answer = Workload(np.array([1.0]), np.array([128.0]), arrival="single")
    costs = Fallback((EngineKernels(by), Roofline()))
    first = estimate(LLAMA, prompt, placed, engine=engine(by), costs=costs)
    later = estimate(LLAMA, answer, placed, engine=engine(by), costs=costs)
    return 512.0 / float(first.ttft[0, 0]), 1.0 / float(later.tpot[0, 0])


@pytest.mark.parametrize(
    ("device", "weight", "prefill", "decode"),
    [
        # ikawrakow/ik_llama.cpp pull requests 136 and 154; decode with four cores
        ("ryzen-9-7950x", "q2_k", 256.2, 20.7),
        ("m2-max-cpu", "q2_k", 109.1, 23.4),
        ("m2-max-cpu", "iq2_xxs", 76.3, 12.2),
    ],
)
def test_the_fork_matches_what_its_author_published(device: str, weight: str, prefill: float, decode: float) -> None:
    found = speed(device, weight, "ik_llama")
    assert found == pytest.approx((prefill, decode), rel=0.2)


def test_the_fork_computes_prompts_faster_than_its_parent_and_decodes_plain_formats_alike() -> None:
    """ikawrakow/ik_llama.cpp discussion 164: 2 to 3.6 times in prefill on a Ryzen 7950X; decode is bound by memory."""
    theirs, ours = speed("ryzen-9-7950x", "q6_k", "llamacpp"), speed("ryzen-9-7950x", "q6_k", "ik_llama")
    assert 2.0 < ours[0] / theirs[0] < 4.0
    assert ours[1] == pytest.approx(theirs[1], rel=0.05)


def test_formats_with_tables_are_bound_by_arithmetic_in_decode() -> None:
    """Fewer bits do not decode faster where values are looked up: 2.4 bits take longer than 4.7."""
    assert speed("m2-max-cpu", "iq2_xxs", "llamacpp")[1] < speed("m2-max-cpu", "q4_k_s", "llamacpp")[1]


def test_unpacking_is_paid_once_a_tile() -> None:
    tokens = np.array([1.0, 2.0, 4.0, TILE, 100.0])
    unpack, multiply = 0.7, 0.3  # seconds a weight, and a weight and token
    time = (unpack / np.minimum(tokens, TILE) + multiply) * tokens
    prompt, single = 1.0 / (unpack / TILE + multiply), 1.0 / (unpack + multiply)
    np.testing.assert_allclose(tokens / tiled(prompt, single, np.nan, tokens), time, rtol=1e-12)


def test_kernels_for_single_tokens_take_as_long_for_each_of_a_few() -> None:
    tokens = np.array([1.0, 2.0, 4.0, TILE, TILE + 1.0, 100.0, 1000.0])
    time = tokens / tiled(50.0, 50.0, 1.0, tokens)
    np.testing.assert_allclose(time, np.maximum(np.minimum(tokens, TILE), tokens / 50.0), rtol=1e-12)
    assert (np.diff(time) >= -1e-12).all()


def test_other_devices_and_formats_are_left_to_the_next_model() -> None:
    devices = [hwdb.device("ryzen-9-7950x"), hwdb.device("mi300x")]
    rows = hardware_of(devices, np.array([0, 0, 1]))
    formats = np.array([FORMAT_CODE[f] for f in ("q8_0", "fp8", "q8_0")])
    one = np.ones(3)
    shape = {"m": one, "n": 4096 * one, "k": 4096 * one, "weight": formats, "act": 2}
    demand = Demand("up", "gemm", 2.0 * 4096**2 * one, 4096.0**2 * one, one, shape=shape)
    assert np.isnan(EngineKernels("llamacpp").cost(demand, rows).time).tolist() == [False, True, True]
    assert np.isnan(EngineKernels("vllm").cost(demand, rows).time).all()
    assert np.isfinite(Fallback((EngineKernels("llamacpp"), Roofline())).cost(demand, rows).time).all()


@pytest.mark.parametrize(
    ("device", "share"),
    [("rx-7900-xtx", 0.72), ("rx-6800-xt", 0.6), ("radeon-ai-pro-r9700", 1.5), ("ryzen-ai-max-395", 0.6)],
)
def test_kernels_of_llamacpp_on_rdna_reach_a_share_of_the_vector_peak(device: str, share: float) -> None:
    """Prompts in 4 bit on an RX 7900 XTX: 3,227 tokens/s of an 8B model are 0.79 of 61.4 TFLOP/s."""
    chip = hwdb.device(device)
    cost = EngineKernels("llamacpp").cost(gemm("q4_k_m", 2048.0), hardware_of([chip], np.zeros(1, int)))
    reached = 2.0 * 2048 * 4096**2 / float(cost.time[0]) / chip.peak("fp32")
    assert reached == pytest.approx(share, rel=0.15)  # less by the launch


def test_cdna_has_matrix_units_of_another_kind() -> None:
    chip = hardware_of([hwdb.device("mi100")], np.zeros(1, int))
    assert np.isnan(EngineKernels("llamacpp").cost(gemm("q4_k_m", 2048.0), chip).time).all()


def gemm(weight: str, tokens: float) -> Demand:
    """A multiplication of 4096 x 4096 weights for one candidate."""
    one = np.ones(1)
    code = np.array([FORMAT_CODE[weight]])
    shape = {"m": tokens * one, "n": 4096 * one, "k": 4096 * one, "weight": code, "act": 2}
    return Demand("up", "gemm", 2.0 * tokens * 4096**2 * one, 4096.0**2 * FORMAT_BYTES[code], one, shape=shape)


def test_every_rate_names_known_formats_once_and_a_source() -> None:
    table = tomllib.loads(files("perfmodel.costs.engine_effects").joinpath("own_kernels.toml").read_text())
    groups = table["groups"]
    for entry in table["engine"]:
        for arch in {tuple(kernel.get("arch", ())) for kernel in entry["kernel"]}:
            named = [n for k in entry["kernel"] if tuple(k.get("arch", ())) == arch for n in k["formats"]]
            named = [f for n in named for f in groups.get(n, [n])]
            assert len(named) == len(set(named))
            assert set(named) <= set(FORMATS)
        assert all(kernel["source"] and kernel["single"] <= kernel["prompt"] for kernel in entry["kernel"])
        sourced = ("attention", "experts", "undotted", "stream", "between_us")
        assert all(entry[f"{k}_source"] for k in sourced if k in entry)
        assert [engine(name).name for name in entry["names"]] == entry["names"]


@pytest.mark.parametrize(
    ("device", "weight", "prefill", "decode"),
    [
        # XiongjieDai/GPU-Benchmarks-on-LLM-Inference (May 2024), Llama-3-8B, prompts of 1,024
        ("l40s", "q4_k_m", 5909.0, 113.6),
        ("rtx-6000-ada", "q4_k_m", 5561.0, 131.0),
        ("rtx-4090", "fp16", 9056.0, 54.0),
        ("m1-max", "fp16", 419.0, 18.4),
    ],
)
def test_cards_compute_prompts_far_below_what_libraries_reach(
    device: str, weight: str, prefill: float, decode: float
) -> None:
    found = speed(device, weight, "llamacpp-2024")
    assert found == pytest.approx((prefill, decode), rel=0.35)


def today(device: str, name: str, weight: str) -> tuple[float, float]:
    """(prefill of 512, decode of 128) tokens a second of a model under llama.cpp, all costs of the engine included."""
    placed = deployments([hwdb.device(device)], weight=FORMAT_CODE[weight])
    prompt = Workload(np.array([512.0]), np.array([1.0]), arrival="single")
    answer = Workload(np.array([1.0]), np.array([128.0]), arrival="single")
    first = estimate(model(name), prompt, placed, engine=engine("ollama"))
    later = estimate(model(name), answer, placed, engine=engine("ollama"))
    return 512.0 / float(first.ttft[0, 0]), 1.0 / float(later.tpot[0, 0])


SEVEN, EIGHT = "meta-llama/Llama-2-7b-hf", "meta-llama/Llama-3.1-8B-Instruct"
FOURTEEN, NINE = "Qwen/Qwen2.5-14B-Instruct", "Qwen/Qwen3.5-9B"


@pytest.mark.parametrize(
    ("device", "name", "weight", "prefill", "decode"),
    [
        # ggml-org/llama.cpp discussion 4167, recalled, not re-read
        ("m1", SEVEN, "q4_0", 118.0, 14.2),
        ("m1-max", SEVEN, "q4_0", 530.0, 61.2),
        ("m2-pro", SEVEN, "q8_0", 344.5, 23.0),
        ("m2-ultra", SEVEN, "fp16", 1402.0, 41.0),
        ("m3-max", SEVEN, "q4_0", 760.0, 66.3),
        ("m4", SEVEN, "q4_0", 221.0, 24.1),
        ("m4-pro", SEVEN, "q8_0", 450.0, 30.7),
        ("m4-max", SEVEN, "q4_0", 886.0, 83.1),
        # brand-o/normiebench issues 40 and 3
        ("m1-max", EIGHT, "q4_k_m", 500.0, 46.2),
        ("m4", EIGHT, "q4_k_m", 225.0, 20.9),
        # AlexsJones/llmfit @3f44fd3, single runs of a server
        ("m4-pro", EIGHT, "q4_k_m", np.nan, 47.25),
        ("rtx-5070", EIGHT, "q4_k_m", np.nan, 105.3),
        ("rx-7900-xt", EIGHT, "q4_k_m", np.nan, 114.3),
        # ggml-org/llama.cpp pull requests 24127, 15802 and 26284
        ("rtx-4090", EIGHT, "q4_k_s", 12383.0, np.nan),
        ("v100-pcie-32gb", EIGHT, "q5_0", 3326.0, np.nan),
        ("rtx-3090", EIGHT, "q4_0", np.nan, 156.6),
        ("rx-7900-xtx", EIGHT, "q4_k_m", 3227.0, 105.8),
        # ggml-org/llama.cpp discussion 15013, recalled, not re-read
        ("rtx-3090", SEVEN, "q4_0", 5100.0, 158.0),
        ("rtx-5090", SEVEN, "q4_0", 14500.0, 285.0),
        ("rtx-3060", SEVEN, "q4_0", 2140.0, 75.6),
        # geerlingguy/ai-benchmarks issues 43, 39, 46, 40 and 34
        ("rtx-4090", FOURTEEN, "q4_k_m", np.nan, 92.5),
        ("rtx-3080-ti", FOURTEEN, "q4_k_m", np.nan, 70.7),
        ("rtx-2080-ti", FOURTEEN, "q4_k_m", np.nan, 45.1),
        ("rtx-3060", FOURTEEN, "q4_k_m", np.nan, 29.8),
        ("gb10", FOURTEEN, "q4_k_m", np.nan, 23.9),
        # PMZFX/intel-arc-pro-b70-benchmarks
        ("rtx-3060", NINE, "q4_k_m", 1705.0, 50.8),
        ("rtx-4060", NINE, "q4_k_m", 1999.0, 43.1),
        ("arc-pro-b70", EIGHT, "q4_k_m", 2452.0, 82.6),
        # a layer of a delta rule is many small kernels: git.kokoham.com/sleepy/llama.cpp, jitesh.dev, llmfit @3f44fd3
        ("m4-max", NINE, "q4_0", np.nan, 53.8),
        ("m4", "Qwen/Qwen3.5-0.8B", "q4_k_m", np.nan, 103.0),
        ("m4-pro", "Qwen/Qwen3.5-4B", "q4_k_m", np.nan, 56.2),
        # maeddesg/vulkanforge wiki
        ("rx-9070-xt", EIGHT, "q4_k_m", 4802.0, 119.6),
    ],
)
def test_cards_and_macs_of_today_answer_one_user_as_published(
    device: str, name: str, weight: str, prefill: float, decode: float
) -> None:
    found, published = today(device, name, weight), np.array([prefill, decode])
    known = np.isfinite(published)
    np.testing.assert_allclose(np.array(found)[known], published[known], rtol=0.25)


def test_what_passes_between_operators_is_added_to_each_once() -> None:
    """Derived: 8 us beyond the shortest kernel on an Apple chip, nothing on a CPU, nothing for collectives."""
    chips = [hwdb.device(n) for n in ("m1-max", "ryzen-9-7950x")]
    rows, demand = hardware_of(chips, np.arange(2)), gemm("q4_0", np.ones(2))
    inner = Roofline()
    more = Between(inner, "llamacpp").cost(demand, rows).time - inner.cost(demand, rows).time
    np.testing.assert_allclose(more, [8e-6, 0.0], atol=1e-15)
    one, two = np.ones(2), np.full(2, 2.0)
    state = {"batch": one, "heads": one, "key_dim": one, "value_dim": one}
    layer = Demand("linear", "recurrent_decode", one, one, one, shape=state)
    more = Between(inner, "llamacpp").cost(layer, rows).time - inner.cost(layer, rows).time
    np.testing.assert_allclose(more, [RECURRENT_OPERATORS * 8e-6, 0.0], atol=1e-15)
    sent = Demand("all_reduce", "all_reduce", 0.0 * one, 0.0 * one, one, message=1e6 * one, shape={"group": two})
    np.testing.assert_array_equal(Between(inner, "llamacpp").cost(sent, rows).time, inner.cost(sent, rows).time)


@pytest.mark.parametrize(
    "device", ["m1", "m3-ultra", "rtx-4090", "t4", "gtx-1080-ti", "h100-sxm", "gb10", "rx-9070-xt", "arc-b580", "mi100"]
)
def test_all_formats_answer_and_fewer_bytes_take_no_longer_than_their_unpacking(device: str) -> None:
    """A format is slower than a wider one only where unpacking takes it; those without super-blocks never are."""
    formats = ["fp16", "q8_0", "q6_k", "q5_k_m", "q4_k_m", "q4_0", "iq4_xs", "mxfp4"]
    found = {f: today(device, EIGHT, f) for f in formats}
    assert np.isfinite(list(found.values())).all()
    assert found["fp16"][1] < found["q8_0"][1] < found["q4_0"][1] <= found["iq4_xs"][1]
    chip = hwdb.device(device)
    unpacked = rates("llamacpp", chip).single[FORMAT_CODE["q4_k_m"]] / (2.0 * 7.5e9)
    assert found["q4_k_m"][1] > 0.7 * np.fmin(unpacked, found["q6_k"][1])


def test_a_single_token_of_an_expert_is_unpacked_at_the_rate_of_dense_layers() -> None:
    """Prompts lose what tiles with few tokens take; a lone token has no tile."""
    chip = hwdb.device("rx-7900-xt")
    code, one = np.array([FORMAT_CODE["q4_k_m"]]), np.ones(1)
    shape = {"tokens": one, "top_k": one, "experts": one, "n": 4096 * one, "k": 4096 * one, "weight": code, "act": 2}
    lone = Demand("up", "grouped_gemm", 2.0 * 4096**2 * one, one, one, shape=shape)
    rows = hardware_of([chip], np.zeros(1, int))
    dense = Demand("up", "gemm", 2.0 * 4096**2 * one, one, one, shape=gemm("q4_k_m", 1.0).shape)
    kernels = EngineKernels("llamacpp")
    np.testing.assert_allclose(kernels.cost(lone, rows).time, kernels.cost(dense, rows).time)
    many = {**shape, "tokens": 4096 * one}
    batch = Demand("up", "grouped_gemm", 2.0 * 4096**3 * one, one, one, shape=many)
    whole = Demand("up", "gemm", 2.0 * 4096**3 * one, one, one, shape=gemm("q4_k_m", 4096.0).shape)
    ratio = kernels.cost(batch, rows).time / kernels.cost(whole, rows).time
    np.testing.assert_allclose(ratio, 1.0 / rates("llamacpp", chip).experts, rtol=0.01)


def test_the_first_rate_that_holds_for_an_architecture_counts() -> None:
    """Multiprocessors of Turing have 64 lanes, those of Ada 128: more than half as much again per lane."""
    code = FORMAT_CODE["q4_0"]
    turing, ada = (hwdb.device(n) for n in ("rtx-2080-ti", "rtx-4090"))
    per_lane = [rates("llamacpp", d).prompt[code] / d.peak("fp32") for d in (turing, ada)]
    np.testing.assert_allclose(per_lane, [2.9, 2.3])


def test_builds_before_june_2024_multiply_prompts_without_tensor_cores() -> None:
    """ggml-org/llama.cpp pull request 7676: 1.65 times with them in the first version, on an RTX 4090."""
    code, card = FORMAT_CODE["q4_0"], hwdb.device("rtx-4090")
    old, new = (rates(name, card).prompt[code] for name in ("llamacpp-2024", "llamacpp"))
    assert 1.65 <= new / old < 2.5
    chip = hwdb.device("ryzen-9-7950x")
    np.testing.assert_array_equal(rates("llamacpp-2024", chip).prompt, rates("llamacpp", chip).prompt)


def test_sums_in_sixteen_bit_run_at_the_full_rate_of_a_geforce() -> None:
    """NVIDIA Ada architecture white paper: 330 TFLOP/s with 16-bit sums, half of it with 32-bit ones; A100 alike in
    both."""
    code = FORMAT_CODE["fp16"]
    geforce, datacentre = (rates("llamacpp", hwdb.device(d)).prompt[code] for d in ("rtx-4090", "a100-sxm-80gb"))
    assert geforce / hwdb.device("rtx-4090").peak("fp16") == pytest.approx(0.84, rel=0.02)
    assert datacentre / hwdb.device("a100-sxm-80gb").peak("fp16") == pytest.approx(0.42, rel=0.02)


def test_cores_without_dot_products_multiply_slower() -> None:
    """A Xeon Gold 6138 has no VNNI: 0.65 of the rate over the vector peak."""
    code = FORMAT_CODE["q8_0"]
    old, new = (hwdb.device(d) for d in ("xeon-gold-6138", "xeon-8592p"))
    per_peak = [rates("ik_llama", d).prompt[code] / d.peak("fp32") for d in (old, new)]
    assert per_peak[0] / per_peak[1] == pytest.approx(0.65)


def test_tables_name_the_fork_in_the_version() -> None:
    assert engine("llamacpp", "ik_llama.cpp 2024-12 (-rtr)").name == "ik_llama"
    assert engine("llamacpp", "llama.cpp b4384").name == "llamacpp"
    assert engine("ik_llama.cpp").name == "ik_llama"


# -------------------------------------------------------------------------------------------------- SGLang on CPUs

XEON = hwdb.device("xeon-6980p")


def rate(tokens: float, weight: str, by: str) -> float:
    """FLOP per second of a GEMM of `tokens` rows as `by` runs it on a Xeon."""
    demand = replace(gemm(weight, tokens), compute=COMPUTE_CODE[weight])
    return float((demand.flop / default(engine(by)).cost(demand, hardware_of([XEON], np.zeros(1, int))).time)[0])


def test_int8_of_sglang_on_a_xeon_runs_on_vector_units() -> None:
    """8-bit dot products do four times the operations of fp32, AMX 64 times."""
    assert rate(4096.0, "int8", "sglang") < 4.0 * XEON.peak("fp32") < rate(4096.0, "int8", "vllm")


def test_weights_are_read_again_for_every_block_of_rows() -> None:
    """Beyond 32 rows SGLang gains nothing by more: it reads 16-bit weights once per 32 of them, so 32 FLOP per byte."""
    read = XEON.bandwidth * device_efficiency(XEON).memory
    assert rate(2048.0, "bf16", "sglang") == pytest.approx(32.0 * read, rel=0.1)
    assert rate(2048.0, "bf16", "vllm") > 2.0 * rate(2048.0, "bf16", "sglang")


def test_kernels_for_cpus_leave_other_devices_alone() -> None:
    here, demand = hardware_of([hwdb.device("rtx-2080")], np.zeros(1, int)), gemm("bf16", 64.0)
    guarded = OnProcessors("sglang", Roofline())
    assert guarded.cost(demand, here).time == Roofline().cost(demand, here).time
    assert kinds_with_kernels("sglang") == {"cpu"}
    assert np.isnan(EngineKernels("sglang").cost(demand, here).time).all()
