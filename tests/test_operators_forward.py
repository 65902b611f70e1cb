"""What a pass asks of the hardware: work conserved over devices, chunks and kinds of parallelism; published counts."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import hwdb
from perfmodel import equations as eq
from perfmodel.deployment import EXPERT_SKEW
from perfmodel.deployment.columns import deployments
from perfmodel.deployment.sharding import Sharding, shard
from perfmodel.dtypes import FORMAT_CODE, FORMAT_NAMES
from perfmodel.models import Block, Mixer, Mlp, ModelSpec, base_names, model
from perfmodel.operators.demand import Demand
from perfmodel.operators.forward import operators
from perfmodel.operators.step import Step, all_tokens, local_tokens
from perfmodel.vocabulary import FAMILIES

H100 = [hwdb.device("h100-sxm")]
LLAMA, DEEPSEEK, MIXTRAL = "llama-3.1-70b", "deepseek-v3", "mistralai/Mixtral-8x7B-v0.1"
#: Families whose FLOP are products with weights.
PRODUCTS = ("gemm", "grouped_gemm")


def laid(spec: ModelSpec | str, **columns: object) -> Sharding:
    return shard(model(spec) if isinstance(spec, str) else spec, deployments(H100, **columns))


def asked(spec: ModelSpec | str, step: Step, **columns: object) -> list[Demand]:
    return [d for d in operators(laid(spec, **columns), step) if np.any(d.count)]


def total(demands: list[Demand], what: str, *families: str, name: str = "") -> float:
    """Sum of `flop`, `moved`, `message` or `calls` over a pass on one device."""
    picked = [d for d in demands if (not families or d.family in families) and d.name.startswith(name)]
    return sum(float(np.ravel((1.0 if what == "calls" else getattr(d, what)) * d.count)[0]) for d in picked)


def prompt(tokens: float, context: float = 0.0, seqs: float = 1.0) -> Step:
    return Step(prefill_tokens=tokens, prefill_context=context, prefill_seqs=seqs)


def answers(seqs: float, context: float) -> Step:
    return Step(decode_seqs=seqs, decode_context=context)


# -------------------------------------------------------------------------------- against published counts


@pytest.mark.parametrize("name", base_names())
def test_a_prompt_token_costs_two_flop_a_parameter_it_uses(name: str) -> None:
    # Kaplan et al., arXiv:2001.08361, eq. 2.2: C = 2 N, embeddings apart; the head runs on one row a sequence
    spec = model(name)
    demands = asked(spec, prompt(4096.0))
    body = total(demands, "flop", *PRODUCTS) - total(demands, "flop", name="lm_head")
    used = spec.parameters(active=True) - spec.vocab * spec.hidden * (1 if spec.tied else 2)
    used -= spec.extra_parameters - spec.lookup_parameters  # outside the layers; Gemma 3n has matrices there
    used -= spec.positions * spec.hidden  # looked up
    # norms, biases, convolutions and the matrices of states are no GEMMs, which small models feel; keys and values of
    # cross-attention are those of images
    small = used < 1e9 and spec.recurrent
    assert body == pytest.approx(2.0 * used * 4096, rel=0.012 if small else 0.01 if spec.image_kv_values else 0.005)
    assert total(demands, "flop", name="lm_head") == pytest.approx(2.0 * spec.vocab * spec.hidden, rel=1e-9)


@pytest.mark.parametrize("name", base_names())
def test_one_answer_token_reads_every_weight_it_uses_once(name: str) -> None:
    spec = model(name)
    demands = asked(spec, answers(1.0, 1.0))
    weights = spec.weight_bytes()
    routed = sum(b.mlp.experts * b.count for b in spec.blocks if b.mlp)
    chosen = sum(b.mlp.top_k * b.count for b in spec.blocks if b.mlp and b.mlp.experts)
    head = weights["embedding"] if spec.tied else weights["lm_head"]
    inside = sum(v for k, v in weights.items() if k not in ("embedding", "lm_head", "experts", "other", "encoders"))
    least = inside + head + (weights["experts"] * chosen / routed if routed else 0.0)
    # recurrent states, which kernels read and write in 32 bit, and activations come on top
    assert least * 0.99 <= total(demands, "moved") <= least * 1.03 + 2.5 * spec.state_bytes("fp32")


def test_llama_70b_by_hand() -> None:
    demands = asked(LLAMA, answers(8.0, 1000.0))
    cache = 8 * 1000 * 80 * 2 * 8 * 128 * 2  # sequences x tokens x layers x (K and V) x heads x head size x bytes
    attention = total(demands, "moved", "attention_decode")
    queries_and_answers = 8 * 80 * 64 * 2 * 128 * 2
    assert attention == pytest.approx(cache + queries_and_answers, rel=1e-9)
    # 4 d a score-and-value pair, 64 heads of 128, 80 layers
    assert total(demands, "flop", "attention_decode") == pytest.approx(8 * 1000 * 4 * 128 * 64 * 80, rel=1e-9)


def test_deepseek_v3_decodes_from_its_latent() -> None:
    # arXiv:2405.04434: 512 latent and 64 rotary values a token and layer, shared by all 128 heads
    demands = asked(DEEPSEEK, answers(1.0, 10_000.0))
    cache = 10_000 * 576 * 2 * 61
    assert total(demands, "moved", "mla_decode") == pytest.approx(cache, rel=0.05)
    # scores over 576 values, outputs over 512, for each head
    assert total(demands, "flop", "mla_decode") == pytest.approx(10_000 * 2 * (576 + 512) * 128 * 61, rel=1e-9)
    # the same heads with keys and values of their own would read 128 x (192 + 128) values: 71 times more
    apart = total(asked(_expanded(model(DEEPSEEK)), answers(1.0, 10_000.0)), "moved", "attention_decode")
    assert apart / total(demands, "moved", "mla_decode") == pytest.approx(128 * 320 / 576, rel=0.05)


def _expanded(spec: ModelSpec) -> ModelSpec:
    """`spec` with its latent attention written out as multi-head attention."""
    mixer = Mixer("full", heads=128, kv_heads=128, head_dim=192, value_dim=128)
    return ModelSpec(spec.name, spec.hidden, spec.vocab, (Block(61, mixer, Mlp(1000)),))


def test_absorbed_products_cost_what_expanding_one_token_would() -> None:
    # DeepSeek-V2, arXiv:2405.04434, sec. 2.1: W^UK goes into the queries and W^UV into the outputs, each used once
    expanded = total(asked(DEEPSEEK, prompt(1.0)), "flop", name="kv_up")
    assert total(asked(DEEPSEEK, answers(1.0, 1.0)), "flop", name="absorb") == pytest.approx(expanded, rel=1e-9)
    assert expanded == pytest.approx(2 * 512 * 128 * (128 + 128) * 61, rel=1e-9)


def test_grouped_queries_read_their_share_of_the_cache() -> None:
    def reads(kv_heads: int) -> float:
        mixer = Mixer("full", heads=32, kv_heads=kv_heads, head_dim=128, value_dim=128)
        spec = ModelSpec("toy", 4096, 32000, (Block(4, mixer, Mlp(11008)),))
        demands = asked(spec, answers(16.0, 50_000.0))
        assert total(demands, "flop", "attention_decode") == 16 * 50_000 * 4 * 128 * 32 * 4
        return total(demands, "moved", "attention_decode")

    assert reads(32) / reads(4) == pytest.approx(8.0, rel=0.01)  # Ainslie et al., arXiv:2305.13245


# -------------------------------------------------------------------------------- windows and states


@pytest.mark.parametrize("context", [100.0, 1000.0, 100_000.0])
def test_a_sliding_window_bounds_what_a_token_sees(context: float) -> None:
    mixer = Mixer("sliding", heads=8, kv_heads=8, head_dim=64, value_dim=64, window=1024)
    spec = ModelSpec("toy", 512, 1000, (Block(2, mixer, Mlp(2048)),))
    pairs = total(asked(spec, answers(1.0, context)), "flop", "attention_decode") / (4 * 64 * 8 * 2)
    assert pairs == min(context, 1024)
    seen = sum(min(context + i, 1024) for i in range(1, 513))
    pairs = total(asked(spec, prompt(512.0, context)), "flop", "attention_prefill") / (4 * 64 * 8 * 2)
    assert pairs == pytest.approx(seen, rel=1e-9)


@pytest.mark.parametrize("length", [64, 200, 1000, 10_000])
def test_chunked_attention_sees_its_own_chunk(length: int) -> None:
    mixer = Mixer("chunked", heads=1, kv_heads=1, head_dim=64, value_dim=64, window=128)
    spec = ModelSpec("toy", 512, 1000, (Block(1, mixer, Mlp(2048)),))
    seen = sum(position % 128 + 1 for position in range(length))
    pairs = total(asked(spec, prompt(length)), "flop", "attention_prefill") / (4 * 64)
    assert pairs == pytest.approx(seen, rel=1e-9)


def test_sparse_attention_reads_what_its_indexer_picks() -> None:
    spec = model("deepseek-v3.2")
    short, long = (asked(spec, answers(1.0, c)) for c in (1000.0, 100_000.0))
    picked = total(long, "flop", "mla_decode") / total(short, "flop", "mla_decode")
    assert picked == pytest.approx(2048 / 1000, rel=1e-9)  # DeepSeek-V3.2-Exp: 2048 tokens a query
    scored = total(long, "flop", name="indexer_decode") / total(short, "flop", name="indexer_decode")
    assert scored == pytest.approx(100.0, rel=1e-9)


def test_compressed_attention_reads_windows_and_summaries() -> None:
    demands = {d.name for d in asked("deepseek-v4-flash", Step(256.0, 1000.0, 1.0, 4.0, 2000.0))}
    assert {"attention_decode_compressed", "compressed_picked_prefill", "compress", "indexer_decode"} <= demands
    spec = model("deepseek-v4-flash")
    near, far = (total(asked(spec, answers(1.0, c)), "moved", "mla_decode") for c in (10_000.0, 100_000.0))
    assert 0 < near < far < 10 * near


def test_residual_streams_are_read_and_written_around_both_parts() -> None:
    spec = model("deepseek-ai/DeepSeek-V4-Pro")
    tokens = 65_536.0
    moved = total(asked(spec, prompt(tokens, seqs=64.0)), "moved", "elementwise", name="stream_") / spec.layers
    # B200, 8 TB/s: 2.61 ms before and 2.48 ms after both parts of a layer (aiconfigurator-core 0.12.0, mhc_module)
    assert 0.5 < moved / 5.09e-3 / 8e12 < 1.0
    assert total(asked(spec, answers(1.0, 100.0)), "calls", name="stream_") == 8 * spec.layers
    assert total(asked(DEEPSEEK, answers(1.0, 100.0)), "calls", name="stream_") == 0


def test_a_recurrent_layer_does_not_care_how_long_the_sequence_is() -> None:
    spec = model("nvidia/NVIDIA-Nemotron-Nano-9B-v2")
    near, far = (asked(spec, answers(4.0, c)) for c in (100.0, 100_000.0))
    assert total(near, "moved", "recurrent_decode") == total(far, "moved", "recurrent_decode") > 0
    assert total(near, "moved", "attention_decode") < total(far, "moved", "attention_decode")


# -------------------------------------------------------------------------------- work is neither lost nor made


@pytest.mark.parametrize("name", [LLAMA, "google/gemma-2-27b-it", "Qwen/Qwen3-8B"])
@pytest.mark.parametrize("step", [prompt(2048.0), answers(32.0, 3000.0)], ids=["prompt", "answers"])
@pytest.mark.parametrize("tp", [2, 4, 8])
def test_tensor_parallelism_shares_the_work_out(name: str, step: Step, tp: int) -> None:
    one, split = asked(name, step), asked(name, step, tp=tp)
    for family in (*PRODUCTS, "attention_prefill", "attention_decode"):
        assert tp * total(split, "flop", family) == pytest.approx(total(one, "flop", family), rel=1e-9)
    # two sums of the hidden rows a layer (Megatron-LM, arXiv:1909.08053)
    tokens = float(np.ravel(step.tokens)[0])
    spec = model(name)
    sums = total(split, "message", "all_reduce")
    assert sums == pytest.approx(2 * spec.layers * tokens * spec.hidden * 2, rel=1e-9)
    assert total(one, "calls", "all_reduce", "all_gather", "p2p", "all_to_all", "reduce_scatter") == 0


def test_key_heads_that_cannot_be_split_are_copied() -> None:
    step = answers(16.0, 100_000.0)
    whole = total(asked(LLAMA, step), "moved", "attention_decode")
    for tp, copies in ((8, 1), (16, 2), (32, 4)):  # eight key heads
        each = total(asked(LLAMA, step, tp=tp), "moved", "attention_decode")
        assert tp * each == pytest.approx(copies * whole, rel=0.01)
    latent = total(asked(DEEPSEEK, step), "moved", "mla_decode")
    # every device of MLA reads the whole latent
    assert total(asked(DEEPSEEK, step, tp=8), "moved", "mla_decode") == pytest.approx(latent, rel=0.1)


@pytest.mark.parametrize("dp", [2, 8])
def test_attention_data_parallelism_splits_sequences(dp: int) -> None:
    step = answers(64.0, 3000.0)
    one, split = asked(DEEPSEEK, step), asked(DEEPSEEK, step, dp=dp, ep=dp)
    for family in ("gemm", "mla_decode"):
        assert dp * total(split, "flop", family) == pytest.approx(total(one, "flop", family), rel=1e-9)
    weights = total(asked(DEEPSEEK, answers(1.0, 1.0)), "moved", "gemm")
    assert total(split, "moved", "gemm") > 0.9 * weights  # every device keeps all dense weights


@pytest.mark.parametrize("ep", [2, 4, 8])
@pytest.mark.parametrize("name", [MIXTRAL, DEEPSEEK])
def test_expert_parallelism_shares_experts_out(name: str, ep: int) -> None:
    step = prompt(8192.0)
    one, split = asked(name, step), asked(name, step, tp=ep, ep=ep)
    mean = total(one, "flop", "grouped_gemm") / ep
    busiest = total(split, "flop", "grouped_gemm")
    spec = model(name)
    top_k = next(b.mlp.top_k for b in spec.blocks if b.mlp and b.mlp.experts)
    assert busiest == pytest.approx(mean * float(eq.busiest_share(8192 * top_k, ep, EXPERT_SKEW)), rel=1e-9)
    assert mean <= busiest <= mean * 1.5
    # with this many tokens every expert is read somewhere
    stored = spec.weight_bytes()["experts"]
    assert stored / ep <= total(split, "moved", "grouped_gemm")


def test_splitting_experts_by_tp_or_by_ep_stores_and_computes_the_same() -> None:
    step = prompt(8192.0)
    cut, spread = asked(MIXTRAL, step, tp=8), asked(MIXTRAL, step, tp=8, ep=8)
    imbalance = float(eq.busiest_share(8192 * 2, 8, EXPERT_SKEW))
    assert total(spread, "flop", "grouped_gemm") == pytest.approx(
        imbalance * total(cut, "flop", "grouped_gemm"), rel=1e-9
    )


def test_wide_expert_parallelism_is_looked_up_as_what_one_rank_does() -> None:
    """32 ranks of 8 experts: a token picks any of a rank's with 1 - (31/32)^8 = 22 %, and then 8/32/0.224 = 1.12."""
    spec = model("deepseek-ai/DeepSeek-V3")
    asked = {}
    for ep in (8, 32):
        sharding = shard(spec, deployments([hwdb.device("h100-sxm")], tp=1, dp=ep, ep=ep))
        (asked[ep],) = (
            d
            for d in operators(sharding, Step(decode_seqs=np.full(1, 4096.0), decode_context=1000.0))
            if d.family == "grouped_gemm"
        )
    narrow, wide = ({k: float(np.ravel(v)[0]) for k, v in asked[ep].shape.items()} for ep in (8, 32))
    assert (narrow["experts"], narrow["top_k"], narrow["ep"]) == (256.0, 8.0, 8.0)
    assert (wide["experts"], wide["ep"], wide["rank_experts"]) == (256.0, 32.0, 8.0)
    assert wide["rank_top_k"] == pytest.approx(1.12, abs=0.01)
    assert wide["rank_tokens"] * wide["rank_top_k"] >= 4096 * 8 / 32  # the mean rank's pairs, and more on the busiest
    assert wide["rank_tokens"] * wide["rank_top_k"] < 1.5 * 4096 * 8 / 32
    assert wide["tokens"] * wide["top_k"] / wide["ep"] == pytest.approx(wide["rank_tokens"] * wide["rank_top_k"])


@pytest.mark.parametrize("tokens", [1, 4, 32])
def test_few_tokens_read_the_experts_that_they_touch(tokens: int) -> None:
    rng = np.random.default_rng(2)
    experts, top_k, inner, hidden = 64, 6, 1408, 2048
    mlp = Mlp(inner, experts=experts, top_k=top_k)
    mixer = Mixer("full", heads=16, kv_heads=16, head_dim=128, value_dim=128)
    spec = ModelSpec("toy", hidden, 1000, (Block(1, mixer, mlp),))
    chance = rng.beta(1.0, experts / top_k - 1.0, (20_000, experts))  # some are more popular
    touched = float((1.0 - (1.0 - chance) ** tokens).sum(axis=1).mean())
    rows = tokens * top_k * (2 * hidden + 3 * inner) * 2
    expected = touched * 3 * hidden * inner * 2 + rows
    found = total(asked(spec, answers(float(tokens), 10.0)), "moved", "grouped_gemm")
    assert found == pytest.approx(expected, rel=0.02)


@pytest.mark.parametrize("pp", [2, 4, 8])
def test_a_pipeline_runs_the_same_pass_and_sends_between_stages(pp: int) -> None:
    step = prompt(1024.0)
    one, split = asked(LLAMA, step), asked(LLAMA, step, pp=pp)
    assert total(split, "flop") == total(one, "flop")
    assert total(split, "calls", "p2p") == pp - 1
    assert total(split, "message", "p2p") == (pp - 1) * 1024 * 8192 * 2


def test_stages_of_several_devices_reach_beyond_their_node() -> None:
    sent = next(d for d in asked(LLAMA, prompt(1024.0), pp=2, tp=8) if d.family == "p2p")
    assert float(np.ravel(sent.shape["group"])[0]) == 16
    assert float(np.ravel(sent.message)[0]) == 1024 * 8192 * 2 / 8  # each sends its part of the rows


@pytest.mark.parametrize("name", [LLAMA, MIXTRAL])
def test_sequence_parallelism_splits_a_long_prompt(name: str) -> None:
    step = prompt(65536.0)
    one, split = asked(name, step), asked(name, step, cp=4)
    for family in (*PRODUCTS, "attention_prefill"):
        share = 4 * (total(split, "flop", family) - total(split, "flop", family, name="lm_head"))
        assert share == pytest.approx(total(one, "flop", family) - total(one, "flop", family, name="lm_head"), rel=1e-9)
    keys_everywhere = total(split, "calls", "all_gather", name="sequence_gather")
    assert keys_everywhere == model(name).layers


@given(pieces=st.lists(st.integers(1, 4096), min_size=1, max_size=6))
@pytest.mark.parametrize("name", ["Qwen/Qwen3-8B", "google/gemma-2-2b-it", "deepseek-ai/DeepSeek-V2-Lite"])
def test_chunks_of_a_prompt_do_the_work_of_the_whole(name: str, pieces: list[int]) -> None:
    before = np.cumsum([0, *pieces[:-1]])
    chunks = [asked(name, prompt(float(p), float(c))) for p, c in zip(pieces, before, strict=True)]
    whole = asked(name, prompt(float(sum(pieces))))

    def body(demands: list[Demand]) -> float:
        return total(demands, "flop") - total(demands, "flop", name="lm_head")

    assert sum(map(body, chunks)) == pytest.approx(body(whole), rel=1e-9)


@given(
    seqs=st.integers(1, 300), more=st.integers(0, 300), context=st.integers(1, 50_000), longer=st.integers(0, 50_000)
)
def test_more_sequences_and_longer_ones_never_ask_for_less(seqs: int, more: int, context: int, longer: int) -> None:
    for name in (LLAMA, "deepseek-ai/DeepSeek-V2-Lite", "openai/gpt-oss-20b"):
        small = asked(name, answers(seqs, context), tp=2)
        large = asked(name, answers(seqs + more, context + longer), tp=2)
        for what in ("flop", "moved", "message"):
            assert total(large, what) >= total(small, what) * (1 - 1e-12)


# -------------------------------------------------------------------------------- passes and columns


def test_a_pass_without_prompts_or_without_answers_has_none_of_their_operators() -> None:
    decode, prefill = asked(DEEPSEEK, answers(4.0, 100.0)), asked(DEEPSEEK, prompt(100.0))
    assert not [d.name for d in decode if "prefill" in d.name or d.name == "kv_up"]
    assert not [d.name for d in prefill if "decode" in d.name or d.name == "absorb"]
    assert asked(DEEPSEEK, Step()) == []


def test_a_mixed_pass_reads_its_weights_once() -> None:
    step = Step(prefill_tokens=512.0, decode_seqs=32.0, decode_context=1000.0)
    mixed = total(asked(LLAMA, step), "moved", "gemm")
    apart = total(asked(LLAMA, prompt(512.0)), "moved", "gemm") + total(
        asked(LLAMA, answers(32.0, 1000.0)), "moved", "gemm"
    )
    weights = sum(v for k, v in model(LLAMA).weight_bytes().items() if k in ("attention", "mlp", "lm_head"))
    assert apart - mixed == pytest.approx(weights, rel=0.01)


def test_drafted_tokens_are_verified_in_one_pass() -> None:
    plain = asked(LLAMA, answers(8.0, 1000.0))
    drafted = asked(LLAMA, Step(decode_seqs=8.0, decode_context=1000.0, decode_tokens=4.0))
    assert total(drafted, "flop") == pytest.approx(4 * total(plain, "flop"), rel=1e-9)
    assert total(drafted, "moved", "gemm") < 1.1 * total(plain, "moved", "gemm")


@pytest.mark.parametrize(("stored", "share"), [("fp8", 0.5), ("int8", 0.5), ("fp4", 4.5 / 16)])
def test_narrow_weights_move_fewer_bytes(stored: str, share: float) -> None:
    def inside(**columns: object) -> float:
        demands = asked(LLAMA, answers(1.0, 1.0), **columns)
        return total(demands, "moved", "gemm") - total(demands, "moved", name="lm_head")

    assert inside(weight=FORMAT_CODE[stored]) == pytest.approx(share * inside(), rel=0.01)


def test_every_demand_is_of_a_known_family_with_its_coordinates() -> None:
    needs = {
        "gemm": {"m", "n", "k", "weight", "act"},
        "grouped_gemm": {"tokens", "hidden", "inter", "experts", "top_k", "ep", "tp", "weight", "act"},
        "attention_prefill": {"batch", "query", "context", "heads", "kv_heads", "head_dim", "window", "kv_bytes"},
        "attention_decode": {"batch", "context", "heads", "kv_heads", "head_dim", "window", "kv_bytes"},
        "mla_prefill": {"batch", "query", "context", "heads", "kv_bytes"},
        "mla_decode": {"batch", "context", "heads", "kv_bytes"},
        "recurrent_prefill": {"batch", "query", "heads", "key_dim", "value_dim"},
        "recurrent_decode": {"batch", "heads", "key_dim", "value_dim"},
        "elementwise": set(),
        **{key: {"group"} for key in ("all_reduce", "all_gather", "reduce_scatter", "all_to_all", "p2p")},
    }
    assert set(needs) == set(FAMILIES)
    met = set()
    for name in (LLAMA, DEEPSEEK, "Qwen/Qwen3-Next-80B-A3B-Instruct"):
        for degrees in ({"tp": 4}, {"tp": 2, "dp": 4, "ep": 8}, {"tp": 2, "dp": 4}, {"pp": 2, "cp": 2}):
            for demand in asked(name, Step(512.0, 100.0, 2.0, 16.0, 900.0), **degrees):
                met.add(demand.family)
                assert needs[demand.family] <= set(demand.shape), demand.name
                for values in (demand.flop, demand.moved, demand.message, demand.count):
                    assert np.all(np.asarray(values) >= 0), demand.name
    assert met == set(FAMILIES)


def test_rows_do_not_see_one_another() -> None:
    rng = np.random.default_rng(9)
    rows = 12
    degrees = {k: rng.choice([1, 2, 4], rows) for k in ("tp", "pp", "dp", "cp")}
    columns = {
        **degrees,
        "ep": np.minimum(rng.choice([1, 2, 4], rows), degrees["tp"] * degrees["dp"]),
        "weight": rng.choice([-1, FORMAT_CODE["fp8"], FORMAT_CODE["int4"]], rows),
        "kv": rng.choice([-1, FORMAT_CODE["fp8"]], rows),
    }
    step_columns = {
        "prefill_tokens": rng.choice([0.0, 128.0, 4000.0], rows),
        "prefill_context": rng.uniform(0, 1000, rows),
        "decode_seqs": rng.choice([0.0, 1.0, 64.0], rows),
        "decode_context": rng.uniform(1, 5000, rows),
    }
    together = list(operators(laid(DEEPSEEK, **columns), Step(**step_columns)))
    for row in range(rows):
        alone = list(
            operators(
                laid(DEEPSEEK, **{k: v[row] for k, v in columns.items()}),
                Step(**{k: v[row] for k, v in step_columns.items()}),
            )
        )
        # what no row of a batch does is not listed
        there = [d for d in together if d.name in {one.name for one in alone}]
        absent = [d for d in together if all(d is not one for one in there)]
        assert all(np.broadcast_to(d.count, (rows,))[row] == 0 for d in absent)
        assert [d.name for d in alone] == [d.name for d in there]
        for one, many in zip(alone, there, strict=True):
            for what in ("flop", "moved", "message", "count"):
                wide = np.broadcast_to(getattr(many, what), (rows,))
                np.testing.assert_allclose(float(np.ravel(getattr(one, what))[0]), wide[row], rtol=1e-12)


def test_tokens_of_a_device_are_its_share() -> None:
    sharding = laid(LLAMA, dp=4, cp=2)
    step = Step(prefill_tokens=800.0, prefill_seqs=8.0, decode_seqs=40.0, decode_context=10.0)
    assert float(local_tokens(sharding, step)[0]) == (800 / 2 + 40) / 4


@pytest.mark.parametrize(("seqs", "ranks"), [(1.0, 1), (2.5, 2.5), (4.0, 4), (9.0, 4)])
def test_a_prompt_stays_on_one_rank(seqs: float, ranks: float) -> None:
    step = Step(prefill_tokens=seqs * 1000.0, prefill_seqs=seqs)
    for spec in (LLAMA, DEEPSEEK):
        sharding = laid(spec, dp=4, ep=4 if spec is DEEPSEEK else 1)
        assert float(local_tokens(sharding, step)[0]) == pytest.approx(seqs * 1000.0 / ranks)
        assert float(all_tokens(sharding, step)[0]) == pytest.approx(seqs * 1000.0)
        busiest = {d.name: d for d in operators(sharding, step)}
        alone = {d.name: d for d in operators(laid(spec), Step(prefill_tokens=1000.0, prefill_seqs=1.0))}
        attention = next(n for n in busiest if "prefill" in n)
        # attention is not shared among ranks: the busiest one computes its own prompts whole
        np.testing.assert_allclose(busiest[attention].flop, seqs / ranks * alone[attention].flop)
    # experts are: they see the tokens of all ranks, however few of them have any
    assert float(np.ravel(busiest["experts"].shape["tokens"])[0]) == pytest.approx(seqs * 1000.0)


def test_formats_of_parts_follow_the_checkpoint() -> None:
    own = laid(DEEPSEEK)
    assert FORMAT_NAMES[int(own.weight("experts")[0])] == "fp8_block"
    assert FORMAT_NAMES[int(own.weight("lm_head")[0])] == "bf16"
    given_four_bits = laid(DEEPSEEK, weight=FORMAT_CODE["fp4"])
    assert FORMAT_NAMES[int(given_four_bits.weight("experts")[0])] == "fp4"
    assert FORMAT_NAMES[int(given_four_bits.weight("attention")[0])] == "bf16"  # nvidia/DeepSeek-R1-NVFP4
