"""The simulator against queues whose answer is known."""

from __future__ import annotations

import numpy as np
import pytest

from perfmodel.simulator import Policy, Pool, StepTable, arrivals, run, traffic


def poisson(rate, count, prompt=1, output=1, seed=3):
    return traffic(np.full(count, prompt), np.broadcast_to(output, count), arrival=arrivals(rate, count, seed=seed))


@pytest.mark.parametrize("load", [0.3, 0.6, 0.8])
def test_one_prompt_at_a_time_is_an_m_d_1_queue(load):
    """Mean wait rho D / (2 (1 - rho)) (Pollaczek 1930, Khinchine 1932)."""
    service = 0.01
    table = StepTable.affine(service, most_tokens=64, most_seqs=8)
    pool = Pool(table, Policy(max_num_seqs=1), kv_tokens=1024)
    simulation = run(poisson(load / service, 300_000), pool)
    wait = np.mean(simulation.admitted - simulation.issued)
    assert wait == pytest.approx(load * service / (2 * (1 - load)), rel=0.03)
    np.testing.assert_allclose(simulation.first - simulation.admitted, service, rtol=1e-6)


@pytest.mark.parametrize("outputs", ["exponential", "two kinds"])
def test_steps_that_grow_with_the_batch_are_processor_sharing(outputs):
    """Where a step takes n times what one sequence takes, each gets 1/n of the machine: mean time in system
    s / (1 - rho) for any distribution of work (M/G/1-PS; Kleinrock, Queueing Systems II, 1976), exact in the limit of
    many tokens a request."""
    draw, count, token = np.random.default_rng(0), 40_000, 1e-5
    if outputs == "exponential":
        lengths = np.ceil(draw.exponential(300.0, count)).astype(int)
    else:
        lengths = draw.choice([100, 1100], count, p=[0.8, 0.2])
    work = (lengths - 1).mean() * token
    table = StepTable.affine(0.0, per_seq=token, most_tokens=64, most_seqs=4096)
    pool = Pool(table, Policy(max_num_seqs=4096, max_num_batched_tokens=8192), kv_tokens=1 << 24)
    load = 0.6
    simulation = run(poisson(load / work, count, output=lengths), pool)
    assert np.mean(simulation.finish - simulation.issued) == pytest.approx(work / (1 - load), rel=0.05)
    # and in proportion to their own work
    slowdown = (simulation.finish - simulation.issued) / np.maximum((lengths - 1) * token, token)
    long = lengths > np.median(lengths)
    assert slowdown[long].mean() == pytest.approx(1 / (1 - load), rel=0.06)


def throughput(users: int, think: float, work: float, fixed: float, shared: float) -> float:
    """Exact mean value analysis of a closed network: thinking, and one station that serves n requests together at
    n / (fixed + shared n) tokens a unit of work (load-dependent station; Reiser and Lavenberg, J. ACM 27(2), 1980)."""
    marginal = np.zeros(users + 1)
    marginal[0] = 1.0
    rate = 0.0
    for population in range(1, users + 1):
        n = np.arange(1, population + 1)
        speed = n / (fixed + shared * n) / work
        residence = np.sum(n / speed * marginal[n - 1])
        rate = population / (think + residence)
        new = np.zeros(users + 1)
        new[n] = rate / speed * marginal[n - 1]
        new[0] = 1.0 - new[1:].sum()
        marginal = new
    return rate


@pytest.mark.parametrize("users", [1, 4, 16])
@pytest.mark.parametrize("fixed", [0.0, 0.005])
def test_a_closed_loop_is_a_closed_queueing_network(users, fixed):
    """Throughput by mean value analysis; the delay station may think any time, here a constant (BCMP theorem)."""
    token, output, think, count = 1e-3, 400, 0.3, 6000
    draw = np.random.default_rng(1)
    lengths = 1 + np.ceil(draw.exponential(output, count)).astype(int)
    table = StepTable.affine(fixed, per_seq=token, most_tokens=1 << 10, most_seqs=64)
    # prompts must not count: they come with the decode steps, one token each
    requests = traffic(np.ones(count, int), lengths, concurrency=users, think=think)
    simulation = run(requests, Pool(table, Policy(max_num_seqs=64), kv_tokens=1 << 22))
    expected = throughput(users, think, (lengths - 1).mean(), fixed, token)
    assert count / simulation.duration == pytest.approx(expected, rel=0.04)


def test_littles_law_holds():
    table = StepTable.affine(0.01, per_token=1e-5, per_seq=1e-4, per_context=1e-8, most_tokens=1 << 14, most_seqs=256)
    requests = poisson(8.0, 20_000, prompt=500, output=100)
    simulation = run(requests, Pool(table, Policy(), kv_tokens=1 << 20))
    runs = simulation.runs
    steps = runs["steps"].astype(float)
    length = runs["step"] * steps + runs["slope"] * 0.5 * steps * (steps - 1)
    inside = np.sum(runs["running"] * length) / simulation.duration
    residence = np.mean(simulation.finish - simulation.admitted)
    assert inside == pytest.approx(20_000 / simulation.duration * residence, rel=1e-3)


def test_a_single_stream_takes_the_sum_of_its_steps():
    """Prefill, then one step a token, context growing by one: written out by hand."""
    table = StepTable.affine(1e-3, per_token=1e-5, per_seq=2e-4, per_key=1e-8, per_context=1e-7, most_tokens=1024)
    simulation = run(traffic([100], [11], concurrency=1), Pool(table, Policy(), kv_tokens=1024))
    first = 1e-3 + 100 * 1e-5 + 1e-8 * 100 * 101 / 2
    decode = sum(1e-3 + 2e-4 + 1e-7 * context for context in range(101, 111))
    assert simulation.first[0] == pytest.approx(first, rel=1e-12)
    assert simulation.finish[0] == pytest.approx(first + decode, rel=1e-12)
