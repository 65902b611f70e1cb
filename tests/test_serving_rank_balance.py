"""Prompts that engines hold back until each rank of attention data parallelism has one, by conservation and by play."""

from __future__ import annotations

import numpy as np
import pytest

import hwdb
from perfmodel import deployments, engine, estimate, model
from perfmodel.costs import Roofline
from perfmodel.serving.queues.rank_balance import held_together, held_wait
from perfmodel.serving.step_times.mixed_steps import MixedSteps
from perfmodel.simulator import simulate
from perfmodel.workload import Workload

H200 = hwdb.built_in().device("h200-sxm")
DEEPSEEK = model("deepseek-ai/DeepSeek-V3")


def col(value: float) -> np.ndarray:
    return np.array([value])


@pytest.mark.parametrize("rate", [0.2, 1.0, 4.0, 10.0])
def test_steps_of_held_prompts_compute_as_many_as_arrive(rate: float) -> None:
    """What arrives in a decode step and in the steps of prompts behind it is what those steps compute."""
    sides = (np.full((2, 1), 0.1), np.full((2, 1), 0.01))
    line = MixedSteps(np.array([[1.0], [99.0]]), *sides, col(8.0), col(64.0), separate=True)
    found = line.between(col(rate), col(0.02), col(50.0))
    came = rate * (0.02 + found.steps * found.seconds)
    assert float((found.steps * found.prompts)[0]) == pytest.approx(float(came[0]), rel=1e-6)


@pytest.mark.parametrize(("rate", "longest"), [(3.0, np.nan), (0.2, 30.0), (1.0, 30.0), (30.0, 30.0)])
def test_prompts_are_held_as_long_as_in_a_played_queue(rate: float, longest: float) -> None:
    """Arrivals at random; the first of a group opens a window that ends with the eighth or after `longest` steps."""
    step, ranks, draw = 0.02, 8, np.random.default_rng(3)
    times, at, waits = np.cumsum(draw.exponential(1.0 / rate, 80_000)), 0, []
    while at < len(times) - ranks:
        end = times[at + ranks - 1]
        if not np.isnan(longest):
            end = min(end, times[at] + longest * step)
        last = int(np.searchsorted(times, end, side="right"))
        waits.append(end - times[at:last])
        at = last
    found = float(held_wait(col(ranks), longest, col(step), col(rate))[0])
    assert found == pytest.approx(np.concatenate(waits).mean(), rel=0.15)
    sizes = np.mean([len(w) for w in waits])
    assert float(held_together(col(ranks), longest, col(rate * step))[0]) == pytest.approx(sizes, rel=0.15)


def test_an_open_loop_with_balanced_ranks_decodes_faster_and_waits_longer() -> None:
    """Prompts that share a step stall decodes less, whatever the arrivals; the price is their wait for each other."""
    row = deployments([H200], dp=16, ep=16)
    work = Workload.from_lengths([1000, 2000, 4000], [200, 400, 800], rate=4.0)
    apart, held = (
        estimate(DEEPSEEK, work, row, costs=Roofline(), engine=engine("sglang").changed(rank_balance=on))
        for on in (False, True)
    )
    assert float(held.mean(held.tpot)[0]) < 0.8 * float(apart.mean(apart.tpot)[0])
    more = held.mean(held.ttft) - apart.mean(apart.ttft)
    assert 0.1 < float(more[0]) < 30 * float(held.mean(held.tpot)[0])


def test_a_closed_loop_with_balanced_ranks_counts_the_wait_for_other_ranks() -> None:
    """Each of 8 prompts waits for half of the 7 others, which come at the rate of the loop."""
    row, work = deployments([H200], dp=8, ep=8), Workload.from_lengths(1000, 1000, concurrency=128, isl_dist="trace")
    endless = engine("trtllm").changed(rank_balance_steps=np.nan)
    apart, held = (
        estimate(DEEPSEEK, work, row, costs=Roofline(), engine=endless.changed(rank_balance=on)) for on in (False, True)
    )
    more = float((held.mean(held.ttft) - apart.mean(apart.ttft))[0])
    assert more == pytest.approx(3.5 / float(held.request_rate[0]), rel=0.5)


@pytest.mark.parametrize(
    ("name", "dp", "tp", "share"), [("sglang", 4, 2, 0.3), ("sglang", 16, 1, 0.6), ("trtllm", 8, 1, 0.6)]
)
def test_open_loops_of_balanced_ranks_agree_with_the_simulator(name: str, dp: int, tp: int, share: float) -> None:
    """Both hold prompts back in the same way: for a prompt per rank, or for as many steps as the engine waits."""
    row = deployments([H200], tp=tp, dp=dp, ep=dp * tp)
    lengths = ([1000, 2000, 4000], [100, 200, 400])
    options = {"costs": Roofline(), "engine": engine(name).changed(rank_balance=True)}
    most = estimate(DEEPSEEK, Workload.from_lengths(*lengths, concurrency=16.0 * dp), row, **options).request_rate
    work = Workload.from_lengths(*lengths, rate=share * float(most[0]))
    found = estimate(DEEPSEEK, work, row, **options)
    played = simulate(DEEPSEEK, row, work, count=1500, **options)
    part = slice(300, 1300)
    ttft = (played.first - played.issued)[part].mean()
    tpot = ((played.finish - played.first) / (played.traffic.output_tokens - 1))[part].mean()
    assert float(found.mean(found.ttft)[0]) == pytest.approx(ttft, rel=0.15)
    assert float(found.mean(found.tpot)[0]) == pytest.approx(tpot, rel=0.12)
    prompts = played.runs["prompt"].sum() / np.mean(lengths[0]) / (played.runs["prompt"] > 0).sum()
    assert prompts > 1.5


def test_prompts_that_come_while_others_are_computed_begin_with_the_next() -> None:
    """Played: a step of prompts lasts as long as 40 decode steps; what comes meanwhile waits for others after it."""
    step, long, ranks, longest, rate = 0.02, 0.8, 64, 30.0, 12.0
    times, at, now, sizes = np.cumsum(np.random.default_rng(5).exponential(1.0 / rate, 40_000)), 0, 0.0, []
    while at < len(times) - ranks:
        end = min(times[at + ranks - 1], max(times[at], now) + longest * step)
        last = int(np.searchsorted(times, end, side="right"))
        sizes.append(last - at)
        at, now = last, end + long
    found = held_together(col(ranks), longest, col(rate * step), col(rate * long))
    assert float(found[0]) == pytest.approx(np.mean(sizes), rel=0.03)
