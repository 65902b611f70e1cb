"""Decode steps beyond the largest batch that is replayed from a captured graph, on the curves of the closed form."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import hwdb
from perfmodel import estimate, simulator
from perfmodel.costs import Roofline
from perfmodel.deployment import deployments
from perfmodel.engines import engine
from perfmodel.estimates.estimation.estimator import prepare
from perfmodel.models import model
from perfmodel.serving.step_times.curve import KNOTS, DecodeCurve, decode_curve
from perfmodel.serving.step_times.steps import StepModel
from perfmodel.workload import Load, Workload
from perfmodel.workload.load import load_of

QWEN = model("Qwen/Qwen3-30B-A3B")
H100 = deployments([hwdb.device("h100-sxm")], tp=2)
LENGTHS = (60, 600)


def ready(**changes: Any) -> tuple[StepModel, Load]:
    load = load_of(Workload.from_lengths(*LENGTHS, concurrency=64), 1)
    return prepare(QWEN, H100, engine("sglang").changed(**changes), Roofline(), load).steps, load


def curve(most: float, **changes: Any) -> tuple[DecodeCurve, StepModel, Load]:
    steps, load = ready(**changes)
    return decode_curve(steps, load, np.full(1, most)), steps, load


def test_a_curve_holds_the_last_captured_step_and_the_next() -> None:
    found, steps, load = curve(2000.0)
    most = float(steps.most_captured[0])
    assert most == 256.0
    last, after = (steps.decode(np.full(1, n), load.decode_context, load.drafts).wall for n in (most, most + 1.0))
    assert after[0] > 2.0 * last[0]  # kernels shorter than their launches
    assert found.at(np.full(1, most)).tolist() == pytest.approx(last.tolist(), rel=1e-9)
    assert found.at(np.full(1, most + 1.0)).tolist() == pytest.approx(after.tolist(), rel=1e-9)
    # a batch of fewer does not feel the jump
    fewer = steps.decode(np.full(1, 200.0), load.decode_context, load.drafts).wall
    assert found.at(np.full(1, 200.0)).tolist() == pytest.approx(fewer.tolist(), rel=0.05)


@pytest.mark.parametrize(("most", "changes"), [(256.0, {}), (100.0, {}), (2000.0, {"graph_capture": False})])
def test_a_curve_without_a_jump_has_no_knots_for_it(most: float, changes: dict[str, Any]) -> None:
    assert len(curve(most, **changes)[0].running) == KNOTS


def test_a_load_below_the_jump_is_as_fast_as_in_the_simulator() -> None:
    work = Workload.from_lengths(*LENGTHS, rate=5.0, n_requests=2000)
    found = estimate(QWEN, work, H100, engine=engine("sglang"), costs=Roofline())
    sim = simulator.summary(simulator.simulate(QWEN, H100, work, engine=engine("sglang"), costs=Roofline()))
    assert 1e3 * float(found.tpot[0, 0]) == pytest.approx(sim["tpot_ms"], rel=0.1)
