"""Mixtures of experts over grouped-query attention: Mixtral, Qwen MoE, gpt-oss, Llama 4, GLM-4, MiniMax, Hunyuan."""

from __future__ import annotations

from dataclasses import replace

from perfmodel.models.families.common import (
    attention,
    dense_mlp,
    every_nth,
    expert_mlp,
    first_dense,
    grouped,
    layer_count,
    layer_kinds,
    model,
    reads,
    windowed,
)
from perfmodel.models.fields import Fields
from perfmodel.models.layers import Mlp
from perfmodel.models.mixer import Mixer
from perfmodel.models.spec import ModelSpec

#: Llama 4: chunk of local attention where not given, and the period of layers that attend to all tokens (its report).
_LLAMA4_CHUNK, _LLAMA4_PERIOD = 8192, 4


@reads("mixtral", "MixtralForCausalLM")
def mixtral(c: Fields) -> ModelSpec:
    """Read the `config.json` of Mixtral 8x7B and 8x22B: routed experts in every layer.

    Keys: num_local_experts, num_experts_per_tok, sliding_window.
    """
    mlp = expert_mlp(c, c.count("intermediate_size"))
    return model(c, grouped((m, mlp) for m in windowed(c, attention(c), layer_count(c))))


def qwen_mlps(c: Fields, layers: int) -> list[Mlp]:
    """Return the MLP of each layer of a Qwen MoE: routed experts with a gated shared expert, dense layers between.

    Keys: num_experts, num_experts_per_tok, moe_intermediate_size, shared_expert_intermediate_size,
    decoder_sparse_step (n: experts in every n-th layer), mlp_only_layers (list of dense layers).
    """
    shared = c.count("shared_expert_intermediate_size", default=0, least=0)
    routed = expert_mlp(c, c.count("moe_intermediate_size"), shared=shared, shared_gate=shared > 0)
    only = c.items("mlp_only_layers")
    sparse = every_nth(layers, c.count("decoder_sparse_step", default=1))
    return [routed if on and i not in only else dense_mlp(c) for i, on in enumerate(sparse)]


@reads("qwen3_moe", "qwen3_vl_moe", "qwen3_vl_moe_text", "Qwen3MoeForCausalLM", "Qwen3VLMoeForConditionalGeneration")
def qwen3_moe(c: Fields) -> ModelSpec:
    """Read the `config.json` of Qwen3 MoE (30B-A3B, 235B-A22B, Coder) and Qwen3-VL MoE: norms on query and key heads.

    Keys: attention_bias, and those of `qwen_mlps`.
    """
    n = layer_count(c)
    bias = c.flag("attention_bias")
    mixer = attention(c, head_norm=True, bias=bias, output_bias=bias)
    return model(c, grouped((mixer, mlp) for mlp in qwen_mlps(c, n)))


@reads("qwen2_moe", "Qwen2MoeForCausalLM")
def qwen2_moe(c: Fields) -> ModelSpec:
    """Read the `config.json` of Qwen 1.5 and 2 MoE: biases on queries, keys and values, a shared expert.

    Keys: sliding_window, use_sliding_window, max_window_layers, and those of `qwen_mlps`.
    """
    n = layer_count(c)
    return model(c, grouped(zip(windowed(c, attention(c, bias=True), n), qwen_mlps(c, n), strict=True)))


@reads("gpt_oss", "GptOssForCausalLM")
def gpt_oss(c: Fields) -> ModelSpec:
    """Read the `config.json` of gpt-oss 20b and 120b.

    Structure: sliding and full layers alternate; biases everywhere; one attention sink per head.

    Keys: layer_types and sliding_window (both required), num_local_experts, num_experts_per_tok.
    """
    n = layer_count(c)
    plain = attention(c, bias=True, output_bias=True)
    full = replace(plain, extra_parameters=plain.heads)
    mlp = expert_mlp(c, c.count("intermediate_size"), bias=True, router_bias=True)
    if not layer_kinds(c, n):
        raise c.missing("layer_types")
    if not c.has("sliding_window"):
        raise c.missing("sliding_window")
    return model(c, grouped((m, mlp) for m in windowed(c, full, n)))


@reads("llama4", "llama4_text", "Llama4ForConditionalGeneration", "Llama4ForCausalLM")
def llama4(c: Fields) -> ModelSpec:
    """Read the `config.json` of Llama 4 Scout and Maverick.

    Three of four layers attend within their chunk, the fourth to all tokens.

    The layers that attend to all tokens have no rotary embedding. A shared expert of the same width stands next to the
    routed ones.

    Keys: attention_chunk_size, no_rope_layers (1: rotary, local), interleave_moe_layer_step (n: experts in every
    n-th layer), intermediate_size (of an expert), intermediate_size_mlp (of the dense layers).
    """
    n = layer_count(c)
    full = attention(c)
    chunk = c.count("attention_chunk_size", default=_LLAMA4_CHUNK)
    local = replace(full, kind="chunked", window=float(chunk))
    width = c.count("intermediate_size")
    routed = expert_mlp(c, width, shared=width)
    dense = Mlp(intermediate=c.count("intermediate_size_mlp"))
    sparse = every_nth(n, c.count("interleave_moe_layer_step", default=1))
    rotary = c.switches("no_rope_layers", n) or [not whole for whole in every_nth(n, _LLAMA4_PERIOD)]
    mixers = [local if on else full for on in rotary]
    return model(c, grouped(zip(mixers, (routed if on else dense for on in sparse), strict=True)))


@reads("glm4_moe", "Glm4MoeForCausalLM")
def glm4_moe(c: Fields) -> ModelSpec:
    """Read the `config.json` of GLM-4.5, 4.5-Air, 4.6, 4.7.

    Structure: the first layers dense, shared experts, a bias in the router.

    Keys: use_qk_norm, attention_bias, moe_intermediate_size, n_shared_experts, first_k_dense_replace.
    """
    n = layer_count(c)
    mixer = attention(c, head_norm=c.flag("use_qk_norm"), bias=c.flag("attention_bias"))
    width = c.count("moe_intermediate_size")
    shared = width * c.count("n_shared_experts", default=0, least=0)
    routed = expert_mlp(c, width, shared=shared, router_bias=True)
    return model(c, grouped((mixer, mlp) for mlp in first_dense(c, n, routed)))


@reads("minimax_m2", "MiniMaxM2ForCausalLM")
def minimax_m2(c: Fields) -> ModelSpec:
    """Read the `config.json` of MiniMax M2 and M2.5.

    Structure: one norm over all query heads together and one over all key heads; experts in every layer.

    Keys: use_qk_norm, use_routing_bias, num_local_experts, num_experts_per_tok, num_mtp_modules.
    """
    plain = attention(c)
    norms = (plain.heads + plain.kv_heads) * plain.head_dim if c.flag("use_qk_norm") else 0
    mlp = expert_mlp(c, c.count("intermediate_size"), router_bias=c.flag("use_routing_bias"))
    return model(c, grouped([(replace(plain, extra_parameters=norms), mlp)] * layer_count(c)))


@reads("minimax_m3", "minimax_m3_vl", "MiniMaxM3ForCausalLM", "MiniMaxM3SparseForConditionalGeneration")
def minimax_m3(c: Fields) -> ModelSpec:
    """Read the `config.json` of MiniMax M3.

    Structure: block-sparse attention picked by an indexer, the first layers dense, shared experts.

    Keys: use_qk_norm, sparse_attention_config, moe_intermediate_size (else intermediate_size),
    dense_intermediate_size, shared_intermediate_size, n_shared_experts, use_routing_bias, moe_layer_freq (1:
    experts) or first_k_dense_replace, num_mtp_modules.
    """
    n = layer_count(c)
    width = c.count("moe_intermediate_size", "intermediate_size")
    shared = c.count("shared_intermediate_size", default=0, least=0) * c.count("n_shared_experts", default=1)
    routed = expert_mlp(c, width, shared=shared, router_bias=c.flag("use_routing_bias"))
    first = c.count("first_k_dense_replace", default=0, least=0)
    sparse = c.switches("moe_layer_freq", n) or [i >= first for i in range(n)]
    mlps = [routed if on else Mlp(intermediate=c.count("dense_intermediate_size")) for on in sparse]
    return model(c, grouped(zip(_block_sparse(c, n), mlps, strict=True)))


def _block_sparse(c: Fields, layers: int) -> list[Mixer]:
    """Return the mixer of each layer of MiniMax M3; plain attention without the section `sparse_attention_config`.

    Keys of the section: use_sparse_attention, sparse_attention_freq (1: sparse), sparse_num_index_heads,
    sparse_index_dim, sparse_topk_blocks, sparse_block_size (a query sees topk_blocks * block_size tokens).
    """
    plain = attention(c, head_norm=c.flag("use_qk_norm"))
    sparse = c.section("sparse_attention_config")
    if not sparse or not sparse.flag("use_sparse_attention"):
        return [plain] * layers
    picked = replace(
        plain,
        index_heads=sparse.count("sparse_num_index_heads"),
        index_dim=sparse.count("sparse_index_dim"),
        index_topk=float(sparse.count("sparse_topk_blocks") * sparse.count("sparse_block_size")),
    )
    return [picked if on else plain for on in sparse.switches("sparse_attention_freq", layers)]


@reads("hy_v3", "HYV3ForCausalLM")
def hunyuan_v3(c: Fields) -> ModelSpec:
    """Read the `config.json` of Hunyuan 3 (Hy3).

    Structure: norms on query and key heads, one shared expert, a bias in the router; the first layer
    dense.

    Keys: qk_norm, moe_intermediate_size or expert_hidden_dim, num_shared_experts, first_k_dense_replace.
    """
    n = layer_count(c)
    mixer = attention(c, head_norm=c.flag("qk_norm", "use_qk_norm", default=True))
    width = c.count("moe_intermediate_size", "expert_hidden_dim")
    shared = width * c.count("num_shared_experts", "n_shared_experts", default=1, least=0)
    routed = expert_mlp(c, width, shared=shared, router_bias=True)
    return model(c, grouped((mixer, mlp) for mlp in first_dense(c, n, routed, default=1)))
