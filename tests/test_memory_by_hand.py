"""What lies on a device, counted layer by layer for small models, and the room that a round budget leaves."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from toy_layers import INDEXED_MLA

import hwdb
from perfmodel.deployment import adapter_bytes
from perfmodel.deployment.columns import deployments
from perfmodel.deployment.sharding import Sharding, shard
from perfmodel.engines.catalogue import engine
from perfmodel.engines.spec import Engine
from perfmodel.hardware.columns import hardware_of
from perfmodel.hardware.host import Host
from perfmodel.memory.budget import HostMemory, Memory, activation_bytes, held_tokens, memory_budget
from perfmodel.memory.kv_cache import sequence_bytes
from perfmodel.memory.pages import grouped, kinds_of_cache, paged_bytes
from perfmodel.memory.remarks import held_back
from perfmodel.memory.weights import weights_in_host, weights_per_device
from perfmodel.models import Adapters, Block, Mixer, Mlp, ModelSpec

H100 = [hwdb.device("h100-sxm")]
HIDDEN, VOCAB = 96, 1000
GQA = Mixer("full", heads=12, kv_heads=3, head_dim=8, value_dim=10)
#: Weights of a layer of grouped heads and of a gated MLP: Q, K with V, output; gate with up, down.
ATTENTION, DENSE = 96 * 12 * 8 + 96 * 3 * 18 + 12 * 10 * 96, 3 * 96 * 240
#: An engine whose memory is easily counted: 1 GB stays free, half a GB more on several devices; blocks of 16 tokens.
ROUND = engine("vllm-v0").changed(
    reserve_bytes=1e9, reserve_parallel=0.5e9, kv_block=16.0, sampler_warmup=(), kv_groups=False, memory_rule="total"
)


def one(values: object) -> float:
    return float(np.ravel(np.asarray(values, float))[0])


def toy(*blocks: Block, **fields: object) -> ModelSpec:
    return ModelSpec("toy", HIDDEN, VOCAB, blocks or (Block(7, GQA, Mlp(240), norms=0),), **fields)  # type: ignore[arg-type]


def laid(spec: ModelSpec, **columns: object) -> Sharding:
    return shard(spec, deployments(H100, **columns))  # type: ignore[arg-type]


def room(
    spec: ModelSpec,
    chosen: Engine = ROUND,
    *,
    fraction: float = 0.5,
    tokens: float = 100.0,
    max_num_seqs: float = 8.0,
    context: float = 40.0,
    **columns: object,
) -> Memory:
    placed = deployments(H100, **columns)  # type: ignore[arg-type]
    sharding, rows = shard(spec, placed), hardware_of(placed.devices, placed.device)
    asked = {"fraction": fraction, "tokens": tokens, "max_num_seqs": max_num_seqs, "context": context}
    return memory_budget(sharding, rows, chosen, **{k: np.full(len(placed), v) for k, v in asked.items()})


# -------------------------------------------------------------------------------- weights


@pytest.mark.parametrize(
    ("formats", "embedding", "head"),
    [({}, 2.0, 2.0), ({"lm_head": "fp32"}, 2.0, 4.0), ({"embedding": "fp32"}, 4.0, 2.0)],
)
@pytest.mark.parametrize("tp", [1, 4])
def test_the_ends_of_a_pipeline_hold_one_table_each(
    formats: dict[str, str], embedding: float, head: float, tp: int
) -> None:
    spec = toy(formats={"default": "bf16", **formats})
    table, norm = VOCAB * HIDDEN, HIDDEN * 2.0
    layer = 2.0 * ((ATTENTION - 96 * 3 * 18 + DENSE) / tp + 96 * 3 * 18 / min(tp, 3))
    for stages, deepest in ((1, 7), (2, 4), (3, 3), (4, 2), (7, 1)):
        ends = embedding + head if stages == 1 else max(embedding, head)
        expected = deepest * layer + table * ends / tp + norm / tp / stages
        assert one(weights_per_device(laid(spec, tp=tp, pp=stages))) == pytest.approx(expected, rel=1e-12), stages


def test_tied_tables_are_held_once_but_at_both_ends_of_a_pipeline() -> None:
    tied, apart = toy(tied=True), toy()
    table = VOCAB * HIDDEN * 2.0
    assert one(weights_per_device(laid(apart)) - weights_per_device(laid(tied))) == pytest.approx(table)
    assert one(weights_per_device(laid(tied, pp=7))) == one(weights_per_device(laid(apart, pp=7)))


def test_an_encoder_is_split_by_its_heads_or_held_whole() -> None:
    plain, seeing = toy(), toy(encoder_parameters=48_000, encoder_heads=12)
    for tp, ways in ((1, 1), (2, 2), (4, 4), (8, 1)):
        more = one(weights_per_device(laid(seeing, tp=tp)) - weights_per_device(laid(plain, tp=tp)))
        assert more == pytest.approx(48_000 * 2.0 / ways), tp


def test_experts_lie_once_on_all_devices_that_share_a_layer() -> None:
    moe = Mlp(30, experts=16, top_k=3)
    routed, router = 16 * 3 * 96 * 30 * 2.0, 96 * 16 * 2.0
    with_experts, without = toy(Block(2, GQA, moe, norms=0)), toy(Block(2, GQA, None, norms=0))
    for columns, ways in (({}, 1), ({"tp": 2}, 2), ({"tp": 2, "dp": 4}, 8), ({"dp": 4, "ep": 4}, 4)):
        more = one(weights_per_device(laid(with_experts, **columns)) - weights_per_device(laid(without, **columns)))
        assert more == pytest.approx(2 * (routed / ways + router)), columns


def test_what_goes_to_the_host_leaves_the_device() -> None:
    spec = toy(Block(5, GQA, Mlp(30, experts=16, top_k=3, shared=40), norms=0))
    host = Host(link=50e9, memory=1e12)
    routed = 5 * 16 * 3 * 96 * 30 * 2.0
    rest = 5 * 2.0 * (ATTENTION + 96 * 16 + 3 * 96 * 40)
    away = laid(spec, host=host, host_weights=0.25, host_experts=0.75)
    assert one(weights_in_host(away)) == pytest.approx(0.25 * rest + 0.75 * routed)
    assert one(weights_in_host(away) + weights_per_device(away)) == pytest.approx(one(weights_per_device(laid(spec))))
    halved = laid(spec, tp=2, host=host, host_weights=1.0)
    assert one(weights_in_host(halved)) < 0.75 * one(weights_in_host(laid(spec, host=host, host_weights=1.0)))


# -------------------------------------------------------------------------------- activations and what stays free


def test_activations_are_those_of_the_widest_layer_and_of_some_logits() -> None:
    # in 16 bit: five values of the widest point of a layer at once, either both hidden rows or one and the inner ones
    for mlp, tp, width in (
        (Mlp(240), 1, 96 + 240),
        (Mlp(600), 4, 96 + 150.0),
        (Mlp(50), 1, 2 * 96),
        (Mlp(30, experts=16, top_k=7), 2, 96 + 105.0),
    ):
        spec = toy(Block(1, GQA, Mlp(10)), Block(2, None, mlp), Block(1, GQA, None))
        found = one(activation_bytes(laid(spec, tp=tp), np.array([11.0]), np.array([3.0])))
        assert found == 11 * width * 5.0 + 3 * VOCAB / tp * 4.0, (mlp, tp)


def test_logits_exist_for_at_most_256_rows_at_once() -> None:
    per_token = (96 + 240) * 5.0
    for tokens, rows in ((100.0, 100), (256.0, 256), (4000.0, 256)):
        found = one(room(toy(), tokens=tokens).activations)
        assert found == tokens * per_token + rows * VOCAB * 4.0
    # each rank has its share of the tokens
    assert one(room(toy(), tokens=400.0, dp=4).activations) == 100 * per_token + 100 * VOCAB * 4.0


def test_a_sampler_warms_up_with_the_rows_of_its_rank() -> None:
    warm = ROUND.changed(sampler_warmup=(("gpu", 30.0),))
    for seqs, tokens, dp, rows in ((8, 100, 1, 8), (64, 16, 1, 16), (64, 1000, 4, 16)):
        found = room(toy(), warm, max_num_seqs=float(seqs), tokens=float(tokens), dp=dp)
        assert one(found.activations) == tokens / dp * (96 + 240) * 5.0  # no logits besides the sampler's
        assert one(found.sampler) == max(rows * VOCAB * 30.0 - one(found.activations), 0.0)
    assert one(room(toy(), warm, max_num_seqs=1.0, tokens=5000.0).sampler) == 0.0


@pytest.mark.parametrize("columns", [{"tp": 3}, {"pp": 2}, {"dp": 2}, {"cp": 2}])
def test_several_devices_keep_more_free_than_one(columns: dict[str, int]) -> None:
    assert one(room(toy()).reserve) == 1e9
    assert one(room(toy(), **columns).reserve) == 1.5e9
    assert one(room(toy(), ROUND.changed(reserve_bytes=np.nan)).reserve) == 0.0


@pytest.mark.parametrize(("rule", "beside"), [("total", 1.0), ("static", 0.0)])
@pytest.mark.parametrize("adapters", [None, Adapters(rank=8, count=5, resident=3)])
def test_the_cache_gets_what_everything_else_leaves(rule: str, beside: float, adapters: Adapters | None) -> None:
    found = room(toy(), ROUND.changed(memory_rule=rule), tp=3, adapters=adapters)
    allowed = 0.5 * one(found.capacity)
    assert one(found.usable) == allowed
    if adapters is not None:
        assert one(found.adapters) == 3 * one(adapter_bytes(laid(toy(), tp=3, adapters=adapters))) > 0
    taken = found.weights + found.adapters + beside * (found.activations + found.sampler) + found.reserve
    assert one(found.kv_capacity + taken) == pytest.approx(allowed, rel=1e-12)


def test_a_share_of_what_is_free_is_taken_after_the_rest() -> None:
    found = room(toy(), ROUND.changed(memory_rule="free"), fraction=0.25)
    assert one(found.usable) == one(found.capacity)
    free = found.capacity - found.weights - found.activations - found.sampler - found.reserve
    assert one(found.kv_capacity) == pytest.approx(0.25 * one(free), rel=1e-12)


# -------------------------------------------------------------------------------- caches


def test_a_sequence_is_counted_layer_by_layer() -> None:
    linear = Mixer("linear", heads=12, kv_heads=3, head_dim=8, value_dim=10, conv=4)
    sliding = Mixer("sliding", heads=12, kv_heads=6, head_dim=8, value_dim=8, window=30)
    spec = toy(
        Block(2, GQA, Mlp(240)),
        Block(3, linear, Mlp(240)),
        Block(1, sliding, None),
        Block(4, INDEXED_MLA, None),
        Block(1, None, Mlp(10)),
        state_format="fp32",
    )
    tokens, tp = 50, 2
    cached = 2 * tokens * 3 * 18 / 2 + 30 * 6 * 16 / 2 + 4 * tokens * (16 + 3)  # values; the latent is held whole
    keys = 4 * tokens * (6 * 1.0 + 4.0)  # an indexer's key in fp8 and its scale
    windows = 3 * (12 * 8 * 10 * 4.0 + 3 * (2 * 3 * 8 + 12 * 10) * 2.0) / 2  # states in fp32, convolutions in 16 bit
    whole = cached * 2.0 + keys + windows
    assert one(sequence_bytes(laid(spec, tp=tp), 50.0)) == pytest.approx(whole, rel=1e-12)
    assert one(sequence_bytes(laid(spec, tp=tp, kv="fp8"), 50.0)) == pytest.approx(cached + keys + windows, rel=1e-12)
    kept = 0.25 * (cached * 2.0 + keys) + windows  # states stay on the device
    assert one(sequence_bytes(laid(spec, tp=tp), 50.0, 0.25)) == pytest.approx(kept, rel=1e-12)
    # 11 layers in 3 stages: the fullest has 4; two devices share the positions
    assert one(sequence_bytes(laid(spec, tp=tp, pp=3), 50.0)) == pytest.approx(whole * 4 / 11, rel=1e-12)
    assert one(sequence_bytes(laid(spec, tp=tp, cp=2), 50.0)) == pytest.approx(whole / 2, rel=1e-12)


def test_summaries_come_every_few_tokens() -> None:
    mixer = Mixer(
        "compressed",
        heads=12,
        kv_heads=1,
        head_dim=8,
        value_dim=8,
        window=16,
        q_rank=20,
        shared_kv=True,
        compress=4,
        index_heads=5,
        index_dim=6,
        index_topk=3,
        o_rank=10,
        o_groups=2,
    )
    assert one(sequence_bytes(laid(toy(Block(2, mixer, None))), 80.0)) == 2 * ((16 + 20) * 8 * 2.0 + 20 * (6 + 4.0))


def test_whole_blocks_are_held_and_whole_sequences_run() -> None:
    # 40 tokens take three blocks of 16; a token of 7 layers takes 7 x 54 values in 16 bit
    found = room(toy())
    assert one(found.held) == 48.0
    assert one(found.sequence) == 48 * 7 * 54 * 2.0
    blocks = one(found.kv_capacity) // (16 * 7 * 54 * 2.0)
    assert one(found.kv_tokens) == blocks * 16
    assert one(found.seqs) == one(found.max_sequences()) == blocks // 3
    ranks = room(toy(), dp=4)
    each = one(ranks.kv_capacity) // (16 * 7 * 54 * 2.0)
    assert one(ranks.kv_tokens) == 4 * each * 16
    assert one(ranks.seqs) == 4 * (each // 3)


def test_an_engine_without_blocks_holds_tokens_one_by_one() -> None:
    plain = ROUND.changed(kv_block=np.nan)
    assert one(held_tokens(plain, np.array([40.0]))) == 40.0
    found = room(toy(), plain)
    assert one(found.kv_tokens) == pytest.approx(one(found.kv_capacity) / (7 * 54 * 2.0))
    assert one(held_tokens(ROUND, np.array([48.0]))) == 48.0
    assert one(held_tokens(ROUND, np.array([49.0]))) == 64.0


def test_a_model_without_a_cache_runs_any_number_of_sequences() -> None:
    assert np.isinf(one(room(toy(Block(2, None, Mlp(240)))).seqs))
    crowded = room(toy(Block(2, None, Mlp(240))), ROUND.changed(reserve_bytes=1e15))
    assert one(crowded.seqs) == 0.0


# -------------------------------------------------------------------------------- the host


def host_memory(capacity: float, fixed: float, sequence: float) -> float:
    return one(HostMemory(np.array([capacity]), np.array([fixed]), np.array([sequence])).sequences())


def test_as_many_sequences_fit_in_host_memory_as_lie_there_one_after_the_other() -> None:
    for capacity, fixed, sequence in ((100.0, 30.0, 8.0), (100.0, 30.0, 70.0), (100.0, 30.0, 71.0), (10.0, 30.0, 8.0)):
        count = 0
        while fixed + (count + 1) * sequence <= capacity:
            count += 1
        assert host_memory(capacity, fixed, sequence) == count
    assert np.isinf(host_memory(100.0, 100.0, 0.0))  # nothing of a sequence lies there
    assert host_memory(100.0, 101.0, 0.0) == 0.0
    assert np.isinf(host_memory(np.nan, 30.0, 8.0))  # an unknown capacity limits nothing


def test_host_memory_holds_its_share_of_weights_adapters_and_caches() -> None:
    spec, adapters = toy(), Adapters(rank=8, count=10, resident=4)
    host = Host(link=50e9, memory=1e12)
    found = room(spec, host=host, host_weights=0.5, host_kv=0.75, adapters=adapters)
    each = one(adapter_bytes(laid(spec, adapters=adapters)))
    assert one(found.adapters) == 4 * each
    layers = 7 * 2.0 * (ATTENTION + DENSE)
    assert one(found.host.fixed) == pytest.approx(0.5 * layers + 6 * each)  # those without a slot wait in the host
    sequence = 48 * 7 * 54 * 2.0
    assert one(found.sequence) == pytest.approx(0.25 * sequence)
    assert one(found.host.sequence) == pytest.approx(0.75 * sequence)
    nothing = room(spec)
    assert one(nothing.host.fixed) == one(nothing.host.sequence) == one(nothing.adapters) == 0.0
    assert np.isnan(one(nothing.host.capacity))


def test_a_small_host_limits_the_sequences_and_the_cache_in_use() -> None:
    sequence, host = 48 * 7 * 54 * 2.0, Host(link=50e9, memory=100.0 * 48 * 7 * 54 * 2.0)
    found = room(toy(), host=host, host_kv=0.5, dp=2)
    assert one(found.seqs) == 2 * 200  # a rank's host holds 200 halves
    assert one(found.kv_tokens) == 2 * 200 * 48
    assert one(found.kv_capacity) == pytest.approx(200 * 0.5 * sequence)
    assert one(found.used(np.array([200.0]))) - one(found.used(np.zeros(1))) == pytest.approx(100 * 0.5 * sequence)
    full = room(toy(), host=Host(link=50e9, memory=1.0), host_weights=0.5)
    assert one(full.seqs) == 0.0
    assert "of host memory per device" in full.reason(0)
    assert one(full.kv_capacity) == 0.0


# -------------------------------------------------------------------------------- words


def test_a_reason_states_each_quantity_in_gigabytes() -> None:
    gb = {"weights": 60.0, "adapters": 2.0, "activations": 3.0, "sampler": 4.0, "reserve": 5.0, "usable": 70.0}
    figures = {name: np.array([1e9 * value]) for name, value in gb.items()}
    base = room(toy())
    full = replace(base, **figures, seqs=np.zeros(1), capacity=np.array([80e9]), sequence=np.array([3e9]))
    said = "weights 60.0 GB + adapters 2.0 GB + activations, sampler warm-up 4.0 GB and reserve 12.0 GB"
    assert full.reason(0) == f"{said} exceed the 70.0 GB usable of 80 GB per device"
    assert full.reasons().tolist() == [full.reason(0)]
    exact = replace(full, weights=np.array([56e9]))
    assert "exceed" in exact.reason(0)
    close = replace(full, weights=np.array([55e9]), kv_capacity=np.array([1e9]))
    assert close.reason(0).endswith("leave 1.00 GB of 70.0 GB, less than one sequence's KV cache of 3.00 GB")
    bare = replace(close, adapters=np.zeros(1), sampler=np.zeros(1))
    assert bare.reason(0).startswith("weights 55.0 GB + activations and reserve 8.0 GB")
    host = HostMemory(capacity=np.array([9e9]), fixed=np.array([8e9]), sequence=np.array([2e9]))
    assert replace(full, host=host).reason(0) == (
        "8.0 GB of weights and 2.00 GB per sequence exceed 9.0 GB of host memory per device"
    )
    assert "host" not in replace(full, host=replace(host, capacity=np.array([10e9]))).reason(0)
    assert replace(full, seqs=np.ones(1)).reason(0) == ""
    assert one(full.used(np.array([50.0]))) == 77e9  # everything fixed and one sequence
    fits = replace(full, seqs=np.array([4.0]), kv_capacity=np.array([8e9]))
    assert one(fits.used(np.array([3.0]))) == 74e9 + 6e9
    assert fits.fits.tolist() == [True]


def test_a_sampler_is_worth_a_remark_from_a_fiftieth_of_the_device() -> None:
    assert held_back(ROUND, toy(), 1.6e9, 80e9) == ""
    assert "keeps 1.7 GB per device" in held_back(ROUND, toy(), 1.7e9, 80e9)
    assert held_back(ROUND, toy(), np.nan, 80e9) == ""


# -------------------------------------------------------------------------------- shared pages


def test_groups_have_equal_numbers_of_layers() -> None:
    def kinds(full: int, sliding: int) -> tuple[int, list[int]]:
        window = Mixer("sliding", heads=12, kv_heads=3, head_dim=8, value_dim=10, window=32)
        return grouped(
            kinds_of_cache(toy(Block(full, GQA, None), Block(1, None, Mlp(9)), Block(sliding, window, None)))
        )

    assert kinds(4, 4) == (4, [1, 1])
    assert kinds(4, 5) == (5, [1, 1])  # nearly as many: padded to the larger number
    assert kinds(4, 6) == (4, [1, 2])  # half as many again: groups of the smaller one
    assert kinds(3, 10) == (3, [1, 4])
    twice = toy(Block(2, GQA, None), Block(3, GQA, Mlp(9)))
    assert [k.number for k in kinds_of_cache(twice)] == [5]


def test_padded_groups_take_room_that_no_layer_fills() -> None:
    shared = ROUND.changed(kv_groups=True, hybrid_prefix_cache=False)
    window = Mixer("sliding", heads=12, kv_heads=3, head_dim=8, value_dim=10, window=32)
    spec = toy(Block(3, GQA, None), Block(10, window, None))
    token = 54 * 2.0
    found = one(paged_bytes(laid(spec), shared, 50.0))
    assert found == pytest.approx(3 * token * (50 + 4 * 32))
    assert one(paged_bytes(laid(spec, cp=2), shared, 50.0)) == pytest.approx(3 * token * (25 + 4 * 25))
    assert one(paged_bytes(laid(spec, pp=2), shared, 50.0)) == pytest.approx(found * 7 / 13)
    assert one(paged_bytes(laid(spec, tp=3), shared, 50.0)) == pytest.approx(found / 3)
    assert one(paged_bytes(laid(spec), shared, 50.0, 0.25)) == pytest.approx(found / 4)


def test_states_share_pages_with_blocks_of_attention() -> None:
    linear = Mixer("linear", heads=12, kv_heads=3, head_dim=8, value_dim=10, conv=4)
    spec = toy(Block(2, GQA, None), Block(4, linear, None), state_format="fp32")
    state = 12 * 8 * 10 * 4.0 + 3 * (2 * 3 * 8 + 12 * 10) * 2.0
    block = 16 * 54 * 2.0
    page = -(-state // block) * block  # as many whole blocks as hold a state
    pages = -(-(200 * 54 * 2.0) // page)
    plain = ROUND.changed(kv_groups=True, hybrid_prefix_cache=False)
    assert one(paged_bytes(laid(spec), plain, 200.0)) == pytest.approx(2 * page * (pages + 2))
    cached = replace(plain, hybrid_prefix_cache=True)  # the state before it besides, and some copies
    more = one(paged_bytes(laid(spec), cached, 200.0)) / (2 * page)
    assert pages + 4 < more < pages + 4 + 0.25 * pages
    assert one(paged_bytes(laid(spec), ROUND, 200.0)) == one(sequence_bytes(laid(spec), 200.0))
