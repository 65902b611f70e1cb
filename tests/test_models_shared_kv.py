"""What a sequence stores where keys and values share a projection, and where layers share a cache."""

from __future__ import annotations

import random
from typing import Any

import pytest

from perfmodel.models import ModelSpec, model, read_config

BYTES = 2.0
GEMMA_4_31B: dict[str, Any] = {
    "model_type": "gemma4",
    "architectures": ["Gemma4ForConditionalGeneration"],
    "text_config": {
        "model_type": "gemma4_text",
        "hidden_size": 5376,
        "intermediate_size": 21504,
        "num_hidden_layers": 60,
        "num_attention_heads": 32,
        "num_key_value_heads": 16,
        "head_dim": 256,
        "global_head_dim": 512,
        "num_global_key_value_heads": 4,
        "attention_k_eq_v": True,
        "sliding_window": 1024,
        "vocab_size": 262144,
        "max_position_embeddings": 262144,
        "tie_word_embeddings": True,
        "layer_types": (["sliding_attention"] * 5 + ["full_attention"]) * 10,
    },
}


def with_text(**changes: Any) -> ModelSpec:
    return read_config({**GEMMA_4_31B, "text_config": {**GEMMA_4_31B["text_config"], **changes}})


@pytest.mark.parametrize(("tokens", "gigabytes"), [(4096, 0.2936), (8192, 0.37749), (32768, 0.8808), (131072, 2.89407)])
def test_gemma_4_stores_keys_and_values_of_its_full_layers(tokens: int, gigabytes: float) -> None:
    # ollama/ollama pull request 16958: llama.cpp takes 3.00 GB at 131,072 tokens with its window of 1024 + 512
    assert float(model("google/gemma-4-26B-A4B").kv_bytes(tokens)) / 1e9 == pytest.approx(gigabytes, rel=1e-4)


def test_gemma_4_31b_stores_what_vllm_counts() -> None:
    # redhat-performance/configiq issue 112: 80 KiB per token of the full layers
    assert float(with_text().kv_bytes(262144)) / 1e9 == pytest.approx(22.3137, rel=1e-4)
    growth = float(with_text().kv_bytes(200_001) - with_text().kv_bytes(200_000))
    assert growth == 80 * 1024


@pytest.mark.parametrize("seed", range(20))
def test_a_shared_projection_saves_parameters_and_no_cache(seed: int) -> None:
    rng = random.Random(seed)
    heads = rng.choice([1, 2, 4])
    changes = {
        "num_global_key_value_heads": heads,
        "global_head_dim": rng.choice([128, 256, 512]),
        "sliding_window": rng.choice([512, 1024, 4096]),
        "num_key_value_heads": rng.choice([4, 8, 16]),
    }
    both, apart = with_text(**changes), with_text(**changes, attention_k_eq_v=False)
    tokens = rng.randrange(1, 200_000)
    assert float(both.kv_bytes(tokens)) == float(apart.kv_bytes(tokens))
    size = changes["global_head_dim"]
    full = 10 * heads * 2 * size * BYTES * tokens
    window = changes["sliding_window"]
    sliding = 50 * changes["num_key_value_heads"] * 2 * 256 * BYTES * min(tokens, window)
    assert float(both.kv_bytes(tokens)) == full + sliding
    assert apart.parameters() - both.parameters() == 10 * heads * size * 5376


@pytest.mark.parametrize("last", [0, 1, 6, 18, 59])
def test_layers_that_reuse_an_earlier_cache_store_none_and_project_no_keys(last: int) -> None:
    plain, found = with_text(), with_text(num_kv_shared_layers=last)
    kinds = [(16, 256, 2)] * 5 + [(4, 512, 1)]
    own = [kinds[i % 6] for i in range(60 - last)]
    tokens = 700
    assert float(found.kv_bytes(tokens)) == sum(heads * size * 2 * BYTES * tokens for heads, size, _ in own)
    spared = [kinds[i % 6] for i in range(60 - last, 60)]
    saved = sum(heads * size * matrices * 5376 for heads, size, matrices in spared)
    assert plain.parameters() - found.parameters() == saved
    assert found.layers == 60


def test_one_vector_that_serves_as_key_and_value_is_stored_once() -> None:
    # DeepSeek-V4: the same 512 values are key and value, so they are cached once
    spec = model("deepseek-ai/DeepSeek-V4-Flash")
    mixers = [b.mixer for b in spec.blocks if b.mixer]
    assert all(m.shared_kv and not m.shared_projection and m.kv_values == 512 for m in mixers)
