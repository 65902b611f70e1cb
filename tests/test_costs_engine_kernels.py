"""llama.cpp's own kernels, against published runs and the closed form of unpacking."""

from __future__ import annotations

import tomllib
from importlib.resources import files

import numpy as np
import pytest

import hwdb
from perfmodel.costs import EngineKernels, Fallback, Roofline
from perfmodel.costs.engine_kernels import TILE, rates, tiled
from perfmodel.deployment.columns import deployments
from perfmodel.dtypes import FORMAT_CODE, FORMATS
from perfmodel.engines.catalogue import engine
from perfmodel.estimates.estimator import estimate
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


def test_kernels_of_llamacpp_on_rdna_reach_a_share_of_the_vector_peak() -> None:
    """Prompts in 4 bit on an RX 7900 XTX: 3,227 tokens/s of an 8B model are 0.79 of 61.4 TFLOP/s."""
    devices = [hwdb.device(n) for n in ("rx-7900-xtx", "radeon-ai-pro-r9700", "ryzen-ai-max-395", "mi100")]
    rows, one = hardware_of(devices, np.arange(4)), np.ones(4)
    shape = {
        "m": 2048 * one,
        "n": 4096 * one,
        "k": 4096 * one,
        "weight": FORMAT_CODE["q4_k_m"] * np.ones(4, int),
        "act": 2,
    }
    demand = Demand("up", "gemm", 2.0 * 2048 * 4096**2 * one, 4096.0**2 * one, one, shape=shape)
    rate = demand.flop / EngineKernels("llamacpp").cost(demand, rows).time
    share = rate / np.array([d.peak("fp32") for d in devices])
    assert ((share[:3] > 0.6) & (share[:3] < 0.8)).all()
    assert np.isnan(share[3]), "CDNA has matrix units of another kind"


def test_every_rate_names_known_formats_once_and_a_source() -> None:
    for entry in tomllib.loads(files("perfmodel.costs").joinpath("own_kernels.toml").read_text())["engine"]:
        named = [f for kernel in entry["kernel"] for f in kernel["formats"]]
        assert len(named) == len(set(named))
        assert set(named) <= set(FORMATS)
        assert all(kernel["source"] and kernel["single"] <= kernel["prompt"] for kernel in entry["kernel"])
        assert all(entry[f"{k}_source"] for k in ("attention", "experts", "undotted") if k in entry)
        assert [engine(name).name for name in entry["names"]] == entry["names"]


@pytest.mark.parametrize(
    ("device", "weight", "prefill", "decode"),
    [
        # XiongjieDai/GPU-Benchmarks-on-LLM-Inference, Llama-3-8B, prompts of 1,024
        ("l40s", "q4_k_m", 5909.0, 113.6),
        ("rtx-6000-ada", "q4_k_m", 5561.0, 131.0),
        ("rtx-4090", "fp16", 9056.0, 54.0),
        ("m1-max", "fp16", 419.0, 18.4),
    ],
)
def test_cards_compute_prompts_far_below_what_libraries_reach(
    device: str, weight: str, prefill: float, decode: float
) -> None:
    found = speed(device, weight, "llamacpp")
    assert found == pytest.approx((prefill, decode), rel=0.35)


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
