"""Experts outside a table of few rows, against published times of kernels."""

from __future__ import annotations

import numpy as np
import pytest

import hwdb
from perfmodel import equations as eq
from perfmodel.costs import Calibrated, Profiled, default
from perfmodel.costs.cost_model_choice.sparse_tables import BeyondSparse, outdone
from perfmodel.dtypes import COMPUTE_CODE, FORMAT_CODE
from perfmodel.engines import engine
from perfmodel.hardware import hardware_of
from perfmodel.operators import Demand
from perfmodel.profiles import Variant

NEAREST = BeyondSparse(Profiled("vllm"), Calibrated("vllm"))


def experts(tokens: float, **shape: float) -> Demand:
    """Return a layer of Hy3's experts in FP8, split over eight devices unless `shape` says otherwise."""
    of = {"hidden": 4096.0, "inter": 1536.0, "tp": 8.0, "tokens": tokens, "experts": 192.0, "top_k": 8.0, "ep": 1.0}
    of |= shape
    pairs, inner = tokens * of["top_k"] / of["ep"], of["inter"] / of["tp"]
    touched = eq.popular_experts_touched(of["experts"], of["top_k"], tokens) / of["ep"]
    moved = eq.grouped_gemm_bytes(pairs, touched, of["hidden"], inner, 2.0, act_bytes=1.0, weight_bytes=1.0)
    flop = eq.grouped_gemm_flop(pairs, of["hidden"], inner, 2.0)
    formats = {"weight": np.array([FORMAT_CODE["fp8_block"]]), "act": COMPUTE_CODE["fp8"]}
    return Demand(
        "experts",
        "grouped_gemm",
        np.atleast_1d(flop),
        np.atleast_1d(moved),
        np.ones(1),
        COMPUTE_CODE["fp8"],
        shape={**of, **formats, "uneven": 1.0},
    )


def seconds(demand: Demand, *devices: str) -> list[float]:
    there = hardware_of([hwdb.device(name) for name in devices], np.arange(len(devices)))
    return np.broadcast_to(NEAREST.cost(demand, there).time, len(devices)).tolist()


@pytest.mark.parametrize(
    ("tokens", "published_us"), [(4.0, 56.4), (16.0, 124.2), (256.0, 310.9), (1024.0, 438.3), (4096.0, 1230.7)]
)
def test_narrow_experts_take_as_long_as_published(tokens: float, published_us: float) -> None:
    """vLLM blog, 2026-07-06, table 1, H20: the faster of Triton and CUTLASS. The table of H20 starts at 512 columns."""
    there = hardware_of([hwdb.device("h20")], np.zeros(1, np.intp))
    found = float(default(engine("vllm")).cost(experts(tokens), there).time[0]) * 1e6
    assert found == pytest.approx(published_us, rel=0.4)
    assert float(Profiled("vllm").cost(experts(16.0), there).time[0]) * 1e6 > 2.0 * 124.2  # what its border says


def test_only_shapes_outside_a_table_of_few_rows_are_priced() -> None:
    narrow, held = experts(16.0), experts(4096.0, experts=128.0, tp=1.0, ep=8.0)
    beside = seconds(narrow, "h20", "h200-sxm", "l40s", "mi300x")
    assert np.isfinite(beside[0])
    assert np.isnan(beside[1:]).all()  # tables of many rows, and devices without a table
    assert np.isnan(seconds(held, "h20")).all()
    norm = Demand("norm", "elementwise", np.zeros(1), np.ones(1), np.ones(1))
    assert np.isnan(seconds(norm, "h20")).all()


def test_related_devices_are_nearer_than_few_rows_and_farther_than_many() -> None:
    want = Variant("fp8_block", "fp8", "1.01")
    assert outdone(NEAREST.related, hwdb.device("h20"), want)
    assert not outdone(NEAREST.related, hwdb.device("h200-sxm"), want)
    alone = Calibrated("vllm", hidden=frozenset({"h20"}))
    assert not outdone(alone, hwdb.device("h20"), want)
