"""Cards of workstations, Instinct MI100 and MI350X, Strix Halo: published figures, and decode at memory bandwidth."""

from __future__ import annotations

import numpy as np
import pytest

import hwdb
import perfmodel as pm
from perfmodel.costs.calibrated import Calibrated, donors
from perfmodel.costs.distance import device_distance
from perfmodel.profiles import Variant

#: device -> dense bf16, fp16, fp8, int8, fp4 in T(FL)OP/s, then GB/s, GiB, W, as published; None: no such units.
PUBLISHED: dict[str, tuple[float | None, ...]] = {
    "mi350x": (2307, 2307, 4614, 4614, 9227, 8000, 288, 1000),
    "mi100": (92.3, 184.6, None, 184.6, None, 1228.8, 32, 300),
    "radeon-ai-pro-r9700": (191.4, 191.4, 382.7, 382.7, None, 640, 32, 300),
    "rx-9070-xt": (194.6, 194.6, 389.3, 389.3, None, 640, 16, 304),
    "ryzen-ai-max-395": (59.4, 59.4, None, 59.4, None, 256, 128, 120),
    "arc-pro-b50": (85.2, 85.2, None, 170.4, None, 224, 16, 70),
    "arc-pro-b70": (183.5, 183.5, None, 367, None, 608, 32, 230),
    "rtx-pro-4500": (219.7, 219.7, 439.5, 439.5, 879, 896, 32, 200),
    "rtx-pro-4500-server": (219.7, 219.7, 439.5, 439.5, 879, 800, 32, 165),
    "rtx-4070": (58.3, 58.3, 116.6, 233.2, None, 504, 12, 200),
    "rtx-3060": (25.5, 25.5, None, 101.9, None, 360, 12, 170),
    "quadro-rtx-8000": (None, 130.5, None, 261, None, 672, 48, 260),
    "rtx-4060-ti-16gb": (44.1, 44.1, 88.2, 176.5, None, 288, 16, 165),
    "rtx-5070-ti": (87.9, 87.9, 175.8, 351.5, 703, 896, 16, 300),
    "rtx-5060-ti-16gb": (47.4, 47.4, 94.8, 189.6, 379.2, 448, 16, 180),
    "rtx-a5000": (111.1, 111.1, None, 222.2, None, 768, 24, 230),
    "a2": (18.1, 18.1, None, 36.2, None, 200, 16, 60),
    "arc-a770": (157.3, 157.3, None, 314.6, None, 560, 16, 225),
    "jetson-orin-nano-8gb": (16.7, 16.7, None, 33.4, None, 102, 8, 25),
    "jetson-agx-thor": (258.8, 258.8, 517.5, 517.5, 1035, 273, 128, 130),
}
_TYPES = ("bf16", "fp16", "fp8", "int8", "fp4")


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_figures(name: str) -> None:
    device, (*peaks, bandwidth, memory, watts) = hwdb.device(name), PUBLISHED[name]
    for dtype, tera in zip(_TYPES, peaks, strict=True):
        told = device.peak(dtype) / 1e12
        assert np.isnan(told) if tera is None else told == pytest.approx(tera, rel=1e-3), dtype
    assert device.bandwidth == pytest.approx(bandwidth * 1e9)  # type: ignore[operator]
    assert device.memory == pytest.approx(memory * 2**30, rel=0.01)  # type: ignore[operator]
    assert device.tdp == watts


@pytest.mark.parametrize(
    ("name", "dtype", "units", "per_clock"),
    [
        ("mi350x", "fp16", 256, 4096),
        ("mi100", "fp16", 120, 1024),
        ("radeon-ai-pro-r9700", "fp8", 64, 2048),
        ("rx-9070-xt", "bf16", 64, 1024),
        ("ryzen-ai-max-395", "bf16", 40, 512),
        ("arc-pro-b50", "int8", 16, 4096),
        ("arc-pro-b70", "int8", 32, 4096),
        ("rtx-pro-4500", "bf16", 82, 1024),
        ("rtx-4070", "bf16", 46, 512),
        ("rtx-4060-ti-16gb", "bf16", 34, 512),
        ("rtx-5070-ti", "bf16", 70, 512),
        ("rtx-5060-ti-16gb", "fp8", 36, 1024),
        ("jetson-orin-nano-8gb", "int8", 8, 4096),
    ],
)
def test_dense_peaks_are_units_times_clock_times_rate(name: str, dtype: str, units: int, per_clock: int) -> None:
    """A peak with 2:4 sparsity would be twice the product."""
    device = hwdb.device(name)
    assert device.si("chip.cores") == units
    assert device.peak(dtype) == pytest.approx(units * per_clock * device.si("chip.clock"), rel=2e-3)


def test_one_stream_decodes_at_memory_bandwidth() -> None:
    """Qwen3-4B in bf16: a token streams 8.05 GB of weights, above the bandwidth that is measured, and little else."""
    # the CDNA cards borrow sparse tables of GEMMs with few rows, which are slower than their memory
    names = [name for name in PUBLISHED if not name.startswith("mi")]
    model, load = pm.model("Qwen/Qwen3-4B"), pm.Workload.from_lengths(256, 64, concurrency=1)
    answer = pm.estimate(model, load, pm.deployments([hwdb.device(n) for n in names], device=np.arange(len(names))))
    bandwidth = np.array([hwdb.device(n).bandwidth for n in names])
    share = 8.05e9 / answer.tpot[0] / bandwidth
    assert ((share > 0.55) & (share < 1.0)).all(), dict(zip(names, share.round(2), strict=True))


def test_a_strix_halo_borrows_no_table_of_an_instinct() -> None:
    """RDNA and CDNA multiply matrices by other instructions; 22 GEMMs of an MI210 made its decode 9 times as slow."""
    assert np.isinf(device_distance(hwdb.device("ryzen-ai-max-395"), hwdb.device("mi210")))
    assert np.isfinite(device_distance(hwdb.device("rx-9070-xt"), hwdb.device("mi210")))
    want = Variant("bf16", "bf16")
    assert not donors(Calibrated(), hwdb.device("ryzen-ai-max-395"), "gemm", want)
    assert "mi210" in {d.device.name for d in donors(Calibrated(), hwdb.device("mi100"), "gemm", want)}
