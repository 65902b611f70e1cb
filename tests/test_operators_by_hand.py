"""What each operator of a small pass does, counted piece by piece: token by token, head by head, matrix by matrix."""

from __future__ import annotations

from math import log, sqrt

import numpy as np
import pytest
from scipy.integrate import quad
from toy_layers import INDEXED_MLA, MLA

import hwdb
from perfmodel.deployment.columns import deployments
from perfmodel.deployment.sharding import shard
from perfmodel.dtypes import COMPUTE_CODE
from perfmodel.hardware.host import Host
from perfmodel.models import Adapters, Block, Mixer, Mlp, ModelSpec
from perfmodel.operators.demand import Demand
from perfmodel.operators.forward import operators
from perfmodel.operators.step import Step

H100 = [hwdb.device("h100-sxm")]
HIDDEN, VOCAB = 96, 1002
GQA = {"heads": 12, "kv_heads": 3, "head_dim": 8, "value_dim": 10}
#: Three prompts of 10 tokens after 7 others each, and eight answers 20 tokens long.
MIXED = Step(prefill_tokens=30.0, prefill_context=7.0, prefill_seqs=3.0, decode_seqs=8.0, decode_context=20.0)


def asked(
    mixer: Mixer | None,
    mlp: Mlp | None,
    step: Step = MIXED,
    *,
    layers: int = 3,
    streams: int = 1,
    host: Host | None = None,
    **columns: object,
) -> dict[str, Demand]:
    """The demands of a pass of a model of equal layers, by name; those without calls are left out."""
    spec = ModelSpec("toy", HIDDEN, VOCAB, (Block(layers, mixer, mlp),), streams=streams)
    placed = deployments(H100, host=host, **columns)
    found = [d for d in operators(shard(spec, placed), step) if np.any(d.count)]
    assert len({d.name for d in found}) == len(found)
    return {d.name: d for d in found}


def one(values: object) -> float:
    return float(np.ravel(np.asarray(values, float))[0])


def counted(demand: Demand) -> tuple[float, float, float]:
    """FLOP and bytes of a call, and calls."""
    return one(demand.flop), one(demand.moved), one(demand.count)


def share(pieces: int, ways: int) -> int:
    """The largest of `ways` shares of so many pieces."""
    return max(len(part) for part in np.array_split(np.arange(pieces), ways))


def product(rows: float, inputs: int, outputs: int) -> tuple[float, float]:
    """FLOP and bytes of a product in 16 bit: two FLOP a term; both factors and the result move once."""
    return 2.0 * rows * inputs * outputs, 2.0 * (rows * inputs + inputs * outputs + rows * outputs)


def seen(query: int, before: int, window: float = np.inf) -> int:
    """Pairs of the new tokens of a sequence with what each of them sees."""
    return sum(int(min(before + i, window)) for i in range(1, query + 1))


# -------------------------------------------------------------------------------- dense layers of grouped heads


def test_every_operator_of_a_dense_pass_on_tensor_and_data_parallel_devices() -> None:
    found = asked(Mixer("full", **GQA), Mlp(250), tp=4, dp=2)
    prompts, answers = 15, 4  # two of the three prompts meet on one rank on average: 30 tokens over 2; 8 answers over 2
    rows, layers = prompts + answers, 3
    heads, keys, inner = share(12, 4), share(3, 3), share(250, 4)
    matrices = {
        "qkv": (HIDDEN, heads * 8 + keys * (8 + 10)),
        "o": (heads * 10, HIDDEN),
        "up": (HIDDEN, share(2 * 250, 4)),
        "down": (inner, HIDDEN),
    }
    for name, (inputs, outputs) in matrices.items():
        assert counted(found[name]) == (*product(rows, inputs, outputs), layers), name
        assert {k: one(v) for k, v in found[name].shape.items() if k in "mnk"} == {"m": rows, "n": outputs, "k": inputs}
        assert one(found[name].host_bytes) == 2.0 * inputs * outputs
    # three prompts over two ranks: one and a half of 10 tokens after 7 others
    pairs, queries = seen(10, 7), 1.5 * 10
    flop = 1.5 * pairs * heads * 2.0 * (8 + 10)
    moved = 2.0 * (1.5 * 17 * keys * (8 + 10) + queries * heads * (8 + 10))
    assert counted(found["attention_prefill_full"]) == pytest.approx((flop, moved, layers))
    # the host link is full duplex: 10 new positions are written while 7 are read
    assert one(found["attention_prefill_full"].host_bytes) == 1.5 * 10 * keys * (8 + 10) * 2.0
    flop, moved = 4 * 20 * heads * 2.0 * (8 + 10), 2.0 * 4 * (20 * keys * (8 + 10) + heads * (8 + 10))
    assert counted(found["attention_decode_full"]) == pytest.approx((flop, moved, layers))
    assert one(found["attention_decode_full"].host_bytes) == 4 * 20 * keys * (8 + 10) * 2.0
    # rows in 16 bit: input, residual, sum and normed row of two norms a layer and the last; rotated queries and keys
    assert counted(found["norm"]) == (0.0, rows * 4 * HIDDEN * 2.0, 2 * layers + 1)
    cached = 3 * (8 + 10)
    assert counted(found["rope_full"]) == (0.0, rows * 2 * (12 * 8 + cached) / 4 * 2.0, layers)
    assert counted(found["activation"]) == (0.0, rows * 3 * inner * 2.0, layers)
    # sums over the four devices of a rank, after attention and after the MLP; logits of every last row
    for name in ("mixer_all_reduce", "mlp_all_reduce"):
        assert one(found[name].message) == rows * HIDDEN * 2.0
        assert (one(found[name].count), one(found[name].shape["group"])) == (layers, 4)
    last = 1.5 + 4
    assert counted(found["lm_head"]) == (*product(last, HIDDEN, share(VOCAB, 4)), 1.0)
    assert counted(found["embedding"]) == (0.0, rows * 2 * HIDDEN * 2.0, 1.0)
    assert counted(found["sampling"]) == (0.0, last * VOCAB * (4 + 4), 1.0)  # fp32 logits read, probabilities written
    gather = found["logits_gather"]
    assert (one(gather.message), one(gather.count), one(gather.shape["group"])) == (last * VOCAB * 2.0, 1, 4)
    assert set(found) == {
        *matrices,
        "attention_prefill_full",
        "attention_decode_full",
        "norm",
        "rope_full",
        "activation",
        "mixer_all_reduce",
        "mlp_all_reduce",
        "lm_head",
        "embedding",
        "sampling",
        "logits_gather",
    }


def test_only_the_devices_that_have_each_other_talk() -> None:
    alone = asked(Mixer("full", **GQA), Mlp(250))
    assert not {d.name for d in alone.values() if np.any(np.asarray(d.message) > 0)}
    piped = asked(Mixer("full", **GQA), Mlp(250), layers=6, pp=3)
    talking = {d.name: (one(d.message), one(d.count)) for d in piped.values() if np.any(np.asarray(d.message) > 0)}
    assert talking == {"stage_send": ((30 + 8) * HIDDEN * 2.0, 2.0)}  # three stages have two borders
    ringed = asked(Mixer("full", **GQA), Mlp(250), cp=2)
    # every device gets the keys and values of all three prompts, new and cached tokens
    assert one(ringed["sequence_gather"].message) == 3 * (7 + 10) * 3 * (8 + 10) * 2.0
    assert one(ringed["sequence_gather"].count) == 3
    idle = asked(Mixer("full", **GQA), Mlp(250), Step(), tp=4, pp=2, dp=2)
    assert not [d for d in idle.values() if np.any(np.asarray(d.message) * d.count > 0)]


def test_a_device_with_any_row_computes_a_whole_one() -> None:
    # one prompt of two tokens over eight ranks: the rank that has it computes the last row of one sequence
    found = asked(Mixer("full", **GQA), Mlp(250), Step(decode_seqs=2.0, decode_context=5.0), dp=8)
    assert one(found["lm_head"].shape["m"]) == one(found["qkv"].shape["m"]) == 1.0
    assert one(found["sampling"].moved) == 0.25 * VOCAB * 8.0
    nothing = asked(Mixer("full", **GQA), Mlp(250), Step(prefill_tokens=0.0))
    assert not {"qkv", "up", "norm", "lm_head", "embedding"} & set(nothing)


def test_drafted_tokens_are_rows_of_everything_but_the_cache() -> None:
    step = Step(decode_seqs=4.0, decode_context=20.0, decode_tokens=3.0)
    found = asked(Mixer("full", **GQA), Mlp(250), step)
    assert one(found["qkv"].shape["m"]) == one(found["lm_head"].shape["m"]) == 12.0
    assert one(found["attention_decode_full"].flop) == 4 * 3 * 20 * 12 * 2.0 * (8 + 10)
    assert one(found["attention_decode_full"].moved) == 2.0 * 4 * (20 * 3 * (8 + 10) + 3 * 12 * (8 + 10))


@pytest.mark.parametrize("window", [5, 12, 40])
def test_windows_bound_pairs_and_what_is_read(window: int) -> None:
    found = asked(Mixer("sliding", **GQA, window=window), Mlp(250))
    assert one(found["attention_prefill_sliding"].flop) == 3 * seen(10, 7, window) * 12 * 2.0 * 18
    positions = len({p for i in range(7, 17) for p in range(max(i - window + 1, 0), i + 1)})
    # keys that some window covers; a window reads one position more than its own end, which is the token itself
    read = one(found["attention_prefill_sliding"].moved) / 2.0 / 3 - 10 * 12 * 18
    assert read / (3 * 18) == pytest.approx(positions, abs=1.0)
    assert one(found["attention_decode_sliding"].shape["context"]) == min(20, window)


def test_chunks_are_seen_from_their_start() -> None:
    found = asked(Mixer("chunked", **GQA, window=8), Mlp(250))
    pairs = sum(p % 8 + 1 for p in range(7, 17))
    assert one(found["attention_prefill_chunked"].flop) == 3 * pairs * 12 * 2.0 * 18


# -------------------------------------------------------------------------------- latents, indexers, states


def test_every_kernel_of_latent_attention() -> None:
    found = asked(MLA, Mlp(250), tp=4)
    heads = 3
    flop = 3 * seen(10, 7) * heads * 2.0 * (9 + 7)
    moved = 2.0 * 3 * (17 * (16 + 3) + 10 * heads * (9 + 7))  # the latent once, queries in and outputs out
    assert counted(found["mla_prefill"]) == (flop, moved, 3.0)
    assert one(found["mla_prefill"].host_bytes) == 3 * 10 * (16 + 3) * 2.0
    flop = 8 * 20 * heads * 2.0 * ((16 + 3) + 16)
    moved = 2.0 * 8 * (20 * (16 + 3) + heads * (16 + 3 + 16))
    assert counted(found["mla_decode"]) == (flop, moved, 3.0)
    assert one(found["mla_decode"].host_bytes) == 8 * 20 * (16 + 3) * 2.0
    # prompts expand the latent to keys without the rotary part and to values; answers absorb the same matrix in halves
    width = heads * (9 - 3 + 7)
    assert counted(found["kv_up"]) == (*product(30, 16, width), 3.0)
    absorb, half = found["absorb"], width / 2
    assert counted(absorb) == (2.0 * 8 * half * 16, 2.0 * (half * 16 + 8 * (half + heads * 16)), 2.0 * 3)
    assert one(absorb.host_bytes) == 2.0 * half * 16
    assert one(found["q_up"].shape["n"]) == heads * 9
    assert one(found["mla_down"].shape["n"]) == 20 + 16 + 3
    assert {"kv_up", "mla_prefill"}.isdisjoint(asked(MLA, Mlp(250), Step(decode_seqs=8.0, decode_context=20.0)))
    assert {"absorb", "mla_decode"}.isdisjoint(asked(MLA, Mlp(250), Step(prefill_tokens=30.0)))


def test_an_indexer_scores_all_and_attention_reads_its_picks() -> None:
    found = asked(INDEXED_MLA, Mlp(250), cp=2)
    # a head's dot product per pair; keys in fp8 and scores in fp32; two devices share the positions
    pairs, keys = 3 / 2 * seen(10, 7), 3 / 2 * 17
    assert counted(found["indexer_prefill"]) == (2.0 * pairs * 5 * 6, keys * 6 + 4.0 * pairs, 3.0)
    pairs = 8 * 20 / 2
    assert counted(found["indexer_decode"]) == (2.0 * pairs * 5 * 6, pairs * 6 + 4.0 * pairs, 3.0)
    assert "mla_prefill" not in found  # 17 tokens, of which the indexer leaves 9 out
    # absorbed: a head scores the latent and its rotary part, and sums the latent; 12 heads fill a tile of 64
    picked = 3 / 2 * seen(10, 7, 8)
    rows = 3 / 2 * 10 * 64 * (16 + 3 + 16) * 2.0
    flop = picked * 64 * 2.0 * (16 + 3 + 16)
    assert counted(found["mla_picked_prefill"]) == pytest.approx((flop, 0.8 * picked * (16 + 3) * 2.0 + rows, 3.0))
    assert one(found["mla_decode"].shape["context"]) == 8 / 2
    # four passes over the scores where any is left out, and four kernels on a token's queries and key
    assert counted(found["indexer_choice_prefill"]) == (0.0, 4.0 * 3 / 2 * seen(10, 7), 4 * 3.0)
    assert counted(found["indexer_choice_decode"]) == (0.0, 4.0 * 8 * 20 / 2, 4 * 3.0)
    rows = 30 / 2 + 8
    assert counted(found["indexer_rows"]) == (0.0, rows * 2 * (5 + 1) * 6 * 2.0, 4 * 3.0)
    assert "indexer_prefill" not in asked(INDEXED_MLA, Mlp(250), Step(decode_seqs=1.0, decode_context=9.0))
    assert "indexer_decode" not in asked(INDEXED_MLA, Mlp(250), Step(prefill_tokens=30.0))


def test_nothing_is_chosen_where_the_indexer_leaves_nothing_out() -> None:
    found = asked(INDEXED_MLA, Mlp(250), Step(prefill_tokens=8.0, decode_seqs=2.0, decode_context=8.0))
    assert one(found["mla_prefill"].flop) == seen(8, 0) * 12 * 2.0 * (9 + 7)
    assert {"mla_picked_prefill", "indexer_choice_prefill", "indexer_choice_decode"}.isdisjoint(found)


def test_compressed_attention_sees_its_window_and_summaries() -> None:
    sizes = {"heads": 12, "kv_heads": 1, "head_dim": 8, "value_dim": 8, "q_rank": 20, "shared_kv": True}
    mixer = Mixer(
        "compressed", **sizes, window=6, compress=4, index_heads=5, index_dim=6, index_topk=3, o_rank=10, o_groups=2
    )
    found = asked(mixer, Mlp(250))
    pairs = seen(10, 7, 6) + seen(10, 7, 3 * 4) / 4
    assert one(found["compressed_picked_prefill"].flop) == pytest.approx(3 * pairs * 64 * 2.0 * 16)
    assert counted(found["indexer_compress"]) == (0.0, 38 * 2 * 8 * 2.0, 7 * 3.0)
    assert one(found["indexer_prefill"].flop) == pytest.approx(2.0 * 3 * seen(10, 7) / 4 * 5 * 6)
    assert one(found["indexer_prefill"].moved) == pytest.approx(3 * 17 / 4 * 6 + 4.0 * 3 * seen(10, 7) / 4)
    assert one(found["indexer_decode"].flop) == pytest.approx(2.0 * 8 * 20 / 4 * 5 * 6)
    assert one(found["attention_decode_compressed"].shape["context"]) == 6 + 3
    assert {d.family for d in found.values() if d.name.startswith("attention_")} == {"mla_decode"}
    near = asked(Mixer("compressed", **sizes, window=6, o_rank=10, o_groups=2), Mlp(250))
    assert one(near["compressed_picked_prefill"].flop) == pytest.approx(3 * seen(10, 7, 6) * 64 * 2.0 * 16)


def test_states_are_read_and_written_once_a_sequence() -> None:
    found = asked(Mixer("linear", heads=12, kv_heads=3, head_dim=8, value_dim=10, conv=4), Mlp(250), tp=4, dp=2)
    heads, keys = 3, 1
    row = 2.0 * (2 * keys * 8 + 2 * heads * 10)  # query, key, value and output in 16 bit
    state = heads * 8 * 10
    assert counted(found["linear_prefill"]) == pytest.approx((8.0 * 15 * state, 1.5 * 8.0 * state + 15 * row, 3.0))
    assert counted(found["linear_decode"]) == pytest.approx((8.0 * 4 * state, 4 * 8.0 * state + 4 * row, 3.0))
    drafted = Step(decode_seqs=4.0, decode_context=20.0, decode_tokens=3.0)
    found = asked(Mixer("linear", heads=12, kv_heads=3, head_dim=8, value_dim=10, conv=4), Mlp(250), drafted)
    state, row = 12 * 8 * 10, 2.0 * (2 * 3 * 8 + 2 * 12 * 10)
    assert counted(found["linear_decode"]) == (8.0 * 12 * state, 4 * 8.0 * state + 12 * row, 3.0)
    assert "linear_prefill" not in found


@pytest.mark.parametrize("kind", ["full", "linear", "mla"])
def test_heads_that_do_not_divide_go_to_the_fullest_device(kind: str) -> None:
    sizes = {"heads": 10, "kv_heads": 10 if kind == "mla" else 5, "head_dim": 9, "value_dim": 7}
    more = {"q_rank": 20, "kv_rank": 16, "rope_dim": 3} if kind == "mla" else {"conv": 4} if kind == "linear" else {}
    found = asked(Mixer(kind, **sizes, **more), Mlp(250), tp=4)  # type: ignore[arg-type]
    heads, keys = share(10, 4), share(5, 4)
    for name in [n for n in found if n.endswith(("_prefill", "_decode", f"_prefill_{kind}", f"_decode_{kind}"))]:
        assert one(found[name].shape["heads"]) == heads, name
        if "kv_heads" in found[name].shape:
            assert one(found[name].shape["kv_heads"]) == keys
    if kind == "linear":
        assert one(found["linear_decode"].moved) == 8 * (8.0 * heads * 63 + 2.0 * (2 * keys * 9 + 2 * heads * 7))


def test_a_prompt_of_one_token_is_a_prompt() -> None:
    found = asked(Mixer("full", **GQA), Mlp(250), Step(prefill_tokens=1.0, prefill_context=6.0, prefill_seqs=4.0))
    assert one(found["attention_prefill_full"].shape["query"]) == 0.25  # a mean over four
    nothing = Step(prefill_tokens=0.0, decode_seqs=0.0)
    spec = ModelSpec("toy", HIDDEN, VOCAB, (Block(3, Mixer("full", **GQA), Mlp(250)),))
    idle = list(operators(shard(spec, deployments(H100, adapters=Adapters(rank=8))), nothing))
    assert any(d.name.startswith("lora_") for d in idle)
    assert not any(np.any(d.count) for d in idle if d.name not in ("sampling",))
    two = asked(Mixer("full", **GQA), Mlp(250), streams=2)
    assert one(two["stream_update"].moved) == 38 * 5 * HIDDEN * 2.0


def test_streams_move_around_both_parts_of_a_layer() -> None:
    found = asked(Mixer("full", **GQA), Mlp(250), streams=4)
    rows, sites = 38, 2 * 3
    # four streams in, four out and the part's own row; the weights take as much again in three kernels together
    assert counted(found["stream_update"]) == (0.0, rows * 9 * HIDDEN * 2.0, sites)
    assert counted(found["stream_weights"]) == pytest.approx((0.0, rows * 9 / 3 * HIDDEN * 2.0, 3 * sites))
    assert "stream_update" not in asked(Mixer("full", **GQA), Mlp(250), streams=1)


# -------------------------------------------------------------------------------- experts


MOE = Mlp(30, experts=16, top_k=3, shared=40)


def touched(tokens: int, experts: int = 16, top_k: int = 3) -> float:
    """Experts that some token picks, on average: each is picked with a chance of density rest (1-p)^(rest-1)."""
    rest = experts / top_k - 1.0
    missed = quad(lambda p: (1.0 - p) ** tokens * rest * (1.0 - p) ** (rest - 1.0), 0.0, 1.0)[0]
    return experts * (1.0 - missed)


def test_some_experts_are_more_popular() -> None:
    mixer, mlp = Mixer("full", **GQA), Mlp(30, experts=16, top_k=3)
    read = [
        one(asked(mixer, mlp, Step(decode_seqs=t, decode_context=20.0))["experts"].host_bytes) for t in (1.0, 2.0, 1e4)
    ]
    expert = 3 * HIDDEN * 30 * 2.0
    assert read[0] == pytest.approx(3 * expert)
    # Two tokens of experts that are all alike would touch 5.44: 3 and 13/16 of 3 more.
    assert read[1] == pytest.approx(touched(2) * expert)
    assert read[1] < 5.1 * expert
    assert read[2] == pytest.approx(16 * expert, rel=1e-3)


@pytest.mark.parametrize("gated", [True, False])
def test_every_operator_of_routed_experts_on_one_device(gated: bool) -> None:
    mlp = Mlp(30, experts=16, top_k=3, shared=40, gated=gated)
    found, tokens, up = asked(Mixer("full", **GQA), mlp), 38, 2 if gated else 1
    pairs = tokens * 3
    flop = pairs * (up + 1) * 2.0 * HIDDEN * 30
    weights = touched(tokens) * (up + 1) * HIDDEN * 30 * 2.0
    moved = weights + pairs * 2.0 * (HIDDEN + 30 + up * 30 + HIDDEN)
    assert counted(found["experts"]) == pytest.approx((flop, moved, 3.0), rel=1e-9)
    assert one(found["experts"].host_bytes) == pytest.approx(weights, rel=1e-9)
    assert one(found["experts"].shape["ep"]) == 1.0
    assert counted(found["router"]) == (*product(tokens, HIDDEN, 16), 3.0)
    assert counted(found["shared_up"]) == (*product(tokens, HIDDEN, up * 40), 3.0)
    assert counted(found["routing"]) == (0.0, tokens * 2 * (3 * HIDDEN + 16) * 2.0, 2.0 * 3)
    assert "activation" not in found
    assert "experts" not in asked(Mixer("full", **GQA), mlp, Step())


def test_the_busiest_expert_parallel_rank_has_more_than_the_mean() -> None:
    # 8 ranks of attention data parallelism; 4 ranks of experts, each expert split over 2 devices
    found = asked(Mixer("full", **GQA), MOE, Step(decode_seqs=40.0, decode_context=20.0), dp=8, ep=4)
    pairs = 40 * 3
    mean = pairs / 4
    busy = mean + sqrt(2.0 * log(4) * mean) + 0.2 * mean  # balls into bins, and a fifth that does not even out
    inner = 30 / 2
    assert one(found["experts"].flop) == pytest.approx(busy * 3 * 2.0 * HIDDEN * inner)
    read = min(touched(40) / 4 * sqrt(busy / mean), 16 / 4)
    moved = read * 3 * HIDDEN * inner * 2.0 + busy * 2.0 * (HIDDEN + inner + 2 * inner + HIDDEN)
    assert one(found["experts"].moved) == pytest.approx(moved)
    few = asked(Mixer("full", **GQA), MOE, Step(decode_seqs=2.0, decode_context=20.0), dp=8, ep=4)
    ratio = one(few["experts"].flop) / (2 * 3 / 4 * 3 * 2.0 * HIDDEN * inner)
    assert one(few["experts"].host_bytes) == pytest.approx(touched(2) / 4 * sqrt(ratio) * 3 * HIDDEN * inner * 2.0)


@pytest.mark.parametrize("ep", [4, 16])
def test_tables_of_many_ranks_are_looked_up_by_what_the_busiest_has(ep: int) -> None:
    step = Step(decode_seqs=640.0, decode_context=20.0)
    found = asked(Mixer("full", **GQA), Mlp(30, experts=32, top_k=3), step, dp=ep, ep=ep)["experts"]
    shape = {name: one(found.shape[name]) for name in ("tokens", "experts", "top_k", "ep")}
    if ep == 4:
        assert shape == {"tokens": 640.0, "experts": 32.0, "top_k": 3.0, "ep": 4.0}
        return
    assert (shape["experts"], shape["ep"]) == (32.0, 16.0)
    shape = {name: one(found.shape[f"rank_{name}"]) for name in shape}
    assert (shape["experts"], shape["ep"]) == (2.0, 1.0)
    pairs = one(found.flop) / (3 * 2.0 * HIDDEN * 30)  # of the busiest rank
    assert shape["tokens"] * shape["top_k"] == pytest.approx(pairs)
    assert shape["top_k"] == pytest.approx(3 / 16 / (1.0 - (15 / 16) ** 3))


def test_tokens_reach_their_experts_under_attention_data_parallelism() -> None:
    step, row = Step(decode_seqs=40.0, decode_context=20.0), HIDDEN * 2.0
    spread = asked(Mixer("full", **GQA), MOE, step, tp=2, dp=8, ep=4)
    # 5 tokens per rank, halved over its 2 devices, to as many of the 4 ranks as hold any of 3 experts drawn apart
    ranks = 4 * (1.0 - (1.0 - 1 / 4) ** 3)
    for name in ("expert_dispatch", "expert_combine"):
        assert one(spread[name].message) == pytest.approx(5 / 2 * row * ranks)
        assert (one(spread[name].count), one(spread[name].shape["group"])) == (3, 4)
    assert {"mlp_all_reduce", "token_gather", "token_scatter"}.isdisjoint(spread)
    assert one(spread["mixer_all_reduce"].message) == 5 * row
    whole = asked(Mixer("full", **GQA), MOE, step, tp=2, dp=8)
    for name in ("token_gather", "token_scatter"):
        assert (one(whole[name].message), one(whole[name].count)) == (40 * row, 3)
        assert one(whole[name].shape["group"]) == 16
    assert {"mlp_all_reduce", "expert_dispatch", "expert_combine"}.isdisjoint(whole)
    plain = asked(Mixer("full", **GQA), MOE, step, tp=2)
    assert (one(plain["mlp_all_reduce"].message), one(plain["mlp_all_reduce"].count)) == (40 * row, 3)
    assert {"token_gather", "token_scatter", "expert_dispatch"}.isdisjoint(plain)
    # products in 8 bit take half of the bytes to the experts, and results come back in 16
    narrow = asked(Mixer("full", **GQA), MOE, step, tp=2, dp=8, ep=4, weight="fp8", act="fp8")
    assert int(np.ravel(narrow["experts"].compute)[0]) == COMPUTE_CODE["fp8"]
    assert one(narrow["expert_dispatch"].message) * 2 == one(narrow["expert_combine"].message)
    # two experts of a token on 64 ranks: never more than two of them
    wide = asked(Mixer("full", **GQA), Mlp(30, experts=64, top_k=2), step, dp=64, ep=64)
    assert one(wide["expert_dispatch"].message) <= 1 * row * 2.0
    two = asked(Mixer("full", **GQA), Mlp(30, experts=4, top_k=4), step, dp=2, ep=2)
    assert one(two["expert_combine"].message) == pytest.approx(20 * row * 2 * (1 - 0.5**4))


def test_latent_experts_work_in_their_own_width() -> None:
    found = asked(Mixer("full", **GQA), Mlp(30, experts=16, top_k=3, latent=50))
    assert one(found["experts"].flop) == 38 * 3 * 3 * 2.0 * 50 * 30


def test_what_lies_in_host_memory_is_marked() -> None:
    host = Host(link=50e9, memory=1e12)
    found = asked(Mixer("full", **GQA), MOE, host=host, host_weights=0.25, host_experts=0.5, host_kv=0.75)
    hosted = {name: one(d.hosted) for name, d in found.items() if one(d.hosted)}
    weights = dict.fromkeys(("qkv", "o", "router", "shared_up", "shared_down"), 0.25)
    kv = dict.fromkeys(("attention_prefill_full", "attention_decode_full"), 0.75)
    assert hosted == {**weights, **kv, "experts": 0.5}  # the head stays on the device
    found = asked(MLA, Mlp(250), host=host, host_weights=0.25, host_kv=0.75)
    hosted = {name: one(d.hosted) for name, d in found.items() if one(d.hosted)}
    assert hosted["absorb"] == hosted["kv_up"] == 0.25
    assert hosted["mla_prefill"] == hosted["mla_decode"] == 0.75


def test_a_chunk_that_follows_long_context_reads_more_than_it_writes() -> None:
    found = asked(Mixer("full", **GQA), Mlp(250), Step(prefill_tokens=4.0, prefill_context=50.0))
    assert one(found["attention_prefill_full"].host_bytes) == 50 * 3 * 18 * 2.0
