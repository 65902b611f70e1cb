"""Hybrids of attention and recurrent layers: Qwen3-Next and 3.5 (gated delta net), Nemotron-H and Nano v2 (Mamba-2)."""

from __future__ import annotations

from dataclasses import replace

from perfmodel.models.families.common import (
    Layer,
    attention,
    dense_mlp,
    grouped,
    layer_count,
    layer_kinds,
    model,
    reads,
)
from perfmodel.models.families.moe import qwen_mlps
from perfmodel.models.fields import Fields
from perfmodel.models.layers import Mixer, Mlp
from perfmodel.models.spec import ModelSpec


def delta_net(c: Fields) -> Mixer:
    """Gated delta net (arXiv:2412.06464) as in Qwen3-Next: a state of key by value size a value head.

    Beside the matrices: a decay and a time step a head, and the norm of the gated output.
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
    """Qwen3-Next and Qwen3.5: every `full_attention_interval`th layer is gated full attention, the rest delta nets."""
    n = layer_count(c)
    full = attention(c, head_norm=True, gated=c.flag("attn_output_gate", default=True))
    linear = delta_net(c)
    kinds = layer_kinds(c, n)
    if not kinds:
        every = c.count("full_attention_interval", default=4)
        kinds = ["linear_attention" if (i + 1) % every else "full_attention" for i in range(n)]
    mixers = [linear if kind == "linear_attention" else full for kind in kinds]
    mlps = qwen_mlps(c, n) if c.has("num_experts") else [dense_mlp(c)] * n
    return model(c, grouped(zip(mixers, mlps, strict=True)))


def mamba(c: Fields) -> Mixer:
    """Mamba-2 (arXiv:2405.21060): heads share B and C within `n_groups` groups; the state is fp32 unless said.

    Beside the matrices: decay, skip and time step a head, the norm of the gated output, biases of the convolution.
    """
    heads, width, groups = c.count("mamba_num_heads"), c.count("mamba_head_dim"), c.count("n_groups")
    c.quotient("mamba_num_heads", "n_groups", heads, groups)
    state = c.count("ssm_state_size")
    conv_bias = 2 * groups * state + heads * width if c.flag("use_conv_bias", default=True) else 0
    return Mixer(
        kind="ssm",
        heads=heads,
        kv_heads=groups,
        head_dim=state,
        value_dim=width,
        conv=c.count("conv_kernel"),
        bias=c.flag("mamba_proj_bias"),
        output_bias=c.flag("mamba_proj_bias"),
        extra_parameters=3 * heads + heads * width + conv_bias,
    )


@reads("nemotron_h", "NemotronHForCausalLM")
def nemotron_h(c: Fields) -> ModelSpec:
    """Nemotron-H (arXiv:2504.03624): each layer is one of Mamba-2, attention, MLP or experts, with one norm.

    `hybrid_override_pattern` spells them M, *, - and E.
    """
    pattern = c.text("hybrid_override_pattern") or _pattern(c)
    n = layer_count(c) if c.has("num_hidden_layers") else len(pattern)
    if len(pattern) != n or set(pattern) - set("M*-E"):
        raise c.fail("hybrid_override_pattern", pattern, f"{n} letters of M, *, - and E are needed")
    layers = {letter: _nemotron_layer(c, letter) for letter in dict.fromkeys(pattern)}
    return model(c, grouped((layers[letter] for letter in pattern), norms=1))


def _pattern(c: Fields) -> str:
    letters = {"mamba": "M", "attention": "*", "mlp": "-", "moe": "E"}
    kinds = c.items("layers_block_type")
    if not kinds:
        raise c.missing("hybrid_override_pattern", "layers_block_type")
    return "".join(letters.get(str(kind), "?") for kind in kinds)


def _nemotron_layer(c: Fields, letter: str) -> Layer:
    if letter == "M":
        return mamba(c), None
    if letter == "*":
        size = c.count("head_dim", "attention_head_dim")
        bias = c.flag("attention_bias")
        plain = attention(Fields({**c.values, "head_dim": size}, c.place), bias=bias, output_bias=bias)
        return plain, None
    if letter == "-":
        return None, dense_mlp(c, gated=False, bias=c.flag("mlp_bias"))
    return None, nemotron_experts(c)


def nemotron_experts(c: Fields) -> Mlp:
    """Nemotron 3's experts: squared ReLU, one up-projection; in a latent space where `moe_latent_size` is stated."""
    shared = c.count("moe_shared_expert_intermediate_size", default=0, least=0)
    return Mlp(
        intermediate=c.count("moe_intermediate_size"),
        gated=False,
        experts=c.count("n_routed_experts"),
        top_k=c.count("num_experts_per_tok"),
        shared=shared * c.count("n_shared_experts", default=1),
        router_bias=True,
        latent=c.count("moe_latent_size", default=0),
    )


@reads("mimo_v2_flash", "MiMoV2FlashForCausalLM")
def mimo_v2(c: Fields) -> ModelSpec:
    """MiMo-V2-Flash: sliding layers with more key heads and a sink a head, full ones between; first layer dense."""
    n = layer_count(c)
    value = c.count("v_head_dim")
    full = attention(c, value_dim=value)
    local = replace(
        full,
        kind="sliding",
        window=float(c.count("sliding_window")),
        kv_heads=c.count("swa_num_key_value_heads"),
        extra_parameters=full.heads,
    )
    for key in ("hybrid_layer_pattern", "moe_layer_freq"):
        if not c.has(key):
            raise c.missing(key)
    mixers = [local if on else full for on in c.switches("hybrid_layer_pattern", n)]
    routed = Mlp(
        c.count("moe_intermediate_size"),
        experts=c.count("n_routed_experts"),
        top_k=c.count("num_experts_per_tok"),
        router_bias=True,
    )
    mlps = [routed if on else dense_mlp(c) for on in c.switches("moe_layer_freq", n)]
    return model(c, grouped(zip(mixers, mlps, strict=True)))
