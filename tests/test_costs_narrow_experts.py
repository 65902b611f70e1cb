"""Experts of 4 bits whose kernels were not made for the device."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

import hwdb
from perfmodel.costs import EngineFactors, Roofline
from perfmodel.deployment import deployments
from perfmodel.dtypes import COMPUTE_CODE, FORMAT_CODE
from perfmodel.engines import engine
from perfmodel.estimates import estimate
from perfmodel.hardware import hardware_of
from perfmodel.models import model
from perfmodel.operators import Demand
from perfmodel.workload import Workload


def experts(weight: str, tokens: float, **shape: float) -> Demand:
    """Return a layer of Kimi-K2's experts on one of eight devices; flop and moved are too few to matter."""
    of = {"hidden": 7168.0, "inter": 2048.0, "tp": 8.0, "tokens": tokens, "experts": 384.0, "top_k": 8.0, "ep": 1.0}
    formats = {"weight": np.array([FORMAT_CODE[weight]]), "act": COMPUTE_CODE["bf16"]}
    one = np.ones(1)
    return Demand(
        "experts", "grouped_gemm", one, one, one, COMPUTE_CODE["bf16"], shape={**of, **formats, "uneven": 1.0, **shape}
    )


def seconds(demand: Demand, device: str, version: str = "", architecture: str = "") -> float:
    there = hardware_of([hwdb.device(device)], np.zeros(1, np.intp))
    costs = EngineFactors(Roofline(), engine("vllm", version)).for_architecture(architecture)
    return float(costs.cost(demand, there).time[0])


@pytest.mark.parametrize("device", ["mi100", "mi300x", "mi325x"])
def test_integer_experts_are_expanded_at_one_rate_where_nobody_chose_the_tiles(device: str) -> None:
    # one token picks 8 experts of 3 x 7168 x 256 values each on a device, 4.5 bits per value with their scales
    expected = 8 * 3 * 7168 * 256 * 4.5 / 8 / 200e9
    assert seconds(experts("int4_g32", 1.0), device) == pytest.approx(expected, rel=1e-9)
    assert seconds(experts("int4_g32", 1.0, ep=8.0, tp=1.0), device) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize(
    ("device", "version", "weight", "slow"),
    [
        ("mi300x", "", "int4", True),
        ("mi250x", "", "int4", True),
        ("mi300x", "0.12.0", "int4", True),
        ("mi355x", "0.12.0", "int4", True),
        ("mi355x", "", "int4", False),  # tiles for CDNA4 came in February 2026
        ("mi300x", "", "mxfp4", False),
        ("mi300x", "", "fp8", False),
        ("h100-sxm", "", "int4", False),
    ],
)
def test_only_integers_on_chips_without_tiles_of_their_own_are_slow(
    device: str, version: str, weight: str, *, slow: bool
) -> None:
    assert (seconds(experts(weight, 4.0), device, version) > 2e-4) == slow


def test_a_step_takes_as_long_as_the_experts_that_it_touches() -> None:
    """Kimi-K2.5 on 8 MI325X (InferenceX, 2026-03): from 4 to 64 users a step of 60 such layers grows by 158 ms."""
    few, many = (seconds(experts("int4_g32", tokens), "mi325x") for tokens in (4.0, 64.0))
    assert 60 * (many - few) == pytest.approx(0.158, rel=0.15)


@pytest.mark.parametrize(
    ("device", "weight", "architecture", "longer_us"),
    [
        ("mi325x", "mxfp4", "DeepseekV4ForCausalLM", 350.0),
        ("mi210", "mxfp4", "DeepseekV4ForCausalLM", 350.0),
        ("mi355x", "mxfp4", "DeepseekV4ForCausalLM", 0.0),  # runs the kernel that CDNA3 lacks
        ("mi325x", "mxfp4", "GptOssForCausalLM", 0.0),
        ("mi325x", "fp8", "DeepseekV4ForCausalLM", 0.0),
        ("h100-sxm", "mxfp4", "DeepseekV4ForCausalLM", 0.0),
    ],
)
def test_a_reference_kernel_takes_longer_per_layer_for_all_models_without_a_better_one(
    device: str, weight: str, architecture: str, longer_us: float
) -> None:
    found = seconds(experts(weight, 1.0), device, "", architecture)
    alone = replace(engine("vllm"), reference_experts=())
    there = hardware_of([hwdb.device(device)], np.zeros(1, np.intp))
    without = EngineFactors(Roofline(), alone).for_architecture(architecture).cost(experts(weight, 1.0), there).time[0]
    assert (found - without) * 1e6 == pytest.approx(longer_us, abs=1e-6)


@pytest.mark.parametrize(("name", "devices", "before", "after"), [("Pro", 4, 22.39, 46.49), ("Flash", 1, 32.72, 64.43)])
def test_deepseek_v4_answers_one_user_of_mi325x_as_published(
    name: str, devices: int, before: float, after: float
) -> None:
    """Tokens per second at 32,768 tokens with and without the reference kernel (vllm pull request 57079, 2026-09)."""
    placed = deployments([hwdb.device("mi325x")], tp=devices)
    asked = Workload.from_lengths(32768, 512, concurrency=1.0)
    served = model(f"deepseek-ai/DeepSeek-V4-{name}")
    for runs, published in ((engine("vllm"), before), (engine("vllm").changed(reference_experts=()), after)):
        per_token = estimate(served, asked, placed, engine=runs).columns()["tpot_ms"][0]
        assert 1e3 / per_token == pytest.approx(published, rel=0.15)
