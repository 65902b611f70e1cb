"""Low-rank adapters: who is in a batch, bytes and FLOP by hand, memory, what the published systems report."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

import hwdb
from hwdb import InputError, UnknownName
from perfmodel import Workload, estimate, explain, model
from perfmodel import equations as eq
from perfmodel.costs import Roofline
from perfmodel.costs.step_costs.steps import step_cost
from perfmodel.deployment.adapters import adapter_bytes, sites
from perfmodel.deployment.columns import deployments
from perfmodel.deployment.sharding import Sharding, shard
from perfmodel.hardware.columns import hardware_of
from perfmodel.hardware.host import host_link_bandwidth
from perfmodel.models.lora import TARGETS, Adapters, distinct_drawn, popularity
from perfmodel.operators.demand import Demand
from perfmodel.operators.lora import adapter_bytes_fetched, adapting
from perfmodel.operators.step import Step
from perfmodel.simulator import simulate, summary

H100, A100 = [hwdb.device("h100-sxm")], [hwdb.device("a100-sxm-80gb")]
LLAMA, LLAMA2, MIXTRAL = "llama-3.1-8b", "meta-llama/Llama-2-7b-hf", "mistralai/Mixtral-8x7B-v0.1"
#: Trainable parameters that training tools print for rank 16 on all linear layers of Llama 3 8B.
TRAINABLE = 41_943_040


def laid(name: str, adapters: Adapters | None, **columns: object) -> Sharding:
    return shard(model(name), deployments(H100, adapters=adapters, **columns))


def total(demands: list[Demand], what: str) -> float:
    return sum(float(np.ravel(getattr(d, what) * d.count)[0]) for d in demands)


def answers(seqs: float) -> Step:
    return Step(decode_seqs=seqs, decode_context=500.0)


# ----------------------------------------------------------------------------------------------------- who is there


@pytest.mark.parametrize(("count", "zipf"), [(8, 0.0), (100, 0.0), (50, 1.0), (200, 1.8)])
@pytest.mark.parametrize("batch", [1, 7, 64])
def test_distinct_adapters_of_a_batch_are_those_of_random_draws(count: int, zipf: float, batch: int) -> None:
    drawn = np.random.default_rng(3).choice(count, size=(20_000, batch), p=popularity(count, zipf).shares)
    seen = np.array([len(set(row)) for row in drawn.tolist()])
    expected = float(Adapters(16, count, zipf=zipf).distinct(np.array(float(batch))))
    assert expected == pytest.approx(seen.mean(), abs=4 * seen.std() / np.sqrt(len(seen)) + 1e-9)


def test_alike_adapters_follow_the_closed_form_of_routed_experts() -> None:
    batch = np.array([1.0, 2.0, 31.0, 300.0, 5000.0])
    found = Adapters(8, 120).distinct(batch)
    np.testing.assert_allclose(found, eq.experts_touched(120.0, 1.0, batch), rtol=1e-4)
    np.testing.assert_allclose(
        distinct_drawn(popularity(120, 0.0).shares, batch), eq.experts_touched(120.0, 1.0, batch)
    )


@pytest.mark.parametrize("zipf", [0.0, 0.7, 2.0])
def test_a_batch_holds_one_to_all_adapters_and_never_more_than_are_resident(zipf: float) -> None:
    batch = np.geomspace(1, 1e5, 200)
    found = Adapters(8, 40, resident=30, zipf=zipf).distinct(batch)
    assert found[0] == pytest.approx(1.0)
    assert np.all(np.diff(found) >= 0)
    assert np.all(found <= np.minimum(batch + 1e-9, 30))


@pytest.mark.parametrize("zipf", [0.0, 0.6, 1.0, 1.3, 3.0])
@pytest.mark.parametrize("count", [1025, 5_000, 200_000])
def test_bins_of_the_tail_sum_like_one_adapter_at_a_time(count: int, zipf: float) -> None:
    plain = np.arange(1.0, count + 1.0) ** -zipf
    plain /= plain.sum()
    shares, numbers = popularity(count, zipf)
    assert numbers.sum() == count
    assert len(numbers) < 1600
    assert float(shares @ numbers) == pytest.approx(1.0, rel=1e-6)
    batch = np.array([1.0, 30.0, 2_000.0, 100_000.0])
    np.testing.assert_allclose(distinct_drawn(shares, batch, numbers), distinct_drawn(plain, batch), rtol=1e-3)
    for held in (1, 900, 1024, count - 1):
        missing = Adapters(8, count, resident=held, zipf=zipf).missing
        assert missing == pytest.approx(plain[held:].sum(), rel=1e-3, abs=1e-12), held


def test_billions_of_adapters_take_no_more_than_thousands() -> None:
    many = Adapters(8, 2_000_000_000, resident=100)
    assert float(many.distinct(np.array(64.0))) == pytest.approx(64.0, rel=1e-3)
    assert many.missing == pytest.approx(1.0, rel=1e-6)
    assert len(popularity(10**12, 1.0).shares) < 4_000


def test_what_is_missing_are_the_least_popular() -> None:
    assert Adapters(8, 40, resident=10).missing == pytest.approx(0.75)
    harmonic = np.sum(1.0 / np.arange(1, 5))
    assert Adapters(8, 4, resident=1, zipf=1.0).missing == pytest.approx(1 - 1 / harmonic)
    assert Adapters(8, 40).missing == 0.0


# ------------------------------------------------------------------------------------------------- bytes and FLOP


def test_an_adapter_weighs_what_training_tools_count() -> None:
    assert float(adapter_bytes(laid(LLAMA, Adapters(16)))[0]) == 2 * TRAINABLE
    assert float(adapter_bytes(laid(LLAMA, Adapters(64)))[0]) == 4 * 2 * TRAINABLE


@pytest.mark.parametrize(
    ("target", "values"),
    [("q", 8192), ("k", 5120), ("v", 5120), ("o", 8192), ("gate", 18432), ("up", 18432), ("down", 18432)],
)
def test_each_target_by_hand(target: str, values: int) -> None:
    held = float(adapter_bytes(laid(LLAMA, Adapters(16, targets=(target,))))[0])
    assert held == 32 * 16 * values * 2  # layers x rank x (inputs + outputs) x bytes


@pytest.mark.parametrize("tp", [2, 4, 8])
def test_tensor_parallelism_cuts_one_of_the_two_matrices(tp: int) -> None:
    # column-parallel q, k, v, gate, up: A whole, B cut; row-parallel o, down: A cut, B whole
    copied = 32 * 16 * 2 * (5 * 4096 + 2 * 4096)
    held = float(adapter_bytes(laid(LLAMA, Adapters(16), tp=tp))[0])
    assert tp * held == pytest.approx(2 * TRAINABLE + (tp - 1) * copied)


def test_stages_of_a_pipeline_hold_their_layers_only() -> None:
    assert float(adapter_bytes(laid(LLAMA, Adapters(16), pp=4))[0]) == 2 * TRAINABLE / 4


def test_experts_carry_no_adapters_but_attention_does() -> None:
    names = {s.name for s in sites(laid(MIXTRAL, Adapters(16)), Adapters(16))}
    assert names == {"qkv", "o"}
    assert {s.name for s in sites(laid("deepseek-v3", Adapters(16)), Adapters(16))} == {"q_up", "mla_down", "o"}


@pytest.mark.parametrize("count", [1, 30])
def test_a_token_costs_two_flop_a_value_of_its_own_adapter(count: int) -> None:
    sharding = laid(LLAMA, Adapters(16, count))
    assert total(list(adapting(sharding, answers(64.0))), "flop") == pytest.approx(2.0 * TRAINABLE * 64)


def test_weights_are_read_once_an_adapter_in_the_batch() -> None:
    one, many = Adapters(16, 1), Adapters(16, 10_000)
    read = [total(list(adapting(laid(LLAMA, a), answers(64.0))), "moved") for a in (one, many)]
    kinds = float(many.distinct(np.array(64.0)))
    assert read[1] - read[0] == pytest.approx((kinds - 1) * 2 * TRAINABLE)


def test_three_kernels_a_site() -> None:
    assert sum(float(np.ravel(d.count)[0]) for d in adapting(laid(LLAMA, Adapters(16)), answers(8.0))) == 3 * 4 * 32


def test_fetched_adapters_are_those_of_prompts_that_begin() -> None:
    sharding = laid(LLAMA, Adapters(16, 10, resident=5))
    whole = float(adapter_bytes_fetched(sharding, Step(prefill_tokens=4000.0, prefill_seqs=2.0))[0])
    assert whole == pytest.approx(2 * 0.5 * 2 * TRAINABLE)
    chunks = [
        adapter_bytes_fetched(sharding, Step(prefill_tokens=1000.0, prefill_context=1500.0)) for _ in range(4)
    ]  # mean context
    assert float(sum(chunks)[0]) == pytest.approx(0.5 * 2 * TRAINABLE)
    hit = adapter_bytes_fetched(
        sharding, Step(prefill_tokens=4000.0, prefill_seqs=2.0, prefill_context=9000.0, prefill_hit=9000.0)
    )
    assert float(hit[0]) == whole  # what the prefix cache serves is no chunk computed before
    assert float(adapter_bytes_fetched(sharding, answers(8.0))[0]) == 0.0


# --------------------------------------------------------------------------------------------- what follows from it


def test_no_adapters_change_nothing() -> None:
    work = Workload.from_lengths(1000, 200, concurrency=16)
    base, none = (estimate(model(LLAMA), work, deployments(H100, adapters=a)) for a in (None, None))
    assert base.tpot[0, 0] == none.tpot[0, 0]
    assert not list(adapting(laid(LLAMA, None), answers(8.0)))


def pass_time(adapters: Adapters | None, step: Step) -> float:
    sharding = laid(LLAMA, adapters)
    return float(step_cost(sharding, hardware_of(tuple(H100), np.array([0])), Roofline(), step).time[0])


@pytest.mark.parametrize("step", [answers(1.0), answers(200.0), Step(prefill_tokens=4096.0)])
def test_a_higher_rank_or_more_adapters_are_never_faster(step: Step) -> None:
    ranks = [pass_time(Adapters(r, 20) if r else None, step) for r in (0, 1, 8, 16, 64, 256)]
    counts = [pass_time(Adapters(16, n), step) for n in (1, 2, 10, 100, 1000)]
    assert ranks == sorted(ranks)
    assert counts == sorted(counts)


def test_fewer_resident_adapters_never_make_a_prompt_faster() -> None:
    fewer = [pass_time(Adapters(16, 100, resident=n), Step(prefill_tokens=4096.0)) for n in (100, 60, 20)]
    assert fewer == sorted(fewer)


def test_resident_adapters_take_their_room_from_the_cache() -> None:
    work = Workload.from_lengths(1000, 200, concurrency=4)
    few, many = (estimate(model(LLAMA), work, deployments(H100, adapters=Adapters(64, n))) for n in (1, 101))
    base = estimate(model(LLAMA), work, deployments(H100))
    assert few.memory[0] - base.memory[0] == pytest.approx(4 * 2 * TRAINABLE, rel=0.02)
    assert base.memory_use.max_running[0] - many.memory_use.max_running[0] == pytest.approx(
        101 * 8 * TRAINABLE / (1100 * 131072), rel=0.05
    )
    too_many = estimate(model(LLAMA), work, deployments(H100, adapters=Adapters(64, 400)))
    assert not too_many.fits[0]
    assert "adapters 134.2 GB" in too_many.reason(0)


def test_explain_shows_the_kernels_and_the_fetch() -> None:
    work = Workload.from_lengths(1000, 200, concurrency=1)  # among others a prompt shares its steps and takes longer
    lora = Adapters(16, 100, resident=20)
    terms = explain(model(LLAMA), work, deployments(H100, adapters=lora))
    names = {t.operator for t in terms}
    assert {"lora_shrink_qkv", "lora_expand_down", "lora_clear_o"} <= names
    (fetch,) = [t for t in terms if t.operator == "adapter_fetch"]
    assert fetch.phase == "prefill"
    assert fetch.family == "host_link"
    assert fetch.time == pytest.approx(0.8 * 2 * TRAINABLE / host_link_bandwidth(H100[0]), rel=1e-6)


def test_the_simulator_prices_adapters_alike() -> None:
    work = Workload.from_lengths(500, 100, arrival="static", concurrency=16)
    tried = [deployments(H100, adapters=a) for a in (None, Adapters(32, 40))]
    replayed = [summary(simulate(model(LLAMA), d, work))["tpot_ms"] for d in tried]
    closed = [float(estimate(model(LLAMA), work, d).tpot[0, 0]) for d in tried]
    assert replayed[1] / replayed[0] == pytest.approx(closed[1] / closed[0], rel=0.01)


# ---------------------------------------------------------------------------------------------------- as published


def added(count: int, batch: int) -> tuple[float, float]:
    """(milliseconds a decode pass that adapters of rank 16 add, share of the pass) on an A100 with a 7B model."""
    work = Workload.from_lengths(500, 100, arrival="static", concurrency=batch)
    spec = model(LLAMA2)
    base, lora = (estimate(spec, work, deployments(A100, adapters=a)).tpot[0, 0] for a in (None, Adapters(16, count)))
    return float(lora - base) * 1e3, float(lora / base - 1.0)


def test_punica_adds_about_two_milliseconds_a_token() -> None:
    # Punica, arXiv:2310.18547, abstract: "only adding 2ms latency per token", 7B on A100, up to 32 sequences
    milliseconds, _ = added(10_000, 32)
    assert 1.0 < milliseconds < 4.0


def test_many_adapters_cost_little_more_than_one() -> None:
    # Punica, fig. 11: throughput with every request of its own adapter is close to that of one adapter for all
    assert added(10_000, 32)[1] - added(1, 32)[1] < 0.15


def test_the_slowdown_is_of_the_reported_size() -> None:
    # vLLM pull request 15655: throughput 8.4 to 23.9 % lower on Llama 3.1 8B with adapters; vLLM issue 10062: the
    # kernels of one adapter take 7.2 of 35 s with the older per-token kernels, which is above it
    work = Workload.from_lengths(1024, 256, arrival="static", concurrency=32)
    base, lora = (estimate(model(LLAMA), work, deployments(H100, adapters=a)) for a in (None, Adapters(16, 4)))
    assert 0.03 < 1.0 - lora.output_rate[0] / base.output_rate[0] < 0.26


# ---------------------------------------------------------------------------------------------------------- errors


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"rank": 0}, "rank 0 is impossible"),
        ({"rank": -8}, "rank -8 is impossible"),
        ({"rank": 2.5}, "whole number"),
        ({"rank": float("nan")}, "rank nan"),
        ({"count": 0}, "count 0 is impossible"),
        ({"count": 10**30}, "count is above 1e\\+12; give fewer"),
        ({"count": 4, "resident": 5}, "resident 5 exceeds count 4"),
        ({"resident": -1, "count": 4}, "resident -1"),
        ({"zipf": -1.0}, "zipf -1 is no exponent"),
        ({"targets": ()}, "no targets"),
    ],
)
def test_impossible_adapters_are_named(wrong: dict[str, object], says: str) -> None:
    with pytest.raises(InputError, match=says):
        Adapters(**{"rank": 16, **wrong})  # type: ignore[arg-type]


def test_a_target_that_is_none_is_named_with_the_nearest() -> None:
    with pytest.raises(UnknownName, match="unknown adapter target 'gat'; did you mean 'gate'"):
        Adapters(16, targets=("q", "gat"))
    assert set(Adapters(16).targets) == set(TARGETS)


def test_a_rank_beyond_the_width_is_refused() -> None:
    with pytest.raises(InputError, match="rank 5000 exceeds the width 4096"):
        laid(LLAMA, Adapters(5000))
    assert replace(Adapters(16), rank=4096).rank == 4096


@pytest.mark.parametrize(
    ("name", "targets", "carry"), [(MIXTRAL, ("gate", "up", "down"), "q, k, v, o"), ("deepseek-v3", ("v",), "q, k, o")]
)
def test_targets_that_no_layer_carries_are_refused(name: str, targets: tuple[str, ...], carry: str) -> None:
    with pytest.raises(InputError, match=rf"carries targets {', '.join(targets)}; give some of {carry}$"):
        laid(name, Adapters(16, targets=targets))
    assert laid(name, Adapters(16, targets=(*targets, "q"))).adapters is not None
