"""Decoders with layer norms, plain MLPs or biases: OPT, GPT-J, BLOOM, Falcon, StarCoder2, Nemotron, Phi-3 small."""

from __future__ import annotations

from dataclasses import replace

from perfmodel.models.families.common import attention, dense_mlp, grouped, layer_count, model, reads
from perfmodel.models.families.dense import windowed
from perfmodel.models.fields import Fields
from perfmodel.models.layers import Mlp
from perfmodel.models.spec import ModelSpec


@reads("opt", "OPTForCausalLM")
def opt(c: Fields) -> ModelSpec:
    """OPT: learned positions (two more than the context), biases everywhere, a shared embedding."""
    width = c.count("hidden_size")
    if c.count("word_embed_proj_dim", default=width) != width:
        raise c.fail("word_embed_proj_dim", c.values["word_embed_proj_dim"], f"only hidden_size = {width} is known")
    layer = (attention(c, bias=True, output_bias=True), Mlp(c.count("ffn_dim"), gated=False, bias=True))
    blocks = grouped([layer] * layer_count(c), extra=2 * width)
    return model(c, blocks, tied=True, positions=c.count("max_position_embeddings") + 2, extra_parameters=width)


@reads("gptj", "GPTJForCausalLM")
def gptj(c: Fields) -> ModelSpec:
    """GPT-J: attention and MLP in parallel behind one norm, biases in the MLP and the LM head."""
    width, heads = c.count("n_embd"), c.count("n_head")
    size = c.quotient("n_embd", "n_head", width, heads)
    mixer = attention(Fields({**c.values, "head_dim": size}, c.place))
    mlp = Mlp(c.count("n_inner", default=4 * width), gated=False, bias=True)
    blocks = grouped([(mixer, mlp)] * layer_count(c), norms=1, extra=width)
    return model(c, blocks, extra_parameters=width + c.count("vocab_size"))


@reads("bloom", "BloomForCausalLM")
def bloom(c: Fields) -> ModelSpec:
    """BLOOM: ALiBi positions, biases everywhere, a norm behind the shared embedding."""
    width = c.count("hidden_size", "n_embed")
    c = Fields({**c.values, "hidden_size": width}, c.place)
    layer = (attention(c, bias=True, output_bias=True), Mlp(4 * width, gated=False, bias=True))
    blocks = grouped([layer] * layer_count(c), extra=2 * width)
    return model(c, blocks, tied=True, extra_parameters=3 * width)


@reads("falcon", "FalconForCausalLM")
def falcon(c: Fields) -> ModelSpec:
    """Falcon (arXiv:2311.16867): attention and MLP in parallel; multi-query, or grouped in the new architecture."""
    new = c.flag("new_decoder_architecture")
    shared = 1 if c.flag("multi_query", default=True) else c.count("num_attention_heads")
    heads = c.count("num_kv_heads", default=c.count("num_attention_heads")) if new else shared
    bias = c.flag("bias")
    width = c.count("hidden_size")
    mixer = attention(Fields({**c.values, "num_key_value_heads": heads}, c.place), bias=bias, output_bias=bias)
    mlp = Mlp(c.count("ffn_hidden_size", default=4 * width), gated=False, bias=bias)
    norms = 2 if new or not c.flag("parallel_attn", default=True) else 1
    blocks = grouped([(mixer, mlp)] * layer_count(c), norms=norms, extra=norms * width)
    return model(c, blocks, tied=True, extra_parameters=width)


@reads("starcoder2", "Starcoder2ForCausalLM")
def starcoder2(c: Fields) -> ModelSpec:
    """StarCoder2 (arXiv:2402.19173): layer norms, biases, a plain MLP, a sliding window."""
    bias = c.flag("use_bias", default=True)
    width = c.count("hidden_size")
    mixer = attention(c, bias=bias, output_bias=bias)
    mlp = dense_mlp(c, gated=False, bias=bias)
    mixers = windowed(c, mixer, layer_count(c))
    return model(c, grouped(((m, mlp) for m in mixers), extra=2 * width), tied=True, extra_parameters=width)


@reads("nemotron", "NemotronForCausalLM")
def nemotron(c: Fields) -> ModelSpec:
    """Nemotron 4 and Minitron: squared-ReLU MLP with one up-projection, layer norms."""
    width = c.count("hidden_size")
    bias = c.flag("attention_bias")
    layer = (attention(c, bias=bias, output_bias=bias), dense_mlp(c, gated=False, bias=c.flag("mlp_bias")))
    return model(c, grouped([layer] * layer_count(c), extra=2 * width), extra_parameters=width)


@reads("phi3small", "Phi3SmallForCausalLM")
def phi3_small(c: Fields) -> ModelSpec:
    """Phi-3 small: layer norms, biases, a shared embedding.

    Every other layer's attention is block-sparse; it is counted as full here, an upper bound that is close within
    the 16 local blocks of 64 tokens, and the cache holds every token in either case.
    """
    width = c.count("hidden_size")
    mixer = attention(c, bias=True, output_bias=True)
    mlp = Mlp(c.count("ff_intermediate_size", "intermediate_size"), bias=True)
    blocks = grouped([(mixer, mlp)] * layer_count(c), extra=2 * width)
    return model(c, blocks, tied=True, extra_parameters=width)


@reads("deci", "nemotron-nas", "DeciLMForCausalLM")
def deci(c: Fields) -> ModelSpec:
    """DeciLM and Nemotron Super/Ultra (architecture search over Llama): heads and widths differ a layer."""
    n = layer_count(c)
    if c.has("block_configs"):
        return model(c, grouped(_searched(c, entry, i) for i, entry in enumerate(c.items("block_configs", n))))
    base = attention(Fields({**c.values, "num_key_value_heads": c.values.get("num_attention_heads")}, c.place))
    mlp = dense_mlp(c)
    mixers = []
    for kv_heads in c.items("num_key_value_heads_per_layer", n) or [c.count("num_key_value_heads")] * n:
        if not isinstance(kv_heads, int) or kv_heads < 1 or base.heads % kv_heads:
            raise c.fail("num_key_value_heads_per_layer", kv_heads, f"a divisor of the {base.heads} heads is needed")
        mixers.append(replace(base, kv_heads=kv_heads))
    return model(c, grouped((m, mlp) for m in mixers))


def _searched(c: Fields, entry: object, layer: int) -> tuple:
    part = Fields({"block": entry}, f"{c.place}: block_configs[{layer}]").section("block")
    mixing, feeding = (part.section("attention"), part.section("ffn")) if part else (None, None)
    if mixing is None or feeding is None:
        raise c.fail(f"block_configs[{layer}]", entry, "attention and ffn are needed")
    mixer = mlp = None
    if not mixing.flag("no_op") and not mixing.flag("replace_with_linear"):
        heads = c.count("num_attention_heads")
        groups = c.quotient("num_attention_heads", "n_heads_in_group", heads, mixing.count("n_heads_in_group"))
        mixer = attention(Fields({**c.values, "num_key_value_heads": groups}, c.place))
    if not feeding.flag("no_op") and not feeding.flag("replace_with_linear"):
        # the published widths are multiples of 256 at or above 2/3 of ffn_mult times the model's width
        width = int(2 * feeding.number("ffn_mult") * c.count("hidden_size") / 3)
        mlp = Mlp(-(-width // 256) * 256)
    return mixer, mlp
