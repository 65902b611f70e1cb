"""A device that is better in some figures and worse in none is not predicted slower, unless both were measured so."""

from __future__ import annotations

import numpy as np
import pytest

import hwdb
from benchmarks.device_order import LOADS, TOLERANCE, between_devices, grid, within_devices
from hwdb import Device
from perfmodel.costs import remarks_of
from perfmodel.costs.measured_tables import lookup
from perfmodel.costs.related_devices.calibrated import Calibrated, donors
from perfmodel.costs.related_devices.distance import ceilings, ceilings_beside
from perfmodel.engines import engine
from perfmodel.hardware import better_and_lesser, device_efficiency, kept_in_order, no_worse
from perfmodel.profiles import FAMILY, ShapeBatch, Variant, load

LLAMA = "meta-llama/Llama-3.1-8B"


def device(name: str) -> Device:
    return hwdb.device(name)


def violated(engine_name: str, model: str, weight: str, better: str, lesser: str) -> list[str]:
    """Loads and degrees of TP on which the better device takes longer than the lesser one."""
    cells = between_devices(grid(engine(engine_name), model, weight, [device(better), device(lesser)]))
    assert set(cells.better) == {better}, "no pair: the facts do not say that one is better"
    wrong = cells[cells.excess > TOLERANCE]
    return [f"{w.load} tp {w.tp}: {w.excess:.1%}" for w in wrong.itertuples()]


# --------------------------------------------------------------------------------------------------------- the facts


def test_no_worse_needs_every_figure_and_one_better() -> None:
    assert no_worse(device("a100-sxm-80gb"), device("a100-sxm-40gb"))
    assert not no_worse(device("a100-sxm-40gb"), device("a100-sxm-80gb"))
    assert not no_worse(device("h100-sxm"), device("h100-sxm"))
    assert not no_worse(device("h100-nvl"), device("h100-sxm"))  # more memory bandwidth, less arithmetic
    assert not no_worse(device("mi300x"), device("h20"))  # other kernels
    assert not no_worse(device("h200-sxm"), device("l40s"))
    assert not no_worse(device("b200-sxm"), device("rtx-5090"))  # another kind of memory


def test_kernels_and_links_of_their_own_ask_for_more_figures() -> None:
    """The B300 has few integer units: an engine that multiplies 8-bit integers is not faster on it."""
    assert no_worse(device("b300-sxm"), device("b200-sxm"))
    assert not no_worse(device("b300-sxm"), device("b200-sxm"), own_kernels=True)
    assert no_worse(device("h200-sxm"), device("h200-nvl"))
    assert not no_worse(device("h200-sxm"), device("h200-nvl"), link=True)  # a switch is no bridge


def test_better_and_lesser_are_the_two_sides_of_one_order() -> None:
    for one in hwdb.built_in().devices():
        better, lesser = better_and_lesser(one)
        assert all(no_worse(other, one) for other in better)
        assert all(no_worse(one, other) for other in lesser)
        assert all(one in better_and_lesser(other)[1] for other in better)


def test_kept_in_order_keeps_what_is_known_and_orders_the_rest() -> None:
    """With any values, known or not, two devices lie in order, unless what is known of others contradicts it."""
    draw, all_devices = np.random.default_rng(3), list(hwdb.built_in().devices())
    values = {d.name: float(v) for d, v in zip(all_devices, draw.uniform(1, 2, len(all_devices)), strict=True)}
    known = {d.name for d in all_devices if draw.random() < 0.3}
    kept = {d.name: kept_in_order(d, lambda d: values[d.name], lambda d: d.name in known) for d in all_devices}
    assert all(kept[name] == values[name] for name in known)
    for one in all_devices:
        better, lesser = better_and_lesser(one)
        most = min((values[d.name] for d in (one, *better) if d.name in known), default=np.inf)
        for other in lesser:
            assert kept[one.name] >= kept[other.name] or (other.name in known and values[other.name] > most)
    assert any(kept[d.name] != values[d.name] for d in all_devices)


# ----------------------------------------------------------------------------------------------------- what is borrowed


def test_shares_that_nobody_measured_keep_the_order_of_rated_figures() -> None:
    rated = {"memory": "memory.bandwidth", "kv": "memory.bandwidth", "gemm": "peak.bf16", "attention": "peak.bf16"}
    for name in ("mi350x", "mi308x", "h20-3e", "rtx-a4000", "h800-pcie"):
        lesser = device(name)
        for better in better_and_lesser(lesser)[0]:
            for share, figure in rated.items():
                mine, theirs = (getattr(device_efficiency(d), share) * d.si(figure) for d in (lesser, better))
                assert mine <= theirs * 1.0001, (name, better.name, share)


def test_siblings_that_nobody_measured_reach_the_same_share() -> None:
    card, donor = device("rtx-6000-ada"), device("l40s")
    mine, theirs = ceilings_beside(card, donor, "bf16"), ceilings(donor, "bf16")
    assert mine.compute / theirs.compute == pytest.approx(card.peak("bf16") / donor.peak("bf16"))
    assert mine.memory / theirs.memory == pytest.approx(card.bandwidth / donor.bandwidth)


def test_a_table_of_the_same_chip_comes_before_those_of_faster_chips() -> None:
    found = donors(Calibrated("sglang"), device("h20-3e"), "gemm", Variant("fp8_block", "fp8"))
    assert found[0].device.name == "h20"


def test_the_same_chip_lends_the_experts_of_all_frameworks_and_another_chip_one_table() -> None:
    """GH200 has the chip of the H100 and the H200, the B200 has another one."""
    model = Calibrated("sglang", shared=("grouped_gemm",))
    found = [d.device.name for d in donors(model, device("gh200-96gb"), "grouped_gemm", Variant("bf16", "bf16"))]
    assert min(found.count("h100-sxm"), found.count("h200-sxm")) > 1
    assert found.count("b200-sxm") == 1


def test_a_table_of_large_shapes_says_nothing_of_the_least_time() -> None:
    """The smallest GEMM in the table of the RTX 4090 takes 41 us, most of which is its memory traffic."""
    profile = load("rtx-4090")
    assert profile is not None
    choice = lookup.choose(profile, "gemm", Variant("bf16", "bf16"), "vllm")
    assert choice is not None
    small = {"m": np.array([1.0]), "n": np.array([256.0]), "k": np.array([256.0])}
    assert lookup.price([choice], ShapeBatch(FAMILY["gemm"], small)).time[0] < 15e-6


@pytest.mark.parametrize(
    ("engine_name", "model", "weight", "better", "lesser"),
    [
        ("vllm", LLAMA, "fp8", "mi300x", "mi308x"),
        ("vllm", LLAMA, "bf16", "rtx-6000-ada", "l40"),
        ("vllm", LLAMA, "bf16", "rtx-5880-ada", "l20"),
        ("sglang", LLAMA, "bf16", "h200-nvl", "h100-nvl"),
        ("sglang", LLAMA, "fp8", "rtx-3090-ti", "rtx-a4000"),
        ("trtllm", LLAMA, "bf16", "a10", "rtx-a4000"),
        ("llamacpp", LLAMA, "q4_k_m", "mi355x", "mi350x"),
        ("llamacpp", LLAMA, "q4_k_m", "l40s", "l40"),
        ("vllm", "Qwen/Qwen3-30B-A3B", "bf16", "rtx-6000-ada", "l40"),
    ],
)
def test_a_better_device_is_not_slower(engine_name: str, model: str, weight: str, better: str, lesser: str) -> None:
    assert violated(engine_name, model, weight, better, lesser) == []


# ------------------------------------------------------------------------------------------------------- one device


def test_no_batch_of_llamacpp_takes_less_than_one_sequence() -> None:
    devices = [d for d in hwdb.built_in().devices() if d.kind in ("gpu", "soc")]
    cells = within_devices(grid(engine("llamacpp"), LLAMA, "q4_k_m", devices))
    assert set(cells[cells.excess > TOLERANCE].device) == set()
    assert set(cells.load) <= set(LOADS)


# ----------------------------------------------------------------------------------------------------- what is said


def test_a_pair_that_was_measured_against_its_order_is_remarked() -> None:
    (said,) = remarks_of([device("m3-max"), device("m2-max")])
    assert said == (
        "m3-max is rated no lower than m2-max in any figure, but memory bandwidth measured 318 GB/s on it and "
        "368 GB/s there: estimates follow the measurements"
    )
    assert remarks_of([device("h100-sxm"), device("h200-sxm"), device("mi300x")]) == []
