"""The simulator's door: models on deployments, metrics by their definitions, files, capacity, and hostile input."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

import hwdb
import perfmodel
import perfmodel.engines.spec
from hwdb import Infeasible, InputError, UnknownName
from perfmodel import Objective, Slo, Workload, simulator
from perfmodel.costs.defaults import default
from perfmodel.estimates.estimator import prepare
from perfmodel.simulator import Link, Policy, Pool, StepTable, arrivals, latency, run, token_times, traffic
from perfmodel.simulator.build import _lengths, step_floor, step_time
from perfmodel.simulator.metrics import distribution, e2e, normalised, tpot, ttft
from perfmodel.workload.load import load_of
from perfmodel.workload.traces import Trace

TABLE = StepTable.affine(0.01, per_token=1e-5, per_seq=1e-4, per_context=1e-8, most_tokens=1 << 14, most_seqs=512)
TIGHT = Slo((Objective("ttft", "p99", 0.5), Objective("tpot", "mean", 0.05)))


def pool(policy=None, kv=50_000, **settings):
    return Pool(TABLE, policy or Policy(), kv_tokens=kv, **settings)


def steady(rate=4.0, count=400, prompt=500, output=50):
    return traffic(np.full(count, prompt), np.full(count, output), arrival=arrivals(rate, count, seed=1))


# -- models on deployments


def deployment(device="h100-sxm", **columns):
    return perfmodel.deployments([hwdb.device(device)], **columns)


@pytest.mark.parametrize(
    ("model", "device", "columns", "engine"),
    [
        ("llama-3.1-70b", "h100-sxm", {"tp": 4}, "vllm"),
        ("qwen3-30b-a3b", "a100-sxm-80gb", {"tp": 2}, "trtllm"),
        ("llama-3.1-8b", "rtx-4090", {}, "vllm-v0"),
    ],
)
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_step_tables_repeat_the_passes_they_are_made_of(model, device, columns, engine):
    """Random decode, prefill and mixed steps: within 1 % of the cost model on average, 3 % at the 95th percentile."""
    draw, count = np.random.default_rng(0), 1500
    requests = traffic(draw.integers(10, 4000, 100), draw.integers(1, 1000, 100), arrival=np.arange(100.0))
    chosen = perfmodel.engine(engine)
    spec, row = perfmodel.model(model), deployment(device, **columns)
    table = simulator.pool(spec, row, chosen, requests).table
    setup = prepare(spec, row, chosen, default(chosen), load_of(_lengths(requests), 1))
    kind = draw.integers(0, 3, count)
    prompt = np.where(kind == 0, 0, np.round(np.exp(draw.uniform(np.log(16), np.log(8192), count))))
    seqs = np.where(kind == 1, 0, np.round(np.exp(draw.uniform(0, np.log(100), count))))
    keys = np.where(prompt > 0, np.clip(draw.uniform(64, 4000, count), (prompt + 1) / 16, None), 0)
    context = np.where(seqs > 0, draw.uniform(200, 5000, count), 0)
    floors = step_floor(setup)(seqs)
    exact = np.maximum(step_time(setup)(prompt, keys, seqs, context), np.where(prompt > 0, floors[1], floors[0]))
    error = np.abs(table.time(prompt, keys, seqs, context) / exact - 1)
    assert error.mean() < 0.01
    assert np.quantile(error, 0.95) < 0.03


def test_a_quiet_replica_repeats_the_closed_form():
    """One stream: TTFT is one prefill and the front end, TPOT a decode step at batch 1, as `estimate` has them."""
    spec, row = perfmodel.model("llama-3.1-8b"), deployment()
    work = Workload(input_tokens=[1024], output_tokens=[128], arrival="single")
    simulation = perfmodel.simulate(spec, row, work, count=20)
    estimates = perfmodel.estimate(spec, work, row)
    assert np.mean(tpot(simulation)) == pytest.approx(float(estimates.tpot[0, 0]), rel=0.03)
    assert np.mean(ttft(simulation)) == pytest.approx(float(estimates.ttft[0, 0]), rel=0.1)


def test_replicas_share_what_one_would_carry_alone():
    spec = perfmodel.model("llama-3.1-8b")
    work = Workload(input_tokens=[1000], output_tokens=[100], rate=4.0, arrival="open")
    alone = perfmodel.simulate(spec, deployment(), work, count=300)
    shared = perfmodel.simulate(spec, deployment(replicas=2), work, count=300)
    assert set(np.unique(shared.replica)) == {0, 1}
    assert np.mean(ttft(shared)) <= np.mean(ttft(alone))


@pytest.mark.parametrize("engine", perfmodel.engines.catalogue.names())
def test_every_engine_serves_all_it_is_asked(engine):
    """Historic and living ones, on a card small enough that memory counts; two users wait less than forty."""
    spec, row = perfmodel.model("llama-3.1-8b"), deployment("rtx-4090")
    draw = np.random.default_rng(0)
    columns = draw.integers(50, 1500, 120), draw.integers(5, 200, 120)
    few, many = (perfmodel.simulate(spec, row, traffic(*columns, concurrency=n), engine=engine) for n in (2, 40))
    for found in (few, many):
        np.testing.assert_array_equal(found.emitted, columns[1])
        assert found.runs["used"].max() * found.pools[0].policy.kv_block <= found.pools[0].kv_tokens
    assert np.mean(ttft(few)) < np.mean(ttft(many))
    assert many.duration < 1.02 * few.duration


@pytest.mark.parametrize("device", ["xeon-8480", "ascend-910b2", "mi300x", "tpu-v6e", "m2-ultra"])
def test_any_device_can_be_simulated(device):
    names = [d.name for d in hwdb.devices()]
    name = device if device in names else hwdb.nearest(device, names)[0]
    work = Workload(input_tokens=[300], output_tokens=[30], concurrency=4.0, arrival="closed")
    found = perfmodel.simulate(perfmodel.model("qwen2.5-1.5b"), deployment(name), work)
    assert np.isfinite(found.finish).all()


def test_disaggregated_pools_from_two_deployments():
    spec = perfmodel.model("llama-3.1-8b")
    work = Workload(input_tokens=[2000], output_tokens=[50], rate=2.0, arrival="open")
    simulation = perfmodel.simulate(spec, deployment(), work, prefill=deployment(replicas=2), count=200)
    assert [p.role for p in simulation.pools] == ["prefill", "decode"]
    assert set(np.unique(simulation.prefiller)) == {0, 1}
    assert set(np.unique(simulation.replica)) == {2}
    # 128 KiB a token of Llama-3.1-8B in 16 bit: 2 x 32 layers x 8 heads x 128 values x 2 bytes
    assert simulation.pools[0].kv_bytes == pytest.approx(131_072)


def test_kinds_of_arrival_become_their_traffic():
    lengths = {"input_tokens": [100], "output_tokens": [10]}
    closed = simulator.offered(Workload(**lengths, arrival="closed", concurrency=8))
    assert (closed.concurrency, len(closed)) == (8, 80)
    assert len(simulator.offered(Workload(**lengths, arrival="offline", n_requests=50))) == 50
    together = simulator.offered(Workload(**lengths, arrival="static", concurrency=16))
    assert (len(together), together.arrival.max()) == (16, 0.0)
    opened = simulator.offered(Workload(**lengths, rate=5.0, arrival="open"), count=4000)
    assert opened.rate == pytest.approx(5.0, rel=0.05)
    even = simulator.offered(Workload(**lengths, rate=5.0, arrival="open", cv=0.0), count=50)
    np.testing.assert_allclose(np.diff(even.arrival), 0.2)
    hits = simulator.offered(Workload(**lengths, rate=5.0, arrival="open", prefix_hit=[0.5]), count=50)
    cached = run(hits, pool(Policy(prefix_cache=True))).cached
    assert np.all(cached[5:] == 48)  # 50 tokens in whole hashes of 16


def test_a_trace_with_hashes_uses_them():
    trace = Trace(
        arrival=np.array([0.0, 5.0]),
        input=np.array([1030, 1030]),
        output=np.array([4, 4]),
        blocks=np.array([7, 8, 7, 9]),
        offsets=np.array([0, 2, 4]),
        block_tokens=512,
    )
    assert run(simulator.offered(trace), pool(Policy(prefix_cache=True))).cached.tolist() == [0, 512]


def test_progress_rises_to_all_requests():
    told: list[tuple[float, float]] = []
    run(steady(count=50), pool(), progress=lambda done, total: told.append((done, total)))
    assert told[0] == (0, 50)
    assert told[-1] == (50, 50)


def test_importing_the_package_leaves_numba_alone():
    code = "import sys, perfmodel.simulator; assert 'numba' not in sys.modules and 'pandas' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_changed_source_is_another_entry_of_the_compiled_cache(monkeypatch, tmp_path):
    """numba looks at one file only; the fingerprint covers all sources of the loop."""
    from perfmodel.simulator.kernel import compiled

    before = compiled.fingerprint()
    for name in compiled.SOURCES:
        (tmp_path / f"{name}.py").write_text("changed")
    monkeypatch.setattr(compiled, "__file__", str(tmp_path / "compiled.py"))
    assert compiled.fingerprint() != before


def test_without_a_place_for_its_cache_the_loop_is_compiled_all_the_same(monkeypatch):
    import numba

    from perfmodel.simulator.kernel import jit

    plain = numba.njit

    def homeless(*arguments, **options):
        if options.pop("cache", False):
            raise RuntimeError("cannot cache function: no locator available")
        return plain(*arguments, **options)

    monkeypatch.setattr(jit.numba, "njit", homeless)
    assert jit.outer(lambda x: x + 1)(2) == 3


# -- metrics


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
        kind=kinds,
        classes=("short", "long"),
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
    assert row["request_rate"] == pytest.approx(2.0, rel=0.02)
    assert row["output_tok_s"] == pytest.approx(40.0, rel=0.02)


def test_rates_count_every_token_and_leave_out_filling_and_draining():
    """A closed loop over all its time; an open one in its steady part, where what comes out is what goes in."""
    closed = run(traffic([100] * 50, [20] * 50, concurrency=5), pool(Policy(prefill_first=True), kv=600))
    assert closed.preempted.sum() > 0
    row = simulator.summary(closed)
    assert row["output_tok_s"] == pytest.approx(1000 / closed.duration)
    assert row["request_rate"] == pytest.approx(50 / closed.duration)
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


# -- capacity


def test_capacity_is_where_the_objectives_break():
    spec, row = perfmodel.model("llama-3.1-8b"), deployment()
    work = Workload(input_tokens=[1000], output_tokens=[100], rate=1.0, arrival="open")
    found = simulator.capacity(spec, row, work, TIGHT, count=600)
    assert simulator.holds(found.simulation, TIGHT)
    beyond = simulator.offered(work, count=600).scaled(found.rate * 1.1)
    worse = run(beyond, found.simulation.pools, router="join_shortest_queue")
    assert not simulator.holds(worse, TIGHT)
    assert found.per_replica == found.rate
    assert all(held == (rate <= found.rate) for rate, held in found.probes)


def test_capacity_says_when_no_rate_will_do():
    spec, work = perfmodel.model("llama-3.1-8b"), Workload([1000], [100], rate=1.0, arrival="open")
    with pytest.raises(Infeasible, match=r"TTFT p99 is .* ms, not 1 ms; relax"):
        simulator.capacity(spec, deployment(), work, Slo((Objective("ttft", "p99", 0.001),)), count=100)
    closed = Workload([1000], [100], concurrency=4.0, arrival="closed")
    with pytest.raises(InputError, match="do not come at a rate"):
        simulator.capacity(spec, deployment(), closed, TIGHT)


# -- hostile input


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"input_tokens": [], "output_tokens": []}, "no requests"),
        ({"input_tokens": [5, -1], "output_tokens": 3}, "row 2: input_tokens is -1"),
        ({"input_tokens": [5, 5], "output_tokens": [1, 0]}, "row 2: output_tokens is 0"),
        ({"input_tokens": [5.0, np.nan], "output_tokens": 3}, "row 2: input_tokens is nan"),
        ({"input_tokens": [5, 5], "output_tokens": 3, "arrival": [2.0, 1.0]}, "row 2: arrives at 1 s, before"),
        ({"input_tokens": [5], "output_tokens": 3, "arrival": [-1.0]}, "row 1: arrival is -1 s"),
        ({"input_tokens": [5, 5], "output_tokens": 3, "arrival": [0.0, np.inf]}, "row 2: arrival is inf"),
        ({"input_tokens": [5, 5], "output_tokens": 3, "arrival": [0.0]}, "arrival has 1 rows, other columns 2"),
        ({"input_tokens": [5], "output_tokens": [3, 3]}, ""),
        ({"input_tokens": [5], "output_tokens": 3, "concurrency": -2}, "concurrency -2"),
        ({"input_tokens": [5], "output_tokens": 3, "kind": [4]}, "class index is outside 0 to 0"),
        ({"input_tokens": [64], "output_tokens": 3, "prefixes": ([0, 5], [1, 2]), "hash_tokens": 16}, "offsets"),
        ({"input_tokens": [64], "output_tokens": 3, "prefixes": ([0, 2], [1, 2])}, "need `hash_tokens`"),
    ],
)
def test_malformed_traffic_is_named(columns, message):
    if not message:
        assert len(traffic(**columns)) == 2  # a single length holds for all
        return
    with pytest.raises(InputError, match=message):
        traffic(**columns)


def test_prompts_beyond_memory_are_rejected_by_name_and_the_rest_served():
    requests = traffic([100, 10_000_000, 200], [10, 10, 10], arrival=[0.0, 0.1, 0.2])
    simulation = run(requests, pool())
    assert simulation.rejected.tolist() == [False, True, False]
    assert simulation.emitted.tolist() == [10, 0, 10]
    assert "row 2: it needs 10,000,009 tokens of KV and a replica of pool holds 50,000" in simulation.notes[0]
    assert not simulator.holds(simulation, Slo(()))
    with pytest.raises(InputError, match="none of 1 requests can be served: it needs 10,000,009 tokens"):
        run(requests.take(2).scaled(1.0).__class__(**vars(traffic([10_000_000], [10]))), pool())


def test_a_rate_beyond_capacity_ends_and_is_explained():
    simulation = run(steady(rate=1e6, count=5000), pool(Policy(max_num_seqs=8)))
    assert simulation.served.all()
    assert any(n.startswith("beyond capacity: 1e+06 requests/s offered") for n in simulation.notes)
    assert "lower the rate or add replicas" in simulation.notes[-1]
    assert run(steady(rate=1.0), pool()).notes == ()


@pytest.mark.parametrize(
    ("pools", "router", "error", "message"),
    [
        (lambda: pool(), "shortest", UnknownName, "unknown router 'shortest'; did you mean"),
        (list, "random", InputError, "at least one of each"),
        (lambda: pool(role="decode"), "random", InputError, "be `prefill` and `decode` pools"),
        (lambda: [pool(role="prefill"), pool(role="decode")], "random", InputError, "give `link`"),
        (lambda: pool(replicas=0), "random", InputError, "0 replicas; give at least 1"),
        (lambda: pool(kv=3), "random", InputError, "no room for KV"),
        (lambda: pool(Policy(max_num_seqs=0)), "random", InputError, "must be 1 or more"),
        (lambda: pool(Policy(batching="static"), role="decode"), "random", InputError, "cannot be disaggregated"),
        (lambda: pool(Policy(preemption="swap")), "random", InputError, "give swap_bandwidth"),
        (lambda: pool(link=Link(1e9)), "random", InputError, "give kv_bytes"),
        (lambda: pool(Policy(admission="contiguous")), "random", InputError, "give max_model_len"),
        (lambda: [pool(), pool(Policy(admission="reserve"))], "random", InputError, "share their KV admission"),
    ],
)
def test_pools_that_mean_nothing_are_refused(pools, router, error, message):
    with pytest.raises(error, match=message):
        run(steady(count=5), pools(), router=router)


def test_prefix_hashes_must_be_whole_blocks_and_few_enough():
    ragged = traffic([64], [3], prefixes=([0, 2], [1, 2]), hash_tokens=24)
    with pytest.raises(InputError, match="set kv_block to a divisor of 24"):
        run(ragged, pool(Policy(prefix_cache=True, kv_block=16)))
    many = traffic([16] * 3, [3] * 3, prefixes=([0, 1, 2, 3], [1, 2, 3]), hash_tokens=16)
    wide = replace(many, hashes=np.array([0, 1, 50_000_000]))
    with pytest.raises(InputError, match="too many to track"):
        run(wide, pool(Policy(prefix_cache=True), replicas=8))


def test_what_does_not_fit_says_why():
    requests = steady(count=5)
    with pytest.raises(InputError, match=r"70B on h100-sxm: weights .* GB"):
        simulator.pool(perfmodel.model("llama-3.1-70b"), deployment(), perfmodel.engine("vllm"), requests)
    with pytest.raises(InputError, match="2 deployments given"):
        simulator.pool(perfmodel.model("llama-3.1-8b"), deployment(tp=[1, 2]), perfmodel.engine("vllm"), requests)


def nan_time(prompt, keys, seqs, context):
    return np.full(np.broadcast_shapes(*(np.shape(a) for a in (prompt, keys, seqs, context))), np.nan)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: StepTable.build(nan_time, most_tokens=64, most_seqs=8, most_context=64), "step times are unknown"),
        (lambda: traffic([5], [5]).scaled(1.0), "cannot set a rate of 1/s; give two arrivals or more"),
        (lambda: arrivals(1.0, 5, seed=-1), "seed is -1; give a whole number of 0 or more"),
        (lambda: arrivals(0.0, 5, seed=0), "rate is 0 requests/s; give one above 0"),
        (lambda: simulator.offered(Workload([5], [5], arrival="closed")), "concurrency is left open"),
        (lambda: simulator.occupancy(run(steady(count=5), pool()), 0), "points is 0; give at least 1"),
        (lambda: simulator.latency(run(steady(count=5), pool()), "speed"), "unknown latency 'speed'"),
        (lambda: distribution(np.ones(3)).at("p42"), "unknown statistic 'p42'"),
    ],
)
def test_every_other_refusal_says_what_to_do(call, message):
    with pytest.raises(InputError, match=message):
        call()


def test_a_prefill_pool_needs_a_known_network():
    spec, requests = perfmodel.model("llama-3.1-8b"), steady(count=5)
    alone = next(d for d in hwdb.devices() if not d.net.bandwidth > 0 and d.memory > 30e9)
    with pytest.raises(InputError, match="its network is unknown, and KV has to cross it"):
        simulator.pool(spec, deployment(alone.name), perfmodel.engine("vllm"), requests, role="prefill")


def test_parquet_without_pyarrow_names_the_extra(monkeypatch, tmp_path):
    simulation = run(steady(count=5), pool())

    def absent(*arguments, **options):
        raise ImportError("pyarrow")

    monkeypatch.setattr(pd.DataFrame, "to_parquet", absent)
    with pytest.raises(InputError, match=r"Parquet needs pyarrow; install perfmodel\[parquet\]"):
        simulator.write_requests(simulation, tmp_path / "log.parquet")
    with pytest.raises(InputError, match="no such folder"):
        simulator.write_trace(simulation, tmp_path / "absent" / "trace.json")
