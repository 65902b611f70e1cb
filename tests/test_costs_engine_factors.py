"""Factors of an engine's kernels: which one applies to a call, and what they may not do."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest

import hwdb
from perfmodel.costs import BOUNDS, FACTORS, KERNELS, EngineFactors, Roofline
from perfmodel.costs.engine_effects import engine_factors as module
from perfmodel.costs.engine_effects.engine_factors import combined, factors, kernel
from perfmodel.dtypes import COMPUTE_CODE, FORMAT_CODE
from perfmodel.engines import engine
from perfmodel.hardware import efficiency_of
from perfmodel.hardware.columns import Hardware, hardware_of
from perfmodel.operators.demand import Demand
from perfmodel.vocabulary import FAMILIES


@pytest.fixture(autouse=True)
def _no_factors_known() -> Iterator[None]:
    """Forget factors that were found with the table of another test."""
    for known in (module.factors, module._shown):
        known.cache_clear()
    yield
    for known in (module.factors, module._shown):
        known.cache_clear()


def h100() -> Hardware:
    return hardware_of([hwdb.device("h100-sxm")], np.zeros(2, np.intp))


def gemm(weight: str, rows: int = 2, family: str = "gemm") -> Demand:
    one = np.ones(rows)
    return Demand(
        "x",
        family,
        1e12 * one,
        1e9 * one,
        one,
        COMPUTE_CODE["bf16"],
        shape={"m": one, "n": one, "k": one, "weight": np.full(rows, FORMAT_CODE[weight]), "act": COMPUTE_CODE["bf16"]},
    )


@pytest.mark.parametrize(
    ("family", "weight", "expected"),
    [
        ("gemm", "bf16", "gemm_16"),
        ("gemm", "fp8_block", "gemm_8"),
        ("gemm", "fp4", "gemm_4"),
        ("grouped_gemm", "bf16", "experts_16"),
        ("grouped_gemm", "fp8", "experts_8"),
        ("grouped_gemm", "mxfp4", "experts_4"),
        ("grouped_gemm", "int4", "experts_int4"),
        ("gemm", "q4_k_m", "gemm_int4"),
    ],
)
def test_gemms_and_experts_are_told_apart_by_their_bits(family: str, weight: str, expected: str) -> None:
    assert [KERNELS[i] for i in kernel(gemm(weight, family=family))] == [expected, expected]


def test_every_family_has_a_kind_of_kernel() -> None:
    one = np.ones(1)
    kinds = {f: KERNELS[int(kernel(Demand("x", f, one, one, one, shape={"weight": 0})))] for f in FAMILIES}
    assert kinds["mla_decode"] == kinds["mla_prefill"] == "mla"
    assert kinds["attention_prefill"] == kinds["attention_decode"] == "attention"
    assert kinds["recurrent_decode"] == "recurrent"
    assert kinds["all_to_all"] == kinds["p2p"] == "collective"


def test_a_call_takes_the_factor_of_its_limit_times_that_of_its_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    given = {"compute": 2.0, "memory": 3.0, "gemm_8": 5.0}
    by_name = np.array([given.get(name, 1.0) for name in FACTORS])
    monkeypatch.setattr(module, "_table", lambda: {("mine", ""): combined(by_name)})
    there = h100()
    for weight, expected in (("bf16", 2.0), ("fp8", 10.0)):
        plain = Roofline().cost(gemm(weight), there)
        assert [BOUNDS[b] for b in plain.bound] == ["compute", "compute"]
        found = EngineFactors(Roofline(), replace(engine("vllm"), name="mine")).cost(gemm(weight), there)
        assert found.time == pytest.approx(plain.time * expected)


def test_a_factor_of_arithmetic_leaves_what_memory_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    by_name = np.array([3.0 if name == "compute_gemm_8" else 1.0 for name in FACTORS])
    monkeypatch.setattr(module, "_table", lambda: {("mine", ""): combined(by_name)})
    mine, there = EngineFactors(Roofline(), replace(engine("vllm"), name="mine")), h100()
    busy, read = gemm("fp8"), replace(gemm("fp8"), flop=np.full(2, 1e9))
    assert mine.cost(busy, there).time == pytest.approx(3.0 * Roofline().cost(busy, there).time)
    assert mine.cost(read, there).time == pytest.approx(Roofline().cost(read, there).time)
    assert mine.cost(gemm("bf16"), there).time == pytest.approx(Roofline().cost(gemm("bf16"), there).time)


def test_no_factor_beats_the_device(monkeypatch: pytest.MonkeyPatch) -> None:
    tiny = combined(np.array([1e-3 if name in BOUNDS else 1.0 for name in FACTORS]))
    monkeypatch.setattr(module, "_table", lambda: {("mine", ""): tiny})
    there = h100()
    found = EngineFactors(Roofline(), replace(engine("vllm"), name="mine")).cost(gemm("bf16"), there)
    assert np.all(found.time >= 1e12 / hwdb.device("h100-sxm").peak("bf16") * (1 - 1e-12))


def test_no_factor_brings_a_kernel_beyond_what_libraries_attain(monkeypatch: pytest.MonkeyPatch) -> None:
    # 794.5 of 989 TFLOP/s is the most that any shape of a bf16 multiplication reaches on H100 (stas00/ml-engineering)
    tiny = combined(np.array([1e-3 if name in BOUNDS else 1.0 for name in FACTORS]))
    monkeypatch.setattr(module, "_table", lambda: {("mine", ""): tiny})
    there, mine = h100(), replace(engine("vllm"), name="mine")
    reached = 1e12 / EngineFactors(Roofline(), mine).cost(gemm("bf16"), there).time
    assert reached == pytest.approx(794.5e12, rel=0.01)
    faster = Roofline(replace(efficiency_of(there), gemm=np.full(2, 0.9)))
    alone = faster.cost(gemm("bf16"), there).time
    assert EngineFactors(faster, mine).cost(gemm("bf16"), there).time == pytest.approx(alone)


@pytest.mark.parametrize(
    ("device", "version", "weight", "slower"),
    [
        ("h100-sxm", "0.11.0", "mxfp4", True),
        ("h200-sxm", "0.10.2", "int4", True),
        ("h100-sxm", "0.11.0", "bf16", False),
        ("h100-sxm", "0.14.0", "mxfp4", False),
        ("a100-sxm-80gb", "0.11.0", "mxfp4", False),
    ],
)
def test_experts_in_four_bits_ran_old_instructions_on_hopper(
    device: str, version: str, weight: str, slower: bool
) -> None:
    there = hardware_of([hwdb.device(device)], np.zeros(2, np.intp))
    asked = gemm(weight, family="grouped_gemm")
    found = EngineFactors(Roofline(), engine("vllm", version)).cost(asked, there)
    share = 1e12 / found.time / hwdb.device(device).peak("bf16")
    assert np.all(share <= 0.18 * (1 + 1e-9)) == slower
    one = EngineFactors(Roofline(), engine("vllm", version)).cost(gemm(weight), there)
    assert np.all(1e12 / one.time / hwdb.device(device).peak("bf16") > 0.3)


def test_a_device_without_factors_of_its_own_takes_those_of_its_kind_then_the_engines() -> None:
    assert factors("no such engine", hwdb.device("h100-sxm")) == pytest.approx(1.0)
    own, other = factors("vllm", hwdb.device("h100-sxm")), factors("vllm", hwdb.device("a10"))
    assert not np.allclose(own, other)
