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
#: Hugging Face's defaults of Gemma3nTextConfig.
_GEMMA3N = {
    "vocab_size_per_layer_input": 262144,
    "hidden_size_per_layer_input": 256,
    "laurel_rank": 64,
    "altup_num_inputs": 4,
    "sliding_window": 512,
}
#: Gemma 3n: four sliding layers, then a full one.
_PERIOD_3N = 5
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
    an earlier layer of their kind), use_double_wide_mlp (their MLP is twice as wide), hidden_size_per_layer_input
    (embeddings of each layer, E2B and E4B), enable_moe_block, moe_intermediate_size and the numbers of experts.
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
    wide = replace(mlp, intermediate=2 * mlp.intermediate) if c.flag("use_double_wide_mlp") else mlp
    per_layer = c.count("hidden_size_per_layer_input", default=0, least=0)
    full, local = (replace(m, side_inputs=2 * per_layer, side_outputs=per_layer) for m in (full, local))
    mixers = _sharing(c, interleaved(c, full, local, "sliding_attention", _PERIOD))
    blocks = grouped(((m, wide if m.reuses_kv else mlp) for m in mixers), norms=_NORMS + (1 if per_layer else 0))
    return (
        _with_layer_embeddings(c, model(c, blocks, tied=True, extra_parameters=per_layer))
        if per_layer
        else (model(c, blocks, tied=True))
    )


@reads("gemma3n", "gemma3n_text", "Gemma3nForConditionalGeneration", "Gemma3nForCausalLM")
def gemma3n(c: Fields) -> ModelSpec:
    """Read the `config.json` of Gemma 3n E2B and E4B (parts: Hugging Face, modeling_gemma3n.py).

    Structure: four sliding layers, then a full one; the last layers read the cache of an earlier one. Each layer has an
    embedding of its own for every token, a low-rank branch beside attention (LAuReL) and mixes `altup_num_inputs`
    residual streams (AltUp). The sparse activations of the first layers save nothing on GPUs and count as dense.

    Keys: intermediate_size (a number, or one per layer), layer_types, sliding_window, num_kv_shared_layers,
    hidden_size_per_layer_input, vocab_size_per_layer_input, laurel_rank, altup_num_inputs.
    """
    c = c.with_defaults(**_GEMMA3N)
    n, hidden, streams = layer_count(c), c.count("hidden_size"), c.count("altup_num_inputs")
    rank, per_layer = c.count("laurel_rank"), c.count("hidden_size_per_layer_input")
    plain = attention(c, head_norm=True)
    full = replace(plain, side_inputs=rank + 2 * per_layer, side_outputs=rank + per_layer)
    local = sliding(full, c.count("sliding_window"))
    widths = c.values["intermediate_size"]
    widths = c.items("intermediate_size", n) if isinstance(widths, list) else [c.count("intermediate_size")] * n
    mlps = [Mlp(intermediate=c.stating(intermediate_size=width).count("intermediate_size")) for width in widths]
    layers = zip(_sharing(c, interleaved(c, full, local, "sliding_attention", _PERIOD_3N)), mlps, strict=True)
    mixing = hidden * (1 + streams) + streams**2 * (1 + streams)  # scale and router, correction and prediction
    blocks = grouped(layers, norms=_NORMS + 3, extra=mixing)
    outside = per_layer + 2 * (streams - 1) * hidden**2  # a norm, projections of the streams
    return _with_layer_embeddings(c, model(c, blocks, tied=True, extra_parameters=outside))


def _with_layer_embeddings(c: Fields, spec: ModelSpec) -> ModelSpec:
    """Return the model with the embeddings that each of its layers has for every token."""
    rows = c.count("vocab_size_per_layer_input", default=spec.vocab)
    table = spec.layers * c.count("hidden_size_per_layer_input") * rows
    return replace(spec, extra_parameters=spec.extra_parameters + table, lookup_parameters=table)


def _sharing(c: Fields, mixers: list[Mixer]) -> list[Mixer]:
    """Return the mixers, the last `num_kv_shared_layers` of which read the cache of earlier layers."""
    own = len(mixers) - c.count("num_kv_shared_layers", default=0, least=0, most=len(mixers) - 1)
    return [*mixers[:own], *(replace(mixer, reuses_kv=True) for mixer in mixers[own:])]


def _alternating(c: Fields, full: Mixer, local: Mixer, mlp: Mlp, every: int) -> ModelSpec:
    """Return Gemma 2 and 3: full and sliding layers with equal MLPs, four norms per layer and a shared embedding."""
    mixers = interleaved(c, full, local, "sliding_attention", every)
    return model(c, grouped(((mixer, mlp) for mixer in mixers), norms=_NORMS), tied=True)
