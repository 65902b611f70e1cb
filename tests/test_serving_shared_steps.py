"""Waits in a closed loop whose prompts share steps with decodes: against queues of whole steps and the simulator."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from scipy import stats

import hwdb
from perfmodel import estimate, simulator
from perfmodel.costs import Roofline
from perfmodel.deployment import deployments
from perfmodel.engines import engine
from perfmodel.estimates import estimate_load, overall
from perfmodel.models import model
from perfmodel.serving.fixed_concurrency.shared_steps import SharedSteps
from perfmodel.workload import Workload
from perfmodel.workload.load import load_of

H100 = [hwdb.device("h100-sxm")]
LLAMA = model("meta-llama/Llama-3.1-8B")


def row(value: float) -> np.ndarray:
    return np.full(1, float(value))


def shared(**fields: float) -> SharedSteps:
    """Return a loop of many sequences: a decode step of 0.1 s, a step of 0.3 s per two prompts, eight at most."""
    usual: dict[str, float] = {
        "decode": 0.1,
        "full": 1.0,
        "steps": 0.5,
        "seconds": 0.15,
        "abreast": 8.0,
        "at_once": 8.0,
        "prompt_cv": 0.0,
        "running": 1e6,
        "others": 1.0,
        "beside": 1.0,
        "front": 10.0,
    }
    return SharedSteps(**{name: row(value) for name, value in {**usual, **fields}.items()})


def left_over(entering: float, held: int) -> float:
    """Return the mean prompts that a step leaves to a later one, where a Poisson number enters each step."""
    most = 600
    arrivals = stats.poisson.pmf(np.arange(most), entering)
    queue = np.zeros(most)
    queue[0] = 1.0
    for _ in range(2000):
        after = np.convolve(queue, arrivals)[: most + held]
        queue = np.concatenate([[after[: held + 1].sum()], after[held + 1 : held + most]])
        queue = np.pad(queue, (0, most - len(queue)))
    return float(queue @ np.arange(most))


@pytest.mark.parametrize("held", [1, 3, 8])
@pytest.mark.parametrize("load", [0.5, 0.8, 0.95])
def test_prompts_wait_for_a_later_step_as_in_a_queue_of_whole_steps(held: int, load: float) -> None:
    # steps of 1 s, all of which have prompts: as many enter each as say the steps that a prompt takes
    entering = load * held
    those = shared(decode=1.0, steps=1.0 / entering, seconds=1.0 / entering, abreast=held, at_once=held)
    found = float(those.ahead(row(entering))[0])
    # Sakasegawa's share of the time that all servers are busy is off by up to 0.06
    assert found == pytest.approx(left_over(entering, held) / entering, rel=0.1, abs=0.06)


def test_steps_with_prompts_take_their_time_from_decode_steps() -> None:
    those = shared()
    assert those.mean_step(row(1e-9))[0] == pytest.approx(0.1)
    assert those.mean_step(row(1.0 / 0.15))[0] == pytest.approx(0.3)  # nothing but prompts
    # 0.3 s per prompt: half a step of 0.3 s, and one and a half of 0.1 s
    assert those.mean_step(row(1.0 / 0.3))[0] == pytest.approx(0.15)
    assert those.loaded(row(1.0 / 0.3))[0] == pytest.approx(0.5 / 8.0)
    assert shared(others=0.5).loaded(row(1.0 / 0.3))[0] == pytest.approx(0.25 / 8.0)


def test_a_request_waits_for_the_rest_of_the_step_that_it_meets() -> None:
    rate = row(1.0 / 0.3)  # half of the time in steps of 0.3 s
    assert shared().residual(rate)[0] == pytest.approx(0.5 * 0.15 + 0.5 * 0.05)
    # the last answer ended with a step, 0.02 s ago
    assert shared(front=0.02).residual(rate)[0] == pytest.approx(0.5 * 0.28 + 0.5 * 0.08)
    assert shared(front=0.1).residual(rate)[0] == pytest.approx(0.5 * 0.2 + 0.5 * 0.05)
    assert shared(beside=0.25).residual(rate)[0] == pytest.approx(0.25 * 0.1)
    assert shared(beside=0.0, others=0.0).wait(rate)[0] == 0.0


def test_nobody_waits_for_more_prompts_than_the_others_have() -> None:
    assert shared(running=5.0, others=0.8).ahead(row(1e9))[0] <= 0.8 * 4 / 8
    assert shared(abreast=0.25, at_once=1.0, running=5.0, others=0.8).ahead(row(1e9))[0] <= 0.8 * 4 * 4


@pytest.mark.parametrize(
    ("by", "prompt", "answer", "users"),
    [("trtllm", 64, 357, 256), ("vllm", 400, 128, 105), ("vllm", 2182, 41, 64), ("trtllm", 1500, 200, 24)],
)
def test_a_loop_of_uneven_answers_waits_as_in_the_simulator(by: str, prompt: int, answer: int, users: int) -> None:
    work = Workload.from_lengths(prompt, answer, concurrency=users, isl_dist="uniform:0.8-1.0")
    demand = replace(load_of(work, 1, float("inf")), synchronised=np.zeros(1))
    found = estimate_load(LLAMA, demand, deployments(H100), engine=engine(by), costs=Roofline())
    sim: dict[str, Any] = simulator.summary(
        simulator.simulate(LLAMA, deployments(H100), work, engine=by, costs=Roofline())
    )
    assert 1e3 * float(found.ttft[0, 0]) == pytest.approx(sim["ttft_ms"], rel=0.2)
    if users > 50:  # few users are still seen to move together
        assert 1e3 * float(overall(found, "ttft", "p99")[0]) == pytest.approx(sim["ttft_ms_p99"], rel=0.4)
    assert 1e3 * float(found.tpot[0, 0]) == pytest.approx(sim["tpot_ms"], rel=0.1)


@pytest.mark.parametrize(
    ("by", "prompt", "answer", "load"), [("vllm", 16000, 14, 0.6), ("trtllm", 147, 7, 0.5), ("vllm", 12000, 2, 0.8)]
)
def test_short_answers_meet_no_more_prompts_than_they_have_steps(
    by: str, prompt: int, answer: int, load: float
) -> None:
    many = Workload.from_lengths(prompt, answer, concurrency=256)
    full = float(estimate(LLAMA, many, deployments(H100), engine=engine(by), costs=Roofline()).request_rate[0])
    work = Workload.from_lengths(prompt, answer, rate=load * full, n_requests=2000)
    found = estimate(LLAMA, work, deployments(H100), engine=engine(by), costs=Roofline())
    sim: dict[str, Any] = simulator.summary(
        simulator.simulate(LLAMA, deployments(H100), work, engine=by, costs=Roofline())
    )
    assert 1e3 * float(found.tpot[0, 0]) == pytest.approx(sim["tpot_ms"], rel=0.3)


def test_prompts_just_beyond_the_budget_queue_in_full_steps() -> None:
    # SGLang's budget is 8192 tokens: the rest of a prompt shares its step with the next one
    spec, place = model("Qwen/Qwen3-30B-A3B"), deployments(H100, tp=2)
    closed = Workload.from_lengths(8521, 69, concurrency=48, isl_dist="fixed")
    demand = replace(load_of(closed, 1, float("inf")), synchronised=np.ones(1))
    alike = engine("sglang").changed(synchronised=1.0)
    found = estimate_load(spec, demand, place, engine=alike, costs=Roofline())
    sim: dict[str, Any] = simulator.summary(simulator.simulate(spec, place, closed, engine="sglang", costs=Roofline()))
    assert 1e3 * float(found.ttft[0, 0]) == pytest.approx(sim["ttft_ms"], rel=0.2)
    assert 1e3 * float(found.tpot[0, 0]) == pytest.approx(sim["tpot_ms"], rel=0.1)
    rate = 0.85 * sim["request_rate_rps"]
    open_run = Workload.from_lengths(8521, 69, rate=rate, n_requests=1500)
    ran = estimate(spec, open_run, place, engine=engine("sglang"), costs=Roofline())
    sim = simulator.summary(simulator.simulate(spec, place, open_run, engine="sglang", costs=Roofline()))
    assert 1e3 * float(ran.ttft[0, 0]) == pytest.approx(sim["ttft_ms"], rel=0.5)
