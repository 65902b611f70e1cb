"""Estimates: columns that agree with rows, classes and chunks; quantiles; what fits, what is known, what is refused."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import hwdb
from hwdb import InputError, UnknownName
from perfmodel.costs import Roofline
from perfmodel.deployment.columns import Deployments, deployments
from perfmodel.dtypes import FORMAT_CODE
from perfmodel.engines.catalogue import engine
from perfmodel.estimates.estimates import Estimates
from perfmodel.estimates.estimation import estimator
from perfmodel.estimates.estimation.estimator import estimate, estimate_load, prepare
from perfmodel.models import model
from perfmodel.vocabulary import BASES
from perfmodel.workload.load import load_of
from perfmodel.workload.workload import Workload

NAMES = ("h100-sxm", "l40s", "mi300x", "gb200", "h200-sxm")
DEVICES = [hwdb.device(n) for n in NAMES]
LLAMA, MIXTRAL = model("llama-3.1-8b"), model("mistralai/Mixtral-8x7B-v0.1")
lengths = Workload.from_lengths
CHAT = {"input_tokens": [200, 4000, 1000], "output_tokens": [400, 100, 20], "share": [0.5, 0.2, 0.3]}
ARRIVALS = {
    "single": lengths(**CHAT, arrival="single"),
    "static": lengths(**CHAT, concurrency=12, arrival="static"),
    "closed": lengths(**CHAT, concurrency=48),
    "open": lengths(**CHAT, rate=4.0),
    "offline": lengths(**CHAT, n_requests=3000),
}
every_arrival = pytest.mark.parametrize("workload", ARRIVALS.values(), ids=ARRIVALS)


def many(rows: int = 10, seed: int = 4) -> Deployments:
    rng = np.random.default_rng(seed)
    tp, dp = rng.choice([1, 2, 4, 8], rows), rng.choice([1, 1, 2], rows)
    return deployments(
        DEVICES,
        device=rng.integers(0, len(DEVICES), rows),
        tp=tp,
        dp=dp,
        pp=rng.choice([1, 1, 2], rows),
        ep=np.minimum(rng.choice([1, 2, 8], rows), tp * dp),
        replicas=rng.choice([1, 2, 3], rows),
        weight=rng.choice([-1, FORMAT_CODE["fp8"], FORMAT_CODE["int4"]], rows),
        kv=rng.choice([-1, FORMAT_CODE["fp8"]], rows),
        max_num_seqs=rng.choice([np.nan, 16.0], rows),
        max_num_batched_tokens=rng.choice([np.nan, 1024.0], rows),
    )


def ask(workload: Workload, placed: Deployments | None = None, **options: object) -> Estimates:
    placed = deployments(DEVICES[:1]) if placed is None else placed
    return estimate(LLAMA, workload, placed, **{"costs": Roofline(), **options})  # type: ignore[arg-type]


def same(one: Estimates, other: Estimates, rtol: float = 1e-9) -> None:
    for name, mine in one.arrays().items():
        theirs = other.arrays()[name]
        if mine.dtype.kind == "f":
            np.testing.assert_allclose(mine, theirs, rtol=rtol, err_msg=name)
        else:
            np.testing.assert_array_equal(mine, theirs, err_msg=name)


# -------------------------------------------------------------------------------- columns, rows, chunks, classes


@every_arrival
@pytest.mark.parametrize("spec", [LLAMA, MIXTRAL], ids=["dense", "experts"])
def test_each_row_is_what_it_would_be_alone(workload: Workload, spec: object) -> None:
    placed = many()
    together = estimate(spec, workload, placed, costs=Roofline())  # type: ignore[arg-type]
    for row in range(len(placed)):
        alone = estimate(spec, workload, placed.take(np.array([row])), costs=Roofline())  # type: ignore[arg-type]
        same(alone, together.take(np.array([row])))


def test_measured_tables_price_rows_as_they_would_alone() -> None:
    placed = many(3)
    together = estimate(LLAMA, ARRIVALS["closed"], placed)
    for row in range(len(placed)):
        same(
            estimate(LLAMA, ARRIVALS["closed"], placed.take(np.array([row]))), together.take(np.array([row])), rtol=1e-6
        )


@every_arrival
def test_chunks_leave_no_trace(workload: Workload, monkeypatch: pytest.MonkeyPatch) -> None:
    placed = many()
    whole = ask(workload, placed)
    monkeypatch.setattr(estimator, "CHUNK", 4)
    same(ask(workload, placed), whole)


@every_arrival
def test_the_order_of_classes_does_not_matter(workload: Workload) -> None:
    order = np.array([2, 0, 1])
    turned = workload.at(**{n: getattr(workload, n)[order] for n in ("input_tokens", "output_tokens", "share")})
    plain, other = ask(workload), ask(turned)
    for name in ("ttft", "tpot", "e2e", "wait", "prefill"):
        np.testing.assert_allclose(getattr(other.latency, name), getattr(plain.latency, name)[order], rtol=1e-9)
    for name in ("request_rate", "output_rate", "memory", "power", "energy", "running"):
        np.testing.assert_allclose(getattr(other, name), getattr(plain, name), rtol=1e-9)


@every_arrival
def test_a_class_cut_in_two_changes_nothing(workload: Workload) -> None:
    twice = {n: np.repeat(getattr(workload, n), 2) for n in ("input_tokens", "output_tokens", "prefix_hit")}
    halves = workload.at(**twice, share=np.repeat(workload.share, 2) / 2)
    plain, cut = ask(workload), ask(halves)
    for name in ("ttft", "tpot", "e2e"):
        np.testing.assert_allclose(getattr(cut, name), np.repeat(getattr(plain, name), 2, axis=0), rtol=1e-9)
        np.testing.assert_allclose(cut.mean(getattr(cut, name)), plain.mean(getattr(plain, name)), rtol=1e-9)
    np.testing.assert_allclose(cut.request_rate, plain.request_rate, rtol=1e-9)


# -------------------------------------------------------------------------------- identities


@every_arrival
@pytest.mark.parametrize("by", ["vllm", "vllm-v0", "sglang", "trtllm", "llamacpp", "mindie", "fastertransformer"])
def test_the_parts_of_an_answer_add_up(workload: Workload, by: str) -> None:
    placed = many(6)
    found = ask(workload, placed, engine=by)
    steps = np.maximum(found.classes.output - 1, 0)
    np.testing.assert_allclose(
        found.ttft, found.latency.prefill + found.latency.wait + found.latency.front_end, rtol=1e-9
    )
    np.testing.assert_allclose(found.e2e, found.ttft + steps * found.tpot, rtol=1e-9)
    outputs, inputs = found.mean(found.classes.output), found.mean(found.classes.input)
    np.testing.assert_allclose(found.output_rate, found.request_rate * outputs, rtol=1e-9)
    np.testing.assert_allclose(found.total_rate, found.request_rate * (inputs + outputs), rtol=1e-9)
    np.testing.assert_allclose(found.energy * found.output_rate, found.power * found.devices, rtol=1e-9)
    np.testing.assert_allclose(found.devices, placed.devices_per_replica * placed.replicas)
    assert (found.running <= np.where(found.fits, found.memory_use.max_running, np.inf) * (1 + 1e-9)).all()
    assert (found.rates.decode >= found.output_rate * 0.9 * (1 - 1 / outputs)).all()


@every_arrival
def test_no_answer_beats_the_memory_it_must_read(workload: Workload) -> None:
    placed = deployments(DEVICES, device=np.arange(5), tp=np.array([1, 2, 1, 4, 8]))
    found = ask(workload, placed)
    read = sum(v for k, v in LLAMA.weight_bytes().items() if k not in ("embedding", "other"))
    bandwidth = np.array([d.bandwidth for d in DEVICES]) * placed.tp
    assert (found.tpot >= read / bandwidth).all()
    # and an answer's prompt needs two FLOP a parameter
    peak = np.array([d.peak("bf16") for d in DEVICES]) * placed.tp
    assert (found.latency.prefill >= 2 * 7e9 * found.classes.input / peak).all()


def test_llama_70b_on_four_h100_takes_little_more_than_its_weights() -> None:
    found = estimate(model("llama-3.1-70b"), lengths(512, 128, arrival="single"), deployments(DEVICES[:1], tp=4))
    least = 139e9 / (4 * 3.35e12)
    assert least < float(found.tpot[0, 0]) < 2 * least  # decoding is bound by memory, and kernels reach half of it


# -------------------------------------------------------------------------------- quantiles


@every_arrival
@pytest.mark.parametrize("metric", ["ttft", "tpot", "itl", "e2e"])
def test_quantiles_rise_with_their_rank(workload: Workload, metric: str) -> None:
    found = ask(workload, many(6))
    ranked = [found.quantile(metric, s) for s in ("p50", "p90", "p95", "p99")]
    for lower, upper in pairwise(ranked):
        assert (upper >= lower * (1 - 1e-12)).all()
    np.testing.assert_array_equal(found.quantile(metric, "mean"), getattr(found, "tpot" if metric == "itl" else metric))


def test_waits_are_for_a_step_or_for_other_prompts_which_spread_the_prefill_too() -> None:
    found = ask(lengths(1000, 100, rate=5.0))
    rng, shape, count = np.random.default_rng(0), found.waits, 200_000
    shares, longest = shape.short_shares[:, 0], shape.short_longest[:, 0]
    assert longest[0] == pytest.approx(float(found.latency.step[0, 0]))
    busy, planned, beside = (float(v[0]) for v in (shape.long_share, shape.planned, shape.beside))
    assert beside > 0.0
    assert busy + shares.sum() <= 1.0
    mean = (float(found.latency.wait[0, 0]) - planned + beside - shares @ longest / 2.0) / busy
    law = float(shape.long_cv[0]) ** -1.086  # shape of the Weibull law of this coefficient of variation
    others = mean * rng.weibull(law, count) / math.gamma(1.0 + 1.0 / law)
    kind = rng.choice(len(shares) + 2, count, p=[*shares, busy, 1.0 - busy - shares.sum()])
    waits = np.select([kind == len(shares), kind > len(shares)], [others, 0.0], rng.random(count))
    waits = np.where(kind < len(shares), waits * np.append(longest, (0.0, 0.0))[kind], waits)
    # what prompts beside a request's own add to its prefill is in its mean already
    drawn = found.latency.prefill + found.latency.front_end + planned + waits - beside
    for statistic, rank in (("p50", 50), ("p90", 90), ("p99", 99)):
        assert float(found.quantile("ttft", statistic)[0, 0]) == pytest.approx(np.percentile(drawn, rank), rel=0.01)
    assert drawn.mean() == pytest.approx(float(found.ttft[0, 0]), rel=0.005)


def test_gaps_between_tokens_are_steps_that_some_prompts_stretch() -> None:
    found = ask(lengths(4000, 400, rate=2.0))
    step, tail, mean = (float(v[0, 0]) for v in (found.latency.step, found.latency.itl_tail, found.tpot))
    assert step < mean < tail
    interrupted = (mean - step) / (tail - step)
    assert 0.01 < interrupted < 0.5
    assert float(found.quantile("itl", "p50")[0, 0]) == pytest.approx(step)
    # gaps with a prompt hold the Poisson number that is left above none, and are longest where several come at once
    entering = -np.log1p(-interrupted)
    count = np.random.default_rng(1).poisson(entering, 1_000_000)
    each = min(float(found.latency.interference[0, 0]), tail - step)
    stretched = np.where(count > 0, tail + each * (count - entering / interrupted), step)
    assert float(found.quantile("itl", "p99")[0, 0]) == pytest.approx(np.percentile(stretched, 99), rel=0.02)
    # a request's mean gap scatters as the number of prompts that hit it, binomial, nearly Poisson, which bring others;
    # as that of the sequences beside it; and by what queued behind it
    rng, shape = np.random.default_rng(0), found.tokens
    met = (rng.binomial(399, interrupted, 100_000) / 399 - interrupted) * (tail - step) * float(shape.gain[0])
    once = float(shape.settling[0]) / 399 * np.sqrt(4.0 / (3.0 * float(shape.settling_share[0])) - 1.0)
    drawn = mean + met + rng.normal(0.0, np.hypot(mean * float(shape.drift[0]), once), 100_000)
    for statistic, rank in (("p90", 90), ("p99", 99)):
        assert float(found.quantile("tpot", statistic)[0, 0]) == pytest.approx(np.percentile(drawn, rank), rel=0.05)


def test_a_quantile_that_is_none_is_refused() -> None:
    found = ask(ARRIVALS["single"])
    with pytest.raises(InputError, match=r"no quantile 'p42' of 'ttft'; known are ttft, tpot, itl, e2e at mean, p50"):
        found.quantile("ttft", "p42")
    with pytest.raises(InputError, match="no quantile 'p50' of 'latency'"):
        found.quantile("latency", "p50")


# -------------------------------------------------------------------------------- what fits, limits, spread


def test_what_does_not_fit_keeps_its_numbers_and_says_why() -> None:
    placed = deployments(DEVICES[:1], tp=np.array([1, 8]))
    found = estimate(model("llama-3.1-70b"), lengths(1000, 200, concurrency=8), placed, costs=Roofline())
    assert found.fits.tolist() == [False, True]
    assert "weights 141.1 GB" in found.reason(0)
    assert found.reason(1) == ""
    assert np.isfinite(found.tpot).all()
    assert found.tpot[0, 0] > found.tpot[0, 1]
    assert found.memory[0] > found.memory_use.capacity[0]


@pytest.mark.parametrize("arrival", ["closed", "offline", "open"])
def test_no_more_run_than_are_allowed(arrival: str) -> None:
    placed = deployments(DEVICES[:1], max_num_seqs=np.array([4.0, 64.0, np.nan]))
    workload = lengths(500, 500, arrival=arrival, concurrency=1000, rate=200.0, n_requests=10_000)
    found = ask(workload, placed)
    assert (found.running[:2] <= [4, 64]).all()
    assert found.running[2] > 64
    assert (np.diff(found.request_rate) > 0).all()


def test_a_smaller_token_budget_computes_prompts_in_more_pieces() -> None:
    placed = deployments(DEVICES[:1], max_num_batched_tokens=np.array([512.0, 8192.0]))
    found = ask(lengths(16_000, 10, arrival="single"), placed)
    assert found.ttft[0, 0] > found.ttft[0, 1]


@pytest.mark.parametrize(
    ("by", "budget"), [("vllm", 8192.0), ("vllm-v0", 30_100.0), ("llamacpp", 512.0), ("sarathi", 512.0)]
)
def test_budgets_follow_the_engine(by: str, budget: float) -> None:
    # vLLM V0 without chunking takes the longest sequence; llama.cpp computes 512 tokens at once whatever its batch
    workload = lengths(30_000, 100, concurrency=1.0)
    setup = prepare(LLAMA, deployments(DEVICES[:1]), engine(by), Roofline(), load_of(workload, 1))
    assert float(setup.steps.token_budget[0]) == budget


def test_sequences_kept_room_for_their_whole_length_are_fewer() -> None:
    held = {
        by: float(
            ask(lengths(500, 4000, n_requests=1e5), engine=engine("vllm").changed(admission=by)).memory_use.max_running[
                0
            ]
        )
        for by in ("grow", "reserve", "contiguous")
    }
    assert held["grow"] > held["reserve"] == pytest.approx(held["contiguous"], rel=0.01)


@pytest.mark.parametrize(
    ("column", "value"), [("tp", 0), ("tp", 1.5), ("pp", -1), ("ep", np.nan), ("dp", np.inf), ("replicas", 0.5)]
)
def test_impossible_parallelism_is_refused(column: str, value: float) -> None:
    with pytest.raises(InputError, match=f"{column}={value:g} is no degree of parallelism; give a whole number"):
        ask(ARRIVALS["single"], deployments(DEVICES[:1], **{column: np.array([1.0, value])}))


def test_an_unknown_engine_is_refused_with_the_nearest() -> None:
    with pytest.raises(UnknownName, match="unknown engine 'vlm'; did you mean 'vllm'"):
        ask(ARRIVALS["single"], engine="vlm")


def test_what_no_figure_is_known_for_is_unknown() -> None:
    # across nodes, where the device's network is not known
    placed = deployments([hwdb.device("sn40l")], tp=np.array([8, 32]))
    found = ask(lengths(100, 10, concurrency=1), placed)
    assert np.isfinite(found.tpot[0, 0])
    assert np.isnan(found.tpot[0, 1])
    assert BASES[int(found.basis[1])] == "unknown"
    assert np.isnan(found.power).all()


@settings(max_examples=15)
@given(
    prompt=st.floats(1, 1e6),
    output=st.floats(1, 1e5),
    concurrency=st.floats(1, 1e6),
    rate=st.floats(1e-6, 1e6),
    arrival=st.sampled_from(sorted(ARRIVALS)),
)
def test_absurd_loads_still_get_numbers(
    prompt: float, output: float, concurrency: float, rate: float, arrival: str
) -> None:
    workload = lengths(prompt, output, arrival=arrival, concurrency=concurrency, rate=rate, n_requests=concurrency)
    found = ask(workload, deployments(DEVICES[:2], device=np.array([0, 1])))
    for name in ("ttft", "tpot", "e2e", "request_rate", "power", "energy", "memory"):
        values = getattr(found, name)
        assert not np.isnan(values).any(), name
        assert (values >= 0).all(), name


@every_arrival
def test_frames_name_their_units_and_their_range(workload: Workload) -> None:
    found = ask(workload, many(5))
    frame = found.frame()
    assert len(frame) == len(found) == 5
    assert {"ttft_ms", "tpot_ms", "e2e_ms", "output_tok_s", "power_w_per_device", "memory_gb_per_device"} <= {*frame}
    np.testing.assert_allclose(frame["ttft_ms"], found.mean(found.ttft) * 1e3)
    np.testing.assert_allclose(frame["memory_gb_per_device"], found.memory / 1e9)
    for column in ("ttft_ms", "tpot_ms", "output_tok_s", "power_w_per_device"):
        assert (frame[f"{column}_lo"] < frame[column]).all()
        assert (frame[f"{column}_hi"] > frame[column]).all()
        # the range is symmetric in the logarithm
        np.testing.assert_allclose(frame[f"{column}_lo"] * frame[f"{column}_hi"], frame[column] ** 2)
    assert set(frame["basis"]) == {"roofline"}
    assert set(found.spread) == {"ttft", "tpot", "itl", "e2e", "throughput", "power", "energy"}


def test_a_class_without_requests_adds_nothing_to_a_mean() -> None:
    found = ask(lengths([200, 4000], [40, 40], share=[1.0, 0.0], rate=1.0))
    for unknown in (np.inf, np.nan):
        assert found.mean(np.array([[2.5], [unknown]])) == pytest.approx([2.5])
    assert np.isinf(found.mean(np.array([[np.inf], [1.0]]))).all()


def test_an_estimate_that_remembers_steps_is_the_one_that_prices_them() -> None:
    """The second of two calls finds the prompts of the first; another device of the same name finds nothing of it."""
    spec, h100 = model("meta-llama/Llama-3.1-8B"), hwdb.device("h100-sxm")
    half, key = dict(h100.records), "memory.bandwidth"
    half[key] = replace(half[key], value=float(half[key].value) / 2.0)
    for device in (h100, replace(h100, records=half)):
        placed = deployments((device,), tp=[1, 2])
        for work in (lengths(900, 100, rate=0.5), lengths(900, 100, rate=2.0), lengths(900, 100, concurrency=9)):
            alone = estimate_load(spec, load_of(work, 2), placed, engine=engine("vllm"))
            for name, column in estimate(spec, work, placed).columns().items():
                np.testing.assert_array_equal(column, alone.columns()[name])


def test_young_sequences_of_a_run_take_no_more_memory_than_the_engine_allows() -> None:
    """A run of prompts of 43,000 tokens begins more than fit at their mean length; they share the same KV cache."""
    work = Workload.from_lengths([196, 43173, 7038], [5, 2798, 1466], n_requests=1419)
    row = deployments([hwdb.device("mi210")], pp=4, replicas=3, max_num_batched_tokens=16384, max_num_seqs=512)
    found = estimate(model("Qwen/Qwen3-30B-A3B"), work, row, engine="vllm-v0", costs=Roofline())
    assert found.running[0] > found.memory_use.max_running[0]
    share = engine("vllm-v0").limits(hwdb.device("mi210")).gpu_memory_utilization
    assert found.memory[0] <= share * found.memory_use.capacity[0] * (1.0 + 1e-9)
