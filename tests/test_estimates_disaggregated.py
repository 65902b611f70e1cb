"""Pools of prompt and answer workers: Little's law, limits, hand-over of the cache, and scaling of both pools."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import hwdb
from hwdb import InputError
from perfmodel.costs import Roofline
from perfmodel.deployment.columns import Deployments, deployments
from perfmodel.deployment.hand_over import HandOver
from perfmodel.engines import Engine
from perfmodel.engines.catalogue import engine
from perfmodel.estimates.disaggregation.disaggregated import estimate_disaggregated, estimate_pools
from perfmodel.estimates.disaggregation.kv_transfer import (
    HAND_OVER,
    HAND_OVER_IN_NODE,
    NETWORK_SHARE,
    PORT_MOST,
    Transfer,
    cut_bandwidth,
    transfer,
)
from perfmodel.estimates.disaggregation.pool_runs import share_met
from perfmodel.estimates.estimates import Estimates
from perfmodel.estimates.estimation.estimator import estimate, prepare
from perfmodel.hardware import device_efficiency, hardware_of
from perfmodel.models import ModelSpec, model
from perfmodel.power import ready_power
from perfmodel.workload.load import load_of
from perfmodel.workload.workload import Workload

H100 = hwdb.device("h100-sxm")
LLAMA = model("llama-3.1-70b")
lengths = Workload.from_lengths


def pool(device: hwdb.Device = H100, *, hand_over: HandOver | None = None, **columns: object) -> Deployments:
    return deployments([device], hand_over=hand_over, **columns)


def pair(
    workload: Workload, first: float = 2.0, second: float = 1.0, *, spec: ModelSpec = LLAMA, **columns: object
) -> Estimates:
    front, back = pool(tp=4, **columns), pool(tp=4, **columns)
    workers = {"prefill_workers": np.array([first]), "decode_workers": np.array([second])}
    return estimate_disaggregated(spec, workload, front, back, costs=Roofline(), **workers)


def one(values: np.ndarray) -> float:
    return float(np.ravel(values)[0])


def fabric(device: hwdb.Device) -> float:
    return device.link.bandwidth * device_efficiency(device).link


def network(device: hwdb.Device) -> float:
    return min(NETWORK_SHARE * device.net.bandwidth, PORT_MOST)


# -------------------------------------------------------------------------------- conservation


@pytest.mark.parametrize(("first", "second"), [(1, 1), (2, 1), (1, 3), (4, 4)])
@pytest.mark.parametrize("concurrency", [1, 16, 200, 5000])
def test_requests_in_flight_are_the_clients(first: int, second: int, concurrency: int) -> None:
    found = pair(lengths([4000, 500], [100, 400], share=[0.4, 0.6], concurrency=concurrency), first, second)
    assert one(found.request_rate * found.mean(found.e2e)) == pytest.approx(concurrency, rel=1e-6)


@pytest.mark.parametrize("share", [0.1, 0.5, 0.8])
def test_answers_in_the_making_are_rate_times_time(share: float) -> None:
    most = one(pair(lengths(2000, 300, n_requests=1e5)).request_rate)
    found = pair(lengths(2000, 300, rate=share * most))
    assert one(found.request_rate) == pytest.approx(share * most)
    assert not found.saturated[0]
    assert one(found.running) == pytest.approx(one(found.request_rate * 299 * found.tpot[0]), rel=0.02)


@pytest.mark.parametrize(("name", "made_by", "tp"), [("qwen3-0.6b", "vllm", 1), ("llama-3.1-8b", "sglang", 2)])
def test_more_clients_never_find_less_beside_them_where_a_captured_graph_is_full(
    name: str, made_by: str, tp: int
) -> None:
    """Steps beyond the largest graph yield less: the rate stays, and what is left of the clients decodes."""
    concurrency = np.geomspace(100.0, 1400.0, 40)
    pools = pool(tp=np.full(40, tp))
    load = load_of(lengths(300, 400, concurrency=1.0), 40)
    found = estimate_pools(
        model(name),
        replace(load, concurrency=concurrency),
        (pools, pools),
        (np.full(40, 4.0), np.ones(40)),
        engine=engine(made_by),
    )
    for values in (found.running, found.ttft[0], found.tpot[0]):
        assert (np.diff(values) >= 0.0).all()


def test_an_offline_batch_drains_its_queue() -> None:
    found = pair(lengths(2000, 300, n_requests=5000))
    assert one(found.latency.wait) == pytest.approx(5000 / one(found.request_rate) / 2, rel=0.05)


@pytest.mark.parametrize("workload", [lengths(2000, 300, rate=1.0), lengths(2000, 300, concurrency=32)])
def test_the_parts_of_an_answer_add_up(workload: Workload) -> None:
    found = pair(workload, 3, 2)
    np.testing.assert_allclose(
        found.ttft, found.latency.prefill + found.latency.wait + found.latency.front_end, rtol=1e-9
    )
    np.testing.assert_allclose(found.e2e, found.ttft + 299 * found.tpot, rtol=1e-9)
    np.testing.assert_allclose(found.devices, 3 * 4 + 2 * 4)
    np.testing.assert_allclose(found.output_rate, 300 * found.request_rate)
    np.testing.assert_allclose(found.total_rate, 2300 * found.request_rate)
    np.testing.assert_allclose(found.energy * found.output_rate, found.power * found.devices)


@settings(max_examples=10)
@given(
    scale=st.integers(2, 8),
    first=st.integers(1, 4),
    second=st.integers(1, 4),
    concurrency=st.integers(1, 200),
    prompt=st.integers(1, 20_000),
    output=st.integers(2, 2000),
)
def test_more_of_both_pools_never_serve_less(
    scale: int, first: int, second: int, concurrency: int, prompt: int, output: int
) -> None:
    small = pair(lengths(prompt, output, concurrency=concurrency), first, second)
    large = pair(lengths(prompt, output, concurrency=concurrency * scale), first * scale, second * scale)
    # pooled workers share one queue, so they do no worse than as many systems apart
    assert one(large.request_rate) >= scale * one(small.request_rate) * 0.98
    assert one(large.power) == pytest.approx(one(small.power), rel=0.2)


# -------------------------------------------------------------------------------- limits


@pytest.mark.parametrize("workload", [lengths(4000, 300, rate=1e-7), lengths(4000, 300, concurrency=1.0)])
def test_a_lonely_request_is_computed_handed_over_and_answered(workload: Workload) -> None:
    found = pair(workload, 1, 1)
    together = estimate(LLAMA, lengths(4000, 300, arrival="single"), pool(tp=4), costs=Roofline())
    cache = 4000 * 327_680 / 4  # 320 KiB a token (Llama-3.1-70B), a quarter of it on each of four devices
    handed_over = cache / fabric(H100) + H100.link.latency + HAND_OVER_IN_NODE  # both pools are on one node
    assert one(found.ttft) == pytest.approx(one(together.ttft) + handed_over, rel=1e-3)
    assert one(found.tpot) == pytest.approx(one(together.tpot), rel=1e-3)


def test_answers_do_not_stall_for_the_prompts_of_others() -> None:
    workload = lengths(8000, 300, rate=2.0)
    together = estimate(LLAMA, workload, pool(tp=4, replicas=2), costs=Roofline(), engine="vllm-v0")
    apart = pair(workload, 1, 1)
    assert one(apart.latency.interference) == 0.0
    assert one(apart.tpot) < one(together.tpot)  # DistServe, arXiv:2401.09670, sec. 2.3


@pytest.mark.parametrize(("first", "second", "prompt", "output"), [(1, 4, 8000, 100), (4, 1, 100, 4000)])
def test_the_scarcer_pool_sets_the_pace(first: int, second: int, prompt: int, output: int) -> None:
    workload = lengths(prompt, output, n_requests=1e6)
    base, wider = pair(workload, first, second), pair(workload, 2 * first, 2 * second)
    more_prompts, more_answers = pair(workload, 2 * first, second), pair(workload, first, 2 * second)
    scarce, ample = (more_prompts, more_answers) if first < second else (more_answers, more_prompts)
    assert one(wider.request_rate) == pytest.approx(2 * one(base.request_rate), rel=0.05)
    assert one(scarce.request_rate) == pytest.approx(2 * one(base.request_rate), rel=0.05)
    assert one(ample.request_rate) == pytest.approx(one(base.request_rate), rel=0.05)


def test_demand_beyond_either_pool_is_reported() -> None:
    for workload in (lengths(8000, 10, rate=100.0), lengths(10, 8000, rate=1000.0)):
        found = pair(workload)
        assert found.saturated[0]
        assert np.isinf(found.ttft).all()
        assert one(found.request_rate) < workload.rate
        brief = pair(workload.at(n_requests=(count := 20_000.0)))  # more than the decode worker holds
        backlog = count / one(found.request_rate) - count / workload.rate
        assert one(brief.latency.wait) == pytest.approx(backlog / 2, rel=0.1)
        # the queue is in the rate at which it is served: the run lasts no longer by it
        served = count / one(found.request_rate) + one(brief.e2e) - one(brief.latency.wait)
        assert one(brief.request_rate) == pytest.approx(count / served, rel=0.01)


def test_no_more_requests_decode_than_a_run_has() -> None:
    workload = lengths(500, 4000, rate=1.0)
    endless = pair(workload)
    assert not endless.saturated[0]
    assert one(endless.running) > 60.0
    counts = (1.0, 20.0, 200.0, 1e6)
    runs = [pair(workload.at(n_requests=n)) for n in counts]
    for count, found in zip(counts, runs, strict=True):
        assert one(found.running) <= min(count, one(endless.running)) * (1 + 1e-6)
        assert one(found.tpot) <= one(endless.tpot) * (1 + 1e-6)
        # from the first arrival to the last answer
        assert one(found.request_rate) <= count / (4000 * one(found.tpot))
    lonely = pair(lengths(500, 4000, arrival="single"))
    assert one(runs[0].tpot) == pytest.approx(one(lonely.tpot), rel=0.02)
    assert one(runs[-1].tpot) == pytest.approx(one(endless.tpot), rel=0.02)


def test_one_request_more_than_the_decode_pool_holds_waits_alone() -> None:
    work = lengths(8000, 4000, rate=2.0)
    room = int(max(n for n in range(10, 100) if not pair(work.at(n_requests=float(n)), 4.0).saturated[0]))
    full, more, twice = (pair(work.at(n_requests=float(n)), 4.0) for n in (room, room + 1, 2 * room))
    answer = 4000 * one(full.tpot)
    # it waits until the first answer ends, and the second half of twice as many wait as long
    assert one(more.ttft - full.ttft) == pytest.approx((answer - room / 2.0) / (room + 1), rel=0.15)
    assert one(twice.ttft - full.ttft) == pytest.approx((answer - room / 2.0) / 2.0, rel=0.15)
    assert one(more.request_rate) == pytest.approx((room + 1) / (2.0 * answer), rel=0.1)
    assert one(more.tpot) >= one(full.tpot)


@pytest.mark.parametrize("rate", [0.1, 5.0, 1000.0])
def test_a_run_of_one_request_is_a_lone_one_at_any_rate(rate: float) -> None:
    alone, run = pair(lengths(2000, 300, arrival="single")), pair(lengths(2000, 300, rate=rate).at(n_requests=1.0))
    for name in ("ttft", "tpot", "e2e"):
        assert one(getattr(run, name)) == pytest.approx(one(getattr(alone, name)), rel=0.02), name


@pytest.mark.parametrize(("stay", "spread"), [(3.0, 1.0), (1.0, 1.0), (1.0, 4.0), (1.0, 100.0)])
def test_requests_of_a_run_meet_as_many_as_in_a_replay(stay: float, spread: float) -> None:
    arrivals = (np.arange(2000) + 0.5) / 2000 * spread
    together = np.maximum(stay - np.abs(arrivals[:, None] - arrivals), 0.0) / stay
    assert float(share_met(np.array(stay), np.array(spread))) == pytest.approx(float(together.mean()), rel=1e-3)


def test_the_wait_for_a_prompt_worker_is_that_of_a_queue() -> None:
    found, lonely = (pair(lengths(8000, 50, rate=rate), 1, 4) for rate in (1.0, 1e-7))
    service = one(lonely.latency.prefill) - one(
        between(pool(tp=4), pool(tp=4), 8000, workers=(1, 4)).after(np.zeros((1, 1)))
    )
    busy = 1.0 * service
    assert one(found.latency.wait) == pytest.approx(
        busy / (1 - busy) / 2 * service, rel=0.05
    )  # Pollaczek and Khinchine


# -------------------------------------------------------------------------------- hand-over


def between(
    front: Deployments,
    back: Deployments,
    tokens: float,
    spec: ModelSpec = LLAMA,
    workers: tuple[float, float] = (1.0, 1.0),
    served: Engine | None = None,
) -> Transfer:
    """The hand-over of prompts of so many tokens from `workers[0]` prefill to `workers[1]` decode workers."""
    demand = load_of(lengths(tokens, 10, concurrency=1.0), 1)
    chosen = served or engine("vllm")
    ends = prepare(spec, front, chosen, Roofline(), demand), prepare(spec, back, chosen, Roofline(), demand)
    return transfer(ends, (front, back), (np.full(1, workers[0]), np.full(1, workers[1])), demand)


def handed_over(
    front: Deployments, back: Deployments, tokens: float, spec: ModelSpec = LLAMA, how: HandOver | None = None
) -> float:
    """Seconds on the link, by default that of the network."""
    back = replace(back, hand_over=how or HandOver(place="network"))
    return one(between(front, back, tokens, spec).seconds)


def test_the_cache_leaves_over_all_devices_of_the_worker() -> None:
    for tp in (1, 2, 4, 8):
        expected = 10_000 * 327_680 / tp / network(H100)
        assert handed_over(pool(tp=tp), pool(tp=tp), 10_000.0) == pytest.approx(expected, rel=1e-3)


def test_few_receivers_take_what_many_send() -> None:
    many_to_one = handed_over(pool(tp=8), pool(tp=1), 10_000.0)
    assert many_to_one == pytest.approx(handed_over(pool(tp=1), pool(tp=1), 10_000.0), rel=1e-3)


@pytest.mark.parametrize(("first", "second"), [(1, 2), (1, 4), (2, 4), (4, 1)])
def test_pages_that_are_cut_by_heads_cross_slowly(first: int, second: int) -> None:
    # gpt-oss-120b, 10,000 tokens of 73.7 kB from one device to two: 0.32 s beyond what equal pools take (anyscale)
    old = engine("vllm", "0.11.0")
    front, back = pool(tp=first), replace(pool(tp=second), hand_over=HandOver(place="network"))
    took = one(between(front, back, 10_000.0, served=old).seconds)
    assert took * 73_728 / 327_680 == pytest.approx(0.32, rel=0.2)
    stated = replace(back, hand_over=HandOver(place="network", bandwidth=1e11))
    assert one(between(front, stated, 10_000.0, served=old).seconds) < took / 5
    equal = replace(front, hand_over=HandOver(place="network"))
    assert one(between(front, equal, 10_000.0, served=old).seconds) < took / 5


def test_only_heads_are_cut_and_only_by_engines_that_do_not_arrange_pages() -> None:
    two, four = np.array([2.0]), np.array([4.0])
    gpt, latent, old = model("openai/gpt-oss-120b"), model("deepseek-v3"), engine("vllm", "0.11.0")
    assert np.isfinite(cut_bandwidth(old, gpt, (two, four)))
    for served, spec, ways in (
        (engine("vllm"), gpt, (two, four)),
        (engine("trtllm"), gpt, (two, four)),
        (old, latent, (two, four)),
        (old, gpt, (two, two)),
        (old, gpt, (4 * two, 4 * four)),  # eight heads, and copies of them
    ):
        assert np.isinf(cut_bandwidth(served, spec, ways))


def test_a_latent_cache_is_handed_over_sooner() -> None:
    latent = handed_over(pool(tp=1), pool(tp=1), 10_000.0, model("deepseek-v3"))
    grouped = handed_over(pool(tp=1), pool(tp=1), 10_000.0, model("llama-3.1-405b"))
    assert grouped / latent == pytest.approx(516_096 / 70_272, rel=0.01)


def test_the_slower_network_of_both_ends_counts() -> None:
    slow = hwdb.device("l40")
    assert network(slow) < network(H100)
    for front, back in ((H100, slow), (slow, H100)):
        time = handed_over(pool(front), pool(back), 10_000.0)
        # a node of cards on PCIe reaches its network through the same bus
        assert time == pytest.approx(10_000 * 327_680 / min(network(slow), fabric(slow)), rel=1e-3)


@pytest.mark.parametrize(
    ("name", "tp", "workers", "local", "delay"),
    [
        ("h100-sxm", 4, (1, 1), True, HAND_OVER_IN_NODE),
        ("h100-sxm", 4, (1, 2), False, HAND_OVER),
        ("h100-sxm", 4, (3, 3), True, HAND_OVER_IN_NODE),  # three nodes, each with a worker of both pools
        ("a100-sxm-80gb", 1, (3, 5), True, HAND_OVER_IN_NODE),
        ("gb200", 4, (11, 7), True, HAND_OVER),  # an NVL72 rack, of many machines
        ("gb200", 4, (10, 9), False, HAND_OVER),
    ],
)
def test_the_link_is_that_of_the_node_or_rack_where_both_pools_fit(
    name: str, tp: int, workers: tuple[float, float], local: bool, delay: float
) -> None:
    device = hwdb.device(name)
    found = between(pool(device, tp=tp), pool(device, tp=tp), 10_000, workers=workers)
    rate = fabric(device) if local else network(device)
    assert one(found.seconds) == pytest.approx(10_000 * 327_680 / tp / rate, rel=1e-3)
    assert one(found.delay) == pytest.approx(delay, abs=1e-3)


def test_pools_of_different_devices_meet_on_the_network() -> None:
    a100 = hwdb.device("a100-sxm-80gb")
    found = one(between(pool(a100), pool(H100), 10_000).seconds)
    assert found == pytest.approx(10_000 * 327_680 / min(network(a100), network(H100)), rel=1e-3)


def test_what_is_stated_of_the_link_counts() -> None:
    how = HandOver(place="network", bandwidth=5e9, delay=0.5)
    found = between(pool(), pool(hand_over=how), 10_000)
    assert one(found.seconds) == pytest.approx(10_000 * 327_680 / 5e9, rel=1e-3)
    assert one(found.delay) == pytest.approx(0.5 + H100.net.latency)
    for wrong in ({"place": "moon"}, {"bandwidth": 0.0}, {"bandwidth": np.inf}, {"delay": -1.0}):
        with pytest.raises(InputError, match="pools: "):
            HandOver(**wrong)  # type: ignore[arg-type]


def test_a_layer_by_layer_transfer_hides_behind_the_prefill() -> None:
    """Only the last layer's part follows a long prefill; of a slow link, what the prefill is too short for."""
    for tokens in (100, 10_000):
        layerwise = between(pool(), pool(hand_over=HandOver(layerwise=True, delay=0.0)), tokens)
        whole = one(layerwise.seconds)
        latency = H100.link.latency
        for prefill in (0.0, whole / 2, whole, 10 * whole):
            expected = max(whole / 80, whole - prefill * 79 / 80) + latency
            assert one(layerwise.after(np.full((1, 1), prefill))) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("gbs", [0.1, 0.5, 2.0])
@pytest.mark.parametrize("workload", [lengths(4000, 20, rate=50.0), lengths(4000, 20, concurrency=64)])
def test_a_slow_link_bounds_the_rate_and_makes_requests_wait(workload: Workload, gbs: float) -> None:
    cache = 4000 * 327_680 / 4
    front, back = pool(tp=4), pool(tp=4, hand_over=HandOver(bandwidth=gbs * 1e9))
    for first, second in ((1, 1), (4, 1), (1, 4), (4, 4)):
        workers = {"prefill_workers": float(first), "decode_workers": float(second)}
        found = estimate_disaggregated(LLAMA, workload, front, back, costs=Roofline(), **workers)
        assert one(found.request_rate) <= min(first, second) * gbs * 1e9 / cache
    if workload.arrival == "closed":
        assert one(found.request_rate * found.mean(found.e2e)) == pytest.approx(64, rel=1e-6)


@given(
    tp=st.sampled_from([1, 2, 4, 8]),
    first=st.integers(1, 6),
    second=st.integers(1, 6),
    prompt=st.integers(10, 30_000),
    gbs=st.floats(0.05, 50.0),
    concurrency=st.integers(1, 300),
)
@settings(max_examples=10)
def test_a_faster_link_is_never_slower(
    tp: int, first: int, second: int, prompt: int, gbs: float, concurrency: int
) -> None:
    found = [
        estimate_disaggregated(
            model("llama-3.1-8b"),
            lengths(prompt, 100, concurrency=concurrency),
            pool(tp=tp),
            pool(tp=tp, hand_over=HandOver(bandwidth=gbs * factor * 1e9)),
            prefill_workers=first,
            decode_workers=second,
            costs=Roofline(),
        )
        for factor in (1.0, 2.0)
    ]
    assert one(found[1].request_rate) >= one(found[0].request_rate) * (1 - 1e-6)


def test_an_unknown_network_is_no_free_one() -> None:
    nowhere = replace(H100, net=hwdb.Link())
    assert np.isnan(handed_over(pool(nowhere), pool(), 100.0))
    assert np.isnan(handed_over(pool(), pool(nowhere), 100.0))
    stated = handed_over(pool(nowhere), pool(), 100.0, how=HandOver(place="network", bandwidth=1e9))
    assert stated == pytest.approx(100 * 327_680 / 1e9, rel=1e-3)


# -------------------------------------------------------------------------------- memory, power, refusals


def test_both_pools_must_hold_the_model() -> None:
    workload, workers = lengths(1000, 100, concurrency=4), {"prefill_workers": np.ones(1), "decode_workers": np.ones(1)}
    fitting, short = pool(tp=4), pool(tp=1)
    for front, back in ((short, fitting), (fitting, short)):
        found = estimate_disaggregated(LLAMA, workload, front, back, costs=Roofline(), **workers)
        assert not found.fits[0]
        assert "weights 141.1 GB" in found.reason(0)
        assert np.isfinite(found.tpot).all()
    whole = estimate_disaggregated(LLAMA, workload, fitting, fitting, costs=Roofline(), **workers)
    assert whole.fits[0]
    assert whole.reason(0) == ""


def test_power_is_the_mean_of_both_pools() -> None:
    idle = pair(lengths(1000, 100, rate=1e-6))
    assert one(idle.power) == pytest.approx(one(ready_power(hardware_of([H100], np.zeros(1, int)))), rel=0.01)
    busy = pair(lengths(8000, 300, n_requests=1e5))
    assert 2 * one(idle.power) < one(busy.power) <= H100.tdp


@pytest.mark.parametrize("side", ["front", "back"])
def test_impossible_parallelism_in_either_pool_is_refused(side: str) -> None:
    good, bad = pool(tp=4), pool(tp=0)
    front, back = (bad, good) if side == "front" else (good, bad)
    with pytest.raises(InputError, match="tp=0 is no degree of parallelism"):
        estimate_disaggregated(
            LLAMA, lengths(10, 10, concurrency=1.0), front, back, prefill_workers=np.ones(1), decode_workers=np.ones(1)
        )


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"prefill_workers": np.zeros(1)}, "prefill_workers=0 makes no pool; give a number of at least 1"),
        ({"decode_workers": np.array([np.nan])}, "decode_workers=nan makes no pool"),
        ({"decode_workers": np.ones(2)}, r"decode_workers has shape \(2,\) for 1 pairs of pools; give one number"),
        ({"prefill": deployments([H100], tp=np.array([1, 2]))}, "2 layouts of prefill workers and 1 of decode workers"),
        ({"engine": "static"}, "batches statically, and pools hand requests over one by one; choose another"),
    ],
)
def test_pools_that_make_no_sense_are_named(changes: dict[str, object], message: str) -> None:
    given = {"prefill": pool(tp=4), "decode": pool(tp=4), "prefill_workers": 1.0, "decode_workers": 1.0, **changes}
    with pytest.raises(InputError, match=message):
        estimate_disaggregated(LLAMA, lengths(10, 10, concurrency=1.0), **given)  # type: ignore[arg-type]


def test_one_number_of_workers_serves_all_pairs() -> None:
    workload, both = lengths(1000, 100, concurrency=8), pool(tp=np.array([4, 8]))
    found = estimate_disaggregated(LLAMA, workload, both, both, prefill_workers=2, decode_workers=1, costs=Roofline())
    np.testing.assert_allclose(found.devices, [12.0, 24.0])


def test_prompts_packed_together_raise_the_rate_of_short_ones() -> None:
    demand = load_of(lengths(50, 20, n_requests=1e6), 1)
    both, workers = (pool(tp=4), pool(tp=4)), (np.ones(1), 8 * np.ones(1))
    alone, packed = (
        estimate_pools(LLAMA, demand, both, workers, engine=engine("vllm"), costs=Roofline(), batch=b) for b in (1, 32)
    )
    assert one(packed.request_rate) > 3 * one(alone.request_rate)


def test_rows_do_not_see_one_another() -> None:
    tp, workers = np.array([2, 4, 8]), np.array([1.0, 2.0, 3.0])
    front, back = pool(tp=tp), pool(tp=tp[::-1].copy())
    for workload in (lengths(1000, 100, rate=3.0), lengths(1000, 100, concurrency=64)):
        together = estimate_disaggregated(
            LLAMA, workload, front, back, prefill_workers=workers, decode_workers=workers[::-1], costs=Roofline()
        )
        for row in range(3):
            pick = np.array([row])
            alone = estimate_disaggregated(
                LLAMA,
                workload,
                front.take(pick),
                back.take(pick),
                prefill_workers=workers[pick],
                decode_workers=workers[::-1][pick],
                costs=Roofline(),
            )
            for name in ("ttft", "tpot", "request_rate", "power", "memory", "energy", "devices"):
                np.testing.assert_allclose(getattr(alone, name), getattr(together, name)[..., pick], rtol=1e-9)
