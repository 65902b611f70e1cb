"""Dense decoders of Llama's kind: RMS norms, grouped-query attention, a gated MLP."""

from __future__ import annotations

from perfmodel.models.families.common import attention, dense_mlp, grouped, layer_count, model, reads, windowed
from perfmodel.models.fields import Fields
from perfmodel.models.spec import ModelSpec


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
    """Read the `config.json` of Llama 1 to 3.3, Code Llama, Mistral, Aquila, Phi-3 mini and medium, Phi-4.

    Keys: attention_bias, mlp_bias (no biases where absent), sliding_window.
    """
    bias = c.flag("attention_bias")
    mixer = attention(c, bias=bias, output_bias=bias)
    mlp = dense_mlp(c, bias=c.flag("mlp_bias"))
    return model(c, grouped((m, mlp) for m in windowed(c, mixer, layer_count(c))))


@reads("qwen2", "Qwen2ForCausalLM", "mimo", "MiMoForCausalLM")
def qwen2(c: Fields) -> ModelSpec:
    """Read the `config.json` of Qwen 1.5, 2 and 2.5, QwQ, DeepSeek-R1 distillations, MiMo-7B.

    Structure: biases on queries, keys and values.

    Keys: sliding_window, use_sliding_window, max_window_layers.
    """
    mixer = attention(c, bias=True)
    return model(c, grouped((m, dense_mlp(c)) for m in windowed(c, mixer, layer_count(c))))


@reads("qwen3", "qwen3_vl", "qwen3_vl_text", "Qwen3ForCausalLM", "Qwen3VLForConditionalGeneration")
def qwen3(c: Fields) -> ModelSpec:
    """Read the `config.json` of dense Qwen3 and Qwen3-VL: norms on query and key heads.

    Keys: attention_bias, sliding_window, use_sliding_window, max_window_layers.
    """
    bias = c.flag("attention_bias")
    mixer = attention(c, head_norm=True, bias=bias, output_bias=bias)
    return model(c, grouped((m, dense_mlp(c)) for m in windowed(c, mixer, layer_count(c))))
