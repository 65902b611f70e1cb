"""Input that the simulator must refuse, and what its messages say."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from simulator_service import deployment, pool, steady

import hwdb
import perfmodel
import perfmodel.engines.spec
from hwdb import InputError, UnknownName
from perfmodel import Objective, Slo, Workload, simulator
from perfmodel.deployment import HandOver
from perfmodel.simulator import Link, Policy, Prefixes, RequestClasses, StepTable, arrivals, run, traffic
from perfmodel.simulator.measurement.metrics import distribution
from perfmodel.simulator.request_traffic.requests import from_workload

TIGHT = Slo((Objective("ttft", "p99", 0.5), Objective("tpot", "mean", 0.05)))


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
        (
            {"input_tokens": [5], "output_tokens": 3, "classes": RequestClasses(("all",), [4])},
            "class index is outside 0 to 0",
        ),
        ({"input_tokens": [64], "output_tokens": 3, "prefixes": Prefixes([0, 5], [1, 2], 16)}, "offsets"),
        ({"input_tokens": [64], "output_tokens": 3, "prefixes": Prefixes([0, 2], [1, 2], 0)}, "stands for 0 tokens"),
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
        run(traffic([10_000_000], [10]), pool())


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
        (lambda: pool(kv=3), "random", InputError, "holds 3 tokens, not one block"),
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
    ragged = traffic([64], [3], prefixes=Prefixes([0, 2], [1, 2], 24))
    with pytest.raises(InputError, match="set kv_block to a divisor of 24"):
        run(ragged, pool(Policy(prefix_cache=True, kv_block=16)))
    many = traffic([16] * 3, [3] * 3, prefixes=Prefixes([0, 1, 2, 3], [1, 2, 3], 16))
    wide = replace(many, prefixes=replace(many.prefixes, hashes=np.array([0, 1, 50_000_000])))
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


def test_pools_need_a_known_link():
    spec, requests = perfmodel.model("llama-3.1-8b"), steady(count=5)
    alone = next(d for d in hwdb.devices() if not d.net.bandwidth > 0 and d.memory > 30e9)
    front = deployment(alone.name)
    back = replace(front, hand_over=HandOver(place="network"))
    assert simulator.pool(spec, front, perfmodel.engine("vllm"), requests, role="prefill").link is None
    with pytest.raises(InputError, match="is unknown, and KV has to cross it; state kv_link_gbs in"):
        simulator.simulate(spec, back, requests, prefill=front)
    stated = replace(back, hand_over=HandOver(bandwidth=1e9))
    assert simulator.simulate(spec, stated, requests, prefill=front).served.all()


def test_parquet_without_pyarrow_names_the_extra(monkeypatch, tmp_path):
    simulation = run(steady(count=5), pool())

    def absent(*arguments, **options):
        raise ImportError("pyarrow")

    monkeypatch.setattr(pd.DataFrame, "to_parquet", absent)
    with pytest.raises(InputError, match=r"Parquet needs pyarrow; install perfmodel\[parquet\]"):
        simulator.write_requests(simulation, tmp_path / "log.parquet")
    with pytest.raises(InputError, match="no such folder"):
        simulator.write_trace(simulation, tmp_path / "absent" / "trace.json")


def test_uniform_lengths_are_drawn_around_the_mean_of_their_class() -> None:
    asked = Workload([1000], [200], concurrency=4, isl_dist="uniform:0.5-1.0")
    drawn = from_workload(asked, count=4000, seed=3)
    for tokens, mean in ((drawn.input_tokens, 1000.0), (drawn.output_tokens, 200.0)):
        assert np.mean(tokens) == pytest.approx(mean, rel=0.02)
        assert tokens.min() >= mean * 0.5 / 0.75 - 1
        assert tokens.max() <= mean / 0.75 + 1
