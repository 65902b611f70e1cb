"""Metrics of the simulator by their definitions, and its output files."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
from simulator_service import pool, steady

from hwdb import InputError
from perfmodel import Objective, Slo, simulator
from perfmodel.simulator import Policy, RequestClasses, latency, run, token_times, traffic
from perfmodel.simulator.measurement.metrics import distribution, e2e, normalised, tpot, ttft


def test_percentiles_are_those_of_the_repeated_values():
    draw = np.random.default_rng(0)
    values, weights = draw.exponential(1, 200), draw.integers(0, 5, 200).astype(float)
    repeated = np.sort(np.repeat(values, weights.astype(int)))
    found = distribution(values, weights)
    assert found.mean == pytest.approx(repeated.mean())
    for name, share in (("p50", 0.5), ("p90", 0.9), ("p95", 0.95), ("p99", 0.99)):
        assert found.at(name) == np.quantile(repeated, share, method="inverted_cdf")
    assert np.isnan(distribution(np.array([np.nan])).mean)


def test_latencies_follow_from_token_times():
    simulation = run(steady(20.0, 60), pool(Policy(prefill_first=True)))
    for r in (0, 30, 59):
        times = token_times(simulation, r)
        assert len(times) == 50
        assert ttft(simulation)[r] == times[0] - simulation.issued[r]
        assert e2e(simulation)[r] == pytest.approx(times[-1] - simulation.issued[r], rel=1e-12)
        assert tpot(simulation)[r] == pytest.approx((times[-1] - times[0]) / 49)
    assert np.all(normalised(simulation) == e2e(simulation) / 50)
    between = np.concatenate([np.diff(token_times(simulation, r)) for r in range(60)])
    assert latency(simulation, "itl").mean == pytest.approx(between.mean(), rel=1e-9)
    assert latency(simulation, "itl").p99 == pytest.approx(np.quantile(between, 0.99, method="inverted_cdf"), rel=1e-3)


def fluidity(times, first, token):
    """Metron's algorithm 1 (arXiv:2407.07000), on the times of one request's tokens from its arrival."""
    met = missed = slack = 0.0
    for i, gap in enumerate(np.diff(times, prepend=0.0)):
        due = first if i == 0 else token
        if gap <= due + slack:
            slack += due - gap
            met += 1
        else:
            missed += (gap - slack - due) // token + 1
            slack = 0.0
    return met / (met + missed)


def quality(times, first, token):
    """Andes' QoE (arXiv:2404.16283) by integrating both curves numerically."""
    digested = [times[0]]
    for t in times[1:]:
        digested.append(max(t, digested[-1] + token))
    grid = np.linspace(0, digested[-1] + token, 200_001)
    actual = np.searchsorted(digested, grid, side="right")
    expected = np.clip(np.floor((grid - first) / token) + 1, 0, len(times))
    return min(1.0, actual.sum() / expected.sum()) if expected.sum() else 1.0


@pytest.mark.parametrize(("first", "token"), [(0.05, 0.012), (0.3, 0.02), (5.0, 1.0)])
def test_fluidity_and_quality_are_as_published(first, token):
    simulation = run(steady(25.0, 40, prompt=2000), pool(Policy(prefill_first=True), kv=30_000))
    seen = simulator.experience(simulation, ttft=first, tpot=token)
    for r in (0, 7, 21, 39):
        times = token_times(simulation, r) - simulation.issued[r]
        assert seen.fluidity[r] == pytest.approx(fluidity(times, first, token), abs=1e-9)
        assert seen.quality[r] == pytest.approx(quality(times, first, token), rel=2e-3)
        assert seen.longest[r] == pytest.approx(np.diff(times).max(), rel=1e-9)


def test_attainment_goodput_and_classes_count_requests():
    kinds = np.arange(100) % 2
    requests = traffic(
        np.where(kinds == 0, 50, 4000),
        np.full(100, 20),
        arrival=np.arange(100) * 0.5,
        classes=RequestClasses(("short", "long"), kinds),
    )
    simulation = run(requests, pool())
    slo = Slo((Objective("ttft", "p90", 0.03), Objective("itl", "p99", 0.5)))
    assert simulator.attainment(simulation, slo) == {"short": 1.0, "long": 0.0}
    assert simulator.goodput(simulation, slo) == pytest.approx(50 / simulation.duration)
    assert not simulator.holds(simulation, slo)
    assert simulator.holds(simulation, Slo((Objective("ttft", "p50", 0.03),)))
    row = simulator.summary(simulation, Slo((Objective("ttft", "p90", 0.03), Objective("tpot", "p99", 0.02))))
    assert row["slo_attainment"] == pytest.approx(0.5)
    assert 0 < row["fluidity_index"] <= 1
    assert row["request_rate_rps"] == pytest.approx(2.0, rel=0.02)
    assert row["output_tok_s"] == pytest.approx(40.0, rel=0.02)


def test_rates_count_every_token_and_leave_out_filling_and_draining():
    """A closed loop over all its time; an open one in its steady part, where what comes out is what goes in."""
    closed = run(traffic([100] * 50, [20] * 50, concurrency=5), pool(Policy(prefill_first=True), kv=600))
    assert closed.preempted.sum() > 0
    row = simulator.summary(closed)
    assert row["output_tok_s"] == pytest.approx(1000 / closed.duration)
    assert row["request_rate_rps"] == pytest.approx(50 / closed.duration)
    assert row["input_tok_s"] == pytest.approx(5000 / closed.duration)
    steady_row = simulator.summary(run(steady(rate=5.0, count=3000, output=100), pool()))
    assert steady_row["output_tok_s"] == pytest.approx(500, rel=0.03)
    assert steady_row["input_tok_s"] == pytest.approx(2500, rel=0.03)


def test_occupancy_follows_the_queue():
    """All at once on two slots: the queue empties two by two, and KV holds two sequences."""
    simulation = run(traffic([100] * 10, [50] * 10), pool(Policy(max_num_seqs=2, kv_block=1), kv=1000))
    seen = simulator.occupancy(simulation, 400)
    assert seen["running"].max() == 2
    assert seen["waiting"][0] == 8
    assert seen["waiting"][-1] == 0
    assert np.all(np.diff(seen["waiting"]) <= 0)
    assert 0.2 < seen["kv_share"].mean() < 0.3


# -- files


def test_the_request_log_goes_to_csv_and_parquet(tmp_path):
    simulation = run(steady(count=30), pool())
    for name, read in (("log.csv", pd.read_csv), ("log.parquet", pd.read_parquet)):
        simulator.write_requests(simulation, tmp_path / name)
        table = read(tmp_path / name)
        assert len(table) == 30
        np.testing.assert_allclose(table["ttft_ms"], 1e3 * ttft(simulation))
        assert {"arrival_s", "e2e_ms", "preemptions", "replica"} <= set(table.columns)
    with pytest.raises(InputError, match="no such folder"):
        simulator.write_requests(simulation, tmp_path / "absent" / "log.csv")


def test_the_trace_opens_in_perfetto(tmp_path):
    """Trace Event Format: complete events that follow one another, balanced begins and ends, one process a replica."""
    simulation = run(steady(count=30), pool(replicas=2))
    simulator.write_trace(simulation, tmp_path / "trace.json")
    events = json.loads((tmp_path / "trace.json").read_text())["traceEvents"]
    steps = [e for e in events if e["ph"] == "X"]
    assert {e["pid"] for e in events} == {0, 1}
    assert len(steps) == len(simulation.runs)
    ends = [e["ts"] + e["dur"] for e in steps if e["pid"] == 0]
    starts = [e["ts"] for e in steps if e["pid"] == 0]
    assert all(b >= a - 1e-3 for a, b in zip(ends[:-1], starts[1:], strict=True))
    assert sum(e["ph"] == "b" for e in events) == sum(e["ph"] == "e" for e in events) == 90
    assert len(simulator.trace_events(simulation, most=120)) <= 122
