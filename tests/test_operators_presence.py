"""Which operators a pass has: those of prompts with prompts alone, those of answers with answers alone."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from toy_layers import INDEXED_MLA, MLA

import hwdb
from perfmodel.deployment.columns import deployments
from perfmodel.deployment.sharding import shard
from perfmodel.models import Block, Mixer, Mlp, ModelSpec
from perfmodel.operators.forward import operators
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
