"""Watts of single kernels: those measured, what lies between and beyond them, and what stands in for other devices."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import hwdb
from perfmodel.estimates import OperatorUse, operator_use
from perfmodel.fitting.power_caps import Sweep, fit_caps, table_sweeps
from perfmodel.fitting.power_kernels import fitted_kernels, kernels_text
from perfmodel.operators import attention_alone, gemm_alone
from perfmodel.power import kernel_share, near, slowed
from perfmodel.power.capping import capping

#: Medians of bf16 GEMMs of some thousand tokens, kernels over 100 us: 691 of 700 W, 982 of 1,000, 1,154 of 1,200
#: (NVIDIA AIConfigurator, Apache-2.0, @095f58a).
LARGE = {"h200-sxm": 691.0, "b200-sxm": 982.0, "gb200": 1154.0}


def sizes(*values: float) -> list[np.ndarray]:
    return [np.array([value]) for value in values]


def gemm(device: str, m: float, n: float, k: float, dtype: str = "bf16", cap: float = np.nan) -> OperatorUse:
    columns = sizes(m, n, k)
    return operator_use(gemm_alone(columns[0], columns[1], columns[2], dtype), hwdb.device(device), cap)


@pytest.mark.parametrize("device", LARGE)
@pytest.mark.parametrize("seed", range(7))
def test_large_products_sit_at_the_limit(device: str, seed: int) -> None:
    rng = random.Random(seed)
    m, n, k = (float(2 ** rng.randint(12, 14)) for _ in range(3))
    found = gemm(device, m, n, k)
    assert found.power_basis == [f"kernels of {device}"]
    assert found.watts[0] == pytest.approx(LARGE[device], rel=0.06)


@pytest.mark.parametrize("seed", range(20))
def test_watts_stay_between_waiting_and_the_limit_in_force(seed: int) -> None:
    rng = random.Random(seed)
    name = rng.choice(["h200-sxm", "h100-sxm", "b200-sxm", "gb200", "a100-sxm-80gb", "rtx-4070", "l4"])
    device = hwdb.device(name)
    cap = rng.choice([np.nan, 0.6 * device.tdp])
    if rng.random() < 0.6:
        m, n, k = sizes(*(float(2 ** rng.uniform(0, 15)) for _ in range(3)))
        demand = gemm_alone(m, n, k, rng.choice(["bf16", "fp8", "nvfp4"]))
    else:
        batch, queries, seen = sizes(rng.randint(1, 64), rng.choice([1.0, 512.0, 8192.0]), rng.randint(16, 32000))
        demand = attention_alone(batch, queries, seen, (32, 8, 128), "bf16")
    found = operator_use(demand, device, cap)
    assert 0.1 * device.tdp < found.watts[0] <= np.fmin(cap, device.tdp) * (1 + 1e-9)
    assert found.joules[0] == pytest.approx(found.time[0] * found.watts[0])


def test_the_same_chip_stands_in_with_a_wider_range_and_another_one_does_not() -> None:
    work = (np.array([2.0**39]), np.array([2.0**28]))
    own, borrowed, other = (kernel_share(hwdb.device(n), "gemm", 16, work) for n in ("h200-sxm", "h100-sxm", "h20"))
    assert (own[2], borrowed[2], other[2]) == ("h200-sxm", "h200-sxm", "")
    assert borrowed[0] == own[0]
    assert borrowed[1] > own[1]
    assert np.isnan(other[0]).all()


def test_kernels_far_from_all_measured_ones_are_not_looked_up() -> None:
    assert gemm("h200-sxm", 1, 64, 64).power_basis[0].startswith("serving runs")
    place, share = np.array([[30.0, 25.0], [31.0, 25.0]]), np.array([0.4, 0.6])
    found = near(place, share, np.array([[30.0, 25.0], [30.5, 25.0], [40.0, 25.0]]))
    assert 0.4 < found[0] < 0.45
    assert found[1] == pytest.approx(0.5)
    assert np.isnan(found[2])


@pytest.mark.parametrize("device", ["a100-sxm-80gb", "b300-sxm", "l40s", "mi300x", "rtx-4070"])
def test_large_products_of_devices_without_kernels_sit_near_the_limit(device: str) -> None:
    for dtype in ("bf16", "fp8"):
        found = gemm(device, 8192, 8192, 8192, dtype)
        assert found.power_basis == ["kernels of other devices"]
        assert found.watts[0] == pytest.approx(0.97 * hwdb.device(device).tdp)


def test_limits_below_the_evidence_are_said() -> None:
    low, high = (gemm("h200-sxm", 8192, 8192, 8192, cap=cap) for cap in (100.0, 350.0))
    assert "lower than any measured" in low.power_basis[0]
    assert low.watts[0] == 100.0
    assert high.power_basis == ["kernels of h200-sxm"]
    assert high.time[0] < low.time[0]


def test_a_table_is_made_from_measured_kernels(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    m, n, k = (2.0 ** rng.integers(9, 15, 600) for _ in range(3))
    watts = np.where(2 * m * n * k > 2.0**36, 690.0, 400.0)
    table = pd.DataFrame({"device": "NVIDIA H200", "op_name": "gemm", "gemm_dtype": "bfloat16", "m": m, "n": n, "k": k})
    slow = 2 * m * n * k / 500e12 * 1e3
    table.assign(latency=np.maximum(slow, 0.2), power=watts, power_limit=700.0).to_parquet(tmp_path / "a.parquet")
    found = fitted_kernels(tmp_path)
    assert (found.rows.peak_share > 0.1).all()
    assert set(found.cells.share.round(3)) <= {0.571, 0.986, 0.779}
    assert "gemm, shapes left out" in kernels_text(found)
    with pytest.raises(hwdb.InputError, match="tables of kernels"):
        fitted_kernels(tmp_path / "nothing")


# -------------------------------------------------------------------------------- power limits


def test_a_sweep_that_the_model_made_is_fitted_back() -> None:
    own = replace(capping(), static={}, voltage=0.7, memory=0.75, sharpness=8.0)
    limits = np.array([1.0, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4])
    device, sweeps = hwdb.device("rtx-pro-6000-ws"), []
    for name, demanded, arithmetic in (("prompts", 1.0, 1.0), ("answers", 0.85, 0.0), ("both", 0.95, 0.3)):
        part = np.full(len(limits), arithmetic)
        slower = slowed(own, (np.full(len(limits), demanded), limits, np.full(len(limits), 0.172)), part, 1.0 - part)
        sweeps.append(Sweep(name, device, limits, slower[0] / slower, demanded, arithmetic, "made"))
    point, at = fit_caps(sweeps)
    for sweep, kept in zip(sweeps, point.kept(at), strict=True):
        np.testing.assert_allclose(kept, sweep.kept, rtol=0.02)


def test_a_table_of_rates_under_limits_is_read(tmp_path: Path) -> None:
    path = tmp_path / "rates.csv"
    lines = ["device,op,tok_s,note,source"]
    lines += [f"RTX 3090,e2e_pp,{r},power_limit={w}W per GPU,page x" for w, r in ((350, 100), (300, 94), (200, 60))]
    path.write_text("\n".join(lines))
    (found,) = table_sweeps(path)
    np.testing.assert_allclose(found.limits, [1.0, 300 / 350, 200 / 350])
    np.testing.assert_allclose(found.kept, [1.0, 0.94, 0.6])
    assert (found.demanded, found.arithmetic, found.source) == (1.0, 1.0, "page")
    path.write_text("device,tok_s\nx,1\n")
    with pytest.raises(hwdb.InputError, match="op"):
        table_sweeps(path)
