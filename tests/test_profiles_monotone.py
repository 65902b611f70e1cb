"""More work never takes less time, wherever a table was measured."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

import hwdb
import perfmodel as pm
from perfmodel.costs import Roofline, default
from perfmodel.costs.measured_tables import lookup
from perfmodel.costs.step_costs.steps import priced
from perfmodel.deployment import deployments, shard
from perfmodel.dtypes import COMPUTE
from perfmodel.estimates import Estimates, estimate_load
from perfmodel.hardware import hardware_of
from perfmodel.models import model
from perfmodel.operators.step import Step
from perfmodel.profiles import FAMILY, ShapeBatch, causal_length, compiled, isotonic, store
from perfmodel.profiles import monotone as rising_module
from perfmodel.profiles.monotone import FILLED_WEIGHT, Bounds, rising
from perfmodel.profiles.shapes import shape_at
from perfmodel.profiles.shares import hold, with_relatives
from perfmodel.profiles.table import Table
from perfmodel.vocabulary import LINK_FAMILIES
from perfmodel.workload import RANKS, load_of

FAMILIES = ("gemm", "attention_decode")
SITES, POINTS = 20, 60


def test_cells_that_rise_stay_and_others_become_their_mean() -> None:
    """Along one axis; a cell that was filled rather than measured hardly counts."""
    known = np.ones((1, 4), bool)
    assert rising(np.array([[1.0, 2.0, 3.0, 4.0]]), known).tolist() == [[1.0, 2.0, 3.0, 4.0]]
    assert rising(np.array([[1.0, 3.0, 2.0, 4.0]]), known) == pytest.approx(np.array([[1.0, 2.5, 2.5, 4.0]]))
    known[0, 1] = False
    assert rising(np.array([[1.0, 3.0, 2.0, 4.0]]), known) == pytest.approx(
        np.array([[1.0, 2.0 + 1 / 21, 2.0 + 1 / 21, 4.0]])
    )


@pytest.mark.parametrize("seed", range(5))
def test_grids_never_fall_along_either_axis(seed: int) -> None:
    draw = np.random.default_rng(seed)
    grids = draw.normal(size=(3, 8, 9)).cumsum(axis=1).cumsum(axis=2)
    found = rising(grids, draw.random(grids.shape) < 0.7)
    assert np.diff(found, axis=1).min() >= -1e-12
    assert np.diff(found, axis=2).min() >= -1e-12


@pytest.mark.parametrize("size", [2, 5, 30])
def test_the_loops_of_isotonic_regression_give_the_numbers_of_arrays(size: int) -> None:
    draw = np.random.default_rng(size)
    weight = draw.choice([FILLED_WEIGHT, 1.0], (7, size))
    values = draw.normal(size=weight.shape)
    values[3] = -np.arange(size)  # one that falls all the way is one mean
    values[4, :2] = 1.0
    total, mass = (np.concatenate([np.zeros((7, 1)), np.cumsum(a, axis=1)], axis=1) for a in (values * weight, weight))
    expected = rising_module._by_arrays(total, mass)
    np.testing.assert_allclose(expected[3], total[3, -1] / mass[3, -1])
    loops = compiled._loops()
    assert loops is not None
    for loop in (isotonic.isotonic_rows, loops.isotonic_rows):
        found = np.empty(values.shape)
        loop(total, mass, found)
        np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("name", sorted(store.names()))
def test_times_of_every_measured_device_never_fall(name: str) -> None:
    """Along m of a GEMM, and along batch and context of decode attention, at 20 random sites, far past the tables."""
    profile = store.load(name)
    assert profile is not None
    draw = np.random.default_rng(0)
    for family in (FAMILY[f] for f in FAMILIES if f in profile.files):
        item = profile.tables(family.name, profile.frameworks(family.name)[0])[0]
        low, high = item.table.sites.min(axis=0), item.table.sites.max(axis=0)
        site = np.repeat(draw.uniform(low, high, (SITES, len(low))), POINTS, axis=0)
        for along in range(len(item.table.axes)):
            ends = [(a[0], a[-1]) for a in item.table.axes]
            held = [np.full(len(site), draw.uniform(*e)) for e in ends]
            held[along] = np.tile(np.linspace(ends[along][0], ends[along][1] + 3.0, POINTS), SITES)
            shape = shape_at(family, site, np.stack(held, axis=1))
            choice = lookup.Choice(measured=item, wanted=item.variant, worst=0)
            time = lookup.price([choice], ShapeBatch(family, shape)).time.reshape(SITES, POINTS)
            fall = np.max(1.0 - time[:, 1:] / time[:, :-1])
            assert fall < 0.01, (family.name, family.axis[along], fall)


@pytest.mark.parametrize("device", ["rtx-a6000", "h100-sxm", "mi300x", "l40s"])
@pytest.mark.parametrize("seed", range(5))
def test_cached_tokens_never_make_a_prefill_slower(device: str, seed: int) -> None:
    draw = np.random.default_rng(seed)
    tokens = float(draw.integers(2000, 60_000))
    hits = np.array([0.0, *np.sort(draw.uniform(0.1, 0.99, 4))])
    load = load_of(pm.Workload.from_lengths(tokens, 8.0, concurrency=1, arrival="static"), len(hits))
    placed = pm.deployments([hwdb.device(device)], tp=np.full(len(hits), 8.0))
    found = estimate_load(pm.model("Qwen/Qwen3-32B"), replace(load, hit=hits[None]), placed, engine=pm.engine("vllm"))
    assert np.all(found.ttft[0, 1:] <= 1.01 * found.ttft[0, 0])


def _asked(rates: np.ndarray, count: float | np.ndarray, tokens: tuple[int, int], engine: str) -> Estimates:
    work = pm.Workload.from_lengths(*tokens, rate=1.0)
    load = replace(load_of(work, len(rates)), rate=rates, n_requests=np.broadcast_to(count, rates.shape).astype(float))
    placed = pm.deployments([hwdb.device("h100-sxm")], tp=np.ones(len(rates)))
    spec = pm.model("meta-llama/Llama-3.1-8B")
    return estimate_load(spec, load, placed, engine=pm.engine(engine), costs=Roofline())


@pytest.mark.parametrize("seed", range(20))
def test_a_finite_run_waits_no_less_at_a_higher_rate(seed: int) -> None:
    """From an idle replica to ten times what it can serve, mean and percentiles."""
    draw = np.random.default_rng(seed)
    tokens = (int(draw.integers(50, 8000)), int(draw.integers(40, 600)))
    rates = np.geomspace(0.05, 200.0, 40)
    engine = str(draw.choice(["vllm", "sglang", "trtllm"]))
    found = _asked(rates, float(draw.integers(2, 3000)), tokens, engine)
    for statistic in ("mean", *RANKS):
        ttft = np.ravel(found.quantile("ttft", statistic))
        assert np.max(1.0 - ttft[1:] / ttft[:-1]) < 0.02, statistic


def test_no_run_waits_longer_than_one_whose_requests_all_arrive_at_once() -> None:
    found = _asked(np.array([5.0, 20.0, 1e9]), 400.0, (1000, 200), "vllm")
    assert np.all(found.ttft[0, :2] <= 1.001 * found.ttft[0, 2])


def test_a_run_without_end_is_the_same_beside_finite_runs() -> None:
    """Candidates of one column do not change one another."""
    rates = np.array([2.0, 20.0, 1e3])
    alone = _asked(rates, np.inf, (1000, 200), "vllm")
    mixed = _asked(np.append(rates, 5.0), np.array([np.inf, np.inf, np.inf, 100.0]), (1000, 200), "vllm")
    for name in ("ttft", "tpot"):
        np.testing.assert_allclose(getattr(mixed, name)[:, :3], getattr(alone, name))
    for statistic in RANKS:
        np.testing.assert_allclose(mixed.quantile("ttft", statistic)[:, :3], alone.quantile("ttft", statistic))


#: Operators that tensor parallelism splits, by devices on which their tables fall as shapes shrink.
SPLIT = [
    ("b200-sxm", "deepseek-ai/DeepSeek-V3", Step(decode_seqs=1.0, decode_context=1e7)),
    ("arc-pro-b60", "Qwen/Qwen3-30B-A3B", Step(decode_seqs=1.0, decode_context=15849.0)),
    ("gb200", "Qwen/Qwen3-Next-80B-A3B-Instruct", Step(decode_seqs=1.0, decode_context=39811.0)),
    ("h20", "meta-llama/Llama-3.1-8B", Step(decode_seqs=1.0, decode_context=1e4)),
    ("l40s", "Qwen/Qwen3-Next-80B-A3B-Instruct", Step(decode_seqs=1.0, decode_context=1e5)),
    ("b200-sxm", "moonshotai/Kimi-K2-Instruct", Step(prefill_tokens=2048.0)),
    ("h100-sxm", "Qwen/Qwen3-Next-80B-A3B-Instruct", Step(prefill_tokens=1e6)),
]


@pytest.mark.parametrize(("device", "name", "step"), SPLIT)
def test_more_devices_never_lengthen_what_each_computes_and_reads(device: str, name: str, step: Step) -> None:
    ways = np.array([1.0, 2.0, 4.0, 8.0])
    placed = deployments([hwdb.device(device)], tp=ways)
    laid, here = shard(model(name), placed), hardware_of(placed.devices, placed.device)
    for demand, cost in priced(laid, here, default("vllm"), step):
        if demand.family not in LINK_FAMILIES:
            times = np.broadcast_to(cost.time, ways.shape)
            assert (times[1:] <= 1.03 * times[:-1]).all(), demand.name


def test_a_share_takes_no_longer_than_the_whole_and_the_whole_no_less_than_a_measured_share() -> None:
    # utilisation of 4 heads is a tenth of that of 8: alone they would take five times as long
    sites, axis = np.log([[4.0], [8.0]]), np.log(2.0 ** np.arange(5))
    values = np.broadcast_to(np.log([[0.05], [0.5]]), (2, 5)).astype(np.float32)
    table = Table(sites, np.ones(1), (axis,), values, np.ones((2, 5), bool))
    bounds = Bounds(at=lambda site, point: site[..., 0] + point[..., 0], formats=())
    times = [np.exp(table.rising(np.log([[n]]), (1.0,), bounds, split=((0, 0.0),)).time[0]) for n in (4.0, 8.0, 16.0)]
    np.testing.assert_allclose(times[1], 8.0 * np.exp(axis) / 0.5, rtol=1e-6)
    np.testing.assert_allclose(times[0], times[1], rtol=1e-6)
    assert (times[2] >= times[1]).all()
    alone = np.exp(table.rising(np.log([[4.0]]), (1.0,), bounds).time[0])
    np.testing.assert_allclose(alone, 5.0 * times[0], rtol=1e-6)


def test_a_share_is_held_to_wholes_of_any_size_and_beyond_the_sites_the_whole_to_its_shares() -> None:
    """One head of two takes a tenth of the time of 16, which alone were measured to be quick; 64 lie beyond."""
    sites, axis = np.log([[1.0, 1.0], [2.0, 1.0], [4.0, 1.0], [16.0, 1.0]]), np.log(2.0 ** np.arange(4))
    values = np.broadcast_to(np.log([[0.01], [0.02], [0.04], [0.8]]), (4, 4)).astype(np.float32)
    table = Table(sites, np.ones(2), (axis,), values, np.ones((4, 4), bool))
    bounds = Bounds(at=lambda site, point: site[..., 0] + point[..., 0], formats=())
    made = table.rising(np.log([[1.0, 1.0], [4.0, 1.0], [16.0, 1.0], [64.0, 1.0]]), (), bounds, split=((0, 0.0),))
    times = np.exp(made.time)
    np.testing.assert_allclose(times[:3], np.tile(16.0 * np.exp(axis) / 0.8, (3, 1)), rtol=1e-6)
    assert (times[3] >= times[2]).all()


def test_a_gemm_lies_between_the_measured_ones_that_are_smaller_and_larger() -> None:
    """Of a measured site that takes longer than a larger one, and of one between them that nobody measured."""
    draw = np.random.default_rng(3)
    sizes = np.log(np.array([[n, k] for n in (256.0, 1024.0, 4096.0) for k in (512.0, 2048.0)]))
    axis = np.log(2.0 ** np.arange(5))
    values = np.log(draw.uniform(0.05, 0.9, (6, 5))).astype(np.float32)
    table = Table(sizes, np.ones(2), (axis,), values, np.ones((6, 5), bool))
    bounds = Bounds(at=lambda site, point: site.sum(axis=-1) + point[..., 0], formats=())
    split = ((0, 0.0), (1, 0.0))
    n = np.log(np.geomspace(64.0, 16384.0, 17))
    for k in np.log([512.0, 2048.0]):
        times = table.rising(np.stack([n, np.full(17, k)], axis=1), (1.0, 1.0), bounds, split).time
        measured = times[[4, 8, 12]]  # 256, 1,024 and 4,096 columns
        assert (np.diff(measured, axis=0) >= -1e-5).all()
        assert (times[:5] <= measured[0] + 1e-5).all()
        assert (times[12:] >= measured[2] - 1e-5).all()
        assert ((times[4:9] >= measured[0] - 1e-5) & (times[4:9] <= measured[1] + 1e-5)).all()


def test_past_the_range_of_sites_time_follows_the_bound_and_not_the_size() -> None:
    """A bound that does not fall with the columns keeps the time, where sites at the border do not tell its growth."""
    table = Table(np.log([[64.0], [128.0]]), np.ones(1), (np.zeros(1),), np.log([[0.5], [0.8]]), np.ones((2, 1), bool))
    level = Bounds(at=lambda site, point: 0.0 * site[..., 0] + point[..., 0], formats=())
    times = table.rising(np.log([[64.0], [32.0], [8.0]]), (1.0,), level).time
    np.testing.assert_allclose(times, np.full_like(times, times[0, 0]), rtol=1e-6)


def test_cached_tokens_before_the_window_change_nothing() -> None:
    shape = {"batch": 1.0, "query": 2048.0, "heads": 8.0, "kv_heads": 8.0, "head_dim": 128.0}
    near, far = (causal_length({**shape, "window": 1024.0, "context": c}) for c in (1024.0, 1e6))
    assert near == far
    _, length = causal_length({**shape, "window": np.inf, "context": 1e6})
    assert length == 2048.0 + 2e6


@pytest.mark.parametrize("device", ["h100-sxm", "v100-pcie-32gb", "mi210"])
def test_a_chunk_behind_more_cached_tokens_takes_no_less_time_where_a_window_limits_it(device: str) -> None:
    behind = np.geomspace(1.0, 1e7, 22)[:, None]
    placed = deployments([hwdb.device(device)], tp=np.ones(1))
    step = Step(prefill_tokens=np.full_like(behind, 2048.0), prefill_context=behind)
    laid, here = shard(model("google/gemma-3-27b-it"), placed), hardware_of(placed.devices, placed.device)
    found = {demand.name: cost.time for demand, cost in priced(laid, here, default("vllm"), step)}
    times = np.broadcast_to(found["attention_prefill_sliding"], behind.shape)[:, 0]
    assert (times[1:] >= 0.97 * times[:-1]).all()


@pytest.mark.parametrize("stored", ["mxfp4", "fp4"])
def test_weights_of_four_bit_floats_are_multiplied_in_16_bits_where_no_unit_multiplies_them(stored: str) -> None:
    devices = [hwdb.device(name) for name in ("h100-sxm", "mi300x", "b200-sxm")]
    placed = deployments(devices, device=np.arange(3), tp=np.ones(3), weight=stored, act="fp8")
    found = shard(model("Qwen/Qwen3-30B-A3B"), placed).compute("experts")
    assert [COMPUTE[code] for code in found] == ["bf16", "bf16", "fp8"]


def test_a_share_in_two_ways_is_held_to_both_wholes() -> None:
    measured = np.log([[1.0, 1.0, 1.0], [2.0, 1.0, 1.0], [1.0, 2.0, 1.0]])
    sites, halves = with_relatives(measured[:1], ((0, 0.0), (1, 0.0)), measured)
    assert len(sites) == 3
    for longest in (1, 2):
        time = np.where(np.arange(len(sites)) == longest, 4.0, 3.0)[:, None] * np.ones((1, 2))
        time[0] = 5.0
        hold(time, halves, np.array([0.0, 1.0]))
        assert time[0].tolist() == [3.0, 3.0]
