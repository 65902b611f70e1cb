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
from perfmodel.estimates.estimator import estimate, estimate_load
from perfmodel.models import model
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


def test_capacity_does_not_depend_on_how_far_it_is_exceeded() -> None:
    rates = [float(steady(lengths(2000, 60, rate=r), "vllm", pp=2).request_rate[0]) for r in (100.0, 1000.0, 1e5)]
    assert rates == pytest.approx([rates[0]] * 3, rel=0.02)
