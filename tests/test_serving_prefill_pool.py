"""Pools of prompt workers: queueing theory, a queue played out prompt by prompt, ranks, and what more workers do."""

from __future__ import annotations

import heapq
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import hwdb
from perfmodel import equations as eq
from perfmodel.costs import Roofline
from perfmodel.deployment.columns import deployments
from perfmodel.engines.catalogue import engine
from perfmodel.estimates.disaggregation.disaggregated import estimate_disaggregated
from perfmodel.estimates.estimates import Estimates
from perfmodel.estimates.estimation.estimator import estimate, prepare
from perfmodel.models import model
from perfmodel.serving.limits import MAX_UTILISATION
from perfmodel.serving.prefill_pool import PromptPool, prompt_pool
from perfmodel.simulator import latency, simulate
from perfmodel.workload.load import load_of
from perfmodel.workload.workload import Workload

H100 = hwdb.device("h100-sxm")
LLAMA, DEEPSEEK = model("llama-3.1-70b"), model("deepseek-v3")
lengths = Workload.from_lengths


def workers(count: float, times: Callable[[float], float], most: float = 1.0, spread: float = 0.0) -> PromptPool:
    """A pool whose workers need `times(b)` seconds for b prompts together, at most `most`."""
    groups = np.geomspace(1.0, most, 4)[:, None]
    seconds = np.array([[times(b)] for b in groups[:, 0]])
    return PromptPool(
        workers=np.array([count]),
        groups=groups,
        times=seconds,
        alone=seconds[:1],
        time_cv=np.array([spread]),
        cost=None,  # type: ignore[arg-type]
        n_steps=np.ones((1, 1)),
    )


def one(values: np.ndarray) -> float:
    return float(np.ravel(values)[0])


def played(rate: float, count: int, times: Callable[[float], float], most: int, prompts: int = 40_000) -> float:
    """Mean seconds from arrival to the end of the step: free workers take all that waits, up to `most` prompts."""
    come = np.cumsum(np.random.default_rng(3).exponential(1.0 / rate, prompts))
    free, done, at = [0.0] * count, np.zeros(prompts), 0
    while at < prompts:
        start = max(heapq.heappop(free), come[at])
        end = min(int(np.searchsorted(come, start, side="right")), at + most)
        finish = start + times(end - at)
        done[at:end] = finish - come[at:end]
        heapq.heappush(free, finish)
        at = end
    return float(done[prompts // 10 :].mean())


# -------------------------------------------------------------------------------- queues


@pytest.mark.parametrize("busy", [0.1, 0.5, 0.9])
@pytest.mark.parametrize("spread", [0.0, 1.0])
def test_one_worker_with_one_prompt_at_a_time_is_the_textbook_queue(busy: float, spread: float) -> None:
    pool = workers(1.0, lambda b: 2.0 * b, spread=spread)
    exact = busy / (1.0 - busy) * (1.0 + spread**2) / 2.0 * 2.0  # Pollaczek and Khinchine; spread 1: M/M/1
    assert one(pool.wait(np.array([busy / 2.0]))) == pytest.approx(exact)


@pytest.mark.parametrize("count", [2.0, 8.0])
@pytest.mark.parametrize("busy", [0.3, 0.7, 0.95])
def test_several_workers_share_one_queue(count: float, busy: float) -> None:
    pool = workers(count, lambda b: 2.0 * b)
    expected = float(eq.queue_wait(busy, 2.0, servers=count))
    assert one(pool.wait(np.array([busy * count / 2.0]))) == pytest.approx(expected)


@pytest.mark.parametrize("count", [1, 2, 4])
@pytest.mark.parametrize("busy", [0.1, 0.5, 0.8])
@pytest.mark.parametrize("fixed", [0.0, 0.5, 0.9])
def test_prompts_gather_while_a_step_runs(count: int, busy: float, fixed: float) -> None:
    def times(b: float) -> float:
        return fixed + (1.0 - fixed) * b

    pool = workers(float(count), times, most=8.0)
    rate = busy * pool.max_rate
    group, time = pool.group_at(rate)
    wait = pool.wait(rate)
    assert one(wait + pool.prefill_time(rate, wait)) == pytest.approx(played(one(rate), count, times, 8), rel=0.3)
    if one(group) > 1.0:
        assert one(group) == pytest.approx(one(rate * time) / count, rel=0.05)


def test_a_pool_can_do_what_all_its_workers_do_in_full_groups() -> None:
    pool = workers(3.0, lambda b: 1.0 + 0.5 * b, most=10.0)
    assert one(pool.max_rate) == pytest.approx(3.0 * 10.0 / 6.0)
    assert one(pool.group_at(pool.max_rate)[0]) == pytest.approx(10.0)
    assert one(pool.group_at(pool.max_rate * 1e-6)[0]) == 1.0


def test_nobody_waits_for_more_than_all_others() -> None:
    pool = workers(1.0, lambda b: b)
    assert one(pool.wait(np.array([0.9]), 2.0)) == pytest.approx(2.0)
    assert one(pool.wait(np.array([0.9]), 0.0)) == 0.0


@given(
    count=st.integers(1, 20),
    more=st.integers(1, 20),
    busy=st.floats(0.01, 0.97),
    fixed=st.floats(0.0, 0.95),
    most=st.floats(1.0, 30.0),
)
def test_more_workers_never_make_prompts_wait_longer(
    count: int, more: int, busy: float, fixed: float, most: float
) -> None:
    small = workers(float(count), lambda b: fixed + (1.0 - fixed) * b, most)
    rate = busy * small.max_rate
    large = replace(small, workers=small.workers + more)
    assert one(large.wait(rate)) <= one(small.wait(rate)) * (1.0 + 1e-9)
    assert one(large.group_at(rate)[1]) <= one(small.group_at(rate)[1]) * (1.0 + 1e-9)
    assert one(small.wait(0.9 * rate)) <= one(small.wait(rate)) * (1.0 + 1e-9)


# -------------------------------------------------------------------------------- pools of deployments


def pair(workload: Workload, first: float, second: float = 4.0) -> Estimates:
    row = deployments([H100], tp=4)
    count = {"prefill_workers": np.array([first]), "decode_workers": np.array([second])}
    return estimate_disaggregated(LLAMA, workload, row, row, costs=Roofline(), **count)


@settings(max_examples=15)
@given(
    first=st.integers(1, 6),
    more=st.integers(1, 6),
    prompt=st.integers(1, 20_000),
    output=st.integers(2, 1000),
    concurrency=st.integers(1, 500),
)
def test_more_prefill_workers_never_lengthen_the_first_token(
    first: int, more: int, prompt: int, output: int, concurrency: int
) -> None:
    few, many = (pair(lengths(prompt, output, concurrency=concurrency), n) for n in (first, first + more))
    if (
        one(many.running) < one(many.memory_use.max_running) * 0.99
    ):  # else clients wait for room in the decode pool instead
        assert one(many.ttft) <= one(few.ttft) * 1.001
    assert one(many.request_rate) >= one(few.request_rate) * 0.999
    rate = lengths(prompt, output, rate=0.3 * one(few.request_rate))
    few, many = (pair(rate, n) for n in (first, first + more))
    assert one(many.ttft) <= one(few.ttft) * (1.0 + 1e-9)


def test_a_pool_is_never_asked_for_more_than_it_can_do() -> None:
    found = pair(lengths(8000, 2, n_requests=1e6), 2.0)
    row = deployments([H100], tp=4)
    demand = load_of(lengths(8000, 1, n_requests=1e6), 1)
    setup = prepare(LLAMA, row, engine("vllm"), Roofline(), demand)
    most = one(prompt_pool(setup.steps, demand, np.array([2.0])).max_rate)
    assert one(found.request_rate) == pytest.approx(MAX_UTILISATION * most, rel=0.01)


def test_a_lone_prompt_keeps_one_rank_busy() -> None:
    """Attention data parallelism computes eight prompts in little more than the time of one, and one no faster."""
    demand = load_of(lengths(8000, 2, rate=0.01), 1)

    def pool(**degrees: int) -> PromptPool:
        setup = prepare(DEEPSEEK, deployments([H100], **degrees), engine("sglang"), Roofline(), demand)
        return prompt_pool(setup.steps, demand, np.ones(1))

    ranks, tensor = pool(dp=8, ep=8), pool(tp=8, ep=8)
    assert one(ranks.groups[1]) == 8.0
    assert one(ranks.times[1]) < 4.0 * one(ranks.times[0])
    assert one(ranks.alone) > 1.5 * one(tensor.alone)
    assert one(ranks.max_rate) > 0.7 * one(tensor.max_rate)


def test_ranks_compute_long_prompts_side_by_side() -> None:
    """However long prompts are, a batch of eight goes through eight ranks at once."""
    row = deployments([H100], dp=8, ep=8)
    work = lengths(50_000, 10, n_requests=16)
    setup = prepare(DEEPSEEK, row, engine("sglang"), Roofline(), load_of(work, 1))
    assert one(setup.steps.max_prompts_per_step(np.array([50_000.0]))) == 8.0
    eight = one(setup.steps.prefill(np.array([50_000.0]), np.zeros(1), 8.0)[2])
    found = estimate(DEEPSEEK, work, row, costs=Roofline(), engine="sglang")
    assert 16 / one(found.request_rate) == pytest.approx(2.0 * eight, rel=0.2)


def test_ranks_have_schedulers_of_their_own() -> None:
    """Host time a sequence is that of a rank's sequences; vLLM pays it in full before release 0.14."""
    spec = model("llama-3.1-8b")
    chosen = engine("vllm-v1")
    steps = {}
    for dp in (1, 4):
        row = deployments([H100], dp=dp)
        setup = prepare(spec, row, chosen, Roofline(), load_of(lengths(100, 100, concurrency=400.0), 1))
        cost, wall = setup.steps.decode(np.array([400.0]), np.array([150.0]), np.zeros(1))
        steps[dp] = one(wall) - one(cost.time) - chosen.step_host_parallel * (dp > 1)
    assert steps[1] - steps[4] == pytest.approx(chosen.step_host_per_seq * 300.0)


def test_engines_that_balance_ranks_compute_prompts_together() -> None:
    """SGLang's prefill delayer and TensorRT-LLM's balance: one prompt a rank at a time stalls decodes less."""
    row = deployments([H100], dp=8, ep=8)
    work = lengths(4000, 500, concurrency=64)
    plain, balanced = (
        estimate(DEEPSEEK, work, row, costs=Roofline(), engine=engine("sglang").changed(rank_balance=on))
        for on in (False, True)
    )
    assert one(balanced.tpot) < 0.9 * one(plain.tpot)
    assert one(balanced.request_rate) > one(plain.request_rate)
    alone = lengths(4000, 500, arrival="single")
    lone = [
        estimate(DEEPSEEK, alone, row, costs=Roofline(), engine=engine("sglang").changed(rank_balance=on))
        for on in (False, True)
    ]
    assert one(lone[0].ttft) == one(lone[1].ttft)


# -------------------------------------------------------------------------------- beside the simulator


@pytest.mark.parametrize(
    ("work", "first", "second"),
    [
        (lengths(4000, 200, rate=2.0), 2, 1),
        (lengths(2000, 300, concurrency=32.0, n_requests=1500.0), 2, 2),
        (lengths(8000, 100, concurrency=48.0, n_requests=1500.0), 1, 1),
    ],
    ids=["open", "closed", "prompts scarce"],
)
def test_the_simulator_plays_what_the_closed_form_says(work: Workload, first: int, second: int) -> None:
    row = deployments([H100], tp=4)
    counts = {"prefill_workers": np.array([float(first)]), "decode_workers": np.array([float(second)])}
    said = estimate_disaggregated(LLAMA, work, row, row, costs=Roofline(), **counts)
    pools = {"prefill": replace(row, replicas=np.array([float(first)]))}
    answering = replace(row, replicas=np.array([float(second)]))
    shown = simulate(LLAMA, answering, work, count=1500, costs=Roofline(), **pools)
    assert one(said.tpot) == pytest.approx(latency(shown, "tpot").mean, rel=0.1)
    assert one(said.ttft) == pytest.approx(latency(shown, "ttft").mean, rel=0.3)
