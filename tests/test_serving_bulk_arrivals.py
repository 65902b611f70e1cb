"""Bursts that fill a replica: against queues that are solved exactly, chains of batches, draws, and the simulator."""

from __future__ import annotations

import heapq
import math

import numpy as np
import pytest

import hwdb
from perfmodel import equations as eq
from perfmodel import simulator
from perfmodel.arrays import Array
from perfmodel.deployment.columns import deployments
from perfmodel.engines.catalogue import engine
from perfmodel.estimates.estimation.estimator import estimate
from perfmodel.models import model
from perfmodel.serving.offline_batches.drain import settled
from perfmodel.serving.queues.admission import admission_wait, chance_of_full, log_rise, waiting_share
from perfmodel.serving.queues.variation import MARKOV, Variation, variation_of
from perfmodel.serving.step_times.mixed_steps import _bent
from perfmodel.workload.load import load_of
from perfmodel.workload.output_lengths import shorter_of_two
from perfmodel.workload.workload import Workload

LLAMA = model("llama-3.1-8b")
lengths = Workload.from_lengths


def row(*values: float) -> Array:
    return np.array(values, float)


def services(spread: float, count: int, draw: np.random.Generator) -> Array:
    """Service times of mean 1 by a Weibull law, as `perfmodel.workload` has it."""
    if spread == 0.0:
        return np.ones(count)
    shape = spread**-1.086
    return draw.weibull(shape, count) / math.gamma(1.0 + 1.0 / shape)


def arrivals(cv: float, rate: float, count: int, draw: np.random.Generator) -> Array:
    return np.cumsum(draw.gamma(1.0 / cv**2, cv**2 / rate, count))


# -------------------------------------------------------------------------------- the number in service


@pytest.mark.parametrize("spread", [0.0, 0.5, 1.0])
@pytest.mark.parametrize(("offered", "cv"), [(5.0, 3.0), (40.0, 2.0), (40.0, 5.0), (300.0, 4.0)])
def test_the_number_in_service_varies_as_drawn(offered: float, cv: float, spread: float) -> None:
    draw, count = np.random.default_rng(1), 600_000
    begin = arrivals(cv, offered, count, draw)
    end = np.sort(begin + services(spread, count, draw))
    times = np.linspace(begin[-1] * 0.02, begin[-1] * 0.98, 400_000)
    number = np.searchsorted(begin, times) - np.searchsorted(end, times)
    found = float(eq.peakedness(offered, cv, shorter_of_two(row(spread)))[0])
    assert found == pytest.approx(number.var() / number.mean(), rel=0.12)


def test_a_request_finds_as_many_more_in_service_as_the_number_varies() -> None:
    draw, offered, cv, count = np.random.default_rng(2), 30.0, 3.0, 400_000
    begin = arrivals(cv, offered, count, draw)
    end = np.sort(begin + draw.exponential(1.0, count))
    found = np.arange(count) - np.searchsorted(end, begin)
    more = float(eq.peakedness(offered, cv)) - 1.0
    assert found[count // 20 :].mean() == pytest.approx(offered + more, rel=0.03)
    within = np.searchsorted(begin, begin + draw.exponential(1.0, count)) - np.arange(1, count + 1)
    assert within[: -count // 20].mean() == pytest.approx(offered + more, rel=0.03)


def test_poisson_arrivals_vary_as_their_mean_and_regular_ones_hardly() -> None:
    assert np.all(eq.peakedness([0.1, 3.0, 1e4], 1.0, 0.7) == 1.0)
    assert eq.peakedness(1e5, 0.0, 1.0) < 0.01
    peaks = eq.peakedness(np.geomspace(0.01, 1e5, 60), 4.0)
    assert (np.diff(peaks) > 0.0).all()
    assert peaks[-1] == pytest.approx(8.5, rel=1e-3)  # (1 + c^2) / 2
    assert eq.peakedness(1e6, 4.0, 1.0) == pytest.approx(16.0, rel=1e-3)  # equal services: c^2
    assert eq.peakedness(np.inf, 4.0, 1.0) == pytest.approx(16.0, rel=1e-6)


@pytest.mark.parametrize("spread", [0.0, 0.3, 0.75, 1.0])
def test_the_shorter_of_two_answers_is_that_of_draws(spread: float) -> None:
    draw = np.random.default_rng(3)
    both = np.minimum(services(spread, 400_000, draw), services(spread, 400_000, draw))
    assert shorter_of_two(row(spread))[0] == pytest.approx(both.mean(), rel=0.02)


def test_a_load_varies_by_its_gaps_and_its_answers() -> None:
    load = load_of(lengths([100, 100], [100, 300], share=[0.5, 0.5], rate=1.0, cv=2.5), 1)
    found = variation_of(load)
    assert np.ravel(found.arrivals).tolist() == [2.5]
    assert np.ravel(found.answers).tolist() == pytest.approx([0.5])
    assert np.ravel(found.squares).tolist() == pytest.approx([6.5])
    assert np.all(MARKOV.peakedness(row(3.0, 40.0)) == 1.0)


@pytest.mark.parametrize(("cv", "requests"), [(3.0, 1), (3.0, 2), (3.0, 8), (10.0, 8), (10.0, 300)])
def test_no_request_of_a_run_has_more_of_its_burst_before_it_than_came(cv: float, requests: int) -> None:
    mean = (1.0 + cv**2) / 2.0
    sizes = np.arange(40_000)
    chances = (1.0 / mean) * (1.0 - 1.0 / mean) ** sizes
    before = np.mean([np.sum(chances * np.minimum(sizes, j)) for j in range(requests)])
    assert float(Variation(cv, 1.0, float(requests)).bursts) == pytest.approx(math.sqrt(1.0 + 2.0 * before), rel=1e-6)


def test_bursts_without_end_and_gaps_as_even_as_poissons_are_what_they_are() -> None:
    assert Variation(row(0.0, 0.5, 1.0, 4.0), 1.0).bursts.tolist() == [0.0, 0.5, 1.0, 4.0]
    assert Variation(row(0.0, 0.5, 1.0), 1.0, 5.0).bursts.tolist() == [0.0, 0.5, 1.0]


# -------------------------------------------------------------------------------- waits for room


@pytest.mark.parametrize("places", [1, 6, 30])
@pytest.mark.parametrize("size", [1.0, 3.0, 12.0])
@pytest.mark.parametrize("load", [0.4, 0.9])
def test_states_are_those_of_a_chain_of_batches(places: int, size: float, load: float) -> None:
    # batches of a geometric number come at random; the balance of all states, solved as it stands
    states, rate = 900, load * places
    batches = (1.0 / size) * (1.0 - 1.0 / size) ** np.arange(states)  # of 1, 2, ... requests
    ends = np.minimum(np.arange(states), places)
    flow = np.diag(ends[1:].astype(float), -1)  # from n to n - 1
    for n in range(states):
        reached = np.minimum(np.arange(n + 1, n + 1 + states), states - 1)
        np.add.at(flow[n], reached, rate / size * batches)
    np.fill_diagonal(flow, 0.0)
    flow -= np.diag(flow.sum(axis=1))
    system = np.vstack([flow.T, np.ones(states)])
    chance = np.linalg.lstsq(system, np.append(np.zeros(states), 1.0), rcond=None)[0]
    # what a request finds: the state before its batch, and those of its batch before it
    found = np.convolve(chance, batches)[:states]
    rises = log_rise(rate / np.minimum(np.arange(1, 200), places), row(size))
    np.testing.assert_allclose(found[1:200], found[0] * np.exp(np.cumsum(rises)), rtol=1e-3, atol=1e-9)


def exactly(places: int, load: float, cv: float) -> tuple[float, float]:
    """Return (share of those that wait, their mean wait) of GI/M/c with gamma gaps (Takacs 1962, chapter 2)."""
    rate, number = load * places, np.arange(1, places + 1)

    def transform(s: Array | float) -> Array:
        return np.asarray((1.0 + cv**2 * s / rate) ** (-1.0 / cv**2))

    root = 0.5
    for _ in range(20_000):
        root = float(transform(places * (1.0 - root)))
    each = transform(number)
    logs = [math.lgamma(places + 1) - math.lgamma(n + 1) - math.lgamma(places - n + 1) for n in range(1, places + 1)]
    weight = np.exp(np.array(logs) - np.cumsum(np.log(each / (1.0 - each)))) / (1.0 - each)
    terms = weight * (places * (1.0 - each) - number) / (places * (1.0 - root) - number)
    return 1.0 / (1.0 - root) / (1.0 / (1.0 - root) + terms.sum()), 1.0 / (places * (1.0 - root))


@pytest.mark.parametrize("places", [4, 16, 64, 256])
@pytest.mark.parametrize("load", [0.6, 0.8, 0.95])
@pytest.mark.parametrize("cv", [0.5, 1.0, 2.0, 4.0, 6.0])
def test_bursts_fill_a_replica_as_the_exact_queue_says(places: int, load: float, cv: float) -> None:
    knots, varied = np.exp(np.linspace(0, 1, 5) * np.log(places))[:, None], Variation(cv, 1.0)
    rate, drain = row(load * places), row(float(places))
    wait = admission_wait(rate, knots, knots * 1.0, drain, varied)
    chance, longer = exactly(places, load, cv)
    assert wait[0] == pytest.approx(chance * longer, rel=0.12, abs=0.02 * longer)
    assert waiting_share(wait, rate, drain, varied)[0] == pytest.approx(chance, rel=0.1, abs=0.05)


@pytest.mark.parametrize("spread", [0.0, 0.6])
@pytest.mark.parametrize(("places", "load", "cv"), [(8, 0.8, 2.5), (40, 0.8, 2.5), (40, 0.8, 4.0), (200, 0.9, 2.5)])
def test_equal_and_spread_answers_wait_for_room_as_drawn(places: int, load: float, cv: float, spread: float) -> None:
    draw, count = np.random.default_rng(0), 300_000
    begin, lasts = arrivals(cv, load * places, count, draw), services(spread, count, draw)
    free, waits = [0.0] * places, np.empty(count)
    for i, (now, length) in enumerate(zip(begin.tolist(), lasts.tolist(), strict=True)):
        start = max(free[0], now)
        waits[i] = start - now
        heapq.heapreplace(free, start + length)
    knots = np.exp(np.linspace(0, 1, 5) * np.log(places))[:, None]
    found = admission_wait(row(load * places), knots, knots * 1.0, row(float(places)), Variation(cv, spread))
    assert found[0] == pytest.approx(waits[count // 10 :].mean(), rel=0.25)


def test_more_even_gaps_fill_a_replica_less_often_and_bursts_more() -> None:
    knots, rate, drain = np.exp(np.linspace(0, 1, 5) * np.log(50.0))[:, None], row(40.0), row(50.0)
    waits = [
        float(admission_wait(rate, knots, knots * 1.0, drain, Variation(cv, 0.5))[0])
        for cv in (0.0, 0.3, 0.99, 1.0, 1.01, 2.0, 6.0)
    ]
    assert (np.diff(waits) > 0.0).all()
    assert waits[2] == pytest.approx(waits[4], rel=0.15)  # no jump at Poisson arrivals
    assert float(chance_of_full(rate, knots, knots * 1.0, Variation(0.0, 0.0))[0]) < 1e-6


def test_passes_that_fall_end_at_nought_at_the_earliest() -> None:
    assert settled(row(0.489), row(0.389), row(0.291)).tolist() == [0.0]
    assert settled(row(1.0), row(0.5), row(0.25)).tolist() == pytest.approx([0.0])
    assert settled(row(1.0), row(1.5), row(1.75)).tolist() == pytest.approx([2.0])


# -------------------------------------------------------------------------------- steps that their launches fill


@pytest.mark.parametrize("level", [1.0, 2.5, 6.0])
def test_a_step_of_launches_and_kernels_is_level_and_then_a_line(level: float) -> None:
    few, most, each = 1.0, 40.0, 0.01
    middle = np.sqrt(few * most)

    def seconds(prompts: float) -> Array:
        return row(0.05 + each * max(prompts, level))

    chord = (seconds(most) - seconds(few)) / (most - few)
    points = [(row(n), seconds(n)) for n in (few, middle, most)]
    found = _bent(points[0], points[1], points[2], chord)
    assert found[0].tolist() == pytest.approx([each])
    assert found[1].tolist() == pytest.approx([level])


def test_steps_that_do_not_bend_up_are_the_line_through_the_outer_points() -> None:
    chord = row(0.5 / 7.0)
    each, level = _bent((row(1.0), row(0.1)), (row(np.sqrt(8.0)), row(0.4)), (row(8.0), row(0.6)), chord)
    assert each.tolist() == pytest.approx(chord.tolist())
    assert level.tolist() == [1.0]


# -------------------------------------------------------------------------------- beside the simulator


@pytest.mark.parametrize(("prompt", "answer", "share"), [(200, 20, 0.6), (300, 12, 0.8)])
def test_short_answers_wait_for_prompts_that_go_first_as_replayed(prompt: int, answer: int, share: float) -> None:
    placed = deployments([hwdb.device("h100-sxm")], tp=2)
    by = engine("sglang")
    full = float(estimate(LLAMA, lengths(prompt, answer, concurrency=1024), placed, engine=by).request_rate[0])
    work = lengths(prompt, answer, rate=share * full, n_requests=2000, arrival="open")
    found = estimate(LLAMA, work, placed, engine=by)
    played = [
        simulator.summary(simulator.simulate(LLAMA, placed, work, engine=by, seed=s, count=2000))["tpot_ms"]
        for s in range(2)
    ]
    assert float(found.tpot[0, 0]) * 1e3 == pytest.approx(np.mean(played), rel=0.3)


@pytest.mark.parametrize(("request_ms", "launch_us"), [(0, 0), (55, 20), (0, 45), (79, 52), (100, 75), (0, 100)])
@pytest.mark.parametrize(
    ("prompt", "answer", "share"), [(200, 20, 0.6), (300, 12, 0.8), (100, 10, 0.6), (300, 60, 0.8), (1000, 200, 0.65)]
)
def test_prompts_go_first_as_replayed_whatever_requests_and_launches_take(
    prompt: int, answer: int, share: float, request_ms: int, launch_us: int
) -> None:
    # from prompts that hardly delay a token to prompts that stop all decodes until the last request has come
    placed = deployments([hwdb.device("h100-sxm")], tp=2)
    by = engine("sglang").changed(request_time=request_ms / 1e3, launch_time=launch_us / 1e6)
    full = float(estimate(LLAMA, lengths(prompt, answer, concurrency=1024), placed, engine=by).request_rate[0])
    work = lengths(prompt, answer, rate=share * full, n_requests=2000, arrival="open")
    found = estimate(LLAMA, work, placed, engine=by)
    # where prompts stop all decodes, one run differs from the next by a fifth
    runs = [simulator.simulate(LLAMA, placed, work, engine=by, seed=seed, count=2000) for seed in range(3)]
    tpot, ttft = np.mean([[simulator.summary(run)[key] for key in ("tpot_ms", "ttft_ms")] for run in runs], axis=0)
    assert float(found.tpot[0, 0]) * 1e3 == pytest.approx(tpot, rel=0.35)
    assert float(found.ttft[0, 0]) * 1e3 == pytest.approx(ttft, rel=0.15)


@pytest.mark.parametrize("cv", [2.0, 5.0])
@pytest.mark.parametrize("share", [0.2, 0.5])
def test_bursts_slow_tokens_as_replayed(cv: float, share: float) -> None:
    placed = deployments([hwdb.device("h100-sxm")])
    full = float(estimate(LLAMA, lengths(700, 250, concurrency=1024), placed, engine="vllm").request_rate[0])
    work = lengths(700, 250, rate=share * full, cv=cv, n_requests=3000, arrival="open")
    found = estimate(LLAMA, work, placed, engine="vllm")
    played = [
        simulator.summary(simulator.simulate(LLAMA, placed, work, engine="vllm", seed=s, count=3000))["tpot_ms"]
        for s in range(3)
    ]
    assert float(found.tpot[0, 0]) * 1e3 == pytest.approx(np.mean(played), rel=0.12 if cv < 3.0 else 0.25)


@pytest.mark.parametrize(("requests", "share"), [(8, 0.1), (25, 0.1)])
def test_bursts_of_a_short_run_fill_few_places_as_replayed(requests: int, share: float) -> None:
    placed = deployments([hwdb.device("h100-sxm")], max_num_seqs=4)
    full = float(estimate(LLAMA, lengths(160, 100, concurrency=1024), placed, engine="vllm").request_rate[0])
    work = lengths(160, 100, rate=share * full, cv=3.0, n_requests=requests, arrival="open")
    found = estimate(LLAMA, work, placed, engine="vllm")
    played = [
        simulator.summary(simulator.simulate(LLAMA, placed, work, engine="vllm", seed=s, count=requests))["ttft_ms"]
        for s in range(40)
    ]
    assert float(found.ttft[0, 0]) * 1e3 == pytest.approx(np.mean(played), rel=0.25)
