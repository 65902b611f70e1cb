"""Mixtures of experts over grouped-query attention: Mixtral, Qwen MoE, gpt-oss, Llama 4, GLM-4, MiniMax, Hunyuan."""

from __future__ import annotations

from dataclasses import replace

from perfmodel.models.families.common import (
    attention,
    dense_mlp,
    expert_mlp,
    grouped,
    layer_count,
    layer_kinds,
    model,
    reads,
)
from perfmodel.models.families.dense import windowed
from perfmodel.models.fields import Fields
from perfmodel.models.layers import Mlp
from perfmodel.models.spec import ModelSpec


@reads("mixtral", "MixtralForCausalLM")
def mixtral(c: Fields) -> ModelSpec:
    """Mixtral: every layer routes."""
    mlp = expert_mlp(c, c.count("intermediate_size"))
    return model(c, grouped((m, mlp) for m in windowed(c, attention(c), layer_count(c))))


def qwen_mlps(c: Fields, layers: int) -> list[Mlp]:
    """Qwen's layers: experts every `decoder_sparse_step`, dense where `mlp_only_layers` says; a gated shared expert."""
    shared = c.count("shared_expert_intermediate_size", default=0, least=0)
    routed = expert_mlp(c, c.count("moe_intermediate_size"), shared=shared, shared_gate=shared > 0)
    only = c.items("mlp_only_layers")
    step = c.count("decoder_sparse_step", default=1)
    return [dense_mlp(c) if i in only or (i + 1) % step else routed for i in range(layers)]


@reads("qwen3_moe", "qwen3_vl_moe", "qwen3_vl_moe_text", "Qwen3MoeForCausalLM", "Qwen3VLMoeForConditionalGeneration")
def qwen3_moe(c: Fields) -> ModelSpec:
    """Qwen3 MoE: norms on query and key heads."""
    n = layer_count(c)
    bias = c.flag("attention_bias")
    mixer = attention(c, head_norm=True, bias=bias, output_bias=bias)
    return model(c, grouped(zip([mixer] * n, qwen_mlps(c, n), strict=True)))


@reads("qwen2_moe", "Qwen2MoeForCausalLM")
def qwen2_moe(c: Fields) -> ModelSpec:
    """Qwen 1.5 and 2 MoE: biases on queries, keys and values, a shared expert."""
    n = layer_count(c)
    return model(c, grouped(zip(windowed(c, attention(c, bias=True), n), qwen_mlps(c, n), strict=True)))


@reads("gpt_oss", "GptOssForCausalLM")
def gpt_oss(c: Fields) -> ModelSpec:
    """gpt-oss: alternating windows, biases everywhere, one sink a head, experts with biases."""
    n = layer_count(c)
    full = attention(c, bias=True, output_bias=True, extra_parameters=c.count("num_attention_heads"))
    mlp = expert_mlp(c, c.count("intermediate_size"), bias=True, router_bias=True)
    if not layer_kinds(c, n):
        raise c.missing("layer_types")
    if not c.has("sliding_window"):
        raise c.missing("sliding_window")
    return model(c, grouped((m, mlp) for m in windowed(c, full, n)))


@reads("llama4", "llama4_text", "Llama4ForConditionalGeneration", "Llama4ForCausalLM")
def llama4(c: Fields) -> ModelSpec:
    """Llama 4: three of four layers see their 8192-token chunk, every `interleave_moe_layer_step`th routes.

    A shared expert of the same width stands beside the routed ones. The fourth layers (no rotary embedding) see all.
    """
    n = layer_count(c)
    full = attention(c)
    local = replace(full, kind="chunked", window=float(c.count("attention_chunk_size", default=8192)))
    width = c.count("intermediate_size")
    routed = expert_mlp(c, width, shared=width)
    dense = Mlp(c.count("intermediate_size_mlp"))
    step = c.count("interleave_moe_layer_step", default=1)
    rope = c.switches("no_rope_layers", n) or [(i + 1) % 4 != 0 for i in range(n)]
    layers = [(local if rope[i] else full, dense if (i + 1) % step else routed) for i in range(n)]
    return model(c, grouped(layers))


@reads("glm4_moe", "Glm4MoeForCausalLM")
def glm4_moe(c: Fields) -> ModelSpec:
    """GLM-4.5, 4.6, 4.7: biased queries, keys and values, first layers dense, shared experts."""
    n = layer_count(c)
    mixer = attention(c, head_norm=c.flag("use_qk_norm"), bias=c.flag("attention_bias"))
    width = c.count("moe_intermediate_size")
    shared = width * c.count("n_shared_experts", default=0, least=0)
    routed = expert_mlp(c, width, shared=shared, router_bias=True)
    first = c.count("first_k_dense_replace", default=0, least=0)
    return model(c, grouped((mixer, dense_mlp(c) if i < first else routed) for i in range(n)))


@reads("minimax_m2", "MiniMaxM2ForCausalLM")
def minimax_m2(c: Fields) -> ModelSpec:
    """MiniMax M2: norms over all query heads and all key heads together, every layer routes."""
    plain = attention(c)
    norms = (plain.heads + plain.kv_heads) * plain.head_dim if c.flag("use_qk_norm") else 0
    mlp = expert_mlp(c, c.count("intermediate_size"), router_bias=c.flag("use_routing_bias"))
    return model(
        c,
        grouped([(replace(plain, extra_parameters=norms), mlp)] * layer_count(c)),
        mtp_layers=c.count("num_mtp_modules", default=0, least=0),
    )


@reads("minimax_m3", "minimax_m3_vl", "MiniMaxM3ForCausalLM", "MiniMaxM3SparseForConditionalGeneration")
def minimax_m3(c: Fields) -> ModelSpec:
    """MiniMax M3: block-sparse attention picked by an indexer, first layers dense, shared experts."""
    n = layer_count(c)
    plain = attention(c, head_norm=c.flag("use_qk_norm"))
    mixers = [plain] * n
    sparse = c.section("sparse_attention_config")
    if sparse and sparse.flag("use_sparse_attention"):
        picked = replace(
            plain,
            index_heads=sparse.count("sparse_num_index_heads"),
            index_dim=sparse.count("sparse_index_dim"),
            index_topk=float(sparse.count("sparse_topk_blocks") * sparse.count("sparse_block_size")),
        )
        mixers = [picked if on else plain for on in sparse.switches("sparse_attention_freq", n)]
    width = c.count("moe_intermediate_size", "intermediate_size")
    shared = c.count("shared_intermediate_size", default=0, least=0) * c.count("n_shared_experts", default=1)
    routed = expert_mlp(c, width, shared=shared, router_bias=c.flag("use_routing_bias"))
    first = c.count("first_k_dense_replace", default=0, least=0)
    sparsely = c.switches("moe_layer_freq", n) or [i >= first for i in range(n)]
    mlps = [routed if on else Mlp(c.count("dense_intermediate_size")) for on in sparsely]
    return model(c, grouped(zip(mixers, mlps, strict=True)), mtp_layers=c.count("num_mtp_modules", default=0, least=0))


@reads("hy_v3", "HYV3ForCausalLM")
def hunyuan_v3(c: Fields) -> ModelSpec:
    """Hunyuan 3 (Hy3): norms on query and key heads, first layer dense, one shared expert, biased routing."""
    n = layer_count(c)
    mixer = attention(c, head_norm=c.flag("qk_norm", "use_qk_norm", default=True))
    width = c.count("moe_intermediate_size", "expert_hidden_dim")
    shared = width * c.count("num_shared_experts", "n_shared_experts", default=1, least=0)
    routed = expert_mlp(c, width, shared=shared, router_bias=True)
    first = c.count("first_k_dense_replace", default=1, least=0)
    return model(c, grouped((mixer, dense_mlp(c) if i < first else routed) for i in range(n)))
