"""Cards of workstations, Instinct MI100 and MI350X, Strix Halo: published figures, and decode at memory bandwidth."""

from __future__ import annotations

import numpy as np
import pytest

import hwdb
import perfmodel as pm
from perfmodel.costs.engine_effects.engine_factors import place_factors
from perfmodel.costs.related_devices.calibrated import Calibrated, donors
from perfmodel.costs.related_devices.distance import ceilings, device_distance, siblings
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
    "rtx-4500-ada": (158.5, 158.5, 317, 317, None, 432, 24, 210),
    "rtx-4000-sff-ada": (76.7, 76.7, 153.4, 153.4, None, 280, 20, 70),
    "rtx-pro-4000": (147.3, 147.3, 294.6, 294.6, 589.3, 672, 24, 140),
    "rtx-a4500": (94.6, 94.6, None, 189.2, None, 640, 20, 200),
    "rtx-3050": (18.2, 18.2, None, 72.8, None, 224, 8, 130),
    "rtx-5060": (38.4, 38.4, 76.7, 153.4, 306.9, 448, 8, 145),
    "rx-7800-xt": (74.6, 74.6, None, 74.6, None, 624.1, 16, 263),
    "rx-9060-xt-16gb": (102.6, 102.6, 205.1, 205.1, None, 322.3, 16, 160),
    "arc-b570": (92.2, 92.2, None, 184.3, None, 380, 10, 150),
    "mi300a": (980.6, 980.6, 1961.2, 1961.2, None, 5300, 128, 550),
    "tpu-v4": (275, None, None, 275, None, 1200, 32, 192),
    "mtt-s4000": (100, 100, None, 200, None, 768, 48, None),
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
    assert device.tdp == watts or (watts is None and np.isnan(device.tdp))  # type: ignore[arg-type]


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
        ("rtx-4500-ada", "bf16", 60, 1024),
        ("rtx-pro-5000-48gb", "fp4", 110, 4096),
        ("rtx-3070-ti", "bf16", 48, 512),
        ("rtx-2060", "fp16", 30, 512),
        ("mi300a", "bf16", 228, 2048),
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
    assert ((share > 0.52) & (share < 1.0)).all(), dict(zip(names, share.round(2), strict=True))


def test_a_strix_halo_borrows_no_table_of_an_instinct() -> None:
    """RDNA and CDNA multiply matrices by other instructions; 22 GEMMs of an MI210 made its decode 9 times as slow."""
    assert np.isinf(device_distance(hwdb.device("ryzen-ai-max-395"), hwdb.device("mi210")))
    assert np.isfinite(device_distance(hwdb.device("rx-9070-xt"), hwdb.device("mi210")))
    want = Variant("bf16", "bf16")
    assert not donors(Calibrated(), hwdb.device("ryzen-ai-max-395"), "gemm", want)
    assert "mi210" in {d.device.name for d in donors(Calibrated(), hwdb.device("mi100"), "gemm", want)}


def test_a_device_that_nobody_measured_takes_the_ceilings_of_its_sibling() -> None:
    """By hand: an MI350X has the chip of the MI355X, of which 58 % of the bandwidth was measured, 62 % of the peak."""
    lower, upper = hwdb.device("mi350x"), hwdb.device("mi355x")
    assert [d.name for d in siblings(lower)] == ["mi355x"]
    measured, taken = ceilings(upper, "bf16"), ceilings(lower, "bf16")
    assert taken.memory / lower.bandwidth == pytest.approx(upper.measured("memory_bandwidth") / upper.bandwidth)
    assert taken.compute / lower.peak("bf16") == pytest.approx(measured.compute / upper.peak("bf16"))
    assert np.array_equal(place_factors("sglang", lower), place_factors("sglang", upper))
    assert not siblings(hwdb.device("ryzen-ai-max-395"))
    for device in hwdb.load().devices():  # whoever is alike is so both ways
        assert all(device.name in {d.name for d in siblings(kin)} for kin in siblings(device))


@pytest.mark.parametrize(("better", "lesser"), [("mi355x", "mi350x"), ("h200-sxm", "h200-nvl")])
@pytest.mark.parametrize("engine", ["vllm", "sglang", "trtllm"])
def test_a_device_that_is_better_in_every_figure_is_not_slower(better: str, lesser: str, engine: str) -> None:
    both = [hwdb.device(better), hwdb.device(lesser)]
    for tokens, clients in ((128, 1), (4096, 1), (1024, 32)):
        load = pm.Workload.from_lengths(tokens, 128, concurrency=clients)
        for name in ("meta-llama/Llama-3.1-8B", "Qwen/Qwen3-30B-A3B"):
            placed = pm.deployments(both, device=np.array([0, 1, 0, 1]), tp=np.array([1, 1, 4, 4]))
            found = pm.estimate(pm.model(name), load, placed, engine=engine)
            rates = found.request_rate
            assert (rates[::2] >= 0.97 * rates[1::2]).all(), (name, tokens, clients)
