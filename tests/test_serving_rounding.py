"""Runs of a stated number of requests do not depend on the last bits of a rate.

What decides which way a cell of a run goes (whether requests come all through it, whether a replica is full) is often
equal on both sides by construction; rounding must not choose.
"""

from __future__ import annotations

import numpy as np
import pytest

import hwdb
from perfmodel.deployment.columns import deployments
from perfmodel.estimates.estimation.estimator import estimate
from perfmodel.estimates.latency_percentiles.percentiles import overall
from perfmodel.models import model
from perfmodel.workload.workload import Workload

SPEC = model("Qwen/Qwen3-8B")


def figures(engine: str, count: float, prompt: float, answer: float, rate: float) -> np.ndarray:
    """Return mean and p90 TTFT and mean TPOT of an open run of `count` requests, seconds."""
    work = Workload.from_lengths(prompt, answer, arrival="open", rate=rate, n_requests=count)
    found = estimate(SPEC, work, deployments([hwdb.device("l40s")]), engine=engine)
    return np.array([found.mean(found.ttft)[0], overall(found, "ttft", "p90")[0], found.mean(found.tpot)[0]])


@pytest.mark.parametrize("engine", ["vllm", "sglang"])
@pytest.mark.parametrize(("count", "prompt", "answer"), [(50.0, 1000.0, 200.0), (200.0, 4000.0, 500.0)])
def test_the_last_bits_of_a_rate_move_nothing(engine: str, count: float, prompt: float, answer: float) -> None:
    for rate in np.geomspace(0.5, 50.0, 12):
        nearby = [figures(engine, count, prompt, answer, rate * (1.0 + n * 1e-13)) for n in range(-2, 3)]
        np.testing.assert_allclose(np.array(nearby), nearby[2][None].repeat(5, axis=0), rtol=1e-6)
