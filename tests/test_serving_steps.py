"""Passes of a deployment: whose host looks after which sequences."""

from __future__ import annotations

import numpy as np
import pytest

import hwdb
from perfmodel.costs import Roofline
from perfmodel.deployment.columns import deployments
from perfmodel.engines.catalogue import engine
from perfmodel.estimates.estimator import prepare
from perfmodel.models import model
from perfmodel.serving.steps import StepModel
from perfmodel.workload.load import load_of
from perfmodel.workload.workload import Workload

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
