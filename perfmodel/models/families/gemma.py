"""Gemma 1 to 4: wide heads, a shared embedding, sliding windows that alternate with full attention."""

from __future__ import annotations

from dataclasses import replace

from perfmodel.models.families.common import (
    attention,
    dense_mlp,
    expert_mlp,
    grouped,
    interleaved,
    layer_count,
    model,
    reads,
    sliding,
)
from perfmodel.models.fields import Fields
from perfmodel.models.layers import Mlp
from perfmodel.models.mixer import Mixer
from perfmodel.models.spec import ModelSpec

#: Norm vectors per layer: before and after attention, before and after the MLP.
_NORMS = 4
#: Hugging Face's defaults of Gemma2Config and Gemma3TextConfig, which published files leave out.
_WINDOW = 4096
_GEMMA3 = {"head_dim": 256, "vocab_size": 262208, "max_position_embeddings": 131072}
#: Gemma 3 and 4: five sliding layers, then a full one.
_PERIOD = 6


@reads("gemma", "GemmaForCausalLM")
def gemma(c: Fields) -> ModelSpec:
    """Read the `config.json` of Gemma 1 or CodeGemma. Only the usual keys matter."""
    return model(c, grouped([(attention(c), dense_mlp(c))] * layer_count(c)), tied=True)


@reads("gemma2", "Gemma2ForCausalLM")
def gemma2(c: Fields) -> ModelSpec:
    """Read the `config.json` of Gemma 2 (arXiv:2408.00118): every other layer has a sliding window.

    Keys: sliding_window, layer_types.
    """
    full = attention(c)
    return _alternating(c, full, sliding(full, c.count("sliding_window", default=_WINDOW)), dense_mlp(c), every=2)


@reads("gemma3", "gemma3_text", "Gemma3ForConditionalGeneration", "Gemma3ForCausalLM")
def gemma3(c: Fields) -> ModelSpec:
    """Read the `config.json` of Gemma 3 (arXiv:2503.19786).

    Structure: five layers with a sliding window, then a full one; norms on query and key heads.

    Keys: sliding_window, layer_types or sliding_window_pattern.
    """
    c = c.with_defaults(**_GEMMA3)
    full = attention(c, head_norm=True)
    every = c.count("sliding_window_pattern", "_sliding_window_pattern", default=_PERIOD)
    return _alternating(c, full, sliding(full, c.count("sliding_window", default=_WINDOW)), dense_mlp(c), every)


@reads("gemma4", "gemma4_text", "Gemma4ForConditionalGeneration", "Gemma4ForCausalLM")
def gemma4(c: Fields) -> ModelSpec:
    """Read the `config.json` of Gemma 4.

    Full layers have wider and fewer key heads; routed experts stand next to a dense MLP.

    Keys: sliding_window, layer_types, global_head_dim, num_global_key_value_heads, attention_k_eq_v (full layers
    project keys and values with one matrix and cache both), num_kv_shared_layers (so many last layers read the cache of
    an earlier layer of their kind), enable_moe_block, moe_intermediate_size and the numbers of experts.
    """
    local = sliding(attention(c, head_norm=True), c.count("sliding_window"))
    size = c.count("global_head_dim", default=local.head_dim)
    full = replace(
        local,
        kind="full",
        window=float("inf"),
        kv_heads=c.count("num_global_key_value_heads", default=local.kv_heads),
        head_dim=size,
        value_dim=size,
        shared_projection=c.flag("attention_k_eq_v"),
        extra_parameters=2 * size,
    )
    mlp = dense_mlp(c)
    if c.flag("enable_moe_block"):
        mlp = expert_mlp(c, c.count("moe_intermediate_size"), shared=mlp.intermediate)
    return _alternating(c, full, local, mlp, _PERIOD)


def _alternating(c: Fields, full: Mixer, local: Mixer, mlp: Mlp, every: int) -> ModelSpec:
    """Return Gemma 2 to 4: full and sliding layers with equal MLPs, four norms per layer and a shared embedding."""
    mixers = interleaved(c, full, local, "sliding_attention", every)
    own = len(mixers) - c.count("num_kv_shared_layers", default=0, least=0, most=len(mixers) - 1)
    mixers = [*mixers[:own], *(replace(mixer, reuses_kv=True) for mixer in mixers[own:])]
    return model(c, grouped(((mixer, mlp) for mixer in mixers), norms=_NORMS), tied=True)
