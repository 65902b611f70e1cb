"""Models on deployments in the simulator: step tables, engines, pools, kinds of traffic, capacity."""

from __future__ import annotations

import dataclasses
import subprocess
import sys

import numpy as np
import pytest
from simulator_service import deployment, pool, steady

import hwdb
import perfmodel
import perfmodel.engines.spec
from hwdb import Infeasible, InputError
from perfmodel import Objective, Slo, Workload, simulator
from perfmodel.costs.cost_model_choice.defaults import default
from perfmodel.deployment import HandOver
from perfmodel.estimates.estimation.estimator import prepare
from perfmodel.hardware import Host
from perfmodel.simulator import Policy, run, traffic
from perfmodel.simulator.measurement.metrics import tpot, ttft
from perfmodel.simulator.replica_pools.build import UNKNOWN_HOST_LINK, representative_workload, step_floor, step_time
from perfmodel.workload.load import load_of
from perfmodel.workload.traces import Trace

TIGHT = Slo((Objective("ttft", "p99", 0.5), Objective("tpot", "mean", 0.05)))


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
    setup = prepare(spec, row, chosen, default(chosen), load_of(representative_workload(requests), 1))
    kind = draw.integers(0, 3, count)
    prompt = np.where(kind == 0, 0, np.round(np.exp(draw.uniform(np.log(16), np.log(8192), count))))
    seqs = np.where(kind == 1, 0, np.round(np.exp(draw.uniform(0, np.log(100), count))))
    keys = np.where(prompt > 0, np.clip(draw.uniform(64, 4000, count), (prompt + 1) / 16, None), 0)
    context = np.where(seqs > 0, draw.uniform(200, 5000, count), 0)
    floor = step_floor(setup)
    decodes, mixed = floor.seqs(seqs)
    least = np.where(prompt > 0, mixed + floor.crowd(prompt, keys), decodes)
    exact = np.maximum(step_time(setup)(prompt, keys, seqs, context), least)
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


@pytest.mark.parametrize(("version", "cut"), [("0.11.0", True), ("0.14.0", False)])
def test_pages_that_are_cut_by_heads_cross_slowly_in_the_simulator_too(version, cut):
    spec, work = perfmodel.model("llama-3.1-8b"), Workload.from_lengths(4000, 10, rate=0.1)
    pools = {"prefill": deployment(), "engine": perfmodel.engine("vllm", version), "count": 5}
    front = perfmodel.simulate(spec, deployment(tp=2), work, **pools).pools[0]
    took = 4000 * front.kv_bytes / front.link.bandwidth
    assert (took == pytest.approx(4000 * 131_072 / 2.7e9)) == cut


def test_a_slow_link_between_pools_delays_as_in_the_closed_form():
    spec, work = perfmodel.model("llama-3.1-8b"), Workload.from_lengths(2000, 50, rate=4.0)
    back = dataclasses.replace(deployment(), hand_over=HandOver(bandwidth=2e9))  # 0.13 s a request, busy half the time
    found = perfmodel.simulate(spec, back, work, prefill=deployment(), count=1000)
    told = perfmodel.estimate_disaggregated(spec, work, deployment(), back, prefill_workers=1, decode_workers=1)
    assert np.mean(ttft(found)) == pytest.approx(float(told.ttft[0, 0]), rel=0.1)


@pytest.mark.parametrize(
    ("device", "host", "expected"),
    [
        ("h100-sxm", Host(), 0.85 * 63e9),  # PCIe 5.0 x16 of the device's entry
        ("h100-sxm", Host(link=375e9), 375e9),  # what the deployment states wins
        ("m2-ultra", Host(), UNKNOWN_HOST_LINK),  # unified memory: the database states no host link
    ],
)
def test_swapped_kv_crosses_the_host_link_of_the_device(device, host, expected):
    spec, swap = perfmodel.model("llama-3.1-8b"), Policy(preemption="swap")
    found = simulator.pool(spec, deployment(device, host=host), perfmodel.engine("vllm"), steady(count=5), policy=swap)
    assert found.swap_bandwidth == pytest.approx(expected)


def test_options_of_simulate_are_the_fields_of_replay():
    """Keyword arguments that type checkers know of, and the class that gives their meanings and defaults."""
    fields = {f.name: f.type for f in dataclasses.fields(simulator.Replay)}
    assert simulator.ReplayOptions.__annotations__.keys() == fields.keys()
    spec, work = perfmodel.model("llama-3.1-8b"), Workload([100], [10], rate=1.0, arrival="open")
    with pytest.raises(TypeError, match="unexpected keyword argument 'sede'"):
        perfmodel.simulate(spec, deployment(), work, sede=3)
    with pytest.raises(InputError, match="count is -1; give a whole number"):
        perfmodel.simulate(spec, deployment(), work, count=-1)


def test_kinds_of_arrival_become_their_traffic():
    lengths = {"input_tokens": [100], "output_tokens": [10]}
    closed = simulator.offered(Workload(**lengths, arrival="closed", concurrency=8))
    assert (closed.concurrency, len(closed)) == (8, 320)  # 40 rounds
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


@pytest.mark.parametrize("name", ["vllm-v0", "trtllm", "mindie", "vllm"])
def test_prefix_hits_that_a_workload_states_are_hits_under_any_engine(name):
    spec = perfmodel.model("llama-3.1-8b")
    work = Workload(input_tokens=[1024], output_tokens=[10], rate=5.0, arrival="open", prefix_hit=[0.5])
    found = perfmodel.simulate(spec, deployment(), work, engine=name, count=60)
    assert np.all(found.cached[20:] == 512)  # whole KV blocks, whatever their size
    unstated = dataclasses.replace(work, prefix_hit=np.zeros(1))
    assert not perfmodel.simulate(spec, deployment(), unstated, engine=name, count=60).cached.any()


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


def adder(fingerprint):
    def add(x):
        return x + 1 + 0 * fingerprint

    return add


def test_without_a_place_for_its_cache_the_loop_is_compiled_all_the_same():
    from perfmodel.simulator.kernel import jit

    assert jit.outer(adder, 7, {"__name__": __name__}, None)(2) == 3


# -- capacity


def test_capacity_is_where_the_objectives_break():
    spec, row = perfmodel.model("llama-3.1-8b"), deployment()
    work = Workload(input_tokens=[1000], output_tokens=[100], rate=1.0, arrival="open")
    found = simulator.capacity(spec, row, work, TIGHT, count=600)
    assert simulator.holds(found.simulation, TIGHT)
    beyond = simulator.offered(work, count=len(found.simulation.traffic)).scaled(found.rate * 1.1)
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
