"""Runs whose prompts share steps with decodes, beside the simulator: equal answers, prompts that are not cut."""

from __future__ import annotations

import numpy as np
import pytest

import hwdb
from perfmodel import simulator
from perfmodel.deployment.columns import deployments
from perfmodel.engines.catalogue import engine
from perfmodel.estimates.estimation.estimator import estimate
from perfmodel.models import model
from perfmodel.workload.workload import Workload

lengths = Workload.from_lengths
H200 = deployments([hwdb.device("h200-sxm")], tp=2)


@pytest.mark.parametrize("rate", [50.0, 90.0, 120.0])
def test_prompts_of_equal_answers_that_come_as_they_arrive_do_not_gather(rate: float) -> None:
    # launches fill a step with prompts, so that it takes three times as long as one without
    spec, placed = model("Qwen/Qwen3-30B-A3B"), deployments([hwdb.device("b200-sxm")], tp=4)
    work = lengths(292, 133, rate=rate, n_requests=1000, arrival="open")
    found = estimate(spec, work, placed, engine="vllm")
    runs = [simulator.simulate(spec, placed, work, engine="vllm", seed=s, count=1000) for s in range(2)]
    played = np.mean([simulator.summary(run)["tpot_ms"] for run in runs])
    assert float(found.tpot[0, 0]) * 1e3 == pytest.approx(played, rel=0.16)


@pytest.mark.parametrize("answer", [30, 200])
@pytest.mark.parametrize(("prompt", "together"), [(5000, 1), (3000, 2)])
def test_an_engine_that_cuts_no_prompts_computes_whole_ones_in_a_step(prompt: int, together: int, answer: int) -> None:
    spec, runs = model("llama-3.1-8b"), engine("trtllm")
    assert not runs.chunked_prefill
    assert prompt * together <= runs.max_num_batched_tokens < prompt * (together + 1)
    work = lengths(prompt, answer, n_requests=400)
    columns = estimate(spec, work, H200, engine=runs).columns()
    played = simulator.summary(simulator.simulate(spec, H200, work, engine=runs, seed=0, count=400))
    for name, within in (("ttft_ms", 0.05), ("tpot_ms", 0.1), ("e2e_ms", 0.05), ("output_tok_s", 0.05)):
        assert float(columns[name][0]) == pytest.approx(played[name], rel=within), name


@pytest.mark.parametrize("requests", [np.nan, 1000.0])
def test_hardly_any_request_of_a_light_load_waits_longer_than_a_prompt_takes(requests: float) -> None:
    spec, placed = model("llama-3.1-70b"), deployments([hwdb.device("a100-sxm-80gb")], tp=8)
    full = float(estimate(spec, lengths(2183, 159, concurrency=1024), placed, engine="vllm").request_rate[0])
    found = estimate(spec, lengths(2183, 159, rate=0.02 * full, n_requests=requests, arrival="open"), placed)
    columns = found.columns()
    prompt = columns["ttft_ms_p50"][0]
    assert columns["ttft_ms_p99"][0] < 2.05 * prompt


@pytest.mark.parametrize("answer", [1, 4, 16])
@pytest.mark.parametrize("by", ["sglang", "vllm"])
def test_a_run_of_short_answers_that_arrives_at_once_is_served_as_fast_as_replayed(by: str, answer: int) -> None:
    # where prompts go first, all of them are computed before the second token of any answer
    spec, work = model("llama-3.1-8b"), lengths(1000, answer, rate=1e4, n_requests=1000, arrival="open")
    found = float(estimate(spec, work, H200, engine=by).request_rate[0])
    played = simulator.summary(simulator.simulate(spec, H200, work, engine=by, seed=0, count=1000))
    assert found == pytest.approx(played["request_rate_rps"], rel=0.1)
