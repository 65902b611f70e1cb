"""Simulated figures of a stationary load: one window, known intervals, and no dependence on the length of the run."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from simulator_service import TABLE, deployment

import perfmodel
from hwdb import InputError
from perfmodel import Slo, Workload, simulator
from perfmodel.estimates import estimate_load
from perfmodel.simulator import Policy, Pool, StepTable, run
from perfmodel.simulator.measurement.metrics import e2e, tpot, ttft
from perfmodel.simulator.stationarity.steady import SLICES, drifts, growth, margin, warm_up
from perfmodel.workload.load import load_of

SLO = Slo.of(ttft_ms_p90=300, tpot_ms_p90=40)


def load(rate, prompt=500, output=50, **more):
    return Workload(input_tokens=prompt, output_tokens=output, rate=rate, arrival="open", **more)


def drawn(rate, count, seed=0, **more):
    return simulator.offered(load(rate, **more), count=count, seed=seed)


def served(requests, policy=None, replicas=1, **more):
    return run(requests, Pool(TABLE, policy or Policy(), kv_tokens=more.pop("kv", 200_000), replicas=replicas, **more))


# -- statistics by themselves


@pytest.mark.parametrize("seed", range(20))
def test_the_warm_up_ends_where_a_ramp_ends(seed):
    draw = np.random.default_rng(seed)
    count, ramp = 4000, int(draw.integers(200, 1500))
    series = 50.0 * np.minimum(np.arange(count) / ramp, 1.0) + draw.normal(0, 2, count)
    assert 0.8 * ramp <= warm_up(series) <= ramp + 1000
    assert warm_up(np.arange(100.0)) == 50  # a series that only rises has no steady part: half is left out


@pytest.mark.parametrize(("correlation", "least"), [(0.0, 0.92), (0.9, 0.92), (0.99, 0.88)])
def test_intervals_hold_the_truth_as_often_as_they_say(correlation, least):
    """Means of 20 slices of an autoregressive series whose mean is 0: about 95 % of the intervals hold it.

    Rather fewer where a slice, here of 200 values, lasts only twice as long as the series remembers.
    """
    draw, held, runs = np.random.default_rng(0), 0, 400
    for _ in range(runs):
        noise = draw.normal(size=4000)
        series = np.empty(4000)
        level = noise[0] / np.sqrt(1 - correlation**2)
        for i, shock in enumerate(noise):
            level = correlation * level + shock
            series[i] = level
        slices = series.reshape(SLICES, -1).mean(axis=1)
        held += abs(series.mean()) <= margin(float(series.mean()), slices)
    assert least <= held / runs <= 0.995


def test_an_interval_of_a_slice_without_requests_is_unknown():
    assert np.isnan(margin(1.0, np.array([1.0] * 19 + [np.nan])))
    assert margin(2.0, np.full(SLICES, 2.0)) == 0


def test_a_queue_at_capacity_is_seldom_taken_for_a_growing_one():
    """Random walks without drift, of the variance of Poisson arrivals and departures: 2.5 % look as if they grew."""
    draw, times = np.random.default_rng(0), np.linspace(0, 1000, 400)
    steps = draw.poisson(10 * 1000 / 400, (1000, 400)) - draw.poisson(10 * 1000 / 400, (1000, 400))
    walks = np.cumsum(steps, axis=1)
    false = np.mean([growth(times, walk, 10.0, 1.0).certain for walk in walks])
    assert 0.01 < false < 0.05
    drifting = np.mean([growth(times, walk + 0.5 * times, 10.0, 1.0).certain for walk in walks])
    assert drifting > 0.8


# -- theory


@pytest.mark.parametrize("load_share", [0.3, 0.6, 0.8])
def test_an_m_d_1_wait_lies_within_its_interval(load_share):
    """Pollaczek-Khinchine: mean time in system D + rho D / (2 (1 - rho)), of the steady part; within 1.5 intervals."""
    service = 0.01
    pool = Pool(StepTable.affine(service, most_tokens=64, most_seqs=8), Policy(max_num_seqs=1), kv_tokens=1024)
    found = run(drawn(load_share / service, 100_000, prompt=1, output=1), pool)
    expected = service + load_share * service / (2 * (1 - load_share))
    mean, half = (f(found, "ttft").mean for f in (simulator.latency, simulator.margins))
    assert abs(mean - expected) < 1.5 * half
    assert half < 0.1 * expected


@pytest.mark.parametrize("share", [1.05, 1.1, 1.5, 3.0])
@pytest.mark.parametrize("count", [30_000, 60_000])
def test_a_load_beyond_capacity_is_unstable_and_its_queue_grows_by_the_excess(share, count):
    """One prompt at a time of 10 ms: 100 requests/s are served and the rest waits, however long the run."""
    pool = Pool(StepTable.affine(0.01, most_tokens=64, most_seqs=8), Policy(max_num_seqs=1), kv_tokens=1024)
    found = run(drawn(100 * share, count, prompt=1, output=1), pool)
    row = simulator.summary(found, SLO)
    assert simulator.unstable(found)
    assert not simulator.holds(found, Slo.of(ttft_ms_p50=1e9))
    assert row["queue_growth_rps"] == pytest.approx(100 * (share - 1), rel=0.01, abs=0.05)
    assert row["request_rate_rps"] == pytest.approx(100, rel=1e-3)
    assert any(note.startswith("unstable: the queue grows by") for note in found.notes)
    assert all(
        np.isnan(row[name]) for name in ("ttft_ms", "ttft_ms_p99", "e2e_ms_p50", "goodput_rps", "slo_attainment")
    )


@pytest.mark.parametrize("share", [0.3, 0.8, 0.95, 0.98])
@pytest.mark.parametrize("seed", range(5))
def test_a_load_below_capacity_is_stable(share, seed):
    pool = Pool(StepTable.affine(0.01, most_tokens=64, most_seqs=8), Policy(max_num_seqs=1), kv_tokens=1024)
    assert not simulator.unstable(run(drawn(100 * share, 30_000, seed, prompt=1, output=1), pool))


# -- one basis


@pytest.mark.parametrize("seed", range(20))
def test_all_rates_are_of_the_requests_that_end_in_the_window(seed):
    """Random services: tokens and goodput follow from the requests counted; nothing is counted twice or left out."""
    draw = np.random.default_rng(seed)
    lengths = {"prompt": int(draw.integers(10, 3000)), "output": int(draw.integers(2, 400))}
    rate, count = float(draw.uniform(0.5, 8)), int(draw.integers(300, 3000))
    found = served(drawn(rate, count, seed, **lengths), replicas=int(draw.integers(1, 4)))
    for seen in (simulator.window(found), simulator.window(found, whole=True)):
        row = simulator.summary(found, SLO, seen)
        ended = (found.finish > seen.begin) & (found.finish <= seen.end)
        assert row["measured_requests"] == ended.sum()
        assert row["request_rate_rps"] * seen.span == pytest.approx(ended.sum())
        assert row["output_tok_s"] == pytest.approx(row["request_rate_rps"] * lengths["output"])
        assert row["input_tok_s"] == pytest.approx(row["request_rate_rps"] * lengths["prompt"])
        assert row["warm_up_s"] + row["window_s"] + row["drain_s"] == pytest.approx(row["duration_s"])
        if not np.isnan(row["goodput_rps"]):
            assert row["goodput_rps"] <= row["request_rate_rps"]
            assert row["goodput_rps"] == pytest.approx(row["slo_attainment"] * row["request_rate_rps"])
        assert simulator.latency(found, "e2e", seen).mean == pytest.approx(np.mean(e2e(found)[ended]))
    whole = simulator.summary(found, SLO, simulator.window(found, whole=True))
    assert whole["measured_requests"] == count
    assert whole["drain_s"] == whole["warm_up_s"] == 0
    assert np.isnan(whole["ttft_ms_ci95"])


@pytest.mark.parametrize("seed", range(5))
def test_what_comes_out_of_a_steady_window_is_what_goes_in(seed):
    """Completions, tokens made step by step, and Little's law agree with the offered rate within the intervals."""
    found = served(drawn(4.0, 20_000, seed))
    seen = simulator.window(found)
    row, inside = simulator.summary(found, SLO, seen), simulator.usage(found, seen)
    assert row["request_rate_rps"] == pytest.approx(4.0, abs=2 * row["request_rate_rps_ci95"])
    runs = found.runs[(found.runs["start"] > seen.begin) & (found.runs["start"] <= seen.end)]
    first = np.sum((found.first > seen.begin) & (found.first <= seen.end))
    made = (np.sum(runs["active"].astype(float) * runs["steps"]) + first) / seen.span
    assert row["output_tok_s"] == pytest.approx(made, rel=0.005)
    residence = np.mean((found.finish - found.admitted)[seen.counted])
    assert inside["running"] == pytest.approx(row["request_rate_rps"] * residence, rel=0.02)


def test_traces_batches_and_stated_numbers_of_requests_are_measured_as_a_whole():
    times = np.sort(np.random.default_rng(0).uniform(0, 200, 600))
    lengths = {"input_tokens": [500], "output_tokens": [50]}
    kinds = (
        (simulator.traffic([500] * 600, [50] * 600, arrival=times), "beginning and an end"),
        (simulator.offered(Workload(**lengths, arrival="closed", concurrency=8, n_requests=80)), "opening burst"),
        (simulator.offered(Workload(**lengths, arrival="offline", n_requests=300)), "all requests arrive at once"),
        (drawn(4.0, 50), "too few requests"),
        (simulator.offered(load(4.0, n_requests=400)), "beginning and an end"),
    )
    for requests, why in kinds:
        seen = simulator.window(served(requests))
        assert not seen.steady
        assert why in seen.basis
        assert seen.counted.all()
    with pytest.raises(InputError, match="were not drawn from a workload"):
        kinds[0][0].longer(1000)


# -- independence of the length of the run

RELATIVES = [
    (
        ["llama-3.1-8b", "qwen2.5-14b", "mistral-7b-v0.3"][i % 3],
        ["h100-sxm", "a100-sxm-80gb", "l40s"][i // 3 % 3],
        {"replicas": 1 + i % 2},
        int(np.random.default_rng(i).integers(50, 1500)),
        int(np.random.default_rng(i + 50).integers(30, 300)),
        Slo.of(**[{"ttft_ms_p90": 2000}, {"ttft_ms_p95": 1000, "tpot_ms_p95": 60}, {"e2e_ms_p90": 20_000}][i // 2 % 3]),
    )
    for i in range(9)
]
CAPACITIES = [
    ("meta-llama/Llama-2-70b-hf", "h100-sxm", {"tp": 4}, 217, 197, Slo.of(ttft_ms_p90=2000)),
    *RELATIVES[:3],
    *(pytest.param(*relative, marks=pytest.mark.slow) for relative in RELATIVES[3:]),
]


@pytest.mark.parametrize(("model", "device", "columns", "prompt", "output", "slo"), CAPACITIES)
def test_capacity_does_not_depend_on_the_number_replayed(model, device, columns, prompt, output, slo):
    """Two lengths give the same; with another seed, the intervals overlap, and they are a few per cent wide."""
    spec, row = perfmodel.model(model), deployment(device, **columns)
    work = load(2.0, prompt, output)
    counts = ((200, 0), (5000, 0), (0, 1))
    found = [simulator.capacity(spec, row, work, slo, count=count, seed=seed) for count, seed in counts]
    for one in found:
        assert one.low <= one.rate <= one.high
        assert one.high < 1.25 * one.low
        for other in found:
            assert other.low <= one.high
            assert one.low <= other.high
    assert found[0].rate == found[1].rate
    for rate, stable in ((0.9 * found[0].rate, True), (1.5 * found[0].rate, False)):
        beside = perfmodel.simulate(spec, row, replace(work, rate=rate), count=40_000)
        assert simulator.holds(beside, slo) == stable


def test_capacity_of_70b_on_four_h100_is_31():
    spec, row = perfmodel.model("meta-llama/Llama-2-70b-hf"), deployment("h100-sxm", tp=4)
    found = simulator.capacity(spec, row, load(20.0, 217, 197), Slo.of(ttft_ms_p90=2000), count=500)
    assert found.low < 31.5
    assert found.high > 30.0
    assert found.high < 1.1 * found.low


@pytest.mark.parametrize("share", [0.2, 0.5, 0.8])
def test_figures_do_not_depend_on_the_length_of_the_run(share):
    """Twice and four times as many requests: figures differ by no more than both intervals."""
    spec, row = perfmodel.model("llama-3.1-8b"), deployment()
    work = load(60 * share, 500, 100)
    short = perfmodel.simulate(spec, row, work, slo=SLO)
    assert not simulator.imprecise(short, SLO, simulator.PRECISION)
    figures = [simulator.summary(short, SLO)]
    for factor in (2, 4):
        figures.append(simulator.summary(perfmodel.simulate(spec, row, work, count=factor * len(short.traffic)), SLO))
    for name in ("request_rate_rps", "output_tok_s", "ttft_ms", "ttft_ms_p90", "tpot_ms_p90", "e2e_ms"):
        for longer in figures[1:]:
            apart = abs(figures[0][name] - longer[name])
            assert apart <= 1.5 * (figures[0][f"{name}_ci95"] + longer[f"{name}_ci95"]), name


def test_more_requests_are_run_until_the_figures_are_known():
    spec, row = perfmodel.model("llama-3.1-8b"), deployment()
    work = load(30.0, 500, 100)
    coarse, fine = (perfmodel.simulate(spec, row, work, precision=p) for p in (0.1, 0.01))
    assert len(coarse.traffic) < len(fine.traffic)
    assert len(perfmodel.simulate(spec, row, work, count=300).traffic) == 300
    with pytest.raises(InputError, match="precision is 2; give a share"):
        perfmodel.simulate(spec, row, work, precision=2)


# -- closed loops


LOOPS = [
    (
        ["llama-3.1-8b", "qwen3-30b-a3b"][i % 2],
        ["vllm", "sglang", "trtllm"][i % 3],
        [1, 4, 8, 16, 24][i % 5],
        [([800], [120]), ([128, 1000, 2500], [300, 150, 60])][i // 2 % 2],
    )
    for i in range(20)
]


@pytest.mark.parametrize(
    ("model", "engine", "users", "lengths"),
    [*LOOPS[:5], *(pytest.param(*loop, marks=pytest.mark.slow) for loop in LOOPS[5:])],
)
def test_figures_of_a_closed_loop_do_not_depend_on_the_number_asked_for(model, engine, users, lengths):
    """The opening burst is over before the window begins, so that all lengths of the run give the same."""
    spec, row = perfmodel.model(model), deployment("h100-sxm", tp=2)
    work = Workload(*lengths, arrival="closed", concurrency=users)
    figures = []
    for count in (0, 5 * users + 20, 70 * users):
        found = perfmodel.simulate(spec, row, work, engine=engine, count=count)
        seen = simulator.window(found)
        assert seen.steady
        assert found.warm_up.settled
        assert seen.begin >= np.max(found.finish[:users])  # the first request of every client has ended
        assert seen.end == np.max(found.issued)  # after which fewer than all clients have one in flight
        figures.append(simulator.summary(found))
    for name in ("request_rate_rps", "output_tok_s", "ttft_ms", "tpot_ms", "e2e_ms"):
        for one in figures:
            for other in figures:
                known = one[f"{name}_ci95"] + other[f"{name}_ci95"]
                assert abs(one[name] - other[name]) <= 1.5 * known + 0.01 * one[name], name


def test_a_stated_number_of_requests_is_a_finite_run_with_its_opening_burst():
    spec, row = perfmodel.model("llama-3.1-8b"), deployment()
    work = Workload([1000], [100], arrival="closed", concurrency=16)
    finite = perfmodel.simulate(spec, row, replace(work, n_requests=160))
    assert len(finite.traffic) == 160
    assert not simulator.window(finite).steady
    assert simulator.window(finite).counted.all()


@pytest.mark.parametrize(("model", "engine"), [("llama-3.1-8b", "vllm"), ("llama-3.1-70b", "sglang")])
def test_steady_closed_loops_are_those_of_the_closed_form_without_an_opening_burst(model, engine):
    """Mixed lengths and 8 clients: throughput and E2E within 5 %, TTFT within 20 % of requests_per_client = inf."""
    spec, row = perfmodel.model(model), deployment("h100-sxm", tp=4)
    work = Workload([128, 1000, 3000], [400, 200, 100], arrival="closed", concurrency=8)
    row_of = simulator.summary(perfmodel.simulate(spec, row, work, engine=engine))
    load = replace(load_of(work, 1, float("inf")), synchronised=np.zeros(1))
    own = estimate_load(spec, load, row, engine=perfmodel.engine(engine))
    assert float(own.output_rate[0]) == pytest.approx(row_of["output_tok_s"], rel=0.05)
    assert 1e3 * float(own.mean(own.e2e)[0]) == pytest.approx(row_of["e2e_ms"], rel=0.05)
    assert 1e3 * float(own.mean(own.ttft)[0]) == pytest.approx(row_of["ttft_ms"], rel=0.2)


def test_a_decline_that_lasts_as_long_as_the_run_is_seen():
    draw = np.random.default_rng(0)
    noise = draw.normal(0, 1, (200, 1000))
    assert np.mean([drifts(10 + one) for one in noise]) < 0.1
    assert all(drifts(10 + one - np.linspace(0, 3, 1000)) for one in noise)


def test_latencies_of_the_window_are_those_of_its_requests():
    found = served(drawn(5.0, 2000, output=30))
    seen = simulator.window(found)
    assert seen.steady
    assert 0 < seen.counted.sum() < 2000
    for metric, of in (("ttft", ttft), ("tpot", tpot), ("e2e", e2e)):
        assert simulator.latency(found, metric).p90 == np.quantile(of(found)[seen.counted], 0.9, method="inverted_cdf")
    assert simulator.margins(found, "ttft").p90 > 0


@pytest.mark.parametrize(
    ("more", "told"),
    [
        ({}, True),
        ({"isl_dist": "fixed"}, False),
        ({"isl_dist": "uniform:0.5-1.5"}, False),
        ({"concurrency": 1.0}, False),
        ({"input_tokens": [200, 800], "output_tokens": [20, 80], "share": [0.5, 0.5]}, False),
    ],
)
def test_clients_that_are_in_step_for_want_of_a_spread_are_told_of(more, told):
    asked = {"input_tokens": 500, "output_tokens": 40, "arrival": "closed", "concurrency": 8.0, **more}
    found = served(simulator.offered(Workload(**asked), count=100))
    assert any(note.startswith("clients in step") for note in found.notes) == told


@pytest.mark.parametrize("arrival", [{"arrival": "closed", "concurrency": 8.0}, {"arrival": "open", "rate": 1.0}])
def test_lengths_of_recorded_traffic_that_are_not_drawn_are_told_of(arrival):
    for spread in ("trace", "fixed", "uniform:0.5-1.5", ""):
        asked = Workload(input_tokens=500, output_tokens=40, isl_dist=spread, **arrival)
        notes = served(simulator.offered(asked, count=100)).notes
        assert any(note.startswith("equal lengths") for note in notes) == (spread == "trace")
        assert not (spread == "trace" and any(note.startswith("clients in step") for note in notes))
