"""Hybrids: Qwen3-Next and 3.5 (gated delta nets), Nemotron-H and Nano v2 (Mamba-2), MiMo-V2-Flash (two head counts)."""

from __future__ import annotations

from dataclasses import replace

from perfmodel.models.families.common import (
    Layer,
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
from perfmodel.models.families.decoder import mlps
from perfmodel.models.families.spellings import usual
from perfmodel.models.families.table import Family
from perfmodel.models.fields import Fields
from perfmodel.models.layers import Mlp
from perfmodel.models.mixer import Mixer
from perfmodel.models.spec import ModelSpec

#: Qwen3-Next: period of its full-attention layers where the configuration does not state one.
_FULL_ATTENTION_INTERVAL = 4


def delta_net(c: Fields) -> Mixer:
    """Return a gated delta net (arXiv:2412.06464) as in Qwen3-Next.

    Each value head keeps a state of key size by value size.

    Parameters besides the matrices: a decay and a time step per head, and the norm of the gated output.
    """
    heads, keys = c.count("linear_num_value_heads"), c.count("linear_num_key_heads")
    c.quotient("linear_num_value_heads", "linear_num_key_heads", heads, keys)
    value = c.count("linear_value_head_dim")
    return Mixer(
        kind="linear",
        heads=heads,
        kv_heads=keys,
        head_dim=c.count("linear_key_head_dim"),
        value_dim=value,
        conv=c.count("linear_conv_kernel_dim"),
        extra_parameters=2 * heads + value,
    )


@reads(
    "qwen3_next",
    "qwen3_5",
    "qwen3_5_text",
    "qwen3_5_moe",
    "qwen3_5_moe_text",
    "Qwen3NextForCausalLM",
    "Qwen3_5ForConditionalGeneration",
    "Qwen3_5MoeForConditionalGeneration",
    "Qwen3_5ForCausalLM",
    "Qwen3_5MoeForCausalLM",
)
def qwen_hybrid(c: Fields) -> ModelSpec:
    """Read the `config.json` of Qwen3-Next, Qwen3.5 and 3.6.

    Structure: gated delta nets (linear attention); every `full_attention_interval`th layer is gated full
    attention.

    Keys: layer_types or full_attention_interval, attn_output_gate, linear_num_value_heads, linear_num_key_heads,
    linear_key_head_dim, linear_value_head_dim, linear_conv_kernel_dim; with num_experts those of `decoder.mlps`.
    """
    full = replace(attention(c, head_norm=True), gated=c.flag("attn_output_gate", default=True))
    every = c.count("full_attention_interval", default=_FULL_ATTENTION_INTERVAL)
    mixers = interleaved(c, full, delta_net(c), "linear_attention", every)
    return model(c, grouped(zip(mixers, mlps(usual(c), Family(shared_gate=True)), strict=True)))


@reads("olmo_hybrid", "OlmoHybridForCausalLM")
def olmo_hybrid(c: Fields) -> ModelSpec:
    """Read the `config.json` of OLMo Hybrid: gated delta nets; every fourth layer full attention with norms over heads.

    Keys: layer_types, and those of `delta_net`.
    """
    plain = attention(c)
    full = replace(plain, extra_parameters=(plain.heads + plain.kv_heads) * plain.head_dim)
    mixers = interleaved(c, full, delta_net(c), "linear_attention", _FULL_ATTENTION_INTERVAL)
    return model(c, grouped((mixer, dense_mlp(c)) for mixer in mixers))


def mamba(c: Fields) -> Mixer:
    """Return a Mamba-2 layer (arXiv:2405.21060), whose heads use the same B and C within each of `n_groups` groups.

    Parameters besides the matrices: decay, skip and time step per head, the norm of the gated output, the biases of the
    convolution.

    Keys, in the spellings of Nemotron-H, Granite 4 (also Bamba, Falcon-H1) and Zamba2: heads, head size ("auto":
    mamba_expand times the model's width over the heads), groups, state size, convolution; mamba_rms_norm.
    """
    heads = c.count("mamba_num_heads", "mamba_n_heads", "n_mamba_heads")
    groups = c.count("n_groups", "mamba_n_groups", "mamba_ngroups", default=1)
    width = _mamba_head(c, heads)
    c.quotient("mamba_num_heads", "n_groups", heads, groups)
    state = c.count("ssm_state_size", "mamba_d_state")
    conv_bias = 2 * groups * state + heads * width if c.flag("use_conv_bias", "mamba_conv_bias", default=True) else 0
    norm = heads * width if c.flag("mamba_rms_norm", default=True) else 0
    bias = c.flag("mamba_proj_bias", "add_bias_linear")
    return Mixer(
        kind="ssm",
        heads=heads,
        kv_heads=groups,
        head_dim=state,
        value_dim=width,
        conv=c.count("conv_kernel", "mamba_d_conv"),
        bias=bias,
        output_bias=c.flag("projectors_bias", default=bias),
        extra_parameters=3 * heads + norm + conv_bias,
    )


def _mamba_head(c: Fields, heads: int) -> int:
    """Return the size of a head of Mamba-2: as stated, else the expanded width over the heads."""
    stated = [key for key in ("mamba_head_dim", "mamba_d_head", "mamba_headdim") if c.has(key)]
    if stated and c.values[stated[0]] != "auto":
        return c.count(stated[0])
    expanded = c.count("mamba_expand") * c.count("hidden_size")
    return c.quotient("mamba_expand * hidden_size", "mamba_n_heads", expanded, heads)


@reads("nemotron_h", "NemotronHForCausalLM")
def nemotron_h(c: Fields) -> ModelSpec:
    """Read the `config.json` of Nemotron-H (arXiv:2504.03624), Nano v2, Nemotron 3.

    Each layer is one of Mamba-2, attention, MLP or experts.

    Each layer has one norm.

    Keys: hybrid_override_pattern (a letter per layer: M, *, - and E) or layers_block_type; mamba_num_heads,
    mamba_head_dim, n_groups, ssm_state_size, conv_kernel, use_conv_bias, mamba_proj_bias; head_dim or
    attention_head_dim; and those of `nemotron_experts`.
    """
    pattern = c.text("hybrid_override_pattern") or _pattern_of_kinds(c)
    n = layer_count(c) if c.has("num_hidden_layers") else len(pattern)
    if len(pattern) != n or set(pattern) - set("M*-E"):
        raise c.fail("hybrid_override_pattern", pattern, f"{n} letters of M, *, - and E are needed")
    layers = {letter: _nemotron_layer(c, letter) for letter in dict.fromkeys(pattern)}
    return model(c, grouped((layers[letter] for letter in pattern), norms=1))


def _pattern_of_kinds(c: Fields) -> str:
    """Return `layers_block_type` as one letter per layer; "?" for a kind that is not known."""
    letters = {"mamba": "M", "linear_attention": "M", "attention": "*", "full_attention": "*", "mlp": "-", "moe": "E"}
    kinds = c.items("layers_block_type")
    if not kinds:
        raise c.missing("hybrid_override_pattern", "layers_block_type")
    return "".join(letters.get(str(kind), "?") for kind in kinds)


def _nemotron_layer(c: Fields, letter: str) -> Layer:
    """Return the layer that a letter of `hybrid_override_pattern` stands for."""
    if letter == "M":
        return mamba(c), None
    if letter == "*":
        size = c.count("head_dim", "attention_head_dim")
        bias = c.flag("attention_bias")
        return attention(c.stating(head_dim=size), bias=bias, output_bias=bias), None
    if letter == "-":
        return None, dense_mlp(c, gated=False, bias=c.flag("mlp_bias"))
    return None, nemotron_experts(c)


def nemotron_experts(c: Fields) -> Mlp:
    """Return Nemotron 3's experts: squared ReLU, one up-projection; in a latent space where `moe_latent_size` is given.

    Keys: moe_intermediate_size, n_routed_experts, num_experts_per_tok, moe_shared_expert_intermediate_size,
    n_shared_experts, moe_latent_size.
    """
    shared = c.count("moe_shared_expert_intermediate_size", default=0, least=0) * c.count("n_shared_experts", default=1)
    routed = expert_mlp(c, c.count("moe_intermediate_size"), shared=shared, router_bias=True)
    return replace(routed, gated=False, latent=c.count("moe_latent_size", default=0))


@reads("mimo_v2_flash", "mimo_v2", "MiMoV2FlashForCausalLM", "MiMoV2ForCausalLM")
def mimo_v2(c: Fields) -> ModelSpec:
    """Read the `config.json` of MiMo-V2-Flash, V2.5 and V2.5-Pro.

    Sliding layers have more key heads and a sink per head; full layers stand between them.

    Keys: hybrid_layer_pattern (1: sliding) and moe_layer_freq (1: experts), both required; sliding_window,
    swa_num_key_value_heads, v_head_dim, moe_intermediate_size, n_routed_experts, num_experts_per_tok.
    """
    n = layer_count(c)
    full = replace(attention(c), value_dim=c.count("v_head_dim"))
    local = replace(
        sliding(full, c.count("sliding_window")),
        kv_heads=c.count("swa_num_key_value_heads"),
        extra_parameters=full.heads,
    )
    for key in ("hybrid_layer_pattern", "moe_layer_freq"):
        if not c.has(key):
            raise c.missing(key)
    mixers = [local if on else full for on in c.switches("hybrid_layer_pattern", n)]
    routed = expert_mlp(c, c.count("moe_intermediate_size"), router_bias=True)
    mlps = [routed if on else dense_mlp(c) for on in c.switches("moe_layer_freq", n)]
    return model(c, grouped(zip(mixers, mlps, strict=True)))
