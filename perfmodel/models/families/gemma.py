"""Gemma 1 to 4: wide heads, a shared embedding, sliding windows that alternate with full attention."""

from __future__ import annotations

from dataclasses import replace

from perfmodel.models.families.common import (
    attention,
    dense_mlp,
    expert_mlp,
    grouped,
    layer_count,
    layer_kinds,
    model,
    reads,
)
from perfmodel.models.fields import Fields
from perfmodel.models.layers import Mixer
from perfmodel.models.spec import ModelSpec


@reads("gemma", "GemmaForCausalLM")
def gemma(c: Fields) -> ModelSpec:
    """Gemma 1 and CodeGemma."""
    return model(c, grouped([(attention(c), dense_mlp(c))] * layer_count(c)), tied=True)


def alternating(c: Fields, full: Mixer, local: Mixer, every: int) -> list[Mixer]:
    """Mixers a layer: `layer_types` where stated, else every `every`th one is full."""
    n = layer_count(c)
    kinds = layer_kinds(c, n)
    if kinds:
        return [local if kind == "sliding_attention" else full for kind in kinds]
    return [local if (i + 1) % every else full for i in range(n)]


@reads("gemma2", "Gemma2ForCausalLM")
def gemma2(c: Fields) -> ModelSpec:
    """Gemma 2 (arXiv:2408.00118): every other layer slides, norms before and after each part."""
    full = attention(c)
    local = replace(full, kind="sliding", window=float(c.count("sliding_window", default=4096)))
    return model(c, grouped(((m, dense_mlp(c)) for m in alternating(c, full, local, 2)), norms=4), tied=True)


@reads("gemma3", "gemma3_text", "Gemma3ForConditionalGeneration", "Gemma3ForCausalLM")
def gemma3(c: Fields) -> ModelSpec:
    """Gemma 3 (arXiv:2503.19786): five sliding layers to a full one; Hugging Face's defaults fill its files."""
    c = Fields({"head_dim": 256, "vocab_size": 262208, "max_position_embeddings": 131072, **c.values}, c.place)
    full = attention(c, head_norm=True)
    local = replace(full, kind="sliding", window=float(c.count("sliding_window", default=4096)))
    every = c.count("sliding_window_pattern", "_sliding_window_pattern", default=6)
    return model(c, grouped(((m, dense_mlp(c)) for m in alternating(c, full, local, every)), norms=4), tied=True)


@reads("gemma4", "gemma4_text", "Gemma4ForConditionalGeneration", "Gemma4ForCausalLM")
def gemma4(c: Fields) -> ModelSpec:
    """Gemma 4: full layers have wider and fewer key heads that serve as values too; experts beside a dense MLP."""
    local = attention(c, head_norm=True, kind="sliding", window=float(c.count("sliding_window")))
    size = c.count("global_head_dim", default=local.head_dim)
    full = replace(
        local,
        kind="full",
        window=float("inf"),
        kv_heads=c.count("num_global_key_value_heads", default=local.kv_heads),
        head_dim=size,
        value_dim=size,
        shared_kv=c.flag("attention_k_eq_v"),
        extra_parameters=2 * size,
    )
    mlp = dense_mlp(c)
    if c.flag("enable_moe_block"):
        mlp = expert_mlp(c, c.count("moe_intermediate_size"), shared=c.count("intermediate_size"))
    return model(c, grouped(((m, mlp) for m in alternating(c, full, local, 6)), norms=4), tied=True)
