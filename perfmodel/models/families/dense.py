"""Dense decoders of Llama's kind: RMS norms, grouped-query attention, a gated MLP."""

from __future__ import annotations

from dataclasses import replace

from perfmodel.models.families.common import attention, dense_mlp, grouped, layer_count, layer_kinds, model, reads
from perfmodel.models.fields import Fields
from perfmodel.models.layers import Mixer
from perfmodel.models.spec import ModelSpec


def windowed(c: Fields, mixer: Mixer, layers: int) -> list[Mixer]:
    """`mixer` a layer, with sliding windows where the configuration asks for them.

    `layer_types` decides where stated; else a `sliding_window` holds for every layer, except that Qwen's applies
    only if `use_sliding_window`, and only above the first `max_window_layers`.
    """
    if not c.has("sliding_window"):
        return [mixer] * layers
    local = replace(mixer, kind="sliding", window=float(c.count("sliding_window")))
    kinds = layer_kinds(c, layers)
    if kinds:
        return [local if kind == "sliding_attention" else mixer for kind in kinds]
    if not c.has("use_sliding_window"):
        return [local] * layers
    if not c.flag("use_sliding_window"):
        return [mixer] * layers
    first = min(c.count("max_window_layers", default=0, least=0), layers)
    return [mixer] * first + [local] * (layers - first)


@reads(
    "llama",
    "mistral",
    "aquila",
    "phi3",
    "LlamaForCausalLM",
    "MistralForCausalLM",
    "AquilaForCausalLM",
    "Phi3ForCausalLM",
)
def llama(c: Fields) -> ModelSpec:
    """Llama 1 to 3, Mistral, Aquila, Phi-3 mini and medium, Phi-4: biases only where the configuration says."""
    bias = c.flag("attention_bias")
    mixer = attention(c, bias=bias, output_bias=bias)
    mlp = dense_mlp(c, bias=c.flag("mlp_bias"))
    return model(c, grouped((m, mlp) for m in windowed(c, mixer, layer_count(c))))


@reads("qwen2", "Qwen2ForCausalLM", "mimo", "MiMoForCausalLM")
def qwen2(c: Fields) -> ModelSpec:
    """Qwen 1.5, 2, 2.5: biases on queries, keys and values."""
    mixer = attention(c, bias=True)
    return model(c, grouped((m, dense_mlp(c)) for m in windowed(c, mixer, layer_count(c))))


@reads("qwen3", "qwen3_vl", "qwen3_vl_text", "Qwen3ForCausalLM", "Qwen3VLForConditionalGeneration")
def qwen3(c: Fields) -> ModelSpec:
    """Qwen3: norms on query and key heads, no biases."""
    bias = c.flag("attention_bias")
    mixer = attention(c, head_norm=True, bias=bias, output_bias=bias)
    return model(c, grouped((m, dense_mlp(c)) for m in windowed(c, mixer, layer_count(c))))
