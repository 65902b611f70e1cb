"""Which operators a pass has: those of prompts with prompts alone, those of answers with answers alone."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from toy_layers import INDEXED_MLA, MLA

import hwdb
from perfmodel.deployment.columns import deployments
from perfmodel.deployment.sharding import shard
from perfmodel.models import Adapters, Block, Mixer, Mlp, ModelSpec
from perfmodel.operators import exchange
from perfmodel.operators.forward import operators
from perfmodel.operators.lora import adapter_bytes, adapter_bytes_fetched
from perfmodel.operators.step import Step

H100 = [hwdb.device("h100-sxm")]
GQA: dict[str, Any] = {"heads": 8, "kv_heads": 4, "head_dim": 8, "value_dim": 8}
MIXERS = {
    "full": Mixer("full", **GQA),
    "sliding": Mixer("sliding", window=16.0, **GQA),
    "mla": MLA,
    "indexed mla": INDEXED_MLA,
    "ssm": Mixer("ssm", heads=8, kv_heads=4, head_dim=8, value_dim=8, conv=4),
    "linear": Mixer("linear", heads=8, kv_heads=4, head_dim=8, value_dim=8, conv=4),
}
#: Collectives that take tokens to their experts and back.
TO_EXPERTS = {"expert_dispatch", "expert_combine"}
ALL_TOKENS = {"token_gather", "token_scatter"}
PROMPTS = {"prefill_tokens": 30.0, "prefill_context": 7.0, "prefill_seqs": 3.0}
ANSWERS = {"decode_seqs": 8.0, "decode_context": 20.0}


def names(mixer: Mixer, step: Step, **columns: object) -> set[str]:
    """The operators of a pass with calls, of a model with two kinds of MLP."""
    experts = Mlp(32, experts=8, top_k=2, shared=16)
    spec = ModelSpec("toy", 96, 1002, (Block(2, mixer, Mlp(64)), Block(2, mixer, experts)))
    found = operators(shard(spec, deployments(H100, **columns)), step)
    return {d.name for d in found if np.any(np.asarray(d.count) > 0)}


@pytest.mark.parametrize("kind", sorted(MIXERS))
@pytest.mark.parametrize(
    "columns", [{}, {"tp": 2}, {"dp": 2}, {"pp": 2}, {"tp": 8, "kvp": 2}, {"ep": 2, "tp": 2}], ids=str
)
def test_prompts_and_answers_have_operators_of_their_own(kind: str, columns: dict[str, int]) -> None:
    mixer = MIXERS[kind]
    prompts = names(mixer, Step(**PROMPTS), **columns)
    answers = names(mixer, Step(**ANSWERS), **columns)
    both = names(mixer, Step(**PROMPTS, **ANSWERS), **columns)
    assert prompts | answers == both
    assert not [name for name in prompts if "decode" in name]
    assert not [name for name in answers if "prefill" in name]
    assert [name for name in prompts if "prefill" in name]
    assert [name for name in answers if "decode" in name]
    assert not names(mixer, Step(), **columns) & ((prompts ^ answers) | {"qkv", "o"})


@pytest.mark.parametrize(
    ("columns", "taken"),
    [
        ({"tp": 4}, set()),
        ({"tp": 4, "ep": 4}, set()),  # every device has all tokens: a sum over the devices brings them back
        ({"dp": 4}, ALL_TOKENS),
        ({"tp": 2, "dp": 2}, ALL_TOKENS),
        ({"dp": 4, "ep": 4}, TO_EXPERTS),
        ({"tp": 2, "dp": 2, "ep": 4}, TO_EXPERTS),
    ],
    ids=lambda value: " ".join(sorted(map(str, value))) or "none",
)
def test_tokens_are_taken_to_experts_where_ranks_have_tokens_of_their_own(
    columns: dict[str, int], taken: set[str]
) -> None:
    found = names(MIXERS["full"], Step(**ANSWERS), **columns)
    assert found & (TO_EXPERTS | ALL_TOKENS) == taken
    assert not names(MIXERS["full"], Step(), **columns) & (TO_EXPERTS | ALL_TOKENS)


@pytest.mark.parametrize("cp", [2, 4])
def test_what_ranks_that_share_positions_send(cp: int) -> None:
    heads, keys, size, values, layers = 8, 4, 8, 6, 3
    mixer = Mixer("full", heads=heads, kv_heads=keys, head_dim=size, value_dim=values)
    laid = shard(ModelSpec("toy", 96, 1002, (Block(layers, mixer, Mlp(64)),)), deployments(H100, cp=cp))
    prompts = {d.name: d for d in operators(laid, Step(**PROMPTS))}
    answers = {d.name: d for d in operators(laid, Step(**ANSWERS))}
    own = 30 / cp  # of the thirty new tokens
    held = 3 * 17 / cp  # of the seventeen positions of each of three prompts
    expected = {  # bytes in 16 bit, calls: a ring passes everything once less than it has ranks
        exchange.RING_KV: (held * keys * (size + values) * 2, layers * (cp - 1)),
        exchange.RING_Q: (own * heads * size * 2, layers * (cp - 1)),
        exchange.GATHER_KV: (held * keys * (size + values) * 2 * cp, layers),
        exchange.RETURN: (own * heads * values * 2 * cp, layers),
    }
    for name, (sent, calls) in expected.items():
        assert (np.ravel(prompts[name].message)[0], np.ravel(prompts[name].count)[0]) == (sent, calls), name
    merged = prompts[exchange.MERGE]
    assert (np.ravel(merged.moved)[0], np.ravel(merged.count)[0]) == (own * heads * values * 28, layers * (cp - 1))
    expected = {  # eight answers: queries go round, partial outputs are summed or sent back
        exchange.DECODE_RING_Q: (8 * heads * size * 2 / cp, layers * (cp - 1)),
        exchange.COMBINE: (8 * heads * values * 2, layers),
        exchange.DECODE_RETURN: (8 * heads * values * 2, layers),
    }
    for name, (sent, calls) in expected.items():
        assert (np.ravel(answers[name].message)[0], np.ravel(answers[name].count)[0]) == (sent, calls), name


@pytest.mark.parametrize("kind", ["ssm", "linear"])
def test_layers_without_positions_have_none_to_share(kind: str) -> None:
    for step in (Step(**PROMPTS), Step(**ANSWERS)):
        assert not [n for n in names(MIXERS[kind], step, cp=2) if n.startswith("sequence_")]
        assert not [n for n in names(MIXERS[kind], step, tp=8, kvp=2) if n.startswith("kv_")]
        assert [n for n in names(MIXERS["full"], step, cp=2) if n.startswith("sequence_")]


@pytest.mark.parametrize(
    ("step", "gathers"),
    [
        (Step(**PROMPTS), True),
        (Step(**{**PROMPTS, "prefill_context": 0.0}), False),  # nothing is cached before them
        (Step(**ANSWERS), False),
        (Step(**ANSWERS, prefill_context=7.0), False),  # no prompts
    ],
)
@pytest.mark.parametrize("kvp", [1, 2])
def test_keys_before_a_prompt_are_gathered_where_devices_share_them(step: Step, gathers: bool, kvp: int) -> None:
    found = names(MIXERS["full"], step, tp=8, kvp=kvp)
    assert ("kv_gather_context" in found) == (gathers and kvp > 1)
    assert ("kv_combine" in found) == (bool(np.any(step.decode_seqs)) and kvp > 1)


def test_candidates_that_share_nothing_exchange_nothing_beside_those_that_do() -> None:
    placed = deployments(H100, tp=np.array([8.0, 8.0]), kvp=np.array([1.0, 2.0]), cp=np.array([1.0, 1.0]))
    spec = ModelSpec("toy", 96, 1002, (Block(3, MIXERS["full"], Mlp(64)),))
    for step, named in (
        (Step(**ANSWERS), ("kv_gather_queries", "kv_combine")),
        (Step(**PROMPTS), ("kv_gather_context",)),
    ):
        found = {d.name: d for d in operators(shard(spec, placed), step)}
        for name in named:
            assert np.broadcast_to(found[name].count, 2).tolist() == [0.0, 3.0], name


@pytest.mark.parametrize("kind", ["full", "mla"])
def test_drafted_tokens_multiply_the_products_of_attention_and_not_its_reads_of_the_cache(kind: str) -> None:
    spec = ModelSpec("toy", 96, 1002, (Block(3, MIXERS[kind], Mlp(64)),))
    laid = shard(spec, deployments(H100))

    def decode(tokens: float) -> Any:
        step = Step(**{**ANSWERS, "decode_context": 4000.0}, decode_tokens=tokens)
        return next(d for d in operators(laid, step) if d.family.endswith("_decode"))

    one, four = decode(1.0), decode(4.0)
    assert np.ravel(four.flop)[0] == pytest.approx(4.0 * np.ravel(one.flop)[0], rel=0.01)
    assert np.ravel(four.moved)[0] < 1.1 * np.ravel(one.moved)[0]


@pytest.mark.parametrize("prompts", [1, 3, 5])
@pytest.mark.parametrize("chunks", [1, 4])
def test_adapters_are_fetched_once_however_many_chunks_a_prompt_has(prompts: int, chunks: int) -> None:
    adapters = Adapters(rank=16, count=10, resident=4)  # six of ten are elsewhere
    spec = ModelSpec("toy", 96, 1002, (Block(3, MIXERS["full"], Mlp(64)),))
    laid = shard(spec, deployments(H100, adapters=adapters))
    # the chunks of a prompt of 400 tokens: 400 / chunks new ones behind the others, (chunks - 1) / 2 of them on average
    chunk = 400.0 / chunks
    step = Step(prefill_tokens=prompts * chunk, prefill_seqs=float(prompts), prefill_context=chunk * (chunks - 1) / 2)
    fetched = np.ravel(adapter_bytes_fetched(laid, step))[0]
    assert chunks * fetched == pytest.approx(prompts * adapters.missing * np.ravel(adapter_bytes(laid))[0])
    assert adapters.missing == pytest.approx(0.6)
