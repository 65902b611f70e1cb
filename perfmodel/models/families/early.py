"""Decoders with layer norms, plain MLPs or biases: OPT, GPT-J, BLOOM, Falcon, StarCoder2, Nemotron 4, Phi-3 small.

A layer norm has a bias besides its weight: `extra` holds the biases of a layer's norms, `extra_parameters` that of the
last norm. Also here: models whose layers differ after an architecture search (DeciLM, Nemotron Super and Ultra).
"""

from __future__ import annotations

from dataclasses import replace

from perfmodel.models.families.common import Layer, attention, dense_mlp, grouped, layer_count, model, reads, windowed
from perfmodel.models.families.decoder import decoder
from perfmodel.models.families.table import by_name
from perfmodel.models.fields import Fields
from perfmodel.models.layers import Mlp
from perfmodel.models.mixer import Mixer
from perfmodel.models.spec import ModelSpec

#: OPT's table of positions has two rows that no token uses (Hugging Face, OPTLearnedPositionalEmbedding).
_OPT_POSITION_OFFSET = 2
#: Inner width of an MLP over the model's width where the configuration does not state it (GPT-J, BLOOM, Falcon).
_MLP_RATIO = 4
#: Widths found by architecture search are rounded up to multiples of this (DeciLM's model code).
_SEARCH_MULTIPLE = 256


@reads("opt", "OPTForCausalLM")
def opt(c: Fields) -> ModelSpec:
    """Read the `config.json` of OPT: learned positions, biases everywhere, a shared embedding.

    Keys: ffn_dim, word_embed_proj_dim (only the model's width is known).
    """
    width = c.count("hidden_size")
    if c.count("word_embed_proj_dim", default=width) != width:
        raise c.fail("word_embed_proj_dim", c.values["word_embed_proj_dim"], f"only hidden_size = {width} is known")
    mlp = Mlp(intermediate=c.count("ffn_dim"), gated=False, bias=True)
    blocks = grouped([(attention(c, bias=True, output_bias=True), mlp)] * layer_count(c), extra=2 * width)
    positions = c.count("max_position_embeddings") + _OPT_POSITION_OFFSET
    return model(c, blocks, tied=True, positions=positions, extra_parameters=width)


@reads("gptj", "GPTJForCausalLM")
def gptj(c: Fields) -> ModelSpec:
    """Read the `config.json` of GPT-J.

    Structure: attention and MLP in parallel behind one norm; biases in the MLP and in the LM head.

    Keys: n_embd, n_head, n_layer, n_inner in place of the usual ones.
    """
    width, heads = c.count("n_embd"), c.count("n_head")
    mixer = attention(c.stating(head_dim=c.quotient("n_embd", "n_head", width, heads)))
    mlp = Mlp(intermediate=c.count("n_inner", default=_MLP_RATIO * width), gated=False, bias=True)
    blocks = grouped([(mixer, mlp)] * layer_count(c), norms=1, extra=width)
    return model(c, blocks, extra_parameters=width + c.count("vocab_size"))


@reads("bloom", "BloomForCausalLM")
def bloom(c: Fields) -> ModelSpec:
    """Read the `config.json` of BLOOM.

    Structure: ALiBi positions, biases everywhere, a shared embedding with a layer norm behind it.

    Keys: hidden_size or n_embed.
    """
    width = c.count("hidden_size", "n_embed")
    c = c.stating(hidden_size=width)
    layer = (attention(c, bias=True, output_bias=True), Mlp(intermediate=_MLP_RATIO * width, gated=False, bias=True))
    blocks = grouped([layer] * layer_count(c), extra=2 * width)
    embedding_norm = 2 * width
    return model(c, blocks, tied=True, extra_parameters=embedding_norm + width)


@reads("falcon", "FalconForCausalLM")
def falcon(c: Fields) -> ModelSpec:
    """Read the `config.json` of Falcon (arXiv:2311.16867).

    Structure: attention and MLP in parallel; multi-query, or grouped in the new architecture.

    Keys: new_decoder_architecture, multi_query, num_kv_heads, parallel_attn, bias, ffn_hidden_size.
    """
    new = c.flag("new_decoder_architecture")
    shared = 1 if c.flag("multi_query", default=True) else c.count("num_attention_heads")
    heads = c.count("num_kv_heads", default=c.count("num_attention_heads")) if new else shared
    bias = c.flag("bias")
    width = c.count("hidden_size")
    mixer = attention(c.stating(num_key_value_heads=heads), bias=bias, output_bias=bias)
    mlp = Mlp(intermediate=c.count("ffn_hidden_size", default=_MLP_RATIO * width), gated=False, bias=bias)
    norms = 2 if new or not c.flag("parallel_attn", default=True) else 1
    blocks = grouped([(mixer, mlp)] * layer_count(c), norms=norms, extra=norms * width)
    return model(c, blocks, tied=True, extra_parameters=width)


@reads("gpt_bigcode", "GPTBigCodeForCausalLM")
def gpt_bigcode(c: Fields) -> ModelSpec:
    """Read the `config.json` of StarCoder 1 and Granite Code 20B and 34B: GPT-2 with one key head for all query heads.

    Source: transformers, GPTBigCodeConfig, whose multi_query is true where the file does not state it.

    Keys: multi_query, and those of GPT-2.
    """
    heads = 1 if c.flag("multi_query", default=True) else c.count("num_attention_heads", "n_head")
    return decoder(c.stating(num_key_value_heads=heads), by_name()["gpt2"])


@reads("starcoder2", "Starcoder2ForCausalLM")
def starcoder2(c: Fields) -> ModelSpec:
    """Read the `config.json` of StarCoder2 3B, 7B, 15B (arXiv:2402.19173).

    Structure: layer norms, biases, a plain MLP, a sliding window.

    Keys: use_bias, sliding_window.
    """
    bias = c.flag("use_bias", default=True)
    width = c.count("hidden_size")
    mixer = attention(c, bias=bias, output_bias=bias)
    mlp = dense_mlp(c, gated=False, bias=bias)
    mixers = windowed(c, mixer, layer_count(c))
    return model(c, grouped(((m, mlp) for m in mixers), extra=2 * width), tied=True, extra_parameters=width)


@reads("nemotron", "NemotronForCausalLM")
def nemotron(c: Fields) -> ModelSpec:
    """Read the `config.json` of Nemotron 4 and Minitron: layer norms, a squared-ReLU MLP with one up-projection.

    Keys: attention_bias, mlp_bias.
    """
    width = c.count("hidden_size")
    bias = c.flag("attention_bias")
    layer = (attention(c, bias=bias, output_bias=bias), dense_mlp(c, gated=False, bias=c.flag("mlp_bias")))
    return model(c, grouped([layer] * layer_count(c), extra=2 * width), extra_parameters=width)


@reads("phi3small", "Phi3SmallForCausalLM")
def phi3_small(c: Fields) -> ModelSpec:
    """Read the `config.json` of Phi-3 small 8k: layer norms, biases, a shared embedding.

    Attention of every other layer is block-sparse. It is counted as full here: an upper bound, close within the 16
    local blocks of 64 tokens. The cache holds every token in either case.

    Keys: ff_intermediate_size or intermediate_size.
    """
    width = c.count("hidden_size")
    mixer = attention(c, bias=True, output_bias=True)
    mlp = Mlp(intermediate=c.count("ff_intermediate_size", "intermediate_size"), bias=True)
    blocks = grouped([(mixer, mlp)] * layer_count(c), extra=2 * width)
    return model(c, blocks, tied=True, extra_parameters=width)


@reads("deci", "nemotron-nas", "DeciLMForCausalLM")
def deci(c: Fields) -> ModelSpec:
    """Read the `config.json` of DeciLM and Nemotron Super and Ultra (architecture search over Llama).

    Heads and MLP widths differ by layer.

    Keys: block_configs (attention and ffn of each layer), else num_key_value_heads_per_layer.
    """
    n = layer_count(c)
    if c.has("block_configs"):
        return model(c, grouped(_searched_layer(c, entry, i) for i, entry in enumerate(c.items("block_configs", n))))
    base = attention(c.stating(num_key_value_heads=c.values.get("num_attention_heads")))
    mlp = dense_mlp(c)
    mixers = []
    for kv_heads in c.items("num_key_value_heads_per_layer", n) or [c.count("num_key_value_heads")] * n:
        if not isinstance(kv_heads, int) or kv_heads < 1 or base.heads % kv_heads:
            raise c.fail("num_key_value_heads_per_layer", kv_heads, f"a divisor of the {base.heads} heads is needed")
        mixers.append(replace(base, kv_heads=kv_heads))
    return model(c, grouped((m, mlp) for m in mixers))


def _searched_layer(c: Fields, entry: object, layer: int) -> Layer:
    """Return the layer that one entry of `block_configs` describes.

    Parts that are left out or made linear count as absent.
    """
    part = Fields({"block": entry}, f"{c.place}: block_configs[{layer}]").section("block")
    mixing, feeding = (part.section("attention"), part.section("ffn")) if part else (None, None)
    if mixing is None or feeding is None:
        raise c.fail(f"block_configs[{layer}]", entry, "attention and ffn are needed")
    return _searched_mixer(c, mixing), _searched_mlp(c, feeding)


def _searched_mixer(c: Fields, stated: Fields) -> Mixer | None:
    """Return the attention of a layer found by architecture search; None where the layer has none.

    `stated`: its section `attention`.
    """
    if stated.flag("no_op") or stated.flag("replace_with_linear"):
        return None
    heads = c.count("num_attention_heads")
    groups = c.quotient("num_attention_heads", "n_heads_in_group", heads, stated.count("n_heads_in_group"))
    return attention(c.stating(num_key_value_heads=groups))


def _searched_mlp(c: Fields, stated: Fields) -> Mlp | None:
    """Return the MLP of a layer found by architecture search; None where the layer has none.

    Its inner width is two thirds (it is gated) of `ffn_mult` times the model's width, rounded up. `stated`: the
    section `ffn`.
    """
    if stated.flag("no_op") or stated.flag("replace_with_linear"):
        return None
    width = int(2 * stated.number("ffn_mult") * c.count("hidden_size") / 3)  # 2/3: Shazeer 2020, arXiv:2002.05202
    return Mlp(intermediate=-(-width // _SEARCH_MULTIPLE) * _SEARCH_MULTIPLE)
