"""Percentiles within a class of requests, against draws of the lengths, waits and delays that they stand for."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

import hwdb
import perfmodel as pm
from perfmodel.engines import engine
from perfmodel.estimates.columns.groups import WaitShape
from perfmodel.estimates.estimation.estimator import estimate_load
from perfmodel.estimates.latency_percentiles import percentiles, within_class
from perfmodel.serving.served import PACE_AT
from perfmodel.serving.step_times.token_spread import drift_of
from perfmodel.workload import RANKS, load_of, output_quantile, prompt_spread
from perfmodel.workload.output_lengths import cv_of_tail

SHAPE = np.array(0.75)
DRAWS = 400_000


def estimates(**work: Any) -> pm.Estimates:
    """Estimate Llama-3.1-8B on one H100 under a load of recorded traffic: 800 tokens in, 200 out."""
    asked = pm.Workload.from_lengths(800, 200, **{"isl_dist": "trace", "rate": 4.0, "arrival": "open", **work})
    chosen = pm.deployments([hwdb.device("h100-sxm")])
    return pm.estimate(pm.model("meta-llama/Llama-3.1-8B"), asked, chosen, engine="vllm")


def waits(mean: float, **fields: Any) -> tuple[np.ndarray, WaitShape]:
    """Return a mean wait and its shape, of one request class on one deployment."""
    zero = np.zeros(1)
    usual: dict[str, Any] = {
        "uniform_share": zero,
        "planned": zero,
        "crowded": zero,
        "end": np.full(1, np.nan),
        "by_rank": np.full((len(RANKS), 1), np.nan),
        "most_by_rank": np.full((len(RANKS), 1), np.nan),
        "queued": zero,
        "queued_by_rank": np.zeros((len(RANKS), 1)),
        "short_shares": np.zeros((2, 1)),
        "short_longest": np.zeros((2, 1)),
        "long_share": np.ones(1),
        "long_cv": np.ones(1),
        "beside": zero,
    }
    return np.full((1, 1), mean), WaitShape(**{**usual, **fields})


def test_prompts_of_others_in_the_same_steps_spread_the_first_token() -> None:
    """Those that meet none are computed sooner than the mean; 30 % wait exponentially, whose mean makes up for that."""
    mean, shape = waits(0.06, long_share=np.full(1, 0.3), beside=np.full(1, 0.03), short_shares=np.full((2, 1), 1e-9))
    for name, rank in RANKS.items():
        tail = 0.3 * np.log(0.3 / (1.0 - rank)) if rank > 0.7 else 0.0
        found = float(percentiles.wait_percentile(mean, shape, name)[0, 0])
        assert found == pytest.approx(tail - 0.03, abs=1e-4)


def test_lengths_are_quantiles_of_the_law_and_their_tail_gives_it_back() -> None:
    rng = np.random.default_rng(0)
    shape = float(SHAPE) ** -1.086
    drawn = np.minimum(rng.weibull(shape, DRAWS), 2.0)
    drawn = drawn / rng.weibull(shape, DRAWS).mean() * 100.0
    for rank in (0.01, 0.5, 0.9):
        found = output_quantile(np.array(100.0), SHAPE, np.array(rank), np.array(np.inf))
        assert float(found) == pytest.approx(np.quantile(drawn, rank), rel=0.05)
    assert float(output_quantile(np.array(100.0), SHAPE, np.array(0.999), np.array(150.0))) == 150.0
    for cv in (0.1, 0.5, 1.0, 2.0):
        tail = output_quantile(np.array(1.0), np.array(cv), np.array(0.99), np.array(np.inf))
        assert float(cv_of_tail(tail)) == pytest.approx(cv, rel=1e-2)


@pytest.mark.parametrize("spread", [0.3, 0.8, 1.2])
def test_prompts_spread_as_their_ninetieth_percentile_says(spread: float) -> None:
    tail = np.exp(1.2816 * spread - spread**2 / 2.0)
    found = prompt_spread(["trace", "fixed", "trace"], np.array([tail, tail, np.nan]))
    assert found.tolist() == pytest.approx([spread, 0.0, 0.8])


def test_waits_are_quantiles_of_short_and_long_ones() -> None:
    rng = np.random.default_rng(1)
    drawn = np.where(rng.random(DRAWS) < 0.7, rng.uniform(0.0, 0.2, DRAWS), rng.exponential(1.0, DRAWS))
    mean, shape = waits(
        drawn.mean(),
        short_shares=np.array([[0.7], [0.0]]),
        short_longest=np.array([[0.2], [9.0]]),
        long_share=np.array([0.3]),
    )
    for name, rank in RANKS.items():
        found = float(percentiles.wait_percentile(mean, shape, name)[0, 0])
        assert found == pytest.approx(np.quantile(drawn, rank), rel=0.02)


def test_a_part_of_the_wait_that_is_alike_for_all_moves_every_percentile_by_itself() -> None:
    short = {"short_shares": np.array([[0.7], [0.0]]), "short_longest": np.array([[0.2], [9.0]])}
    (mean, shape), planned = waits(0.4, **short, long_share=np.array([0.3])), np.array([0.05])
    for name in RANKS:
        usual = percentiles.wait_percentile(mean, shape, name)
        found = percentiles.wait_percentile(mean + planned, replace(shape, planned=planned), name)
        assert found.tolist() == pytest.approx(usual + planned, rel=1e-9)


def test_waits_of_a_single_server_are_those_of_lindley() -> None:
    """M/D/1 at 60 %: one in 0.6 finds the server busy, and waits with the moments of the closed form."""
    rng = np.random.default_rng(2)
    load = 0.6
    steps = 1.0 - rng.exponential(1.0 / load, DRAWS)
    path = np.concatenate([[0.0], np.cumsum(steps)])
    drawn = path - np.minimum.accumulate(path)
    mean, shape = waits(
        load / (2.0 * (1.0 - load)),
        short_shares=np.array([[1.0 - load], [0.0]]),
        long_share=np.array([load]),
        long_cv=np.sqrt(np.array([(1.0 + 2.0 * load) / 3.0])),
    )
    for name in ("p90", "p95", "p99"):
        found = float(percentiles.wait_percentile(mean, shape, name)[0, 0])
        assert found == pytest.approx(np.quantile(drawn, RANKS[name]), rel=0.07)


def test_equal_lengths_have_no_spread_of_their_own() -> None:
    fixed, varied = estimates(isl_dist="fixed"), estimates()
    for metric in ("ttft", "tpot", "e2e"):
        low, high = (varied.quantile(metric, s)[0, 0] for s in ("p50", "p99"))
        assert high / low > fixed.quantile(metric, "p99")[0, 0] / fixed.quantile(metric, "p50")[0, 0]
    # an answer of mean length; one in a hundred is more than three times as long
    assert varied.quantile("e2e", "p99")[0, 0] > 2.5 * fixed.quantile("e2e", "p99")[0, 0]


@pytest.mark.parametrize("kind", ["open", "offline", "closed"])
def test_percentiles_rise_and_the_mean_tpot_counts_short_answers(kind: str) -> None:
    load = {
        "open": {},
        "offline": {"arrival": "offline", "n_requests": 300},
        "closed": {"arrival": "closed", "concurrency": 64},
    }
    found = estimates(**{"rate": 4.0 if kind == "open" else float("nan"), **load[kind]})
    for metric in ("ttft", "tpot", "e2e"):
        values = [float(found.quantile(metric, s)[0, 0]) for s in RANKS]
        assert values == sorted(values)
    assert float(found.quantile("tpot", "mean")[0, 0]) >= float(found.tpot[0, 0]) * (1.0 - 1e-9)
    drawn = np.linspace(0.0005, 0.9995, 1000)
    tokens = output_quantile(np.array(200.0), found.classes.output_cv[0], drawn, np.array(np.inf))
    mean = np.mean(within_class._means(found, np.maximum(tokens, 1.0)[:, None, None])[:, 0, 0])
    assert float(found.quantile("tpot", "mean")[0, 0]) == pytest.approx(mean, rel=0.03)


@pytest.mark.parametrize("share", [1.0, 0.4])
@pytest.mark.parametrize("most", [np.inf, 0.1, 0.02])
def test_a_single_delay_is_shared_by_the_tokens_of_an_answer(share: float, most: float) -> None:
    """Draw the delay of each request, and count no more of it per token than the longest gap holds."""
    rng, one = np.random.default_rng(4), estimates()
    shape = {"settling": 3.0, "settling_share": share, "settling_most": most}
    found = replace(one, tokens=replace(one.tokens, **{k: np.full(1, v) for k, v in shape.items()}))
    delay = np.where(rng.random(DRAWS) < share, rng.uniform(0.0, 2.0 * 3.0 / share, DRAWS), 0.0)
    for tokens in (2.0, 20.0, 400.0):
        drawn = np.minimum(delay / (tokens - 1.0), most)
        mean, deviation = within_class._settling(found, np.full((1, 1, 1), tokens))
        assert float(mean[0, 0, 0]) == pytest.approx(drawn.mean(), rel=0.01)
        assert float(deviation[0, 0, 0]) == pytest.approx(drawn.std(), rel=0.01, abs=1e-6)


def test_a_pace_by_length_leaves_the_time_of_all_tokens_as_it_is() -> None:
    one = estimates()
    pace = np.linspace(2.0, 0.5, len(PACE_AT))[:, None]
    found = replace(one, tokens=replace(one.tokens, settling=np.zeros(1), pace=pace))
    outputs = within_class._outputs(found)
    later = np.maximum(outputs - 1.0, 0.0)[:, 0, 0] * within_class._WEIGHTS
    means = within_class._means(found, outputs)[:, 0, 0]
    assert float(later @ means / later.sum()) == pytest.approx(float(found.latency.tpot[0, 0]))
    assert (np.diff(means) < 0.0).all()
    # twice all paces are the same paces
    twice = replace(found, tokens=replace(found.tokens, pace=2.0 * pace))
    assert within_class._means(twice, outputs)[:, 0, 0].tolist() == pytest.approx(means.tolist())
    fixed = replace(found, classes=replace(found.classes, output_cv=np.zeros(1)))
    assert float(within_class.tpot_mean(fixed)[0, 0]) == pytest.approx(float(found.latency.tpot[0, 0]))


@pytest.mark.parametrize("output", [3.0, 10.0, 200.0])
def test_an_answer_of_one_token_has_no_time_per_token(output: float) -> None:
    """Round drawn lengths to whole tokens; those of one token are left out, as benchmarks do."""
    one = estimates()
    cv, zero = np.array([1.1]), np.zeros(1)
    found = replace(
        one,
        classes=replace(one.classes, output=np.full((1, 1), output), output_cv=cv),
        tokens=replace(one.tokens, settling=np.array([2.0]), settling_most=np.array([np.inf])),
        latency=replace(one.latency, tpot=np.full((1, 1), 0.02), step=np.full((1, 1), 0.02)),
    )
    drawn = output_quantile(np.array(output), cv[0], (np.arange(DRAWS) + 0.5) / DRAWS, np.array(np.inf))
    tokens = np.round(drawn)
    tokens = tokens[tokens > 1]
    exact = 0.02 + (2.0 / (tokens - 1.0)).mean() + zero
    assert float(within_class.tpot_mean(found)[0, 0]) == pytest.approx(float(exact[0]), rel=0.12)


def test_what_one_waits_less_at_the_start_of_a_burst_one_loses_after_the_first_token() -> None:
    """Prompts first, then decodes of equal pace: all requests of equal length end together, however they queued."""
    found = estimates(arrival="offline", n_requests=300, rate=float("nan"), isl_dist="fixed")
    spread = float(found.quantile("ttft", "p99")[0, 0] - found.quantile("ttft", "p50")[0, 0])
    apart = float(found.quantile("e2e", "p99")[0, 0] - found.quantile("e2e", "p50")[0, 0])
    assert spread > 1.0
    assert apart < 0.35 * spread


@pytest.mark.parametrize("requests", [1, 10, 100, 3000])
@pytest.mark.parametrize("output", [2, 200])
def test_waits_of_a_run_hold_its_mean_and_rise_on_the_way_through_capacity(requests: int, output: int) -> None:
    asked = pm.Workload.from_lengths(3000, output, arrival="open", rate=1e6)
    chosen = pm.deployments([hwdb.device("h100-sxm")])
    spec = pm.model("meta-llama/Llama-3.1-8B")
    capacity = float(pm.estimate(spec, asked, chosen, engine="vllm").request_rate[0])
    before = np.zeros(len(RANKS))
    for share in (0.3, 0.9, 0.97, 0.99, 1.0, 1.01, 1.03):
        found = pm.estimate(spec, replace(asked, rate=share * capacity, n_requests=requests), chosen, engine="vllm")
        ranks = np.array([float(found.quantile("ttft", rank)[0, 0]) for rank in RANKS])
        assert np.all(np.diff(ranks) >= 0.0)
        assert float(found.ttft[0, 0]) <= ranks[-1] * (1.0 + 1e-9)
        assert np.all(ranks >= before * 0.97), share
        assert float(found.quantile("tpot", "p50")[0, 0]) >= float(found.latency.step[0, 0]) * 0.999
        before = ranks


def test_one_request_of_a_run_is_a_single_request() -> None:
    alone = estimates(arrival="single", rate=float("nan"))
    found = estimates(n_requests=1)
    for metric in ("ttft", "tpot"):
        assert float(found.quantile(metric, "mean")[0, 0]) == pytest.approx(
            float(alone.quantile(metric, "mean")[0, 0]), rel=0.01
        )


@pytest.mark.parametrize("kind", ["closed", "open"])
def test_replicas_with_unequal_loads_have_percentiles(kind: str) -> None:
    load: dict[str, dict[str, Any]] = {
        "closed": {"arrival": "closed", "concurrency": 5},
        "open": {"arrival": "open", "rate": 4.0, "n_requests": 5},
    }
    asked = pm.Workload.from_lengths(800, 200, **load[kind])
    chosen = pm.deployments([hwdb.device("h100-sxm")], replicas=2)
    found = pm.estimate(pm.model("meta-llama/Llama-3.1-8B"), asked, chosen, engine="vllm")
    values = [float(found.quantile("ttft", rank)[0, 0]) for rank in RANKS]
    assert np.all(np.isfinite(values))
    assert values == sorted(values)


def test_prompts_that_fit_one_step_are_done_together() -> None:
    found = estimates(arrival="offline", n_requests=3, rate=float("nan"), isl_dist="fixed")
    for rank in RANKS:
        assert float(found.quantile("ttft", rank)[0, 0]) == pytest.approx(float(found.ttft[0, 0]), rel=0.02)


@pytest.mark.parametrize("elastic", [0.2, 0.6])
def test_the_batch_drifts_as_a_birth_death_process_does(elastic: float) -> None:
    """Play running sequences whose time per token grows as a power of their number; follow what requests see."""
    rng = np.random.default_rng(3)
    mean, stay = 40.0, 1.0
    rate = mean / stay
    number, clock, seen = int(mean), 0.0, []
    times, numbers = [], []
    for _ in range(60_000):
        deaths = number / stay * (mean / max(number, 1)) ** elastic
        clock += rng.exponential(1.0 / (rate + deaths))
        number += 1 if rng.random() < rate / (rate + deaths) else -1
        times.append(clock)
        numbers.append(number)
    at = np.interp(np.arange(5.0, clock - 5.0, 0.02), times, np.maximum(numbers, 1.0) ** elastic)
    window = np.convolve(at, np.ones(50) / 50, mode="valid")  # one residence
    seen = window.std() / window.mean()
    assert float(drift_of(np.array([elastic]), np.array([mean]), np.ones(1))[0]) == pytest.approx(seen, rel=0.12)


@pytest.mark.parametrize("requests", [1.0, 2.0, 30.0])
@pytest.mark.parametrize(("prompt", "answer"), [(5, 1), (1200, 12), (800, 200)])
def test_no_request_of_a_burst_ends_before_its_first_token(requests: float, prompt: int, answer: int) -> None:
    """Also a long prompt of a burst that ends, with prompts of mean length, sooner."""
    asked = pm.Workload.from_lengths(prompt, answer, arrival="offline", n_requests=requests, isl_dist="trace")
    place = pm.deployments([hwdb.device("h100-sxm")])
    for name in ("vllm", "trtllm", "sglang"):
        found = pm.estimate(pm.model("Qwen/Qwen3-0.6B"), asked, place, engine=name)
        for rank in RANKS:
            assert (found.quantile("e2e", rank) >= found.quantile("ttft", rank) * (1.0 - 1e-9)).all(), (name, rank)


def test_answers_of_one_token_are_those_of_the_law_before_a_cut() -> None:
    """Answers cut at 30 tokens: the drawn ones of several tokens have the lengths that TPOT is taken over."""
    rng = np.random.default_rng(3)
    drawn = np.minimum(rng.weibull(0.75**-1.086, DRAWS) * 30.0, 30.0)
    load = replace(
        load_of(pm.Workload.from_lengths(800, float(drawn.mean()), rate=1.0, isl_dist="trace", output_max=30.0), 1),
        length_cv=np.full(1, drawn.std() / drawn.mean()),
    )
    place = pm.deployments([hwdb.device("h100-sxm")])
    found = estimate_load(pm.model("Qwen/Qwen3-0.6B"), load, place, engine=engine("vllm"))
    several = drawn[drawn >= 1.5]
    shortest = within_class._several(found)[:3, 0, 0]
    middles = within_class._MIDDLES[:3]
    np.testing.assert_allclose(shortest, np.maximum(np.quantile(several, middles), 2.0), rtol=0.05)
