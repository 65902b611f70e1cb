"""Passes that the host launches kernel by kernel, against published decode times."""

from __future__ import annotations

import numpy as np
import pytest

import hwdb
from perfmodel.costs import BOUNDS, LaunchFloor, Roofline
from perfmodel.costs.cost_model_choice.defaults import default
from perfmodel.deployment.columns import deployments
from perfmodel.engines.catalogue import engine
from perfmodel.estimates.estimation.estimator import estimate
from perfmodel.hardware.columns import hardware_of
from perfmodel.models import model
from perfmodel.operators.demand import Demand
from perfmodel.workload.workload import Workload


def test_no_operator_takes_less_than_a_launch_and_longer_ones_stay() -> None:
    devices = [hwdb.device("ascend-910b2"), hwdb.device("h100-sxm")]
    rows = hardware_of(devices, np.array([0, 0, 1]))
    moved = np.array([1e3, 1e9, 1e3])
    demand = Demand("norm", "elementwise", np.zeros(3), moved, np.ones(3))
    inner, found = Roofline().cost(demand, rows), LaunchFloor(Roofline(), engine("vllm")).cost(demand, rows)
    assert found.time.tolist() == [pytest.approx(85e-6), *inner.time[1:].tolist()]
    assert BOUNDS[found.bound[0]] == "launch"
    assert found.bound[1] == inner.bound[1]
    assert LaunchFloor(Roofline(), engine("mindie")).cost(demand, rows).time.tolist() == inner.time.tolist()


def test_a_host_launches_no_operator_of_whole_step_graphs() -> None:
    """vllm-ascend pull request 4526, Qwen3-32B on 8 910B3: 16.8 ms per token where a step is one graph."""
    load = Workload(np.array([3500.0]), np.array([533.0]), arrival="closed", concurrency=1.0)
    placed = deployments([hwdb.device("ascend-910b3")], tp=8)
    parts = engine("vllm", "0.18")
    whole = parts.configured(whole_step_graphs=True)
    times = [
        float(estimate(model("Qwen/Qwen3-32B"), load, placed, engine=e, costs=default(e)).tpot[0, 0]) * 1e3
        for e in (parts, whole, whole.configured(graph_capture=False))
    ]
    assert times[1] == pytest.approx(16.8, rel=0.3)
    assert times[0] > 2.5 * times[1]
    assert times[2] == pytest.approx(times[0], rel=0.05)


@pytest.mark.parametrize(
    ("device", "context", "seqs", "published_ms"),
    [("ascend-910c", 28_650.0, 1.0, 30.7), ("ascend-910b2", 245.0, 8.0, 29.8)],
)
def test_decode_waits_for_the_host_as_measured(device: str, context: float, seqs: float, published_ms: float) -> None:
    """accelmark, vllm-ascend 0.18: Llama-3-8B; weights and KV alone take 11 to 13 ms."""
    load = Workload(np.array([context]), np.array([256.0]), arrival="closed", concurrency=seqs)
    placed = deployments([hwdb.device(device)])
    found = estimate(
        model("meta-llama/Llama-3.1-8B-Instruct"), load, placed, engine=engine("vllm", "0.18"), costs=default("vllm")
    )
    assert float(found.tpot[0, 0]) * 1e3 == pytest.approx(published_ms, rel=0.25)
