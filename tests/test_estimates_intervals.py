"""Ranges follow from causes: they widen with load and with what the estimate rests on, and other doors agree."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

import hwdb
import perfmodel as pm
from perfmodel.estimates import CAUSES, LOADS, Estimates, chances, joint_chance, sensitivity, uncertainty
from perfmodel.estimates.latency_percentiles import percentiles
from perfmodel.estimates.ranges.intervals import CLASSES, by_cause, half_width, rest_spread
from perfmodel.workload import Objective, Slo

MODEL = pm.model("meta-llama/Llama-3.1-8B")
FIGURES = [("ttft", "mean"), ("ttft", "p99"), ("tpot", "mean"), ("tpot", "p90"), ("itl", "p99"), ("e2e", "p99")]
FIGURES += [(m, "mean") for m in ("throughput", "prefill", "decode", "power", "energy")]


def answered(devices: tuple[str, ...] = ("h100-sxm",), tp: float = 1, **load: float) -> Estimates:
    shelf = [hwdb.device(name) for name in devices]
    layouts = pm.deployments(shelf, device=list(range(len(shelf))), tp=[tp] * len(shelf))
    return pm.estimate(MODEL, pm.Workload.from_lengths(1024, 256, **load), layouts)


@pytest.fixture(scope="module")
def rates() -> list[Estimates]:
    """One replica from nearly idle to nearly full."""
    return [answered(rate=rate) for rate in (0.2, 2.0, 8.0, 14.0, 18.0)]


def test_ranges_are_narrow_at_low_load_and_wide_near_saturation(rates: list[Estimates]) -> None:
    loads = [float(found.causes.load[0]) for found in rates]
    assert loads[0] < 0.05 < 0.7 < loads[-1]
    figures = [("ttft", "mean"), ("ttft", "p99"), ("tpot", "mean"), ("e2e", "mean"), ("throughput", "mean")]
    for metric, statistic in figures:
        widths = [float(found.half_width(metric, statistic)[0]) for found in rates]
        assert all(later > 0.9 * former for former, later in itertools.pairwise(widths)), (metric, statistic)
        assert widths[-1] > 1.1 * widths[0]


def test_tails_have_a_width_of_their_own(rates: list[Estimates]) -> None:
    for found in rates:
        assert found.half_width("ttft", "p99")[0] != found.half_width("ttft")[0]
        assert found.half_width("tpot", "p99")[0] > found.half_width("tpot", "p50")[0]


def test_a_closed_loop_slows_down_with_all_its_parts() -> None:
    """With every part 1 % slower, a token and a request take 1 % longer, and 1 % fewer are served."""
    found = answered(concurrency=16)
    parts = [CAUSES.index(name) for name in ("compute", "memory", "link", "launch", "host", "front_end")]
    for metric, total in (("tpot", 1.0), ("ttft", 1.0), ("e2e", 1.0), ("throughput", -1.0)):
        assert sensitivity(found, metric)[parts].sum() == pytest.approx(total, rel=1e-6), metric


@pytest.mark.parametrize(("part", "metric"), [("memory", "tpot"), ("compute", "ttft"), ("power", "power")])
@pytest.mark.parametrize("load", [{"concurrency": 8}, {"rate": 3.0}, {"rate": 12.0}])
def test_sensitivities_are_those_of_the_model_itself(part: str, metric: str, load: dict[str, float]) -> None:
    """Against the model with the part 5 % slower (`Adjustment`), which takes a second estimate."""
    from perfmodel.engines import Adjustment

    slower = pm.engine("vllm").adjusted_by([Adjustment("h100-sxm", "vllm", ((part, 1.05),))])
    layout = pm.deployments([hwdb.device("h100-sxm")], device=[0], tp=[1])
    work = pm.Workload.from_lengths(1024, 256, **load)
    plain, changed = (pm.estimate(MODEL, work, layout, engine=e) for e in (pm.engine("vllm"), slower))
    of = {"ttft": lambda x: x.mean(x.ttft), "tpot": lambda x: x.mean(x.tpot), "power": lambda x: x.power}[metric]
    measured = np.log(of(changed) / of(plain)) / np.log(1.05)
    assert sensitivity(plain, metric)[CAUSES.index(part)] == pytest.approx(measured, rel=0.3, abs=0.1)


@pytest.mark.parametrize(("metric", "statistic"), FIGURES)
def test_the_width_is_that_of_causes_and_of_what_is_left(metric: str, statistic: str) -> None:
    found = answered(("h100-sxm", "rtx-4070"), concurrency=4)
    squares = np.square(by_cause(found, metric, statistic)).sum(axis=0) + rest_spread(found, metric, statistic) ** 2
    assert half_width(found, metric, statistic) == pytest.approx(1.28155 * np.sqrt(squares), rel=1e-4)
    assert (half_width(found, metric, statistic) > 0).all()


def test_what_rests_on_less_is_never_surer() -> None:
    for factors in uncertainty().classes.values():
        order = [factors[name] for name in ("table", "extrapolated", "calibrated", "roofline")]
        assert order == sorted(order)
        assert order[0] == 1.0
        assert set(factors) == set(CLASSES.values())


def test_every_figure_has_a_spread_for_every_load() -> None:
    codes = np.arange(len(LOADS), dtype=np.int8)
    for name in uncertainty().rest:
        assert (uncertainty().rest_of(name, codes, np.full(len(LOADS), 0.5)) > 0).all()


def test_a_percentile_that_nobody_publishes_is_as_wide_as_the_next() -> None:
    found = answered(rate=5.0)
    for metric in ("ttft", "tpot"):
        assert rest_spread(found, metric, "p95") == pytest.approx(rest_spread(found, metric, "p99"))
    for metric in ("ttft", "tpot", "itl", "e2e"):
        assert all(found.half_width(metric, rank)[0] > 0 for rank in ("p50", "p90", "p95", "p99"))


def test_an_overload_has_finite_ranges() -> None:
    found = answered(rate=200.0)
    assert found.saturated[0]
    assert all(np.isfinite(found.half_width(metric, statistic)[0]) for metric, statistic in FIGURES)


@pytest.mark.parametrize(
    ("model", "device", "weights"),
    [
        ("Qwen/Qwen3-8B", "rtx-4090", 7.57e9 * 2),  # 8.19 billion parameters without the input embedding
        ("meta-llama/Llama-3.1-8B", "rtx-4090", 7.50e9 * 2),
        ("mistralai/Mistral-7B-v0.1", "a100-sxm-40gb", 7.11e9 * 2),
    ],
)
def test_no_token_comes_sooner_than_the_weights_are_read(model: str, device: str, weights: float) -> None:
    """By hand: bytes of the weights, less what the last cache may hold, over the rated bandwidth."""
    card = hwdb.device(device)
    floor = (weights - card.l2) / card.bandwidth
    single = pm.estimate(pm.model(model), pm.Workload.from_lengths(128, 129, concurrency=1), pm.deployments([card]))
    row = single.frame().iloc[0]
    assert float(single.causes.least_token[0]) == pytest.approx(floor, rel=0.01)
    assert row["tpot_ms_lo"] >= 0.99e3 * floor
    assert row["output_tok_s_hi"] <= 129 / 128 / (0.99 * floor)
    down, up = single.ends("e2e")
    assert float(single.mean(single.e2e)[0] * down[0]) >= 128 * 0.99 * floor
    assert up[0] > 1.0


def test_no_request_ends_sooner_than_its_tokens_read_the_weights() -> None:
    """By hand: each request of a mix takes (its tokens - 1) x the time to read the weights, at every rank."""
    card = hwdb.device("rtx-4090")
    work = pm.Workload(
        input_tokens=np.array([128.0, 128.0]),
        output_tokens=np.array([65.0, 1025.0]),
        share=np.array([0.8, 0.2]),
        concurrency=1.0,
    )
    found = pm.estimate(pm.model("Qwen/Qwen3-8B"), work, pm.deployments([card]))
    each = float(found.causes.least_token[0])
    for rank, tokens in (("p50", 64), ("p90", 1024), ("p99", 1024), ("mean", 0.8 * 64 + 0.2 * 1024)):
        assert found.least("e2e", rank)[0] == pytest.approx(tokens * each, rel=1e-6), rank
        whole = percentiles.overall(found, "e2e", rank)[0]
        assert whole * found.ends("e2e", rank)[0][0] >= 0.999 * tokens * each, rank
    alike = pm.estimate(
        pm.model("Qwen/Qwen3-8B"), pm.Workload.from_lengths(9000, 129, concurrency=1), pm.deployments([card])
    )
    first, whole = (percentiles.overall(alike, m, "p90")[0] * alike.ends(m, "p90")[0][0] for m in ("ttft", "e2e"))
    assert whole >= 0.999 * (first + 128 * each)


def test_the_floor_counts_what_one_token_reads() -> None:
    """Four devices read a quarter each; a stage of a pipeline waits for the others; experts count as those in use."""
    card = hwdb.device("h100-sxm")
    dense, sparse = pm.model("meta-llama/Llama-3.1-70B"), pm.model("Qwen/Qwen3-30B-A3B")
    work = pm.Workload.from_lengths(128, 129, concurrency=1)

    def floor(spec: pm.ModelSpec, **degrees: int) -> float:
        return float(pm.estimate(spec, work, pm.deployments([card], **degrees)).causes.least_token[0])

    assert floor(dense, tp=4) == pytest.approx(floor(dense) / 4, rel=0.02)
    assert floor(dense, pp=4) == pytest.approx(floor(dense), rel=0.02)
    active = 2.0 * (sparse.parameters(active=True) - sparse.vocab * sparse.hidden)
    assert floor(sparse) == pytest.approx((active - card.l2) / card.bandwidth, rel=0.02)


def test_no_chance_is_left_where_the_weights_cannot_be_read_in_time() -> None:
    """15.1 GB at 1,008 GB/s are 14.9 ms per token: 14 ms cannot be kept, 15.5 ms may be."""
    card = hwdb.device("rtx-4090")
    work = pm.Workload.from_lengths(128, 129, concurrency=1)
    found = pm.estimate(pm.model("Qwen/Qwen3-8B"), work, pm.deployments([card]))
    chance = [
        chances(found, Slo((Objective("tpot", "mean", limit),)))[0, 0] for limit in (0.0140, 0.0148, 0.0155, 0.03)
    ]
    assert chance[:2] == [0.0, 0.0]
    assert 0.05 < chance[2] < 0.5 < chance[3]
    both = Slo((Objective("tpot", "mean", 0.014), Objective("ttft", "mean", 10.0)))
    assert joint_chance(found, both)[0] == 0.0
