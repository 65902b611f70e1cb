"""A scheduler that runs ahead of the device: what it adds to TTFT in the closed form and in the simulator."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

import hwdb
import perfmodel as pm
from perfmodel import simulator
from perfmodel.engines import engine
from perfmodel.workload import Workload

MODEL, ROW = pm.model("meta-llama/Llama-3.1-8B"), pm.deployments([hwdb.device("h100-sxm")])
FREE = {"step_host_time": 0.0, "step_host_per_seq": 0.0, "step_host_parallel": 0.0}
MIXED = Workload.from_lengths([200, 800], [50, 200], share=np.full(2, 0.5), concurrency=16)


@pytest.mark.parametrize("name", ["vllm", "sglang"])
def test_both_agree_on_what_running_ahead_adds(name: str) -> None:
    work = replace(MIXED, arrival="open", concurrency=float("nan"), rate=12.0)
    own, seen = [], []
    for ahead in (False, True):  # without host times nothing else differs
        by = engine(name).changed(overlap_scheduling=ahead, synchronised=0.02, **FREE)
        found = pm.estimate(MODEL, work, ROW, engine=by)
        own.append(float(found.mean(found.ttft)[0]))
        run = pm.simulate(MODEL, ROW, work, engine=by, count=1500)
        assert run.emitted.sum() == run.traffic.output_tokens.sum()
        seen.append(simulator.summary(run)["ttft_ms"] / 1e3)
    assert own == pytest.approx(seen, rel=0.08)
    assert 0.0 < own[1] - own[0] == pytest.approx(seen[1] - seen[0], rel=0.3)


def test_a_pipeline_plans_no_step_ahead() -> None:
    row = pm.deployments([hwdb.device("h100-sxm")], pp=2)
    with_it, without = (
        pm.estimate(MODEL, MIXED, row, engine=engine("vllm").changed(overlap_scheduling=a, **FREE)).ttft[:, 0]
        for a in (True, False)
    )
    assert with_it.tolist() == pytest.approx(without.tolist(), rel=1e-12)


@pytest.mark.parametrize("name", ["vllm", "trtllm"])
def test_a_median_wait_does_not_fall_where_ever_more_requests_queue_for_admission(name: str) -> None:
    spec, device = pm.model("qwen3-30b-a3b"), hwdb.device("h100-sxm")
    lengths = Workload(input_tokens=[167], output_tokens=[1876], concurrency=1024)
    full = float(pm.estimate(spec, lengths, pm.deployments([device]), engine=name).request_rate[0])
    loads = np.linspace(0.5, 0.96, 24)
    medians, tails = [], []
    for load in loads:
        work = replace(lengths, arrival="open", concurrency=float("nan"), rate=float(load * full))
        found = pm.estimate(spec, work, pm.deployments([device]), engine=name)
        medians.append(float(found.quantile("ttft", "p50")[0, 0]))
        tails.append(float(found.quantile("ttft", "p99")[0, 0]))
    assert tails[-1] > 10.0 * tails[0]  # most of the last ones queue
    assert (np.diff(medians) > -1e-3 * np.array(medians[:-1])).all()
