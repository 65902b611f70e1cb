"""Power limits: what draws more than the limit is slowed down, as two measured sweeps show; the rest is not touched."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import hwdb
from perfmodel import estimate, predict
from perfmodel.costs import Roofline
from perfmodel.deployment import deployments
from perfmodel.estimates import Estimates
from perfmodel.hardware import hardware_of
from perfmodel.models import model
from perfmodel.power import is_beyond_evidence, slowdown
from perfmodel.workload import Workload

LLAMA = model("llama-3.1-8b")
lengths = Workload.from_lengths
PROMPTS, ANSWERS = lengths(8000, 1, n_requests=1e5), lengths(10, 2000, concurrency=8)
#: Rate over that at 600 of 600 W: Qwen3-Next-80B with 32 sequences and with one on an RTX PRO 6000
#: (Light-Heart-Labs MMBT); the rates from 500 W up lie within 2.4 % of each other.
RTX_PRO = {
    "32": (549.0, {500: 1.0, 450: 0.993, 400: 0.968, 350: 0.91, 300: 0.821}),
    "1": (488.0, {500: 1.0, 450: 1.0, 400: 0.991, 350: 0.974, 300: 0.909}),
}
#: Rate over that at 350 W: 6 RTX 3090 with llama.cpp (llmgarage.ai, 2026-02), prompts and answers.
RTX_3090 = {
    "prompts": (350.0, {300: 0.943, 250: 0.853, 200: 0.601, 150: 0.258, 100: 0.141}),
    "answers": (0.552 * 350, {300: 0.993, 250: 0.974, 200: 0.941, 150: 0.862, 100: 0.167}),
}


def ask(workload: Workload, cap: float = np.nan, device: hwdb.Device | None = None) -> Estimates:
    placed = deployments([device or hwdb.device("h100-sxm")], power_cap=cap)
    return estimate(LLAMA, workload, placed, costs=Roofline())


def rate(found: Estimates) -> float:
    return float(found.request_rate[0])


def kept(device: str, demanded: float, cap: float, arithmetic: float) -> float:
    """Rate under a limit over that without one."""
    rows = hardware_of([hwdb.device(device)], np.zeros(1, int)).capped(np.array([cap]))
    share = np.array([arithmetic])
    return 1.0 / float(slowdown(rows, np.array([demanded]), share, 1.0 - share)[0])


@pytest.mark.parametrize(
    ("device", "arithmetic", "sweep"),
    [
        ("rtx-pro-6000-ws", 0.066, RTX_PRO["32"]),
        ("rtx-pro-6000-ws", 0.0, RTX_PRO["1"]),
        ("rtx-3090", 1.0, RTX_3090["prompts"]),
        ("rtx-3090", 0.0, RTX_3090["answers"]),
    ],
    ids=["32 sequences", "1 sequence", "prompts", "answers"],
)
def test_measured_sweeps_of_the_limit_are_met(
    device: str, arithmetic: float, sweep: tuple[float, dict[int, float]]
) -> None:
    demanded, measured = sweep
    off = [kept(device, demanded, cap, arithmetic) / share - 1.0 for cap, share in measured.items()]
    assert np.median(np.abs(off)) < 0.03
    assert np.max(np.abs(off)) < 0.08


def test_a_table_of_runs_under_limits_has_their_rates_and_watts() -> None:
    caps = [600, *RTX_PRO["32"][1]]
    cases = pd.DataFrame(
        {
            "model": "Qwen/Qwen3-Next-80B-A3B-Instruct",
            "device": "rtx-pro-6000-ws",
            "engine": "vllm",
            "weight_dtype": "w4a16",
            "isl": 55,
            "osl": 200,
            "concurrency": 32,
            "power_cap_w": caps,
        }
    )
    found = predict(cases)
    shares = found.output_tok_s / found.output_tok_s[0]
    np.testing.assert_allclose(shares[1:], list(RTX_PRO["32"][1].values()), rtol=0.08)
    measured = [549, 497, 448, 398, 348, 299]
    np.testing.assert_allclose(found.power_w_per_device, measured, rtol=0.08)


@pytest.mark.parametrize("seed", range(20))
def test_lower_limits_never_raise_rates_and_bound_watts(seed: int) -> None:
    rng = random.Random(seed)
    device = hwdb.device(rng.choice(["h100-sxm", "a100-sxm-80gb", "mi300x", "rtx-pro-6000-ws", "l40s"]))
    load = rng.choice([PROMPTS, ANSWERS, lengths(rng.randint(50, 4000), rng.randint(2, 800), concurrency=32)])
    caps = sorted(rng.uniform(0.2, 1.3) * device.tdp for _ in range(6))
    placed = deployments([device], power_cap=np.array([*caps, np.nan]))
    found = estimate(LLAMA, load, placed, costs=Roofline())
    assert (np.diff(found.request_rate) >= -1e-9 * found.request_rate[:-1]).all()
    assert (found.power[:-1] <= np.fmin(caps, device.tdp) * (1 + 1e-9)).all()
    above = np.array(caps) >= device.tdp
    np.testing.assert_allclose(found.request_rate[:-1][above], found.request_rate[-1])
    np.testing.assert_allclose(found.power[:-1][above], found.power[-1])


def test_prompts_are_slowed_and_answers_hardly() -> None:
    prompts, answers = (rate(ask(load, 450.0)) / rate(ask(load)) for load in (PROMPTS, ANSWERS))
    assert prompts < 0.92
    assert answers > 0.97


def test_a_lower_tdp_in_a_device_file_is_a_power_limit(tmp_path: Path) -> None:
    tdp = '{ value = 450, unit = "W", kind = "rated", source = "site rule" }'
    text = f'type = "device"\nlike = "h100-sxm"\n[power]\ntdp = {tdp}\n'
    (tmp_path / "h100-450w.toml").write_text(text)
    mine = hwdb.load(tmp_path).device("h100-450w")
    for load in (PROMPTS, ANSWERS):
        own, capped = ask(load, device=mine), ask(load, 450.0)
        assert rate(own) == pytest.approx(rate(capped))
        assert own.power[0] == pytest.approx(capped.power[0])


def test_limits_below_the_evidence_are_flagged() -> None:
    rows = hardware_of([hwdb.device("h100-sxm")], np.zeros(2, int)).capped(np.array([100.0, 350.0]))
    assert is_beyond_evidence(rows).tolist() == [True, False]
    cases = pd.DataFrame(
        {"model": "llama-3.1-8b", "device": "h100-sxm", "isl": 100, "osl": 100, "power_cap_w": [100, 350]}
    )
    remarks = predict(cases).configuration_remark
    assert "lower than any measured" in remarks[0]
    assert not remarks[1]
