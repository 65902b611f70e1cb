"""Waits of runs that start with an empty queue: the law beside random walks, its limits, and runs around capacity."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from itertools import pairwise

import numpy as np
import pytest

import hwdb
from perfmodel import simulator
from perfmodel.deployment.columns import deployments
from perfmodel.engines.catalogue import engine
from perfmodel.estimates.estimation.estimator import estimate
from perfmodel.estimates.latency_percentiles.percentiles import overall
from perfmodel.models import model
from perfmodel.serving.queues.queueing import eased
from perfmodel.serving.queues.run_waits import mean_in_run, rank_in_run, run_noise, with_backlog
from perfmodel.workload.load import load_of
from perfmodel.workload.workload import Workload

RANKS = np.array([0.5, 0.9, 0.95, 0.99])
ENGINES = {"h20": "vllm", "rtx-3090": "vllm-v1"}


@cache
def walked(drift: float) -> tuple[float, np.ndarray]:
    """Return mean and ranks within a run of a reflected Brownian motion of unit noise, means over 1,000 runs."""
    steps = np.random.default_rng(4).standard_normal((500, 2000)) / np.sqrt(2000.0)
    path = np.cumsum(np.concatenate([steps, -steps]) + drift / 2000.0, axis=1)
    # between its steps a path falls lower: by 0.5826 of the deviation of a step on average (Broadie et al., 1997)
    lowest = np.minimum(np.minimum.accumulate(path, axis=1) - 0.5826 / np.sqrt(2000.0), 0.0)
    found = path - lowest
    return float(found.mean()), np.quantile(found, RANKS, axis=1).mean(axis=1)


@pytest.mark.parametrize("drift", [-8.0, -3.0, -1.0, 0.0])
def test_a_run_waits_as_a_random_walk_does(drift: float) -> None:
    mean, ranks = walked(drift)
    steady = 0.5 / -drift if drift < 0 else np.inf
    assert mean_in_run(np.ones(1), np.full(1, steady))[0] == pytest.approx(mean, rel=0.06)
    found = rank_in_run(np.ones(4), -np.log1p(-RANKS) * steady, RANKS)
    np.testing.assert_allclose(found, ranks, rtol=0.12)


@pytest.mark.parametrize("drift", [0.5, 2.0, 5.0])
def test_a_backlog_grows_as_a_random_walk_does(drift: float) -> None:
    mean, ranks = walked(drift)
    chance = mean_in_run(np.ones(1), np.full(1, np.inf))
    assert with_backlog(np.full(1, drift / 2.0), chance)[0] == pytest.approx(mean, rel=0.06)
    by_rank = rank_in_run(np.ones(4), np.full(4, np.inf), RANKS)
    np.testing.assert_allclose(with_backlog(RANKS * drift, by_rank), ranks, rtol=0.12)


def test_long_runs_wait_as_without_end_and_short_ones_for_nobody() -> None:
    steady, counts = np.full(6, 0.7), np.array([1.0, 1e2, 1e4, 1e6, 1e8, np.inf])
    found = mean_in_run(run_noise(counts, np.full(6, 0.01), np.full(6, 2.0)), steady)
    assert (np.diff(found) > 0.0).all()
    assert found[-1] == 0.7
    assert found[-2] == pytest.approx(0.7, rel=1e-3)
    assert mean_in_run(np.zeros(1), np.full(1, np.inf))[0] == 0.0
    assert mean_in_run(np.ones(1), np.zeros(1))[0] == 0.0
    rising = mean_in_run(np.ones(200), np.geomspace(1e-3, 1e3, 200))
    assert (np.diff(rising) > 0.0).all()


def test_ranks_of_a_run_rise_with_the_rank_and_with_the_steady_wait() -> None:
    for steady in (0.01, 0.1, 1.0, 10.0, np.inf):
        ranks = np.linspace(0.01, 0.999, 60)
        found = rank_in_run(np.ones(60), -np.log1p(-ranks) * steady, ranks)
        assert (np.diff(found) > 0.0).all()
    assert rank_in_run(np.ones(1), np.ones(1), np.full(1, -0.1))[0] == 0.0


CASES = {
    "few slots": ("meta-llama/Llama-3.1-70B", {"tp": 4, "max_num_seqs": 16}, "sglang", 4000, 200),
    "short answers": ("meta-llama/Llama-3.1-8B", {}, "vllm", 2000, 2),
}


def figures(name: str, level: float, count: float) -> np.ndarray:
    """Return TTFT (mean, p50, p99) and TPOT of a run of `count` requests at `level` times capacity, seconds."""
    spec, layout, by, prompt, answer = CASES[name]
    row = deployments([hwdb.device("h100-sxm")], **layout)
    work = Workload.from_lengths(prompt, answer, arrival="open", rate=1e5, isl_dist="fixed")
    most = float(estimate(model(spec), work, row, engine=by).request_rate[0])
    found = estimate(model(spec), replace(work, rate=level * most, n_requests=count), row, engine=by)
    ttft = [float(found.mean(found.ttft)[0]), *(float(overall(found, "ttft", q)[0]) for q in ("p50", "p99"))]
    return np.array([*ttft, float(found.mean(found.tpot)[0])])


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("count", [300.0, 2000.0])
def test_nothing_jumps_at_capacity_and_waits_rise_with_the_rate(name: str, count: float) -> None:
    levels = [0.5, 0.7, 0.9, 0.97, 0.999, 1.001, 1.03, 1.1, 1.4, 2.0]
    found = np.stack([figures(name, level, count) for level in levels])
    assert (np.diff(found[:, :3], axis=0) > 0.0).all()
    np.testing.assert_allclose(found[5], found[4], rtol=0.08)


@pytest.mark.parametrize("name", CASES)
def test_a_longer_run_at_capacity_waits_longer_and_below_it_as_without_end(name: str) -> None:
    counts = [50.0, 500.0, 5000.0, 1e6]
    for level in (1.0, 1.2):
        assert (np.diff([figures(name, level, n)[0] for n in counts]) > 0.0).all()
    below = np.stack([figures(name, 0.8, n) for n in (1e6, float("nan"))])
    np.testing.assert_allclose(below[0], below[1], rtol=0.01)


def test_a_cache_that_limits_a_run_fills_with_young_sequences_which_pause_when_they_grow() -> None:
    spec, row = model("meta-llama/Llama-3.1-8B"), deployments([hwdb.device("rtx-4090")])
    work = Workload.from_lengths(245, 350, arrival="open", rate=25.0, n_requests=150, isl_dist="fixed")
    found = estimate(spec, work, row, engine="vllm-v0")
    runs = [simulator.simulate(spec, row, work, engine="vllm-v0", seed=seed) for seed in range(2)]
    played = [simulator.summary(run) for run in runs]
    assert all(run["preemptions"] > 30 for run in played)
    assert 1e3 * float(found.tpot[0, 0]) == pytest.approx(np.mean([run["tpot_ms"] for run in played]), rel=0.15)
    assert float(found.output_rate[0]) == pytest.approx(np.mean([run["output_tok_s"] for run in played]), rel=0.1)
    # the prompts of nearly all fit at once; 105 sequences of mean length would
    assert float(overall(found, "ttft", "p90")[0]) < 0.2 * float(overall(found, "ttft", "p99")[0])


@pytest.mark.parametrize("clients", [8, 25, 100])
@pytest.mark.parametrize("ramp", [0.3, 0.7, 1.0, 1.5, 4.0])
def test_clients_that_start_at_random_wait_as_in_a_queue_that_is_played(clients: int, ramp: float) -> None:
    """Prompts of 1 s, gaps that are exponential; a ramp of 1 is as long as all prompts take."""
    rng = np.random.default_rng(clients)
    waits = []
    for _ in range(400):
        arrivals, free = np.cumsum(rng.exponential(ramp, clients)), 0.0
        for arrival in arrivals:
            waits.append(max(free - arrival, 0.0))
            free = max(free, arrival) + 1.0
    load = load_of(Workload.from_lengths(100, 100, concurrency=clients), 1)
    eased_by = {kind: replace(load, ramp=np.full(1, ramp * clients), ramp_cv=np.full(1, kind)) for kind in (0.0, 1.0)}
    opening = np.array([(clients - 1) / 2.0])
    assert eased(opening, load)[0] == opening[0]
    assert eased(opening, eased_by[0.0])[0] == pytest.approx(max(opening[0] - ramp * clients / 2.0, 0.0))
    found = eased(opening, eased_by[1.0])[0]
    assert found == pytest.approx(np.mean(waits), rel=0.3, abs=0.12)


def medians(name: str, device: str, lengths: tuple[float, float], rates: list[float], **run: float) -> list[float]:
    """Return the median TTFT of open loops at some rates on four devices, seconds."""
    spec, row, runs = model(name), deployments([hwdb.device(device)], tp=4), engine(ENGINES[device])
    loads = [Workload.from_lengths(*lengths, rate=rate, isl_dist="fixed", **run) for rate in rates]
    return [float(overall(estimate(spec, load, row, engine=runs), "ttft", "p50")[0]) for load in loads]


def test_a_run_that_a_replica_holds_at_once_has_no_backlog_beyond_that_of_its_prompts() -> None:
    """1,000 requests of 1,024 places, around what the closed loop of 1,024 gets: no jump where it passes that rate."""
    rates = [11.0, 11.5, 12.0, 12.5, 13.0]
    found = medians("meta-llama/Llama-3.1-70B", "h20", (436.0, 241.0), rates, n_requests=1000.0)
    assert all(low <= high < 1.5 * low for low, high in pairwise(found))


def test_prompts_of_others_spread_a_prefill_by_no_more_than_they_add_to_it() -> None:
    """Two prompts on four RTX 3090 take three times as long as one, but the mean step hardly more than one."""
    found = medians("Qwen/Qwen3-30B-A3B", "rtx-3090", (1822.0, 43.0), [2.2, 2.5, 2.8, 3.1, 3.4])
    assert all(low <= high for low, high in pairwise(found))


@pytest.mark.parametrize(
    ("lengths", "rank", "rates"),
    [((500.0, 200.0), "p90", [20.7, 21.9, 22.5, 23.0, 25.3, 34.0]), ((1000.0, 1000.0), "p99", [1.4, 1.53, 1.62, 1.7])],
)
def test_waits_of_a_run_grow_with_its_rate(lengths: tuple[float, float], rank: str, rates: list[float]) -> None:
    """Where prompts begin to take all the time; and where fewer of the run come once the replica is full."""
    spec, row = model("llama-3.1-8b"), deployments([hwdb.device("l40s")])
    loads = [Workload.from_lengths(*lengths, rate=rate, n_requests=200.0) for rate in rates]
    found = [float(overall(estimate(spec, load, row, engine="sglang"), "ttft", rank)[0]) for load in loads]
    assert all(low <= 1.01 * high for low, high in pairwise(found))


def test_a_run_that_all_fits_waits_as_replayed_where_prompts_take_all_the_time() -> None:
    spec, row = model("llama-3.1-8b"), deployments([hwdb.device("l40s")])
    load = Workload.from_lengths(500.0, 200.0, rate=25.3, n_requests=200.0)
    runs = [simulator.simulate(spec, row, load, engine="sglang", seed=seed, count=200) for seed in range(4)]
    played = np.mean([simulator.summary(run)["ttft_ms"] for run in runs])
    assert float(estimate(spec, load, row, engine="sglang").ttft[0, 0]) * 1e3 == pytest.approx(played, rel=0.2)
