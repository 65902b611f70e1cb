"""Closed loops with short answers, and pipelines: beside the simulator, and within what the work of all takes."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

import hwdb
from perfmodel import simulator
from perfmodel.costs import Roofline
from perfmodel.deployment.columns import deployments
from perfmodel.engines.catalogue import engine
from perfmodel.estimates.estimates import Estimates
from perfmodel.estimates.estimation.estimator import estimate, estimate_load
from perfmodel.models import model
from perfmodel.serving.queues.queueing import MeanAtLeast, at_least
from perfmodel.workload.load import load_of
from perfmodel.workload.workload import Workload

LLAMA, QWEN = model("llama-3.1-8b"), model("Qwen/Qwen3-32B")
H100 = [hwdb.device("h100-sxm")]
lengths = Workload.from_lengths
DRAWN = np.random.default_rng(7)
RELATIVES = [
    (str(by), int(np.exp(p)), int(c))
    for by, p, c in zip(
        DRAWN.choice(["vllm", "sglang", "trtllm", "generic"], 20),
        DRAWN.uniform(np.log(200), np.log(8000), 20),
        np.exp(DRAWN.uniform(np.log(2), np.log(64), 20)),
        strict=True,
    )
]


def steady(work: Workload, by: str, costs: Roofline | None = None, **columns: object) -> Estimates:
    return estimate_load(LLAMA, load_of(work, 1, np.inf), deployments(H100, **columns), engine=engine(by), costs=costs)


@pytest.mark.parametrize(("by", "prompt", "clients"), [("vllm", 2000, 32), *RELATIVES])
def test_longer_answers_are_never_served_faster(by: str, prompt: int, clients: int) -> None:
    rates = [
        float(steady(lengths(prompt, o, concurrency=clients), by, Roofline()).request_rate[0])
        for o in (1, 5, 18, 40, 60, 135)
    ]
    assert max(b / a for a, b in itertools.pairwise(rates)) < 1.05


@pytest.mark.parametrize(("prompt", "answer", "clients"), [(2000, 5, 32), (4000, 1, 2)])
def test_a_closed_loop_with_short_answers_serves_what_its_simulation_does(
    prompt: int, answer: int, clients: int
) -> None:
    placed, work = deployments(H100, tp=2), lengths(prompt, answer, concurrency=clients)
    found = float(estimate(QWEN, work, placed).request_rate[0])
    played = simulator.summary(simulator.simulate(QWEN, placed, work, count=6 * clients))
    assert found == pytest.approx(played["request_rate_rps"], rel=0.1)


def test_a_pipeline_serves_what_its_simulation_does() -> None:
    placed = deployments(H100, pp=2)
    rate = float(steady(lengths(1000, 100, concurrency=64), "vllm", pp=2).request_rate[0])
    busy = lengths(1000, 100, rate=0.7 * rate)
    found, played = estimate(LLAMA, busy, placed), simulator.summary(simulator.simulate(LLAMA, placed, busy, count=800))
    assert float(found.tpot[0, 0]) * 1e3 == pytest.approx(played["tpot_ms"], rel=0.1)
    assert float(found.e2e[0, 0]) * 1e3 == pytest.approx(played["e2e_ms"], rel=0.1)


def test_layers_split_without_micro_batches_serve_what_their_simulation_does() -> None:
    cards = [hwdb.device("rtx-3090")]
    placed, work = deployments(cards, pp=4, weight="q4_k_m"), lengths(200, 200, concurrency=4)
    found = estimate(LLAMA, work, placed, engine=engine("llamacpp"))
    played = simulator.summary(simulator.simulate(LLAMA, placed, work, count=40, engine=engine("llamacpp")))
    assert float(found.request_rate[0]) == pytest.approx(played["request_rate_rps"], rel=0.1)
    # four streams share the stages in turn: they take longer together than one does alone
    alone = estimate(LLAMA, lengths(200, 200, concurrency=1), placed, engine=engine("llamacpp"))
    assert 1.2 < float(found.tpot[0, 0] / alone.tpot[0, 0]) < 4.0


@pytest.mark.parametrize(
    ("tp", "pp", "by", "prompt", "answer", "share"),
    [
        (1, 2, "vllm", 900, 100, 0.95),
        (1, 4, "vllm", 1072, 158, 0.9),
        (1, 4, "trtllm", 400, 150, 0.8),
        (2, 2, "trtllm", 2000, 60, 0.5),
    ],
)
def test_pipelines_near_capacity_wait_as_their_simulation_does(
    tp: int, pp: int, by: str, prompt: int, answer: int, share: float
) -> None:
    placed = deployments(H100, tp=tp, pp=pp)
    most = float(estimate(LLAMA, lengths(prompt, answer, concurrency=1024), placed, engine=by).request_rate[0])
    busy = lengths(prompt, answer, rate=share * most)
    found = estimate(LLAMA, busy, placed, engine=by)
    played = simulator.summary(simulator.simulate(LLAMA, placed, busy, engine=by, count=4000))
    assert float(found.tpot[0, 0]) * 1e3 == pytest.approx(played["tpot_ms"], rel=0.1)
    assert float(found.e2e[0, 0]) * 1e3 == pytest.approx(played["e2e_ms"], rel=0.1)
    assert float(found.ttft[0, 0]) * 1e3 == pytest.approx(played["ttft_ms"], rel=0.15)


@pytest.mark.parametrize("by", ["vllm", "sglang", "trtllm"])
@pytest.mark.parametrize("pp", [2, 4, 8])
def test_a_pipeline_serves_no_less_than_one_device_with_its_compute_would(by: str, pp: int) -> None:
    # 1,000-token prompts arrive one by one: each micro-batch takes its own, none waits until others fill a step
    work = lengths(1000, 50, rate=1e4)
    # the process that streams all answers is no faster with more devices
    runs = engine(by).changed(streaming_token=0.0)
    deep, one = (
        float(estimate(LLAMA, work, deployments(H100, pp=p), engine=runs, costs=Roofline()).request_rate[0])
        for p in (pp, 1)
    )
    assert 0.8 * pp < deep / one < 1.25 * pp


def test_a_round_is_as_long_as_its_fullest_micro_batch() -> None:
    # mean and variance of max(prompts, micro-batches), by counting drawn Poisson numbers
    draw = np.random.default_rng(2)
    for parameter in (0.3, 1.0, 3.0):
        numbers = draw.poisson(parameter, 400_000)
        numbers = numbers[numbers > 0]
        for stages in (1, 2, 4):
            mean, variance = at_least(np.array([parameter / -np.expm1(-parameter)]), np.array([float(stages)]))
            counted = np.maximum(numbers, stages)
            assert mean[0] == pytest.approx(counted.mean(), rel=0.01)
            quick = MeanAtLeast(np.array([stages - 0.5]))(np.array([parameter / -np.expm1(-parameter)]))
            assert quick[0] == pytest.approx(np.maximum(numbers, stages - 0.5).mean(), rel=0.01)
            assert variance[0] == pytest.approx(counted.var(), rel=0.03, abs=1e-3)


def test_capacity_does_not_depend_on_how_far_it_is_exceeded() -> None:
    rates = [float(steady(lengths(2000, 60, rate=r), "vllm", pp=2).request_rate[0]) for r in (100.0, 1000.0, 1e5)]
    assert rates == pytest.approx([rates[0]] * 3, rel=0.02)
