"""Recurrent layers alone (Mamba 1 and 2, Falcon-Mamba), and hybrids of them with attention.

RWKV-7 is read here too. Hybrids: Granite 4, Bamba, Jamba, Falcon-H1, Zamba2, LFM2, MiniMax-01, Kimi, Ling.
"""

from __future__ import annotations

from dataclasses import replace
from math import gcd

from perfmodel.models.families.common import attention, dense_mlp, grouped, layer_count, model, reads, sliding
from perfmodel.models.families.decoder import mlps
from perfmodel.models.families.hybrid import mamba
from perfmodel.models.families.latent import latent_attention
from perfmodel.models.families.spellings import usual
from perfmodel.models.families.table import Family
from perfmodel.models.fields import Fields
from perfmodel.models.layers import Block, Mlp
from perfmodel.models.mixer import Mixer
from perfmodel.models.spec import ModelSpec

#: Words for an attention layer in lists of layer kinds; the other layers are recurrent.
_ATTENTION = ("attention", "full_attention")
#: The word for every recurrent layer in files that recent versions of transformers write.
_LINEAR = "linear_attention"
#: Channels per group into which the convolution of LFM2 is cut, so that it is sharded like heads (chosen).
_CHANNELS = 64
#: Factors on the width of an MLP from here on are taken for errors in the file (published: 1).
_MOST_FACTOR = 100.0
#: Jamba's rank of the time step where a file leaves it out: the model's width over this, rounded up (JambaConfig).
_DT_SHARE = 16
#: Least rank of the time step in PLaMo 2 (vllm-project/vllm vllm/model_executor/models/plamo2.py).
_LEAST_RANK = 64


def attends(c: Fields, layers: int, *recurrent: str) -> list[bool]:
    """Return for each layer whether it has attention.

    Keys, of which the first that is given counts: layer_types or layers_block_type (kinds; `recurrent` are the words
    for layers without attention), attn_layer_indices or full_attn_idxs (list of attention layers), attn_type_list (1:
    attention), attn_layer_period with attn_layer_offset.
    """
    for key in ("layer_types", "layers_block_type"):
        kinds = c.items(key, layers)
        for kind in kinds:
            if kind not in (*_ATTENTION, *recurrent, _LINEAR):
                raise c.fail(key, kind, f"known kinds are {', '.join((*_ATTENTION, *recurrent))}")
        if kinds:
            return [kind in _ATTENTION for kind in kinds]
    for key in ("attn_layer_indices", "full_attn_idxs"):
        if c.has(key):
            return [i in c.items(key) for i in range(layers)]
    if c.has("attn_type_list"):
        return c.switches("attn_type_list", layers)
    if not c.has("attn_layer_period"):
        raise c.missing("layer_types", "layers_block_type", "attn_layer_indices", "attn_layer_period")
    period, offset = c.count("attn_layer_period"), c.count("attn_layer_offset", default=0, least=0)
    return [i % period == offset for i in range(layers)]


@reads("granitemoehybrid", "GraniteMoeHybridForCausalLM", "bamba", "BambaForCausalLM")
def granite_hybrid(c: Fields) -> ModelSpec:
    """Read the `config.json` of Granite 4.0 (H and dense) and Bamba: Mamba-2 layers, some attention, an MLP in each.

    Keys: those of `attends` and `hybrid.mamba`; num_local_experts (0: dense), num_experts_per_tok, intermediate_size,
    shared_intermediate_size (of the shared expert; without experts, of the MLP).
    """
    n, bias = layer_count(c), c.flag("attention_bias")
    full = attention(c, bias=bias, output_bias=bias)
    on = attends(c, n, "mamba")
    mixers = [full if here else None for here in on]
    recurrent = None if all(on) else mamba(c)
    if c.count("num_local_experts", default=0, least=0):
        fed: list[Mlp] = mlps(usual(c), Family())
    else:
        fed = [Mlp(intermediate=c.count("shared_intermediate_size", "intermediate_size"), bias=c.flag("mlp_bias"))] * n
    return model(c, grouped(zip((m or recurrent for m in mixers), fed, strict=True)))


def mamba1(c: Fields, *, normed: bool) -> Mixer:
    """Return a Mamba-1 layer (arXiv:2312.00752).

    normed: whether time step, B and C have norms with parameters, as in Jamba (arXiv:2403.19887).

    Keys, in the spellings of Jamba and of Mamba: inner width (intermediate_size where `normed` is false, else the
    factor on the model's width), state size, convolution, rank of the time step ("auto"), biases.
    """
    stated = 0 if normed else c.count("intermediate_size", default=0)
    width = stated or c.count("mamba_expand", "expand") * c.count("hidden_size")
    state, size = c.count("mamba_d_state", "state_size"), gcd(width, _CHANNELS)
    ranks = [key for key in ("mamba_dt_rank", "time_step_rank") if c.has(key) and c.values[key] != "auto"]
    rank = c.count(*ranks) if ranks else -(-c.count("hidden_size") // _DT_SHARE)
    bias = c.flag("mamba_proj_bias", "use_bias")
    conv_bias = width if c.flag("mamba_conv_bias", "use_conv_bias", default=True) else 0
    return Mixer(
        kind="ssm",
        heads=width // size,
        kv_heads=1,
        head_dim=state,
        value_dim=size,
        conv=c.count("mamba_d_conv", "conv_kernel"),
        bias=bias,
        output_bias=bias,
        dt_rank=rank,
        extra_parameters=width * (state + 1) + conv_bias + (rank + 2 * state if normed else 0),
    )


@reads("mamba", "MambaForCausalLM", "falcon_mamba", "FalconMambaForCausalLM")
def pure_mamba1(c: Fields) -> ModelSpec:
    """Read the `config.json` of Mamba (in transformers' form) and Falcon-Mamba (arXiv:2410.05355): Mamba-1 layers only.

    Falcon-Mamba's norms on time step, B and C have no parameters.

    Keys: those of `mamba1`.
    """
    block = Block(count=layer_count(c), mixer=mamba1(c, normed=False), mlp=None, norms=1)
    return model(c, [block], tied=True)


@reads("mamba2", "Mamba2ForCausalLM")
def pure_mamba2(c: Fields) -> ModelSpec:
    """Read the `config.json` of Mamba-2 in transformers' form, such as Codestral Mamba: Mamba-2 layers only.

    Keys: num_heads, head_dim, n_groups, state_size, conv_kernel, use_conv_bias, use_bias.
    """
    spelled = {"mamba_num_heads": "num_heads", "mamba_head_dim": "head_dim", "ssm_state_size": "state_size"}
    own = {name: c.values[key] for name, key in spelled.items() if c.has(key)}
    mixer = mamba(c.stating(**own, mamba_proj_bias=c.flag("use_bias")))
    return model(c, [Block(count=layer_count(c), mixer=mixer, mlp=None, norms=1)])


@reads("jamba", "JambaForCausalLM")
def jamba(c: Fields) -> ModelSpec:
    """Read the `config.json` of Jamba 1.5 to 1.7: Mamba-1 layers, attention in every eighth, experts in every second.

    Keys: those of `attends` and `mamba1`; num_experts, num_experts_per_tok, expert_layer_period, expert_layer_offset.
    """
    n = layer_count(c)
    mixers = [attention(c) if on else mamba1(c, normed=True) for on in attends(c, n, "mamba")]
    return model(c, grouped(zip(mixers, mlps(usual(c), Family()), strict=True)))


@reads("plamo2", "Plamo2ForCausalLM")
def plamo2(c: Fields) -> ModelSpec:
    """Read the `config.json` of PLaMo 2 (arXiv:2509.04897): one layer of every `mamba_step` has attention, each an MLP.

    The other layers project B, C and time steps from the convolved input, as Mamba-1, with heads as Mamba-2. Attention
    has norms over the rows of queries and keys, and a window except in the layers of `full_attention_idx`.

    Keys: hidden_size_per_head, mamba_num_heads, mamba_d_state, mamba_d_conv, mamba_step, attention_window_size,
    full_attention_idx. Source: vllm-project/vllm vllm/model_executor/models/plamo2.py.
    """
    n, step = layer_count(c), c.count("mamba_step", default=2)
    plain = attention(c.stating(head_dim=c.count("hidden_size_per_head")))
    full = replace(plain, extra_parameters=(plain.heads + plain.kv_heads) * plain.head_dim)
    local = sliding(full, c.count("attention_window_size")) if c.has("attention_window_size") else full
    at = n - 1 if n <= step // 2 else step // 2
    mixers = [
        (full if i in c.items("full_attention_idx") else local) if i % step == at else _plamo_mamba(c) for i in range(n)
    ]
    return model(c, grouped(((mixer, dense_mlp(c)) for mixer in mixers), norms=4), tied=True)


def _plamo_mamba(c: Fields) -> Mixer:
    """Return a recurrent layer of PLaMo 2: decay, skip and time step per head, norms on time step, B and C."""
    heads, state = c.count("mamba_num_heads"), c.count("mamba_d_state")
    rank = max(_LEAST_RANK, c.count("hidden_size") // _DT_SHARE)
    return Mixer(
        kind="ssm",
        heads=heads,
        kv_heads=1,
        head_dim=state,
        value_dim=c.count("hidden_size_per_head"),
        conv=c.count("mamba_d_conv"),
        dt_rank=rank,
        dt_by_head=True,
        extra_parameters=2 * heads + rank + 2 * state,
    )


@reads("falcon_h1", "FalconH1ForCausalLM")
def falcon_h1(c: Fields) -> ModelSpec:
    """Read the `config.json` of Falcon-H1 (arXiv:2507.22448): attention and Mamba-2 side by side in each layer.

    Keys: those of `hybrid.mamba`; attention_bias, mlp_bias.
    """
    n, bias = layer_count(c), c.flag("attention_bias")
    full = attention(c, bias=bias, output_bias=bias)
    beside = Block(count=n, mixer=mamba(c), mlp=None, norms=0, joined=True)
    return model(c, [Block(count=n, mixer=full, mlp=dense_mlp(c, bias=c.flag("mlp_bias"))), beside])


@reads("zamba2", "Zamba2ForCausalLM")
def zamba2(c: Fields) -> ModelSpec:
    """Read the `config.json` of Zamba2 (arXiv:2411.15242): Mamba-2 layers; some also run a shared transformer block.

    The `num_mem_blocks` shared blocks lie in memory once and run in every hybrid layer; their attention reads twice the
    model's width. The blocks here carry what runs, and `extra_parameters` takes off what is not stored again.

    Keys: layers_block_type (mamba or hybrid) or hybrid_layer_ids; adapter_rank, use_shared_attention_adapter, and those
    of `hybrid.mamba`.
    """
    n, hidden = layer_count(c), c.count("hidden_size")
    kinds = c.items("layers_block_type", n)
    runs = kinds.count("hybrid") if kinds else len(c.items("hybrid_layer_ids"))
    if not runs:
        raise c.missing("layers_block_type", "hybrid_layer_ids")
    heads = c.count("num_attention_heads")
    sized = c.with_defaults(attention_head_dim=2 * hidden // heads)
    full = attention(sized.stating(head_dim=sized.count("attention_head_dim")))
    mlp = Mlp(intermediate=c.count("intermediate_size", default=4 * hidden))
    shared = Block(count=runs, mixer=full, mlp=mlp, norms=3, joined=True)
    rank, wide = c.count("adapter_rank", default=128), 2 * hidden
    own = hidden * hidden + rank * (hidden + 2 * mlp.intermediate)  # projection into the layer, adapters of the MLP
    own += 6 * rank * wide if c.flag("use_shared_attention_adapter") else 0
    wider = hidden * (full.heads * full.head_dim + full.kv_values)  # queries, keys and values read 2 x hidden
    stored = c.count("num_mem_blocks", default=1) * (shared.parameters(hidden) + wider) + runs * own
    spec = model(c, [Block(count=n, mixer=mamba(c), mlp=None, norms=1), shared], tied=True)
    return replace(spec, extra_parameters=stored - runs * shared.parameters(hidden))


@reads("lfm2", "Lfm2ForCausalLM", "lfm2_moe", "Lfm2MoeForCausalLM", "lfm2_vl", "Lfm2VlForConditionalGeneration")
def lfm2(c: Fields) -> ModelSpec:
    """Read the `config.json` of LFM2 (dense, MoE, VL): gated short convolutions, some attention with norms on heads.

    Keys: those of `attends`; conv_L_cache, conv_bias; block_auto_adjust_ff_dim, block_ffn_dim_multiplier,
    block_multiple_of (inner width of the dense MLP); num_dense_layers and the usual keys of experts.
    """
    n, hidden, bias = layer_count(c), c.count("hidden_size"), c.flag("conv_bias")
    size = gcd(hidden, _CHANNELS)
    conv = Mixer(
        kind="conv",
        heads=hidden // size,
        kv_heads=1,
        head_dim=c.count("conv_L_cache", default=3),
        value_dim=size,
        conv=c.count("conv_L_cache", default=3),
        bias=bias,
        output_bias=bias,
        extra_parameters=hidden if bias else 0,
    )
    full = attention(c, head_norm=True)
    mixers = [full if on else conv for on in attends(c, n, "conv")]
    moe = c.has("num_experts") or c.has("moe_intermediate_size")
    fed = mlps(usual(c), Family()) if moe else [Mlp(intermediate=_lfm2_width(c))] * n
    return model(c, grouped(zip(mixers, fed, strict=True)), tied=c.flag("tie_embedding", default=True))


def _lfm2_width(c: Fields) -> int:
    """Return the inner width of the dense MLP of LFM2: two thirds of the stated one, scaled and rounded up."""
    width = c.count("block_ff_dim", "intermediate_size")
    if not c.flag("block_auto_adjust_ff_dim", default=True):
        return width
    factor = c.number("block_ffn_dim_multiplier", default=1.0)
    if not 0.0 < factor < _MOST_FACTOR:
        raise c.fail("block_ffn_dim_multiplier", factor, f"a number above 0 and below {_MOST_FACTOR:g} is needed")
    scaled = int(factor * (2 * width // 3))
    multiple = c.count("block_multiple_of", default=256)
    return -(-scaled // multiple) * multiple


@reads(
    "minimax", "minimax_text_01", "MiniMaxText01ForCausalLM", "MiniMaxForCausalLM", "minimax_m1", "MiniMaxM1ForCausalLM"
)
def minimax_01(c: Fields) -> ModelSpec:
    """Read the `config.json` of MiniMax-Text-01 and M1 (arXiv:2501.08313): lightning attention, every eighth full.

    Lightning attention is linear: each head keeps a state of head size by head size, and its output is gated.

    Keys: attn_type_list (1: full) or layer_types, num_local_experts, num_experts_per_tok.
    """
    n, full = layer_count(c), attention(c)
    rows = full.heads * full.head_dim
    linear = replace(full, kind="linear", kv_heads=full.heads, extra_parameters=rows)
    mixers = [full if on else linear for on in attends(c, n, "linear_attention")]
    return model(c, grouped(zip(mixers, mlps(usual(c), Family()), strict=True)))


@reads("kimi_linear", "kimi_k3", "KimiLinearForCausalLM", "KimiK3ForConditionalGeneration")
def kimi_linear(c: Fields) -> ModelSpec:
    """Read the `config.json` of Kimi-Linear (arXiv:2510.26692) and Kimi K3.

    Structure: Kimi delta attention, every fourth layer latent attention without rotary embedding; the first layers
    dense; routed experts of K3 work in a narrower space.

    Keys: linear_attn_config (full_attn_layers and kda_layers, counted from 1; head_dim, num_heads,
    short_conv_kernel_size, use_full_rank_gate), or layer_types and the same sizes with `linear_` before them;
    mla_use_output_gate, routed_expert_hidden_size, and the usual keys of experts.
    """
    n, linear = layer_count(c), c.section("linear_attn_config")
    full = replace(latent_attention(c), gated=c.flag("mla_use_output_gate"))
    if linear is None and not c.has("linear_head_dim"):
        raise c.missing("linear_attn_config")
    if linear is None:
        on, delta = attends(c, n), delta_attention(c)
    elif not linear.items("full_attn_layers"):
        raise linear.missing("full_attn_layers")
    else:
        on, delta = [i + 1 in linear.items("full_attn_layers") for i in range(n)], delta_attention(linear)
    mixers = [full if here else delta for here in on]
    latent = c.count("routed_expert_hidden_size", default=0)
    router_bias = c.text("topk_method", "noaux_tc") == "noaux_tc"
    fed = [
        replace(mlp, latent=latent) if mlp.experts else mlp for mlp in mlps(usual(c), Family(router_bias=router_bias))
    ]
    return model(c, grouped(zip(mixers, fed, strict=True)))


@reads("bailing_hybrid", "BailingHybridForCausalLM", "BailingMoeV2_5ForCausalLM")
def bailing_hybrid(c: Fields) -> ModelSpec:
    """Read the `config.json` of Ling's hybrids.

    Ling 3: the layers of Kimi-Linear, with gates and decays of full rank; latent attention has an output gate of one
    value per head. Ling 2.5 and 2.6 (architecture BailingMoeV2_5): `lightning_hybrid`.

    Keys: those of `kimi_linear`.
    """
    if "BailingMoeV2_5ForCausalLM" in c.items("architectures"):
        return lightning_hybrid(c)
    n, plain = layer_count(c), latent_attention(c)
    full = replace(plain, extra_parameters=plain.extra_parameters + c.count("hidden_size") * plain.heads)
    delta = replace(delta_attention(c), decay_rank=0, gate_rank=0, gated=True)
    mixers = [full if on else delta for on in attends(c, n)]
    return model(c, grouped(zip(mixers, mlps(usual(c), Family(router_bias=True)), strict=True)))


@reads("rwkv7", "RWKV7ForCausalLM")
def rwkv7(c: Fields) -> ModelSpec:
    """Read the `config.json` of RWKV-7 (arXiv:2503.14456): a delta rule whose decay, rate and gate have low ranks.

    Each head keeps a state of head size by head size. The channel mix is an MLP of one up-projection with squared
    ReLU. Of what each layer adds, the mixes with the token before (6 and 1 vectors), the bases of decay, rate and
    value, the scales of keys and the bonus (6 vectors), and the norm of the output (2) are counted.

    Keys: head_dim, decay_low_rank_dim, a_low_rank_dim, v_low_rank_dim, gate_low_rank_dim, intermediate_size (four times
    the width where the file has none).
    """
    hidden, size = c.count("hidden_size"), c.count("head_dim", default=64)
    heads = c.quotient("hidden_size", "head_dim", hidden, size)
    ranks = [c.count(f"{key}_low_rank_dim") for key in ("decay", "a", "v")]
    mixer = Mixer(
        kind="linear",
        heads=heads,
        kv_heads=heads,
        head_dim=size,
        value_dim=size,
        decay_rank=sum(ranks),
        gate_rank=c.count("gate_low_rank_dim"),
        extra_parameters=(6 + 6 + 2) * hidden,
    )
    mlp = Mlp(intermediate=c.count("intermediate_size", default=4 * hidden), gated=False)
    norms = 4 if c.flag("norm_bias", default=True) else 2  # layer norms: a bias beside each weight
    return model(c, [Block(count=layer_count(c), mixer=mixer, mlp=mlp, norms=norms)])


def lightning_hybrid(c: Fields) -> ModelSpec:
    """Read Ling 2.5 and 2.6: lightning attention, and latent attention in the last layer of each group.

    Lightning attention is linear, as in MiniMax-01: each head keeps a state of head size by head size, and its output
    is normed and gated (vLLM, vllm/model_executor/models/bailing_moe_linear.py).

    Keys: layer_group_size (every so many layers one has latent attention), those of `latent_attention`, head_dim, and
    the usual keys of experts.
    """
    n, full, plain = layer_count(c), latent_attention(c), attention(c)
    rows, norms = plain.heads * plain.head_dim, 2 * plain.head_dim
    linear = replace(plain, kind="linear", kv_heads=plain.heads, extra_parameters=rows + norms)
    period = c.count("layer_group_size")
    mixers = [full if (i + 1) % period == 0 else linear for i in range(n)]
    return model(c, grouped(zip(mixers, mlps(usual(c), Family(router_bias=True)), strict=True)))


def delta_attention(c: Fields) -> Mixer:
    """Return Kimi delta attention: a gated delta net whose decay differs by channel, by a matrix of the rank of a head.

    Parameters besides the matrices: decay per head, time step per channel, the norm of the gated output. `c`: the
    section linear_attn_config, or the whole configuration.
    """
    heads, size = c.count("linear_num_heads", "num_heads"), c.count("linear_head_dim", "head_dim")
    return Mixer(
        kind="linear",
        heads=heads,
        kv_heads=heads,
        head_dim=size,
        value_dim=size,
        conv=c.count("linear_conv_kernel_dim", "short_conv_kernel_size"),
        decay_rank=size,
        gate_rank=0 if c.flag("use_full_rank_gate") else size,
        extra_parameters=heads + heads * size + size,
    )
