"""Each equation against brute force, a closed form or a simulation, and under a change of base units."""

from __future__ import annotations

import inspect
import math
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import rooms
from hypothesis import given
from hypothesis import strategies as st

from perfmodel import equations as eq

count = st.integers(1, 4096)
positive = st.floats(1e-3, 1e3)


# ------------------------------------------------------------------------------------------------------ base units

#: Dimensions as (flop, byte, second) exponents: of each argument, and of the answer. Counts have none.
NONE, FLOP, BYTE, SECOND = (0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1)
FLOP_RATE, BYTE_RATE = (1, 0, -1), (0, 1, -1)
_COLLECTIVE = {"message": BYTE, "group": NONE, "bandwidth": BYTE_RATE, "latency": SECOND}
DIMENSIONS: dict[Callable[..., object], tuple[dict[str, tuple[int, int, int]], tuple[int, int, int]]] = {
    eq.gemm_flop: (dict.fromkeys("mnk", NONE), NONE),
    eq.gemm_bytes: ({**dict.fromkeys("mnk", NONE), "act_bytes": BYTE, "weight_bytes": BYTE, "out_bytes": BYTE}, BYTE),
    eq.causal_pairs: ({"query": NONE, "context": NONE, "window": NONE}, NONE),
    eq.chunked_pairs: ({"query": NONE, "context": NONE, "chunk": NONE}, NONE),
    eq.attention_flop: ({"pairs": NONE, "heads": NONE, "key_dim": NONE, "value_dim": NONE}, NONE),
    eq.elementwise_bytes: ({"rows": NONE, "values": NONE, "value_bytes": BYTE}, BYTE),
    eq.keys_read: ({"query": NONE, "context": NONE, "window": NONE}, NONE),
    eq.grouped_gemm_flop: (dict.fromkeys(("pairs", "hidden", "inner", "up"), NONE), NONE),
    eq.grouped_gemm_bytes: (
        {
            **dict.fromkeys(("pairs", "touched", "hidden", "inner", "up"), NONE),
            **dict.fromkeys(("act_bytes", "weight_bytes", "out_bytes"), BYTE),
        },
        BYTE,
    ),
    eq.indexer_flop: (dict.fromkeys(("pairs", "heads", "key_dim"), NONE), NONE),
    eq.recurrent_flop: ({"tokens": NONE, "heads": NONE, "key_dim": NONE, "value_dim": NONE}, NONE),
    eq.experts_touched: ({"experts": NONE, "top_k": NONE, "tokens": NONE}, NONE),
    eq.popular_experts_touched: ({"experts": NONE, "top_k": NONE, "tokens": NONE}, NONE),
    eq.busiest_share: ({"pairs": NONE, "groups": NONE, "skew": NONE}, NONE),
    eq.rank_chance: ({"ranks": NONE, "top_k": NONE}, NONE),
    eq.least_time: (
        {
            "flop": FLOP,
            "moved": BYTE,
            "linked": BYTE,
            "peak": FLOP_RATE,
            "bandwidth": BYTE_RATE,
            "link_bandwidth": BYTE_RATE,
        },
        SECOND,
    ),
    eq.collective_bytes: ({"message": BYTE, "group": NONE, "passes": NONE}, BYTE),
    eq.exchange_time: ({**_COLLECTIVE, "hops": NONE, "passes": NONE}, SECOND),
    eq.tree_time: ({**_COLLECTIVE, "passes": NONE}, SECOND),
    eq.one_shot_time: (_COLLECTIVE, SECOND),
    eq.all_to_all_time: ({**_COLLECTIVE, "distance": NONE}, SECOND),
    eq.normal_chance: ({"deviate": NONE}, NONE),
    eq.normal_deviate: ({"chance": NONE}, NONE),
    eq.normal_excess: ({"mean": SECOND, "deviation": SECOND}, SECOND),
    eq.places_reached: ({"places": NONE, "top_k": NONE}, NONE),
    eq.scattered_time: (
        {"far": BYTE, "near": BYTE, "net_bandwidth": BYTE_RATE, "link_bandwidth": BYTE_RATE, "latency": SECOND},
        SECOND,
    ),
    eq.chain_chance: (dict.fromkeys(("position", "acceptance", "decay"), NONE), NONE),
    eq.tokens_per_step: (dict.fromkeys(("drafts", "acceptance", "decay"), NONE), NONE),
    eq.acceptance_of: (dict.fromkeys(("drafts", "tokens", "decay"), NONE), NONE),
    eq.all_busy: ({"utilisation": NONE, "servers": NONE}, NONE),
    eq.split_cv: ({"arrival_cv": NONE, "share": NONE}, NONE),
    eq.burst_wait: ({"utilisation": NONE, "service": SECOND, "arrival_cv": NONE}, SECOND),
    eq.peakedness: ({"offered": NONE, "arrival_cv": NONE, "shorter": NONE}, NONE),
    eq.queue_wait: (
        {"utilisation": NONE, "service": SECOND, "arrival_cv": NONE, "service_cv": NONE, "servers": NONE},
        SECOND,
    ),
}
#: Functions that hold sizes of their own (16-bit rows, a latent's dimensions), so that their arguments do not rescale;
#: tests/test_equations_work.py holds them.
SIXTEEN_BIT_ROWS = {
    eq.attention_bytes,
    eq.mla_flop,
    eq.mla_bytes,
    eq.mla_prefill_bytes,
    eq.recurrent_bytes,
    eq.indexer_bytes,
}
#: Values that keep each argument in its range.
RANGES = {
    "utilisation": st.floats(0.0, 0.99),
    "position": st.integers(1, 16).map(float),
    "drafts": st.integers(0, 16).map(float),
    "acceptance": st.floats(0.0, 1.0),
    "chance": st.floats(0.001, 0.999),
    "deviate": st.floats(-6.0, 6.0),
    "decay": st.floats(0.5, 1.0),
    "shorter": st.floats(0.3, 1.0),
    "servers": st.integers(1, 64).map(float),
    "group": st.integers(1, 512).map(float),
    "groups": st.integers(1, 512).map(float),
    "ranks": st.integers(1, 512).map(float),
    "experts": st.integers(8, 512).map(float),
    "top_k": st.integers(1, 8).map(float),
}


def test_every_equation_states_its_dimensions() -> None:
    public = {getattr(eq, name) for name in eq.__all__ if inspect.isfunction(getattr(eq, name))}
    assert public == set(DIMENSIONS) | SIXTEEN_BIT_ROWS


@pytest.mark.parametrize("module", sorted(Path(eq.__file__).parent.glob("*.py")), ids=lambda p: p.stem)
def test_equations_stand_on_arrays_alone(module: Path) -> None:
    for found in rooms.imports_of("perfmodel.equations.x", module.read_text(encoding="utf-8")):
        if found.target.startswith("perfmodel"):
            assert found.target.startswith(("perfmodel.arrays", "perfmodel.equations"))


@pytest.mark.parametrize(
    "equation", sorted(set(eq.__all__) - {"DEEPSEEK_MLA", "MOST_DRAFTS", "SIXTEEN_BIT", "MlaSizes"})
)
def test_every_equation_documents_its_parameters_source_and_an_example(equation: str) -> None:
    function = getattr(eq, equation)
    text = inspect.getdoc(function) or ""
    assert all(f"{title}\n---" in text for title in ("Parameters", "Returns", "References", "Examples"))
    assert ">>> " in text
    listed = text.split("Parameters\n")[1].split("Returns\n")[0]
    for name in inspect.signature(function).parameters:
        assert re.search(rf"^(\w+, )*{name}(, \w+)* : ", listed, re.MULTILINE), f"{equation}: {name}"


@pytest.mark.parametrize("equation", DIMENSIONS, ids=lambda f: f.__name__)
@given(data=st.data(), scales=st.tuples(positive, positive, positive))
def test_rescaling_the_base_units_rescales_the_answer(
    equation: Callable[..., float], data: st.DataObject, scales: tuple[float, float, float]
) -> None:
    arguments, answer = DIMENSIONS[equation]

    def factor(dimension: tuple[int, int, int]) -> float:
        return math.prod(s**e for s, e in zip(scales, dimension, strict=True))

    values = {name: data.draw(RANGES.get(name, positive), label=name) for name in arguments}
    scaled = {name: value * factor(arguments[name]) for name, value in values.items()}
    assert equation(**scaled) == pytest.approx(factor(answer) * equation(**values), rel=1e-9)


@pytest.mark.parametrize("equation", DIMENSIONS, ids=lambda f: f.__name__)
def test_arrays_hold_what_scalars_give(equation: Callable[..., np.ndarray]) -> None:
    rng = np.random.default_rng(7)
    names = DIMENSIONS[equation][0]
    columns = {
        n: rng.uniform(0.05, 0.95, 6)
        if n in ("utilisation", "acceptance", "decay")
        else rng.integers(1, 64, 6).astype(float)
        for n in names
    }
    together = equation(**columns)
    apart = [float(equation(**{n: c[i] for n, c in columns.items()})) for i in range(6)]
    np.testing.assert_allclose(together, apart, rtol=1e-12)


# ------------------------------------------------------------------------------------------------------- arithmetic


def test_gemm_flop_counts_every_multiply_and_add() -> None:
    m, n, k = 3, 5, 7
    operations = sum(2 for _ in range(m) for _ in range(n) for _ in range(k))
    assert eq.gemm_flop(m, n, k) == operations


@given(m=count, n=count, k=count)
def test_gemm_bytes_is_the_size_of_the_three_matrices(m: int, n: int, k: int) -> None:
    sizes = [np.dtype(np.float16).itemsize * m * k, np.dtype(np.int8).itemsize * k * n, 2 * m * n]
    assert eq.gemm_bytes(m, n, k, act_bytes=2.0, weight_bytes=1.0) == sum(sizes)


@given(query=st.integers(0, 200), context=st.integers(0, 300), window=st.one_of(st.integers(1, 400), st.just(np.inf)))
def test_causal_pairs_counts_what_each_token_sees(query: int, context: int, window: float) -> None:
    seen = sum(min(context + i, window) for i in range(1, query + 1))
    assert eq.causal_pairs(query, context, window) == pytest.approx(seen, rel=1e-12)


@given(query=st.integers(0, 200), context=st.integers(0, 300), chunk=st.integers(1, 400))
def test_chunked_pairs_counts_what_each_token_sees(query: int, context: int, chunk: int) -> None:
    seen = sum(position % chunk + 1 for position in range(context, context + query))
    assert eq.chunked_pairs(query, context, chunk) == pytest.approx(seen, rel=1e-12)
    assert seen <= eq.causal_pairs(query, context, chunk)


@given(pieces=st.lists(st.integers(1, 64), min_size=1, max_size=8), window=st.integers(1, 300))
def test_a_prompt_computed_in_chunks_evaluates_the_same_pairs(pieces: list[int], window: int) -> None:
    before = np.cumsum([0, *pieces[:-1]])
    for sight in (np.inf, window):
        chunks = eq.causal_pairs(np.array(pieces), before, sight).sum()
        assert chunks == pytest.approx(float(eq.causal_pairs(sum(pieces), 0, sight)), rel=1e-12)


@given(pairs=count, heads=count, key=count, value=count)
def test_attention_is_two_gemms_a_head(pairs: int, heads: int, key: int, value: int) -> None:
    scores, weighted = eq.gemm_flop(1, pairs, key), eq.gemm_flop(1, value, pairs)
    assert eq.attention_flop(pairs, heads, key, value) == heads * (scores + weighted)


def test_a_recurrence_is_linear_in_length_where_attention_is_quadratic() -> None:
    assert eq.recurrent_flop(2000, 8, 64, 64) == 2 * eq.recurrent_flop(1000, 8, 64, 64)
    ratio = eq.causal_pairs(20_000, 0) / eq.causal_pairs(10_000, 0)
    assert ratio == pytest.approx(4.0, rel=1e-3)


@given(flop=positive, peak=positive, moved=positive, bandwidth=positive)
def test_roofline_bends_at_the_ridge_point(flop: float, peak: float, moved: float, bandwidth: float) -> None:
    time = float(eq.least_time(flop, moved, peak=peak, bandwidth=bandwidth))
    intensity, ridge = flop / moved, peak / bandwidth
    attained = flop / time
    assert attained == pytest.approx(min(peak, intensity * bandwidth), rel=1e-9)
    assert (attained == pytest.approx(peak)) == (intensity >= ridge * (1 - 1e-6))


def test_the_link_is_a_third_roof_and_an_unknown_rate_makes_the_time_unknown() -> None:
    assert float(eq.least_time(1.0, 1.0, 8.0, peak=1.0, bandwidth=1.0, link_bandwidth=2.0)) == 4.0
    assert np.isnan(eq.least_time(1.0, 1.0, peak=np.nan, bandwidth=1.0))


# ------------------------------------------------------------------------------------------------------------ experts


@pytest.mark.parametrize(("experts", "top_k", "tokens"), [(8, 2, 1), (8, 2, 16), (64, 6, 8), (256, 8, 1), (256, 8, 64)])
def test_experts_touched_agrees_with_routing_at_random(experts: int, top_k: int, tokens: int) -> None:
    rng = np.random.default_rng(11)
    trials = 400
    # the top_k largest of random scores are a uniform choice without repetition
    picks = np.argpartition(rng.random((trials, tokens, experts)), top_k - 1, axis=2)[:, :, :top_k]
    touched = np.array([len(np.unique(p)) for p in picks])
    error = touched.std(ddof=1) / math.sqrt(trials)
    assert float(eq.experts_touched(experts, top_k, tokens)) == pytest.approx(touched.mean(), abs=4 * error + 1e-9)


@given(experts=st.integers(2, 512), top_k=st.integers(1, 16), tokens=st.floats(1.0, 1e5))
def test_experts_touched_lies_between_one_token_and_all(experts: int, top_k: int, tokens: float) -> None:
    top_k = min(top_k, experts)
    touched = float(eq.experts_touched(experts, top_k, tokens))
    assert top_k * (1 - 1e-9) <= touched <= min(experts, top_k * tokens) * (1 + 1e-9)
    assert float(eq.experts_touched(experts, top_k, 2 * tokens)) >= touched * (1 - 1e-12)


@pytest.mark.parametrize(("experts", "top_k", "tokens"), [(8, 2, 3), (64, 6, 8), (256, 8, 1), (256, 8, 64)])
def test_popular_experts_touched_agrees_with_popularities_at_random(experts: int, top_k: int, tokens: int) -> None:
    chance = np.random.default_rng(5).beta(1.0, experts / top_k - 1.0, (20_000, experts))
    # the chance that none of the tokens picks an expert, given its popularity
    touched = (1.0 - (1.0 - chance) ** tokens).sum(axis=1)
    error = touched.std(ddof=1) / math.sqrt(len(touched))
    assert float(eq.popular_experts_touched(experts, top_k, tokens)) == pytest.approx(touched.mean(), abs=4 * error)


@given(experts=st.integers(1, 512), top_k=st.integers(1, 16), tokens=st.floats(1.0, 1e5))
def test_popular_experts_are_fewer_than_even_ones_and_grow_with_tokens(experts: int, top_k: int, tokens: float) -> None:
    top_k = min(top_k, experts)
    touched, more = (float(eq.popular_experts_touched(experts, top_k, t)) for t in (tokens, 2 * tokens))
    assert top_k * (1 - 1e-9) <= touched <= float(eq.experts_touched(experts, top_k, tokens)) * (1 + 1e-9)
    assert touched * (1 - 1e-12) <= more <= experts * (1 + 1e-12)
    assert float(eq.popular_experts_touched(experts, top_k, 1.0)) == pytest.approx(top_k)
    assert float(eq.popular_experts_touched(experts, top_k, 0.0)) == 0.0


def test_the_only_expert_is_touched_by_any_token() -> None:
    assert float(eq.experts_touched(1.0, 1.0, 1.0)) == pytest.approx(1.0)
    assert float(eq.experts_touched(1.0, 2.0, 1.0)) == pytest.approx(1.0)


def test_every_expert_is_touched_when_every_token_picks_all() -> None:
    assert float(eq.experts_touched(4.0, 4.0, 1.0)) == pytest.approx(4.0)


@pytest.mark.parametrize(("pairs", "groups"), [(512, 8), (4096, 8), (4096, 32), (65536, 64)])
def test_the_busiest_rank_agrees_with_balls_thrown_into_bins(pairs: int, groups: int) -> None:
    rng = np.random.default_rng(3)
    thrown = rng.multinomial(pairs, np.full(groups, 1.0 / groups), size=2000).max(axis=1).mean()
    excess = float(eq.busiest_share(pairs, groups)) - 1.0
    # the formula is the leading term of the maximum: above the mean of simulations, by less than half its excess
    assert 1.0 <= excess / (thrown * groups / pairs - 1.0) < 1.5


@given(pairs=st.floats(1.0, 1e6), groups=st.integers(1, 256), skew=st.floats(0.0, 1.0))
def test_the_busiest_rank_never_holds_more_than_everything(pairs: float, groups: int, skew: float) -> None:
    share = float(eq.busiest_share(pairs, groups, skew))
    assert 1.0 <= share <= groups
    assert float(eq.busiest_share(pairs, 1, skew)) == 1.0


@pytest.mark.parametrize("groups", [1, 2, 3, 64])
def test_many_pairs_even_out_but_for_the_skew(groups: int) -> None:
    assert float(eq.busiest_share(1e18, groups, 0.2)) == pytest.approx(1.2 if groups > 1 else 1.0, abs=1e-6)
    assert float(eq.busiest_share(1e18, groups)) == pytest.approx(1.0, abs=1e-6)
    assert float(eq.busiest_share(0.0, groups)) == groups  # hardly any pair: one rank has all there is


@pytest.mark.parametrize(("ranks", "top_k"), [(1, 1), (1, 4), (2, 1), (2, 3), (5, 4), (64, 8)])
def test_a_rank_is_met_as_often_as_in_all_draws(ranks: int, top_k: int) -> None:
    # counted over the picks one after the other: those that miss the rank leave (ranks - 1) of each ranks draws
    missed = 1.0
    for _ in range(top_k):
        missed -= missed / ranks
    assert float(eq.rank_chance(ranks, top_k)) == pytest.approx(1.0 - missed)


# -------------------------------------------------------------------------------------------------------- collectives


def ring_steps(message: float, group: int, bandwidth: float, latency: float, passes: int) -> float:
    """A ring played out: every step, each device hands the next one piece of the vector on."""
    clock = 0.0
    for _ in range(passes):
        held = {0}
        while len(held) < group:
            clock += latency + message / group / bandwidth
            held |= {(max(held) + 1) % group}
    return clock


@pytest.mark.parametrize("group", [1, 2, 3, 8, 16])
@pytest.mark.parametrize("passes", [1, 2])
def test_the_ring_agrees_with_its_steps(group: int, passes: int) -> None:
    expected = ring_steps(1e6, group, 1e9, 2e-6, passes)
    assert float(eq.exchange_time(1e6, group, 1e9, 2e-6, group - 1, passes)) == pytest.approx(expected, rel=1e-12)


@given(message=st.floats(1.0, 1e10), group=st.integers(2, 256))
def test_no_collective_beats_the_bandwidth_it_needs(message: float, group: int) -> None:
    least = 2.0 * (group - 1) / group * message / 1e11  # Patarasuk & Yuan, J. Parallel Distrib. Comput. 69(2), 2009
    times = (
        eq.exchange_time(message, group, 1e11, 1e-6, group - 1, 2.0),
        eq.exchange_time(message, group, 1e11, 1e-6, 1.0, 2.0),
        eq.tree_time(message, group, 1e11, 1e-6, 2.0),
        eq.one_shot_time(message, group, 1e11, 1e-6),
    )
    assert min(map(float, times)) >= least * (1 - 1e-9)
    assert float(eq.exchange_time(message, group, 1e11, 0.0, group - 1, 2.0)) == pytest.approx(least)


def test_small_messages_favour_one_shot_and_large_ones_two() -> None:
    def fastest(message: float) -> str:
        times = {
            "ring": eq.exchange_time(message, 8, 4.5e11, 2e-6, 7, 2.0),
            "two shot": eq.exchange_time(message, 8, 4.5e11, 2e-6, 1, 2.0),
            "tree": eq.tree_time(message, 8, 4.5e11, 2e-6, 2.0),
            "one shot": eq.one_shot_time(message, 8, 4.5e11, 2e-6),
        }
        return min(times, key=lambda name: float(times[name]))

    assert fastest(1e3) == "one shot"
    assert fastest(1e9) == "two shot"


@pytest.mark.parametrize("equation", [eq.one_shot_time, eq.all_to_all_time])
def test_one_device_talks_to_nobody(equation: Callable[..., np.ndarray]) -> None:
    assert float(equation(1e6, 1.0, 1e9, 1e-6)) == 0.0
    assert float(eq.tree_time(1e6, 1.0, 1e9, 1e-6, 2.0)) == 0.0
    assert float(eq.exchange_time(1e6, 1.0, 1e9, 1e-6, 0.0, 2.0)) == 0.0
    assert float(eq.exchange_time(1e6, 1.0, 1e9, 1e-6, 1.0, 2.0)) == 0.0


@pytest.mark.parametrize("devices", [2, 3, 4, 6, 8])
def test_every_collective_of_a_few_devices_by_its_messages(devices: int) -> None:
    message, bandwidth, latency = 12e6, 1e9, 1e-3
    piece = message / devices / bandwidth
    others = devices - 1
    assert float(eq.collective_bytes(message, devices, 1.0)) == pytest.approx(others * message / devices)
    assert float(eq.exchange_time(message, devices, bandwidth, latency, 1.0, 1.0)) == pytest.approx(
        latency + others * piece
    )
    assert float(eq.one_shot_time(message, devices, bandwidth, latency)) == pytest.approx(
        latency + others * devices * piece
    )
    rounds = 0.0  # a doubling tree reaches twice as many devices in every round
    reached = 1
    while 2 * reached <= devices:
        rounds, reached = rounds + 1, 2 * reached
    whole = devices == reached
    tree, exchanged = (
        float(eq.tree_time(message, devices, bandwidth, latency, 2.0)) - 2.0 * message / bandwidth,
        float(eq.all_to_all_time(message, devices, bandwidth, latency, 3.0)) - 3.0 * others * piece,
    )
    assert exchanged == pytest.approx(tree / 2.0)
    assert exchanged == pytest.approx(rounds * latency) if whole else rounds * latency < exchanged
    assert exchanged < (rounds + 1) * latency


def test_all_to_all_keeps_its_own_share() -> None:
    sent = sum(1e6 / 8 for other in range(8) if other != 0)
    assert float(eq.all_to_all_time(1e6, 8, 1e9, 0.0)) == pytest.approx(sent / 1e9)


# ------------------------------------------------------------------------------------------------------------ queues


def lindley(gaps: np.ndarray, service: np.ndarray) -> float:
    """Mean wait in a single-server queue played out customer by customer (Lindley 1952)."""
    wait, total = 0.0, 0.0
    for gap, served in zip(gaps.tolist(), service.tolist(), strict=True):
        total += wait
        wait = max(wait + served - gap, 0.0)
    return total / len(gaps)


@pytest.mark.parametrize("load", [0.2, 0.5, 0.7])
@pytest.mark.parametrize("service_cv", [0.0, 1.0])
def test_the_wait_is_that_of_a_simulated_queue(load: float, service_cv: float) -> None:
    rng = np.random.default_rng(5)
    customers = 200_000
    gaps = rng.exponential(1.0 / load, customers)
    service = rng.exponential(1.0, customers) if service_cv else np.ones(customers)
    assert float(eq.queue_wait(load, 1.0, 1.0, service_cv)) == pytest.approx(lindley(gaps, service), rel=0.08)


def test_exponential_service_waits_as_the_textbook_says() -> None:
    arrivals, service = 0.8, 1.0
    in_system = arrivals / (1.0 - arrivals)  # M/M/1
    assert float(eq.queue_wait(arrivals, 1.0, 1.0, 1.0)) == pytest.approx(in_system / arrivals - service)


def erlang_c(servers: int, load: float) -> float:
    """Chance to find all servers busy, term by term (Erlang 1917)."""
    offered = servers * load
    free = sum(offered**n / math.factorial(n) for n in range(servers))
    full = offered**servers / math.factorial(servers) / (1.0 - load)
    return full / (free + full)


@pytest.mark.parametrize("servers", [1, 2, 3, 5, 10, 30])
@pytest.mark.parametrize("load", [0.1, 0.3, 0.5, 0.7, 0.9, 0.99])
def test_several_servers_are_all_busy_as_erlang_says(servers: int, load: float) -> None:
    exact = erlang_c(servers, load)
    assert float(eq.all_busy(load, servers)) == pytest.approx(exact, abs=1e-12 if servers == 1 else 0.06)
    wait = exact / servers / (1.0 - load)  # M/M/m
    if load >= 0.7 and servers <= 5:
        assert float(eq.queue_wait(load, 1.0, 1.0, 1.0, servers)) == pytest.approx(wait, rel=0.1)


@pytest.mark.parametrize("servers", [1.0, 4.0, 16.0])
def test_a_busy_pool_waits_like_one_fast_server(servers: float) -> None:
    apart = float(eq.queue_wait(0.999, 1.0, servers=servers))
    assert apart == pytest.approx(float(eq.queue_wait(0.999, 1.0 / servers)), rel=0.01)


def test_a_full_server_makes_everybody_wait_for_ever() -> None:
    assert np.isinf(eq.queue_wait(np.array([1.0, 1.5]), 1.0)).all()
    assert float(eq.queue_wait(0.0, 1.0)) == 0.0
    assert float(eq.queue_wait(0.9, 1.0, 0.0, 0.0)) == 0.0  # a clockwork never queues


def test_the_normal_distribution_is_the_same_for_few_values_and_for_many() -> None:
    """The standard library's values, one by one, against SciPy's; each is the inverse of the other."""
    deviates = np.linspace(-8.0, 8.0, 100_001)
    few, many = eq.normal_chance(deviates[::100]), eq.normal_chance(deviates)
    np.testing.assert_allclose(few, many[::100], rtol=1e-12)
    chances = np.linspace(0.0, 1.0, 100_001)
    np.testing.assert_allclose(eq.normal_deviate(chances[::100]), eq.normal_deviate(chances)[::100], rtol=1e-9)
    np.testing.assert_allclose(eq.normal_chance(eq.normal_deviate(chances)), chances, atol=1e-12)
    assert np.isnan(eq.normal_deviate(np.array([-0.1, 1.1, np.nan]))).all()


def test_what_of_a_normal_variable_lies_above_zero_is_its_integral() -> None:
    means, deviation = np.array([-3.0, -1.0, 0.0, 2.0, 30.0]), 1.7
    chances = (np.arange(200_000) + 0.5) / 200_000
    drawn = np.maximum(means[:, None] + deviation * eq.normal_deviate(chances), 0.0)
    np.testing.assert_allclose(eq.normal_excess(means, deviation), drawn.mean(axis=1), rtol=1e-3)
    assert float(eq.normal_excess(-100.0, 1.0)) == 0.0


# ------------------------------------------------------------------------------------------------------------ bursts

BURSTY = st.floats(1.0, 20.0)
SHARE = st.floats(0.0, 1.0)


@given(cv=st.floats(0.01, 20.0), share=SHARE, other=SHARE)
def test_a_part_of_a_stream_is_between_the_whole_and_poisson(cv: float, share: float, other: float) -> None:
    part = float(eq.split_cv(cv, share))
    assert float(eq.split_cv(cv, 1.0)) == pytest.approx(cv)
    assert float(eq.split_cv(cv, 0.0)) == pytest.approx(min(cv, 1.0))
    assert min(cv, 1.0) * (1 - 1e-12) <= part <= cv * (1 + 1e-12)
    if share <= other:
        assert part <= float(eq.split_cv(cv, other)) * (1 + 1e-12)


@given(share=SHARE)
def test_a_part_of_a_poisson_stream_is_one(share: float) -> None:
    assert float(eq.split_cv(1.0, share)) == pytest.approx(1.0)


@given(cv=BURSTY, share=SHARE, part=SHARE)
def test_a_part_of_a_part_is_the_part_of_both(cv: float, share: float, part: float) -> None:
    assert float(eq.split_cv(eq.split_cv(cv, share), part)) == pytest.approx(float(eq.split_cv(cv, share * part)))


@pytest.mark.parametrize("cv", [2.0, 6.0])
@pytest.mark.parametrize("parts", [2, 5, 20])
def test_requests_that_are_drawn_for_a_part_come_as_the_law_says(cv: float, parts: int) -> None:
    rng, count = np.random.default_rng(3), 2_000_000
    arrival = np.cumsum(rng.gamma(1.0 / cv**2, cv**2, count))
    gaps = np.diff(arrival[rng.random(count) < 1.0 / parts])
    assert gaps.std() / gaps.mean() == pytest.approx(float(eq.split_cv(cv, 1.0 / parts)), rel=0.02)
    turns = np.diff(arrival[::parts])  # a router that takes turns deals a burst more evenly
    assert turns.std() / turns.mean() == pytest.approx(cv / parts**0.5, rel=0.02)
    assert turns.std() / turns.mean() < float(eq.split_cv(cv, 1.0 / parts))


@pytest.mark.parametrize("cv", [1.5, 3.0, 6.0])
@pytest.mark.parametrize("busy", [0.15, 0.5, 0.8])
def test_a_burst_waits_as_in_a_queue_that_is_followed(cv: float, busy: float) -> None:
    """Services of one second: Lindley's recursion, less what Poisson arrivals wait (Pollaczek and Khinchine)."""
    walk = np.cumsum(1.0 - np.random.default_rng(1).gamma(1.0 / cv**2, cv**2, 1_000_000) / busy)
    waits = walk - np.minimum.accumulate(np.minimum(walk, 0.0))
    usual = busy / (1.0 - busy) / 2.0
    assert usual + float(eq.burst_wait(busy, 1.0, cv)) == pytest.approx(waits.mean(), rel=0.05, abs=0.3)


@given(busy=st.floats(0.001, 0.999), cv=BURSTY)
def test_the_wait_of_a_burst_is_that_of_heavy_traffic_or_longer(busy: float, cv: float) -> None:
    kingman = float(eq.queue_wait(busy, 1.0, cv)) - float(eq.queue_wait(busy, 1.0))
    found = float(eq.burst_wait(busy, 1.0, cv))
    assert found >= kingman * (1 - 1e-6)
    assert float(eq.burst_wait(busy, 1.0, 1.0)) == 0.0
    assert float(eq.burst_wait(busy * 0.9, 1.0, cv)) <= found * (1 + 1e-9)
    assert float(eq.burst_wait(1.0, 1.0, 2.0)) == np.inf
    near = float(eq.burst_wait(0.9999, 1.0, 2.0)) / float(eq.queue_wait(0.9999, 1.0, 2.0)) / 0.75
    assert near == pytest.approx(1.0, rel=1e-3)
