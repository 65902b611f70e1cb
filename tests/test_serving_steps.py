"""Passes of a deployment: whose host looks after which sequences."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

import hwdb
from perfmodel.costs import Roofline, StepCost
from perfmodel.deployment.columns import deployments
from perfmodel.engines import Engine
from perfmodel.engines.catalogue import engine
from perfmodel.estimates import estimate
from perfmodel.estimates.estimation.estimator import prepare
from perfmodel.models import model
from perfmodel.operators import Step
from perfmodel.serving.step_times.steps import StepModel
from perfmodel.workload.load import load_of
from perfmodel.workload.workload import Arrival, Workload

SERIAL = engine("vllm").changed(
    step_host_time=2e-3, step_host_per_seq=1e-5, step_host_parallel=0.0, launch_time=0.0, overlap_scheduling=False
)


def step_model(**degrees: float) -> StepModel:
    placed = deployments([hwdb.device("h100-sxm")], **degrees)
    demand = load_of(Workload.from_lengths(1000, 100, concurrency=64.0), 1)
    return prepare(model("llama-3.1-8b"), placed, SERIAL, Roofline(), demand).steps


@pytest.mark.parametrize("dp", [1.0, 2.0, 8.0])
def test_each_data_parallel_rank_schedules_its_own_sequences(dp: float) -> None:
    ready = step_model(dp=dp)
    cost, wall = ready.decode(np.array([800.0]), np.array([500.0]), np.zeros(1))
    assert float((wall - cost.time)[0]) == pytest.approx(2e-3 + 800.0 / dp * 1e-5)
    # a single prompt is one sequence for the rank that has it
    cost, wall = ready.decode(np.ones(1), np.array([500.0]), np.zeros(1))
    assert float((wall - cost.time)[0]) == pytest.approx(2e-3 + 1e-5)


def test_tensor_parallel_devices_share_one_scheduler() -> None:
    cost, wall = step_model(tp=8).decode(np.array([800.0]), np.array([500.0]), np.zeros(1))
    assert float((wall - cost.time)[0]) == pytest.approx(2e-3 + 800.0 * 1e-5)


SHARED = SERIAL.changed(front_end_token=3.5e-4)


def streamed(runs: Engine, arrival: Arrival) -> StepModel:
    """Return the steps of one H100 under a load in closed loop, or as a static batch."""
    placed = deployments([hwdb.device("h100-sxm")], tp=1)
    demand = load_of(Workload.from_lengths(1000, 100, arrival=arrival, concurrency=64.0), 1)
    return prepare(model("llama-3.1-8b"), placed, runs, Roofline(), demand).steps


@pytest.mark.parametrize("seqs", [1.0, 7.0, 64.0, 255.0])
def test_a_server_in_the_process_of_the_engine_takes_its_time_for_every_token(seqs: float) -> None:
    at = (np.array([seqs]), np.array([500.0]), np.zeros(1))
    plain, shared = (float(streamed(e, "closed").decode(*at)[1][0]) for e in (SERIAL, SHARED))
    assert shared - plain == pytest.approx(seqs * 3.5e-4)
    plain, shared = (float(streamed(e, "static").decode(*at)[1][0]) for e in (SERIAL, SHARED))
    assert shared == pytest.approx(plain)


def test_many_clients_of_an_old_server_get_as_many_tokens_as_its_process_can_stream() -> None:
    # 1 / 0.35 ms is 2,857 tokens/s, whatever the device could do (ML.ENERGY v2 measures 2,000 to 2,600)
    rates = [
        estimate(
            model("llama-3.1-8b"),
            Workload.from_lengths(160, 440, concurrency=clients),
            deployments([hwdb.device("h100-sxm")], tp=1),
            engine=engine("vllm", "0.5.4"),
        ).columns()["output_tok_s"][0]
        for clients in (64.0, 256.0, 1024.0)
    ]
    assert rates == sorted(rates)
    assert 1500 < rates[1] < rates[2] < 2857


@pytest.mark.parametrize(
    ("arrival", "calls"),
    [
        ({"arrival": "open", "rate": 1.0}, 2),
        ({"arrival": "open", "rate": 1.0, "n_requests": 200}, 5),
        ({"arrival": "closed", "concurrency": 16}, 1),
        ({"arrival": "offline", "n_requests": 200}, 2),
    ],
)
def test_an_estimate_prices_its_steps_in_few_calls(
    arrival: dict[str, Any], calls: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    priced = _counted(monkeypatch)
    placed = deployments([hwdb.device("h100-sxm")], tp=np.ones(1))
    estimate(model("llama-3.1-8b"), Workload.from_lengths(1000, 100, **arrival), placed, costs=Roofline()).columns()
    assert len(priced) == calls


def test_prompts_without_decodes_are_priced_when_what_follows_from_them_is_read(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Of many candidates in an open loop, with the same figures as of few."""
    placed = deployments([hwdb.device("h100-sxm")], max_num_seqs=np.arange(1.0, 1101.0))
    asked = model("llama-3.1-8b"), Workload.from_lengths(1000, 100, arrival="open", rate=5.0)
    priced = _counted(monkeypatch)
    found = estimate(*asked, placed, costs=Roofline())
    assert found.ttft.shape == (1, 1100)
    assert len(priced) == 2
    watts = found.power
    assert len(priced) == 3
    few = estimate(*asked, placed.take(np.arange(0, 1100, 50)), costs=Roofline())
    np.testing.assert_array_equal(watts[::50], few.power)
    np.testing.assert_array_equal(found.basis[::50], few.basis)
    for name, column in few.columns().items():
        np.testing.assert_array_equal(found.columns()[name][::50], column, name)


def _counted(monkeypatch: pytest.MonkeyPatch) -> list[Step]:
    """Return a list that the steps of each call of `StepModel.price` are added to."""
    priced: list[Step] = []
    price = StepModel.price

    def counted(self: StepModel, step: Step) -> StepCost:
        priced.append(step)
        return price(self, step)

    monkeypatch.setattr(StepModel, "price", counted)
    return priced


def test_one_process_streams_the_answers_of_sglang_to_all_clients() -> None:
    """Llama-3.1-8B FP8, 512 users of 1,000 tokens each way, SGLang 0.5.6: 20,600 tokens/s on 4 H200, 22,300 on 8.

    Its time per token hides behind the engine's, so few users hardly notice.
    """
    streamed, free = engine("sglang"), engine("sglang").changed(streaming_token=0.0)

    def found(clients: float, devices: int, runs: Engine) -> Mapping[str, Any]:
        placed = deployments([hwdb.device("h200-sxm")], tp=devices, weight="fp8")
        asked = Workload.from_lengths(1000, 1000, concurrency=clients)
        return estimate(model("llama-3.1-8b"), asked, placed, engine=runs).columns()

    few, few_free = (found(16.0, 8, runs)["tpot_ms"][0] for runs in (streamed, free))
    assert few == pytest.approx(few_free, rel=1e-3)
    four, eight = (found(512.0, devices, streamed)["output_tok_s"][0] for devices in (4, 8))
    four_free, eight_free = (found(512.0, devices, free)["output_tok_s"][0] for devices in (4, 8))
    assert 17e3 < four <= eight <= (1 + 1e-9) / 44e-6
    assert eight / four < 1.25 < eight_free / four_free
